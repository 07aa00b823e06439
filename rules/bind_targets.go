package rules

import (
	"slices"
)

// staticTarget is what the catalogue alone says about statements on a relation; the
// session adds its rights.
type staticTarget struct {
	rel    *relation
	table  *Table
	others []*Table
	reason string // why its rows cannot be captured, "" where they can
	view   bool
}

func newSet(rules []*Rule, cat *Catalog, tables []*Table) *Set {
	s := &Set{
		Tables:  tables,
		catalog: cat,
		head:    namedSQL(rules) + closureSQL + factsSQL,
		targets: map[uint32]staticTarget{},
		ruled:   map[uint32]*Table{},
	}
	byOID := map[uint32]*Table{}
	for _, t := range tables {
		byOID[t.OID] = t
	}
	s.Relatives = relatives(cat, byOID)
	ways := map[uint32][]reach{}
	for _, r := range cat.reaches {
		if byOID[r.Root] != nil && cat.relations[r.OID] != nil {
			ways[r.OID] = append(ways[r.OID], r)
		}
	}
	for oid, reached := range ways {
		rel := cat.relations[oid]
		s.names = append(s.names, rel.Name)
		if owner := s.owner(reached, byOID); owner != nil {
			s.ruled[oid] = owner
		}
		s.targets[oid] = s.target(rel, reached, byOID)
	}
	slices.Sort(s.names)
	s.names = slices.Compact(s.names)
	return s
}

// owner is the ruled table that a relation's rows belong to: itself, or the nearest of
// its ruled ancestors.
func (s *Set) owner(ways []reach, byOID map[uint32]*Table) *Table {
	var owner *Table
	for _, w := range ways {
		t := byOID[w.Root]
		switch {
		case w.How == reachSelf:
			return t
		case w.How == reachDown && (owner == nil || s.catalog.below(t.OID, owner.OID)):
			owner = t
		}
	}
	return owner
}

// below says that one table is a descendant of another.
func (c *Catalog) below(oid, ancestor uint32) bool {
	return slices.Contains(c.reaches, reach{Root: ancestor, OID: oid, How: reachDown})
}

func (s *Set) target(rel *relation, ways []reach, byOID map[uint32]*Table) staticTarget {
	t := staticTarget{rel: rel, table: s.owner(ways, byOID)}
	for _, w := range ways {
		if view := byOID[w.Root]; view.views[rel.OID] {
			t.table, t.view = view, true
		}
	}
	if t.table == nil {
		t.table = byOID[ways[0].Root]
		t.reason = indirectReason(rel, ways)
	} else {
		t.reason = s.catalog.directReason(t)
	}
	for _, w := range ways {
		if other := byOID[w.Root]; other != t.table && !slices.Contains(t.others, other) {
			t.others = append(t.others, other)
		}
	}
	return t
}

func indirectReason(rel *relation, ways []reach) string {
	switch {
	case rel.Kind == "v":
		return "view not named in via"
	case slices.ContainsFunc(ways, func(w reach) bool { return w.How == reachUp }):
		return "ancestor of a ruled table"
	}
	return "rewrite rule"
}

// directReason says why the rows of a ruled table cannot be captured by RETURNING for a
// statement on the table itself, a child, or a view of via. A rule of the named relation
// fires, and so do those of what a view is over.
func (c *Catalog) directReason(t staticTarget) string {
	oid := t.rel.OID
	for {
		rel := c.relations[oid]
		if rel == nil || rel.Rules > 0 {
			return "rewrite rule"
		}
		if rel.Kind == "f" || c.anyBelow(oid, t.table.OID, func(r *relation) bool { return r.Kind == "f" }) {
			return "foreign table"
		}
		if oid == t.table.OID || !t.view {
			return ""
		}
		if slices.ContainsFunc(rel.triggers, trigger.instead) {
			return "INSTEAD OF trigger"
		}
		oid = c.views[oid].base
	}
}

// anyBelow looks at the descendants of a ruled table, or of one of its children.
func (c *Catalog) anyBelow(oid, table uint32, is func(*relation) bool) bool {
	if oid != table {
		// The children of a child are not told apart from its siblings': better coarse
		// once too often.
		if rel := c.relations[oid]; rel != nil && rel.Kind == "r" && rel.Partition {
			return false
		}
	}
	return slices.ContainsFunc(c.reaches, func(r reach) bool {
		rel := c.relations[r.OID]
		return r.Root == table && r.How == reachDown && rel != nil && is(rel)
	})
}

// Uncapturable says why the rows that a statement writes to a table cannot be captured, "" where they can. What is so for
// single sessions (rights, row-level security) is not in it.
func (s *Set) Uncapturable(t *Table) string { return s.targets[t.OID].reason }
