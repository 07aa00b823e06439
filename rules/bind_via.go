package rules

import (
	"fmt"
	"slices"
	"strings"
)

// updatableAll are the bits of pg_relation_is_updatable for UPDATE, INSERT and DELETE.
const updatableAll = 1<<2 | 1<<3 | 1<<4

// via checks a view of the rule: writes through it must be writes of the table's rows,
// and RETURNING must give the table's columns.
func (b *binder) via(t *Table, name Name, at Pos) {
	rel := b.cat.byName[name]
	switch {
	case rel == nil:
		fix := "create it, or write the name as stored (schema.view)"
		if near := b.cat.suggest(name); len(near) > 0 {
			fix = "did you mean " + strings.Join(near, " or ") + "?"
		}
		b.fault(at, "view "+name.String()+" does not exist", fix)
	case rel.Kind != "v":
		b.fault(at, name.String()+" is no view", "via takes automatically updatable views of the table")
	case !b.cat.reached(t.OID, rel.OID):
		b.fault(at, fmt.Sprintf("view %s is not over %s", name, t.Name), "name it in the rule of its own table, or remove it")
	case rel.Updatable&updatableAll != updatableAll || rel.Rules > 0 || slices.ContainsFunc(rel.triggers, trigger.instead):
		b.fault(at, fmt.Sprintf("view %s is not automatically updatable (it joins, groups, limits, or has rules or INSTEAD OF triggers)", name),
			"remove it: writes through it make every entry of the rule absent")
	case !b.cat.isOver(rel, t.relation):
		b.fault(at, fmt.Sprintf("view %s does not write the rows of %s", name, t.Name), "name it in the rule of the table that it writes, or remove it")
	default:
		b.viaColumns(t, rel, at)
	}
}

// viaColumns checks that a view shows every column that a capture reads.
func (b *binder) viaColumns(t *Table, view *relation, at Pos) {
	var missing []string
	need := func(name string) {
		if !b.cat.shows(view, t.relation, name) && !slices.Contains(missing, name) {
			missing = append(missing, name)
		}
	}
	for _, k := range t.KeyColumns {
		need(k.Name)
	}
	for _, e := range t.Entries {
		for _, name := range e.projection.needed {
			need(name)
		}
	}
	if len(missing) > 0 {
		b.fault(at, fmt.Sprintf("view %s does not show %s of %s under the same name", view.name(), list(missing), t.Name),
			"add the columns to the view, leave them out of the payload with omit, or remove the view from via")
		return
	}
	t.views[view.OID] = true
}

func (c *Catalog) reached(root, oid uint32) bool {
	return slices.ContainsFunc(c.reaches, func(r reach) bool { return r.Root == root && r.OID == oid })
}

// triggers notes which triggers fire when the table's rows are written.
func (b *binder) triggers(t *Table) {
	for _, r := range b.cat.reaches {
		rel := b.cat.relations[r.OID]
		if r.Root != t.OID || rel == nil || (r.How != reachSelf && r.How != reachDown) {
			continue
		}
		for _, g := range rel.triggers {
			t.BeforeTriggers = t.BeforeTriggers || g.before()
			t.AfterTriggers = t.AfterTriggers || g.after()
		}
	}
}
