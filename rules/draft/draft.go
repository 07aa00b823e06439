// Package draft writes first rule files for the tables of a live database: a key from each
// table's primary key, further entries from its other unique keys, secrets left out, and
// comments that explain each choice. What it drafts loads and binds against the same
// database, because the driver's own judgement (rules.Bind) decides about every line.
package draft

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// Options says what to draft. The zero value drafts every table.
type Options struct {
	// Only and Except name tables, as table or schema.table: as stored, or as SQL spells
	// them. A name of Only that means no table, or several, is an error. A table that is named in Only gets
	// a rule also where the package gives none of its own accord, as long as the driver
	// can keep one.
	Only, Except []string
	// Schemas are the schemas to look at, by default all of the user's own.
	Schemas []string
	// Outbox is the schema of wtcache's own tables, which get no rule; "" is wtcache.
	Outbox string
	// Existing are rules that are there already. A table that has one in a file of another
	// name than its draft's gets none, and no drafted key meets one of theirs. Their
	// Pos.File is compared by its base name.
	Existing []*rules.Rule
}

// Result is what was drafted, and what was not.
type Result struct {
	Files   []*File   // by table
	Skipped []Skipped // by name
}

// File is the draft of one rule file. Its JSON form is that of `wtcache init --json`.
type File struct {
	Name    string      `json:"file"` // such as "users.yaml"; unique without regard to case
	Table   string      `json:"table"`
	Via     []string    `json:"via,omitempty"`
	Entries []Entry     `json:"entries"`
	Omitted []Omitted   `json:"omitted,omitempty"`
	Unkeyed []Unkeyed   `json:"unkeyed,omitempty"`
	Notes   []string    `json:"notes,omitempty"` // what else its first lines say
	Text    string      `json:"-"`               // the file, ending in a line break
	table   *relation   // what it was made from
	when    string      // a condition that may be meant
	name    rules.Name  // of the table
	rule    *rules.Rule // what was bound
}

// Entry is a drafted entry.
type Entry struct {
	Name    string   `json:"name"`
	Key     string   `json:"key"`
	Index   string   `json:"index"`   // the unique index that it comes from
	Columns []string `json:"columns"` // of the key
	Primary bool     `json:"primary"` // the index is the table's primary key
}

// Omitted is a column that a draft leaves out of the payloads.
type Omitted struct {
	Column string `json:"column"`
	Reason string `json:"reason"`
}

// Unkeyed is a unique index from which no entry was made.
type Unkeyed struct {
	Index   string   `json:"index"`
	Columns []string `json:"columns,omitempty"` // empty for an index over expressions
	Reason  string   `json:"reason"`
}

// Skipped is a relation that has no rule of its own.
type Skipped struct {
	Name   string `json:"name"` // schema.name
	Kind   string `json:"kind"` // such as "table", "partition" or "view"
	Reason string `json:"reason"`
}

// New drafts rule files from the catalogue. It sends a handful of SELECTs, which read the
// catalogue alone, and writes nothing. The error is a *NameError where Options name what is
// not there, else the server's.
func New(ctx context.Context, q rules.Querier, o Options) (*Result, error) {
	if o.Outbox == "" {
		o.Outbox = "wtcache"
	}
	all, err := relations(ctx, q)
	if err != nil {
		return nil, err
	}
	chosen, err := choose(all, o)
	if err != nil {
		return nil, err
	}
	d := &drafter{o: o, all: all, chosen: chosen, labels: labels(all, o), result: &Result{}, over: map[uint32][]*relation{}}
	if err := d.ask(ctx, q); err != nil {
		return nil, err
	}
	d.tables()
	d.views()
	slices.SortFunc(d.result.Skipped, func(a, b Skipped) int { return strings.Compare(a.Name, b.Name) })
	return d.result, d.prove()
}

// drafter holds what one call of New knows.
type drafter struct {
	o       Options
	all     []*relation
	chosen  *selection
	labels  map[uint32]string // what the keys and the file of a table begin with
	catalog *rules.Catalog
	unmet   []string // conditions on settings, which this session does not meet
	result  *Result
	over    map[uint32][]*relation // what viewsOver has found
}

// ask reads what the driver would know of the tables, with all views that may be theirs.
// The catalogue is asked for each name once: it would answer twice otherwise.
func (d *drafter) ask(ctx context.Context, q rules.Querier) error {
	var asked []*rules.Rule
	tables, views := map[rules.Name]bool{}, map[rules.Name]bool{}
	for _, e := range d.o.Existing {
		if !tables[e.Table] {
			tables[e.Table] = true
			asked = append(asked, &rules.Rule{Table: e.Table, Via: unseen(views, e.Via), Entries: e.Entries, Shared: e.Shared})
		}
	}
	for _, r := range d.all {
		if !r.isTable() || !d.chosen.has(r) {
			continue
		}
		via := unseen(views, names(d.viewsOver(r)))
		if !tables[r.name()] {
			tables[r.name()] = true
			asked = append(asked, &rules.Rule{Table: r.name(), Via: via})
		} else if i := slices.IndexFunc(asked, func(a *rules.Rule) bool { return a.Table == r.name() }); i >= 0 {
			asked[i].Via = append(asked[i].Via, via...)
		}
	}
	var err error
	if d.catalog, err = rules.LoadCatalog(ctx, q, asked); err != nil {
		return err
	}
	return d.askSettings(ctx, q)
}

