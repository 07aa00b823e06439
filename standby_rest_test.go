package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// counted counts the connections that are asked for.
type counted struct {
	driver.Connector
	tries atomic.Int64
}

func (c *counted) Connect(ctx context.Context) (driver.Conn, error) {
	c.tries.Add(1)
	return c.Connector.Connect(ctx)
}

// hours is a clock that a test moves.
type hours struct{ now atomic.Int64 }

func (h *hours) clock() time.Duration { return time.Duration(h.now.Load()) * time.Hour }

// later is a clock that is past every rest.
func later() time.Duration { return 24 * 365 * time.Hour }

// openCounted opens a ledger whose standby is reached by a connector of the test's.
func (p pair) openCounted(t *testing.T, by driver.Connector) (*replicaLedger, *counted, *hours) {
	t.Helper()
	way, clock := &counted{Connector: by}, &hours{}
	pool := sql.OpenDB(way)
	t.Cleanup(func() { _ = pool.Close() })
	l := p.open(t, func(cfg *wtcache.Config) { cfg.ReadReplica = pool })
	l.replica.Clock(clock.clock, time.Hour)
	return l, way, clock
}

// A standby that is gone must not cost every miss the try to reach it, nor the question to the
// primary: the misses are what a cache that has just lost its replica has most of.
func testReplicaDead(t *testing.T, p pair) {
	dead, alive := pgxConnector(t, "postgres:///postgres?host=/nowhere&port=5432"), pgxConnector(t, p.standby.URL)
	way := (&route{})
	l, tries, clock := p.openCounted(t, way.base(dead))
	if from := l.miss(); from != onPrimary {
		t.Errorf("the row came from %q", from)
	}
	l.wantCached(1, 0)
	for range 100 {
		l.wantNotAsked()
	}
	if n := tries.tries.Load(); n != 1 {
		t.Errorf("it was tried %d times", n)
	}
	l.wantCounts(0, 0, 101)

	clock.now.Add(2) // one finds out for all
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if conn, done := l.replica.Reading(context.Background(), l.db); conn != nil {
				done()
				t.Error("a dead standby is used")
			}
		})
	}
	wg.Wait()
	if n := tries.tries.Load(); n != 2 {
		t.Errorf("after its rest it was tried %d times by 20 readers", n-1)
	}

	way.lead(alive)
	l.wantNotAsked()
	clock.now.Add(2)
	l.wantUsed()
	l.wantUsed()
}

// A standby that lags for long must not cost every miss the wait for it either.
func testReplicaLagsForLong(t *testing.T, p pair) {
	l, _, clock := p.openCounted(t, pgxConnector(t, p.standby.URL))
	l.wantUsed()
	p.standby.Pause()
	l.exec(setFenceFirst, 1, 1)
	l.replica.Wait(time.Millisecond, patience)
	if n, from := l.snapshot(); n != 1 || from != onPrimary {
		t.Errorf("the row %d came from %q", n, from)
	}
	for range 100 {
		l.wantNotAsked()
	}
	l.wantCounts(1, 101, 0)
	p.standby.Resume()
	l.replica.Wait(patience, patience)
	clock.now.Add(1)
	l.wantUsed()
}

// A standby that does not answer is worse than one that refuses: each question waits for its
// deadline.
func testReplicaSilent(t *testing.T, p pair) {
	proxy := testenv.ProxyURL(t, p.standby.URL)
	l, _, clock := p.openCounted(t, pgxConnector(t, proxy.URL))
	l.wantUsed()
	proxy.Pause()
	l.replica.Wait(patience, 50*time.Millisecond)
	read := make(chan string, 1)
	go func() {
		_, from := l.snapshot()
		read <- from
	}()
	if from := await(t, "the row", read); from != onPrimary {
		t.Errorf("the row came from %q", from)
	}
	l.wantNotAsked()
	proxy.Resume()
	l.wantNotAsked()
	clock.now.Add(2)
	l.replica.Wait(patience, patience)
	l.wantUsed()
}

