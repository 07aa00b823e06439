package draft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// table drafts the rule of a table, or says why it cannot have one.
func (d *drafter) table(r *relation) (f *File, reason string) {
	f = &File{Name: d.fileName(r), Table: r.name().String(), table: r, name: r.name()}
	usable := d.usable(r, f)
	if len(usable) == 0 {
		return nil, noKey(f)
	}
	d.omit(f)
	f.when = softDelete(r)
	label := d.labels[r.OID]
	// Where keys of the table could meet, as name "email:x" and email "x" of
	// "user:{name}" and "user:email:{email}", the first one says its columns too. Where they could meet
	// a key of an existing rule, they say their schema.
	for _, attempt := range []struct {
		label string
		bare  bool
	}{{label, true}, {label, false}, {word(r.Schema) + "." + word(r.Name), false}} {
		f.Entries = entries(attempt.label, attempt.bare, usable)
		rule := f.bindable(nil)
		set, faults := d.bind(rule)
		if len(faults) == 0 {
			f.rule = rule
			f.Notes = d.notes(r, set.Tables[0])
			d.via(f)
			f.Text = f.render()
			return f, ""
		}
		reason = faults[0].Problem
	}
	return nil, reason
}

// usable gives the indexes to make entries of, the primary key first, and notes of the
// others why not.
func (d *drafter) usable(r *relation, f *File) []index {
	var fine []index
	for _, i := range r.Indexes {
		if fault := d.indexFault(r, i); fault != "" {
			f.Unkeyed = append(f.Unkeyed, Unkeyed{i.Name, i.Columns, fault})
			continue
		}
		fine = append(fine, i)
	}
	slices.SortStableFunc(fine, func(a, b index) int { return rank(r, a) - rank(r, b) })
	var kept []index
	for _, i := range fine {
		// A row that a smaller key finds needs no key of these columns and more.
		smaller := slices.IndexFunc(fine, func(o index) bool {
			return o.Name != i.Name && within(o.Columns, i.Columns) && (len(o.Columns) < len(i.Columns) || before(fine, o, i))
		})
		if smaller < 0 || i.Primary {
			kept = append(kept, i)
			continue
		}
		f.Unkeyed = append(f.Unkeyed, Unkeyed{i.Name, i.Columns, "it holds every column of " + fine[smaller].Name + ", whose key finds the row"})
	}
	return kept
}

// rank sorts keys: the primary key, then those that every row has, the shortest first.
func rank(r *relation, i index) int {
	if i.Primary {
		return 0
	}
	score := len(i.Columns)
	for _, c := range i.Columns {
		if !r.column(c).NotNull {
			score += 1000
		}
	}
	return score
}

func before(all []index, a, b index) bool {
	at := func(i index) int { return slices.IndexFunc(all, func(o index) bool { return o.Name == i.Name }) }
	return at(a) < at(b)
}

func within(some, all []string) bool {
	return !slices.ContainsFunc(some, func(c string) bool { return !slices.Contains(all, c) })
}

// indexFault says why no key is made from a unique index.
func (d *drafter) indexFault(r *relation, i index) string {
	switch {
	case i.Expr:
		return "it is over an expression, and a key is made from columns"
	case i.Partial:
		return "it is partial: outside of it rows may share the values"
	case !i.Valid:
		return "it is not valid; rebuild it with REINDEX"
	case !i.Immediate:
		return "it is deferrable: two rows may hold the values at once"
	}
	for _, c := range i.Columns {
		if isSecret(c) {
			return quoted(c) + " looks like a secret, and keys are seen in logs and tools"
		}
		if fault := d.catalog.KeyFault(r.name(), c); fault != "" {
			return fmt.Sprintf("%s (%s) cannot stand in a key: %s", quoted(c), r.column(c).Type, fault)
		}
	}
	return ""
}

// noKey is the reason for a table that has no usable index.
func noKey(f *File) string {
	if len(f.Unkeyed) == 0 {
		return "it has no primary key and no unique index"
	}
	parts := make([]string, len(f.Unkeyed))
	for i, u := range f.Unkeyed {
		parts[i] = u.Index + ": " + u.Reason
	}
	return "it has no usable unique key (" + strings.Join(parts, "; ") + ")"
}

// omit chooses the columns that do not belong into a payload.
func (d *drafter) omit(f *File) {
	for _, c := range f.table.Columns {
		reason := ""
		switch {
		case isSecret(c.Name):
			reason = "looks like a secret, and secrets do not belong in a cache"
		case c.Type == "tsvector":
			reason = "serves searches in the database, and is made from other columns"
		default:
			if reason = d.catalog.PayloadFault(f.name, c.Name); reason == "" {
				reason = d.settingFault(f.name, c.Name)
			}
		}
		if reason != "" {
			f.Omitted = append(f.Omitted, Omitted{c.Name, reason})
		}
	}
}

// notes says what about a table changes what its rule is worth.
func (d *drafter) notes(r *relation, bound *rules.Table) []string {
	var out []string
	if r.Kind == "r" && slices.ContainsFunc(d.all, func(c *relation) bool { return slices.Contains(c.Parents, r.OID) }) {
		out = append(out, "Beware: rows of the tables that inherit from it are rows of it, and no unique index spans them: the same key must never be in two.")
	}
	if bound.AfterTriggers {
		out = append(out, "The table has AFTER triggers, which may change a row again: a write makes its entries absent, and readers fill them.")
	}
	if r.RowSecurity {
		out = append(out, "Beware: "+rowSecurityNote+".")
	}
	if r.Persistence == "u" {
		out = append(out, "Beware: "+unloggedNote+".")
	}
	if r.Rules > 0 {
		out = append(out, "The table has rewrite rules: every write of it makes all entries of this rule absent.")
	}
	return out
}

