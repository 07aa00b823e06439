package wtcache_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A Redis that hangs must leave a reader with a deadline the time to ask the database, whatever
// Redis' own deadline is, and must come to be left alone: else every request of a service fails
// with its cache.
func TestReaderHasTimeLeftByAHungRedis(t *testing.T) {
	t.Parallel()
	server := testenv.NewRedis(t)
	s := itemsSetup("")
	s.redis = server.URL
	s.config = func(c *wtcache.Config) { c.RedisTimeout, c.FenceLife = patience, 4*patience }
	h := newShelf(t, s)
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	server.Pause()
	defer server.Resume()
	for i := 0; h.stats().Redis.BreakerOpens == 0; i++ {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		row, err := items.Row(ctx, 1)
		cancel()
		if err != nil || !row.Found || row.FromCache {
			t.Fatalf("read %d beside a Redis that hangs: %+v, %v", i, row, err)
		}
		if i == 20 {
			t.Fatal("the breaker never opens")
		}
	}
}

// The same for a read replica that accepts connections and says nothing.
func TestReaderHasTimeLeftByAHungStandby(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	s := itemsSetup("")
	s.config = func(c *wtcache.Config) {
		c.ReadReplicaDSN = fmt.Sprintf("postgres://nobody@%s/nothing?sslmode=disable", silent.Addr())
	}
	h := newShelf(t, s)
	wtcache.StandbyOf(t, h.db).Wait(time.Millisecond, patience) // it is given all of a caller's time but half
	items := readerOf[item](t, h.db, "items")
	for id := 1; id <= 8; id++ {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		row, err := items.Row(ctx, id)
		cancel()
		if err != nil || !row.Found {
			t.Fatalf("item %d beside a standby that hangs: %+v, %v", id, row, err)
		}
	}
	if n := h.stats().ReplicaUnavailable; n != 8 {
		t.Errorf("the standby was not available %d times, not 8", n)
	}
}

// One table that cannot be read (somebody has renamed it, or taken the right away) is its own
// readers' trouble: it must not have the catalogue read anew for each of their tries, which
// every reader and writer of all other tables would have to wait for.
func TestOneBrokenTableLeavesTheOthersAlone(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	h.must("ALTER TABLE items RENAME TO gone")
	before := h.stats().SessionProbes
	const tries = 200
	for i := range tries {
		if _, err := items.Get(context.Background(), 1000+i); err == nil {
			t.Fatal("a row of a table that is not there")
		}
	}
	if n := h.stats().SessionProbes - before; n > tries/4 {
		t.Errorf("%d looks at the catalogue for %d failed reads", n, tries)
	}
	h.must("ALTER TABLE gone RENAME TO items")
	eventually(t, "the table can be read again", func() bool {
		_, err := items.Get(context.Background(), 2)
		return err == nil
	})
}

// A pool whose connections are all in use must not slow hits down: they need none.
func TestHitsDoNotQueueForAConnection(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	l.db.SetMaxOpenConns(1)
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	const hits = 50
	hit := func() {
		t.Helper()
		r, err := wtcache.ReaderOf[account](l.db, "accounts") // as programs do that make one a request
		if err != nil {
			t.Fatal(err)
		}
		if row, err := r.Row(context.Background(), 1); err != nil || !row.FromCache {
			t.Fatalf("%+v, %v", row, err)
		}
	}
	for what, happen := range map[string]func(){
		"another epoch begins":        func() { wtcache.NextEpoch(l.db) },
		"the catalogue was changed":   func() { wtcache.CatalogueChanged(l.db) },
		"nothing that concerns a hit": func() {},
	} {
		happen()
		before := l.db.Stats().WaitCount
		for range hits {
			hit()
		}
		if n := l.db.Stats().WaitCount - before; n > hits/10 {
			t.Errorf("%s: %d of %d hits asked for a connection", what, n, hits)
		}
	}
}

// depthConn notes how deep the contexts of the readers' queries are nested.
type depthConn struct {
	recordingConn
	depth *atomic.Int64
}

func (c depthConn) QueryContext(ctx context.Context, q string, a []driver.NamedValue) (driver.Rows, error) {
	if strings.Contains(q, "AS t WHERE t.") {
		depth := int64(strings.Count(fmt.Sprint(ctx), "WithoutCancel"))
		for old := c.depth.Load(); depth > old && !c.depth.CompareAndSwap(old, depth); {
			old = c.depth.Load()
		}
	}
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, q, a)
}

func (c depthConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.Conn.(driver.NamedValueChecker).CheckNamedValue(v)
}

type depthConnector struct {
	driver.Connector
	depth *atomic.Int64
}

func (c depthConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return depthConn{recordingConn{conn, nil}, c.depth}, err
}

// On a busy key one read follows another without end, each made for those who came too late
// for the one before. What the first one's caller had in its context must not grow with them.
func TestReadsInARowDoNotNest(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	var depth atomic.Int64
	db, err := wtcache.OpenDB(depthConnector{pgxConnector(t, h.dsn), &depth}, wtcache.Config{Redis: h.rdb, Rules: h.rules})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	items := readerOf[item](t, db, "items", wtcache.Fresh())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			for range 50 {
				if _, err := items.Get(context.Background(), 1); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if depth.Load() != 1 {
		t.Errorf("contexts are nested %d deep", depth.Load())
	}
}

// What a transaction has written past the driver is its own: In must not serve it the row from
// before out of Redis.
func TestReaderInTxAfterARawWrite(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	ctx := context.Background()
	conn, err := h.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	if err := conn.Raw(func(c any) error {
		pc, ok := wtcache.PgxConn(c)
		if !ok {
			return fmt.Errorf("%T has no pgx inside", c)
		}
		_, err := pc.Exec(ctx, "UPDATE items SET title = 'raw' WHERE id = 1")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if row, err := items.With(wtcache.In(tx)).Row(ctx, 1); err != nil || row.Value.Title != "raw" {
		t.Errorf("%+v, %v", row, err)
	}
}
