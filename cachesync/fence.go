package cachesync

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Fence is a writer's hold on its keys while a commit is in flight. It renews
// itself until Apply, Abort or Leave; the first of these counts, later ones do
// nothing. It is safe for concurrent use.
type Fence struct {
	c    *Client
	held []*heldKey
	// replicas must have what the fence and its renewals write.
	replicas int

	mu    sync.Mutex // guards done and timer; nothing is sent under it
	done  bool
	timer *time.Timer

	// sending is held while a renewal talks to Redis, and guards the tokens in
	// held: whoever ends the fence waits for it, or a token minted by the
	// renewal would outlive the fence.
	sending sync.Mutex
}

// heldKey is one key of a fence and every token that was tried on it.
type heldKey struct {
	names  siblings
	tokens tokens
	// bare: the token was once found gone, so another writer may have come and
	// gone unseen, and this one's payload is no longer known to be the last.
	bare bool
	// from is who acknowledged the newest token. bare is also set where that server is
	// young, or is no more the one that it was.
	from answerer
}

// tokens are what a writer has put on a key: the newest, and those of earlier
// tries, which may have got through too. All are released together.
type tokens struct {
	own     string
	earlier []string
}

func (t *tokens) mint() string {
	if t.own != "" {
		t.earlier = append(t.earlier, t.own)
	}
	t.own = newToken()
	return t.own
}

// Fence puts one fresh token on every key, in one pipeline, and returns when
// all are acknowledged: from then on no reader is served or fills these keys
// until the fence ends. On error it is a *FenceError that wraps ErrUnavailable
// or the caller's context error, or it is ErrClosed. Keys that cannot have
// siblings in their slot are never cached and need no fence.
//
// The context bounds the call alone, not the fence.
func (c *Client) Fence(ctx context.Context, keys []string) (*Fence, error) {
	return c.FenceReplicated(ctx, keys, 0)
}

// FenceReplicated is Fence, and counts a key as fenced only when so many replicas of its
// server have acknowledged the fence: a failover to one of them keeps it. Renewals are held
// to the same. With fewer than that the error wraps ErrReplicas, and ErrUnavailable.
func (c *Client) FenceReplicated(ctx context.Context, keys []string, replicas int) (*Fence, error) {
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	f := &Fence{c: c, held: c.hold(keys), replicas: replicas}
	if len(f.held) == 0 {
		return f, nil
	}
	start := time.Now()
	failed, err := c.acquire(ctx, f.held, replicas)
	if err == nil && time.Since(start) >= c.o.FenceLife {
		failed, err = f.held, fmt.Errorf("%w: fencing took longer than a fence lives", ErrUnavailable)
	}
	if err != nil {
		return nil, f.failure(failed, err)
	}
	f.arm(c.renewalIn(start))
	return f, nil
}

// hold lists the keys once each, without those that are never cached.
func (c *Client) hold(keys []string) []*heldKey {
	held := make([]*heldKey, 0, len(keys))
	var seen map[string]bool // nil for the one key of most writes
	if len(keys) > 1 {
		seen = make(map[string]bool, len(keys))
	}
	for _, key := range keys {
		if seen[key] {
			continue
		}
		if seen != nil {
			seen[key] = true
		}
		if names, ok := siblingsOf(key); ok {
			held = append(held, &heldKey{names: names})
		} else {
			c.stats.Uncacheable.Add(1)
		}
	}
	return held
}

// acquire puts a fresh token on each key, and once more under another token
// where a connection broke: pooled connections die unseen behind proxies; and where
// it is not known who acknowledged. It returns the keys without an acknowledgement.
func (c *Client) acquire(ctx context.Context, keys []*heldKey, replicas int) (failed []*heldKey, err error) {
	failed, err = c.tryAcquire(ctx, keys, replicas)
	if err != nil && worthAnotherTry(ctx, err) {
		failed, err = c.tryAcquire(ctx, failed, replicas)
	}
	c.stats.Fences.Add(int64(len(keys) - len(failed)))
	c.stats.FenceFailures.Add(int64(len(failed)))
	return failed, err
}

func (c *Client) tryAcquire(ctx context.Context, keys []*heldKey, replicas int) (failed []*heldKey, err error) {
	calls := make([]*call, len(keys))
	for i, h := range keys {
		calls[i] = fenceCall(h.names, &h.tokens, c.o.FenceLife)
		calls[i].replicas = replicas
	}
	c.run(ctx, calls...)
	for i, k := range calls {
		_, e := k.number()
		if e == nil && k.known == nil {
			e = errChanged
		}
		keys[i].from = k.answerer
		keys[i].bare = keys[i].bare || e == nil && k.known.quarantined()
		if e != nil {
			failed = append(failed, keys[i])
			if err == nil {
				err = e
			}
		}
	}
	return failed, err
}

