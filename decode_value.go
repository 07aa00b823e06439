package wtcache

import (
	"bytes"
	"database/sql"
	"encoding"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// decodeFunc replaces a field, an element or what a pointer points to by a value.
type decodeFunc func(v jsonValue, into reflect.Value) error

var (
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	scannerType         = reflect.TypeFor[sql.Scanner]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
	timeType            = reflect.TypeFor[time.Time]()
	rawMessageType      = reflect.TypeFor[json.RawMessage]()
	numberType          = reflect.TypeFor[json.Number]()
	rawBytesType        = reflect.TypeFor[sql.RawBytes]()
)

// maxTypeDepth ends the look into types that hold themselves (type T []T).
const maxTypeDepth = 16

// column is a column's type as far as it matters here.
type column struct {
	typ   string // pg_type.typname, "" where it is not known
	class columnClass
}

type columnClass uint8

const (
	classUnknown columnClass = iota
	classText                // everything that a query gives as text, numeric too
	classInt
	classFloat4
	classFloat8
	classBool
	classBytes
	classTime
	classJSON
	classXML
	classArray
)

func columnOf(typ string) column {
	switch typ {
	case "":
		return column{typ, classUnknown}
	case "int2", "int4", "int8", "oid", "xid", "cid":
		return column{typ, classInt}
	case "float4":
		return column{typ, classFloat4}
	case "float8":
		return column{typ, classFloat8}
	case "bool":
		return column{typ, classBool}
	case "bytea":
		return column{typ, classBytes}
	case "date", "timestamp", "timestamptz":
		return column{typ, classTime}
	case "json", "jsonb":
		return column{typ, classJSON}
	case "xml":
		return column{typ, classXML}
	}
	if strings.HasPrefix(typ, "_") {
		return column{typ, classArray}
	}
	return column{typ, classText}
}

// elem is the type of an array's elements. The elements of an array of several dimensions
// are arrays of the same type as the whole.
func (c column) elem() column {
	return columnOf(strings.TrimPrefix(c.typ, "_"))
}

// decoderOf gives what decodes a column of type c into a field of type t.
func decoderOf(t reflect.Type, c column, depth int) decodeFunc {
	p := reflect.PointerTo(t)
	switch {
	case depth > maxTypeDepth:
		return decodeDocument
	case t == rawBytesType:
		return refuseRawBytes
	case t == rawMessageType:
		return nullIsZero(decodeRaw)
	case t == timeType:
		return nullIsZero(decodeTime)
	case t == numberType:
		return nullIsZero(decodeNumber)
	case isSQLNull(t):
		return nullIsZero(sqlNullDecoder(decoderOf(t.Field(0).Type, c, depth+1)))
	case p.Implements(unmarshalerType):
		return unmarshalerDecoder(p.Implements(scannerType), c)
	case p.Implements(scannerType):
		return scannerDecoder(c)
	case t.Kind() == reflect.Pointer:
		return nullIsZero(pointerDecoder(t.Elem(), decoderOf(t.Elem(), c, depth+1)))
	case p.Implements(textUnmarshalerType) && c.class != classJSON:
		return nullIsZero(decodeTextUnmarshaler)
	}
	return nullIsZero(kindDecoder(t, c, depth))
}

func kindDecoder(t reflect.Type, c column, depth int) decodeFunc {
	isBytes := t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 && !reflect.PointerTo(t.Elem()).Implements(unmarshalerType)
	switch {
	case t.Kind() == reflect.String:
		return func(v jsonValue, into reflect.Value) error { return decodeString(c, v, into) }
	case isBytes && c.class != classArray:
		return func(v jsonValue, into reflect.Value) error { return decodeBytes(c, v, into) }
	case c.class == classJSON:
		return decodeDocument
	}
	switch t.Kind() {
	case reflect.Bool:
		return decodeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return decodeInt
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return decodeUint
	case reflect.Float32, reflect.Float64:
		return floatDecoder(t, c)
	case reflect.Slice:
		if c.class == classUnknown && isDocument(t.Elem()) {
			return decodeDocument
		}
		return listDecoder(t, decoderOf(t.Elem(), c.elem(), depth+1))
	case reflect.Interface:
		if t.NumMethod() == 0 {
			return decodeAny
		}
	case reflect.Struct:
		if c.class != classUnknown {
			return compositeDecoder(t)
		}
	}
	return decodeDocument
}

// isDocument is a type that nothing but JSON is decoded into.
func isDocument(t reflect.Type) bool {
	return t.Kind() == reflect.Map || t.Kind() == reflect.Interface
}

// isSQLNull is one of database/sql's NullString, NullInt64, ... or Null[T]: a value and Valid.
func isSQLNull(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t.PkgPath() == "database/sql" && strings.HasPrefix(t.Name(), "Null") &&
		t.NumField() == 2 && t.Field(1).Name == "Valid"
}

func nullIsZero(decode decodeFunc) decodeFunc {
	return func(v jsonValue, into reflect.Value) error {
		if v.kind == 'n' {
			into.SetZero()
			return nil
		}
		return decode(v, into)
	}
}

func sqlNullDecoder(decode decodeFunc) decodeFunc {
	return func(v jsonValue, into reflect.Value) error {
		into.Field(1).SetBool(false)
		if err := decode(v, into.Field(0)); err != nil {
			return err
		}
		into.Field(1).SetBool(true)
		return nil
	}
}

// pointerDecoder never writes through the old pointer: an earlier row may share it.
func pointerDecoder(t reflect.Type, decode decodeFunc) decodeFunc {
	return func(v jsonValue, into reflect.Value) error {
		fresh := reflect.New(t)
		if err := decode(v, fresh.Elem()); err != nil {
			return err
		}
		into.Set(fresh.Convert(into.Type())) // a named pointer type
		return nil
	}
}

// listDecoder never writes into the old array: an earlier row may share it.
func listDecoder(t reflect.Type, decode decodeFunc) decodeFunc {
	return func(v jsonValue, into reflect.Value) error {
		s := jsonScan{b: v.raw}
		if !s.open('[') {
			return misfit("it does not hold a JSON array")
		}
		into.Set(reflect.MakeSlice(t, 0, 0))
		for n := 0; ; n++ {
			more, err := s.more(n, ']')
			if err != nil || !more {
				return err
			}
			elem, err := s.value()
			if err != nil {
				return err
			}
			into.Grow(1)
			into.SetLen(n + 1)
			if err := decode(elem, into.Index(n)); err != nil {
				return err
			}
		}
	}
}

// compositeDecoder is for a composite type. The types of its fields are not known.
func compositeDecoder(t reflect.Type) decodeFunc {
	d := newPayloadDecoder(nil)
	return func(v jsonValue, into reflect.Value) error {
		if v.kind != '{' {
			return misfit("it does not hold a JSON object, and the type has no way to read anything else")
		}
		into.SetZero()
		return d.plan(t).decode(v.raw, into)
	}
}

// decodeDocument leaves all to encoding/json.
func decodeDocument(v jsonValue, into reflect.Value) error {
	into.SetZero()
	return json.Unmarshal(v.raw, into.Addr().Interface())
}

// decodeAny gives what the same value is in a map[string]any.
func decodeAny(v jsonValue, into reflect.Value) error {
	if v.kind == '{' || v.kind == '[' {
		into.SetZero()
		return unmarshalNumbers(v.raw, into)
	}
	text, err := v.text()
	if err != nil {
		return err
	}
	var value any
	switch v.kind {
	case '"':
		value = string(text)
	case '0':
		value = json.Number(text)
	case 't', 'f':
		value = v.kind == 't'
	}
	into.Set(reflect.ValueOf(value))
	return nil
}

func decodeRaw(v jsonValue, into reflect.Value) error {
	if !v.valid() {
		return errNotJSON
	}
	into.SetBytes(bytes.Clone(v.raw))
	return nil
}

func decodeNumber(v jsonValue, into reflect.Value) error {
	text, err := v.text()
	if err != nil {
		return err
	}
	s := jsonScan{b: text}
	if n, err := s.value(); err != nil || n.kind != '0' || s.end() != nil {
		return misfit("it does not hold a JSON number")
	}
	into.SetString(string(text))
	return nil
}

func decodeBool(v jsonValue, into reflect.Value) error {
	text, err := v.text()
	if err != nil {
		return err
	}
	b, err := strconv.ParseBool(string(text))
	if err != nil {
		return misfit("it does not hold a boolean")
	}
	into.SetBool(b)
	return nil
}

func decodeInt(v jsonValue, into reflect.Value) error {
	text, err := v.text()
	if err != nil {
		return err
	}
	n, err := strconv.ParseInt(string(text), 10, into.Type().Bits())
	if err != nil {
		return numberMisfit(err, "an integer")
	}
	into.SetInt(n)
	return nil
}

func decodeUint(v jsonValue, into reflect.Value) error {
	text, err := v.text()
	if err != nil {
		return err
	}
	n, err := strconv.ParseUint(string(text), 10, into.Type().Bits())
	if err != nil {
		return numberMisfit(err, "an integer of 0 or more")
	}
	into.SetUint(n)
	return nil
}

func floatDecoder(t reflect.Type, c column) decodeFunc {
	return func(v jsonValue, into reflect.Value) error {
		text, err := v.text()
		if err != nil {
			return err
		}
		f, err := parseFloat(string(text), c, t.Bits())
		if err != nil {
			return err
		}
		into.SetFloat(f)
		return nil
	}
}

// parseFloat gives a float4 the value that it has in the database, not the one that its
// shortest digits have as a float8.
func parseFloat(text string, c column, bits int) (float64, error) {
	if c.class == classFloat4 {
		bits = 32
	}
	f, err := strconv.ParseFloat(text, bits)
	if err != nil {
		return 0, numberMisfit(err, "a number")
	}
	return f, nil
}

func numberMisfit(err error, want string) error {
	if e, ok := err.(*strconv.NumError); ok && e.Err == strconv.ErrRange {
		return misfit("the number is out of its range")
	}
	return misfit("it does not hold " + want)
}
