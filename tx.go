package wtcache

import (
	"context"
	"database/sql/driver"
	"fmt"
	"time"
)

// tx is a transaction that database/sql began.
type tx struct {
	conn *conn
	base driver.Tx
	ctx  context.Context // of BeginTx; pgx sends COMMIT under it, too
}

var _ driver.Tx = (*tx)(nil)

// Commit makes what the transaction wrote true in Postgres and then in Redis. See
// conn.commit for the steps. An error after COMMIT is never returned.
func (t *tx) Commit() error {
	err := t.conn.commit(t.ctx, t.base.Commit, t.base.Rollback)
	t.conn.endTx()
	return err
}

// Rollback forgets what was captured. It has fenced nothing, so it costs nothing in Redis.
func (t *tx) Rollback() error {
	err := t.base.Rollback()
	t.conn.rolledBack()
	t.conn.endTx()
	return err
}

// commit is the one way in which anything that was captured is committed. send
// sends the COMMIT, rollback gives the transaction up.
//
//  1. Settle the log: what each key is to hold afterwards.
//  2. Fence every key, acknowledged, and sweep what is coarse.
//     2a. Redis cannot be fenced: refuse (roll back), or write the keys to the outbox, in this
//     transaction, once every reader knows that this process writes past Redis.
//  3. COMMIT.
//  4. Judge the outcome by the error.
//  5. Committed: apply. Aborted: give the fences back. In doubt: keep them and ask the
//     server what became of the transaction; where it cannot be asked they expire.
//
// The crash points between the steps are named in crash.go.
func (c *conn) commit(ctx context.Context, send, rollback func() error) error {
	if len(c.tx.log) == 0 || c.txFailed() { // a failed transaction's COMMIT is a rollback
		return send()
	}
	if c.locate(ctx); c.txFailed() {
		return send()
	}
	o := c.settle() // 1
	log := c.tx.log
	c.tx.log = nil
	if o.empty() {
		return send()
	}
	crashPoint("settled")
	if c.tx.alone {
		return c.commitSettled(ctx, o, log, send, rollback)
	}
	defer c.engine.stats.writeTimes.since(time.Now())
	ctx, span := c.engine.span(ctx, SpanWrite, o)
	err := c.commitSettled(ctx, o, log, send, rollback)
	c.endWrite(span, err)
	return err
}

// commitSettled carries out the steps from the second on. log is given back where the transaction goes on.
func (c *conn) commitSettled(ctx context.Context, o *owed, log []change, send, rollback func() error) error {
	held, err := c.fence(ctx, o)                                   // 2
	if refusal := c.withoutFence(ctx, held, err); refusal != nil { // 2a
		c.engine.stats.refused.Add(1)
		_ = rollback() // the refusal is the error to return
		c.keepLog(log)
		held.release(ctx)
		return refusal
	}
	crashPoint("fenced")
	reachable := c.reachable(ctx)
	err = send() // 3
	if err != nil {
		c.keepLog(log)
		c.keepSkipped(log, err)
	}
	crashPoint("committed")
	held.end(ctx, c.outcome(err, reachable)) // 4, 5
	crashPoint("applied")
	return err
}

// keepLog puts the log back where the transaction is still open: the COMMIT, or the
// ROLLBACK, did not reach the server.
func (c *conn) keepLog(log []change) {
	if c.pgx != nil && !c.pgx.IsClosed() && c.inTx() {
		c.tx.log = log
	}
}

// keepSkipped puts it back where the base has not taken COMMIT as a text, so that
// database/sql will prepare it.
func (c *conn) keepSkipped(log []change, err error) {
	if skipped(err) {
		c.tx.log = log
	}
}

// runControl carries out a transaction word that was sent as SQL.
func (c *conn) runControl(ctx context.Context, st *step, r request) (response, error) {
	switch st.action {
	case actCommit:
		return c.commitSQL(ctx, st, r)
	case actPrepareTransaction:
		if !c.txFailed() && !c.settle().empty() {
			return response{}, fmt.Errorf("%w: PREPARE TRANSACTION after writes of ruled tables is not supported, because another session decides what becomes of them; COMMIT instead, or keep the ruled writes out of it", ErrNotCapturable)
		}
	}
	res, err := c.send(ctx, r.sql, r)
	if err == nil {
		c.track(st)
	}
	return res, err
}