// unseen gives the names that were not seen before, and notes them.
func unseen(seen map[rules.Name]bool, all []rules.Name) []rules.Name {
	var out []rules.Name
	for _, n := range all {
		if !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out
}

// viewsOver gives the views that read a relation, directly or through others.
func (d *drafter) viewsOver(base *relation) []*relation {
	if found, known := d.over[base.OID]; known {
		return found
	}
	over := map[uint32]bool{base.OID: true}
	var found []*relation
	for again := true; again; {
		again = false
		for _, v := range d.all {
			if v.Kind == "v" && !over[v.OID] && slices.ContainsFunc(v.Over, func(oid uint32) bool { return over[oid] }) {
				over[v.OID], again = true, true
				found = append(found, v)
			}
		}
	}
	d.over[base.OID] = found
	return found
}

// tables drafts the chosen tables, and says of the others why not.
func (d *drafter) tables() {
	for _, r := range d.all {
		if r.Kind == "v" || !d.chosen.has(r) {
			continue
		}
		reason := d.refusal(r)
		if reason == "" {
			var f *File
			if f, reason = d.table(r); f != nil {
				d.result.Files = append(d.result.Files, f)
				continue
			}
		}
		d.skip(r, reason)
	}
}

func (d *drafter) skip(r *relation, reason string) {
	d.result.Skipped = append(d.result.Skipped, Skipped{r.name().String(), r.kind(), reason})
}

// refusal says why a relation gets no rule, before its keys are looked at.
func (d *drafter) refusal(r *relation) string {
	switch {
	case r.Extension != "":
		return "it belongs to extension " + r.Extension
	case r.Schema == d.o.Outbox:
		return "wtcache keeps its outbox in this schema"
	case r.Kind == "m":
		return "REFRESH changes its rows, which no driver sees"
	case r.Kind == "f":
		return "its rows are kept, and changed, elsewhere"
	case r.Partition:
		return "a partition has no rule of its own: its rows are those of " + d.parent(r)
	}
	if file := d.ruledElsewhere(r); file != "" {
		return "it has a rule already, in " + file
	}
	if d.chosen.named(r) {
		return ""
	}
	return d.reluctance(r)
}

// reluctance says why a rule should be somebody's decision.
func (d *drafter) reluctance(r *relation) string {
	const named = "; name it with --only to draft one all the same"
	switch {
	case len(r.Parents) > 0:
		return "it inherits from " + d.parent(r) + ": its rows are rows of that table, too" + named
	case r.RowSecurity:
		return rowSecurityNote + named
	case r.Persistence == "u":
		return unloggedNote + named
	case bookkeeping[r.Name]:
		return "it looks like the bookkeeping of a migration tool" + named
	}
	return ""
}

const (
	rowSecurityNote = "row-level security hides rows from some roles, but a cache shows them to everybody who reads it"
	unloggedNote    = "a crash of Postgres empties an unlogged table, and no write says so to the cache"
)

// bookkeeping are the tables in which well-known tools note which migrations have run.
var bookkeeping = map[string]bool{
	"schema_migrations": true, "schema_migration": true, "ar_internal_metadata": true, "goose_db_version": true, "gorp_migrations": true,
	"flyway_schema_history": true, "databasechangelog": true, "databasechangeloglock": true, "alembic_version": true, "django_migrations": true,
	"atlas_schema_revisions": true, "knex_migrations": true, "knex_migrations_lock": true, "_prisma_migrations": true, "__drizzle_migrations": true,
	"bun_migrations": true, "bun_migration_locks": true, "schema_version": true, "SequelizeMeta": true, "__EFMigrationsHistory": true,
}

func (d *drafter) parent(r *relation) string {
	for _, p := range d.all {
		if slices.Contains(r.Parents, p.OID) {
			if p.Partition {
				return d.parent(p)
			}
			return p.name().String()
		}
	}
	return "another table"
}

// prove loads and binds what was drafted as a program would. An error means a fault of
// this package.
func (d *drafter) prove() error {
	if len(d.result.Files) == 0 {
		return nil
	}
	loaded, err := load(d.result.Files)
	if err != nil {
		return fmt.Errorf("load the drafted rules: %w", err)
	}
	if _, faults, _ := rules.Bind(loaded, d.catalog); len(faults) > 0 {
		return fmt.Errorf("bind the drafted rules: %s", faults[0])
	}
	return nil
}
