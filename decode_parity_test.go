package wtcache_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// rowColumn is a column and the Go types that people read it into.
type rowColumn struct {
	sqlType, value string
	same           []any // pointers: Scan after a query gives the same
	arrays         []any // pointers: the same with pgtype.Map.SQLScanner around it
	own            []any // values that a payload gives and Scan does not, as README says
}

// decimal is a number of arbitrary precision in the way of such types: both a Scanner and a json.Unmarshaler.
type decimal struct{ digits string }

func (d *decimal) Scan(src any) error {
	text, ok := src.(string)
	if !ok && src != nil {
		return fmt.Errorf("a decimal is not a %T", src)
	}
	d.digits = text
	return nil
}

func (d *decimal) UnmarshalJSON(b []byte) error {
	if string(b) != "null" {
		d.digits = string(bytes.Trim(b, `"`))
	}
	return nil
}

// driverValue is a Scanner that keeps what it was given.
type driverValue struct{ Src any }

func (d *driverValue) Scan(src any) error {
	if b, ok := src.([]byte); ok {
		src = bytes.Clone(b)
	}
	d.Src = src
	return nil
}

// document is a Scanner for a json column as people write it.
type document struct {
	A int
	B []string
}

func (d *document) Scan(src any) error {
	if src == nil {
		return nil
	}
	return json.Unmarshal(src.([]byte), d)
}

type address struct {
	City  string
	Moved time.Time
	Lots  decimal
}

var (
	leap   = time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)
	leapAt = time.Date(2024, 2, 29, 4, 5, 6, 700_000_000, time.UTC)
	text   = "text"
)

const digits40 = "1234567890123456789012345678901234567890"

