package wtcachetest

import (
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"sort"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// renderer makes what the spliced text would have given.
type renderer struct {
	write *write
	bound *rules.Table
	whens map[string]func(Row) bool
	// version is of the write: a place in the WAL.
	version string
	oid     string

	missing map[string]string // columns whose value is not known, with what needs them
	err     error
}

// cells gives the captured columns of one row. The expressions say which they are.
func (r *renderer) cells(captured []string, ch change) []driver.Value {
	cells := make([]driver.Value, len(captured))
	keys, payloads := r.bound.KeyColumns, writeEntries(r.bound)
	for i, expr := range captured {
		switch {
		case strings.Contains(expr, "pg_current_wal_insert_lsn"):
			cells[i] = r.version
		case strings.Contains(expr, "pg_current_xact_id"):
			cells[i] = "1000" // nobody can be asked about it: see conn.QueryContext
		case strings.HasSuffix(expr, ".tableoid::pg_catalog.text"):
			cells[i] = r.oid
		case strings.Contains(expr, "row_to_json") && len(payloads) > 0:
			cells[i] = r.payload(payloads[0], ch.row())
			payloads = payloads[1:]
		case strings.Contains(expr, "json_build_array"):
			cells[i] = r.oldKeys(ch)
		case len(keys) > 0:
			cells[i] = r.key(keys[0].Name, ch.row())
			keys = keys[1:]
		default:
			r.fail(fmt.Errorf("wtcachetest does not know what the driver captures by %s", expr))
		}
	}
	return cells
}

func writeEntries(t *rules.Table) []*rules.BoundEntry {
	var entries []*rules.BoundEntry
	for _, e := range t.Entries {
		if e.Strategy == rules.StrategyWrite {
			entries = append(entries, e)
		}
	}
	return entries
}

func (r *renderer) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *renderer) miss(column, reason string) {
	if _, known := r.missing[column]; !known {
		if r.missing == nil {
			r.missing = map[string]string{}
		}
		r.missing[column] = reason
	}
}

func (r *renderer) key(name string, row Row) driver.Value {
	v, known := row[name]
	if !known {
		r.miss(name, "is part of a key")
		return nil
	}
	text, ok, err := r.write.table.column(name).textOf(v)
	if err != nil {
		r.fail(err)
	}
	if !ok {
		return nil
	}
	return text
}

// oldKeys are those of the row before, empty for one that was inserted.
func (r *renderer) oldKeys(ch change) driver.Value {
	if ch.inserted {
		return ""
	}
	texts := make([]any, len(r.bound.KeyColumns))
	for i, k := range r.bound.KeyColumns {
		v, known := ch.old[k.Name]
		if !known {
			r.fail(r.write.errorf("it may change %s, which is part of a key, and the test does not say what the row had before; say it before the call by cache.Rows(%q, …)", k.Name, r.write.table.name.Table))
			return nil
		}
		text, ok, err := r.write.table.column(k.Name).textOf(v)
		if err != nil {
			r.fail(err)
		}
		if ok {
			texts[i] = text
		}
	}
	body, err := json.Marshal(texts)
	if err != nil {
		r.fail(err)
	}
	return string(body)
}

// payload is what an entry stores of the row, nil where its condition does not hold.
func (r *renderer) payload(e *rules.BoundEntry, row Row) driver.Value {
	holds, err := holds(r.whens, r.bound, e, row)
	if err != nil {
		r.fail(r.write.errorf("%v", err))
		return nil
	}
	if !holds {
		return nil
	}
	text, missing, err := object(r.write.table, e, row)
	for _, name := range missing {
		r.miss(name, fmt.Sprintf("is stored by entry %q", e.Key))
	}
	if err != nil {
		r.fail(r.write.errorf("%v", err))
	}
	return text
}

