package rules

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Walk is how the rows of an entry's table are gone through from key to key, along a unique index, so that a page costs the
// same at the end of a table as at its beginning. It is immutable and safe for concurrent use.
type Walk struct {
	// Columns are those of the index, in its order. Texts of them, in this order, are a place in the walk; a range may
	// be given by the first few of them.
	Columns []string

	table   *Table
	entry   *BoundEntry
	columns []*KeyColumn
}

// Bounds says which texts a query of a Walk has as its parameters, in this order: those of From, of After, of Before.
type Bounds struct {
	From   int // columns of the least place that is in the range; 0: from the first
	After  bool
	Before int // columns of the first place that is beyond the range; 0: to the last
}

// Walk gives the walk of an entry. ok is false where no unique index of the table has only columns of the entry's key: then
// the places would not be distinct.
func (t *Table) Walk(entry int) (w Walk, ok bool) {
	e := t.Entries[entry]
	key := e.Key.Columns()
	for _, i := range t.relation.indexes {
		covered := len(i.Cols) > 0 && !slices.ContainsFunc(i.Cols, func(c string) bool { return !slices.Contains(key, c) })
		if i.fault() != "" || !covered {
			continue
		}
		w = Walk{Columns: i.Cols, table: t, entry: e}
		for _, name := range i.Cols {
			w.columns = append(w.columns, t.keyColumn(name))
		}
		return w, true
	}
	return Walk{}, false
}

// Page gives the query for the next rows in the order of the index, at most limit of them. Its parameters are texts, see
// Bounds. Its columns are texts: those of the key template's Columns. Rows with NULL in the key are left out: they have no
// such entry.
func (w Walk) Page(b Bounds, limit int) string {
	var cells []string
	for _, name := range w.entry.Key.Columns() {
		cells = append(cells, keyText(*w.table.keyColumn(name), "t"))
	}
	var order []string
	for _, k := range w.columns {
		order = append(order, "t."+sqlIdent(k.Name))
	}
	// The limit is no parameter: a generic plan would take it for a tenth of the table.
	return "SELECT " + strings.Join(cells, ", ") + w.from(b) + " ORDER BY " + strings.Join(order, ", ") + " LIMIT " + strconv.Itoa(limit)
}

// Count gives the query that counts the rows of the bounds: one row with one text.
func (w Walk) Count(b Bounds) string {
	return "SELECT pg_catalog.count(*)::pg_catalog.text" + w.from(b)
}

// Estimate gives the query that asks the planner how many rows there are: its plan as JSON.
func (w Walk) Estimate(b Bounds) string { return "EXPLAIN (FORMAT JSON) SELECT 1" + w.from(b) }

func (w Walk) from(b Bounds) string {
	var tests []string
	for _, name := range w.entry.Key.Columns() {
		tests = append(tests, "t."+sqlIdent(name)+" IS NOT NULL")
	}
	next := 1
	bound := func(operator string, columns int) {
		if columns > 0 {
			tests = append(tests, w.compare(operator, columns, next))
			next += columns
		}
	}
	bound(">=", b.From)
	if b.After {
		bound(">", len(w.columns))
	}
	bound("<", b.Before)
	return " FROM " + sqlName(w.table.Name) + " AS t WHERE " + strings.Join(tests, " AND ")
}

// compare is a row comparison of the first columns of the index, which Postgres looks up in it.
func (w Walk) compare(operator string, columns, parameter int) string {
	var left, right, operators []string
	for i, k := range w.columns[:columns] {
		left = append(left, "t."+sqlIdent(k.Name))
		right = append(right, fmt.Sprintf("$%d::pg_catalog.text::%s", parameter+i, k.Type))
		operators = append(operators, strings.Replace(k.equalsExactly(), "=", operator, 1))
	}
	if len(slices.Compact(slices.Clone(operators))) > 1 {
		operators[0] = operator // each type's own
	}
	return "ROW(" + strings.Join(left, ", ") + ") " + operators[0] + " ROW(" + strings.Join(right, ", ") + ")"
}