// A caller whose own deadline is shorter than ours must still get his row from the primary,
// and must not be the reason that the death of the standby stays unnoticed.
func testReplicaShortDeadline(t *testing.T, p pair) {
	proxy := testenv.ProxyURL(t, p.standby.URL)
	l, _, clock := p.openCounted(t, pgxConnector(t, proxy.URL))
	l.replica.Wait(time.Minute, patience)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if conn, done := l.replica.Reading(ctx, nil); conn != nil {
		done()
		t.Error("a caller without time to spare spends it on the standby")
	}
	l.wantUsed() // he has learnt nothing about it

	trap := proxy.HoldRequest("stmtcache_") // prepared before
	ctx, cancel = context.WithCancel(context.Background())
	read := make(chan bool, 1)
	go func() {
		conn, done := l.replica.Reading(ctx, l.db)
		done()
		read <- conn != nil
	}()
	await(t, "the question to the standby", trap.Reached())
	cancel()
	if await(t, "the call's return", read) {
		t.Error("a standby that has not answered is used")
	}
	trap.Release()
	l.wantUsed() // nor has one who gave up

	proxy.Pause()
	l.replica.Wait(time.Millisecond, patience)
	ctx, cancel = context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if conn, done := l.replica.Reading(ctx, l.db); conn != nil {
		done()
		t.Error("a silent standby is used")
	}
	if _, err := l.db.ExecContext(ctx, "SELECT 1"); err != nil {
		t.Errorf("nothing was left of the caller's time: %v", err)
	}
	l.wantNotAsked()
	proxy.Resume()
	clock.now.Add(2)
	l.replica.Wait(patience, patience)
	l.wantUsed()
}

// A standby that is well refuses some statements, and goes on to be used; one that ends its
// sessions is shutting down.
func testReplicaRowErrors(t *testing.T, p pair) {
	ctx := context.Background()
	l, _, _ := p.openCounted(t, pgxConnector(t, p.standby.URL))
	l.must("CREATE UNLOGGED TABLE scratch (id int)")
	conn, done := l.replica.Reading(ctx, l.db)
	defer done()
	if conn == nil {
		t.Fatal("the standby is not used")
	}
	_, err := conn.ExecContext(ctx, "SELECT FROM "+l.schema+".scratch")
	if err == nil {
		t.Fatal("a standby has read an unlogged table")
	}
	l.replica.Failed(ctx, err)
	l.wantUsed()
	l.replica.Failed(ctx, stateError("40001")) // a conflict with the replay
	l.wantUsed()

	var pid int
	if err := conn.QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	var ended bool
	ask(t, p.standby.URL, "SELECT pg_terminate_backend("+fmt.Sprint(pid)+", 30000)", &ended)
	_, err = conn.ExecContext(ctx, "SELECT 1")
	if err == nil {
		t.Fatal("a session that was ended answers")
	}
	l.replica.Failed(ctx, err)
	l.wantNotAsked()
}

// A pool whose address leads to whichever server is up may lead to a standby, whose own
// position says nothing of the primary's.
func testReplicaOfNoPrimary(t *testing.T, p pair) {
	l := p.open(t, nil)
	if conn, done := l.replica.Reading(context.Background(), openPlain(t, p.standby.URL)); conn != nil {
		done()
		t.Error("the standby is taken for fresh by a standby's word")
	}
	l.wantUsed()
}

// The position that is waited for may leave out the header of a page that has nothing on it
// yet, and not a byte of a record: a commit whose last bytes stand behind a header would be
// missed. Records of all lengths are made to end about the ends of pages.
func TestReplicaPositionIsTheEndOfTheLastRecord(t *testing.T) {
	const page = 8192
	ctx := context.Background()
	db := openPlain(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).URL)
	lsn := func(question string, args ...any) (n uint64) {
		t.Helper()
		var text string
		if err := db.QueryRowContext(ctx, question, args...).Scan(&text); err != nil {
			t.Fatal(err)
		}
		high, low := uint64(0), uint64(0)
		if _, err := fmt.Sscanf(text, "%X/%X", &high, &low); err != nil {
			t.Fatal(err)
		}
		return high<<32 | low
	}
	ends := 0
	for range 400 {
		now := lsn("SELECT pg_current_wal_insert_lsn()::text")
		left := int(page - now%page)
		// The record's own headers take 50 to 60 bytes.
		length := max(0, left-64+8*rand.IntN(5))
		end := lsn("SELECT pg_logical_emit_message(false, '', repeat('x', $1))::text", length)
		got, text, err := wtcache.PositionOf(ctx, db)
		if err != nil {
			t.Fatal(err)
		}
		if got < end {
			t.Fatalf("the position is %s, and the last record ends %d bytes behind it", text, end-got)
		}
		if end%page == 0 && got == end {
			ends++
		}
	}
	if ends == 0 {
		t.Error("no record was seen to end with its page")
	}
	lsn("SELECT pg_switch_wal()::text")
	if got, text, err := wtcache.PositionOf(ctx, db); err != nil || got%page != 0 {
		t.Errorf("after a switch the position is %s, %v; want the start of a file", text, err)
	}
}
