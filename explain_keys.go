package wtcache

import (
	"slices"
	"strconv"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// keyValue is what a statement shows of a key column's value in one row.
type keyValue struct {
	shown bool
	null  bool
	value parser.Value
}

// keyRow gives it by the column's name.
type keyRow func(column string) keyValue

func unknownRow(string) keyValue { return keyValue{} }

// entries says what becomes of each key of the written table.
func (e *explaining) entries() []ExplainedEntry {
	t := e.st.table
	now, old := e.rows()
	list := make([]ExplainedEntry, 0, len(t.Entries)+len(t.Shared))
	for _, b := range t.Entries {
		one := ExplainedEntry{Name: b.Name, Key: b.Key.String(), Keys: e.sketches(b.Key, now)}
		one.Effect, one.Why = e.effect(b)
		list = append(list, e.withOld(one, b.Key, old))
	}
	for _, k := range t.Shared {
		one := ExplainedEntry{Key: k.String(), Effect: EffectAbsent, Keys: e.sketches(k, now), Why: "rows share it"}
		list = append(list, e.withOld(one, k, old))
	}
	return list
}

// effect says what a committed write leaves of an entry.
func (e *explaining) effect(b *rules.BoundEntry) (Effect, string) {
	st := e.st
	switch {
	case st.action == actPinned:
		return EffectAbsent, "the payload is not known under row-level security"
	case st.stmt.Kind == parser.KindDelete:
		return EffectAbsent, ""
	case b.Strategy == rules.StrategyInvalidate:
		return EffectAbsent, "strategy: invalidate"
	case e.x.engine.eventual(st.table):
		return EffectAbsent, "consistency: eventual"
	case !st.payloads:
		return EffectAbsent, "an AFTER trigger may change the row again"
	case b.When != "":
		return EffectWritten, "absent where `when` is false: " + b.When
	}
	return EffectWritten, ""
}

// withOld adds the keys before the change where the statement may change the template's columns.
func (e *explaining) withOld(one ExplainedEntry, k *rules.Template, old []keyRow) ExplainedEntry {
	if !e.st.oldKeys {
		return one
	}
	if before := e.sketches(k, old); !slices.Equal(before, one.Keys) || slices.ContainsFunc(k.Columns(), e.changes) {
		one.OldKeys = before
	}
	return one
}

// changes says whether the statement may change a column's value in a row that is there.
func (e *explaining) changes(column string) bool {
	t := e.st.table
	return t.BeforeTriggers || slices.Contains(e.st.stmt.Assigned, column) || slices.ContainsFunc(t.KeyColumns, func(k rules.KeyColumn) bool {
		return k.Generated && k.Name == column
	})
}

// rows gives what the statement shows of the rows as they are afterwards, of a DELETE as they
// were, and as they were before. There is always one.
func (e *explaining) rows() (now, old []keyRow) {
	s := e.st.stmt
	switch {
	case e.st.view:
		return []keyRow{unknownRow}, []keyRow{unknownRow} // its columns may be called otherwise
	case s.Kind == parser.KindInsert:
		return e.insertedRows(), []keyRow{unknownRow}
	}
	found := func(column string) keyValue {
		v, ok := pinOf(s, column)
		return keyValue{shown: ok, value: v}
	}
	return []keyRow{func(column string) keyValue {
		if s.Kind == parser.KindUpdate && e.changes(column) {
			return e.assigned(column)
		}
		return found(column)
	}}, []keyRow{found}
}

// assigned gives the value that SET shows for a column.
func (e *explaining) assigned(column string) keyValue {
	for _, set := range e.st.stmt.Sets {
		if set.Column == column && !e.st.table.BeforeTriggers {
			return shownValue(set.Value)
		}
	}
	return keyValue{}
}

func (e *explaining) insertedRows() []keyRow {
	s, t := e.st.stmt, e.st.table
	if s.Columns == nil || len(s.Rows) == 0 || t.BeforeTriggers {
		return []keyRow{unknownRow}
	}
	rows := make([]keyRow, len(s.Rows))
	for n, row := range s.Rows {
		rows[n] = func(column string) keyValue {
			// Where a row is updated instead, only the columns that found it are surely the inserted ones.
			if s.Conflict != nil && s.Conflict.Update && !slices.Contains(s.Conflict.Columns, column) {
				return keyValue{}
			}
			if i := slices.Index(s.Columns, column); i >= 0 && i < len(row) {
				return shownValue(row[i])
			}
			return keyValue{}
		}
	}
	return rows
}

func shownValue(v parser.Value) keyValue {
	switch v.Kind {
	case parser.ValueParam, parser.ValueInteger, parser.ValueString:
		return keyValue{shown: true, value: v}
	case parser.ValueNull:
		return keyValue{null: true}
	}
	return keyValue{}
}

// sketches gives a template's keys, one a row; a row with NULL in one has none.
func (e *explaining) sketches(k *rules.Template, rows []keyRow) []string {
	keys := make([]string, 0, len(rows))
	for _, row := range rows {
		if slices.ContainsFunc(k.Columns(), func(column string) bool { return row(column).null }) {
			continue
		}
		key := k.Sketch(func(column string) (string, bool) { return e.valueText(column, row(column)) })
		if !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	return keys
}

func unknownKey(k *rules.Template) string {
	return k.Sketch(func(column string) (string, bool) { return "{" + column + "}", false })
}

// valueText gives a column's text where that is certain, else what stands for it.
func (e *explaining) valueText(column string, v keyValue) (string, bool) {
	i := slices.IndexFunc(e.st.table.KeyColumns, func(k rules.KeyColumn) bool { return k.Name == column })
	if !v.shown || i < 0 {
		return "{" + column + "}", false
	}
	k := e.st.table.KeyColumns[i]
	if castKeepsText(v.value.Cast, k.Canon) {
		if text, ok := pinnedText(v.value, k, e.args, e.st.stmt.Kind == parser.KindInsert); ok {
			return text, true
		}
	}
	written := v.value.Text
	switch v.value.Kind {
	case parser.ValueParam:
		written = "$" + strconv.Itoa(v.value.Param)
	case parser.ValueString:
		written = "'" + strings.ReplaceAll(written, "'", "''") + "'"
	}
	return "{" + column + "=" + written + "}", false
}

// hasParams says whether keys depend on arguments.
func (p *pinnedKeys) hasParams() bool {
	return slices.ContainsFunc(p.rows, func(row []parser.Value) bool {
		return slices.ContainsFunc(row, func(v parser.Value) bool { return v.Kind == parser.ValueParam })
	})
}

// pinnedKeys gives the keys of a fence-first write as they can be shown. open says that a
// constant, or an argument that was given, leaves one open.
func (e *explaining) pinnedKeys() (shown string, open bool) {
	if len(e.args) > 0 || !e.st.pinned.hasParams() {
		keys, ok := e.st.pinned.resolve(e.args)
		return strings.Join(keys, ", "), !ok
	}
	var keys []string
	for _, entry := range e.entries() {
		keys = append(keys, entry.Keys...)
	}
	return strings.Join(keys, ", "), false
}
