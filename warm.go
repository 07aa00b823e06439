package wtcache

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"
)

// WarmOptions say what Warm fills, and how hard it works. The zero value fills every entry of every rule, as fast as one
// batch after the other goes.
type WarmOptions struct {
	// Entries are names as a Reader has them, "users.by_email"; a table's name means all of its entries. None: every entry of
	// the rules that can be warmed (WarmReport.Left names the others).
	Entries []string
	// From and To bound the keys of a single entry: From is in the range, To is not. They are values of the columns of the
	// unique index by which the table is gone through (WarmProgress.Columns), in its order; the first few are
	// enough. nil is no bound.
	From, To []any
	// Rate is the greatest number of rows a second, 0 for no bound. Batch is the number of rows that are leased, read and
	// filled at once (0: 500), Parallel how many such batches are under way at a time (0: 1). Memory is held for Parallel+1
	// batches, however long the table is.
	Rate     float64
	Batch    int
	Parallel int
	// Refresh also fills what is there already. Without it that is left as it is.
	Refresh bool
	// Count counts the rows first, for a total that is exact; else it is the planner's estimate.
	Count bool
	// MaxRedisMemory stops with ErrRedisFull when a server of Redis uses more than this part of its maxmemory (0.8: 80 %).
	// 0: more than all of it. Redis' own refusal would come too late: scripts that delete first are let through.
	MaxRedisMemory float64
	// Resume goes on where another call has stopped: WarmReport.Resume or WarmProgress.Resume of a call with the same
	// entries and range. A token of other ones is refused with ErrWarmResume.
	Resume string
	// Progress is called after each batch, by one goroutine at a time, and holds Warm up while it runs. It may be nil.
	Progress func(WarmProgress)
}

// WarmCounts count rows.
type WarmCounts struct {
	Rows   int64 `json:"rows"`   // gone through: the sum of the others
	Filled int64 `json:"filled"` // now in Redis
	Cached int64 `json:"cached"` // were there already, and were left
	// Refused were left alone: a write of the key was under way, another reader had the lease, or a coarse write had
	// the rule barred. Whoever reads or writes them next fills them.
	Refused int64 `json:"refused"`
	// Unstorable must not be in Redis: their `when` does not hold, their key cannot be rendered, or it holds something else.
	Unstorable int64 `json:"unstorable"`
	Gone       int64 `json:"gone"` // were deleted, or given another key, in between
}

func (c *WarmCounts) add(d WarmCounts) {
	c.Rows += d.Rows
	c.Filled += d.Filled
	c.Cached += d.Cached
	c.Refused += d.Refused
	c.Unstorable += d.Unstorable
	c.Gone += d.Gone
}

// WarmEntry is what became of one entry.
type WarmEntry struct {
	Entry   string   `json:"entry"`
	Table   string   `json:"table"`
	Columns []string `json:"columns"` // of the unique index that was gone along
	WarmCounts
}

// WarmProgress says how far Warm is.
type WarmProgress struct {
	Entry   string     `json:"entry"` // the one under way
	Columns []string   `json:"columns"`
	Done    WarmCounts `json:"done"` // of all entries, those of the calls that are resumed among them
	// Total is the number of rows of all entries; exact says whether they were counted, else it is the planner's guess,
	// which may be too small. 0: not known.
	Total int64 `json:"total"`
	Exact bool  `json:"exact"`
	// Resume is what WarmOptions takes to go on from here.
	Resume string `json:"resume"`
}

// WarmReport is what Warm has done, in this call and in those that it has resumed.
type WarmReport struct {
	Entries []WarmEntry `json:"entries"`
	WarmCounts
	// Left are entries that were not asked for by their own name and cannot be warmed: their key holds no unique index along which the
	// rows could be gone through.
	Left    []string `json:"left,omitempty"`
	Done    bool     `json:"done"` // nothing is left
	Resume  string   `json:"resume,omitempty"`
	Seconds float64  `json:"seconds"` // of this call
}

