package rules

import (
	"fmt"
	"slices"
	"strings"
)

// Bind joins the rules with the catalogue. It gives all that is wrong, not the first
// finding alone: where errs is not empty the set is nil. warnings say which writes of the
// tables the driver will not see, or not see precisely.
func Bind(rules []*Rule, cat *Catalog) (set *Set, errs []Finding, warnings []Finding) {
	b := &binder{cat: cat}
	var tables []*Table
	seen := map[Name]bool{}
	for _, r := range rules {
		name := qualified(r.Table)
		if seen[name] {
			b.fault(r.Pos, "a second rule for table "+name.String(), "put its entries into the first one")
			continue
		}
		seen[name] = true
		if t := b.table(r, name); t != nil {
			tables = append(tables, t)
		}
	}
	b.overlaps(tables)
	b.warnAll(tables)
	if len(b.errs) > 0 {
		return nil, b.errs, b.warnings
	}
	return newSet(rules, cat, tables), nil, b.warnings
}

// binder collects findings.
type binder struct {
	cat      *Catalog
	errs     []Finding
	warnings []Finding
}

func (b *binder) fault(at Pos, problem, fix string) {
	b.errs = append(b.errs, Finding{Pos: at, Problem: problem, Fix: fix})
}

func (b *binder) warn(at Pos, problem, fix string) {
	b.warnings = append(b.warnings, Finding{Pos: at, Problem: problem, Fix: fix})
}

// place gives the position of the first path that is written in the rule's file.
func place(r *Rule, paths ...string) Pos {
	for _, p := range paths {
		if pos, ok := r.pos[p]; ok {
			return pos
		}
	}
	return r.Pos
}

// path gives the path of an entry's field.
func (e *Entry) path(field string) string {
	if e.Path == "" {
		return field
	}
	return e.Path + "." + field
}

func (b *binder) table(r *Rule, name Name) *Table {
	rel := b.cat.byName[name]
	if !b.isTable(r, name, rel) {
		return nil
	}
	t := &Table{
		Rule:     r,
		Name:     name,
		OID:      rel.OID,
		Shared:   r.Shared,
		Barrier:  "wtcache:barrier:" + name.String(),
		relation: rel,
		types:    map[string]string{},
		views:    map[uint32]bool{},
	}
	for _, a := range rel.columns {
		t.types[a.Name] = b.cat.base(a.typ).sql()
	}
	for i, e := range r.Entries {
		b.keyColumns(t, e.Key, place(r, e.path("key"), e.Path))
		if p := b.projection(t, e); p != nil {
			t.Entries = append(t.Entries, &BoundEntry{Entry: e, Index: i, Schema: b.schema(t, e, p), Negative: b.negative(t, e), projection: p})
		}
		b.unique(t, e)
	}
	for i, s := range r.Shared {
		b.keyColumns(t, s, place(r, fmt.Sprintf("invalidate[%d]", i), "invalidate"))
	}
	for i, v := range r.Via {
		b.via(t, qualified(v), place(r, fmt.Sprintf("via[%d]", i), "via"))
	}
	b.triggers(t)
	b.count(t)
	return t
}

// count adds the rows of the table and of its children up.
func (b *binder) count(t *Table) {
	for _, r := range b.cat.reaches {
		if rel := b.cat.relations[r.OID]; r.Root == t.OID && rel != nil && (r.How == reachSelf || r.How == reachDown) {
			t.Rows += rel.Rows
		}
	}
}

var relationKinds = map[string]string{
	"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "c": "a composite type",
	"i": "an index", "I": "an index", "t": "a TOAST table",
}

func (b *binder) isTable(r *Rule, name Name, rel *relation) bool {
	switch {
	case rel == nil:
		fix := "create it, or write the name as stored (schema.table)"
		if near := b.cat.suggest(name); len(near) > 0 {
			fix = "did you mean " + strings.Join(near, " or ") + "?"
		}
		b.fault(r.Pos, "table "+name.String()+" does not exist", fix)
	case rel.Kind == "v":
		b.fault(r.Pos, name.String()+" is a view", "name its table, and the view in via")
	case rel.Kind != "r" && rel.Kind != "p":
		b.fault(r.Pos, name.String()+" is "+relationKinds[rel.Kind], "a rule needs an ordinary or a partitioned table")
	case rel.Persistence == "t":
		b.fault(r.Pos, name.String()+" is a temporary table", "a rule needs a table that all sessions see")
	case rel.Schema == "pg_catalog" || rel.Schema == "information_schema":
		b.fault(r.Pos, name.String()+" is a system table", "a rule needs a table of your own")
	default:
		return true
	}
	return false
}

// noColumn reports a column that the table does not have.
func (b *binder) noColumn(rel *relation, name string, at Pos) {
	all := make([]string, len(rel.columns))
	for i, a := range rel.columns {
		all[i] = a.Name
	}
	fix := "its columns are " + list(all)
	if near := nearest(name, all); len(near) > 0 {
		fix = "did you mean " + strings.Join(near, " or ") + "?"
	}
	b.fault(at, fmt.Sprintf("table %s has no column %q", rel.name(), name), fix)
}

const maxListed = 12

func list(names []string) string {
	if len(names) > maxListed {
		return strings.Join(names[:maxListed], ", ") + fmt.Sprintf(" and %d more", len(names)-maxListed)
	}
	return strings.Join(names, ", ")
}