var rowColumns = []rowColumn{
	{sqlType: "int2", value: "-32768", same: []any{new(int16), new(int), new(int64), new(*int16), new(string), new(sql.NullInt16), new(sql.Null[int16]), new(pgtype.Int2), new(driverValue)}},
	{sqlType: "int4", value: "7", same: []any{new(int32), new(uint8), new(float64), new(sql.NullInt32), new(sql.NullByte), new(sql.NullString), new(pgtype.Int4), new(driverValue), new(*driverValue)}},
	{sqlType: "int8", value: "9223372036854775807", same: []any{new(int64), new(uint64), new(*int64), new(**int64), new(string), new(sql.NullInt64), new(sql.Null[uint64]), new(pgtype.Int8), new(driverValue), new([]byte)},
		own: []any{json.Number("9223372036854775807")}},
	{sqlType: "positive", value: "7", same: []any{new(int), new(driverValue)}},
	{sqlType: "oid", value: "4294967295", same: []any{new(uint32), new(driverValue), new(pgtype.Uint32)}},
	{sqlType: "bool", value: "true", same: []any{new(bool), new(*bool), new(string), new(sql.NullBool), new(pgtype.Bool), new(driverValue)}},
	{sqlType: "numeric", value: digits40 + ".0500", same: []any{new(string), new(*string), new(sql.NullString), new(sql.Null[string]), new(decimal), new(pgtype.Numeric), new(driverValue), new(float64), new([]byte)}},
	{sqlType: "numeric", value: "'NaN'", same: []any{new(string), new(decimal), new(pgtype.Numeric), new(driverValue), new(sql.NullString)}},
	{sqlType: "numeric(10,2)", value: "42", same: []any{new(string), new(float32)}},
	{sqlType: "float4", value: "0.1", same: []any{new(float32), new(float64), new(sql.NullFloat64), new(driverValue)}, own: []any{pgtype.Float4{Float32: 0.1, Valid: true}, "0.1"}},
	{sqlType: "float8", value: "0.1::float8 + 0.2::float8", same: []any{new(float64), new(*float64), new(sql.NullFloat64), new(sql.Null[float64]), new(pgtype.Float8), new(driverValue), new(string)}},
	{sqlType: "float8", value: "'-Infinity'", same: []any{new(float64), new(float32), new(sql.NullFloat64), new(pgtype.Float8), new(driverValue)}, own: []any{"-Infinity"}},
	{sqlType: "float8", value: "1e6", own: []any{"1000000"}}, // Scan says 1e+06
	{sqlType: "text", value: `E'a"b\\c\n\u00e9\u2028\U0001f600 ''x'''`, same: []any{new(string), new(*string), new([]byte), new(sql.NullString), new(sql.Null[string]), new(sql.Null[[]byte]), new(pgtype.Text), new(driverValue)}},
	{sqlType: "text", value: "'aGk='", same: []any{new([]byte), new(string), new(sql.Null[[]byte])}},
	{sqlType: "text", value: "'42'", same: []any{new(int), new(sql.NullInt64), new(float64), new(string)}},
	{sqlType: "varchar(20)", value: "''", same: []any{new(string), new(sql.NullString), new([]byte), new(driverValue)}},
	{sqlType: "char(4)", value: "'ab'", same: []any{new(string)}},
	{sqlType: "uuid", value: "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", same: []any{new(string), new(*string), new(sql.NullString), new(pgtype.UUID), new(driverValue)}},
	{sqlType: "bytea", value: `decode(repeat('00ff', 60), 'hex')`, same: []any{new([]byte), new(*[]byte), new(string), new(sql.Null[[]byte]), new(driverValue)}},
	{sqlType: "bytea", value: "''", same: []any{new([]byte), new(driverValue)}},
	{sqlType: "date", value: "'2024-02-29'", same: []any{new(time.Time), new(*time.Time), new(sql.NullTime), new(sql.Null[time.Time]), new(pgtype.Date), new(driverValue)}, own: []any{"2024-02-29"}},
	{sqlType: "date", value: "'infinity'", same: []any{new(pgtype.Date), new(string), new(driverValue), new(sql.NullString)}},
	{sqlType: "timestamp", value: "'2024-02-29 04:05:06.7'", same: []any{new(time.Time), new(*time.Time), new(sql.NullTime), new(sql.Null[time.Time]), new(pgtype.Timestamp), new(driverValue)}, own: []any{"2024-02-29T04:05:06.7"}},
	{sqlType: "timestamp", value: "'-infinity'", same: []any{new(pgtype.Timestamp), new(string), new(driverValue)}},
	{sqlType: "timestamptz", value: "'2024-02-29 04:05:06.789012+02'", same: []any{new(time.Time), new(*time.Time), new(sql.NullTime), new(sql.Null[time.Time]), new(pgtype.Timestamptz), new(driverValue)}, own: []any{"2024-02-29T02:05:06.789012Z"}},
	{sqlType: "timestamptz", value: "'infinity'", same: []any{new(pgtype.Timestamptz), new(string), new(driverValue)}},
	{sqlType: "time", value: "'04:05:06.789'", same: []any{new(pgtype.Time)}, own: []any{"04:05:06.789"}},
	{sqlType: "timetz", value: "'04:05:06+05:45'", same: []any{new(string)}},
	{sqlType: "interval", value: "'1 year 2 days 03:04:05'", same: []any{new(pgtype.Interval)}, own: []any{"1 year 2 days 03:04:05"}},
	{sqlType: "json", value: `'{"a": 1,  "b": ["x", "y"]}'`, same: []any{new([]byte), new(string), new(json.RawMessage), new(document), new(sql.NullString), new(driverValue)},
		own: []any{map[string]any{"a": 1.0, "b": []any{"x", "y"}}, sql.Null[address]{V: address{}, Valid: true}}},
	{sqlType: "jsonb", value: `'{"a": 1, "b": ["x", "y"]}'`, same: []any{new([]byte), new(string), new(json.RawMessage), new(document), new(*document), new(driverValue)},
		own: []any{map[string]json.RawMessage{"a": json.RawMessage("1"), "b": json.RawMessage(`["x", "y"]`)}}},
	{sqlType: "jsonb", value: `'"a string"'`, same: []any{new([]byte), new(string), new(json.RawMessage)}, own: []any{pointerTo(any("a string"))}},
	{sqlType: "jsonb", value: `'[1, 2]'`, same: []any{new(string)}, own: []any{[]int{1, 2}, []any{1.0, 2.0}}},
	{sqlType: "int4[]", value: "'{1,NULL,3}'", arrays: []any{new([]*int), new(pgtype.FlatArray[pgtype.Int4])}, own: []any{[]sql.NullInt32{{Int32: 1, Valid: true}, {}, {Int32: 3, Valid: true}}, []int{1, 0, 3}}},
	{sqlType: "int8[]", value: "'{{1,2},{3,4}}'", own: []any{[][]int64{{1, 2}, {3, 4}}}},
	{sqlType: "text[]", value: `ARRAY['a,b', 'c"d', NULL]`, arrays: []any{new([]*string), new([]pgtype.Text)}, own: []any{[]string{"a,b", `c"d`, ""}, json.RawMessage(`["a,b","c\"d",null]`)}},
	{sqlType: "text[]", value: "'{}'", arrays: []any{new([]string)}},
	{sqlType: "timestamp[]", value: "'{2024-02-29 04:05:06.7,NULL}'", arrays: []any{new([]pgtype.Timestamp)}, own: []any{[]*time.Time{&leapAt, nil}, []time.Time{leapAt, {}}, []sql.NullTime{{Time: leapAt, Valid: true}, {}}}},
	{sqlType: "date[]", value: "'{2024-02-29}'", arrays: []any{new([]pgtype.Date)}, own: []any{[]time.Time{leap}}},
	{sqlType: "timestamptz[]", value: "'{2024-02-29 04:05:06+02}'", arrays: []any{new([]time.Time), new([]*time.Time), new([]pgtype.Timestamptz)}},
	{sqlType: "numeric[]", value: "'{" + digits40 + ",NaN}'", arrays: []any{new([]pgtype.Numeric), new([]string)}, own: []any{[]decimal{{digits40}, {"NaN"}}}},
	{sqlType: "float8[]", value: "'{0.5,NaN,-Infinity}'", arrays: []any{new([]pgtype.Float8)}, own: []any{[]float64{0.5, math.NaN(), math.Inf(-1)}}},
	{sqlType: "bytea[]", value: `ARRAY['\xff00'::bytea]`, arrays: []any{new([][]byte)}},
	{sqlType: "uuid[]", value: "'{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}'", arrays: []any{new([]pgtype.UUID)}},
	{sqlType: "inet", value: "'10.0.0.1'", same: []any{new(driverValue)}, own: []any{netip.MustParseAddr("10.0.0.1"), "10.0.0.1"}},
	{sqlType: "cidr", value: "'10.0.0.0/8'", same: []any{new(string)}, own: []any{netip.MustParsePrefix("10.0.0.0/8")}},
	{sqlType: "mood", value: "'happy'", same: []any{new(string), new(sql.NullString), new(pgtype.Text), new(driverValue)}},
	{sqlType: "address", value: "ROW('Rome', '2024-02-29 04:05:06.7', 1.50)", own: []any{address{"Rome", leapAt, decimal{"1.50"}}, &address{"Rome", leapAt, decimal{"1.50"}}}},
	{sqlType: "public.hstore", value: `'a=>1, b=>NULL'`, same: []any{new(pgtype.Hstore)}, own: []any{map[string]*string{"a": pointerTo("1"), "b": nil}}},
	{sqlType: "bit(3)", value: "B'101'", same: []any{new(string)}, own: []any{pgtype.Bits{Bytes: []byte{0xa0}, Len: 3, Valid: true}}},
	{sqlType: "varbit", value: "B'1011'", same: []any{new(string), new(driverValue), new(pgtype.Bits)}},
	{sqlType: "point", value: "'(1.5,2)'", same: []any{new(pgtype.Point), new(string)}},
	{sqlType: "box", value: "'((3,4),(1,2))'", same: []any{new(pgtype.Box)}},
	{sqlType: "circle", value: "'<(1,2),3>'", same: []any{new(pgtype.Circle)}},
	{sqlType: "path", value: "'((1,2),(3,4))'", same: []any{new(pgtype.Path)}},
	{sqlType: "int4range", value: "'[1,5)'", same: []any{new(string), new(driverValue)}},
	{sqlType: "tsvector", value: "'a:1 b:2'", same: []any{new(string), new(pgtype.TSVector)}},
	{sqlType: "xml", value: `'<a b="1"/>'`, same: []any{new(string), new([]byte), new(driverValue)}},
	{sqlType: "numeric", value: digits40, own: []any{*bigInt(digits40), json.Number(digits40), pointerTo(any(json.Number(digits40)))}},
	{sqlType: "date", value: "'2024-02-29'", own: []any{&leap, sql.Null[*time.Time]{V: &leap, Valid: true}}},
	{sqlType: "text", value: "'text'", own: []any{&text, pointerTo(any("text")), sql.Null[sql.NullString]{V: sql.NullString{String: "text", Valid: true}, Valid: true}}},
}

