package blindspots

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// table looks at a ruled table itself, and at what holds its rows.
func (w *world) table(t *rules.Table) {
	r := w.byOID[t.OID]
	if r == nil {
		return
	}
	object := "table " + t.Name.String()
	if len(r.Rules) > 0 {
		w.say(t, cachesync.Finding{
			Severity: cachesync.Warning, Subject: "rewrite rule", Object: object,
			Problem: fmt.Sprintf("%s has rewrite rules (%s), beside which nothing can be captured", t.Name, list(r.Rules)),
			Loss:    "nothing stale is served, but every write of it makes every entry of the rule absent", Fix: dropRules(r),
		})
	}
	w.rowSecurity(t, r, object)
	w.children(t, object)
	w.unlogged(t, r, object)
	for _, u := range w.uniques {
		if u.Rel == t.OID && slices.ContainsFunc(u.Cols, func(c string) bool { return isKey(t, c) }) {
			w.say(t, cachesync.Finding{
				Severity: cachesync.Info, Subject: "deferrable constraint", Object: "constraint " + u.Name + " on " + t.Name.String(),
				Problem: fmt.Sprintf("%s (%s) is deferrable: inside a transaction two rows may hold one key", u.Name, list(u.Cols)),
				Loss:    "no key may rely on it; those that payloads are written to rely on another unique index, which was checked",
				Fix:     fmt.Sprintf("ALTER TABLE %s DROP CONSTRAINT %s; and add it again without DEFERRABLE, if nothing needs it", sqlName(r), ident(u.Name)),
			})
		}
	}
	for _, s := range w.subs {
		if w.rows(t, s.Rel) {
			w.say(t, cachesync.Finding{
				Severity: cachesync.Warning, Subject: "subscription", Object: "subscription " + s.Name,
				Problem: fmt.Sprintf("logical replication writes %s: what it applies comes through no driver", w.byOID[s.Rel].name()),
				Loss:    stale, Fix: "write through this driver on the publisher's side with a cache of its own, shorten the rule's ttl, or leave the table out of the subscription",
			})
		}
	}
}

func dropRules(r *relation) string {
	var b strings.Builder
	for _, name := range r.Rules {
		fmt.Fprintf(&b, "DROP RULE %s ON %s;\n", ident(name), sqlName(r))
	}
	return "if nothing needs them:\n" + b.String()
}

func (w *world) rowSecurity(t *rules.Table, r *relation, object string) {
	if !r.RowSecurity {
		return
	}
	f := cachesync.Finding{
		Severity: cachesync.Warning, Subject: "row security", Object: object,
		Problem: fmt.Sprintf("%s has row-level security", t.Name),
		Loss:    "Redis holds one entry for all roles: a role that a policy keeps from a row is served it, where another role has read or written it",
		Fix:     "keep rows that are secret between the roles that read through the cache out of it: no rule for this table, or one role for all readers",
	}
	if w.access.rights[t.OID].Secured {
		f.Problem += ", which is in force for this role"
		f.Loss += "; and writes of this role that do not pin every key by value make every entry of the rule absent"
	}
	w.say(t, f)
}

// children looks at partitions and at inheritance.
func (w *world) children(t *rules.Table, object string) {
	var partitions int
	var plain, foreign, ancestors []string
	for oid, h := range w.reach[t] {
		r := w.byOID[oid]
		switch {
		case r == nil:
		case h == above:
			ancestors = append(ancestors, r.name().String())
		case h != below:
		case r.Detaching:
			w.say(t, cachesync.Finding{
				Severity: cachesync.Warning, Subject: "partition", Object: "table " + r.name().String(),
				Problem: fmt.Sprintf("%s is being detached (DETACH PARTITION … CONCURRENTLY that has not ended)", r.name()),
				Loss:    "rows of it are no longer those of " + t.Name.String() + ", and their entries stay until the TTL ends",
				Fix:     fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s FINALIZE", sqlName(w.byOID[t.OID]), sqlName(r)),
			})
		case r.Kind == "f":
			foreign = append(foreign, r.name().String())
		case r.Partition:
			partitions++
		default:
			plain = append(plain, r.name().String())
		}
	}
	w.sayChildren(t, object, partitions, plain, foreign)
	if len(ancestors) > 0 {
		slices.Sort(ancestors)
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "ancestor", Object: object,
			Problem: fmt.Sprintf("%s is a part of %s: a statement on that may write its rows", t.Name, list(ancestors)),
			Loss:    coarse, Fix: "if programs write the whole table, rule it instead: table: " + ancestors[len(ancestors)-1],
		})
	}
}

