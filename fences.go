package wtcache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

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
	queued               *queued // what could not be is in the outbox, in the same transaction; else nil
	unfenced             bool    // something could not be
}

// fence carries out step 2, unless its failure is known already.
func (c *conn) fence(ctx context.Context, o *owed) (*fences, error) {
	if err := c.tx.noFence; err != nil {
		return c.engine.unfenced(o, err)
	}
	return c.engine.fence(ctx, o)
}

// unfenced is what there is of a fence that failed before anything was captured.
func (e *engine) unfenced(o *owed, err error) (*fences, error) {
	h := &fences{engine: e, owed: o, keysOwed: len(o.strict) > 0, coarseOwed: len(o.coarse) > 0, unfenced: true}
	h.partial, _ = errors.AsType[*cachesync.FenceError](err)
	return h, err
}

// fence carries out step 2. On error it still gives what was fenced, for a caller
// who goes on all the same. The context's cancellation does not end it: a fence that
// is cut off half-way would have to be waited for anyhow.
func (e *engine) fence(ctx context.Context, o *owed) (*fences, error) {
	ctx = context.WithoutCancel(ctx)
	if e.sync.Down() {
		return e.unfenced(o, errDown)
	}
	defer e.stats.fenceTimes.since(time.Now())
	ctx, span := e.span(ctx, SpanFence, o)
	h := &fences{engine: e, owed: o}
	err := h.fenceKeys(ctx)
	crashPoint("keys fenced")
	err = errors.Join(err, h.fenceCoarse(ctx))
	span.done(err)
	h.unfenced = err != nil
	h.partial, _ = errors.AsType[*cachesync.FenceError](err)
	return h, err
}

// errDown is why nothing is fenced while Redis is known not to answer.
var errDown = fmt.Errorf("%w: it has not answered for a while and is asked again in the background", ErrUnavailable)

func (h *fences) fenceKeys(ctx context.Context) (err error) {
	keys := keysOf(h.owed.strict)
	if len(keys) == 0 {
		return nil
	}
	h.keys, err = h.engine.sync.FenceReplicated(ctx, keys, h.owed.replicas)
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
	if h.barriers, err = h.engine.sync.FenceReplicated(ctx, barriers, h.owed.replicas); err == nil {
		crashPoint("barred")
		err = h.sweep(ctx)
	}
	h.coarseOwed = err != nil
	return err
}

// sweep makes every entry of the coarse rules absent.
func (h *fences) sweep(ctx context.Context) error {
	ctx, span := h.engine.sweepSpan(ctx, h.owed.coarse)
	_, err := h.engine.sync.SweepReplicated(ctx, globsOf(h.owed.coarse...), h.owed.replicas)
	span.done(err)
	return err
}

// sweepLate is for a statement that has committed by itself and turns out to be coarse: too
// many rows, or one that cannot be read. What cannot be swept now is owed by end.
func (h *fences) sweepLate(ctx context.Context, coarse []*rules.Table) {
	h.owed.coarse = coarse
	_ = h.fenceCoarse(context.WithoutCancel(ctx)) // coarseOwed says so
}

// end carries out step 5. Nothing that goes wrong here is the caller's to know.
func (h *fences) end(ctx context.Context, oc outcome) {
	ctx = context.WithoutCancel(ctx)
	switch oc {
	case outcomeCommitted:
		h.engine.stats.committed.Add(1)
		h.owed.raiseFloors(ctx, true)
		h.applyOrLeave(ctx)
	case outcomeAborted:
		h.engine.stats.rolledBack.Add(1)
		h.release(ctx)
	case outcomeInDoubt:
		h.engine.stats.inDoubt.Add(1)
		h.owed.raiseFloors(ctx, false)
		h.absentMeanwhile()
		h.engine.doubts.add(h)
	}
}

func (h *fences) apply(ctx context.Context) {
	ctx, span := h.engine.span(ctx, SpanApply, h.owed)
	h.applyIn(ctx, span)
}

func (h *fences) applyIn(ctx context.Context, span span) {
	defer h.queued.done()
	defer span.done(nil) // what could not be applied is settled later, and is nobody's error
	h.countUnfenced()
	h.owe()
	if h.keys != nil {
		h.keys.Apply(ctx, h.owed.strict)
	}
	crashPoint("keys applied")
	h.lift(ctx)
	if len(h.owed.eventual) > 0 && !h.queued.covers() {
		h.engine.sync.InvalidateOrOwe(ctx, keysOf(h.owed.eventual))
	}
}

// lift ends the barriers of what is committed, or may be. Where Redis has lost one
// meanwhile, readers may have filled what they read before the commit: the rules are swept
// again before the caller's Commit returns.
func (h *fences) lift(ctx context.Context) {
	if h.barriers == nil || h.barriers.Lift(ctx) || h.coarseOwed {
		return
	}
	if h.sweep(ctx) != nil {
		for _, t := range h.owed.coarse {
			h.engine.sync.OweSweep(t.Barrier, globsOf(t))
		}
	}
}

func (h *fences) countUnfenced() {
	if h.unfenced {
		h.engine.stats.unfenced.Add(1)
	}
}

// owe remembers what could not be fenced, to be made absent when Redis answers.
func (h *fences) owe() {
	e := h.engine
	if h.queued.covers() {
		return // committed with the transaction, or not at all
	}
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
	defer h.queued.done()
	ctx, span := h.engine.span(context.WithoutCancel(ctx), SpanAbort, h.owed)
	defer span.done(nil) // a token that cannot be given back expires
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

// absentMeanwhile is for an outcome in doubt: what no fence keeps out of use goes at once.
func (h *fences) absentMeanwhile() {
	h.owe()
	h.engine.sync.Owe(keysOf(h.owed.eventual))
}

// finish is for a transaction that is over for certain and of which nobody knows how: no
// payload is stored, and those of other writers who met this one are not, either.
func (h *fences) finish(ctx context.Context) {
	defer h.queued.done()
	h.absentMeanwhile()
	if h.keys != nil {
		h.keys.Apply(ctx, nil)
	}
	h.lift(ctx)
}

// expire is for an outcome that cannot be asked for. The strict keys stay fenced until
// the fence expires. Keys without a fence are made absent once more when a fence would
// have expired, since the COMMIT may land in between.
func (h *fences) expire() {
	h.leave()
	if h.queued != nil { // what was queued may be everything, which must not be settled before the COMMIT
		time.AfterFunc(h.engine.cfg.FenceLife, h.queued.done)
	}
	if h.keysOwed || h.coarseOwed || len(h.owed.eventual) > 0 {
		h.absentMeanwhile()
		time.AfterFunc(h.engine.cfg.FenceLife, h.absentMeanwhile) // harmless after the engine was closed
	}
}

// leave ends the fences' renewal and nothing else.
func (h *fences) leave() {
	if h.keys != nil {
		h.keys.Leave()
	}
	if h.barriers != nil {
		h.barriers.Leave()
	}
}

func keysOf[V any](byKey map[string]V) []string {
	keys := make([]string, 0, len(byKey))
	for k := range byKey {
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
