package rules

import (
	"fmt"
	"strings"
)

// AuditMany gives the query of an audit: it reads many rows of an entry as ReadMany does, by
// the same parameters. Its columns are texts: the key's place in the arrays, from 1; the
// key's columns and the payload, as those of Read, NULL where there is no row; "true" where
// the rule's `when` holds; "true" where the session spells values as payloads want it; then
// for every key "true" where row-level security may hide a row from this role, "true" where
// the server is a standby, and, with times, when the row's last change was committed, in
// seconds since 1970, or NULL where that is not known any more. times asks for a server with
// track_commit_timestamp.
func (t *Table) AuditMany(entry int, times bool) string {
	e := t.Entries[entry]
	var arrays, names, tests []string
	for i, name := range e.Key.Columns() {
		k := t.keyColumn(name)
		key := fmt.Sprintf("k%d", i+1)
		arrays = append(arrays, fmt.Sprintf("pg_catalog.unnest($%d::pg_catalog.text::pg_catalog.text[])", i+1))
		names = append(names, key)
		tests = append(tests, "t."+sqlIdent(name)+" "+k.equalsExactly()+" k."+key+"::"+k.Type)
	}
	cells := t.auditCells(e)
	if times {
		cells = append(cells, commitTime)
	}
	lines, row := []string{"k.n::pg_catalog.text"}, make([]string, len(cells))
	for i := range cells {
		row[i] = fmt.Sprintf("c%d", i+1)
		lines = append(lines, "r."+row[i])
	}
	lines = append(lines, "(SELECT "+t.secured()+")::pg_catalog.text", standbyCell)
	return "SELECT " + strings.Join(lines, ", ") +
		" FROM ROWS FROM (" + strings.Join(arrays, ", ") + ") WITH ORDINALITY AS k(" + strings.Join(names, ", ") + ", n)" +
		" LEFT JOIN LATERAL (" + t.readRow(cells, tests) + ") AS r(" + strings.Join(row, ", ") + ") ON true"
}

// commitTime is of the transaction that made this version of the row.
const commitTime = "pg_catalog.date_part('epoch', pg_catalog.pg_xact_commit_timestamp(t.xmin))::pg_catalog.numeric::pg_catalog.text"

// auditCells are those of readCells, with the two reasons not to store told apart.
func (t *Table) auditCells(e *BoundEntry) []string {
	cells := t.readCells(e)
	cells = cells[:len(cells)-1]
	fits, spelt := *e.projection, *e.projection
	fits.settings, spelt.when = 0, ""
	return append(cells, "("+fits.storable("t")+")::pg_catalog.text", "("+spelt.storable("t")+")::pg_catalog.text")
}

// SampleMany gives the query that takes rows from pages of the table at random, for an audit
// that looks which of them have an entry. Its columns are the texts of the key template's
// Columns; rows without such an entry are left out. Its parameters are the percentage of the
// pages, as a text, and the greatest number of rows.
func (t *Table) SampleMany(entry int) string {
	e := t.Entries[entry]
	var cells, tests []string
	for _, name := range e.Key.Columns() {
		cells = append(cells, keyText(*t.keyColumn(name), "t"))
		tests = append(tests, "t."+sqlIdent(name)+" IS NOT NULL")
	}
	fits := *e.projection
	fits.settings = 0
	return "SELECT " + strings.Join(cells, ", ") + " FROM " + sqlName(t.Name) +
		" AS t TABLESAMPLE SYSTEM ($1::pg_catalog.text::pg_catalog.float4) WHERE " + strings.Join(append(tests, fits.storable("t")), " AND ") +
		" LIMIT $2::pg_catalog.text::pg_catalog.int8"
}

// RowsEstimate gives the query for about how many rows the table has, and how many pages, its partitions and
// children included: two numbers, of which the first is negative where it was never analysed.
func (t *Table) RowsEstimate() string {
	return "WITH RECURSIVE parts(oid) AS (SELECT " + sqlString(sqlName(t.Name)) + "::pg_catalog.regclass::pg_catalog.oid" +
		" UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN parts p ON i.inhparent OPERATOR(pg_catalog.=) p.oid)" +
		" SELECT coalesce(sum(c.reltuples) FILTER (WHERE c.relkind IN ('r', 'm', 'f')), -1)::pg_catalog.text," +
		" coalesce(sum(c.relpages), 0)::pg_catalog.text FROM pg_catalog.pg_class c JOIN parts p ON c.oid OPERATOR(pg_catalog.=) p.oid"
}

// AuditSettings is a statement that has values spelt as payloads want it, until the
// transaction ends; "" where an entry's payload does not depend on that.
func (e *BoundEntry) AuditSettings() string {
	if e.projection.settings == 0 {
		return ""
	}
	return "SELECT pg_catalog.set_config('extra_float_digits', '1', true), pg_catalog.set_config('DateStyle', 'ISO, MDY', true)," +
		" pg_catalog.set_config('TimeZone', 'UTC', true), pg_catalog.set_config('IntervalStyle', 'postgres', true)," +
		" pg_catalog.set_config('bytea_output', 'hex', true), pg_catalog.set_config('lc_monetary', 'C', true)"
}
