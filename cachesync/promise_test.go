package cachesync

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// table is a database in memory: rows with a lock, whose commits are visible at
// once and in the order of their versions.
type table struct {
	prefix string
	clock  atomic.Int64
	rows   [24]row
}

type row struct {
	lock      sync.Mutex
	committed atomic.Int64 // also the row's contents
}

func (d *table) key(i int) string { return d.prefix + strconv.Itoa(i) }

func (d *table) entry(n int64, format Format) Entry {
	return Entry{
		Payload: []byte(strconv.FormatInt(n, 10)), Version: fmt.Sprintf("%024x", n),
		Schema: testSchema, TTL: time.Hour, Jitter: 0.1, Format: format,
	}
}

// party is a writer or reader of the property test.
type party struct {
	t      *testing.T
	d      *table
	c      *Client
	doomed *Client // fences that end with their owner's crash, and soon
	rng    *rand.Rand
	format Format
	// pointed is the newest version that a pointer of each row was seen to name.
	pointed map[int]string
}

// The promise itself: a read that starts after a commit was acknowledged never
// returns anything older, whatever writers, readers, crashes and strangers do
// meanwhile; and when all is quiet a key holds the row or nothing. That holds
// for readers who know nothing of the protocol, too, and beside releases whose
// rules name different formats.
func TestNeverStale(t *testing.T) {
	for _, formats := range [][]Format{{Envelope}, {Plain}, {Hash}, {Versioned}, {Hash, Versioned}, {Plain, Versioned, Envelope, Hash}} {
		t.Run(fmt.Sprint(formats), func(t *testing.T) {
			rdb := dial(t, testenv.RealRedis(t))
			d := &table{prefix: testenv.KeyPrefix(t)}
			steady := newTestClient(t, rdb, Options{FenceLife: time.Hour, LeaseLife: time.Hour})
			doomed := newTestClient(t, rdb, Options{FenceLife: 40 * time.Millisecond, Deadline: 10 * time.Millisecond, Breaker: BreakerOptions{Failures: 1 << 20}})
			var wg sync.WaitGroup
			for i := range 10 {
				p := &party{t, d, steady, doomed, rand.New(rand.NewPCG(uint64(i), 1)), formats[i%len(formats)], map[int]string{}}
				wg.Go(func() {
					for range 400 {
						switch {
						case i < 5:
							p.write()
						case p.rng.IntN(4) == 0:
							p.readUnaware()
						default:
							p.read()
						}
					}
				})
			}
			wg.Wait()
			s := steady.Stats()
			if s.Stored == 0 || s.Held == 0 || s.Fills == 0 || s.FillRefusals == 0 || s.Hits == 0 || s.LeasesBypassed == 0 {
				t.Errorf("the parties hardly met: %+v", s)
			}
			for i := range d.rows {
				look(t, rdb, d.key(i))
				for _, format := range formats {
					value, ok, err := steady.Get(t.Context(), d.key(i), format, testSchema)
					if err != nil {
						t.Fatal(err)
					}
					if want := d.rows[i].committed.Load(); ok && string(value.Payload) != strconv.FormatInt(want, 10) {
						t.Errorf("when all is quiet, row %d is %d and its entry %s", i, want, value.Payload)
					}
				}
			}
			if _, err := steady.Sweep(context.Background(), []string{d.prefix + "*"}); err != nil {
				t.Error(err)
			}
		})
	}
}

func (p *party) pick() int { return p.rng.IntN(len(p.d.rows)) }

// write commits one row, or rolls back, or dies at some step.
func (p *party) write() {
	i := p.pick()
	r, key := &p.d.rows[i], p.d.key(i)
	switch dice := p.rng.IntN(100); {
	case dice < 3: // dies before COMMIT
		if f, err := p.doomed.Fence(context.Background(), []string{key}); err == nil {
			f.Leave()
		}
		return
	case dice < 8: // an operator, or the follower
		p.check(p.c.Invalidate(context.Background(), []string{key}, ""))
		return
	case dice < 9:
		p.coarse()
		return
	}
	lockFirst, rollback, dies := p.rng.IntN(2) == 0, p.rng.IntN(10) == 0, p.rng.IntN(200) == 0
	if lockFirst {
		r.lock.Lock()
	}
	f, err := p.c.Fence(context.Background(), []string{key})
	if p.check(err); err != nil {
		if lockFirst {
			r.lock.Unlock()
		}
		return
	}
	if !lockFirst {
		r.lock.Lock()
	}
	if rollback {
		r.lock.Unlock()
		f.Abort(context.Background())
		return
	}
	n := p.d.clock.Add(1)
	r.committed.Store(n)
	r.lock.Unlock()
	if dies { // after COMMIT, before the apply
		f.Leave()
		return
	}
	f.Apply(context.Background(), map[string]Entry{key: p.d.entry(n, p.format)})
}

