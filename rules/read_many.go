package rules

import (
	"fmt"
	"strings"
)

// ReadMany gives the query that reads many rows of an entry at once. It has a parameter
// for each of the key template's Columns, in their order: the text of an array
// (ArrayLiteral) that holds the column's texts of all keys.
//
// Its columns are texts: the key's place in the arrays, from 1; then those of Read, which
// are NULL where there is no row, except the last one; then "true" where there is no row
// and that may be stored for BoundEntry.Negative. A key without a row has one line, another
// has one or, where it is not unique, two. The lines come in no certain order. A text that
// its column's type does not take is an error for all of them.
//
// No row may be stored under a key only if a writer's INSERT would make this very key
// absent, so the texts have to be what Postgres itself prints for the values; and only if
// there is no row for any role, so row-level security must not be active.
func (t *Table) ReadMany(entry int) string {
	e := t.Entries[entry]
	var arrays, names, tests []string
	for i, name := range e.Key.Columns() {
		k := t.keyColumn(name)
		key := fmt.Sprintf("k%d", i+1)
		arrays = append(arrays, fmt.Sprintf("pg_catalog.unnest($%d::pg_catalog.text::pg_catalog.text[])", i+1))
		names = append(names, key)
		tests = append(tests, "t."+sqlIdent(name)+" "+k.equalsExactly()+" k."+key+"::"+k.Type)
	}
	cells := t.readCells(e)
	lines, row := []string{"k.n::pg_catalog.text"}, make([]string, len(cells))
	for i := range cells {
		row[i] = fmt.Sprintf("c%d", i+1)
		lines = append(lines, "r."+row[i])
	}
	lines = append(lines, standbyCell, t.negativeCell(e))
	return "SELECT " + strings.Join(lines, ", ") +
		" FROM ROWS FROM (" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS k(" + strings.Join(names, ", ") + ", n)" +
		" LEFT JOIN LATERAL (" + t.readRow(append(cells, "true"), tests) + ") AS r(" + strings.Join(row, ", ") + ", found) ON true"
}

// negativeCell is the last column of ReadMany. The table is named, not numbered: a table
// that was made anew under the name has another number, which would count as unprotected.
func (t *Table) negativeCell(e *BoundEntry) string {
	tests := []string{"r.found IS NULL"}
	for i, name := range e.Key.Columns() {
		k := t.keyColumn(name)
		key := fmt.Sprintf("k.k%d", i+1)
		tests = append(tests, key+` OPERATOR(pg_catalog.=) (`+k.text(key+"::"+k.Type)+`) COLLATE pg_catalog."C"`)
	}
	// A sub-select without a row's columns runs once, not for each key.
	tests = append(tests, "NOT (SELECT "+t.secured()+")")
	return "CASE WHEN " + strings.Join(tests, " AND ") + " THEN 'true' ELSE 'false' END::pg_catalog.text"
}

// secured says whether row-level security applies to the session's role. The table is named, not numbered: see negativeCell.
func (t *Table) secured() string {
	return "pg_catalog.row_security_active(" + sqlString(sqlName(t.Name)) + "::pg_catalog.text)"
}

// equalsExactly is the operator that compares the column, by its schema where that is
// known, so that an operator of the same name elsewhere in search_path is not taken.
func (k *KeyColumn) equalsExactly() string {
	if k.equals == "=" && k.base != "" {
		return "OPERATOR(pg_catalog.=)"
	}
	return k.equals
}

// ArrayLiteral gives the text of a Postgres text[] with these elements, all of them
// quoted: a text "NULL" is that text. The elements need not be anything but texts that
// Postgres can hold: with a NUL byte or invalid UTF-8 inside, the server refuses the
// parameter.
func ArrayLiteral(texts []string) string {
	size := 2
	for _, text := range texts {
		size += len(text) + 3
	}
	var b strings.Builder
	b.Grow(size)
	b.WriteByte('{')
	for i, text := range texts {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('"')
		for j := range len(text) {
			if c := text[j]; c == '"' || c == '\\' {
				b.WriteByte('\\')
			}
			b.WriteByte(text[j])
		}
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}
