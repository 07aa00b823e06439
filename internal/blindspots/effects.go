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
	w.leads, w.effects = map[uint32]map[*rules.Table]map[int]step{}, map[*routine]map[*rules.Table]step{}
	for _, t := range w.set.Tables {
		for oid := range w.reach[t] {
			for _, verb := range verbs {
				w.lead(oid, t, verb, step{certain: true})
			}
		}
	}
	keys, routines := slices.Clone(w.keys), slices.Clone(w.facts.routines)
	for changed := true; changed; {
		changed = w.spreadKeys(keys)
		for _, f := range routines {
			changed = w.spreadRoutine(f) || changed
		}
		changed = w.spreadTriggers() || changed
		// To and fro: a long chain against the order of the catalogue would take as many rounds as it has links.
		slices.Reverse(keys)
		slices.Reverse(routines)
	}
}

var verbs = []int{onInsert, onUpdate, onDelete, onTruncate}

// led says that nothing is new in a write of the relation that leads to the table.
func (w *world) led(oid uint32, t *rules.Table, verb int, adds bool) bool {
	old, known := w.leads[oid][t][verb]
	return known && (!old.adds || adds)
}

// lead notes that a write of the relation leads to the table.
func (w *world) lead(oid uint32, t *rules.Table, verb int, s step) bool {
	if w.led(oid, t, verb, s.adds) {
		return false
	}
	if w.leads[oid] == nil {
		w.leads[oid] = map[*rules.Table]map[int]step{}
	}
	if w.leads[oid][t] == nil {
		w.leads[oid][t] = map[int]step{}
	}
	w.leads[oid][t][verb] = s
	return true
}

// verbsOf are the bits of what a statement may do to its relation's rows.
func verbsOf(wr parser.BodyWrite) int {
	switch {
	case wr.Mixed:
		return onInsert | onUpdate | onDelete
	case wr.Upsert:
		return onInsert | onUpdate
	}
	switch wr.Verb {
	case "INSERT", "COPY":
		return onInsert
	case "UPDATE":
		return onUpdate
	case "DELETE":
		return onDelete
	case "TRUNCATE", "DROP", "ALTER":
		return onTruncate
	}
	return onInsert | onUpdate | onDelete | onTruncate
}

// affects says that nothing is new in a function's writing the table: what changes rows is worse than what adds some.
func (w *world) affects(f *routine, t *rules.Table, adds bool) bool {
	old, known := w.effects[f][t]
	return known && (!old.adds || adds)
}

func (w *world) effect(f *routine, t *rules.Table, s step) bool {
	if w.affects(f, t, s.adds) {
		return false
	}
	if w.effects[f] == nil {
		w.effects[f] = map[*rules.Table]step{}
	}
	w.effects[f][t] = s
	return true
}

func (w *world) spreadKeys(keys []foreignKey) (changed bool) {
	for _, k := range keys {
		for t, leads := range w.leads[k.Rel] {
			if h := w.reach[t][k.Rel]; h == above || h == over {
				continue
			}
			if lead, ok := leads[k.childVerb()]; ok && !w.led(k.Ref, t, onDelete, false) && k.meets(lead, k.childVerb()) {
				changed = w.lead(k.Ref, t, onDelete, w.keyStep(k, lead, k.childVerb(), nil)) || changed
			}
			if lead, ok := leads[onUpdate]; ok && actions[k.Update] != "" && !w.led(k.Ref, t, onUpdate, false) && k.meets(lead, onUpdate) {
				changed = w.lead(k.Ref, t, onUpdate, w.keyStep(k, lead, onUpdate, k.RefCols)) || changed
			}
		}
	}
	return changed
}

func (w *world) keyStep(k foreignKey, lead step, verb int, columns []string) step {
	return step{text: "foreign key " + k.Name, certain: lead.certain, next: w.byOID[k.Rel], verb: verb, columns: columns}
}

// meets says that what the key does to its own table's rows leads on: an UPDATE that goes on by a further key has to change
// that key's columns.
func (k foreignKey) meets(lead step, verb int) bool {
	return verb != onUpdate || lead.columns == nil || slices.ContainsFunc(k.Cols, func(c string) bool { return slices.Contains(lead.columns, c) })
}

