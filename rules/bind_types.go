package rules

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// keyTypes are the built-in types whose text is one for each value, in all sessions.
// For numeric, char(n) and the like equal values may have several texts: the text of the
// stored row counts, so a key is known once the row has been captured.
var keyTypes = map[string]bool{
	"int2": true, "int4": true, "int8": true, "oid": true, "uuid": true, "bool": true, "text": true, "varchar": true,
	"bpchar": true, "name": true, "char": true, "numeric": true, "date": true, "time": true, "timetz": true,
	"timestamp": true, "timestamptz": true, "bytea": true, "inet": true, "cidr": true, "macaddr": true, "macaddr8": true,
	"bit": true, "varbit": true, "pg_lsn": true, "xid8": true,
}

// keyColumn says how a column stands in a key; problem is not empty where it cannot.
func (c *Catalog) keyColumn(a *column) (k KeyColumn, problem string) {
	t := c.base(a.typ)
	k = KeyColumn{Name: a.Name, Type: t.sql(), Generated: a.Generated != "", base: t.Name, equals: "="}
	switch {
	case t.Kind == "e":
		return k, ""
	case t.Schema != "pg_catalog":
		// A type of an extension that is a string at heart: citext.
		k.base = ""
		if t.Kind != "b" || t.Category != "S" {
			return k, "what its text depends on is not known"
		}
		if t.Equal != nil {
			k.equals = "OPERATOR(" + sqlIdent(*t.Equal) + ".=)"
		}
		return k, ""
	case !keyTypes[t.Name]:
		return k, refusedKeyType(t)
	}
	switch t.Name {
	case "int2", "int4", "int8":
		k.Canon, k.class = CanonInteger, ClassInteger
	case "oid":
		k.class = ClassInteger
	case "uuid":
		k.Canon, k.class = CanonUUID, ClassUUID
	case "bool":
		k.class = ClassBool
	case "text", "varchar":
		if a.Exact {
			k.Canon = CanonText
		}
		if mod := c.modOf(a); t.Name == "varchar" && mod > varcharHeader {
			k.MaxLen = mod - varcharHeader
		}
	}
	return k, ""
}

// varcharHeader is what pg_attribute.atttypmod adds to n of varchar(n).
const varcharHeader = 4

func refusedKeyType(t *sqlType) string {
	switch {
	case t.Name == "float4" || t.Name == "float8":
		return "its text depends on extra_float_digits"
	case t.Name == "money":
		return "its text depends on lc_monetary"
	case t.Name == "interval":
		return "equal intervals have several texts (1 day, 24:00:00)"
	case t.Elem != 0 || t.Kind == "c" || t.Kind == "r" || t.Kind == "m":
		return "its text depends on the session's settings"
	case strings.HasPrefix(t.Name, "reg"):
		return "its text depends on search_path"
	}
	return "equal values may have several texts"
}

// spell writes a type out with all that its text is made of, so that a change of a
// domain, a composite type or an enum shows.
func (c *Catalog) spell(t *sqlType, mod int) string {
	s := fmt.Sprintf("%s(%d)", t.sql(), mod)
	var parts []string
	below := func(oid uint32, mod int) {
		if t := c.types[oid]; t != nil && oid != 0 {
			parts = append(parts, c.spell(t, mod))
		}
	}
	switch t.Kind {
	case "d":
		below(t.Base, t.Mod)
	case "e":
		parts = append(parts, t.Labels...)
	default:
		below(t.Elem, mod)
		below(t.Sub, -1)
	}
	for _, f := range t.Fields {
		parts = append(parts, f.Name)
		below(f.Type, -1)
	}
	if len(parts) == 0 {
		return s
	}
	return s + "{" + strings.Join(parts, ",") + "}"
}

