package outbox

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// pollPatience bounds how long a reader waits for a poll, before it reads the database.
const pollPatience = 250 * time.Millisecond

// Pauses after polls that failed.
const (
	pollPauseMin = 100 * time.Millisecond
	pollPauseMax = 2 * time.Second
)

// sight is what the last poll showed. It is immutable.
type sight struct {
	sent  time.Time // before the poll was sent: a lease lasts from here
	clear bool      // no outage was there
	again time.Time // no poll is sent before
	pause time.Duration
}

// fresh says whether cached values may be served, and whether a poll is due.
func (s *sight) fresh(now time.Time, watch time.Duration) (fresh, due bool) {
	if !s.clear {
		return false, !now.Before(s.again)
	}
	age := ageOf(s.sent, now)
	fresh = age >= 0 && age < watch
	return fresh, (!fresh || age >= watch/3) && !now.Before(s.again)
}

// ageOf is the longer of what the monotonic clock and the wall clock say; negative where the wall clock was set back. A monotonic clock may
// stand still while a machine is suspended.
func ageOf(from, now time.Time) time.Duration {
	wall := now.Round(0).Sub(from.Round(0))
	if wall < 0 {
		return wall
	}
	return max(wall, now.Sub(from))
}

// Clear says whether a read that starts now may be served from the cache, under a strict rule that queues: no outage was announced as far
// as such a read can be concerned. Mostly it costs one atomic load and one look at the clock. Where the last poll is too old, the caller
// waits for a new one, for a bounded time and until its context ends. Where an outage is known, or Postgres does not answer, it says
// false at once, and the next poll is made in the background.
func (b *Box) Clear(ctx context.Context) bool {
	s := b.sight.Load()
	if s == nil {
		return b.awaitPoll(ctx)
	}
	fresh, due := s.fresh(b.o.seams.now(), b.o.Watch)
	switch {
	case !due:
		return fresh
	case fresh || !s.clear:
		b.beginPoll()
		return fresh
	}
	return b.awaitPoll(ctx)
}

func (b *Box) awaitPoll(ctx context.Context) bool {
	over := b.beginPoll()
	if over == nil {
		return false
	}
	timer := time.NewTimer(pollPatience)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
	s := b.sight.Load()
	if s == nil {
		return false
	}
	fresh, _ := s.fresh(b.o.seams.now(), b.o.Watch)
	return fresh
}

// beginPoll gives what is closed when the poll under way is over, and begins one where there is none; nil where the Box is closed.
func (b *Box) beginPoll() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil
	}
	if b.poll == nil {
		over := make(chan struct{})
		b.poll = over
		b.spawn(func() { b.look(over) })
	}
	return b.poll
}

// look polls once and notes what it saw.
func (b *Box) look(over chan struct{}) {
	seen := b.pollOnce()
	b.mu.Lock()
	if b.outage != nil && seen.clear { // announced after the poll's snapshot
		seen.clear, seen.again = false, again(false, b.o.seams.now(), b.o.Busy)
	}
	if b.closed {
		seen = nil
	}
	b.sight.Store(seen)
	b.poll = nil
	close(over)
	b.mu.Unlock()
	if seen != nil && !seen.clear && seen.pause == 0 && !b.busy.Load() {
		b.Nudge() // there may be something to drain
	}
}

// pollOnce asks the primary. A poll that failed takes nothing from a lease that another one gave.
func (b *Box) pollOnce() *sight {
	ctx, cancel := context.WithTimeout(b.ctx, max(b.o.Watch, pollPatience))
	defer cancel()
	sent, clear, err := b.askPrimary(ctx)
	b.stats.polls.Add(1)
	now := b.o.seams.now()
	if err == nil {
		return &sight{sent: sent, clear: clear, again: again(clear, now, b.o.Busy)}
	}
	b.stats.pollFailures.Add(1)
	b.report("outages cannot be looked for, and cached values of strict rules are not served meanwhile", err)
	failed := sight{}
	if last := b.sight.Load(); last != nil {
		failed = *last
	}
	failed.pause = min(max(2*failed.pause, pollPauseMin), pollPauseMax)
	failed.again = now.Add(jitter(failed.pause))
	return &failed
}

func again(clear bool, now time.Time, busy time.Duration) time.Time {
	if clear {
		return time.Time{}
	}
	return now.Add(jitter(busy))
}

// askPrimary sends a poll, and a second one where this length of a lease was not registered: only a poll that finds it so gives a lease.
func (b *Box) askPrimary(ctx context.Context) (sent time.Time, clear bool, err error) {
	err = b.with(ctx, func(c *sql.Conn) error {
		for range 2 {
			var recovers, out, registered bool
			sent = b.o.seams.now()
			b.o.seams.at("poll")
			if err := c.QueryRowContext(ctx, b.text.poll, b.args()...).Scan(&recovers, &out, &registered); err != nil {
				return err
			}
			switch {
			case recovers:
				return errStandby
			case registered || out:
				clear = registered && !out
				return nil
			}
			if _, err := c.ExecContext(ctx, b.text.register, b.args()...); err != nil {
				return err
			}
		}
		return errNotRegistered
	})
	return sent, clear, err
}

// noteOutage takes what the worker saw into account: an outage that a reader has not looked for yet, or one that is over.
func (b *Box) noteOutage(out bool) {
	switch s := b.sight.Load(); {
	case s == nil:
	case out && s.clear:
		b.sight.CompareAndSwap(s, &sight{again: again(false, b.o.seams.now(), b.o.Busy)})
	case !out && !s.clear:
		b.beginPoll()
	}
}

var errNotRegistered = errors.New("wtcache: the outbox's table watch does not keep what is written to it")
