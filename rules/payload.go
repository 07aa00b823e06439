package rules

import (
	"strings"
)

// setting is a session setting that changes the text of some type. Where a session has
// another value than the one wanted, a payload that depends on it is NULL: the entry is
// absent rather than spelt in a second way.
type setting uint8

const (
	setFloats setting = 1 << iota
	setDates
	setZone
	setIntervals
	setBytes
	setMoney
)

var settingTests = []struct {
	bit  setting
	test string
}{
	{setFloats, "pg_catalog.current_setting('extra_float_digits')::pg_catalog.int4 > 0"},
	{setDates, "pg_catalog.starts_with(pg_catalog.current_setting('DateStyle'), 'ISO')"},
	{setZone, "pg_catalog.upper(pg_catalog.current_setting('TimeZone')) IN ('UTC', 'ETC/UTC', 'GMT', 'ETC/GMT')"},
	{setIntervals, "pg_catalog.current_setting('IntervalStyle') = 'postgres'"},
	{setBytes, "pg_catalog.current_setting('bytea_output') = 'hex'"},
	{setMoney, "pg_catalog.current_setting('lc_monetary') IN ('C', 'POSIX', 'en_US.UTF-8', 'en_US.utf8')"},
}

func (s setting) sql() string {
	var tests []string
	for _, t := range settingTests {
		if s&t.bit != 0 {
			tests = append(tests, t.test)
		}
	}
	return strings.Join(tests, " AND ")
}

// payloadSettings says which settings the JSON of a type depends on. ok is false for
// types whose text depends on search_path, which no cheap test can settle.
//
// At the top and inside arrays and composites dates are JSON's own ISO 8601; inside
// ranges (and all that a range holds) every value has its type's plain text.
func (c *Catalog) payloadSettings(t *sqlType, plain bool) (s setting, ok bool) {
	t = c.base(t)
	switch {
	case t.Kind == "e", t.Kind == "p":
		return 0, true
	case t.Kind == "r" || t.Kind == "m":
		return c.settingsOfAll([]uint32{t.Sub}, true)
	case t.Kind == "c":
		fields := make([]uint32, len(t.Fields))
		for i, f := range t.Fields {
			fields[i] = f.Type
		}
		return c.settingsOfAll(fields, plain)
	case t.Elem != 0:
		return c.settingsOfAll([]uint32{t.Elem}, plain)
	case t.Schema != "pg_catalog":
		return extensionSettings(t), true
	case strings.HasPrefix(t.Name, "reg"):
		return 0, false
	}
	return builtinSettings(t.Name, plain), true
}

func (c *Catalog) settingsOfAll(types []uint32, plain bool) (s setting, ok bool) {
	for _, oid := range types {
		t := c.types[oid]
		if t == nil {
			return s, false
		}
		more, ok := c.payloadSettings(t, plain)
		if !ok {
			return s, false
		}
		s |= more
	}
	return s, true
}

func builtinSettings(name string, plain bool) setting {
	switch name {
	case "float4", "float8", "point", "line", "lseg", "box", "path", "polygon", "circle":
		return setFloats
	case "interval":
		return setIntervals
	case "money":
		return setMoney
	case "bytea":
		return setBytes
	case "timestamptz":
		if plain {
			return setZone | setDates
		}
		return setZone
	case "date", "timestamp":
		if plain {
			return setDates
		}
	}
	return 0
}

// extensionSettings is for types that this package does not know: they may print
// numbers, dates or bytes as the session wants them. The settings wanted are the
// server's defaults. Strings (citext and its like) print themselves.
func extensionSettings(t *sqlType) setting {
	switch {
	case t.Category == "S", t.Name == "hstore", t.Name == "ltree":
		return 0
	}
	return setFloats | setDates | setIntervals | setBytes
}

// jsonText gives the text of a JSON string without its quotes. JSON writes dates and
// times in ISO 8601 under every DateStyle.
func jsonText(expr string) string {
	return "pg_catalog.btrim(pg_catalog.to_json(" + expr + ")::pg_catalog.text, '\"')"
}

