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
	tests := make([]string, len(e.Key.Columns()))
	for i, name := range e.Key.Columns() {
		k := t.keyColumn(name)
		tests[i] = fmt.Sprintf("t.%s %s $%d::pg_catalog.text::%s", sqlIdent(name), k.equalsExactly(), i+1, k.Type)
	}
	return t.readRow(append(t.readCells(e), standbyCell), tests)
}

const standbyCell = "pg_catalog.pg_is_in_recovery()::pg_catalog.text"

// readRow reads what there is for one key: at most two rows.
func (t *Table) readRow(cells, tests []string) string {
	return "SELECT " + strings.Join(cells, ", ") + " FROM " + sqlName(t.Name) + " AS t WHERE " + strings.Join(tests, " AND ") + " LIMIT 2"
}

// readCells are the columns of a read that come from the row, called t.
func (t *Table) readCells(e *BoundEntry) []string {
	var cells []string
	for _, name := range e.Key.Columns() {
		cells = append(cells, keyText(*t.keyColumn(name), "t"))
	}
	always := *e.projection
	always.when, always.settings = "", 0
	return append(cells, always.sql("t"), "("+e.projection.storable("t")+")::pg_catalog.text")
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
