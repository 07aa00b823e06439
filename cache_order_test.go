package wtcache_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A reader's steps after it has met an absent key. Each is told when to take place.
const (
	stepLease = iota
	stepBarrier
	stepSnapshot
	stepFill
	steps
)

// placements gives every way to spread the reader's steps, in their order, over the
// stretches of a write: what is at i in a placement is the stretch of the i-th step.
func placements(stretches int) [][]int {
	all := [][]int{nil}
	for range steps {
		var longer [][]int
		for _, p := range all {
			from := 0
			if len(p) > 0 {
				from = p[len(p)-1]
			}
			for s := from; s < stretches; s++ {
				longer = append(longer, append(append([]int(nil), p...), s))
			}
		}
		all = longer
	}
	return all
}

// stepper is a reader of account 1 that takes one step at a time.
type stepper interface {
	step() // takes the next step, if there is one left
}

// write runs a write of account 1 and the reader's steps in their stretches. The points
// end the stretches; the last stretch begins when the write has returned.
func (l *ledger) write(placement []int, points []string, r stepper, text string) error {
	l.t.Helper()
	stretch := 0
	catchUp := func() {
		for len(placement) > 0 && placement[0] == stretch {
			r.step()
			placement = placement[1:]
		}
	}
	wtcache.AtCrashPoint(l.t, func(point string) {
		if len(points) > 0 && point == points[0] {
			catchUp()
			points = points[1:]
			stretch++
		}
	})
	_, err := l.db.Exec(text)
	if len(points) > 0 {
		l.t.Fatalf("the write did not come to %q: %v", points[0], err)
	}
	catchUp()
	return err
}