// worthAnotherTry: a broken connection is; a refusal, a timeout that has used
// the caller's patience up, or an open breaker is not.
func worthAnotherTry(ctx context.Context, err error) bool {
	var timeout net.Error
	switch {
	case errors.Is(err, errChanged):
		return callerGone(ctx) == nil
	case callerGone(ctx) != nil, isReply(err), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests),
		errors.As(err, &timeout) && timeout.Timeout():
		return false
	}
	return true
}

func (f *Fence) failure(failed []*heldKey, err error) *FenceError {
	e := &FenceError{Err: err, fence: f}
	missing := make(map[*heldKey]bool, len(failed))
	for _, h := range failed {
		missing[h] = true
		e.Failed = append(e.Failed, h.names.key)
	}
	for _, h := range f.held {
		if !missing[h] {
			e.Fenced = append(e.Fenced, h.names.key)
		}
	}
	return e
}

// renewalIn says when tokens sent at start are to be renewed: well before half
// of their life has passed, so that one failed try can be made good.
func (c *Client) renewalIn(start time.Time) time.Duration {
	return max(c.o.FenceLife*2/5-time.Since(start), 0)
}

// arm schedules the next renewal. Most fences end long before it.
func (f *Fence) arm(in time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.done {
		f.timer = time.AfterFunc(in, f.renew)
	}
}

// renew extends the tokens. One that is gone is replaced, and its key is then
// released without a payload.
func (f *Fence) renew() {
	if !f.c.begin() {
		return
	}
	defer f.c.background.Done()
	f.sending.Lock()
	defer f.sending.Unlock()
	if f.ended() {
		return
	}
	start := time.Now()
	err := f.extend()
	in := f.c.renewalIn(start)
	if err != nil {
		f.c.report("a fence could not be renewed", fmt.Errorf("renew fence: %w", err))
		in = f.c.o.FenceLife / 10
	}
	f.arm(in)
}

// extend runs under sending.
func (f *Fence) extend() error {
	calls := make([]*call, len(f.held))
	for i, h := range f.held {
		calls[i] = renewCall(h.names, h.tokens.own, f.c.o.FenceLife)
		calls[i].replicas = f.replicas
	}
	f.c.run(f.c.ctx, calls...)
	var gone []*heldKey
	var failure error
	for i, k := range calls {
		switch there, err := k.number(); {
		case err != nil:
			failure = err
		case there == 1 && f.c.kept(f.held[i].from):
			f.c.stats.Renewals.Add(1)
		case there == 1: // a copy of the token, at a server that may have lost others
			f.held[i].bare = true
			f.c.stats.Renewals.Add(1)
		default:
			f.held[i].bare = true
			gone = append(gone, f.held[i])
		}
	}
	if len(gone) == 0 || f.ended() {
		return failure
	}
	missing, err := f.c.acquire(f.c.ctx, gone, f.replicas)
	f.c.stats.Refenced.Add(int64(len(gone) - len(missing)))
	return errors.Join(failure, err)
}

func (f *Fence) ended() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

// end stops renewal and waits for one that is under way. It reports whether
// the caller is the one who ended the fence.
func (f *Fence) end() bool {
	f.mu.Lock()
	first := !f.done
	f.done = true
	if f.timer != nil {
		f.timer.Stop()
	}
	f.mu.Unlock()
	f.sending.Lock()
	defer f.sending.Unlock()
	return first
}

// Leave ends the renewal and nothing else: the fence expires by itself. It is
// for a commit whose outcome will not be known.
func (f *Fence) Leave() { f.end() }

// Abort releases the keys after a definite rollback, and never otherwise: a
// commit in doubt needs its fence. Tokens that cannot be released expire by
// themselves. It does not stop when the context ends.
func (f *Fence) Abort(ctx context.Context) { f.release(ctx) }

// Lift ends a fence on a barrier, after a commit as after a rollback. It
// reports whether the barrier is known to have stood all along. Where Redis
// has lost it, readers may have filled old rows behind the sweep's back, and
// after a commit the sweep has to be done again. It does not stop when the
// context ends.
func (f *Fence) Lift(ctx context.Context) (unbroken bool) { return f.release(ctx) }

func (f *Fence) release(ctx context.Context) (unbroken bool) {
	if !f.end() || len(f.held) == 0 {
		return true
	}
	calls := make([]*call, len(f.held))
	for i, h := range f.held {
		calls[i] = abortCall(h.names, &h.tokens)
	}
	f.c.run(context.WithoutCancel(ctx), calls...)
	var failed []string
	var failure error
	unbroken = true
	for i, k := range calls {
		answer, err := k.answer()
		if err != nil {
			failed, failure = append(failed, f.held[i].names.key), err
		}
		if err != nil || answer == "gone" || f.held[i].bare {
			unbroken = false
		}
	}
	f.c.stats.Aborts.Add(int64(len(calls) - len(failed)))
	f.c.stats.AbortFailures.Add(int64(len(failed)))
	if failure != nil {
		f.c.report("a fence was left to expire", &KeysError{Op: "abort", Keys: failed, Err: failure})
	}
	return unbroken
}
