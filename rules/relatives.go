package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Relative is a relation whose writes may change rows of a ruled table, without a statement
// on it: a table by a foreign key's action, or by a trigger; and every ancestor of such a
// table and every view over it.
type Relative struct {
	Name    Name
	Table   *Table   // the ruled table that may change
	Delete  bool     // a foreign key acts on DELETE
	Columns []string // a foreign key acts on UPDATE of these
	Any     bool     // and on any other UPDATE: a view may name the columns otherwise, a trigger may assign them
	Trigger bool     // a trigger of the relative mentions the ruled table
	Own     bool     // the trigger is on the ruled table itself, or on a child, and writes it
	By      string   // the foreign key's, or the trigger function's, name
}

// relatives gives the relatives of all tables. A table may be its own.
func relatives(cat *Catalog, byOID map[uint32]*Table) []Relative {
	var all []Relative
	for _, s := range cat.blind {
		t := byOID[s.Root]
		if t == nil || !s.known() {
			continue
		}
		trigger := s.Kind == "trigger"
		r := Relative{
			Name: s.name(), Table: t, Delete: s.Delete && !trigger, Columns: s.Columns, Any: s.Derived,
			Trigger: trigger, Own: trigger && cat.own(t, s.name()), By: s.Detail,
		}
		all = append(all, r)
		for _, name := range cat.around[s.name()] {
			r.Name, r.Any = name, len(s.Columns) > 0
			all = append(all, r)
		}
	}
	return all
}

// known says that the statements which set the blind spot off are known by their table.
func (s blindSpot) known() bool { return s.Kind == "cascade" || s.Kind == "trigger" }

// own says that a relation is a ruled table or one of its children.
func (c *Catalog) own(t *Table, name Name) bool {
	return slices.ContainsFunc(c.reaches, func(r reach) bool {
		rel := c.relations[r.OID]
		return r.Root == t.OID && (r.How == reachSelf || r.How == reachDown) && rel != nil && rel.name() == name
	})
}

// aroundSQL looks around the tables of the blind spots: for the relations through which
// these can be written, too, and for columns that change without being assigned. A
// trigger counts where it is BEFORE UPDATE (bits 2 and 16).
const aroundSQL = `, source AS (
  SELECT c.oid, n.nsp, n.rel FROM spot n
  JOIN pg_catalog.pg_namespace s ON s.nspname = n.nsp
  JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = n.rel
), wide(src, oid) AS (
  SELECT oid, oid FROM source
  UNION
  SELECT w.src, x.oid FROM wide w CROSS JOIN LATERAL (
    SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = w.oid
    UNION ALL
    SELECT r.ev_class FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
    JOIN pg_catalog.pg_class v ON v.oid = r.ev_class
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.refobjid = w.oid AND r.ev_class <> w.oid AND v.relkind <> 'm'
  ) x(oid)
)
SELECT 'around', pg_catalog.json_build_object('schema', f.nsp, 'name', f.rel, 'bySchema', s.nspname, 'by', c.relname)::pg_catalog.text
FROM wide JOIN source f ON f.oid = wide.src JOIN pg_catalog.pg_class c ON c.oid = wide.oid JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
WHERE wide.oid <> wide.src
UNION ALL
SELECT 'derived', pg_catalog.json_build_object('schema', f.nsp, 'name', f.rel, 'column', a.attname)::pg_catalog.text
FROM source f JOIN pg_catalog.pg_attribute a ON a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE a.attgenerated <> '' OR EXISTS (SELECT 1 FROM pg_catalog.pg_trigger g
  WHERE g.tgrelid = f.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 18 = 18)
ORDER BY 1, 2`

type aroundFact struct {
	Schema, Name string // of the blind spot's table
	BySchema, By string // of a relation through which it can be written
	Column       string // that may change without being assigned
}

func (c *Catalog) loadAround(ctx context.Context, q Querier, _ []*Rule) error {
	var spots []string
	for _, s := range c.blind {
		if s.known() {
			spots = append(spots, "("+sqlString(s.Schema)+"::pg_catalog.text, "+sqlString(s.Name)+"::pg_catalog.text)")
		}
	}
	if len(spots) == 0 {
		return nil
	}
	slices.Sort(spots)
	rows, err := q(ctx, "WITH RECURSIVE spot(nsp, rel) AS (VALUES "+strings.Join(slices.Compact(spots), ", ")+")"+aroundSQL)
	if err != nil {
		return err
	}
	c.around = map[Name][]Name{}
	for _, row := range rows {
		kind, body, err := twoCells(row)
		if err == nil {
			err = decodeFact(body, func(f *aroundFact) { c.addAround(kind, f) })
		}
		if err != nil {
			return fmt.Errorf("decode what is around a blind spot: %w", err)
		}
	}
	return nil
}

func (c *Catalog) addAround(kind string, f *aroundFact) {
	name := Name{f.Schema, f.Name}
	if kind == "around" {
		c.around[name] = append(c.around[name], Name{f.BySchema, f.By})
		return
	}
	for i := range c.blind {
		if s := &c.blind[i]; s.known() && s.name() == name && slices.Contains(s.Columns, f.Column) {
			s.Derived = true
		}
	}
}
