package wtcachetest

import (
	"database/sql/driver"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/wtcache/wtcache/parser"
)

var canonicalUUID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// stores says whether a value that a statement gives to the column is certain to be what
// the row then has. Postgres pads, rounds or respells the rest: those a test has to show.
func (c *column) stores(v any) bool {
	if v == nil || c.guessed {
		return true
	}
	t := c.typ.plain()
	if c.modified && t.name != "varchar" || t.category == "A" {
		return false
	}
	if t.schema != "pg_catalog" {
		return t.kind == "e" || t.category == "S"
	}
	_, isTime := v.(time.Time)
	switch t.name {
	case "int2", "int4", "int8", "oid", "text", "varchar", "name", "bool", "numeric", "float4", "float8", "json", "jsonb", "bytea":
		return !isTime
	case "timestamptz", "timestamp", "date":
		return isTime
	case "uuid":
		text, err := stringText(v)
		return err == nil && canonicalUUID.MatchString(text)
	}
	return false
}

// given is the value that a statement's text and arguments show for a column; ok is false
// where the row may have another.
func (c *column) given(v parser.Value, args []driver.NamedValue) (value any, ok bool) {
	switch v.Kind {
	case parser.ValueNull:
		return nil, true
	case parser.ValueDefault:
		return c.defaultValue()
	case parser.ValueParam:
		if v.Param < 1 || v.Param > len(args) {
			return nil, false
		}
		value = args[v.Param-1].Value
	case parser.ValueDecimal:
		if !c.guessed && !slices.Contains([]string{"numeric", "float4", "float8"}, c.typ.plain().name) {
			return nil, false // .5 as a text is 0.5
		}
		value = constantOf(v)
	case parser.ValueInteger, parser.ValueString, parser.ValueBool:
		value = constantOf(v)
	default:
		return nil, false
	}
	value, err := plainValue(value)
	if err != nil || !c.castKeeps(v.Cast) || !c.stores(value) {
		return nil, false
	}
	_, err = c.jsonOf(value)
	return value, err == nil
}

// constantOf keeps the kind of a constant for columns whose type is guessed.
func constantOf(v parser.Value) any {
	switch v.Kind {
	case parser.ValueInteger:
		if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil {
			return n
		}
	case parser.ValueDecimal:
		return json.RawMessage(v.Text)
	case parser.ValueBool:
		return v.Text == "true"
	}
	return v.Text
}

// sameText are types among which a cast changes nothing that fits.
var sameText = [][]string{
	{"int2", "int4", "int8", "smallint", "integer", "int", "bigint"},
	{"text", "varchar"},
	{"bool", "boolean"},
	{"float8", "double precision"},
}

func (c *column) castKeeps(cast string) bool {
	name := c.typ.plain().name
	return cast == "" || cast == name || slices.ContainsFunc(sameText, func(group []string) bool {
		return slices.Contains(group, cast) && slices.Contains(group, name)
	})
}

func (c *column) defaultValue() (value any, ok bool) {
	switch {
	case c.generated || c.guessed:
		return nil, false
	case c.fallback == nil:
		return nil, true
	}
	return c.given(*c.fallback, nil)
}

// sameValue says whether two values are one in the column.
func (c *column) sameValue(a, b any) bool {
	left, lok, lerr := c.textOf(a)
	right, rok, rerr := c.textOf(b)
	return lerr == nil && rerr == nil && lok == rok && left == right
}