// rfc3339 gives a timestamptz in UTC with a Z. Infinity, years before 1 and after 9999
// have no such form: they get Postgres' own, in UTC too.
//
// Where statements are not prepared every function in it costs more to plan than to call: the
// offset is an interval, which needs no look-up of a zone, and the text is made in one place.
func rfc3339(col string) string {
	return jsonText("pg_catalog.timezone('00:00'::pg_catalog.interval, "+col+")") +
		" || CASE WHEN " + col + " >= '0001-01-01 00:00:00+00'::pg_catalog.timestamptz AND " +
		col + " < '10000-01-01 00:00:00+00'::pg_catalog.timestamptz THEN 'Z' ELSE '' END"
}

// payloadColumn gives the expression whose JSON stands in a payload.
func (c *Catalog) payloadColumn(a *column, ref string) string {
	col := ref + "." + sqlIdent(a.Name)
	t := c.base(a.typ)
	if t.Schema != "pg_catalog" {
		return col
	}
	switch {
	case t.Name == "timestamptz":
		return rfc3339(col)
	case t.Name == "bytea":
		return "pg_catalog.replace(pg_catalog.encode(" + col + ", 'base64'), pg_catalog.chr(10), '')"
	case strings.HasPrefix(t.Name, "reg") && t.Elem == 0:
		return col + "::pg_catalog.oid"
	}
	return col
}

// topSettings says which settings a column of a payload depends on, given what
// payloadColumn does for it.
func (c *Catalog) topSettings(a *column) (setting, bool) {
	t := c.base(a.typ)
	if t.Schema == "pg_catalog" && t.Elem == 0 {
		if t.Name == "timestamptz" || t.Name == "bytea" || strings.HasPrefix(t.Name, "reg") {
			return 0, true
		}
	}
	return c.payloadSettings(a.typ, false)
}

// keyText gives a key column's text: the same for the same value in every session.
func keyText(k KeyColumn, ref string) string { return k.text(ref + "." + sqlIdent(k.Name)) }

// text gives the key text of an expression of the column's type.
func (k *KeyColumn) text(value string) string {
	switch k.base {
	case "date", "timestamp", "inet":
		return jsonText(value)
	case "timestamptz":
		return rfc3339(value)
	case "bytea":
		return `pg_catalog.chr(92) || 'x' || pg_catalog.encode(` + value + `, 'hex')`
	}
	return value + "::pg_catalog.text"
}

// projection is what an entry's payload is made of.
type projection struct {
	columns  []projected
	needed   []string // every column that the expression reads
	settings setting
	when     string
	alias    string // what the row is called inside `when`
}

type projected struct {
	name    string // in the payload
	typname string // pg_type.typname, of a domain that of its base
	expr    func(ref string) string
}

// sql gives the payload expression over a row called ref: one text, or NULL where the
// entry has to be absent. The text is the same bytes for the same row in every session.
//
// Names inside cannot be captured by names outside: every column is written with the
// name of the sub-select that it comes from, and "q.*" (unlike "q") is never a column.
func (p *projection) sql(ref string) string {
	var b strings.Builder
	b.WriteString("(SELECT pg_catalog.row_to_json(q.*)::pg_catalog.text FROM (SELECT ")
	row := ref
	if p.when != "" {
		row = sqlIdent(p.alias)
	}
	for i, c := range p.columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(c.expr(row) + " AS " + sqlIdent(c.name))
	}
	if p.when != "" {
		b.WriteString(" FROM (SELECT ")
		for i, name := range p.needed {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(ref + "." + sqlIdent(name) + " AS " + sqlIdent(name))
		}
		// The line break ends a comment that the condition may end with.
		b.WriteString(") AS " + row + " WHERE (" + p.when + "\n)")
	}
	b.WriteString(") AS q")
	if p.settings != 0 {
		b.WriteString(" WHERE " + p.settings.sql())
	}
	b.WriteString(")")
	return b.String()
}
