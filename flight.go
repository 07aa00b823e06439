package wtcache

import (
	"context"
	"sync"
	"time"

	"github.com/wtcache/wtcache/cachesync"
)

// flights are the reads of the database that this process has under way, at most
// one of each kind for a key. Others ride along.
//
// What a flight brings was true when the request that brought it was carried out,
// so it may be given to those who boarded before that request was sent: to nobody
// else, since what was committed and acknowledged before they came may be missing.
// With one exception: a fill that succeeded proves that its row was still true when
// the fill was carried out, so that who boarded before the fill was sent may have it.
type flights struct {
	mu   sync.Mutex // guards byID, and of every flight and batch what says so; nothing is sent under it
	byID map[flightID]*flight
}

// flightID is what must be alike for two readers to share a read.
type flightID struct {
	key, schema string
	maxAge      time.Duration
	// bypass: read the database and leave Redis alone.
	bypass bool
}

// flight is one read of one key.
type flight struct {
	id    flightID
	asked asked
	batch *batch
	done  chan struct{} // closed after landing was set
	held  chan struct{} // closed when another process was seen to have the lease

	// Under flights.mu.
	sent   int // requests sent for it so far
	riders []*rider

	landing landing               // to be read once done is closed
	lease   cachesync.LeaseResult // the batch's
}

// rider is a reader on a flight.
type rider struct {
	// leads: it has started the flight, which waits for others as long as it would. Such a
	// rider may have whatever comes, so it is never on a next flight.
	leads bool
	// until is when the rider's context ends; endless: it has no such time.
	until   time.Time
	endless bool

	// Under flights.mu, until the flight has landed.
	flight *flight
	// boarded is how many requests had been sent then.
	boarded int
}

// landing is what a flight came to.
type landing struct {
	reading
	err error
	// at is the number of the request whose answer it is, filledAt that of the fill
	// which stored it; 0: none did.
	at, filledAt int
	// several: err is that of a statement which asked for other keys, too.
	several bool
}

// mine says whether a rider may have what its flight brought. An error that may be about
// another key is for him alone who asked for both.
func (r *rider) mine(l *landing) bool {
	if l.several && !r.leads {
		return false
	}
	return r.boarded < l.at || r.boarded < l.filledAt
}

// batch is the flights that one reader has started together.
type batch struct {
	cache   *Cache
	target  target
	flights []*flight
	bypass  bool
	maxAge  time.Duration
	wait    time.Duration // for another process' fill

	values context.Context // of the reader who started the first of its line
	ctx    context.Context // values, until nobody rides any more
	cancel context.CancelFunc

	// Under flights.mu.
	riders int
	// until is when the last of the riders' contexts ends, zero where one has no end.
	until   time.Time
	endless bool
}

// newBatch makes a batch whose context has the values and not the end of the given one.
func newBatch(like *batch, values context.Context) *batch {
	b := &batch{cache: like.cache, target: like.target, bypass: like.bypass, maxAge: like.maxAge, wait: like.wait, values: values}
	b.ctx, b.cancel = context.WithCancel(values)
	return b
}

// patience is a context that ends when the last rider's does, for requests that have to leave
// time for what comes after them. Where that has passed nobody waits, and there is no end.
func (b *batch) patience(ctx context.Context) (context.Context, context.CancelFunc) {
	fl := &b.cache.engine.flights
	fl.mu.Lock()
	defer fl.mu.Unlock()
	if b.endless || !time.Now().Before(b.until) {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, b.until)
}

// board puts a reader on a flight for each key, and starts those that there are not yet.
// The batch runs on beyond the reader's context as long as somebody else needs it.
func (c *Cache) board(ctx context.Context, t target, asks []asked, o *readOptions, bypass bool) []*rider {
	fl := &c.engine.flights
	b := newBatch(&batch{cache: c, target: t, bypass: bypass, maxAge: o.maxAge, wait: o.wait}, context.WithoutCancel(ctx))
	riders := make([]*rider, len(asks))
	fl.mu.Lock()
	for i, a := range asks {
		id := flightID{key: a.key, schema: t.entry.Schema, maxAge: o.maxAge, bypass: bypass}
		f := fl.byID[id]
		if f == nil {
			f = fl.add(b, id, a)
		} else {
			c.engine.stats.shared.Add(1)
		}
		riders[i] = f.take(ctx, b)
	}
	fl.mu.Unlock()
	if len(b.flights) == 0 {
		b.cancel()
		return riders
	}
	go b.run()
	return riders
}

