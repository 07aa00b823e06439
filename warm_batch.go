package wtcache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/time/rate"

	"github.com/wtcache/wtcache/cachesync"
)

// warmBatch is some keys of an entry on their way.
type warmBatch struct {
	warmer  *warmer
	warming *warming
	asks    []asked
	last    []string

	tried bool // keys whose lease was gone have been tried once more

	done   chan struct{} // closed after the rest was set
	counts WarmCounts
	err    error
}

// warmAlive is nil in production. A test counts with it the rows that are held.
var warmAlive atomic.Pointer[func(rows int)]

func alive(rows int) {
	if hook := warmAlive.Load(); hook != nil {
		(*hook)(rows)
	}
}

// A Redis that does not answer is asked again: a failover takes seconds. One that was started a moment ago takes no fills for
// the life of a fence, and of those who warm a cache many do so because it is new.
const (
	warmPatience = 30 * time.Second // at least; or twice the life of a fence
	warmPauseMax = time.Second
	// warmTidy bounds giving leases back after the context has ended.
	warmTidy = 5 * time.Second
)

func (b *warmBatch) run(ctx context.Context) {
	defer close(b.done)
	b.counts.Rows = int64(len(b.asks))
	pending := b.asks[:0:0]
	for _, a := range b.asks {
		if a.key == "" {
			b.counts.Unstorable++
			continue
		}
		pending = append(pending, a)
	}
	pause, end := 50*time.Millisecond, time.Now().Add(max(warmPatience, 2*b.warmer.cache.engine.cfg.FenceLife))
	for {
		var err error
		if pending, err = b.try(ctx, pending); err == nil && len(pending) == 0 {
			return
		}
		if err != nil && !errors.Is(err, ErrUnavailable) || time.Now().After(end) {
			b.err = cmp.Or(err, errNoFills)
			return
		}
		select {
		case <-ctx.Done():
			b.err = ctx.Err()
			return
		case <-time.After(pause):
			pause = min(2*pause, warmPauseMax)
		}
	}
}

var errNoFills = fmt.Errorf("%w: it takes no fills: it has lost data a moment ago, keys are owed to it, or another program may be writing past it; see wtcache drain", ErrUnavailable)

// try carries the protocol out for some keys, in the order of a reader's: leases, barrier, snapshot, fills. What comes back
// is to be tried again.
func (b *warmBatch) try(ctx context.Context, asks []asked) (again []asked, err error) {
	e := b.warmer.cache.engine
	if err := b.current(ctx); err != nil {
		return asks, err
	}
	if !e.watched(ctx, b.warming.target.table, 0) {
		return asks, nil
	}
	if err := b.warmer.pace.room(ctx); err != nil {
		return asks, err
	}
	leases, leased, again, err := b.lease(ctx, asks)
	if len(leases) == 0 {
		return again, err
	}
	rows, rerr := b.read(ctx, leased)
	lost, ferr := b.fill(ctx, leases, leased, rows, rerr)
	b.tried = true
	return append(again, lost...), cmp.Or(rerr, ferr, err)
}

// current makes sure that the entry is still what it was when Warm began.
func (b *warmBatch) current(ctx context.Context) error {
	was := b.warming.target
	now, err := b.warmer.cache.find(ctx, was.name)
	switch {
	case err != nil:
		return err
	case now.gen == was.gen:
		return nil
	case now.gen.degraded || now.entry.Schema != was.entry.Schema || now.table.OID != was.table.OID || now.entry.Key.String() != was.entry.Key.String():
		return fmt.Errorf("%w: %s was altered while it was warmed; begin again without resuming", ErrWarmChanged, was.table.Name)
	}
	return nil
}

// lease asks for leases on keys that are not there.
func (b *warmBatch) lease(ctx context.Context, asks []asked) (leases []cachesync.LeaseResult, leased, again []asked, err error) {
	engine := b.warmer.cache.engine
	keys, some := make([]string, 0, len(asks)), make([]asked, 0, len(asks))
	for _, a := range asks {
		if engine.owes(a.key) {
			b.counts.Refused++ // it is about to be made absent
			continue
		}
		keys, some = append(keys, a.key), append(some, a)
	}
	var age time.Duration
	if b.warmer.opts.Refresh {
		age = time.Millisecond
	}
	// A lease whose answer is not waited for cannot be given back.
	ctx, cancel := tidy(ctx)
	defer cancel()
	young := b.quarantines()
	results := engine.sync.Leases(ctx, keys, b.warming.target.wanted(age))
	young = b.quarantines() - young
	for i, l := range results {
		switch {
		case l.State == cachesync.LeaseGranted:
			leases, leased = append(leases, l), append(leased, some[i])
		case l.State == cachesync.LeaseValue:
			b.counts.Cached++
		case l.Err != nil:
			again, err = append(again, some[i]), full(l.Err)
		case l.State == cachesync.LeaseBypass && young > 0: // or it is fenced, and will be then, too
			again = append(again, some[i])
		default:
			b.counts.Refused++
		}
	}
	return leases, leased, again, err
}

// quarantines counts the leases that were refused since a server is young.
func (b *warmBatch) quarantines() int64 { return b.warmer.cache.engine.sync.Stats().Quarantined }

// tidy is a context for what has to be carried through once it was begun.
func tidy(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), warmTidy)
}