// reset gives a sub-test a ledger that others have used.
func (l *ledger) reset(t *testing.T) {
	t.Helper()
	l.t = t
	if _, err := l.plain.Exec("UPDATE accounts SET n = 0"); err != nil {
		t.Fatal(err)
	}
	names, err := l.rdb.Keys(context.Background(), "*"+l.key(1)+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.rdb.Del(context.Background(), append(names, l.control(1))...).Err(); err != nil {
		t.Fatal(err)
	}
}

// A write whose rows are not known makes every entry of its rule absent while a token
// lies on the rule's barrier. A reader that was granted its lease behind the sweep is
// stopped by the barrier alone. It has to look at it before its snapshot: the barrier is
// lifted right after the COMMIT, so that a look after the snapshot can find it open
// although the snapshot is older than the COMMIT. Here both orders meet every
// interleaving with the writer; only the one that cache.go has may never be stale.
func TestBarrierIsLookedAtBeforeTheSnapshot(t *testing.T) {
	for _, order := range []struct {
		name  string
		steps [steps]int
		stale bool // in some interleaving
	}{
		{"before", [steps]int{stepLease, stepBarrier, stepSnapshot, stepFill}, false},
		{"after", [steps]int{stepLease, stepSnapshot, stepBarrier, stepFill}, true},
	} {
		t.Run(order.name, func(t *testing.T) {
			stale := 0
			l := newLedger(t, ledgerSetup{})
			sync := l.protocol()
			for _, p := range placements(3) {
				t.Run(fmt.Sprint(p), func(t *testing.T) {
					l.reset(t)
					r := &handReader{ledger: l, sync: sync, order: order.steps[:]}
					if err := l.write(p, []string{"fenced", "committed"}, r, coarseOne); err != nil {
						t.Fatal(err)
					}
					if n, there := l.entry(1); there && n != 1 {
						stale++
					}
				})
			}
			if (stale > 0) != order.stale {
				t.Errorf("stale in %d interleavings", stale)
			}
		})
	}
}

const coarseOne = "WITH w AS (UPDATE accounts SET n = 1 WHERE id = 1 RETURNING 1) SELECT count(*) FROM w"

// protocol gives the client of the protocol on its own.
func (l *ledger) protocol() *cachesync.Client {
	l.t.Helper()
	c, err := cachesync.New(l.rdb, cachesync.Options{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

// handReader takes the reader's steps by hand, in an order of its own.
type handReader struct {
	*ledger
	sync  *cachesync.Client
	order []int

	lease   cachesync.LeaseResult
	barred  bool
	payload string
}

func (r *handReader) step() {
	ctx := context.Background()
	if len(r.order) == 0 {
		return
	}
	var err error
	switch r.order[0] {
	case stepLease:
		r.lease, err = r.sync.Lease(ctx, r.key(1), cachesync.Envelope, "1a2b3c4d")
	case stepBarrier:
		r.barred, err = r.sync.BarrierHeld(ctx, "wtcache:barrier:"+r.schema+".accounts")
	case stepSnapshot:
		err = r.plain.QueryRow("SELECT row_to_json(t)::text FROM (SELECT id, n FROM accounts WHERE id = 1) t").Scan(&r.payload)
	case stepFill:
		if r.lease.State == cachesync.LeaseGranted && !r.barred {
			_, err = r.sync.Fill(ctx, r.lease, cachesync.Entry{Payload: []byte(r.payload), Schema: "1a2b3c4d", TTL: patience, Format: cachesync.Envelope})
		}
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.order = r.order[1:]
}

// Cache.Get itself, against every way to write: whatever the interleaving of its steps
// with the writer's, what it leaves in Redis is what the table holds, or nothing.
func TestReaderMeetsWriterAtEveryStep(t *testing.T) {
	for _, w := range []struct {
		name, text string
		points     []string
		refused    bool // by COMMIT
		format     string
	}{
		{"coarse", coarseOne, []string{"settled", "fenced", "committed"}, false, ""},
		{"coarse, hash", coarseOne, []string{"settled", "fenced", "committed"}, false, "hash"},
		{"coarse, versioned", coarseOne, []string{"settled", "fenced", "committed"}, false, "versioned"},
		{"lock first", "UPDATE accounts SET n = 1 WHERE abs(id) = 1", []string{"settled", "fenced", "committed"}, false, ""},
		{"lock first, plain", "UPDATE accounts SET n = 1 WHERE abs(id) = 1", []string{"settled", "fenced", "committed"}, false, "plain"},
		{"fence first", "UPDATE accounts SET n = 1 WHERE id = 1", []string{"fenced", "committed"}, false, ""},
		{"fence first, hash", "UPDATE accounts SET n = 1 WHERE id = 1", []string{"fenced", "committed"}, false, "hash"},
		{"fence first, versioned", "UPDATE accounts SET n = 1 WHERE id = 1", []string{"fenced", "committed"}, false, "versioned"},
		{"refused", "UPDATE accounts SET n = 1, owner = 99 WHERE abs(id) = 1", []string{"settled", "fenced", "committed"}, true, ""},
	} {
		t.Run(w.name, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{format: w.format})
			g := newGatedCache(l)
			filled := 0
			for _, p := range placements(len(w.points) + 1) {
				t.Run(fmt.Sprint(p), func(t *testing.T) {
					l.reset(t)
					r := g.start(t)
					if err := l.write(p, w.points, r, w.text); (err != nil) != w.refused {
						t.Error(err)
					}
					r.finish()
					if n, there := l.entry(1); there {
						filled++
						if want := l.row(1); n != want {
							t.Errorf("account 1 is cached as %d and is %d", n, want)
						}
					}
				})
			}
			if filled == 0 {
				t.Error("nothing was ever cached: the test sees nothing")
			}
		})
	}
}

// gatedCache is a Cache whose readers wait at a gate before each step.
type gatedCache struct {
	cache *wtcache.Cache
	now   atomic.Pointer[gatedReader] // the one reader, nil while there is none
}

// gatedReader is a Cache.Get on its way.
type gatedReader struct {
	t       *testing.T
	arrived chan struct{}
	permit  chan struct{}
	done    chan error
	over    bool
}

func newGatedCache(l *ledger) *gatedCache {
	l.t.Helper()
	g := &gatedCache{}
	client := redisClient(l.t, testenv.RealRedis(l.t))
	client.AddHook(gateHook{g, newScripts(l.t, &timeline{})})
	db, err := wtcache.OpenDB(gatedConnector{pgxConnector(l.t, l.dsn), g}, wtcache.Config{
		Redis: client, Rules: l.rules(""), RedisTimeout: patience, FenceLife: 4 * patience, Outbox: wtcache.OutboxOff,
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = db.Close() })
	if g.cache, err = wtcache.CacheOf(db); err != nil {
		l.t.Fatal(err)
	}
	if err := db.Ping(); err != nil {
		l.t.Fatal(err)
	}
	return g
}

// start has a reader come to its first gate.
func (g *gatedCache) start(t *testing.T) *gatedReader {
	t.Helper()
	r := &gatedReader{t: t, arrived: make(chan struct{}), permit: make(chan struct{}), done: make(chan error, 1)}
	g.now.Store(r)
	go func() {
		var a account
		_, err := g.cache.Get(context.Background(), "accounts", &a, 1)
		g.now.Store(nil)
		r.done <- err
	}()
	r.settle()
	return r
}

func (g *gatedCache) gate() {
	if r := g.now.Load(); r != nil {
		r.arrived <- struct{}{}
		<-r.permit
	}
}

// settle waits until the reader stands at a gate, or is done.
func (r *gatedReader) settle() {
	r.t.Helper()
	select {
	case <-r.arrived:
	case err := <-r.done:
		r.over = true
		if err != nil {
			r.t.Error(err)
		}
	}
}

func (r *gatedReader) step() {
	r.t.Helper()
	if !r.over {
		r.permit <- struct{}{}
		r.settle()
	}
}

func (r *gatedReader) finish() {
	for !r.over {
		r.step()
	}
}

// gateHook stops the reader before each script.
type gateHook struct {
	*gatedCache
	scripts
}

func (g gateHook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g gateHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		// A script that the server does not know comes a second time, in full.
		if _, ok := g.name(cmd.Args()); ok && fmt.Sprint(cmd.Args()[0]) == "evalsha" {
			g.gate()
		}
		return next(ctx, cmd)
	}
}

// gatedConnector stops the reader before its database read.
type gatedConnector struct {
	driver.Connector
	*gatedCache
}

func (c gatedConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return gatedConn{recordingConn{conn, &recordedCatalog{}}, c.gatedCache}, err
}

type gatedConn struct {
	recordingConn
	*gatedCache
}

func (c gatedConn) QueryContext(ctx context.Context, q string, a []driver.NamedValue) (driver.Rows, error) {
	if strings.Contains(q, "AS t WHERE t.") {
		c.gate()
	}
	return c.recordingConn.QueryContext(ctx, q, a)
}

func (c gatedConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.Conn.(driver.NamedValueChecker).CheckNamedValue(v)
}
