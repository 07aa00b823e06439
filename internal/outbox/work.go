package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// work drains the outbox and ends outages until Close.
func (b *Box) work() {
	var failing time.Duration
	var measured time.Time
	for {
		busy, err := b.round(&measured)
		b.busy.Store(busy)
		pause := b.o.Idle
		switch {
		case err != nil:
			failing = min(max(2*failing, b.o.Busy), b.o.Idle)
			pause = failing
			b.report("the outbox cannot be drained", err)
		case busy:
			pause, failing = b.o.Busy, 0
		default:
			failing = 0
		}
		b.tellRound()
		timer := time.NewTimer(jitter(pause))
		select {
		case <-timer.C:
		case <-b.wake:
		case <-b.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// tellRound wakes those who wait for a round of the worker to be over.
func (b *Box) tellRound() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.rounds)
	b.rounds = make(chan struct{})
}

// round looks once, and does what there is to do. It is busy where there may soon be more.
func (b *Box) round(measured *time.Time) (busy bool, err error) {
	if !b.o.Settler.Reachable() {
		return b.endure(measured)
	}
	var rows, outages bool
	ctx, cancel := context.WithTimeout(b.ctx, requestTimeout)
	defer cancel()
	if err := b.queryPrimary(ctx, b.text.glance, nil, &rows, &outages); err != nil {
		return true, fmt.Errorf("look at the outbox: %w", err)
	}
	b.noteOutage(outages)
	if rows {
		if err := b.drain(); err != nil {
			return true, err
		}
		if _, err := b.measure(); err != nil {
			return true, err
		}
	} else {
		b.stats.depth.Store(0)
		b.stats.oldestMillis.Store(0)
	}
	if err := b.endOutages(outages); err != nil {
		return true, err
	}
	return rows || outages, nil
}

// endOutages removes outages that nothing needs any more: this process', and those of dead ones.
func (b *Box) endOutages(any bool) error {
	if _, err := b.withdraw(b.ctx); err != nil || !any {
		return err
	}
	if err := b.release(b.ctx, b.text.releaseDead); err != nil {
		return err
	}
	gone, _, err := b.remove(b.ctx, b.text.removeDead)
	b.stats.removedDead.Add(gone)
	return err
}

// measureEach is how often the outbox is measured while it cannot be drained.
const measureEach = 2 * time.Second

// endure is a round while Redis is out of reach: others may drain, and this process keeps the table in bounds.
func (b *Box) endure(measured *time.Time) (busy bool, err error) {
	b.drainer.aside = nil // what was refused may have been so because Redis went away
	id := b.announcedID()
	if id == 0 {
		return false, nil
	}
	if now := time.Now(); now.Sub(*measured) >= measureEach {
		*measured = now
		return true, b.bound(id)
	}
	return true, nil
}

func (b *Box) announcedID() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.outage == nil {
		return 0
	}
	return b.outage.id
}

func (b *Box) measure() (depth int64, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, requestTimeout)
	defer cancel()
	var oldest int64
	if err := b.query(ctx, b.text.measure, nil, &depth, &oldest); err != nil {
		return 0, fmt.Errorf("measure the outbox: %w", err)
	}
	b.stats.depth.Store(depth)
	b.stats.oldestMillis.Store(oldest)
	return depth, nil
}

// ErrNotDrained is wrapped by what Drained returns while something is still owed.
var ErrNotDrained = errors.New("wtcache: outbox is not drained")

const (
	drainedPatience = time.Second
	drainedPause    = 20 * time.Millisecond
)

// Drained returns nil once the outbox holds nothing that was visible at the call, but for what is held back until another process' outage
// is over, which readers are kept from by that outage, and this process has no outage. It has the outbox
// drained meanwhile and waits for up to a second; then, and when the context ends, it returns an error that wraps ErrNotDrained, or that
// of Postgres. A row that cannot be read or settled is not drained.
func (b *Box) Drained(ctx context.Context) error {
	b.Start()
	ctx, cancel := context.WithTimeout(ctx, drainedPatience)
	defer cancel()
	var newest int64
	if err := b.queryPrimary(ctx, b.text.newest, nil, &newest); err != nil {
		return fmt.Errorf("look at the outbox: %w", err)
	}
	var last error
	pause := drainedPause
	for {
		b.mu.Lock()
		round := b.rounds
		b.mu.Unlock()
		err := b.owedUpTo(ctx, newest)
		switch {
		case err == nil:
			return nil
		case last != nil && ctx.Err() != nil:
			return last // not that the last look was cut short
		}
		last = err
		b.Nudge()
		if !await(ctx, b.ctx, round) || !await(ctx, b.ctx, time.After(pause)) {
			return err
		}
		pause = min(2*pause, drainedPatience/2)
	}
}

func (b *Box) owedUpTo(ctx context.Context, newest int64) error {
	if b.Announced() {
		return fmt.Errorf("%w: this process' outage is not over", ErrNotDrained)
	}
	var owed bool
	if err := b.queryPrimary(ctx, b.text.upTo, []any{newest}, &owed); err != nil {
		return fmt.Errorf("look at the outbox: %w", err)
	}
	if owed {
		return fmt.Errorf("%w: rows up to %d are left", ErrNotDrained, newest)
	}
	return nil
}

// await waits for a channel; false where a context ends first.
func await[T any](ctx, other context.Context, c <-chan T) bool {
	select {
	case <-c:
		return true
	case <-ctx.Done():
	case <-other.Done():
	}
	return false
}
