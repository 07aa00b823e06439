package wtcache

import (
	"slices"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// relativeNames gives the bare names of the tables whose writes may change ruled rows
// without a statement on them.
func relativeNames(set *rules.Set) []string {
	names := make([]string, len(set.Relatives))
	for i, r := range set.Relatives {
		names[i] = r.Name.Table
	}
	return names
}

// acted gives the ruled tables of which further rows may change when the statement runs:
// by a foreign key (ON DELETE and ON UPDATE CASCADE, SET NULL and SET DEFAULT, at any
// distance), or by a trigger of the table itself. Which rows these are no RETURNING shows.
func (g *generation) acted(s *parser.Statement) []*rules.Table { return tablesOf(g.actors(s)) }

// actors gives what makes these rows change.
func (g *generation) actors(s *parser.Statement) []rules.Relative {
	return g.relatives(s, func(r rules.Relative) bool {
		switch {
		case r.Own:
			return true
		case s.Kind == parser.KindInsert && s.Conflict == nil:
			return s.Nested && (r.Delete || len(r.Columns) > 0)
		case s.Kind == parser.KindUpdate && !s.Nested, s.Kind == parser.KindInsert && !s.Nested:
			return r.Any || slices.ContainsFunc(r.Columns, func(c string) bool { return slices.Contains(s.Assigned, c) })
		case s.Kind == parser.KindDelete && !s.Nested:
			return r.Delete
		}
		return r.Delete || len(r.Columns) > 0
	})
}

// triggered gives the ruled tables that a trigger of a written table mentions. It is
// not known whether the trigger writes them, so all that follows is that a row which was
// captured in this transaction may no longer be as it was.
func (g *generation) triggered(s *parser.Statement) []*rules.Table { return tablesOf(g.triggers(s)) }

// triggers gives these triggers.
func (g *generation) triggers(s *parser.Statement) []rules.Relative {
	return g.relatives(s, func(r rules.Relative) bool { return r.Trigger && !r.Own })
}

func tablesOf(all []rules.Relative) []*rules.Table {
	var tables []*rules.Table
	for _, r := range all {
		tables = appendTables(tables, r.Table)
	}
	return tables
}

// touched gives the ruled tables whose rows may change by what a text names, where the
// names are all that is known of it.
func (g *generation) touched(text string) []*rules.Table {
	var tables []*rules.Table
	for _, name := range g.filter.Mentions(text) {
		tables = appendTables(tables, g.set.TablesByName(name)...)
		for _, r := range g.set.Relatives {
			if r.Name.Table == name {
				tables = appendTables(tables, r.Table)
			}
		}
	}
	return tables
}

// relatives matches by name, whatever the search_path: to take one table too many for
// a relative costs misses alone.
func (g *generation) relatives(s *parser.Statement, touches func(rules.Relative) bool) []rules.Relative {
	var all []rules.Relative
	for _, r := range g.set.Relatives {
		written := slices.ContainsFunc(s.Written, func(w parser.Relation) bool {
			return w.Name == r.Name.Table && (w.Schema == "" || w.Schema == r.Name.Schema)
		})
		if written && touches(r) {
			all = append(all, r)
		}
	}
	return all
}
