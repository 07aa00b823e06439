package blindspots

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// triggers looks at those on the table, and at those elsewhere whose functions write it.
func (w *world) triggers(t *rules.Table) {
	var befores, afters []string
	for _, g := range w.facts.triggers {
		r := w.byOID[g.Rel]
		if r == nil {
			continue
		}
		if w.rows(t, g.Rel) && g.Type&(onInsert|onUpdate|onDelete) != 0 {
			switch g.timing() {
			case "BEFORE":
				befores = append(befores, g.Name)
			case "AFTER":
				afters = append(afters, g.Name)
			}
		}
		if _, writes := w.effects[w.byFn[g.Fn]][t]; writes {
			w.trigger(t, r, g)
		}
	}
	object := "table " + t.Name.String()
	if len(befores) > 0 {
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "before trigger", Object: object,
			Problem: fmt.Sprintf("%s has BEFORE triggers (%s); what they make of a row is captured", t.Name, list(unique(befores))),
			Loss:    "nothing; keys are not known before a statement has run, so that its locks are held while Redis is asked",
		})
	}
	if len(afters) > 0 {
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "after trigger", Object: object,
			Problem: fmt.Sprintf("%s has AFTER triggers (%s), which may change a row after it was captured", t.Name, list(unique(afters))),
			Loss:    "nothing; a write makes the row's entries absent instead of storing the new ones, and the next reader fills them",
		})
	}
}

// trigger is one whose function writes the table, as far as its text shows.
func (w *world) trigger(t *rules.Table, r *relation, g trigger) {
	fn := w.byFn[g.Fn]
	f := cachesync.Finding{
		Severity: cachesync.Warning, Subject: "trigger", Object: fmt.Sprintf("trigger %s on %s", g.Name, r.name()),
		Problem: fmt.Sprintf("%s %s %s (%s)", fn, w.may(fn, t), t.Name, w.route(fn, t)), Loss: stale,
		Fix: "let the program write " + t.Name.String() + " in a statement of its own instead, or shorten the rule's ttl",
	}
	if g.Deferred {
		f.Problem += "; it is deferred, and runs at COMMIT"
	}
	switch h := w.reach[t][r.OID]; {
	case w.rows(t, r.OID) && w.own(t, r):
		f.Problem = "at each write of it, " + f.Problem
		f.Loss = "nothing stale is served, but every write of " + r.name().String() + " makes every entry of the rule absent, since the further rows are not known"
		f.Fix = "assign NEW.column in a BEFORE trigger instead of an UPDATE of the same row; or write the further rows in a statement of your own"
	case h == above || h == over:
		f.Severity, f.Loss, f.Fix = cachesync.Info, coarse, ""
	default:
		f.Loss = fmt.Sprintf("a write of %s changes rows of %s unseen: %s", r.name(), t.Name, stale)
		w.spare(fn, t, &f)
	}
	w.say(t, f)
}

// spare makes a note of what only adds rows.
func (w *world) spare(f *routine, t *rules.Table, said *cachesync.Finding) {
	if w.effects[f][t].adds {
		said.Severity, said.Fix = cachesync.Info, ""
		said.Loss = "nothing: it only adds rows, whose keys have no entries (no negative_ttl, no invalidate keys)"
	}
}

// may tells what is shown from what is only mentioned.
func (w *world) may(f *routine, t *rules.Table) string {
	if w.certain(f, t) {
		return "writes"
	}
	return "mentions, and may write,"
}

// routines looks at functions that programs call, and at event triggers.
func (w *world) routines(t *rules.Table) {
	for _, f := range w.facts.routines {
		e, writes := w.effects[f][t]
		if !writes || f.Returns != "" || !e.direct {
			continue
		}
		kind := "function"
		if f.Procedure {
			kind = "procedure"
		}
		problem := fmt.Sprintf("it %s %s (%s)", w.may(f, t), t.Name, w.route(f, t))
		if callers := w.callers(f, t); len(callers) > 0 {
			problem += "; it is called by " + list(callers)
		}
		said := cachesync.Finding{
			Severity: cachesync.Warning, Subject: kind, Object: f.String(), Problem: problem,
			Loss: "what it writes is not seen, also where it is called through this driver: " + stale,
			Fix:  "run its statements from the program through this driver, or shorten the rule's ttl",
		}
		w.spare(f, t, &said)
		w.say(t, said)
	}
	for _, v := range w.events {
		f := w.byFn[v.Fn]
		if _, writes := w.effects[f][t]; !writes {
			continue
		}
		w.say(t, cachesync.Finding{
			Severity: cachesync.Warning, Subject: "event trigger", Object: "event trigger " + v.Name,
			Problem: fmt.Sprintf("at %s, %s %s %s (%s)", v.Event, f, w.may(f, t), t.Name, w.route(f, t)),
			Loss:    "a change of the schema, by whomever, writes rows unseen: " + stale, Fix: "ALTER EVENT TRIGGER " + ident(v.Name) + " DISABLE, if nothing needs it",
		})
	}
}

// callers are the functions that write the table only by calling f, at any distance.
func (w *world) callers(f *routine, t *rules.Table) []string {
	if w.calledBy[t] == nil {
		by := map[*routine][]*routine{}
		for _, g := range w.facts.routines {
			if e := w.effects[g][t]; e.calls != nil {
				by[e.calls] = append(by[e.calls], g)
			}
		}
		w.calledBy[t] = by
	}
	var callers []string
	seen := map[*routine]bool{f: true}
	for queue := []*routine{f}; len(queue) > 0; queue = queue[1:] {
		for _, g := range w.calledBy[t][queue[0]] {
			if !seen[g] {
				seen[g] = true
				callers, queue = append(callers, g.String()), append(queue, g)
			}
		}
	}
	return unique(callers)
}

func unique(all []string) []string {
	all = slices.Clone(all)
	slices.Sort(all)
	return slices.Compact(all)
}

const maxListed = 8

func list(all []string) string {
	if len(all) > maxListed {
		return fmt.Sprintf("%s and %d more", strings.Join(all[:maxListed], ", "), len(all)-maxListed)
	}
	return strings.Join(all, ", ")
}

func names(all []rules.Name) []string {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = n.String()
	}
	return texts
}

func sorted(reach map[uint32]how) []uint32 {
	oids := make([]uint32, 0, len(reach))
	for oid := range reach {
		oids = append(oids, oid)
	}
	slices.Sort(oids)
	return oids
}

// ident quotes an identifier where it has to be.
func ident(s string) string {
	plain := s != ""
	for i := range len(s) {
		c := s[i]
		plain = plain && (c >= 'a' && c <= 'z' || c == '_' || i > 0 && c >= '0' && c <= '9')
	}
	if plain && !reserved[s] {
		return s
	}
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

func sqlName(r *relation) string { return ident(r.Schema) + "." + ident(r.Name) }

// reserved are the words that are no names without quotes.
var reserved = func() map[string]bool {
	set := map[string]bool{}
	for word := range strings.FieldsSeq(`all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation column
concurrently constraint create cross current_catalog current_date current_role current_schema current_time current_timestamp current_user
default deferrable desc distinct do else end except false fetch for foreign freeze from full grant group having ilike in initially inner
intersect into is isnull join lateral leading left like limit localtime localtimestamp natural not notnull null offset on only or order
outer overlaps placing primary references returning right select session_user similar some symmetric system_user table tablesample then to trailing
true union unique user using variadic verbose when where window with`) {
		set[word] = true
	}
	return set
}()
