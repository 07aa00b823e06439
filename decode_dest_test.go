package wtcache_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/wtcache/wtcache"
)

type itself struct{ text string }

func (i *itself) UnmarshalJSON(b []byte) error {
	i.text = string(b)
	return nil
}

// What a reader asks for is what it gets: the bytes as they are, a map that lost no digit, its own way of decoding.
func TestDecodeDestinations(t *testing.T) {
	decode := wtcache.NewDecoder(map[string]string{"id": "int8"})
	const payload = `{"id":9223372036854775807,"doc":{"n":9007199254740993}}`
	fields := map[string]any{"id": json.Number("9223372036854775807"), "doc": map[string]any{"n": json.Number("9007199254740993")}}
	type row struct{ ID uint64 }
	for _, c := range []struct{ dest, want any }{
		{new([]byte), []byte(payload)}, {new(json.RawMessage), json.RawMessage(payload)}, {new(string), payload},
		{new(map[string]any), fields}, {new(any), any(fields)},
		{new(map[string]json.RawMessage), map[string]json.RawMessage{"id": json.RawMessage("9223372036854775807"), "doc": json.RawMessage(`{"n":9007199254740993}`)}},
		{new(row), row{1<<63 - 1}}, {new(*row), &row{1<<63 - 1}}, {pointerTo(&row{1}), &row{1<<63 - 1}}, {new(**row), nil},
		{new(itself), itself{payload}}, {new(*itself), &itself{payload}},
		{nil, nil}, {row{}, nil}, {(*row)(nil), nil}, {(*[]byte)(nil), nil}, {new(int), nil}, {new([]row), nil}, {map[string]any{}, nil}, {(*itself)(nil), nil},
	} {
		err := decode([]byte(payload), c.dest)
		if c.want == nil {
			if err == nil || !strings.Contains(err.Error(), "pass a pointer to a struct, a map") {
				t.Errorf("%T: %v", c.dest, err)
			}
			continue
		}
		if got := reflect.ValueOf(c.dest).Elem().Interface(); err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%T: %v (%v), want %v", c.dest, got, err, c.want)
		}
	}
}

// Readers share a payload. One that changes its bytes must not change another's row.
func TestDecodeKeepsNothingOfThePayload(t *testing.T) {
	decode := wtcache.NewDecoder(map[string]string{"a": "text", "b": "jsonb", "c": "bytea"})
	var row struct {
		A driverValue
		B driverValue
		C []byte
		D json.RawMessage `json:"b"`
	}
	var raw []byte
	var message json.RawMessage
	payload := []byte(`{"a":"text","b":{"x":1},"c":"aGk="}`)
	for _, dest := range []any{&row, &raw, &message} {
		if err := decode(payload, dest); err != nil {
			t.Fatal(err)
		}
	}
	before := fmt.Sprint(row, raw, message)
	for i := range payload {
		payload[i] = '!'
	}
	if after := fmt.Sprint(row, raw, message); after != before {
		t.Errorf("%s has become %s", before, after)
	}
}

// choosy is a Scanner that takes one type of value.
type choosy[T any] struct{ V T }

func (c *choosy[T]) Scan(src any) error {
	v, ok := src.(T)
	if !ok {
		return errChoosy
	}
	c.V = v
	return nil
}

var errChoosy = errors.New("the secret is not of the type")

// listed is a Scanner for Postgres' own text of an array, which a payload does not have.
type listed []string

func (*listed) Scan(any) error { return errChoosy }