func pointerTo[T any](v T) *T { return &v }

func bigInt(digits string) *big.Int {
	n, _ := new(big.Int).SetString(digits, 10)
	return n
}

// A row struct that a query fills must be filled by a cached row too, with the same values: a user who changes a query
// into a cached read changes nothing else. Sessions with unusual settings read rows that they do not store.
func TestDecodeGivesWhatScanGives(t *testing.T) {
	for name, settings := range map[string]string{
		"defaults": "SET TimeZone = 'UTC'", "unusual": "SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'German, DMY'; SET extra_float_digits = 2",
	} {
		t.Run(name, func(t *testing.T) {
			r := newRowTable(t, settings, rowColumns)
			payload, null := r.payload("1"), r.payload("2")
			t.Logf("%s", payload)
			for i, c := range rowColumns {
				for _, dest := range c.same {
					r.wantSame(i, c, payload, null, dest, dest)
				}
				for _, dest := range c.arrays {
					r.wantSame(i, c, payload, null, dest, pgtype.NewMap().SQLScanner(dest))
				}
				for _, want := range c.own {
					r.wantOwn(i, c, payload, want)
				}
			}
		})
	}
}

// wantSame scans the column into dest by way of scanner, and decodes it.
func (r *rowTable) wantSame(i int, c rowColumn, payload, null []byte, dest, scanner any) {
	r.t.Helper()
	field := reflect.ValueOf(dest).Elem()
	query := fmt.Sprintf("SELECT c%d FROM samples WHERE id = ", i)
	if err := r.db.QueryRow(query + "1").Scan(scanner); err != nil {
		r.t.Errorf("%s %s: Scan into %T: %v", c.sqlType, c.value, dest, err)
		return
	}
	want := inUTC(field.Interface())
	got, err := r.decoded(payload, i, field.Type())
	if strings.Contains(field.Type().String(), "pgtype") {
		got = inUTC(got) // what decodes itself chooses its zone
	}
	if err != nil || !equal(got, want) {
		r.t.Errorf("%s %s into %s: %+v (%v), Scan gives %+v", c.sqlType, c.value, field.Type(), got, err, want)
	}
	field.SetZero()
	if err := r.db.QueryRow(query + "2").Scan(scanner); err != nil {
		field.SetZero() // database/sql refuses NULL there
	}
	want = field.Interface()
	if got, err = r.decoded(null, i, field.Type()); err != nil || !reflect.DeepEqual(got, want) {
		r.t.Errorf("%s NULL into %s: %+v (%v), Scan gives %+v", c.sqlType, field.Type(), got, err, want)
	}
}

func (r *rowTable) wantOwn(i int, c rowColumn, payload []byte, want any) {
	r.t.Helper()
	got, err := r.decoded(payload, i, reflect.TypeOf(want))
	if err != nil || !equal(got, want) {
		r.t.Errorf("%s %s into %T: %+v (%v), want %+v", c.sqlType, c.value, want, got, err, want)
	}
}

// equal is reflect.DeepEqual, for which NaN is not NaN.
func equal(a, b any) bool {
	if reflect.DeepEqual(a, b) {
		return true
	}
	text := fmt.Sprintf("%#v", a)
	return strings.Contains(text, "NaN") && text == fmt.Sprintf("%#v", b)
}