// add makes a flight of a batch, under mu.
func (fl *flights) add(b *batch, id flightID, a asked) *flight {
	if fl.byID == nil {
		fl.byID = map[flightID]*flight{}
	}
	f := &flight{id: id, asked: a, batch: b, done: make(chan struct{}), held: make(chan struct{})}
	fl.byID[id] = f
	b.flights = append(b.flights, f)
	return f
}

// take boards one more rider, whose own batch is given, under mu.
func (f *flight) take(ctx context.Context, own *batch) *rider {
	r := &rider{leads: f.batch == own, flight: f, boarded: f.sent}
	var ends bool
	r.until, ends = ctx.Deadline()
	r.endless = !ends
	f.seats(r)
	return r
}

// seats adds a rider, under mu.
func (f *flight) seats(r *rider) {
	f.riders = append(f.riders, r)
	f.batch.riders++
	f.batch.endless = f.batch.endless || r.endless
	if r.until.After(f.batch.until) {
		f.batch.until = r.until
	}
}

// leave is for a rider who does not wait any longer. With the last one the batch ends.
func (fl *flights) leave(r *rider) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	f := r.flight
	for i, other := range f.riders {
		if other == r {
			f.riders = append(f.riders[:i], f.riders[i+1:]...)
			f.batch.riders--
			break
		}
	}
	fl.endEmpty(f.batch)
}

// endEmpty ends a batch on which nobody rides, and lets nobody board what is left of it,
// under mu.
func (fl *flights) endEmpty(b *batch) {
	if b.riders > 0 {
		return
	}
	for _, f := range b.flights {
		fl.forget(f)
	}
	b.cancel()
}

// forget lets nobody board a flight any more, under mu.
func (fl *flights) forget(f *flight) {
	if fl.byID[f.id] == f {
		delete(fl.byID, f.id)
	}
}

// sends notes that a request is about to be sent for the flights, before it is: who boards
// afterwards may not have its answer.
func (fl *flights) sends(some []*flight) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	for _, f := range some {
		f.sent++
	}
}

// land ends flights with what they came to. Those who boarded too late for a row that no
// fill has proved go on with a next flight, all with the same one.
func (fl *flights) land(some []*flight) {
	if len(some) == 0 {
		return
	}
	old := some[0].batch
	b := newBatch(old, old.values)
	fl.mu.Lock()
	for _, f := range some {
		fl.forget(f)
		f.batch.riders -= len(f.riders)
		fl.goOn(b, f)
		f.riders = nil
		close(f.done)
	}
	fl.endEmpty(old)
	fl.mu.Unlock()
	if len(b.flights) == 0 {
		b.cancel()
		return
	}
	go b.run()
}

// goOn puts those who boarded a flight too late on the next one, under mu. Who finds the
// row in Redis begins again instead, and who is to ask without the others' keys.
func (fl *flights) goOn(b *batch, f *flight) {
	if f.landing.filledAt > 0 || f.landing.read.FromCache || f.landing.several {
		return
	}
	var next *flight
	for _, r := range f.riders {
		if r.mine(&f.landing) {
			continue
		}
		if next == nil {
			next = fl.add(b, f.id, f.asked)
		}
		r.flight, r.boarded = next, 0
		next.seats(r)
	}
}

// wait gives what a reader's flight came to. mine is false where the reader has to begin
// again. late ends the waiting of one who may not have the row that is on its way, or for
// whom another process' fill is waited for.
func (fl *flights) wait(ctx context.Context, r *rider, late <-chan struct{}) (l *landing, mine bool, err error) {
	for {
		f, boarded := fl.seat(r)
		ends, held := late, f.held
		if boarded == 0 {
			ends = nil
		}
		for landed := false; !landed; {
			select {
			case <-f.done:
				landed = true
			case <-held:
				if held = nil; !r.leads {
					ends = late
				}
			case <-ctx.Done():
				fl.leave(r)
				return nil, false, ctx.Err()
			case <-ends:
				fl.leave(r)
				return nil, false, nil
			}
		}
		if now, _ := fl.seat(r); now == f {
			return &f.landing, r.mine(&f.landing), nil
		}
	}
}

// seat says where a rider is.
func (fl *flights) seat(r *rider) (f *flight, boarded int) {
	fl.mu.Lock()
	defer fl.mu.Unlock()
	return r.flight, r.boarded
}
