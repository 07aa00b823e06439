package wtcache_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/wtcache/wtcache"
)

// fuzzFields are types that a payload's one column is decoded into.
var fuzzFields = []any{
	int8(0), uint16(0), 1.5, float32(0), "", true, []byte{}, json.RawMessage{}, json.Number(""), time.Time{}, &time.Time{}, []time.Time{}, []*time.Time{}, [][]int{}, []string{},
	map[string]any{}, map[string]*string{}, []any{}, pointerTo(any(nil)), [2]int{}, shapes{}, []shapes{}, sql.NullString{}, sql.NullInt16{}, sql.NullByte{}, sql.NullFloat64{},
	sql.NullTime{}, sql.Null[[]byte]{}, sql.Null[sql.Null[time.Time]]{}, sql.Null[shapes]{}, sql.RawBytes{}, decimal{}, driverValue{}, document{}, choosy[string]{}, []choosy[int64]{},
	listed{}, itself{}, big.Int{}, netip.Addr{}, pgtype.Text{}, pgtype.Int4{}, pgtype.Float8{}, pgtype.Bool{}, pgtype.Numeric{}, pgtype.UUID{}, pgtype.Date{}, pgtype.Time{},
	pgtype.Timestamp{}, pgtype.Timestamptz{}, pgtype.Interval{}, pgtype.Hstore{}, pgtype.Bits{}, pgtype.Box{}, pgtype.Circle{}, pgtype.TSVector{}, pgtype.FlatArray[pgtype.Int4]{},
	pgtype.Array[int]{}, pgtype.Range[pgtype.Int4]{}, make(chan int), address{},
}

// simple has fields that encoding/json fills as this package does.
type simple struct {
	A int64
	B string  `json:"b"`
	C float64 `json:"c,omitempty"`
	D *bool
	E *string
	F []int
	G []string
	H map[string]int
	base
}

// An entry may hold what other code stored there. When this fails, such bytes end a reader's process, or are read as a
// row that they are not.
func FuzzDecode(f *testing.F) {
	columns := map[string]bool{"": true}
	for _, c := range rowColumns {
		columns["_"+c.sqlType] = true
		columns[c.sqlType] = true
	}
	var types []string
	for c := range columns {
		types = append(types, c)
	}
	for i, p := range fieldPayloads {
		f.Add([]byte(p), uint8(i), "text")
	}
	for i := range fuzzFields {
		for _, value := range []string{"1", "null", `"x"`, "[1,null]", `{"a":1}`, `"2024-02-29"`, `"\\x00"`, "true", `"(1,2)"`} {
			f.Add([]byte(`{"c0":`+value+`,"A":1,"b":"\u00e9"}`), uint8(i), types[i%len(types)])
		}
	}
	f.Fuzz(func(t *testing.T, payload []byte, which uint8, column string) {
		decode := wtcache.NewDecoder(map[string]string{"c0": column})
		field := reflect.TypeOf(fuzzFields[int(which)%len(fuzzFields)])
		if field != reflect.TypeFor[pgtype.Point]() {
			_ = decode(payload, reflect.New(fieldStruct(0, field)).Interface()) // it must not panic
		}
		_ = decode(payload, new(map[string]any)) // nor here
		var got, want simple
		if json.Unmarshal(payload, &want) != nil || bytes.TrimSpace(payload)[0] != '{' || repeats(payload) {
			return
		}
		if err := decode(payload, &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v (%v), encoding/json gives %+v", payload, got, err, want)
		}
	})
}

// repeats says whether an object has a name twice. encoding/json then merges the values.
func repeats(payload []byte) bool {
	d := json.NewDecoder(bytes.NewReader(payload))
	_, _ = d.Token() // the bracket
	seen := map[string]bool{}
	for d.More() {
		name, err := d.Token()
		var skip json.RawMessage
		text, _ := name.(string)
		text = strings.ToLower(strings.ToUpper(text))
		if err != nil || d.Decode(&skip) != nil || seen[text] {
			return true
		}
		seen[text] = true
	}
	return false
}
