package wtcache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"sync"
)

// payloadDecoder decodes the payloads of one entry into what readers ask for. It is made
// once for an entry and safe for concurrent use. What it learns of a struct type it keeps,
// so that it holds at most one plan for each struct type of the program.
//
// A struct field gets what Scan would put there after a query for the column, which is
// more than encoding/json can do: database/sql's types, Scanners, times without a zone.
// Every time.Time is in UTC. A field that the payload has is replaced as a whole, NULL is
// its zero value, and a field that the payload does not have stays as it is.
type payloadDecoder struct {
	typeOf func(name string) (string, bool)
	plans  sync.Map // reflect.Type of a struct -> *structPlan
}

// newPayloadDecoder takes what gives the pg_type.typname of a payload field's column, a
// domain's being its base type's ("bytea", "timestamptz", "int8", "_text"). Where typeOf is
// nil or answers false, the Go type and the form of the value decide.
func newPayloadDecoder(typeOf func(name string) (string, bool)) *payloadDecoder {
	return &payloadDecoder{typeOf: typeOf}
}

// decode reads a payload into dest, and keeps nothing of the payload's memory: several
// readers may share it. What dest held may be partly replaced when an error is returned.
func (d *payloadDecoder) decode(payload []byte, dest any) error {
	v := reflect.ValueOf(dest)
	if v.Kind() != reflect.Pointer || v.IsNil() {
		return destError(dest)
	}
	switch dest := dest.(type) {
	case *[]byte:
		*dest = bytes.Clone(payload)
		return nil
	case *json.RawMessage:
		*dest = bytes.Clone(payload)
		return nil
	case *string:
		*dest = string(payload)
		return nil
	}
	return d.into(payload, v.Elem(), dest)
}

func (d *payloadDecoder) into(payload []byte, v reflect.Value, dest any) error {
	if v.Addr().Type().Implements(unmarshalerType) {
		if err := json.Unmarshal(payload, v.Addr().Interface()); err != nil {
			return fmt.Errorf("wtcache: decode payload into %s: %w", v.Type(), err)
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.plan(v.Type()).decode(payload, v)
	case reflect.Map:
		return decodeMap(payload, v)
	case reflect.Pointer:
		if v.Type().Elem().Kind() != reflect.Struct {
			break
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.into(payload, v.Elem(), dest)
	case reflect.Interface:
		if v.NumMethod() == 0 {
			return decodeMap(payload, v)
		}
	}
	return destError(dest)
}

// plan gives what is known of a struct type.
func (d *payloadDecoder) plan(t reflect.Type) *structPlan {
	if p, ok := d.plans.Load(t); ok {
		return p.(*structPlan)
	}
	p, _ := d.plans.LoadOrStore(t, newStructPlan(t, d.typeOf))
	return p.(*structPlan)
}

// decodeMap keeps every digit: a number becomes a json.Number where the map holds any.
func decodeMap(payload []byte, v reflect.Value) error {
	if err := unmarshalNumbers(payload, v); err != nil {
		return fmt.Errorf("wtcache: decode payload into %s: %s", v.Type(), jsonReason(err))
	}
	return nil
}

func unmarshalNumbers(data []byte, v reflect.Value) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(v.Addr().Interface()); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errNotJSON
	}
	return nil
}

// checkRowType says what can never hold a payload, whatever its columns are.
func checkRowType(t reflect.Type) error {
	bytes := t.Kind() == reflect.Slice && (t == reflect.TypeFor[[]byte]() || t == reflect.TypeFor[json.RawMessage]())
	switch {
	case bytes, t == reflect.TypeFor[string](), reflect.PointerTo(t).Implements(unmarshalerType):
		return nil
	case t.Kind() == reflect.Struct, t.Kind() == reflect.Map, t.Kind() == reflect.Interface && t.NumMethod() == 0:
		return nil
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		return nil
	}
	return fmt.Errorf("wtcache: a row cannot be read as %s; take a struct, a map, []byte, json.RawMessage or string, or a json.Unmarshaler", t)
}

func destError(dest any) error {
	const want = "pass a pointer to a struct, a map, a []byte, a json.RawMessage or a string, or a json.Unmarshaler"
	v := reflect.ValueOf(dest)
	switch {
	case !v.IsValid():
		return errors.New("wtcache: decode payload: the destination is nil; " + want)
	case v.Kind() == reflect.Pointer && v.IsNil():
		return fmt.Errorf("wtcache: decode payload: the destination is a nil %T; %s", dest, want)
	}
	return fmt.Errorf("wtcache: decode payload: a %T cannot be the destination; %s", dest, want)
}

// decodeError says where a payload and a struct do not fit. It names fields and types and
// never the value; what a type's own method said may hold the value, and is behind Unwrap.
type decodeError struct {
	name   string       // in the payload
	column string       // its column's type, "" where it is not known
	field  string       // of the struct, with the struct's name
	typ    reflect.Type // of the field
	cause  error
}

func (e *decodeError) Error() string {
	column := ""
	if e.column != "" {
		column = " (" + e.column + ")"
	}
	return fmt.Sprintf("wtcache: decode payload field %q%s into %s (%s): %s", e.name, column, e.field, e.typ, reason(e.cause))
}

func (e *decodeError) Unwrap() error { return e.cause }

// misfit is a reason in this package's own words.
type misfit string

func (m misfit) Error() string { return string(m) }

// refusal is an error of somebody's method, which may quote the value.
type refusal struct {
	method string
	err    error
}

func (r refusal) Error() string { return "its " + r.method + " refuses the value" }
func (r refusal) Unwrap() error { return r.err }

const errNotJSON = misfit("the payload is not JSON")

func reason(err error) string {
	var own misfit
	var refused refusal
	var inner *decodeError
	switch {
	case errors.As(err, &inner):
		return inner.Error()
	case errors.As(err, &refused):
		return refused.Error()
	case errors.As(err, &own):
		return own.Error()
	}
	return jsonReason(err)
}

// jsonReason leaves out what encoding/json quotes of the value.
func jsonReason(err error) string {
	var typ *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &typ):
		kind, _, _ := bytes.Cut([]byte(typ.Value), []byte(" "))
		where := ""
		if typ.Field != "" {
			where = " (at " + typ.Field + ")"
		}
		return fmt.Sprintf("a JSON %s does not go into %s%s", kind, typ.Type, where)
	case errors.As(err, &syntax), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), errors.Is(err, errNotJSON):
		return errNotJSON.Error()
	}
	return "encoding/json refuses the value"
}