// softDelete gives the condition that a table with a column such as deleted_at asks for.
func softDelete(r *relation) string {
	for _, c := range r.Columns {
		if (c.Name == "deleted_at" || c.Name == "archived_at") && !c.NotNull {
			return c.Name + " IS NULL"
		}
	}
	return ""
}

// entries makes an entry of each index. bare is for a first key without its columns' names.
func entries(label string, bare bool, usable []index) []Entry {
	out := make([]Entry, len(usable))
	taken, takenNames := map[string]bool{}, map[string]bool{}
	for n, i := range usable {
		key := label
		about := unused(strings.Join(texts(i.Columns, word), "_"), taken)
		if n > 0 || !bare {
			key += ":" + about
		}
		for _, c := range i.Columns {
			key += ":{" + quoted(c) + "}"
		}
		out[n] = Entry{Name: entryName(i.Columns, takenNames), Key: key, Index: i.Name, Columns: i.Columns, Primary: i.Primary}
	}
	return out
}

// entryName is the default that the rules' own loading would give, made fit for commands
// and metrics.
func entryName(columns []string, taken map[string]bool) string {
	const longest = 58 // of 63 bytes; a number may follow
	name := strings.Map(func(r rune) rune {
		if r < 0x80 && word(string(r)) == string(r) || r == '_' || r == '-' {
			return r
		}
		return '_'
	}, "by_"+strings.Join(columns, "_"))
	return unused(name[:min(len(name), longest)], taken)
}

// bindable gives the draft as a loaded rule, to be judged by rules.Bind.
func (f *File) bindable(via []rules.Name) *rules.Rule {
	r := &rules.Rule{Table: f.name, Via: via, Consistency: rules.Strict, Apply: rules.Sync, RedisDown: rules.Queue, Pos: rules.Pos{File: f.Name}}
	omit := texts(f.Omitted, func(o Omitted) string { return o.Column })
	for i, e := range f.Entries {
		key, err := rules.ParseTemplate(e.Key)
		if err != nil {
			continue // the proof at the end would find it
		}
		r.Entries = append(r.Entries, &rules.Entry{Name: e.Name, Key: key, Omit: omit, Format: rules.FormatEnvelope, Strategy: rules.StrategyWrite,
			TTL: rules.DefaultTTL, Jitter: rules.DefaultJitter, Path: fmt.Sprintf("entries[%d]", i)})
	}
	return r
}

func texts[T any](in []T, f func(T) string) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = f(s)
	}
	return out
}

// bind gives what Bind makes of a rule, or finds wrong with it, alone and beside each
// existing one whose keys begin alike.
func (d *drafter) bind(rule *rules.Rule) (*rules.Set, []rules.Finding) {
	set, faults, _ := rules.Bind([]*rules.Rule{rule}, d.catalog)
	for _, e := range d.o.Existing {
		if len(faults) > 0 {
			break
		}
		if e.Table == rule.Table || !mayMeet(e, rule) {
			continue
		}
		_, both, _ := rules.Bind([]*rules.Rule{e, rule}, d.catalog)
		for _, f := range both {
			if f.Pos.File == rule.Pos.File {
				faults = append(faults, f)
			}
		}
	}
	return set, faults
}

// mayMeet is a quick look that spares most pairs of rules the thorough one.
func mayMeet(a, b *rules.Rule) bool {
	for _, x := range a.Globs() {
		for _, y := range b.Globs() {
			x, y := literal(x), literal(y)
			if strings.HasPrefix(x, y) || strings.HasPrefix(y, x) {
				return true
			}
		}
	}
	return false
}

// literal is the text of a pattern before its first placeholder, without a hash tag's brace.
func literal(glob string) string {
	before, _, _ := strings.Cut(glob, "*")
	return strings.TrimLeft(before, "{")
}

// via adds the views whose writes the driver can follow.
func (d *drafter) via(f *File) {
	for _, v := range d.viewsOver(f.table) {
		if d.chosen.except[v] || v.Extension != "" {
			continue
		}
		rule := f.bindable(append(slices.Clone(f.rule.Via), v.name()))
		if _, faults := d.bind(rule); len(faults) == 0 {
			f.rule = rule
			f.Via = append(f.Via, v.name().String())
		}
	}
}

// views says of the views that no draft has taken what they are to the cache.
func (d *drafter) views() {
	for _, v := range d.all {
		if v.Kind != "v" || !d.chosen.has(v) || d.taken(v) {
			continue
		}
		if v.Extension != "" {
			d.skip(v, "it belongs to extension "+v.Extension)
			continue
		}
		d.skip(v, d.viewReason(v))
	}
}

func (d *drafter) taken(v *relation) bool {
	return slices.ContainsFunc(d.result.Files, func(f *File) bool { return slices.Contains(f.rule.Via, v.name()) })
}

// viewReason is the reason that says most: that of the table which the view writes.
func (d *drafter) viewReason(v *relation) string {
	reason := "a view has no rows of its own"
	for _, f := range d.result.Files {
		if !slices.Contains(d.viewsOver(f.table), v) {
			continue
		}
		_, faults := d.bind(f.bindable([]rules.Name{v.name()}))
		switch {
		case len(faults) == 0:
		case strings.Contains(faults[0].Problem, "does not show"):
			return faults[0].Problem + ": it is left out of via, and writes through it make every entry of the table absent"
		default:
			reason = faults[0].Problem
		}
	}
	return reason
}