// object is the payload's JSON, in the order of the entry's columns.
func object(t *table, e *rules.BoundEntry, row Row) (text string, missing []string, err error) {
	var fields []string
	for _, name := range entryColumns(t, e) {
		v, known := row[name]
		if !known {
			missing = append(missing, name)
			continue
		}
		value, err := t.column(name).jsonOf(v)
		if err != nil {
			return "", nil, err
		}
		if to, renamed := e.Rename[name]; renamed {
			name = to
		}
		fields = append(fields, quoted(name)+":"+value)
	}
	return "{" + strings.Join(fields, ",") + "}", missing, nil
}

var nullTest = regexp.MustCompile(`(?i)^\s*([a-z_][a-z0-9_]*)\s+IS\s+(NOT\s+)?NULL\s*$`)

// holds says whether an entry's `when` does. SQL is not run here: but for tests for NULL
// the condition has to be given in Go.
func holds(whens map[string]func(Row) bool, t *rules.Table, e *rules.BoundEntry, row Row) (bool, error) {
	if e.When == "" {
		return true, nil
	}
	for _, name := range entryNames(t, e) {
		if test, ok := whens[name]; ok {
			return test(row), nil
		}
	}
	if m := nullTest.FindStringSubmatch(e.When); m != nil {
		if v, known := row[strings.ToLower(m[1])]; known {
			v, err := plainValue(v)
			return (v == nil) == (m[2] == ""), err
		}
		return false, fmt.Errorf("the rule's `when: %s` needs %s, which the test has not shown; say it by cache.Rows or cache.WillCapture", e.When, m[1])
	}
	return false, fmt.Errorf("the rule's `when: %s` is SQL, which no server is there to run; say it in Go: wtcachetest.When(%q, func(row wtcachetest.Row) bool { … })",
		e.When, entryNames(t, e)[0])
}

// entryNames are the names by which an entry may be called.
func entryNames(t *rules.Table, e *rules.BoundEntry) []string {
	names := []string{t.Name.Table + "." + e.Name, t.Name.String() + "." + e.Name}
	if len(t.Entries) == 1 {
		names = append(names, t.Name.Table, t.Name.String())
	}
	return names
}

// problem says what stands in the way of a right answer, and what to add to the test.
func (r *renderer) problem() error {
	if r.err != nil || len(r.missing) == 0 {
		return r.err
	}
	names := make([]string, 0, len(r.missing))
	for name := range r.missing {
		names = append(names, name)
	}
	sort.Strings(names)
	var lines []string
	for _, name := range names {
		lines = append(lines, "\t"+name+" "+r.missing[name])
	}
	table := r.write.table.name.Table
	if r.write.affected > 1 {
		names = r.needed() // several rows have to say which they are
	}
	remedy := fmt.Sprintf("say before the call what the statement leaves behind:\n\tcache.WillCapture(%q, %s)", table, literal(names))
	// The table's rows say nothing of one that a plain INSERT adds.
	if r.write.stmt.Kind != parser.KindInsert || r.write.stmt.Conflict != nil {
		remedy += fmt.Sprintf("\nor what the table holds:\n\tcache.Rows(%q, %s)", table, literal(r.needed()))
	}
	return r.write.errorf("the row that it leaves is not known:\n%s\n%s", strings.Join(lines, "\n"), remedy)
}

// needed are the columns that have to be known.
func (r *renderer) needed() []string {
	var names []string
	for _, k := range r.bound.KeyColumns {
		names = append(names, k.Name)
	}
	if r.write.stmt.Kind != parser.KindDelete {
		for _, e := range writeEntries(r.bound) {
			names = append(names, entryColumns(r.write.table, e)...)
		}
	}
	return names
}

// literal is a Row with these columns, to be filled in.
func literal(names []string) string {
	var fields []string
	for i, name := range names {
		if !slices.Contains(names[:i], name) {
			fields = append(fields, fmt.Sprintf("%q: …", name))
		}
	}
	return "wtcachetest.Row{" + strings.Join(fields, ", ") + "}"
}

func oneLine(sql string) string { return strings.Join(strings.Fields(sql), " ") }
