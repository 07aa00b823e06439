// Package blindspots looks in a database for the ways in which ruled tables can be written without the driver
// seeing it, or without it knowing which rows: triggers, functions, foreign keys, views, other roles and the like.
// It joins rules and parser, changes nothing, and works with Postgres 13 to 18.
//
// A finding's severity says what comes of it. Warning: entries can keep a replaced row until their TTL ends, or every write
// of the table empties the rule. Info: the driver follows it, or it is only worth knowing. Error: the programs' role
// cannot work with the table.
package blindspots

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// Options choose what is looked at.
type Options struct {
	// SchemaOnly says that the database holds a schema and nobody works in it: rights, roles, connections, settings and
	// jobs are not those of the database that is meant, and are left out.
	SchemaOnly bool
}

// Find looks at the database behind q, in which set was bound and session probed. It sends three queries, and one
// for each extension whose jobs can be read. The error is for a database that did not answer.
func Find(ctx context.Context, q rules.Querier, set *rules.Set, session *rules.Session, opts Options) ([]cachesync.Finding, error) {
	if len(set.Tables) == 0 {
		return nil, nil
	}
	w := &world{
		set: set, session: session, said: map[cachesync.Finding]bool{}, calledBy: map[*rules.Table]map[*routine][]*routine{},
	}
	if err := w.load(ctx, q); err != nil {
		return nil, fmt.Errorf("look for blind spots: %w", err)
	}
	w.closeOver()
	w.spread()
	if err := w.loadAccess(ctx, q, !opts.SchemaOnly); err != nil {
		return nil, fmt.Errorf("look for blind spots (rights): %w", err)
	}
	for _, t := range set.Tables {
		w.table(t)
		w.triggers(t)
		w.foreignKeys(t)
		w.ways(t)
		w.routines(t)
	}
	w.identities()
	if !opts.SchemaOnly {
		w.rights()
		w.people()
		w.server()
		if err := w.jobs(ctx, q); err != nil {
			return nil, fmt.Errorf("look for blind spots (jobs): %w", err)
		}
	}
	slices.SortStableFunc(w.found, func(a, b cachesync.Finding) int {
		return cmp.Or(cmp.Compare(b.Severity, a.Severity), cmp.Compare(a.Where, b.Where), cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Object, b.Object))
	})
	return w.found, nil
}

// say adds a finding about a table.
func (w *world) say(t *rules.Table, f cachesync.Finding) {
	if f.Where == "" {
		f.Where = t.Rule.Pos.String()
	}
	if !w.said[f] {
		w.said[f] = true
		w.found = append(w.found, f)
	}
}

// Texts that several findings share.
const (
	stale  = "entries keep the row as it was before, and readers are given it, until the TTL ends"
	coarse = "nothing stale is served; each such statement through this driver makes every entry of the rule absent, which costs two walks of the keyspace and the misses after it"
)