// A Scanner is given what a query gives it, and where the column's type is not known, or the Scanner was made for another
// driver, the other forms of the value.
func TestDecodeOffersScannersEveryForm(t *testing.T) {
	at := time.Date(2024, 2, 29, 2, 5, 6, 0, time.UTC)
	for _, c := range []struct {
		column, value string
		want          any
	}{
		{"int8", "7", choosy[int64]{7}}, {"int8", "7", choosy[string]{"7"}}, {"", "7", choosy[string]{"7"}}, {"", "7", choosy[int64]{7}}, {"", "1.5", choosy[float64]{1.5}},
		{"numeric", "1.50", choosy[string]{"1.50"}}, {"numeric", "1.50", choosy[any]{"1.50"}}, {"float8", "1.50", choosy[any]{1.5}}, {"float4", `"NaN"`, choosy[string]{"NaN"}},
		{"bool", "true", choosy[bool]{true}}, {"bool", "false", choosy[any]{false}}, {"", "true", choosy[any]{true}}, {"text", `"x"`, choosy[string]{"x"}},
		{"timestamptz", `"2024-02-29T02:05:06Z"`, choosy[time.Time]{at}}, {"timestamptz", `"2024-02-29T02:05:06Z"`, choosy[string]{"2024-02-29T02:05:06Z"}}, {"", `"2024-02-29T02:05:06"`, choosy[time.Time]{at}},
		{"bytea", `"aGk="`, choosy[any]{[]byte("hi")}}, {"_bytea", `["\\x6869"]`, []choosy[any]{{[]byte("hi")}}},
		{"jsonb", `{"a": 1}`, choosy[any]{[]byte(`{"a": 1}`)}}, {"jsonb", `{"a": 1}`, choosy[string]{`{"a": 1}`}}, {"jsonb", `"x"`, choosy[any]{[]byte(`"x"`)}}, {"text", `"{\"A\":1}"`, document{A: 1}},
		{"", `{"V": [1]}`, choosy[[]int]{[]int{1}}}, {"address", `{"V": 5}`, choosy[int]{5}},
		{"_text", `["a","b"]`, listed{"a", "b"}}, {"_int8", "[1]", choosy[string]{"[1]"}},
		{"text", "null", pointerTo(choosy[string]{})}, {"text", "null", driverValue{}},
		{"int8", "7", pointerTo(choosy[int64]{7})}, {"_int8", "[7,null]", []*choosy[int64]{{7}, nil}},
	} {
		dest := reflect.New(fieldStruct(0, reflect.TypeOf(c.want)))
		err := wtcache.NewDecoder(map[string]string{"c0": c.column})([]byte(`{"c0":`+c.value+`}`), dest.Interface())
		got := dest.Elem().Field(0).Interface()
		if c.value == "null" && reflect.ValueOf(c.want).Kind() == reflect.Pointer {
			c.want = (*choosy[string])(nil)
		}
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q %s into %T: %+v (%v)", c.column, c.value, c.want, got, err)
		}
	}
}

type secretive struct {
	Inner struct {
		Field int8 `json:"field"`
	} `json:"inner"`
}

