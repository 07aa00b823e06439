package blindspots

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

func bodyOf(f *routine) *parser.Body {
	switch f.Lang {
	case "sql":
		return parser.ReadSQLBody(f.Source)
	case "plpgsql":
		return parser.ReadBody(f.Source, false)
	}
	// Of another language only the strings matter, and what a string is differs: all of it is read as one.
	flat := strings.NewReplacer("'", " ", `"`, " ", "`", " ", "$", " ").Replace(f.Source)
	return parser.ReadBody("'"+flat+"'", true)
}

// spread finds out which writes lead to a ruled table, and which functions make them, until nothing
// more is found: a function may write a table whose trigger calls a function, and so on.
func (w *world) spread() {
	w.leads, w.effects = map[uint32]map[*rules.Table]step{}, map[*routine]map[*rules.Table]step{}
	for _, t := range w.set.Tables {
		for oid := range w.reach[t] {
			w.lead(oid, t, step{certain: true})
		}
	}
	for changed := true; changed; {
		changed = w.spreadKeys()
		for _, f := range w.facts.routines {
			changed = w.spreadRoutine(f) || changed
		}
		changed = w.spreadTriggers() || changed
	}
}

// lead notes that a write of the relation leads to the table.
func (w *world) lead(oid uint32, t *rules.Table, s step) bool {
	if _, known := w.leads[oid][t]; known {
		return false
	}
	if w.leads[oid] == nil {
		w.leads[oid] = map[*rules.Table]step{}
	}
	w.leads[oid][t] = s
	return true
}

func (w *world) effect(f *routine, t *rules.Table, s step) bool {
	if _, known := w.effects[f][t]; known {
		return false
	}
	if w.effects[f] == nil {
		w.effects[f] = map[*rules.Table]step{}
	}
	w.effects[f][t] = s
	return true
}

func (w *world) spreadKeys() (changed bool) {
	for _, k := range w.keys {
		for _, t := range w.set.Tables {
			lead, known := w.leads[k.Rel][t]
			if h := w.reach[t][k.Rel]; known && h != above && h != over {
				changed = w.lead(k.Ref, t, step{text: "foreign key " + k.Name, certain: lead.certain, next: w.byOID[k.Rel]}) || changed
			}
		}
	}
	return changed
}

func (w *world) spreadTriggers() (changed bool) {
	for _, g := range w.facts.triggers {
		f := w.byFn[g.Fn]
		for t, e := range w.effects[f] {
			changed = w.lead(g.Rel, t, step{text: fmt.Sprintf("trigger %s", g.Name), certain: e.certain, calls: f}) || changed
		}
	}
	return changed
}

func (w *world) spreadRoutine(f *routine) (changed bool) {
	body := w.bodies[f]
	for _, wr := range body.Writes {
		for _, r := range w.resolve(f, wr.Relation) {
			for t, lead := range w.leads[r.OID] {
				if wr.Verb == "ALTER" && !w.rows(t, r.OID) {
					continue
				}
				changed = w.effect(f, t, step{
					text: fmt.Sprintf("line %d: %s %s", wr.Line, wr.Verb, r.name()), certain: lead.certain && !wr.Dynamic && f.readable(),
					direct: true, next: r,
				}) || changed
			}
		}
	}
	changed = w.spreadMentions(f) || changed
	for _, call := range body.Calls {
		for _, g := range w.called(f, call) {
			for t, e := range w.effects[g] {
				if g != f {
					changed = w.effect(f, t, step{text: "it calls " + g.String(), certain: e.certain, calls: g}) || changed
				}
			}
		}
	}
	return changed
}

// spreadMentions takes a body that runs SQL of which the table does not show for one that writes those
// which it names in a string.
func (w *world) spreadMentions(f *routine) (changed bool) {
	body := w.bodies[f]
	if !body.Unknown {
		return false
	}
	for _, t := range w.set.Tables {
		for oid := range w.reach[t] {
			r := w.byOID[oid]
			if r == nil || !w.rows(t, oid) {
				continue
			}
			if _, text := body.Mentions(r.Name); text && slices.Contains(w.resolve(f, parser.Relation{Name: r.Name}), r) {
				changed = w.effect(f, t, step{text: "it runs SQL that it puts together, and names " + r.name().String() + " in a string", direct: true, next: r}) || changed
			}
		}
	}
	return changed
}

// readable says that statements were told from other text.
func (f *routine) readable() bool { return f.Lang == "sql" || f.Lang == "plpgsql" }

// route tells a function's way to the table: "line 3: INSERT public.log, trigger on_log, …".
func (w *world) route(f *routine, t *rules.Table) string {
	var parts []string
	for seen := map[*routine]bool{}; f != nil && !seen[f]; {
		seen[f] = true
		e := w.effects[f][t]
		parts = append(parts, e.text)
		if e.calls != nil {
			f = e.calls
			continue
		}
		f = nil
		var more []string
		if more, f = w.onward(e.next, t); len(more) > 0 {
			parts = append(parts, more...)
		}
	}
	return strings.Join(parts, "; ")
}

// onward tells how a write of a relation leads on, up to the next function.
func (w *world) onward(r *relation, t *rules.Table) (parts []string, f *routine) {
	for r != nil {
		lead := w.leads[r.OID][t]
		if lead.text == "" {
			return parts, nil
		}
		parts = append(parts, "then "+lead.text)
		if lead.calls != nil {
			return parts, lead.calls
		}
		r = lead.next
	}
	return parts, nil
}

// certain says whether all of a function's way is shown by its text.
func (w *world) certain(f *routine, t *rules.Table) bool { return w.effects[f][t].certain }
