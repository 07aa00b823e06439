package wtcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
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
//     2a. Redis cannot be fenced: refuse (roll back), or go on and owe the keys.
//  3. COMMIT.
//  4. Judge the outcome by the error.
//  5. Committed: apply. Aborted: give the fences back. In doubt: leave them to expire.
//
// The crash points between the steps are named by hook.
func (c *conn) commit(ctx context.Context, send, rollback func() error) error {
	if len(c.tx.log) == 0 || c.txFailed() { // a failed transaction's COMMIT is a rollback
		return send()
	}
	o := c.settle() // 1
	log := c.tx.log
	c.tx.log = nil
	if o.empty() {
		return send()
	}
	crashPoint("settled")
	held, err := c.engine.fence(ctx, o) // 2
	if err != nil && len(o.refusing) > 0 {
		c.engine.stats.refused.Add(1) // 2a
		_ = rollback()                // the refusal is the error to return
		c.keepLog(log)
		held.release(ctx)
		return &RefusedError{Rules: o.refusing, Err: err}
	}
	crashPoint("fenced")
	reachable := c.reachable(ctx)
	err = send() // 3
	if err != nil {
		c.keepLog(log)
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

// fences are what a commit holds in Redis between its steps 2 and 5.
type fences struct {
	engine   *engine
	owed     *owed
	keys     *cachesync.Fence // nil where no key is strict, or none could be fenced
	barriers *cachesync.Fence // nil where nothing is coarse, or none could be fenced

	// What could not be fenced or swept before COMMIT is owed after it. Tokens that
	// may have got through stay meanwhile: they keep the keys out of use.
	keysOwed, coarseOwed bool
	partial              *cachesync.FenceError
}

// fence carries out step 2. On error it still gives what was fenced, for a caller
// who goes on all the same. The context's cancellation does not end it: a fence that
// is cut off half-way would have to be waited for anyhow.
func (e *engine) fence(ctx context.Context, o *owed) (*fences, error) {
	ctx = context.WithoutCancel(ctx)
	h := &fences{engine: e, owed: o}
	err := errors.Join(h.fenceKeys(ctx), h.fenceCoarse(ctx))
	h.partial, _ = errors.AsType[*cachesync.FenceError](err)
	return h, err
}

func (h *fences) fenceKeys(ctx context.Context) (err error) {
	keys := keysOf(h.owed.strict)
	if len(keys) == 0 {
		return nil
	}
	h.keys, err = h.engine.sync.Fence(ctx, keys)
	h.keysOwed = err != nil
	return err
}

func (h *fences) fenceCoarse(ctx context.Context) (err error) {
	if len(h.owed.coarse) == 0 {
		return nil
	}
	var barriers []string
	for _, t := range h.owed.coarse {
		barriers = append(barriers, t.Barrier)
	}
	if h.barriers, err = h.engine.sync.Fence(ctx, barriers); err == nil {
		_, err = h.engine.sync.Sweep(ctx, globsOf(h.owed.coarse...))
	}
	h.coarseOwed = err != nil
	return err
}

// end carries out step 5. Nothing that goes wrong here is the caller's to know.
func (h *fences) end(ctx context.Context, oc outcome) {
	ctx = context.WithoutCancel(ctx)
	switch oc {
	case outcomeCommitted:
		h.engine.stats.committed.Add(1)
		h.apply(ctx)
	case outcomeAborted:
		h.engine.stats.rolledBack.Add(1)
		h.release(ctx)
	case outcomeInDoubt:
		h.engine.stats.inDoubt.Add(1)
		h.leave()
	}
}

func (h *fences) apply(ctx context.Context) {
	h.countUnfenced()
	h.owe()
	if h.keys != nil {
		h.keys.Apply(ctx, h.owed.strict)
	}
	h.lift(ctx)
	if len(h.owed.eventual) > 0 {
		h.engine.sync.ApplyCAS(ctx, h.owed.eventual)
	}
}

// lift ends the barriers of a committed write. Where Redis has lost one meanwhile,
// readers may have filled what they read before the commit: the rules are swept again
// before the caller's Commit returns.
func (h *fences) lift(ctx context.Context) {
	if h.barriers == nil || h.barriers.Lift(ctx) || h.coarseOwed {
		return
	}
	if _, err := h.engine.sync.Sweep(ctx, globsOf(h.owed.coarse...)); err != nil {
		for _, t := range h.owed.coarse {
			h.engine.sync.OweSweep(t.Barrier, globsOf(t))
		}
	}
}

func (h *fences) countUnfenced() {
	if h.keysOwed || h.coarseOwed {
		h.engine.stats.unfenced.Add(1)
	}
}

// owe remembers what could not be fenced, to be made absent when Redis answers.
func (h *fences) owe() {
	e := h.engine
	if h.keysOwed {
		e.sync.Owe(keysOf(h.owed.strict))
	}
	if h.coarseOwed {
		for _, t := range h.owed.coarse {
			e.sync.OweSweep(t.Barrier, globsOf(t))
		}
	}
}

// release gives the fences back after what is certainly no commit.
func (h *fences) release(ctx context.Context) {
	ctx = context.WithoutCancel(ctx)
	if h.partial != nil {
		h.partial.Abort(ctx)
	}
	if h.keys != nil {
		h.keys.Abort(ctx)
	}
	if h.barriers != nil {
		h.barriers.Abort(ctx)
	}
}

// leave is for an outcome in doubt. The strict keys stay fenced until the fence
// expires. Keys without a fence are made absent at once, and once more when a fence
// would have expired, since the COMMIT may land in between.
func (h *fences) leave() {
	if h.keys != nil {
		h.keys.Leave()
	}
	if h.barriers != nil {
		h.barriers.Leave()
	}
	if !h.keysOwed && !h.coarseOwed && len(h.owed.eventual) == 0 {
		return
	}
	h.countUnfenced()
	h.oweInDoubt()
	time.AfterFunc(h.engine.cfg.FenceLife, h.oweInDoubt)
}

// oweInDoubt is harmless after the engine was closed.
func (h *fences) oweInDoubt() {
	h.owe()
	h.engine.sync.Owe(keysOf(h.owed.eventual))
}

func keysOf(entries map[string]cachesync.Entry) []string {
	keys := make([]string, 0, len(entries))
	for k := range entries {
		keys = append(keys, k)
	}
	return keys
}

func globsOf(tables ...*rules.Table) []string {
	var globs []string
	for _, t := range tables {
		globs = append(globs, t.Rule.Globs()...)
	}
	return globs
}

// runControl carries out a transaction word that was sent as SQL.
func (c *conn) runControl(ctx context.Context, st *step, r request) (response, error) {
	switch st.action {
	case actCommit:
		return c.commitSQL(ctx, st, r)
	case actPrepareTransaction:
		if len(c.tx.log) > 0 && !c.txFailed() {
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
		_, err := c.base.exec.ExecContext(ctx, "ROLLBACK", nil)
		return err
	})
	if err != nil {
		res = response{}
	}
	// A COMMIT that fails has ended the transaction all the same, unless it was not sent.
	if c.pgx == nil || !c.inTx() || st.stmt.Chain && err == nil {
		c.track(st)
	}
	return res, err
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