func (w *world) sayChildren(t *rules.Table, object string, partitions int, plain, foreign []string) {
	slices.Sort(plain)
	slices.Sort(foreign)
	if len(foreign) > 0 {
		w.say(t, cachesync.Finding{
			Severity: cachesync.Warning, Subject: "foreign table", Object: object,
			Problem: fmt.Sprintf("rows of %s are on other servers (%s), where others may write them", t.Name, list(foreign)),
			Loss:    "what is written there is not seen: " + stale + "; and every write of the table through this driver makes every entry of the rule absent",
			Fix:     "leave the table without a rule, or rule its local children alone",
		})
	}
	if partitions > 0 {
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "partition", Object: object,
			Problem: fmt.Sprintf("%s has %d partitions; writes of them by name are followed, and ATTACH, DETACH and DROP through this driver too", t.Name, partitions),
			Loss:    "what another program attaches, detaches or drops (a maintenance job) changes which rows there are, unseen, until the TTL ends",
			Fix:     "run such maintenance through this driver, or with psql when entries may be old for their TTL",
		})
	}
	if len(plain) > 0 {
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "inheritance", Object: object,
			Problem: fmt.Sprintf("%s has inheritance children (%s); writes of them are followed", t.Name, list(plain)),
			Loss:    "no unique index spans parent and children: rows of both with one key would share an entry", Fix: "keep their keys apart, by one sequence or by a CHECK on each",
		})
	}
}

func (w *world) unlogged(t *rules.Table, r *relation, object string) {
	if r.Persistence == "u" {
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "replica identity", Object: object,
			Problem: t.Name.String() + " is unlogged: it is empty after a crash, and no replica or follower of the WAL sees it",
			Loss:    "after a crash of Postgres its entries stay until the TTL ends, for rows that are gone", Fix: "ALTER TABLE " + sqlName(r) + " SET LOGGED",
		})
	}
}

// identities looks at what a follower of the WAL would need, and says it once for all tables.
func (w *world) identities() {
	var tables, places, lacks, fixes []string
	for _, t := range w.set.Tables {
		r := w.byOID[t.OID]
		if r == nil || r.Persistence == "u" || r.Identity == "f" {
			continue
		}
		var missing []string
		for _, k := range t.KeyColumns {
			if !slices.Contains(r.IdentityCols, k.Name) {
				missing = append(missing, k.Name)
			}
		}
		if len(missing) > 0 {
			tables, places = append(tables, t.Name.String()), append(places, t.Rule.Pos.String())
			lacks = append(lacks, "that of "+t.Name.String()+" does not hold "+list(missing))
			fixes = append(fixes, "ALTER TABLE "+sqlName(r)+" REPLICA IDENTITY FULL;")
		}
	}
	if len(tables) == 0 {
		return
	}
	w.say(w.set.Tables[0], cachesync.Finding{
		Severity: cachesync.Info, Subject: "replica identity", Object: "table " + list(tables), Where: list(places),
		Problem: "replica identities lack columns that keys are made of: " + strings.Join(lacks, "; "),
		Loss:    "nothing today; something that follows the WAL would not know the old key of a row that is deleted or changes it",
		Fix:     "before such a follower is used (or USING INDEX, of a unique index that holds them):\n" + strings.Join(fixes, "\n"),
	})
}

// ways looks at views and rules that lead to the table, and how statements on them are followed.
func (w *world) ways(t *rules.Table) {
	for _, oid := range sorted(w.reach[t]) {
		r := w.byOID[oid]
		if r == nil || w.reach[t][oid] != over {
			continue
		}
		if r.Kind == "v" {
			w.view(t, r)
			continue
		}
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "rewrite rule", Object: "table " + r.name().String(),
			Problem: fmt.Sprintf("rewrite rules of %s (%s) name %s", r.name(), list(r.Rules), t.Name), Loss: coarse, Fix: dropRules(r),
		})
	}
}

// updatable are the bits of pg_relation_is_updatable for UPDATE, INSERT and DELETE.
const updatable = 1<<2 | 1<<3 | 1<<4

