package rules

import (
	"fmt"
	"strings"
)

// Read gives the reader's query for an entry. Its parameters are texts, in the order of
// the key template's Columns. Its columns are texts: those key columns, then the payload
// (the bytes that Capture gives, and also there where `when` is false), then "true" where
// the payload may be stored, then "true" where the server is a standby. At most two rows
// come, so that a key that is not unique shows.
func (t *Table) Read(entry int) string {
	e := t.Entries[entry]
	p := e.projection
	var cells, tests []string
	for i, name := range e.Key.Columns() {
		k := t.keyColumn(name)
		cells = append(cells, keyText(*k, "t"))
		tests = append(tests, fmt.Sprintf("t.%s %s $%d::pg_catalog.text::%s", sqlIdent(name), k.equals, i+1, k.Type))
	}
	always := *p
	always.when, always.settings = "", 0
	cells = append(cells, always.sql("t"), "("+p.storable("t")+")::pg_catalog.text", "pg_catalog.pg_is_in_recovery()::pg_catalog.text")
	return "SELECT " + strings.Join(cells, ", ") + " FROM " + sqlName(t.Name) + " AS t WHERE " + strings.Join(tests, " AND ") + " LIMIT 2"
}

// storable is the condition under which sql gives a payload.
func (p *projection) storable(ref string) string {
	var tests []string
	if p.settings != 0 {
		tests = append(tests, p.settings.sql())
	}
	if p.when != "" {
		row := sqlIdent(p.alias)
		needed := make([]string, len(p.needed))
		for i, name := range p.needed {
			needed[i] = ref + "." + sqlIdent(name) + " AS " + sqlIdent(name)
		}
		// The line break ends a comment that the condition may end with.
		tests = append(tests, "EXISTS (SELECT FROM (SELECT "+strings.Join(needed, ", ")+") AS "+row+" WHERE ("+p.when+"\n))")
	}
	if len(tests) == 0 {
		return "true"
	}
	return strings.Join(tests, " AND ")
}
