package wtcachetest

import (
	"bytes"
	"database/sql/driver"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Row is a row of a table, or as much of it as matters: values by column. A value is what
// database/sql would accept for the column (an integer, a string, a bool, a time.Time, a
// []byte, a driver.Valuer, nil for NULL), and for arrays a slice.
type Row map[string]any

func (r Row) clone() Row {
	c := make(Row, len(r))
	for name, v := range r {
		c[name] = v
	}
	return c
}

// plainValue takes pointers and Valuers off a value.
func plainValue(v any) (any, error) {
	if valuer, ok := v.(driver.Valuer); ok {
		if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer && rv.IsNil() {
			return nil, nil
		}
		return valuer.Value()
	}
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Pointer {
		if rv.IsNil() {
			return nil, nil
		}
		return plainValue(rv.Elem().Interface())
	}
	return v, nil
}

// jsonOf renders a value as row_to_json does for the column.
func (c *column) jsonOf(v any) (string, error) {
	v, err := plainValue(v)
	if err == nil && v == nil {
		return "null", nil
	}
	var text string
	if err == nil {
		text, err = c.render(v, true)
	}
	if err != nil {
		return "", fmt.Errorf("column %s: %w", c.name, err)
	}
	return text, nil
}

// textOf renders a value as it stands in a key; ok is false for NULL.
func (c *column) textOf(v any) (text string, ok bool, err error) {
	if v, err = plainValue(v); err == nil && v == nil {
		return "", false, nil
	}
	if err == nil {
		text, err = c.render(v, false)
	}
	if err != nil {
		return "", false, fmt.Errorf("column %s: %w", c.name, err)
	}
	return text, true, nil
}

func (c *column) render(v any, asJSON bool) (string, error) {
	if c.guessed {
		return renderGuessed(v, asJSON)
	}
	return render(c.typ.plain(), v, asJSON)
}

// renderGuessed goes by the Go type alone.
func renderGuessed(v any, asJSON bool) (string, error) {
	name := "text"
	switch rv := reflect.ValueOf(v); {
	case rv.CanInt() || rv.CanUint():
		name = "int8"
	case rv.CanFloat():
		name = "float8"
	case rv.Kind() == reflect.Bool:
		name = "bool"
	default:
		switch v.(type) {
		case time.Time:
			name = "timestamptz"
		case json.RawMessage:
			name = "json"
		case []byte:
			return "", fmt.Errorf("the column's type is not known, and a []byte may be several; add wtcachetest.Schema")
		}
	}
	return render(&sqlType{name: name, schema: "pg_catalog"}, v, asJSON)
}

func render(t *sqlType, v any, asJSON bool) (string, error) {
	if t.category == "A" {
		return renderArray(t, v)
	}
	name := t.name
	if t.schema != "pg_catalog" {
		name = "text" // enums, citext and the like
	}
	switch name {
	case "int2", "int4", "int8", "oid":
		return integerText(v)
	case "numeric":
		return numericText(v, asJSON)
	case "float4", "float8":
		return floatText(v, asJSON, map[string]int{"float4": 32, "float8": 64}[name])
	case "bool":
		return boolText(v)
	case "json", "jsonb":
		return jsonText(v)
	}
	var text string
	var err error
	switch name {
	case "timestamptz", "timestamp", "date":
		text, err = timeText(v, name)
	case "bytea":
		text, err = byteaText(v, asJSON)
	default:
		text, err = stringText(v)
	}
	if err != nil || !asJSON {
		return text, err
	}
	return quoted(text), nil
}

func mismatch(v any, want string) error { return fmt.Errorf("got %T %v, want %s", v, v, want) }

// wholeText is a value's text where its kind is that of strings.
func wholeText(v any) (string, bool) {
	switch rv := reflect.ValueOf(v); {
	case rv.Kind() == reflect.String:
		return rv.String(), true
	case rv.Kind() == reflect.Slice && rv.Type().Elem().Kind() == reflect.Uint8:
		return string(rv.Bytes()), true
	}
	if s, ok := v.(fmt.Stringer); ok {
		return s.String(), true
	}
	return "", false
}

func integerText(v any) (string, error) {
	switch rv := reflect.ValueOf(v); {
	case rv.CanInt():
		return strconv.FormatInt(rv.Int(), 10), nil
	case rv.CanUint():
		return strconv.FormatUint(rv.Uint(), 10), nil
	case rv.CanFloat() && rv.Float() == math.Trunc(rv.Float()):
		return strconv.FormatFloat(rv.Float(), 'f', -1, 64), nil
	}
	if text, ok := wholeText(v); ok {
		if n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64); err == nil {
			return strconv.FormatInt(n, 10), nil
		}
	}
	return "", mismatch(v, "an integer")
}

var decimal = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