func (w *world) view(t *rules.Table, r *relation) {
	for _, via := range t.Rule.Via {
		if via.Table == r.Name && (via.Schema == r.Schema || via.Schema == "" && r.Schema == "public") {
			return
		}
	}
	var instead []string
	for _, g := range w.facts.triggers {
		if g.Rel == r.OID && g.timing() == "INSTEAD OF" {
			instead = append(instead, g.Name)
		}
	}
	f := cachesync.Finding{Severity: cachesync.Info, Object: "view " + r.name().String(), Loss: coarse}
	switch {
	case len(instead) > 0:
		f.Subject, f.Fix = "instead-of trigger", "write the table itself where that costs too much"
		f.Problem = fmt.Sprintf("a statement on the view %s, which is over %s and whose INSTEAD OF triggers (%s) decide what is written, counts as a write of that", r.name(), t.Name, list(instead))
	case len(r.Rules) > 0:
		f.Subject, f.Fix = "rewrite rule", dropRules(r)
		f.Problem = fmt.Sprintf("a statement on the view %s, which is over %s and whose rewrite rules (%s) decide what is written, counts as a write of that", r.name(), t.Name, list(r.Rules))
	case w.access.Updatable[r.OID]&updatable != 0:
		f.Subject = "view"
		f.Problem = fmt.Sprintf("%s may be written through the view %s, which the rule does not name", t.Name, r.name())
		f.Fix = "where it is a plain view of the table that shows the entries' columns, name it in the rule, and its writes are precise:\nvia: [" +
			strings.Join(append(names(t.Rule.Via), r.name().String()), ", ") + "]"
	default:
		return // nothing can be written through it
	}
	w.say(t, f)
}

// foreignKeys looks at those that change rows of the table, by themselves or through further ones.
func (w *world) foreignKeys(t *rules.Table) {
	for _, k := range w.keys {
		h := w.reach[t][k.Rel]
		r, from := w.byOID[k.Ref], w.byOID[k.Rel]
		if h == above || h == over || r == nil || from == nil || k.Cloned && w.parentLeads(k.Rel, t) {
			continue
		}
		deletes := k.childVerb() != 0 && w.cascades(k, k.childVerb(), t)
		updates := actions[k.Update] != "" && w.cascades(k, onUpdate, t)
		if !deletes && !updates {
			continue
		}
		w.say(t, cachesync.Finding{
			Severity: cachesync.Info, Subject: "cascade", Object: fmt.Sprintf("foreign key %s of %s", k.Name, from.name()),
			Problem: fmt.Sprintf("%s of %s changes rows of %s%s", k.deeds(deletes, updates), r.name(), from.name(), onTo(from, t)),
			Loss:    coarse + "; by another program or from inside a function, " + stale,
			Fix:     "nothing, where it is rare; else delete the rows by statements of your own on " + t.Name.String() + " first, and let the key be NO ACTION",
		})
	}
}

// cascades says that such a write of the key's own rows is one of the ruled table's rows, or leads there by foreign keys alone.
func (w *world) cascades(k foreignKey, verb int, t *rules.Table) bool {
	r := w.byOID[k.Rel]
	if lead := w.leads[k.Rel][t][verb]; !k.meets(lead, verb) {
		return false
	}
	for r != nil {
		if w.rows(t, r.OID) {
			return true
		}
		lead, known := w.leads[r.OID][t][verb]
		if !known || lead.calls != nil {
			return false
		}
		r, verb = lead.next, lead.verb
	}
	return false
}

func (w *world) parentLeads(child uint32, t *rules.Table) bool {
	return slices.ContainsFunc(w.inherits, func(i inheritance) bool {
		return i.Child == child && (w.reach[t][i.Parent] == itself || w.reach[t][i.Parent] == below || w.reach[t][i.Parent] == 0 && len(w.leads[i.Parent][t]) > 0)
	})
}

func onTo(from *relation, t *rules.Table) string {
	if from.OID == t.OID {
		return ""
	}
	return ", and these change rows of " + t.Name.String()
}

var actions = map[string]string{"c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}

func (k foreignKey) deeds(deletes, updates bool) string {
	var deeds []string
	if deletes {
		deeds = append(deeds, "a DELETE (ON DELETE "+actions[k.Delete]+")")
	}
	if updates {
		deeds = append(deeds, "an UPDATE of the key (ON UPDATE "+actions[k.Update]+")")
	}
	return strings.Join(deeds, " or ")
}

func isKey(t *rules.Table, column string) bool {
	return slices.ContainsFunc(t.KeyColumns, func(k rules.KeyColumn) bool { return k.Name == column })
}