// rollbackTimeout bounds a ROLLBACK that the caller did not send.
const rollbackTimeout = 5 * time.Second

// commitSQL is COMMIT or END sent as text.
func (c *conn) commitSQL(ctx context.Context, st *step, r request) (res response, err error) {
	err = c.commit(ctx, func() error {
		res, err = c.send(ctx, r.sql, r)
		return err
	}, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_, err := c.sendText(ctx, "ROLLBACK", request{part: true})
		return err
	})
	if err != nil {
		res = response{}
	}
	if skipped(err) {
		return res, err
	}
	// A COMMIT that fails has ended the transaction all the same, unless it was not sent.
	if c.pgx == nil || !c.inTx() || st.stmt.Chain && err == nil {
		c.track(st)
	}
	return res, err
}

// commitPrepared commits what some session has prepared, which may be rows of any rule: a
// coarse write of all of them, whose COMMIT this statement is. Where it is refused the
// prepared transaction stays as it was.
func (c *conn) commitPrepared(ctx context.Context, st *step, r request) (res response, err error) {
	c.count(st)
	c.tx = txState{}
	c.tx.coarse(st.coarse)
	defer c.endTx()
	err = c.commit(ctx, func() error {
		res, err = c.send(ctx, r.sql, r)
		return err
	}, func() error { return nil })
	if err != nil {
		return response{}, err
	}
	return res, nil
}

// track follows a transaction word that has succeeded.
func (c *conn) track(st *step) {
	switch st.action {
	case actBegin:
		if !c.tx.open {
			c.tx.begin()
		}
	case actCommit, actPrepareTransaction:
		c.endTx()
		c.tx.open = st.stmt.Chain
	case actRollback:
		c.rolledBack()
		c.endTx()
		c.tx.open = st.stmt.Chain
	case actSavepoint:
		c.tx.savepoint(st.stmt.Name)
	case actRelease:
		c.tx.release(st.stmt.Name)
	case actRollbackTo:
		c.tx.rollbackTo(st.stmt.Name)
		c.sessionStale = c.sessionStale || c.tx.session
	}
}

// endTx forgets the transaction. Settings that it made are undone by its end, or stay.
func (c *conn) endTx() {
	c.sessionStale = c.sessionStale || c.tx.session
	if c.tx.ddl {
		c.engine.catalogueChanged()
	}
	c.tx = txState{}
}

func (c *conn) rolledBack() {
	if len(c.tx.log) > 0 {
		c.engine.stats.rolledBack.Add(1)
	}
}

// inTx says whether a transaction that the user began is open.
func (c *conn) inTx() bool {
	if c.pgx != nil {
		return c.pgx.PgConn().TxStatus() != txIdle
	}
	return c.tx.open
}

// txFailed says whether the open transaction can only be rolled back.
func (c *conn) txFailed() bool {
	return c.pgx != nil && c.pgx.PgConn().TxStatus() == txFailed
}

// reconcile is the net under everything else: where the server says that no
// transaction is open and something is still in the log, a transaction ended in a
// way that no text showed. The keys are made absent, which is always right.
func (c *conn) reconcile() {
	if c.pgx == nil || len(c.tx.log) == 0 || c.inTx() || c.pgx.IsClosed() {
		return
	}
	o := c.settle()
	c.endTx()
	c.engine.report("a transaction ended unseen; its keys are made absent", ErrNotCapturable)
	h := &fences{engine: c.engine, owed: o, keysOwed: len(o.strict) > 0, coarseOwed: len(o.coarse) > 0}
	h.owe()
	if keys := keysOf(o.eventual); len(keys) > 0 {
		c.engine.sync.Owe(keys)
	}
}