func numericText(v any, asJSON bool) (string, error) {
	rv := reflect.ValueOf(v)
	if rv.CanFloat() {
		return floatDigits(rv.Float(), asJSON, func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }), nil
	}
	if text, err := integerText(v); err == nil {
		return text, nil
	}
	if text, ok := wholeText(v); ok && decimal.MatchString(text) {
		return text, nil
	}
	return "", mismatch(v, "a decimal number as Postgres prints it, such as \"12.50\"")
}

func floatText(v any, asJSON bool, bits int) (string, error) {
	rv := reflect.ValueOf(v)
	if rv.CanFloat() {
		return floatDigits(rv.Float(), asJSON, func(f float64) string { return shortest(f, bits) }), nil
	}
	text, ok := wholeText(v)
	if !ok {
		return integerText(v)
	}
	f, err := strconv.ParseFloat(text, bits)
	if err != nil {
		return "", mismatch(v, "a number")
	}
	return shortest(f, bits), nil
}

// floatDigits writes what is no number as Postgres does: in JSON it is a string.
func floatDigits(f float64, asJSON bool, digits func(float64) string) string {
	var word string
	switch {
	case math.IsNaN(f):
		word = "NaN"
	case math.IsInf(f, 1):
		word = "Infinity"
	case math.IsInf(f, -1):
		word = "-Infinity"
	default:
		return digits(f)
	}
	if asJSON {
		return quoted(word)
	}
	return word
}

// shortest is float8out and float4out: the fewest digits that read back the same, with
// an exponent below 1e-4 and from 1e15 (1e6 for float4) on.
func shortest(f float64, bits int) string {
	scientific := strconv.FormatFloat(f, 'e', -1, bits)
	exponent, err := strconv.Atoi(scientific[strings.IndexByte(scientific, 'e')+1:])
	limit := 15
	if bits == 32 {
		limit = 6
	}
	if err == nil && (exponent < -4 || exponent >= limit) {
		return scientific
	}
	return strconv.FormatFloat(f, 'f', -1, bits)
}

func boolText(v any) (string, error) {
	if rv := reflect.ValueOf(v); rv.Kind() == reflect.Bool {
		return strconv.FormatBool(rv.Bool()), nil
	}
	if text, ok := wholeText(v); ok {
		if b, err := strconv.ParseBool(text); err == nil {
			return strconv.FormatBool(b), nil
		}
	}
	return "", mismatch(v, "a bool")
}

func jsonText(v any) (string, error) {
	if text, ok := wholeText(v); ok {
		if !json.Valid([]byte(text)) {
			return "", mismatch(v, "valid JSON")
		}
		return text, nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// timeLayouts are what Postgres and JSON make of the types of time.
var timeLayouts = map[string]string{
	"timestamptz": "2006-01-02T15:04:05.999999Z", "timestamp": "2006-01-02T15:04:05.999999", "date": "2006-01-02",
}

var readable = []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999", "2006-01-02 15:04:05.999999", "2006-01-02 15:04:05.999999Z07", "2006-01-02"}

func timeText(v any, name string) (string, error) {
	at, ok := v.(time.Time)
	if !ok {
		text, isText := wholeText(v)
		for _, layout := range readable {
			if parsed, err := time.Parse(layout, text); isText && !ok && err == nil {
				at, ok = parsed, true
			}
		}
	}
	if !ok {
		return "", mismatch(v, "a time.Time")
	}
	if name == "timestamptz" {
		at = at.UTC()
	}
	return at.Round(time.Microsecond).Format(timeLayouts[name]), nil
}

func byteaText(v any, asJSON bool) (string, error) {
	text, ok := wholeText(v)
	switch {
	case !ok:
		return "", mismatch(v, "a []byte")
	case asJSON:
		return base64.StdEncoding.EncodeToString([]byte(text)), nil
	}
	return `\x` + hex.EncodeToString([]byte(text)), nil
}

func stringText(v any) (string, error) {
	if text, ok := wholeText(v); ok {
		return text, nil
	}
	if id, ok := v.([16]byte); ok {
		return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:]), nil
	}
	return "", mismatch(v, "a string")
}

func renderArray(t *sqlType, v any) (string, error) {
	rv := reflect.ValueOf(v)
	if rv.Kind() != reflect.Slice && rv.Kind() != reflect.Array {
		return "", mismatch(v, "a slice")
	}
	items := make([]string, rv.Len())
	for i := range items {
		item, err := plainValue(rv.Index(i).Interface())
		if err != nil {
			return "", err
		}
		items[i] = "null"
		if item == nil {
			continue
		}
		if items[i], err = render(t.base.plain(), item, true); err != nil {
			return "", err
		}
	}
	return "[" + strings.Join(items, ",") + "]", nil
}

// quoted is a JSON string without the escapes for HTML, which Postgres does not make.
func quoted(s string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		panic(err) // a string can be encoded
	}
	return strings.TrimSuffix(b.String(), "\n")
}
