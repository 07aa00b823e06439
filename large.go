package wtcache

import (
	"context"
	"database/sql/driver"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/wtcache/wtcache/rules"
)

// size remembers of a statement whether it writes more rows than a transaction keeps. All plans
// that are made of one step share it.
type size struct{ known atomic.Uint32 }

const (
	sizeUnknown  uint32 = iota
	sizeSmall           // it did not the last time, or the planner does not expect it to
	sizeLarge           // it did the last time
	sizeExpected        // the planner expects it to
)

// sizes are those of a text's statements. They outlive its plans: where sessions take turns whose
// search_path differs, a plan is made for each turn.
type sizes struct {
	// passing says that nothing is learnt of texts like this one, since each of them is planned by itself.
	passing bool

	mu  sync.Mutex
	all map[sizeOf]*size
}

type sizeOf struct {
	statement int
	table     *rules.Table
}

// of gives the size of the text's i-th statement where that writes a table.
func (s *sizes) of(i int, table *rules.Table) *size {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[sizeOf]*size{}
	}
	known := s.all[sizeOf{i, table}]
	if known == nil {
		known = new(size)
		s.all[sizeOf{i, table}] = known
	}
	return known
}

// sized gives a step as it is to be carried out. To have the server spell every row out, only
// for the rows to be dropped, costs several times what the write itself costs: a text that wrote
// too many rows the last time, or is expected to, is sent as the caller wrote it, and every entry
// of its rule becomes absent, as it would have anyhow. How many rows it writes is seen all the
// same; once they are few enough it is captured again.
//
// Where the caller wants rows they cross the wire anyhow, and their number shows only later.
func (c *conn) sized(ctx context.Context, st *step, r request) (*step, error) {
	if st.size == nil || r.rows || st.action != actPrecise || c.base.standIn != nil {
		return st, nil
	}
	known := st.size.known.Load()
	if known == sizeUnknown && c.asksSize(st, r) {
		var err error
		if known, err = c.expect(ctx, st, r); err != nil {
			return nil, err
		}
	}
	switch known {
	case sizeLarge:
		return c.whole(st, coarseLarge), nil
	case sizeExpected:
		return c.whole(st, coarseExpected), nil
	}
	return st, nil
}

// whole gives a step that captures none of its rows.
func (c *conn) whole(st *step, reason string) *step {
	whole := *st
	whole.action, whole.reason, whole.table, whole.ahead = actCoarse, reason, nil, true
	whole.coarse = appendTables(slices.Clone(st.coarse), st.table)
	// No captured tableoid will tell if the name means another table than it did.
	whole.coarse = appendTables(whole.coarse, c.gen.set.TablesByName(st.stmt.Target.Name)...)
	return &whole
}

// sweepAhead deletes values while a large write runs that commits by itself: less is left for the sweep, which
// comes before COMMIT and changes in nothing. In a transaction of the caller's, which may be rolled back, it does
// nothing. Nobody waits for it: the write holds its locks when it calls stop, and a value that is deleted late is
// a miss. While Redis is known to be down its request is refused as all others are, and it ends.
//
// Where replicas have to acknowledge what is deleted it is left to the sweep: that waits for what it has
// deleted itself. So are rules whose writes go without fences.
func (c *conn) sweepAhead(ctx context.Context, st *step) (stop func()) {
	e := c.engine
	if !st.ahead || slices.ContainsFunc(st.coarse, func(t *rules.Table) bool { return t.Rule.WaitReplicas > 0 || e.eventual(t) }) {
		return func() {}
	}
	ctx, stop = context.WithCancel(ctx)
	e.sync.SweepAhead(ctx, globsOf(st.coarse...))
	return stop
}

// wrote takes note of how many rows a step wrote.
func (c *conn) wrote(st *step, result driver.Result) {
	if st.size == nil || result == nil {
		return
	}
	if n, err := result.RowsAffected(); err == nil {
		known := sizeSmall
		if n > int64(c.engine.cfg.MaxCapturedRows) {
			known = sizeLarge
		}
		st.size.note(known)
	}
}

// keepSized keeps the plan of a text of which something new has been learnt: that it is large, or that
// it is not though it may have been. One with constants in it is otherwise kept only when it comes
// again, and would be forgotten together with what it did.
func (c *conn) keepSized(p *textPlan, st *step, before uint32) {
	now := st.size.is()
	if now == before || now == sizeSmall && !c.engine.mayBeLarge(st) {
		return
	}
	if _, kept := c.gen.plans.Get(p.sql); !kept {
		c.gen.plans.Put(p.sql, p)
	}
}

// mayBeLarge says that neither a step's text nor its table holds it to few rows.
func (e *engine) mayBeLarge(st *step) bool {
	return st.unsized && st.table.Rows >= int64(e.cfg.MaxCapturedRows)
}

// is gives what is known; nothing of what has no size.
func (s *size) is() uint32 {
	if s == nil {
		return sizeUnknown
	}
	return s.known.Load()
}

// note stores only what is new: the size is shared by all connections.
func (s *size) note(known uint32) {
	if s.known.Load() != known {
		s.known.Store(known)
	}
}

// wholly says whether every entry of a table's rule becomes absent anyhow, so that nothing
// needs to be known of its rows.
func (o *owed) wholly(table *rules.Table) bool {
	return slices.ContainsFunc(o.coarse, func(t *rules.Table) bool { return t.Barrier == table.Barrier })
}
