package wtcachetest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// model is the database as far as the rules ask about it. It is immutable.
type model struct {
	rules  []*rules.Rule
	tables []*table // the rules' own first, then children of theirs
	types  *types
	defs   *parser.Definitions
}

// table is one table of the model.
type table struct {
	name    rules.Name
	oid     uint32
	columns []column
	def     *parser.TableDef
	sketch  bool   // made from its rule alone: there may be columns that nobody has named
	root    uint32 // of a child: its ruled ancestor
}

type column struct {
	name      string
	typ       *sqlType
	mod       int
	generated bool
	fallback  *parser.Value // nil: NULL
	modified  bool          // its type has modifiers
	guessed   bool          // its type is: a Go value's own type counts
}

func (t *table) column(name string) *column {
	for i := range t.columns {
		if t.columns[i].name == name {
			return &t.columns[i]
		}
	}
	return nil
}

func (t *table) columnNames() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

// identity gives the columns that tell rows apart: the primary key, or the first usable
// unique constraint.
func (t *table) identity() []string {
	var first []string
	for _, u := range t.def.Unique {
		switch {
		case u.Primary:
			return u.Columns
		case first == nil && !u.Partial:
			first = u.Columns
		}
	}
	return first
}

// newModel describes the rules' tables by the definitions, or, where there are none at
// all, by what the rules themselves name.
func newModel(all []*rules.Rule, defs *parser.Definitions) (*model, error) {
	m := &model{rules: all, defs: defs}
	sketched := defs == nil
	if sketched {
		m.defs = &parser.Definitions{}
	}
	m.types = newTypes(m.defs)
	for _, r := range all {
		if len(r.Via) > 0 {
			return nil, fmt.Errorf("%s: the rule names views in via, which wtcachetest does not know; test writes through views against a server", r.At("via"))
		}
		name := qualified(r.Table)
		def := m.defs.Table(parser.Relation{Schema: name.Schema, Name: name.Table})
		if sketched {
			if def = sketch(r); def == nil {
				return nil, fmt.Errorf("%s: the columns of %s are not known, and its rule stores all of them; add wtcachetest.Schema(\"CREATE TABLE %s (…)\") or SchemaFrom a migration, or name the columns in the rule", r.Pos, name, name)
			}
		}
		if def != nil {
			m.add(name, def, sketched, 0)
		}
	}
	m.addChildren()
	return m, nil
}

func (m *model) add(name rules.Name, def *parser.TableDef, sketched bool, root uint32) {
	t := &table{name: name, oid: firstUserOID + uint32(len(m.tables)) + 1, def: def, sketch: sketched, root: root}
	for _, c := range def.Columns {
		typ := m.types.of(c.Type)
		t.columns = append(t.columns, column{
			name: c.Name, typ: typ, mod: typmod(c.Type), generated: c.Generated, fallback: c.Default,
			modified: c.Type.Modified || typ.modified, guessed: sketched,
		})
	}
	m.tables = append(m.tables, t)
}

// addChildren adds partitions and inheritance children, at any depth.
func (m *model) addChildren() {
	for i := 0; i < len(m.tables); i++ {
		parent := m.tables[i]
		root := parent.root
		if root == 0 {
			root = parent.oid
		}
		for _, def := range m.defs.Tables {
			name := qualified(nameOf(def.Name))
			child := slices.ContainsFunc(def.Parents, func(p parser.Relation) bool { return m.defs.Table(p) == parent.def })
			if child && m.table(name) == nil {
				m.add(name, def, false, root)
			}
		}
	}
}

// table finds a table, nil where there is none.
func (m *model) table(name rules.Name) *table {
	for _, t := range m.tables {
		if t.name == name {
			return t
		}
	}
	return nil
}

// find finds a ruled table by the name that a test gives: users, or public.users.
func (m *model) find(name string) (*table, error) {
	var known []string
	for _, t := range m.tables {
		if t.root != 0 {
			continue
		}
		if name == t.name.Table || name == t.name.String() {
			return t, nil
		}
		known = append(known, t.name.String())
	}
	return nil, fmt.Errorf("no rule is for a table %q; the rules are for %s", name, strings.Join(known, ", "))
}

// changedBy gives the ruled tables whose rows a statement may change without being
// captured.
func (m *model) changedBy(s *parser.Statement) []*table {
	changed := m.cascadingFrom(s)
	for _, t := range m.tables {
		if s.All || slices.ContainsFunc(s.Written, t.is) {
			changed = append(changed, m.ruled(t))
		}
	}
	return changed
}

func (t *table) is(r parser.Relation) bool {
	return r.Name == t.name.Table && (r.Schema == "" || r.Schema == t.name.Schema)
}

// ruled gives the table whose rule a child's rows fall under.
func (m *model) ruled(t *table) *table {
	for _, root := range m.tables {
		if t.root == root.oid {
			return root
		}
	}
	return t
}

// cascadingFrom gives the ruled tables that a foreign key's action may change when the
// statement runs. An INSERT sets none off.
func (m *model) cascadingFrom(s *parser.Statement) []*table {
	var changed []*table
	if s.Kind == parser.KindInsert && s.Conflict == nil && !s.Nested {
		return nil
	}
	for _, c := range m.cascades() {
		if slices.ContainsFunc(s.Written, (&table{name: c.source}).is) {
			changed = append(changed, c.table)
		}
	}
	return changed
}

// sketch makes a table of the columns that its rule names, nil where the rule does not
// name all of them. A key's column that is called id, or ends so, is taken for a bigint.
func sketch(r *rules.Rule) *parser.TableDef {
	def := &parser.TableDef{Name: parser.Relation{Schema: r.Table.Schema, Name: r.Table.Table}}
	add := func(names ...string) {
		for _, name := range names {
			if def.Column(name) != nil {
				continue
			}
			typ := "text"
			if name == "id" || strings.HasSuffix(name, "_id") {
				typ = "int8"
			}
			def.Columns = append(def.Columns, parser.ColumnDef{Name: name, Type: parser.TypeDef{Name: typ}})
		}
	}
	for _, e := range r.Entries {
		add(e.Key.Columns()...)
		if e.Strategy != rules.StrategyWrite {
			continue
		}
		def.Unique = append(def.Unique, parser.UniqueDef{Name: e.Name, Columns: e.Key.Columns()})
		if len(e.Columns) == 0 {
			return nil
		}
	}
	for _, e := range r.Entries {
		add(e.Columns...)
		add(e.Omit...)
	}
	for _, s := range r.Shared {
		add(s.Columns()...)
	}
	return def
}

func qualified(n rules.Name) rules.Name {
	if n.Schema == "" {
		n.Schema = "public"
	}
	return n
}

// entryColumns gives the columns that an entry stores, in their order.
func entryColumns(t *table, e *rules.BoundEntry) []string {
	names := e.Columns
	if len(names) == 0 {
		names = t.columnNames()
	}
	var kept []string
	for _, name := range names {
		if !slices.Contains(e.Omit, name) && !slices.Contains(kept, name) {
			kept = append(kept, name)
		}
	}
	return kept
}
