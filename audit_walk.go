package wtcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"

	"golang.org/x/time/rate"

	"github.com/wtcache/wtcache/rules"
)

const (
	// auditBatch bounds the keys of one pipeline and one query, auditBytes about the
	// payloads that come with it.
	auditBatch = 200
	auditBytes = 1 << 20
)

// auditor is one audit under way. It is not safe for concurrent use.
type auditor struct {
	cache  *Cache
	opts   AuditOptions
	limit  *rate.Limiter
	report *AuditReport
	times  bool // Postgres keeps the times of commits
	batch  int  // keys of the next batch
	total  int64
	// met are the keys that a sample has met of the entry, by their hashes.
	met  map[uint64]struct{}
	seed maphash.Seed
}

// targets gives the entries to look at, as bound to the live catalogue.
func (a *auditor) targets(ctx context.Context) ([]target, error) {
	gen, err := a.cache.generation(ctx)
	if err != nil {
		return nil, err
	}
	if gen.degraded {
		return nil, fmt.Errorf("%w: they do not fit the catalogue any more, so that nothing can be compared", ErrRules)
	}
	var all []target
	met := map[string]bool{}
	for _, t := range gen.set.Tables {
		for _, e := range t.Entries {
			if name := t.Name.String() + "." + e.Name; a.wants(t.Rule, e.Entry, met) {
				all = append(all, target{name, gen, t, e})
			}
		}
	}
	for _, name := range a.opts.Entries {
		if !met[name] {
			return nil, unknownEntry(name, rulesOf(gen))
		}
	}
	return all, nil
}

func rulesOf(gen *generation) []*rules.Rule {
	all := make([]*rules.Rule, len(gen.set.Tables))
	for i, t := range gen.set.Tables {
		all[i] = t.Rule
	}
	return all
}

// wants says whether an entry is asked for, and notes by which names.
func (a *auditor) wants(r *rules.Rule, e *rules.Entry, met map[string]bool) bool {
	wanted := len(a.opts.Entries) == 0
	for _, name := range a.opts.Entries {
		if name == r.Table.Table || name == r.Table.String() || namesEntry(name, r, e) {
			wanted, met[name] = true, true
		}
	}
	return wanted
}

func (a *auditor) run(ctx context.Context, targets []target) error {
	if err := a.ask(ctx); err != nil {
		return err
	}
	if a.opts.Sample > 0 {
		a.total = int64(a.opts.Sample+max(a.opts.Rows, 0)) * int64(len(targets))
	}
	for _, t := range targets {
		a.report.Entries = append(a.report.Entries, AuditEntry{Entry: t.name, Ages: newAuditAges()})
		a.batch, a.met, a.seed = auditBatch/8, map[uint64]struct{}{}, maphash.MakeSeed()
		if err := a.walk(ctx, t); err != nil {
			return fmt.Errorf("audit %s: %w", t.name, err)
		}
		if a.opts.Rows > 0 {
			if err := a.rows(ctx, t); err != nil {
				return fmt.Errorf("audit %s: %w", t.name, err)
			}
		}
	}
	return nil
}

func (a *auditor) entry() *AuditEntry { return &a.report.Entries[len(a.report.Entries)-1] }

func (a *auditor) note(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(a.report.Notes, text) {
		a.report.Notes = append(a.report.Notes, text)
	}
}

// ask finds out what the database can tell.
func (a *auditor) ask(ctx context.Context) error {
	var times string
	err := a.cache.db.QueryRowContext(ctx, "SELECT pg_catalog.current_setting('track_commit_timestamp')").Scan(&times)
	if err != nil {
		return err
	}
	if a.times = times == "on"; a.times {
		a.report.WithinBasis = "commit timestamps"
	}
	return nil
}

// walk looks at what Redis has of an entry. Of a sample each server gives its part.
func (a *auditor) walk(ctx context.Context, t target) error {
	var queue []string
	page := func(keys []string, server, servers int) (more bool, err error) {
		quota := a.opts.Sample * (server + 1) / servers
		for _, key := range keys {
			if a.opts.Sample == 0 || len(a.met) < quota && a.meet(key) {
				queue = append(queue, key)
			}
		}
		for len(queue) >= a.batch {
			n := a.batch
			if err := a.look(ctx, t, queue[:n]); err != nil {
				return false, err
			}
			queue = append(queue[:0], queue[n:]...)
		}
		return a.opts.Sample == 0 || len(a.met) < quota, nil
	}
	err := a.cache.engine.sync.Walk(ctx, t.entry.Key.Glob(), a.opts.Sample > 0, page)
	if err == nil && len(queue) > 0 {
		err = a.look(ctx, t, queue)
	}
	return err
}

// meet says whether a sample meets a key for the first time.
func (a *auditor) meet(key string) bool {
	hash := maphash.String(a.seed, key)
	_, known := a.met[hash]
	a.met[hash] = struct{}{}
	return !known
}

// rows looks which rows have an entry, in pages of the table drawn at random.
func (a *auditor) rows(ctx context.Context, t target) error {
	keys, err := a.sampleKeys(ctx, t)
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		// A foreign table has no pages, for one. Coverage is not what an audit is for.
		a.note("%s: rows could not be sampled: %v", t.name, err)
		return nil
	}
	for len(keys) > 0 {
		n := min(len(keys), a.batch)
		if err := a.cover(ctx, t, keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// sampleKeys takes a few more pages than needed, since they are not equally full.
func (a *auditor) sampleKeys(ctx context.Context, t target) ([]string, error) {
	const spare, fewPages = 2, 20
	var estimate, pages float64
	if err := a.cache.db.QueryRowContext(ctx, t.table.RowsEstimate()).Scan(&estimate, &pages); err != nil {
		return nil, err
	}
	percent := 100.0
	if estimate > 0 && pages > fewPages { // of a few pages as likely as not none would be drawn
		percent = min(100, 100*max(spare*float64(a.opts.Rows)/estimate, fewPages/pages))
	}
	rows, err := a.cache.db.QueryContext(ctx, t.table.SampleMany(t.entry.Index), strconv.FormatFloat(percent, 'g', -1, 64), strconv.Itoa(a.opts.Rows))
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // read to the end below; its error is Err's
	columns := t.entry.Key.Columns()
	var keys []string
	for rows.Next() {
		cells := make([]sql.NullString, len(columns))
		if err := rows.Scan(pointers(cells)...); err != nil {
			return nil, err
		}
		key, ok := t.entry.Key.Render(func(column string) (string, bool) {
			cell := cells[slices.Index(columns, column)]
			return cell.String, cell.Valid
		})
		if ok {
			keys = append(keys, key)
		}
	}
	return keys, rows.Err()
}

// paced waits for the turn of n keys. The limiter's own error, where the context would end before that, is not the context's.
func paced(ctx context.Context, limit *rate.Limiter, n int) error {
	err := limit.WaitN(ctx, n)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	}
	return err
}

// errStandby is the error of an audit through a connection to a standby.
var errStandby = errors.New("wtcache: the database is a standby, which may lack what was committed; audit through the primary")
