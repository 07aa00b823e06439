package wtcachetest

import (
	"database/sql/driver"
	"fmt"
	"slices"

	"github.com/wtcache/wtcache/parser"
)

// change is what a write does to one row. A column that is not in a Row is not known.
type change struct {
	old      Row // before: nil for a row that was inserted, or where nothing is known
	new      Row // afterwards: nil for a row that was deleted
	inserted bool
}

// row is what RETURNING shows of the row.
func (ch change) row() Row {
	if ch.new == nil {
		return ch.old
	}
	return ch.new
}

// write is a captured write, with all that the test shows of it.
type write struct {
	table    *table
	stmt     *parser.Statement
	text     string
	args     []driver.NamedValue
	affected int
	known    bool  // whether the test said what the table holds
	content  []Row // what it holds
	returned []Row // what the user's own RETURNING gave
	declared []Row // by WillCapture; nil for nothing
}

// changes works out what the write does to each row. What it cannot know is missing in
// the rows; it guesses nothing.
func (w *write) changes() ([]change, error) {
	if w.declared != nil && len(w.declared) != w.affected {
		return nil, w.errorf("by the expectation it affects %d rows, but WillCapture declared %d", w.affected, len(w.declared))
	}
	if w.affected == 0 {
		return nil, nil
	}
	var changes []change
	var err error
	if w.stmt.Kind == parser.KindInsert {
		changes, err = w.insertions()
	} else {
		changes, err = w.modifications()
	}
	if err != nil {
		return nil, err
	}
	w.overlay(changes, w.returned)
	w.overlay(changes, w.declared)
	return changes, nil
}

func (w *write) errorf(format string, args ...any) error {
	return fmt.Errorf("wtcachetest: %s\n%s", oneLine(w.text), fmt.Sprintf(format, args...))
}

// modifications are those of an UPDATE or a DELETE.
func (w *write) modifications() ([]change, error) {
	before, err := w.touched()
	if err != nil {
		return nil, err
	}
	changes := make([]change, len(before))
	for i, old := range before {
		changes[i].old = old
		if w.stmt.Kind == parser.KindUpdate {
			changes[i].new = w.assign(old, nil)
		}
	}
	return changes, nil
}

// touched are the rows that the WHERE finds. A condition can only narrow what its pins
// allow, so where as many rows as the write affects have the pinned values, those are they.
func (w *write) touched() ([]Row, error) {
	if !w.known {
		rows := make([]Row, w.affected)
		for i := range rows {
			rows[i] = w.pinned()
		}
		return rows, nil
	}
	var found []Row
	for _, row := range w.content {
		if w.matches(row) {
			found = append(found, row)
		}
	}
	switch {
	case len(found) == w.affected:
		return found, nil
	case w.declared != nil:
		return make([]Row, w.affected), nil
	}
	return nil, w.errorf("by the expectation it affects %d rows, but of the rows that the test gave %s by Rows its WHERE finds %d; correct one of the two, or say by WillCapture which rows it writes", w.affected, w.table.name, len(found))
}

// pinned is what the WHERE says of every row that it finds.
func (w *write) pinned() Row {
	row := Row{}
	for _, pin := range w.stmt.Pins {
		if c := w.table.column(pin.Column); c != nil {
			if v, ok := c.given(pin.Value, w.args); ok {
				row[pin.Column] = v
			}
		}
	}
	return row
}

func (w *write) matches(row Row) bool {
	for name, v := range w.pinned() {
		has, known := row[name]
		if !known || !w.table.column(name).sameValue(has, v) {
			return false
		}
	}
	return true
}

// assign gives the row after SET. excluded is the row that was to be inserted.
func (w *write) assign(old, excluded Row) Row {
	row := old.clone()
	for _, name := range w.stmt.Assigned {
		delete(row, name)
	}
	for _, set := range w.stmt.Sets {
		c := w.table.column(set.Column)
		if c == nil {
			continue
		}
		v, ok := c.given(set.Value, w.args)
		if set.Value.Kind == parser.ValueExcluded {
			v, ok = excluded[set.Value.Text]
		}
		if ok {
			row[set.Column] = v
		}
	}
	w.forgetComputed(row)
	return row
}

// forgetComputed drops what Postgres may compute: generated columns, and with a BEFORE
// trigger anything.
func (w *write) forgetComputed(row Row) {
	const before = 2
	if slices.ContainsFunc(w.table.def.Triggers, func(g parser.TriggerDef) bool { return g.Type&before != 0 }) {
		clear(row)
	}
	for _, c := range w.table.columns {
		if c.generated {
			delete(row, c.name)
		}
	}
}

// insertions are those of an INSERT.
func (w *write) insertions() ([]change, error) {
	rows := w.values()
	if w.stmt.Conflict != nil {
		return w.upserts(rows)
	}
	if rows != nil && len(rows) != w.affected {
		return nil, w.errorf("it inserts %d rows, but by the expectation it affects %d", len(rows), w.affected)
	}
	changes := make([]change, w.affected)
	for i := range changes {
		changes[i] = change{new: Row{}, inserted: true}
		if rows != nil {
			changes[i].new = rows[i]
		}
	}
	return changes, nil
}

