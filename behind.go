package wtcache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/wtcache/wtcache/rules"
)

// What may be pending behind callers. Above it they apply themselves, so that a Redis that is slower than
// the writers slows them down instead of filling the memory. The keys are as many as one transaction may
// capture by default, and all of them are applied within the deadline of as many pipelines.
const (
	maxBehind     = 64
	maxBehindKeys = 10_000
)

// behind has the applies of `apply: async` that are carried out behind the callers of committed writes, each
// on a goroutine of its own. Their order does not matter: of several writers who meet on a key only the last to
// leave could store, and does not, since it was not alone.
// It is safe for concurrent use; the zero value is ready.
type behind struct {
	pending atomic.Int64 // applies; with 0 there are no keys

	mu     sync.Mutex // guards the rest; nothing is sent under it
	size   int        // of the pending applies, in keys
	keys   map[string]pendingKey
	closed bool
	done   sync.WaitGroup
}

// pendingKey says how many pending applies a key has, and when the latest is done.
type pendingKey struct {
	n      int
	latest chan struct{}
}

// add takes an apply, unless there are too many. done is to be given to remove.
func (b *behind) add(o *owed) (done chan struct{}, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.pending.Load() >= maxBehind || b.size+o.size() > maxBehindKeys {
		return nil, false
	}
	b.done.Add(1)
	b.pending.Add(1)
	b.size += o.size()
	if b.keys == nil {
		b.keys = map[string]pendingKey{}
	}
	done = make(chan struct{})
	o.eachKey(func(key string) { b.keys[key] = pendingKey{b.keys[key].n + 1, done} })
	return done, true
}

// remove ends one that has been carried out, or is owed.
func (b *behind) remove(o *owed, done chan struct{}) {
	b.mu.Lock()
	close(done)
	o.eachKey(func(key string) {
		if p := b.keys[key]; p.n == 1 {
			delete(b.keys, key)
		} else {
			b.keys[key] = pendingKey{p.n - 1, p.latest}
		}
	})
	b.size -= o.size()
	b.pending.Add(-1)
	b.mu.Unlock()
	b.done.Done()
}

// has says whether an apply of the key is pending.
func (b *behind) has(key string) bool {
	if b.pending.Load() == 0 {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[key].n > 0
}

// await waits until what is pending for the keys is applied. A fence that met the one before it would leave the key absent,
// and a row that one connection writes again and again would never be cached; and it is no longer than the write before
// would have waited without the option. Whoever has no time left does not wait: nothing is wrong where two fences meet.
func (b *behind) await(ctx context.Context, keys []string) {
	if b.pending.Load() == 0 {
		return
	}
	for _, key := range keys {
		b.mu.Lock()
		p := b.keys[key]
		b.mu.Unlock()
		if p.n == 0 {
			continue
		}
		select {
		case <-p.latest:
		case <-ctx.Done():
			return
		}
	}
}

// close waits for those that are pending. Whoever commits from now on applies by himself.
func (b *behind) close() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.done.Wait()
}

// owes says whether this process has committed a change of the key that Redis may not have yet. Its own
// readers read the database then.
func (e *engine) owes(key string) bool { return e.behind.has(key) || e.sync.Owes(key) }

// applyOrLeave applies, or leaves that to be done behind the caller where all written rules say so. What is
// coarse, could not be fenced, or went to the outbox is applied at once: a barrier keeps every reader of its
// rule from filling, and of what no fence covers readers should know before the caller goes on.
func (h *fences) applyOrLeave(ctx context.Context) {
	e, began := h.engine, time.Now()
	// It begins inside the write's span, although it may end after it.
	ctx, span := e.span(ctx, SpanApply, h.owed)
	if h.owed.allAsync && len(h.owed.coarse) == 0 && !h.unfenced && h.queued == nil && !e.standsIn.Load() {
		if done, ok := e.behind.add(h.owed); ok {
			e.stats.behind.Add(1)
			go h.applyBehind(ctx, span, began, done)
			return
		}
		e.stats.inLine.Add(1)
	}
	h.applyIn(ctx, span)
	e.stats.applyTimes.since(began)
}

func (h *fences) applyBehind(ctx context.Context, span span, began time.Time, done chan struct{}) {
	defer h.engine.behind.remove(h.owed, done)
	crashPoint("behind")
	h.applyIn(ctx, span)
	h.engine.stats.applyTimes.since(began)
}

// size counts the keys that a commit writes.
func (o *owed) size() int { return len(o.strict) + len(o.eventual) }

func (o *owed) eachKey(do func(key string)) {
	for key := range o.strict {
		do(key)
	}
	for key := range o.eventual {
		do(key)
	}
}

// sayDepartures tells once of rules that promise less.
func (e *engine) sayDepartures(set *rules.Set) {
	for _, t := range set.Tables {
		if e.eventual(t) {
			e.once("eventual "+t.Name.String(), "writes of a table reach Redis after their COMMIT alone; README, \"Eventual\", says what that gives up",
				"table", t.Name.String(), "rule", t.Rule.Pos.String())
		}
		if t.Rule.Apply == rules.Async {
			e.once("async "+t.Name.String(), "writes of a table return before Redis has them; README, \"Apply behind the caller\", says what that gives up",
				"table", t.Name.String(), "rule", t.Rule.Pos.String())
		}
	}
}