// negative says for how long the absence of a row may be cached under an entry's key. A
// writer's INSERT makes the key absent that has the stored row's text: where a column's
// type takes several texts for a value, a reader may have asked with another one.
func (b *binder) negative(t *Table, e *Entry) time.Duration {
	if t.Rule.NegativeTTL == 0 {
		return 0
	}
	var loose []string
	for _, name := range e.Key.Columns() {
		if k := t.keyColumn(name); k != nil && k.Canon == CanonNone {
			loose = append(loose, fmt.Sprintf("%q (%s)", name, b.cat.base(t.relation.column(name).typ).Name))
		}
	}
	if len(loose) == 0 {
		return t.Rule.NegativeTTL
	}
	b.warn(place(t.Rule, "negative_ttl"), fmt.Sprintf("no such row is not cached for entry %q: a value of column %s can be written as several texts, so a later INSERT might not find what a reader has cached",
		e.Name, strings.Join(loose, " and ")), "its misses read the database each time; if they are too many, give the entry a key of integer, uuid, text or varchar columns of a deterministic collation")
	return 0
}

// unique checks that no two rows can share a key that a payload is written to.
func (b *binder) unique(t *Table, e *Entry) {
	columns := e.Key.Columns()
	if e.Strategy != StrategyWrite || slices.ContainsFunc(columns, func(c string) bool { return t.relation.column(c) == nil }) {
		return
	}
	var usable, refused []string
	for _, i := range t.relation.indexes {
		fault := i.fault()
		covered := len(i.Cols) > 0 && !slices.ContainsFunc(i.Cols, func(c string) bool { return !slices.Contains(columns, c) })
		switch {
		case fault == "" && covered:
			b.inherited(t, e)
			return
		case fault == "":
			usable = append(usable, i.Name+" ("+strings.Join(i.Cols, ", ")+")")
		case covered:
			refused = append(refused, fmt.Sprintf("%s is %s", i.Name, fault))
		}
	}
	problem := fmt.Sprintf("key %q does not hold every column of a unique constraint of %s, so two rows could share it", e.Key, t.Name)
	if len(refused) > 0 {
		problem += " (" + strings.Join(refused, ", ") + ")"
	}
	fix := "the table has no usable one: create a unique index, or set strategy: invalidate"
	if len(usable) > 0 {
		fix = "use the columns of " + strings.Join(usable, " or ") + ", or set strategy: invalidate"
	}
	b.fault(place(t.Rule, e.path("key"), e.Path), problem, fix)
}

func (i uniqueIndex) fault() string {
	switch {
	case !i.Immediate:
		return "deferrable: two rows may hold a key at once"
	case !i.Valid:
		return "not valid"
	case i.Partial:
		return "partial"
	case i.Expr:
		return "over an expression"
	}
	return ""
}

// inherited warns of children that the table's unique index says nothing about.
func (b *binder) inherited(t *Table, e *Entry) {
	if t.relation.Kind == "p" {
		return
	}
	for _, r := range b.cat.reaches {
		if r.Root == t.OID && r.How == reachDown {
			b.warn(place(t.Rule, e.path("key"), e.Path), fmt.Sprintf("%s has inheritance children, and no unique index spans them", t.Name),
				"rows of parent and child must never have the same key")
			return
		}
	}
}

// overlaps finds keys that rows of different kinds could share. Shared keys never hold
// a payload of a write, so several rules may share those.
func (b *binder) overlaps(tables []*Table) {
	type owned struct {
		table    *Table
		template *Template
		entry    bool
		at       Pos
		what     string
	}
	var all []owned
	for _, t := range tables {
		for _, e := range t.Rule.Entries {
			all = append(all, owned{t, e.Key, true, place(t.Rule, e.path("key"), e.Path), fmt.Sprintf("entry %q of %s", e.Name, t.Name)})
		}
		for i, s := range t.Shared {
			all = append(all, owned{t, s, false, place(t.Rule, fmt.Sprintf("invalidate[%d]", i), "invalidate"), fmt.Sprintf("invalidate of %s", t.Name)})
		}
	}
	for i, a := range all {
		for _, o := range all[:i] {
			if !a.entry && !o.entry {
				continue
			}
			if Overlap(o.template, a.template, func(template *Template, column string) Class {
				owner := a.table
				if template == o.template {
					owner = o.table
				}
				return owner.class(column)
			}) {
				b.fault(a.at, fmt.Sprintf("key %q %s %q (%s, %s)", a.template, a.template.clash(o.template), o.template, o.what, o.at),
					"give each entry a literal prefix of its own, such as \"user:email:\"")
			}
		}
	}
}

func (t *Table) class(column string) Class {
	if k := t.keyColumn(column); k != nil {
		return k.class
	}
	return ClassText
}
