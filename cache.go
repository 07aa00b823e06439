package wtcache

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/wtcache/wtcache/cachesync"
)

// Cache reads entries: from Redis where they are there, else from the database,
// and then it fills them, under a lease that makes a stale fill impossible. It
// needs nothing but the *sql.DB and is safe for concurrent use. ReaderOf gives the
// same with the row's type.
type Cache struct {
	engine *engine
	db     *sql.DB
	opts   readOptions
}

// CacheOf gives the reader of a *sql.DB that was opened through wtcache.
func CacheOf(db *sql.DB) (*Cache, error) {
	e, err := engineOf(db)
	if err != nil {
		return nil, err
	}
	if e.cfg.Mode == ModeOff {
		return nil, configErrorf("wtcache_mode=off has no cache to read; query the database")
	}
	return &Cache{engine: e, db: db}, nil
}

// With gives a reader of the same entries with further options. It costs next to nothing:
// make one for a call.
func (c *Cache) With(opts ...ReadOption) *Cache {
	d := *c
	for _, set := range opts {
		set(&d.opts)
	}
	return &d
}

// Read says where a row came from.
type Read struct {
	// FromCache: Redis had it, or had that there is no such row. FromReplica: a
	// replica of Redis, which may be behind.
	FromCache, FromReplica bool
	// Age is the time since the entry was stored, by the Redis server's clock to within
	// half a round trip; zero for a read of the database.
	Age time.Duration
	// WrittenAt is when the entry was stored, by the Redis server's clock; zero
	// for a read of the database.
	WrittenAt time.Time
	// Version is the entry's place in commit order, 24 hex digits, all zero for an
	// entry that a reader filled; empty for a read of the database.
	Version string
}

// Get reads the row that an entry holds into dest: a pointer to a struct, a map, a
// []byte or a json.RawMessage, decoded from the entry's payload. entry is "table" for a
// rule of one entry, else "table.entry" ("users.by_email"); key gives the values of
// the key template's columns, in its order, or is one Key, which names them.
//
// A row that is not there is sql.ErrNoRows. A Redis that does not answer costs its
// deadline and is not an error: the row is read from the database. The context bounds
// the whole call.
func (c *Cache) Get(ctx context.Context, entry string, dest any, key ...any) (Read, error) {
	t, got, err := c.one(ctx, entry, key)
	if err != nil {
		return Read{}, err
	}
	if !got.found {
		return got.read, sql.ErrNoRows
	}
	return got.read, t.decode(got.payload, dest)
}

// one reads one row.
func (c *Cache) one(ctx context.Context, entry string, key []any) (target, reading, error) {
	t, err := c.find(ctx, entry)
	if err != nil {
		return t, reading{}, err
	}
	a, err := t.ask(key)
	if err != nil {
		return t, reading{}, err
	}
	o := c.opts.under(t.table.Rule.Read, c.engine.cfg.FillWait)
	hit, ok, seen := c.quick(ctx, t, a, &o)
	if ok {
		return t, hit, nil
	}
	t, got, err := c.retried(ctx, t, []asked{a}, &o, seen)
	if err != nil {
		return t, reading{}, err
	}
	return t, got[0], nil
}

// many reads several rows.
func (c *Cache) many(ctx context.Context, entry string, keys []any) (target, []reading, error) {
	t, err := c.find(ctx, entry)
	if err != nil || len(keys) == 0 {
		return t, nil, err
	}
	asks := make([]asked, len(keys))
	for i, key := range keys {
		if asks[i], err = t.ask([]any{key}); err != nil {
			return t, nil, fmt.Errorf("key %d of %d: %w", i+1, len(keys), err)
		}
	}
	o := c.opts.under(t.table.Rule.Read, c.engine.cfg.FillWait)
	return c.retried(ctx, t, asks, &o, first{})
}

// retried reads rows, once more where the query was made for another catalogue than the
// live one.
func (c *Cache) retried(ctx context.Context, t target, asks []asked, o *readOptions, seen first) (target, []reading, error) {
	got, err := c.fetch(ctx, t, asks, o, seen)
	if !planIsOld(err) || !c.engine.mayDoubt(t) {
		return t, got, err
	}
	if t.gen == c.engine.current() { // once for all readers who share the failure
		c.engine.catalogueChanged()
	}
	if o.queryer != nil { // its transaction has failed, and it may hold the pool's only connection
		return t, nil, err
	}
	if err := c.look(ctx); err != nil { // for as long as it takes: what was known does not serve
		return t, nil, err
	}
	if t, err = c.find(ctx, t.name); err != nil {
		return t, nil, err
	}
	got, err = c.fetch(ctx, t, asks, o, first{})
	return t, got, err
}

// doubtRest is the least time between two doubts about one table: a query that goes on
// failing, for a missing privilege, say, must not have every reader look at the catalogue.
const doubtRest = time.Second