// values are the rows of VALUES; nil where the text does not show them.
func (w *write) values() []Row {
	columns := w.stmt.Columns
	if columns == nil && !w.table.sketch {
		columns = w.table.columnNames()
	}
	if len(w.stmt.Rows) == 0 || columns == nil {
		return nil
	}
	rows := make([]Row, len(w.stmt.Rows))
	for i, values := range w.stmt.Rows {
		row := Row{}
		for _, c := range w.table.columns {
			v, ok := c.defaultValue()
			if at := slices.Index(columns, c.name); at >= 0 && at < len(values) {
				v, ok = c.given(values[at], w.args)
			}
			if ok {
				row[c.name] = v
			}
		}
		w.forgetComputed(row)
		rows[i] = row
	}
	return rows
}

// upserts are those of ON CONFLICT.
func (w *write) upserts(rows []Row) ([]change, error) {
	changes := make([]change, 0, w.affected)
	for _, row := range rows {
		ch, written := w.upsert(row)
		if written {
			changes = append(changes, ch)
		}
	}
	switch {
	case len(changes) == w.affected:
		return changes, nil
	case w.declared != nil, rows == nil:
		changes = make([]change, w.affected)
		for i := range changes {
			changes[i] = change{new: Row{}}
		}
		return changes, nil
	}
	return nil, w.errorf("by the expectation it affects %d rows, but by what the test shows ON CONFLICT leaves %d to be written; correct one of the two, or say by Rows or WillCapture which they are", w.affected, len(changes))
}

// upsert is what becomes of one row. Where the table's rows are not known, what is known
// afterwards is what an insertion and an update have in common.
func (w *write) upsert(row Row) (ch change, written bool) {
	conflict := w.stmt.Conflict
	old, found := w.conflicting(row)
	switch {
	case found && !conflict.Update:
		return change{}, false
	case found:
		return change{old: old, new: w.assign(old, row)}, true
	case w.known || !conflict.Update:
		return change{new: row, inserted: true}, true
	}
	same := Row{}
	for _, name := range conflict.Columns {
		if v, ok := row[name]; ok {
			same[name] = v
		}
	}
	updated := w.assign(same, row)
	for name, v := range updated {
		if inserted, ok := row[name]; !ok || !w.table.column(name).sameValue(inserted, v) {
			delete(updated, name)
		}
	}
	return change{old: same, new: updated}, true
}

func (w *write) conflicting(row Row) (Row, bool) {
	columns := w.stmt.Conflict.Columns
	if len(columns) == 0 {
		columns = w.table.identity()
	}
	for _, has := range w.content {
		if w.table.sameRow(columns, has, row) {
			return has, true
		}
	}
	return nil, false
}

// sameRow says that two rows are known to be alike in the columns.
func (t *table) sameRow(columns []string, a, b Row) bool {
	return len(columns) > 0 && !slices.ContainsFunc(columns, func(name string) bool {
		left, lok := a[name]
		right, rok := b[name]
		c := t.column(name)
		return c == nil || !lok || !rok || !c.sameValue(left, right)
	})
}

// overlay adds what is said of the written rows. Rows that tell who they are find their
// own; else their order counts, where that is not one of several rows that are known apart.
func (w *write) overlay(changes []change, said []Row) {
	for i, row := range said {
		at := w.place(changes, row)
		if at < 0 && (i < len(changes) && (len(changes) == 1 || changes[i].inserted || !w.identified(changes[i].row()))) {
			at = i
		}
		if at < 0 {
			continue
		}
		onto := &changes[at].new
		if w.stmt.Kind == parser.KindDelete {
			onto = &changes[at].old
		}
		if *onto == nil {
			*onto = Row{}
		}
		*onto = (*onto).clone()
		for name, v := range row {
			(*onto)[name] = v
		}
	}
}

func (w *write) place(changes []change, row Row) int {
	return slices.IndexFunc(changes, func(ch change) bool { return w.table.sameRow(w.table.identity(), ch.row(), row) })
}

func (w *write) identified(row Row) bool {
	return w.table.sameRow(w.table.identity(), row, row)
}

// apply gives the content of a table after a change. A row that is not known well enough
// to be found again is left as it is.
func (t *table) apply(content []Row, ch change) []Row {
	content = slices.Clone(content)
	at := slices.IndexFunc(content, func(row Row) bool { return t.sameRow(t.identity(), row, ch.old) })
	if at < 0 && ch.new != nil {
		at = slices.IndexFunc(content, func(row Row) bool { return t.sameRow(t.identity(), row, ch.new) })
	}
	switch {
	case at >= 0 && ch.new == nil:
		return slices.Delete(content, at, at+1)
	case at >= 0:
		content[at] = ch.new
	case ch.new != nil:
		content = append(content, ch.new)
	}
	return content
}