// childVerb is what the key does to its own table's rows when the referenced row is deleted; 0 for nothing.
func (k foreignKey) childVerb() int {
	switch k.Delete {
	case "c":
		return onDelete
	case "n", "d":
		return onUpdate
	}
	return 0
}

func (w *world) spreadTriggers() (changed bool) {
	for _, g := range w.facts.triggers {
		f := w.byFn[g.Fn]
		for t, e := range w.effects[f] {
			for _, verb := range verbs {
				if g.Type&verb != 0 && !w.led(g.Rel, t, verb, e.adds) {
					changed = w.lead(g.Rel, t, verb, step{text: fmt.Sprintf("trigger %s", g.Name), certain: e.certain, calls: f, adds: e.adds}) || changed
				}
			}
		}
	}
	return changed
}

func (w *world) spreadRoutine(f *routine) (changed bool) {
	body := w.bodies[f]
	for _, wr := range body.Writes {
		for _, r := range w.resolve(f, wr.Relation) {
			changed = w.spreadWrite(f, wr, r) || changed
		}
	}
	changed = w.spreadMentions(f) || changed
	for _, call := range body.Calls {
		for _, g := range w.called(f, call) {
			if g == f {
				continue
			}
			for t, e := range w.effects[g] {
				if !w.affects(f, t, e.adds) {
					changed = w.effect(f, t, step{text: "it calls " + g.String(), certain: e.certain, calls: g, adds: e.adds}) || changed
				}
			}
		}
	}
	return changed
}

// spreadWrite is one statement of a body, on one relation that it may mean.
func (w *world) spreadWrite(f *routine, wr parser.BodyWrite, r *relation) (changed bool) {
	for t, leads := range w.leads[r.OID] {
		for _, verb := range verbs {
			lead, known := leads[verb]
			switch {
			case !known || verbsOf(wr)&verb == 0 || w.affects(f, t, false):
				continue
			case wr.Verb == "ALTER" && !w.rows(t, r.OID):
				continue
			case lead.columns != nil && wr.Assigned != nil && !slices.ContainsFunc(wr.Assigned, func(c string) bool { return slices.Contains(lead.columns, c) }):
				continue // it does not assign the key
			}
			changed = w.effect(f, t, step{
				text: fmt.Sprintf("line %d: %s %s", wr.Line, wr.Verb, r.name()), certain: lead.certain && !wr.Dynamic && f.readable(),
				direct: true, next: r, verb: verb, adds: lead.adds || lead.text == "" && w.adds(t, r, wr),
			}) || changed
		}
	}
	return changed
}

// adds says that a statement only inserts rows of the table, and that nothing is cached for what was not there.
func (w *world) adds(t *rules.Table, r *relation, wr parser.BodyWrite) bool {
	return verbsOf(wr) == onInsert && !wr.Dynamic && w.rows(t, r.OID) && len(t.Shared) == 0 && t.Rule.NegativeTTL == 0
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
				changed = w.effect(f, t, step{text: "it runs SQL that it puts together, and names " + r.name().String() + " in a string", direct: true, next: r, verb: onUpdate}) || changed
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
		if more, f = w.onward(e.next, t, e.verb); len(more) > 0 {
			parts = append(parts, more...)
		}
	}
	return strings.Join(parts, "; ")
}

// onward tells how a write of a relation leads on, up to the next function.
func (w *world) onward(r *relation, t *rules.Table, verb int) (parts []string, f *routine) {
	for r != nil {
		lead := w.leads[r.OID][t][verb]
		if lead.text == "" {
			return parts, nil
		}
		parts = append(parts, "then "+lead.text)
		if lead.calls != nil {
			return parts, lead.calls
		}
		r, verb = lead.next, lead.verb
	}
	return parts, nil
}

// certain says whether all of a function's way is shown by its text.
func (w *world) certain(f *routine, t *rules.Table) bool { return w.effects[f][t].certain }