// mayDoubt says whether a query that was refused is a reason to look at the catalogue.
func (e *engine) mayDoubt(t target) bool {
	if t.gen != e.current() {
		return true // somebody has doubted it already, and the look is the same for all
	}
	now := steady()
	known, _ := e.doubted.LoadOrStore(t.table.Barrier, new(atomic.Int64))
	last := known.(*atomic.Int64)
	before := last.Load()
	return (before == 0 || now-before > int64(doubtRest)) && last.CompareAndSwap(before, now)
}

// find gives an entry of the rules as bound to the live catalogue.
func (c *Cache) find(ctx context.Context, name string) (target, error) {
	gen, err := c.generation(ctx)
	if err != nil {
		return target{name: name}, err
	}
	return gen.target(name)
}

// generation makes sure that the rules are bound, and bound to the catalogue as it is: a
// reader may come before the first write, or right after a definition was changed. What was
// known serves on where the database cannot be asked just now, and while it is asked
// whether another program has changed anything.
func (c *Cache) generation(ctx context.Context) (*generation, error) {
	e := c.engine
	gen, epoch := e.gen.Load(), e.nextEpoch()
	switch {
	case gen == nil:
		if err := c.look(ctx); err != nil {
			return nil, err
		}
		e.readEpoch.Store(epoch)
	case gen != e.current() && e.mayWaitForCatalogue():
		// Bounded: a caller who holds the pool's only connection would wait for itself.
		ctx, cancel := context.WithTimeout(ctx, catalogueWait)
		defer cancel()
		if c.look(ctx) != nil {
			e.catalogueMissed.Store(steady())
		}
	case gen != e.current() || e.readEpoch.Load() != epoch:
		c.lookBehind(epoch)
	}
	return e.gen.Load(), nil
}

const (
	// catalogueWait bounds how long a reader waits for the catalogue, and
	// catalogueRest for how long none does after that was in vain.
	catalogueWait = 250 * time.Millisecond
	catalogueRest = 5 * time.Second
	// lookBehindLimit bounds a look that nobody waits for.
	lookBehindLimit = 10 * time.Second
)

func (e *engine) mayWaitForCatalogue() bool {
	missed := e.catalogueMissed.Load()
	return missed == 0 || steady()-missed > int64(catalogueRest)
}

// lookBehind looks at the catalogue beside the readers, once at a time.
func (c *Cache) lookBehind(epoch uint64) {
	e := c.engine
	if !e.looking.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer e.looking.Store(false)
		ctx, cancel := context.WithTimeout(context.Background(), lookBehindLimit)
		defer cancel()
		if c.look(ctx) == nil {
			e.readEpoch.Store(epoch)
		}
	}()
}

// look has a connection of the pool look at the catalogue, unless it just did.
func (c *Cache) look(ctx context.Context) error {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	return conn.Raw(func(driverConn any) error {
		return driverConn.(interface{ current(context.Context) error }).current(ctx)
	})
}

// reading is what is known of a row.
type reading struct {
	payload []byte
	found   bool // there is such a row
	read    Read
}

// cached is the reading of a hit.
func cached(v cachesync.Value, age time.Duration, replica bool) reading {
	return reading{
		payload: v.Payload,
		found:   string(v.Payload) != cachesync.NegativePayload,
		read:    Read{FromCache: true, FromReplica: replica, Age: age, WrittenAt: v.WrittenAt, Version: v.Version},
	}
}

// first is what the first look at Redis came to.
type first struct {
	looked bool
	down   bool // it did not answer
}

// quick is the way of a plain hit.
func (c *Cache) quick(ctx context.Context, t target, a asked, o *readOptions) (got reading, hit bool, seen first) {
	if !o.plain() || c.engine.owes(a.key) || !c.engine.watched(ctx, t.table, 0) {
		return reading{}, false, first{}
	}
	f := c.engine.sync.Look(ctx, a.key, t.wanted(o.maxAge))
	if !f.Hit {
		return reading{}, false, first{looked: true, down: f.Err != nil}
	}
	c.engine.stats.hits.Add(1)
	return cached(f.Value, f.Age, false), true, first{}
}

// fetch reads rows in whatever way their options and Redis' state ask for. The readings
// are in the order of asks.
func (c *Cache) fetch(ctx context.Context, t target, asks []asked, o *readOptions, seen first) ([]reading, error) {
	if o.queryer != nil {
		return c.inTx(ctx, t, asks, o)
	}
	j := &journey{cache: c, target: t, asks: asks, o: o, first: seen, got: make([]reading, len(asks))}
	for i := range asks {
		j.pending = append(j.pending, i)
	}
	if o.replica && !o.fresh {
		j.lookAtReplica(ctx)
	}
	if len(j.pending) == 0 {
		return j.got, nil
	}
	late, cancel := context.WithTimeout(context.Background(), o.wait)
	defer cancel()
	for len(j.pending) > 0 {
		if err := j.round(ctx, late.Done()); err != nil {
			return nil, err
		}
	}
	return j.got, nil
}
