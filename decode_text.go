package wtcache

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"reflect"
	"time"
)

// Strings, bytes and times: what a payload spells as a JSON string.

func decodeString(c column, v jsonValue, into reflect.Value) error {
	text, err := stringOf(c, v)
	if err == nil {
		into.SetString(text)
	}
	return err
}

// stringOf gives what a query's text would hold: the document of a json column, the bytes
// of a bytea.
func stringOf(c column, v jsonValue) (string, error) {
	isDocument := c.class == classJSON || c.class == classUnknown && (v.kind == '{' || v.kind == '[')
	switch {
	case isDocument && !v.valid():
		return "", errNotJSON
	case isDocument:
		return string(v.raw), nil
	case c.class == classBytes:
		b, err := bytesOf(v)
		return string(b), err
	}
	text, err := v.text()
	return string(text), err
}

func decodeBytes(c column, v jsonValue, into reflect.Value) error {
	if c.class == classBytes || c.class == classUnknown && v.kind == '"' {
		b, err := bytesOf(v)
		if err == nil {
			into.SetBytes(b)
		}
		return err
	}
	text, err := stringOf(c, v)
	if err == nil {
		into.SetBytes([]byte(text))
	}
	return err
}

// bytesOf decodes base64, and the \x of a bytea that is in an array or a composite.
func bytesOf(v jsonValue) ([]byte, error) {
	text, err := v.text()
	if err != nil {
		return nil, err
	}
	b := []byte{}
	if digits, ok := bytes.CutPrefix(text, []byte(`\x`)); ok {
		b, err = hex.AppendDecode(b, digits)
	} else {
		b, err = base64.StdEncoding.AppendDecode(b, text)
	}
	if err != nil {
		return nil, misfit("it does not hold base64")
	}
	return b, nil
}

// timeLayout is the form of a date, a timestamptz or a timestamp.
func timeLayout(text []byte) string {
	zone := len(text) - len("+00:00")
	switch {
	case len(text) == len(time.DateOnly):
		return time.DateOnly
	case len(text) > len(time.DateOnly) && (text[len(text)-1] == 'Z' || text[zone] == '+' || text[zone] == '-'):
		return time.RFC3339Nano
	}
	return "2006-01-02T15:04:05.999999999"
}

const errTime = misfit("it does not hold a date or a timestamp of the years 1 to 9999, which a time.Time needs; " +
	"a string, or a type that knows infinity, takes all")

func decodeTime(v jsonValue, into reflect.Value) error {
	t, err := parseTime(v)
	if err == nil {
		*into.Addr().Interface().(*time.Time) = t
	}
	return err
}

func parseTime(v jsonValue) (time.Time, error) {
	if v.kind != '"' {
		return time.Time{}, errTime
	}
	text, err := v.text()
	if err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(timeLayout(text), string(text))
	if err != nil {
		return time.Time{}, errTime
	}
	return t.UTC(), nil
}