// read takes the rows that are leased, in a snapshot that begins now. None where they may not be stored.
func (b *warmBatch) read(ctx context.Context, leased []asked) ([]row, error) {
	c := b.warmer.cache
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if barred, err := c.engine.sync.BarrierHeld(ctx, b.warming.target.table.Barrier); barred { // an error bars
		return nil, err
	}
	rows, err := c.readRows(ctx, b.warming.target, leased)
	if err != nil {
		return nil, b.warming.explain(err)
	}
	for _, r := range rows {
		switch {
		case r.err != nil:
			return nil, r.err
		case r.unproved:
			return nil, fmt.Errorf("%w: %s was read from a server in recovery, which may lack the last commits; warm from the primary", ErrConfig, b.warming.target.name)
		}
	}
	return rows, nil
}

// fill stores the rows and gives the other leases back. lost are those
// for which Redis did not answer, or has lost what it knew, and once those whose lease was gone.
func (b *warmBatch) fill(ctx context.Context, leases []cachesync.LeaseResult, leased []asked, rows []row, rerr error) (lost []asked, err error) {
	e, t := b.warmer.cache.engine, b.warming.target
	fills := make([]cachesync.Filling, len(leases))
	for i, l := range leases {
		fills[i].Lease = l
		if rows != nil {
			fills[i].Entry = t.fillable(rows[i], leased[i])
		}
	}
	tidied, cancel := tidy(ctx)
	defer cancel()
	young := b.quarantines()
	filled, err := e.sync.Fills(tidied, fills)
	young = b.quarantines() - young
	switch {
	case rerr != nil:
		return leased, full(err)
	case rows == nil:
		b.counts.Refused += int64(len(leases))
		return nil, full(err)
	}
	for i, r := range rows {
		switch {
		case filled[i]:
			e.stats.fills.Add(1)
			if r.found {
				b.counts.Filled++
			} else {
				b.counts.Gone++
			}
		case !r.found || r.key != leased[i].key:
			b.counts.Gone++
		case len(fills[i].Entry.Payload) == 0:
			b.counts.Unstorable++
		case err != nil || young > 0 || !b.tried: // a lease that was too short on a busy machine, say
			lost = append(lost, leased[i])
		default:
			b.counts.Refused++
		}
	}
	return lost, full(err)
}

// full says of a refusal of Redis that has no more room what it is.
func full(err error) error {
	if reply, ok := errors.AsType[redis.Error](err); ok && strings.HasPrefix(reply.Error(), "OOM") {
		return fmt.Errorf("%w: it refused a fill (%s); what was filled stays. Give it more maxmemory, or warm a smaller range", ErrRedisFull, reply.Error())
	}
	return err
}

// pacer holds Warm back. It is safe for concurrent use.
type pacer struct {
	limit *rate.Limiter // nil: none
	rdb   redis.UniversalClient
	most  float64 // part of maxmemory; 0: all of it, where there is one

	mu     sync.Mutex // guards looked
	looked time.Time
}

func newPacer(e *engine, opts WarmOptions) *pacer {
	p := &pacer{rdb: e.redisIs.rdb, most: opts.MaxRedisMemory}
	if opts.Rate > 0 {
		p.limit = rate.NewLimiter(rate.Limit(opts.Rate), opts.Batch)
	}
	return p
}

// reach is an error where Redis does not answer now. One that stops later is waited for; one that never was there may have
// another name.
func (p *pacer) reach(ctx context.Context, patience time.Duration) error {
	bounded, cancel := context.WithTimeout(ctx, max(patience, time.Second))
	defer cancel()
	err := p.rdb.Ping(bounded).Err()
	if _, answers := errors.AsType[redis.Error](err); err == nil || answers {
		return nil
	}
	return cmp.Or(ctx.Err(), fmt.Errorf("%w: %w", ErrUnavailable, err))
}

func (p *pacer) wait(ctx context.Context, rows int) error {
	if p.limit == nil {
		return ctx.Err()
	}
	return paced(ctx, p.limit, rows)
}

// roomEvery is the time between two looks at Redis' memory.
const roomEvery = 100 * time.Millisecond

// room is an error where Redis uses more memory than it may. It has to be looked at: a script that has deleted something, as
// that of fills does, is no longer told that there is no room.
// Source: scriptVerifyOOM in Redis' src/script.c
func (p *pacer) room(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.looked) < roomEvery {
		return nil
	}
	p.looked = time.Now()
	cluster, ok := p.rdb.(*redis.ClusterClient)
	if !ok {
		return p.roomOf(ctx, p.rdb)
	}
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return p.roomOf(ctx, node) })
}

func (p *pacer) roomOf(ctx context.Context, rdb redis.Cmdable) error {
	info, err := rdb.Info(ctx, "memory").Result()
	if err != nil && p.most == 0 {
		return nil // it may not be asked, and nobody has said that it has to be
	}
	if err != nil {
		return fmt.Errorf("%w: ask for its memory: %w", ErrUnavailable, err)
	}
	used, all := factOf(info, "used_memory"), factOf(info, "maxmemory")
	most := cmp.Or(p.most, 1)
	switch {
	case all == 0 && p.most == 0:
		return nil // no bound
	case all == 0:
		return configErrorf("Redis has no maxmemory, or does not say which, so that a part of it cannot be kept; set maxmemory, or leave the bound out")
	case used > most*all:
		return fmt.Errorf("%w: it uses %.0f bytes, more than %.0f %% of its maxmemory, %.0f bytes; what was filled stays. Give it more maxmemory, or warm a smaller range", ErrRedisFull, used, 100*most, all)
	}
	return nil
}

// factOf reads a number of INFO, 0 where it is not there.
func factOf(info, name string) (n float64) {
	for line := range strings.Lines(info) {
		if text, ok := strings.CutPrefix(line, name+":"); ok {
			n, _ = strconv.ParseFloat(strings.TrimSpace(text), 64)
		}
	}
	return n
}