func (b *binder) keyColumns(t *Table, template *Template, at Pos) {
	for _, name := range template.Columns() {
		if t.keyColumn(name) != nil {
			continue
		}
		a := t.relation.column(name)
		if a == nil {
			b.noColumn(t.relation, name, at)
			continue
		}
		k, problem := b.cat.keyColumn(a)
		if problem != "" {
			b.fault(at, fmt.Sprintf("column %q (%s) cannot be a part of a key: %s", name, b.cat.base(a.typ).Name, problem),
				"use a column of another type, such as an integer, a text or a uuid")
			continue
		}
		t.KeyColumns = append(t.KeyColumns, k)
	}
}

// projection makes an entry's payload. It gives nil where a finding stands in its way.
func (b *binder) projection(t *Table, e *Entry) *projection {
	rel, before := t.relation, len(b.errs)
	kept := b.keptColumns(t, e)
	p := &projection{when: e.When, alias: rel.Name}
	used := map[string]string{}
	for _, name := range kept {
		a := rel.column(name)
		at := b.columnPlace(t.Rule, e, name)
		s, ok := b.cat.topSettings(a)
		if !ok {
			b.fault(at, fmt.Sprintf("column %q (%s) has a text that depends on search_path", name, a.typ.Name), "leave it out with omit")
		}
		out := name
		if to, renamed := e.Rename[name]; renamed {
			out = to
		}
		if other, taken := used[out]; taken {
			b.fault(at, fmt.Sprintf("columns %q and %q would both be called %q in the payload", other, name, out), "rename one of them, or leave it out with omit")
		}
		used[out] = name
		p.settings |= s
		p.columns = append(p.columns, projected{out, b.cat.base(a.typ).Name, func(ref string) string { return b.cat.payloadColumn(a, ref) }})
	}
	b.when(t, e, p, kept)
	if len(b.errs) > before {
		return nil
	}
	return p
}

// keptColumns checks every column that an entry names and gives those of its payload.
func (b *binder) keptColumns(t *Table, e *Entry) []string {
	rel, r := t.relation, t.Rule
	for i, name := range e.Omit {
		if rel.column(name) == nil {
			b.noColumn(rel, name, place(r, e.path(fmt.Sprintf("omit[%d]", i)), e.path("omit")))
		}
	}
	renamed := make([]string, 0, len(e.Rename))
	for name := range e.Rename {
		renamed = append(renamed, name)
	}
	slices.Sort(renamed)
	for _, name := range renamed {
		if rel.column(name) == nil {
			b.noColumn(rel, name, place(r, e.path("rename."+name), e.path("rename")))
		}
	}
	names := e.Columns
	if len(names) == 0 {
		for _, a := range rel.columns {
			names = append(names, a.Name)
		}
	}
	var kept []string
	for _, name := range names {
		switch {
		case rel.column(name) == nil:
			b.noColumn(rel, name, b.columnPlace(r, e, name))
		case !slices.Contains(e.Omit, name) && !slices.Contains(kept, name):
			kept = append(kept, name)
		}
	}
	if len(kept) == 0 {
		b.fault(place(r, e.path("omit"), e.path("columns"), e.Path), "no column is left for the payload", "keep at least one")
	}
	return kept
}

func (b *binder) columnPlace(r *Rule, e *Entry, name string) Pos {
	paths := []string{e.path("rename." + name)}
	if i := slices.Index(e.Columns, name); i >= 0 {
		paths = append([]string{e.path(fmt.Sprintf("columns[%d]", i))}, paths...)
	}
	return place(r, append(paths, e.path("columns"), e.path("key"), e.Path)...)
}

// when checks a condition and says which columns the payload expression has to read.
func (b *binder) when(t *Table, e *Entry, p *projection, kept []string) {
	w := scanWhen(e.When)
	at := place(t.Rule, e.path("when"), e.Path)
	if e.When != "" {
		switch message := b.cat.whens[e]; {
		case w.fault != "":
			b.fault(at, "when cannot be used: "+w.fault, "write one condition over the row's own columns, without sub-selects")
		case message != "":
			b.fault(at, "when is no condition over the row: "+message, "write SQL that gives a boolean, over columns of "+t.Name.String())
		case len(w.unstable) > 0:
			b.warn(at, fmt.Sprintf("when depends on more than the row (%s)", strings.Join(w.unstable, ", ")),
				"an entry stays as it was decided at its last write or fill, until its TTL ends")
		}
	}
	// A row that is named as a whole needs all of its columns.
	all := w.unclear || w.names[t.relation.Name]
	for _, a := range t.relation.columns {
		if all || slices.Contains(kept, a.Name) || w.names[a.Name] {
			p.needed = append(p.needed, a.Name)
		}
	}
}

// schema is the fingerprint of all that decides about the bytes of an entry: another
// one means that a reader of this rule would misread it.
func (b *binder) schema(t *Table, e *Entry, p *projection) string {
	parts := []string{string(e.Format), p.sql("t")}
	for _, a := range t.relation.columns {
		if slices.Contains(p.needed, a.Name) {
			parts = append(parts, a.Name, b.cat.spell(a.typ, a.Mod))
		}
	}
	return fingerprint8(parts...)
}
