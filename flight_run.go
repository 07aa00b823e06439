package wtcache

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/wtcache/wtcache/cachesync"
)

// Pauses between questions whether another process has filled a key.
const (
	fillPauseMin = time.Millisecond
	fillPauseMax = 20 * time.Millisecond
)

// run carries a batch out. For each key: take a lease, look at the rule's barrier, and
// only then take the snapshot that the fill will store; a barrier that is looked at
// after the snapshot may already have been lifted by the very commit that the snapshot
// has missed. Where another reader has the lease, ask again for a while.
func (b *batch) run() {
	var span span
	b.ctx, span = b.missSpan()
	if span.end != nil {
		defer func() { span.done(b.failure()) }()
	}
	if b.bypass {
		b.read(b.flights)
		return
	}
	pending, end, pause := b.flights, time.Now().Add(b.wait), fillPauseMin
	for {
		last := !time.Now().Before(end)
		var ready []*flight
		ready, pending = b.lease(pending, last)
		if b.read(ready); len(pending) == 0 {
			return
		}
		select {
		case <-b.ctx.Done():
			return // nobody rides, nor ever will
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, fillPauseMax)
	}
}

// lease asks for leases. ready are the flights that read the database now, with a lease or
// without one; those for which a value was there have landed.
func (b *batch) lease(some []*flight, last bool) (ready, taken []*flight) {
	fl := &b.cache.engine.flights
	keys := make([]string, len(some))
	for i, f := range some {
		keys[i] = f.asked.key
	}
	fl.sends(some)
	var there []*flight
	// Beyond the riders' patience, as a lease whose answer is lost cannot be given back.
	ctx, cancel := b.patience(context.WithoutCancel(b.ctx))
	defer cancel()
	for i, l := range b.cache.engine.sync.Leases(ctx, keys, b.target.wanted(b.maxAge)) {
		f := some[i]
		switch {
		case l.State == cachesync.LeaseValue:
			f.landing = landing{reading: cached(l.Value, l.Age, false), at: f.sent}
			there = append(there, f)
		case l.State == cachesync.LeaseTaken && !last:
			taken = append(taken, f)
			f.hold()
		default:
			f.lease = l
			ready = append(ready, f)
		}
	}
	b.cache.engine.stats.hits.Add(uint64(len(there)))
	fl.land(there)
	return ready, taken
}

// hold tells the riders that another process has the lease.
func (f *flight) hold() {
	select {
	case <-f.held:
	default:
		close(f.held)
	}
}

// read takes the flights' rows from the database, fills what may be filled, and lands.
func (b *batch) read(some []*flight) {
	if len(some) == 0 {
		return
	}
	e := b.cache.engine
	leased := 0
	for _, f := range some {
		if f.lease.State == cachesync.LeaseGranted {
			leased++
		}
	}
	e.stats.bypasses.Add(uint64(len(some) - leased))
	barred := false
	if leased > 0 {
		ctx, cancel := b.patience(b.ctx)
		barred, _ = e.sync.BarrierHeld(ctx, b.target.table.Barrier) // an error bars
		cancel()
	}
	if leased == len(some) && !barred {
		if some = b.readStandby(some); len(some) == 0 {
			return
		}
	}
	e.flights.sends(some)
	rows, err := b.cache.readRows(b.ctx, b.target, asksOf(some))
	arrive(some, rows, err)
	b.fill(some, rows, barred)
	e.flights.land(some)
}

// readStandby lands what a read replica is proved to have and Redis has taken. The rest is
// left for the primary; its leases that were used up are gone.
func (b *batch) readStandby(some []*flight) (rest []*flight) {
	e := b.cache.engine
	e.flights.sends(some) // the snapshot is as of now
	ctx, cancel := b.patience(b.ctx)
	defer cancel()
	rows, ok := b.cache.standbyRows(ctx, b.target, asksOf(some))
	if !ok {
		return some
	}
	arrive(some, rows, nil)
	b.fill(some, rows, false)
	var stored []*flight
	for _, f := range some {
		if f.landing.filledAt > 0 {
			stored = append(stored, f)
		} else {
			rest = append(rest, f)
		}
	}
	e.stats.bypasses.Add(uint64(len(rest)))
	e.flights.land(stored)
	return rest
}

func asksOf(some []*flight) []asked {
	asks := make([]asked, len(some))
	for i, f := range some {
		asks[i] = f.asked
	}
	return asks
}

// arrive notes what the latest request of the flights has brought.
func arrive(some []*flight, rows []row, err error) {
	for i, f := range some {
		f.landing = landing{at: f.sent, err: err, several: err != nil && len(some) > 1}
		if err == nil {
			f.landing.reading, f.landing.err = rows[i].reading(), rows[i].err
		}
	}
}

// fill stores the rows that were read under a lease, and gives the other leases back. A
// lease is used once.
func (b *batch) fill(some []*flight, rows []row, barred bool) {
	e := b.cache.engine
	var fills []cachesync.Filling
	var leased []*flight
	for i, f := range some {
		if f.lease.State != cachesync.LeaseGranted {
			continue
		}
		var entry cachesync.Entry // none gives the lease back
		if f.landing.err == nil && !barred {
			entry = b.target.fillable(rows[i], f.asked)
		}
		fills, leased = append(fills, cachesync.Filling{Lease: f.lease, Entry: entry}), append(leased, f)
		f.lease = cachesync.LeaseResult{}
	}
	if len(fills) == 0 {
		return
	}
	e.flights.sends(leased)
	// Even if they have left: a lease that is not given back is in others' way.
	ctx, cancel := b.patience(context.WithoutCancel(b.ctx))
	defer cancel()
	filled, _ := e.sync.Fills(ctx, fills) // what is not stored is no error
	for i, f := range leased {
		if filled[i] {
			e.stats.fills.Add(1)
			f.landing.filledAt = f.sent
		}
	}
}