var (
	// ErrRedisFull is wrapped by Warm's error where Redis has no room for more.
	ErrRedisFull = errors.New("wtcache: redis is full")
	// ErrWarmResume is wrapped by Warm's error where a token does not fit: it is of other entries, of another range, of
	// rules or a table that have changed since, or no token at all.
	ErrWarmResume = errors.New("wtcache: cannot resume")
	errNoWalk     = errors.New("no unique index to go along")
	// ErrWarmChanged is wrapped by Warm's error where a rule's table changed while it was warmed.
	ErrWarmChanged = errors.New("wtcache: the table or its rule has changed")
)

// Warm fills entries from their tables, through the same protocol as a reader that misses: it takes leases, reads the primary,
// and fills what no write has touched meanwhile. So it never makes anything stale, whatever is written beside it, and several
// may run at a time. It goes along a unique index from key to key and holds a few batches in memory. Rows that are inserted
// behind it are not seen; a write-through fills them anyhow.
//
// The report is also what was done before an error. The errors are the context's, those of the database, ErrUnavailable
// where Redis does not answer at the beginning or for long later, ErrRedisFull, ErrWarmResume, ErrWarmChanged, ErrUnknownEntry and ErrConfig.
func Warm(ctx context.Context, db *sql.DB, opts WarmOptions) (WarmReport, error) {
	began := time.Now()
	w, err := newWarmer(ctx, db, opts)
	if err != nil {
		return WarmReport{}, err
	}
	err = w.run(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	report := w.report()
	report.Seconds = time.Since(began).Seconds()
	return report, err
}

// warmer is one call of Warm. What changes is changed by the goroutine that commits batches, in their order.
type warmer struct {
	cache *Cache
	opts  WarmOptions
	plan  []*warming // an entry each
	pace  *pacer
	total int64
	at    int      // the entry under way
	left  []string // entries that cannot be warmed and were not asked for by their own name
}

func newWarmer(ctx context.Context, db *sql.DB, opts WarmOptions) (*warmer, error) {
	cache, err := CacheOf(db)
	if err != nil {
		return nil, err
	}
	if opts, err = opts.filledIn(); err != nil {
		return nil, err
	}
	w := &warmer{cache: cache, opts: opts, pace: newPacer(cache.engine, opts)}
	if _, err := cache.generation(ctx); err != nil {
		return nil, err
	}
	asked := cache.engine.warmNames(opts.Entries)
	if len(asked) != 1 && (opts.From != nil || opts.To != nil) {
		return nil, configErrorf("a range of keys is one of a single entry; %d are to be warmed", len(asked))
	}
	for _, a := range asked {
		t, err := cache.find(ctx, a.name)
		if err != nil {
			return nil, err
		}
		e, err := newWarming(t, opts)
		if errors.Is(err, errNoWalk) && !a.byName {
			w.left = append(w.left, a.name)
			continue
		}
		if err != nil {
			return nil, err
		}
		w.plan = append(w.plan, e)
	}
	if err := w.resume(opts.Resume); err != nil {
		return nil, err
	}
	if err := w.pace.reach(ctx, cache.engine.cfg.RedisTimeout); err != nil {
		return nil, err
	}
	return w, w.size(ctx)
}

// warmName is an entry to be warmed; byName: the caller has named it, and not just its table.
type warmName struct {
	name   string
	byName bool
}

// warmNames gives the entries that are meant: all where nothing is named, those of a table by its name. A name that no rule has stays
// as it is, for the error that says so.
func (e *engine) warmNames(named []string) (all []warmName) {
	add := func(n warmName) {
		if !slices.ContainsFunc(all, func(m warmName) bool { return m.name == n.name }) {
			all = append(all, n)
		}
	}
	for _, name := range named {
		byTable := false
		for _, r := range e.rules {
			if name != r.Table.Table && name != r.Table.String() || len(r.Entries) == 1 {
				continue
			}
			byTable = true
			for _, entry := range r.Entries {
				add(warmName{e.readName(r, entry), false})
			}
		}
		if !byTable {
			add(warmName{name, true})
		}
	}
	if len(named) == 0 {
		for _, r := range e.rules {
			for _, entry := range r.Entries {
				add(warmName{e.readName(r, entry), false})
			}
		}
	}
	return all
}

// filledIn checks the options and fills in what they leave open.
func (o WarmOptions) filledIn() (WarmOptions, error) {
	switch {
	case o.Rate < 0, o.Batch < 0, o.Parallel < 0:
		return o, configErrorf("a rate, a batch and a parallelism cannot be negative")
	case o.MaxRedisMemory < 0 || o.MaxRedisMemory > 1:
		return o, configErrorf("the part of Redis' memory is between 0 and 1 (0.8: 80 %%); it is %v", o.MaxRedisMemory)
	case o.Batch > maxWarmBatch:
		return o, configErrorf("a batch has at most %d rows", maxWarmBatch)
	}
	if o.Batch == 0 {
		o.Batch = 500
	}
	if o.Rate > 0 {
		o.Batch = max(1, min(o.Batch, int(o.Rate))) // no more than a second's at once
	}
	o.Parallel = max(o.Parallel, 1)
	return o, nil
}

// maxWarmBatch keeps a lease from ending before its batch is read.
const maxWarmBatch = 10_000

// size finds out how many rows there are.
func (w *warmer) size(ctx context.Context) error {
	for _, e := range w.plan {
		n, err := e.size(ctx, w.cache.db, w.opts.Count)
		if err != nil {
			return fmt.Errorf("wtcache: count the rows of %s: %w", e.target.name, err)
		}
		w.total += n
	}
	return nil
}

func (w *warmer) run(ctx context.Context) error {
	for ; w.at < len(w.plan); w.at++ {
		if err := w.walk(ctx, w.plan[w.at]); err != nil {
			return err
		}
	}
	return nil
}

// walk goes through one entry: this goroutine looks for keys, others fill batches of them, and one more notes the batches as
// done in the order of their keys, so that what is resumed from has nothing undone before it.
func (w *warmer) walk(ctx context.Context, e *warming) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	queue := make(chan *warmBatch, w.opts.Parallel) // as many as there are places in the room
	room := make(chan struct{}, w.opts.Parallel)
	committed := make(chan struct{})
	go func() {
		defer close(committed)
		for b := range queue {
			if err := w.commit(e, b); err != nil {
				stop(err)
			}
			<-room
		}
	}()
	err := w.look(ctx, e, queue, room)
	close(queue)
	<-committed
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// look starts batches until the range ends.
func (w *warmer) look(ctx context.Context, e *warming, queue chan<- *warmBatch, room chan<- struct{}) error {
	after := e.after
	for {
		asks, last, err := e.page(ctx, w.cache.db, after, w.opts.Batch)
		if err != nil {
			return err
		}
		if len(asks) == 0 {
			return nil
		}
		alive(len(asks))
		if err := w.pace.wait(ctx, len(asks)); err != nil {
			return err
		}
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		b := &warmBatch{warmer: w, warming: e, asks: asks, last: last, done: make(chan struct{})}
		go b.run(ctx)
		queue <- b
		if len(asks) < w.opts.Batch {
			return nil
		}
		after = last
	}
}

// commit waits for a batch and notes it as done. What comes after one that has failed is not noted.
func (w *warmer) commit(e *warming, b *warmBatch) error {
	<-b.done
	alive(-len(b.asks))
	if b.err != nil {
		e.failed = true
	}
	if e.failed {
		return b.err
	}
	e.after = b.last
	e.counts.add(b.counts)
	if w.opts.Progress != nil {
		w.opts.Progress(w.progress(e))
	}
	return nil
}

func (w *warmer) progress(e *warming) WarmProgress {
	p := WarmProgress{Entry: e.target.name, Columns: e.walk.Columns, Total: w.total, Exact: w.opts.Count, Resume: w.token()}
	for _, e := range w.plan {
		p.Done.add(e.counts)
	}
	return p
}

func (w *warmer) report() WarmReport {
	r := WarmReport{Done: w.at == len(w.plan), Left: w.left}
	for _, e := range w.plan {
		r.Entries = append(r.Entries, WarmEntry{Entry: e.target.name, Table: e.target.table.Name.String(), Columns: e.walk.Columns, WarmCounts: e.counts})
		r.add(e.counts)
	}
	if !r.Done {
		r.Resume = w.token()
	}
	return r
}
