package wtcache

import (
	"database/sql"
	"encoding"
	"encoding/json"
	"reflect"
	"runtime"
	"strconv"
)

// Fields whose type has a method of its own for what comes from a database or from JSON.

func refuseRawBytes(jsonValue, reflect.Value) error {
	return misfit("sql.RawBytes is memory of the driver, and a cached row has none; use a []byte or a json.RawMessage")
}

// unmarshalerDecoder gives a value to a json.Unmarshaler, NULL too, and what it refuses to
// its Scan where it has one: NaN is a string in JSON.
func unmarshalerDecoder(scans bool, c column) decodeFunc {
	return func(v jsonValue, into reflect.Value) error {
		if !v.valid() {
			return errNotJSON
		}
		into.SetZero()
		dest := into.Addr().Interface()
		err := dest.(json.Unmarshaler).UnmarshalJSON(v.raw)
		if err == nil {
			return nil
		}
		if scans {
			into.SetZero()
			if scan(dest.(sql.Scanner), c, v, into) == nil {
				return nil
			}
		}
		return refusal{"UnmarshalJSON", err}
	}
}

func decodeTextUnmarshaler(v jsonValue, into reflect.Value) error {
	text, err := v.text()
	if err != nil {
		return err
	}
	into.SetZero()
	if err := into.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(text); err != nil {
		return refusal{"UnmarshalText", err}
	}
	return nil
}

func scannerDecoder(c column) decodeFunc {
	return func(v jsonValue, into reflect.Value) error {
		into.SetZero()
		return scan(into.Addr().Interface().(sql.Scanner), c, v, into)
	}
}

// scan gives a Scanner what a query would give it, and if it refuses that, the other forms
// that the value has.
func scan(dest sql.Scanner, c column, v jsonValue, into reflect.Value) error {
	structured := v.kind == '{' || v.kind == '['
	if structured && !scansDocument(c, into.Kind()) && decodesJSON(into.Kind()) {
		// A query has it in Postgres' own form, which a payload does not have.
		if json.Unmarshal(v.raw, dest) == nil {
			return nil
		}
		into.SetZero()
	}
	values, err := scanValues(c, v)
	if err != nil {
		return err
	}
	var first error
	for _, value := range values {
		err := offer(dest, value)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		into.SetZero()
	}
	if structured && decodesJSON(into.Kind()) && json.Unmarshal(v.raw, dest) == nil {
		return nil
	}
	return refusal{"Scan", first}
}

// offer takes the panic of a Scan that asserts another type (src.([]byte)) for a refusal:
// the next form may be the one that it asserts.
func offer(dest sql.Scanner, value any) (err error) {
	defer func() {
		switch p := recover().(type) {
		case nil:
		case *runtime.TypeAssertionError:
			err = p
		default:
			panic(p)
		}
	}()
	return dest.Scan(value)
}

// scansDocument says whether a Scanner may know better than encoding/json what to do with
// an object: a struct around the value of a json column.
func scansDocument(c column, k reflect.Kind) bool {
	return c.class == classJSON || c.class == classUnknown && k == reflect.Struct
}

// decodesJSON is for kinds that can hold an object or an array.
func decodesJSON(k reflect.Kind) bool {
	return k == reflect.Map || k == reflect.Slice || k == reflect.Struct
}

// scanValues gives the forms of a value in the order in which a Scanner is offered them.
// The first is the driver's. No byte of them is the payload's own.
func scanValues(c column, v jsonValue) ([]any, error) {
	if v.kind == 'n' {
		return []any{nil}, nil
	}
	if v.kind == '{' || v.kind == '[' || c.class == classJSON {
		if !v.valid() {
			return nil, errNotJSON
		}
		return []any{[]byte(string(v.raw)), string(v.raw)}, nil
	}
	b, err := v.text()
	if err != nil {
		return nil, err
	}
	text := string(b)
	var values []any
	switch c.class {
	case classBytes:
		b, err := bytesOf(v)
		if err != nil {
			return nil, err
		}
		return []any{b}, nil
	case classTime:
		// Infinity is a text for the driver too.
		if t, err := parseTime(v); err == nil {
			values = append(values, t)
		}
	case classXML:
		values = append(values, []byte(text))
	case classInt, classFloat4, classFloat8:
		values = scanNumbers(c, text)
	}
	if v.kind == 't' || v.kind == 'f' {
		values = append(values, v.kind == 't')
	}
	values = append(values, text)
	if c.class == classUnknown {
		values = append(values, unknownValues(v, text)...)
	}
	return append(values, []byte(text)), nil
}

func scanNumbers(c column, text string) (values []any) {
	if c.class == classInt {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			values = append(values, n)
		}
	}
	if c.class == classFloat4 || c.class == classFloat8 {
		if f, err := parseFloat(text, c, 64); err == nil {
			values = append(values, f)
		}
	}
	return values
}

// unknownValues are the forms that a value may have beside its text. An integer is never
// offered as a float.
func unknownValues(v jsonValue, text string) []any {
	if v.kind == '0' {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil {
			return []any{n}
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil {
			return []any{f}
		}
	}
	if t, err := parseTime(v); err == nil {
		return []any{t}
	}
	return nil
}
