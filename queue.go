package wtcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/outbox"
	"github.com/wtcache/wtcache/rules"
)

// queued is a transaction's place in the outbox, from before its rows were written there until
// its outcome is dealt with. full: it has no rows of its own, since everything is owed.
type queued struct {
	ticket *outbox.Ticket
	full   bool
}

// covers says whether the outbox has what the transaction owes. The process may have been
// stopped for so long that others have settled everything before the commit.
func (q *queued) covers() bool { return q != nil && (!q.full || q.ticket.Kept()) }

func (q *queued) done() {
	if q != nil {
		q.ticket.Done()
	}
}

// durable says whether what is owed goes to an outbox.
func (e *engine) durable() bool {
	return e.cfg.Outbox != OutboxOff && slices.ContainsFunc(e.rules, queues)
}

func queues(r *rules.Rule) bool { return r.RedisDown != rules.Refuse }

// openOutbox gives the engine its outbox, on connections of its own.
func (e *engine) openOutbox(base driver.Connector) {
	if e.sync == nil || !e.durable() {
		return
	}
	db := sql.OpenDB(struct{ driver.Connector }{base}) // hides its Close, which is the connector's to call
	db.SetMaxOpenConns(outboxConns)
	db.SetConnMaxIdleTime(outboxIdle)
	e.outboxDB = db
	e.outbox = outbox.New(outbox.Options{
		DB: db, Schema: e.cfg.Outbox, Settler: settler{e}, Watch: e.cfg.Watch, Cover: e.cover,
		Everything: e.everything, FullAfter: int64(e.cfg.MaxQueuedKeys),
		Logger: e.log, OnError: e.reported,
	})
	e.sharesKeys = slices.ContainsFunc(e.rules, func(r *rules.Rule) bool { return queues(r) && len(r.Shared) > 0 })
}

// cover gives the sweep that makes a key absent, too.
func (e *engine) cover(key string) (outbox.Sweep, bool) {
	gen := e.gen.Load()
	if gen == nil {
		return outbox.Sweep{}, false
	}
	for _, t := range gen.set.Tables {
		if globs := globsOf(t); cachesync.MatchesAny(globs, key) {
			return outbox.Sweep{Barrier: t.Barrier, Globs: globs}, true
		}
	}
	return outbox.Sweep{}, false
}

func (e *engine) closeOutbox() error {
	if e.outbox == nil {
		return nil
	}
	return errors.Join(e.outbox.Close(), e.outboxDB.Close())
}

// The connections that the outbox uses beside the caller's pool: one listens, the others are
// open while there is something to do.
const (
	outboxConns = 4
	outboxIdle  = 10 * time.Second
)

// checkOutbox holds the first connection against the outbox, as it is held against the
// catalogue. A stand-in plays no outbox.
func (e *engine) checkOutbox(ctx context.Context, c *conn) error {
	if e.outbox == nil || c.base.standIn != nil || e.outboxFits.Load() {
		return nil
	}
	if err := outbox.Check(ctx, outbox.Querier(c.querier()), e.cfg.Outbox); err != nil {
		return err
	}
	e.outboxFits.Store(true)
	e.outbox.Start()
	return nil
}

// settler lets the outbox make keys absent.
type settler struct{ engine *engine }

func (s settler) Reachable() bool { return s.engine.sync.Reachable() }

func (s settler) Settle(ctx context.Context, d outbox.Debt) error {
	ctx, span := s.engine.drainSpan(ctx, d)
	var errs []error
	if len(d.Keys) > 0 {
		errs = append(errs, s.engine.sync.Invalidate(ctx, d.Keys, ""))
	}
	for _, sweep := range d.Sweeps {
		errs = append(errs, s.engine.sync.SweepBehind(ctx, sweep.Barrier, sweep.Globs))
	}
	err := errors.Join(errs...)
	span.done(err)
	return err
}

// debt is what the outbox must hold for a commit that is not fenced.
func (o *owed) debt() outbox.Debt {
	d := outbox.Debt{Keys: append(keysOf(o.strict), keysOf(o.eventual)...)}
	for _, t := range o.coarse {
		d.Sweeps = append(d.Sweeps, outbox.Sweep{Barrier: t.Barrier, Globs: globsOf(t)})
	}
	return d
}

// mustQueue says that an eventual write has to go the outbox's way: it would have no
// apply, and nobody else would know.
func (e *engine) mustQueue() bool { return e.outbox != nil && e.sync.Down() }

// withoutFence is step 2a: it gives the error with which the transaction has to be rolled
// back, or nil where it may be committed, fenced or with its keys in the outbox. failure
// is why it could not be fenced.
func (c *conn) withoutFence(ctx context.Context, h *fences, failure error) error {
	e, o := c.engine, h.owed
	switch {
	case failure == nil && (len(o.eventual) == 0 || !e.mustQueue()):
		return nil
	case failure != nil && len(o.refusing) > 0:
		return &RefusedError{Rules: o.refusing, Err: failure}
	case e.outbox == nil || c.base.standIn != nil:
		return nil
	}
	if failure == nil {
		failure = ErrUnavailable
	}
	ctx, span := e.span(ctx, SpanQueue, o)
	err := c.queue(ctx, h)
	span.done(err)
	if err != nil {
		return &RefusedError{Rules: o.tables, Err: failure, Outbox: err}
	}
	return nil
}

