package wtcache

import (
	"context"
	"database/sql/driver"
	"slices"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// autocommit carries out a ruled write outside a transaction. Where every key is
// known beforehand the keys are fenced first and the statement commits by itself;
// else it runs in a transaction of ours, so that what it captured can be fenced before COMMIT.
func (c *conn) autocommit(ctx context.Context, st *step, r request) (res response, err error) {
	c.tx = txState{statements: 1, session: c.tx.session, alone: true}
	defer c.endTx()
	defer c.engine.stats.writeTimes.since(time.Now())
	ctx, span := c.engine.statementSpan(ctx, st)
	defer func() { c.endWrite(span, err) }()
	if ticket := c.past(st); ticket != nil {
		return c.writePast(ctx, st, r, ticket)
	}
	res, err = c.autocommitPlanned(ctx, st, r)
	if err == nil || st.action != actPrecise || !c.textAtFault(err) {
		return res, err
	}
	// Nothing was done. Either the caller's text is wrong, and then the error must be the
	// one that it gets by itself; or the captured columns are, because the catalogue has
	// changed unseen, and then the write must not fail for them.
	c.tx = txState{statements: 1, session: c.tx.session, alone: true}
	alone := &step{
		action: actCoarse, stmt: st.stmt, text: st.text, quiet: true, reason: coarseRefused,
		coarse: appendTables(slices.Clone(st.coarse), st.table),
	}
	if res, err = c.lockFirst(ctx, alone, r); err == nil {
		c.count(alone)
	}
	return res, err
}

func (c *conn) autocommitPlanned(ctx context.Context, st *step, r request) (response, error) {
	switch c.engine.order(st) {
	case orderAfterCommit:
		if !c.engine.mustQueue() {
			return c.writeEventual(ctx, st, r)
		}
	case orderFenceFirst:
		if keys, ok := c.resolve(st, r.args); ok {
			return c.fenceFirst(ctx, st, r, keys)
		}
	}
	return c.lockFirst(ctx, st, r)
}

// order says what comes first in a ruled write outside a transaction.
type order uint8

const (
	orderLockFirst   order = iota // the statement, in a transaction of ours; then the fences; then COMMIT
	orderFenceFirst               // the fences; where the arguments leave a key open, lock first all the same
	orderAfterCommit              // the statement alone; Redis hears of it afterwards
)

func (e *engine) order(st *step) order {
	switch {
	case st.action == actCoarse || st.table == nil:
		return orderLockFirst
	case e.eventual(st.table):
		if len(st.coarse) == 0 && st.action == actPrecise {
			return orderAfterCommit
		}
	case st.pinned != nil:
		return orderFenceFirst
	}
	return orderLockFirst
}

// lockFirst runs the statement in a transaction of ours.
func (c *conn) lockFirst(ctx context.Context, st *step, r request) (response, error) {
	c.engine.stats.lockFirst.Add(1)
	stop := c.sweepAhead(ctx, st)
	base, res, err := c.beginWrite(ctx, st, r)
	stop()
	crashPoint("written")
	if err != nil {
		if base != nil {
			_ = base.Rollback() // the statement's own error is the one to return
		}
		return response{}, err
	}
	if err := c.commit(ctx, base.Commit, base.Rollback); err != nil {
		return response{}, err
	}
	return res, nil
}

// beginWrite begins a transaction of ours and runs the statement in it, in one round trip
// where that can be.
func (c *conn) beginWrite(ctx context.Context, st *step, r request) (base driver.Tx, res response, err error) {
	if c.pipelines(st, r) {
		p, ok, err := c.pipe(ctx, st, r)
		if err != nil {
			return nil, response{}, err
		}
		if ok {
			return c.writePipelined(ctx, st, p)
		}
	}
	if base, err = c.beginOwn(ctx); err != nil {
		return nil, response{}, err
	}
	c.tx.open = true
	res, err = c.lockedWrite(ctx, st, r)
	return base, res, err
}

// beginOwn begins a transaction that the caller did not ask for. Where a dead pooled
// connection shows by it, database/sql tries again on another, as it would have done with the
// caller's own statement: pgx's BeginTx does not say ErrBadConn.
func (c *conn) beginOwn(ctx context.Context) (driver.Tx, error) {
	if c.base.standIn != nil {
		return c.base.standIn.BeginOwn(ctx)
	}
	base, err := c.base.begin.BeginTx(ctx, driver.TxOptions{})
	if err != nil && safeToRetry(err) {
		return nil, driver.ErrBadConn
	}
	return base, err
}

// lockedWrite runs the statement and reads its rows to the end, so that what is
// captured is complete and a COMMIT that fails is the caller's error, not the rows'.
func (c *conn) lockedWrite(ctx context.Context, st *step, r request) (response, error) {
	res, err := c.writeInTx(ctx, st, r)
	if err != nil || res.rows == nil {
		return res, err
	}
	res.rows, err = bufferRows(c, res.rows)
	return res, err
}

// fenceFirst fences the keys and lets the statement commit by itself: no BEGIN, no
// COMMIT, and a row lock that is held no longer than without us.
func (c *conn) fenceFirst(ctx context.Context, st *step, r request, keys []string) (response, error) {
	e := c.engine
	e.stats.fenceFirst.Add(1)
	slices.Sort(keys)
	keys = slices.Compact(keys)
	o := &owed{strict: make(map[string]cachesync.Entry, len(keys)), replicas: st.table.Rule.WaitReplicas}
	for _, key := range keys {
		o.strict[key] = cachesync.Entry{}
	}
	e.behind.await(ctx, keys)
	held, err := e.fence(ctx, o)
	if err != nil && refuses(st) {
		e.stats.refused.Add(1)
		held.release(ctx)
		return response{}, &RefusedError{Rules: []string{st.table.Name.String()}, Err: err}
	}
	if err != nil && e.outbox != nil {
		c.tx.noFence = err
		return c.lockFirst(ctx, st, r) // the outbox needs a transaction
	}
	crashPoint("fenced")
	reachable := c.reachable(ctx)
	res, err := c.lockedWrite(ctx, st, r)
	crashPoint("committed")
	c.endFenceFirst(ctx, held, err, reachable)
	crashPoint("applied")
	if err != nil {
		return response{}, err
	}
	return res, nil
}

// endFenceFirst gives the fenced keys what was captured. A captured key that was not
// fenced is a bug of the plan: it is counted and made absent.
func (c *conn) endFenceFirst(ctx context.Context, held *fences, err error, reachable bool) {
	oc := c.statementOutcome(err, reachable)
	held.owed.xact = c.tx.xact
	if oc == outcomeCommitted {
		captured := c.settle()
		held.owed.allAsync = captured.allAsync
		c.engine.stats.keyMismatches.Add(uint64(len(captured.coarse)))
		held.sweepLate(ctx, captured.coarse)
		for key, entry := range captured.strict {
			if _, fenced := held.owed.strict[key]; !fenced {
				c.mismatch(ctx, key)
				continue
			}
			held.owed.strict[key] = entry
		}
		if len(c.tx.log) == 0 {
			oc = outcomeAborted // no row was touched: nothing changed
		}
	}
	c.tx.log = nil
	held.end(ctx, oc)
}

func (c *conn) mismatch(ctx context.Context, key string) {
	c.engine.stats.keyMismatches.Add(1)
	c.engine.once("mismatch", "a row had another key than was fenced before its write; its entry was made absent", "key", key)
	c.engine.sync.InvalidateOrOwe(ctx, []string{key})
}

// writeEventual runs the statement as it would run without us and makes the rows' entries
// absent afterwards. In doubt, and with the rows not known, every entry of the rule becomes
// absent.
func (c *conn) writeEventual(ctx context.Context, st *step, r request) (response, error) {
	reachable := c.reachable(ctx)
	res, err := c.lockedWrite(ctx, st, r)
	h := &fences{engine: c.engine, owed: c.settle()}
	c.tx.log = nil
	crashPoint("committed")
	switch oc := c.statementOutcome(err, reachable); {
	case oc == outcomeInDoubt:
		h.owed.coarse, h.coarseOwed = []*rules.Table{st.table}, true
		h.end(ctx, oc)
	case oc == outcomeCommitted && !h.owed.empty():
		h.sweepLate(ctx, h.owed.coarse)
		h.end(ctx, oc)
	}
	crashPoint("applied")
	if err != nil {
		return response{}, err
	}
	return res, nil
}

// statementOutcome judges an autocommit statement by its error.
func (c *conn) statementOutcome(err error, reachable bool) outcome {
	oc := c.outcome(err, reachable)
	if oc == outcomeInDoubt && !c.tx.started && c.unsent(err) {
		c.tx.inDoubt = false
		return outcomeAborted
	}
	return oc
}

// resolve gives the keys that the step's arguments pin.
func (c *conn) resolve(st *step, args []driver.NamedValue) (keys []string, ok bool) {
	if hasOptions(args) {
		return nil, false
	}
	return st.pinned.resolve(args)
}

func refuses(st *step) bool { return st.table.Rule.RedisDown == rules.Refuse }
