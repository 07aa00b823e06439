package parser

import (
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Template is what the texts of one shape have in common: the Statement of one of them, and
// where in it the values of the slots stand. It is immutable and safe for concurrent use.
//
// It is made of a text in which each constant is another sentinel. So a value is found in the
// Statement by its sentinel, whatever the grammar did to bring it there; what depends on a
// constant in any other way shows, since the text that the Template is made for must come
// out of it as Parse reads it.
type Template struct {
	text  string
	stmt  *Statement
	slots []slot
	uses  []use
	lists [3]bool // which of Pins, Sets and Rows hold a slot's value
}

// use is a Value whose Text is that of a slot.
type use struct {
	list  valueList
	i, j  int
	slot  int
	minus bool
}

// valueList names a list of values in a Statement.
type valueList uint8

const (
	inPins valueList = iota
	inSets
	inRows
)

const (
	firstSentinel     = 1_000_000_000
	firstLongSentinel = 9_000_000_000_000
	stringSentinel    = "~wtcache~"
)

// NewTemplate makes the Template of a text's shape; nil where it has none. It parses twice.
func NewTemplate(sql string, s *Shape) *Template {
	if strings.Contains(string(s.key), stringSentinel) {
		return nil
	}
	t := &Template{}
	t.write(sql, s.slots)
	stmts := Parse(t.text)
	if len(stmts) != 1 || !fillable(stmts[0]) {
		return nil
	}
	t.stmt = stmts[0]
	t.find()
	if !reflect.DeepEqual(Parse(sql), []*Statement{t.Fill(sql, s).Statement}) {
		return nil
	}
	return t
}

// fillable leaves out what no text of a program's repeats with other constants.
func fillable(s *Statement) bool {
	switch s.Kind {
	case KindInsert, KindUpdate, KindDelete, KindOther:
		return !s.Nested && !s.All && !s.SetConfig && !s.TemporaryRelation && !s.Concurrently
	}
	return false
}

// write makes the template's own text: the given one with sentinels in its slots.
func (t *Template) write(sql string, slots []slot) {
	var b strings.Builder
	from := 0
	for i, s := range slots {
		b.WriteString(sql[from:s.start])
		start := b.Len()
		b.WriteString(sentinel(s.class, i))
		t.slots = append(t.slots, slot{s.class, start, b.Len()})
		from = s.end
	}
	b.WriteString(sql[from:])
	t.text = b.String()
}

func sentinel(class slotClass, i int) string {
	switch class {
	case slotInteger:
		return strconv.Itoa(firstSentinel + i)
	case slotLong:
		return strconv.Itoa(firstLongSentinel + i)
	case slotDecimal:
		return strconv.Itoa(firstSentinel+i) + ".5"
	case slotString:
		return "'" + stringSentinel + strconv.Itoa(i) + "'"
	}
	return "/**/"
}

// find notes where the sentinels came out.
func (t *Template) find() {
	of := make(map[string]int, len(t.slots))
	for i, s := range t.slots {
		if s.class != slotComment {
			of[strings.Trim(sentinel(s.class, i), "'")] = i
		}
	}
	note := func(list valueList, i, j int, v Value) {
		text, minus := v.Text, false
		if v.Kind == ValueInteger || v.Kind == ValueDecimal {
			text, minus = strings.CutPrefix(v.Text, "-")
		}
		if n, ok := of[text]; ok && t.slots[n].class.gives(v.Kind) {
			t.uses = append(t.uses, use{list, i, j, n, minus})
			t.lists[list] = true
		}
	}
	for i, p := range t.stmt.Pins {
		note(inPins, i, 0, p.Value)
	}
	for i, p := range t.stmt.Sets {
		note(inSets, i, 0, p.Value)
	}
	for i, row := range t.stmt.Rows {
		for j, v := range row {
			note(inRows, i, j, v)
		}
	}
}

// gives reports whether a constant of the class comes out as a value of the kind: $$1000000000$$, which is
// a part of the shape, is no integer.
func (c slotClass) gives(kind ValueKind) bool {
	switch c {
	case slotString:
		return kind == ValueString
	case slotDecimal:
		return kind == ValueDecimal
	}
	return kind == ValueInteger
}

// Text returns the template's own text, which no caller sent.
func (t *Template) Text() string { return t.text }

// Own returns the Statement of the template's own text.
func (t *Template) Own() *Statement { return t.stmt }

// Filled is a text of a template's shape.
type Filled struct {
	// Statement is what Parse makes of the text.
	Statement *Statement

	of    *Template
	sql   string
	slots []slot
}

// Fill makes the Statement of a text that has the template's shape, without parsing it.
func (t *Template) Fill(sql string, s *Shape) Filled {
	f := Filled{of: t, sql: sql, slots: slices.Clone(s.slots)}
	stmt := *t.stmt
	stmt.Span = Span{Start: f.shift(stmt.Span.Start), End: f.shift(stmt.Span.End)}
	if t.lists[inPins] {
		stmt.Pins = slices.Clone(stmt.Pins)
	}
	if t.lists[inSets] {
		stmt.Sets = slices.Clone(stmt.Sets)
	}
	if t.lists[inRows] {
		stmt.Rows = cloneRows(stmt.Rows)
	}
	for _, u := range t.uses {
		text := f.value(u)
		switch u.list {
		case inPins:
			stmt.Pins[u.i].Value.Text = text
		case inSets:
			stmt.Sets[u.i].Value.Text = text
		case inRows:
			stmt.Rows[u.i][u.j].Text = text
		}
	}
	f.Statement = &stmt
	return f
}

func cloneRows(rows [][]Value) [][]Value {
	size := 0
	for _, row := range rows {
		size += len(row)
	}
	all := make([]Value, 0, size)
	copied := make([][]Value, len(rows))
	for i, row := range rows {
		all = append(all, row...)
		copied[i] = all[len(all)-len(row) : len(all) : len(all)]
	}
	return copied
}

// value gives the text that the grammar makes of a slot.
func (f *Filled) value(u use) string {
	s := f.slots[u.slot]
	switch text := f.sql[s.start:s.end]; {
	case s.class == slotString:
		return strings.ReplaceAll(text[1:len(text)-1], "''", "'")
	case u.minus && (s.class != slotInteger || text != "0"): // there is no integer -0
		return "-" + text
	default:
		return text
	}
}

// shift gives the place in the text of a place in the template's own, which is in no slot.
func (f *Filled) shift(at int) int {
	own := f.of.slots
	before := sort.Search(len(own), func(i int) bool { return own[i].end > at })
	if before == 0 {
		return at
	}
	return at + f.slots[before-1].end - own[before-1].end
}

// Splice puts into the text what was put into the template's own, of which spliced is the
// outcome: inserted says what was put where into the statement, and what it leaves out stands at
// the statement's end.
func (f *Filled) Splice(spliced string, inserted []Inserted) (string, []Inserted) {
	var b strings.Builder
	b.Grow(len(spliced) + len(f.sql) - len(f.of.text))
	from, own, added := 0, f.of.stmt.Span, 0
	put := func(at, size int) int {
		place := f.shift(at)
		b.WriteString(f.sql[from:place])
		b.WriteString(spliced[at+added : at+added+size])
		from, added = place, added+size
		return place
	}
	moved := slices.Clone(inserted)
	for i, in := range inserted {
		moved[i].At = put(own.Start+in.At, in.Len) - f.Statement.Span.Start
	}
	put(own.End, len(spliced)-len(f.of.text)-added)
	b.WriteString(f.sql[from:])
	return b.String(), moved
}