// coarse changes every row at once, as a TRUNCATE does.
func (p *party) coarse() {
	for i := range p.d.rows {
		p.d.rows[i].lock.Lock()
	}
	barrier, err := p.c.Fence(context.Background(), []string{p.d.prefix + "barrier"})
	p.check(err)
	_, err = p.c.Sweep(context.Background(), []string{p.d.prefix + "[0-9]*"})
	p.check(err)
	for i := range p.d.rows {
		p.d.rows[i].committed.Store(p.d.clock.Add(1))
		p.d.rows[i].lock.Unlock()
	}
	barrier.Abort(context.Background())
}

// read reads one row as a reader of the cache does.
func (p *party) read() {
	i := p.pick()
	acknowledged := p.d.rows[i].committed.Load()
	got := p.lookUp(i)
	if got < acknowledged {
		p.t.Errorf("row %d: read %d after the commit of %d was acknowledged", i, got, acknowledged)
	}
}

// readUnaware reads as a program does that knows nothing of wtcache. Envelope
// and Plain are told apart by what they look like; nothing else is known of them.
func (p *party) readUnaware() {
	i := p.pick()
	if p.format == Versioned {
		p.readPointed(i)
		return
	}
	acknowledged := p.d.rows[i].committed.Load()
	text, ok, err := foreignRead(context.Background(), p.c.rdb, p.d.key(i), p.format)
	p.check(err)
	if !ok || strings.HasPrefix(text, headOpen) {
		return
	}
	if got, err := strconv.ParseInt(text, 10, 64); err != nil || got < acknowledged {
		p.t.Errorf("row %d: an unaware reader of %s read %q after the commit of %d was acknowledged", i, p.format, text, acknowledged)
	}
}

// readPointed follows a pointer, and stands a while between its two reads.
func (p *party) readPointed(i int) {
	ctx := context.Background()
	names, _ := siblingsOf(p.d.key(i))
	acknowledged := p.d.rows[i].committed.Load()
	name, err := p.c.rdb.Get(ctx, names.pointer).Result()
	if errors.Is(err, redis.Nil) {
		return
	}
	p.check(err)
	time.Sleep(time.Duration(p.rng.IntN(400)) * time.Microsecond) // a slow reader
	text, err := p.c.rdb.Get(ctx, name).Result()
	if err != nil {
		p.t.Errorf("row %d: the pointer named %s, and there: %v", i, name, err)
	}
	if got, err := strconv.ParseInt(text, 10, 64); err != nil || got < acknowledged {
		p.t.Errorf("row %d: %s led to %q after the commit of %d was acknowledged", i, name, text, acknowledged)
	}
	if written := !strings.Contains(name, fillVersion); written {
		if name < p.pointed[i] {
			p.t.Errorf("row %d: the pointer moved back, from %s to %s", i, p.pointed[i], name)
		}
		p.pointed[i] = name
		if want := names.version(fmt.Sprintf("%024x", p.number(Value{Payload: []byte(text)}))); name != want {
			p.t.Errorf("row %d: %s holds what belongs to %s", i, name, want)
		}
	}
}

func (p *party) lookUp(i int) int64 {
	ctx, r, key := context.Background(), &p.d.rows[i], p.d.key(i)
	value, ok, err := p.c.Get(ctx, key, p.format, testSchema)
	p.check(err)
	if ok {
		return p.number(value)
	}
	lease, err := p.c.Lease(ctx, key, p.format, testSchema)
	p.check(err)
	switch lease.State {
	case LeaseValue:
		return p.number(lease.Value)
	case LeaseBypass:
		return r.committed.Load()
	}
	barred, err := p.c.BarrierHeld(ctx, p.d.prefix+"barrier")
	p.check(err)
	n := r.committed.Load()
	time.Sleep(time.Duration(p.rng.IntN(400)) * time.Microsecond) // a slow reader
	if barred || p.rng.IntN(10) == 0 {
		p.c.Release(ctx, lease)
		return n
	}
	_, err = p.c.Fill(ctx, lease, p.d.entry(n, p.format))
	p.check(err)
	return n
}

func (p *party) number(v Value) int64 {
	n, err := strconv.ParseInt(string(v.Payload), 10, 64)
	p.check(err)
	return n
}

func (p *party) check(err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		p.t.Error(err)
	}
}