// queue announces that this process writes past Redis, and writes what is owed into
// the open transaction.
func (c *conn) queue(ctx context.Context, h *fences) error {
	e := c.engine
	strict := len(h.owed.strict)+len(h.owed.coarse) > 0
	ticket, err := e.outbox.Announce(ctx, strict && e.cfg.Watch > 0)
	if err != nil {
		return err
	}
	if ticket.Full() {
		h.queued = &queued{ticket: ticket, full: true}
		return nil
	}
	query, args := e.outbox.Insert(ticket.Outage(), h.owed.debt())
	if _, err := c.sendText(ctx, query, request{args: c.unnamed(args), part: true}); err != nil {
		ticket.Done()
		if outbox.Gone(err) {
			e.outbox.Doubted(ticket.Outage())
		}
		return err
	}
	crashPoint("queued")
	h.queued = &queued{ticket: ticket}
	e.stats.queued.Add(1)
	return nil
}

// everything gives sweeps of all rules.
func (e *engine) everything() []outbox.Sweep {
	gen := e.gen.Load()
	if gen == nil {
		return nil
	}
	var sweeps []outbox.Sweep
	for _, t := range gen.set.Tables {
		sweeps = append(sweeps, outbox.Sweep{Barrier: t.Barrier, Globs: globsOf(t)})
	}
	return sweeps
}

// past gives a ticket under which an autocommit statement may run as it is: Redis does not answer, and
// every entry will be made absent when it does. nil where it may not.
func (c *conn) past(st *step) *outbox.Ticket {
	if !c.engine.mustQueue() || st.anyRefuses() {
		return nil
	}
	return c.engine.outbox.Full()
}

// capturesNothing says that a statement inside a transaction need not show its rows: every entry is owed. Should
// that have changed by COMMIT, every entry of its tables becomes absent then, as after a coarse write.
func (c *conn) capturesNothing(st *step) bool {
	return c.inTx() && !st.anyRefuses() && c.engine.owesAll()
}

// owesAll says that every entry will be made absent whatever is committed now.
func (e *engine) owesAll() bool { return e.mustQueue() && e.outbox.OwesAll() }

// anyRefuses says whether one of the tables is not to be written past Redis.
func (st *step) anyRefuses() bool {
	refuses := func(t *rules.Table) bool { return t != nil && !queues(t.Rule) }
	return refuses(st.table) || slices.ContainsFunc(st.coarse, refuses)
}

// writePast runs a statement outside a transaction, under such a ticket. Nothing is known of its rows.
func (c *conn) writePast(ctx context.Context, st *step, r request, ticket *outbox.Ticket) (response, error) {
	c.count(st)
	reachable := c.reachable(ctx)
	res, err := c.send(ctx, r.sql, r)
	if err == nil && res.rows != nil {
		c.tx.started = true                     // one that the client cannot decode says nothing of the commit
		res.rows, err = bufferRows(c, res.rows) // it commits when they are all there
	}
	c.endPast(ctx, appendTables(slices.Clone(st.coarse), st.table), c.statementOutcome(err, reachable), ticket)
	return res, err
}

// endPast deals with the outcome of such a statement. In doubt it may still be under way, and the ticket
// is kept for as long as a fence would be.
func (c *conn) endPast(ctx context.Context, tables []*rules.Table, oc outcome, ticket *outbox.Ticket) {
	if oc == outcomeAborted {
		ticket.Done()
		return
	}
	o := &owed{coarse: tables}
	o.raiseFloors(ctx, oc == outcomeCommitted)
	if oc == outcomeInDoubt {
		c.engine.stats.inDoubt.Add(1)
		c.engine.stats.doubtExpired.Add(1)
		time.AfterFunc(c.engine.cfg.FenceLife, func() { c.engine.giveBack(ticket, tables) })
		return
	}
	c.engine.stats.unfenced.Add(1)
	c.engine.giveBack(ticket, tables)
}

// giveBack ends a write past Redis that had no row of its own. Where others may have settled everything before it,
// because they took this process for dead, its tables' entries are owed anew.
func (e *engine) giveBack(ticket *outbox.Ticket, tables []*rules.Table) {
	if !ticket.Kept() {
		for _, t := range tables {
			e.sync.OweSweep(t.Barrier, globsOf(t))
		}
	}
	ticket.Done()
}

// unnamed makes a statement of ours leave nothing in the session.
func (c *conn) unnamed(args []any) []driver.NamedValue {
	if c.pgx != nil {
		args = append([]any{pgx.QueryExecModeExec}, args...)
	}
	values := make([]driver.NamedValue, len(args))
	for i, v := range args {
		values[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return values
}

// watched says whether a reader of a table may be given what Redis holds: not where a process
// that cannot fence may have written past it. n rows are read from the database then.
func (e *engine) watched(ctx context.Context, t *rules.Table, n int) bool {
	if e.outbox == nil || e.cfg.Watch < 0 || e.eventual(t) || !e.sharesKeys && !queues(t.Rule) || e.outbox.Clear(ctx) {
		return true
	}
	e.stats.unwatched.Add(uint64(n))
	return false
}

// recovered says whether Redis has all that was committed while it did not answer.
func (e *engine) recovered(ctx context.Context) error {
	if e.outbox == nil || !e.outboxFits.Load() {
		return nil
	}
	return e.outbox.Drained(ctx)
}

// handOver puts into the outbox what could not be settled after its commit.
func (e *engine) handOver(ctx context.Context, keys []string, sweeps []cachesync.OwedSweep) error {
	if e.outbox == nil || !e.outboxFits.Load() {
		return errNoOutbox
	}
	d := outbox.Debt{Keys: keys}
	for _, s := range sweeps {
		d.Sweeps = append(d.Sweeps, outbox.Sweep{Barrier: s.Barrier, Globs: s.Globs})
	}
	return e.outbox.Hand(ctx, d)
}

var errNoOutbox = errors.New("wtcache: no connection has found the outbox yet")