// An error must say which field does not fit, and must not carry the row's data into a log.
func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		column, value string
		dest          any
		want          string
	}{
		{"text", `"secret"`, new(int), "does not hold an integer"},
		{"int8", "300300300", new(int8), "out of its range"},
		{"numeric", "30030.0300", new(int), "does not hold an integer"},
		{"numeric", "-300300300", new(uint), "an integer of 0 or more"},
		{"numeric", "1e300300300", new(float64), "out of its range"},
		{"text", `"secret"`, new(float64), "does not hold a number"},
		{"text", `"secret"`, new(bool), "does not hold a boolean"},
		{"text", `"secret"`, new(time.Duration), "does not hold an integer"},
		{"text", `"secret"`, new([]int), "does not hold a JSON array"},
		{"text", `"secret"`, new(json.Number), "does not hold a JSON number"},
		{"text", `"secret"`, new(chan int), "a JSON string does not go into chan int"},
		{"text", `"secret"`, new(fmt.Stringer), "a JSON string does not go into fmt.Stringer"},
		{"text", `"secret"`, new([4]int), "a JSON string does not go into [4]int"},
		{"_text", `["secret"]`, new([]int), "does not hold an integer"},
		{"_text", `["secret"]`, new(string), "it holds a JSON array"},
		{"address", `{"a":"secret"}`, new(string), "it holds a JSON object"},
		{"address", `{"inner":{"field":300300}}`, new(secretive), `field "inner" into wtcache_test.secretive.Inner`},
		{"jsonb", `{"inner":{"field":300300}}`, new(secretive), "a JSON number does not go into int8 (at inner.field)"},
		{"bytea", `"secret!"`, new([]byte), "does not hold base64"},
		{"timestamptz", `"infinity"`, new(time.Time), "years 1 to 9999"},
		{"timestamp", `"12024-01-01T00:00:00"`, new(*time.Time), "years 1 to 9999"},
		{"date", `"0044-03-15 BC"`, new(sql.NullTime), "years 1 to 9999"},
		{"time", `"04:05:06"`, new(time.Time), "years 1 to 9999"},
		{"text", `"secret"`, new(sql.RawBytes), "sql.RawBytes is memory of the driver"},
		{"text", "null", new(sql.RawBytes), "sql.RawBytes is memory of the driver"},
		{"text", `"secret"`, new(choosy[int]), "its Scan refuses the value"},
		{"int8", "300300", new(document), "its Scan refuses the value"},
		{"text", "null", new(choosy[int]), "its Scan refuses the value"}, // as a query's Scan would
		{"text", `"secret"`, new(pgtype.UUID), "its UnmarshalJSON refuses the value"},
		{"text", `"secret"`, new(pgtype.Interval), "its Scan refuses the value"},
		{"int4range", `"[300300,300301)"`, new(pgtype.Range[pgtype.Int4]), "does not hold a JSON object"},
		{"int4multirange", `"{[300300,300301)}"`, new(pgtype.Multirange[pgtype.Range[pgtype.Int4]]), "does not hold a JSON array"},
		{"_int4", "[300300]", new(pgtype.Array[pgtype.Int4]), "does not hold a JSON object"},
	} {
		typ := reflect.TypeOf(c.dest).Elem()
		dest := reflect.New(fieldStruct(0, typ))
		err := wtcache.NewDecoder(map[string]string{"c0": c.column})([]byte(`{"c0":`+c.value+`}`), dest.Interface())
		if err == nil {
			t.Errorf("%s %s into %s: %+v", c.column, c.value, typ, dest.Elem())
			continue
		}
		text := err.Error()
		for _, want := range []string{`payload field "c0" (` + c.column + ")", ".Field (" + typ.String() + ")", c.want} {
			if !strings.Contains(text, want) {
				t.Errorf("%s into %s: %q does not say %q", c.column, typ, text, want)
			}
		}
		if strings.Contains(text, "secret ") || strings.Contains(text, `"secret`) || strings.Contains(text, "300") {
			t.Errorf("%s into %s: %q holds the value", c.column, typ, text)
		}
	}
}

// A program that knows a Scanner's errors must find them.
func TestDecodeErrorsUnwrap(t *testing.T) {
	var row struct{ A choosy[int] }
	if err := wtcache.NewDecoder(nil)([]byte(`{"a":"x"}`), &row); !errors.Is(err, errChoosy) {
		t.Errorf("%v does not unwrap to the Scanner's error", err)
	}
}

// What is not a JSON object cannot be a row, whatever stands under the key.
func TestDecodeRefusesOtherPayloads(t *testing.T) {
	for _, payload := range []string{"", "null", "[]", `"x"`, "{", `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`, `{"a":1}}`, `{"a":1} x`, "{\"a\":1}\x00", `{"a" 1}`, `{a:1}`,
		`{"a":01}`, `{"a":+1}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":-}`, `{"a":nul}`, `{"a":"x}`, `{"a":"\x"}`, "{\"a\":\"\n\"}", `{"b":[1}`, `{"b":[1,]}`, `{"b":{]}`, `{"c":{"d"}}`, `{"e":[1 2]}`, `{,}`} {
		row := struct {
			A any
			B []int
			C map[string]any
			E []any
		}{}
		if err := wtcache.NewDecoder(nil)([]byte(payload), &row); err == nil {
			t.Errorf("%q: %+v", payload, row)
		}
		if err := wtcache.NewDecoder(nil)([]byte(payload), new(map[string]any)); err == nil && payload != "null" {
			t.Errorf("%q is a map", payload)
		}
	}
}
