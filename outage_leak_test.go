package wtcache_test

import (
	"context"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

const outagesInALife = 20

// A service goes through outages for as long as it lives. If each left a goroutine, a connection or a piece of memory behind, the cache's
// troubles would end up as the service's own, weeks later.
func TestOutagesLeaveNothingBehind(t *testing.T) {
	postgres := testenv.Postgres(t)
	schema := testenv.Outbox(t, postgres)
	server := testenv.NewRedis(t)
	name := testenv.KeyPrefix(t)
	goroutines := runtime.NumGoroutine()
	l := newLedger(t, ledgerSetup{redis: server.URL, postgres: postgres + "&application_name=" + name, config: withOutbox(t, schema, func(c *wtcache.Config) { c.MaxQueuedKeys = 40 })})
	goroutinesOfTest := runtime.NumGoroutine() - goroutines
	l.db.SetMaxOpenConns(8)
	l.db.SetMaxIdleConns(8)
	var heap uint64
	var connections int
	for n := 1; n <= outagesInALife; n++ {
		l.outage(server, n)
		eventually(t, fmt.Sprintf("outage %d leaves nothing to do", n), func() bool {
			remains := wtcache.Remains(t, l.db)
			return !slices.ContainsFunc(slices.Collect(maps.Values(remains)), func(n int) bool { return n != 0 }) && l.rowsQueued(schema) == 0
		})
		if n == 3 { // by then all that is kept for good is there
			heap, connections = heapInUse(), l.connections(name)
		}
	}
	if now := heapInUse(); now > heap+4<<20 {
		t.Errorf("the heap is %d KB after 3 outages and %d KB after %d", heap>>10, now>>10, outagesInALife)
	}
	eventually(t, "no more connections to Postgres than after 3 outages", func() bool { return l.connections(name) <= connections })
	var outages int
	if err := l.plain.QueryRow("SELECT count(*) FROM " + schema + ".outage").Scan(&outages); err != nil || outages != 0 {
		t.Errorf("%d rows of outages are left (%v)", outages, err)
	}
	l.wantTrue()
	if err := l.db.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "Close leaves no connection to Postgres", func() bool { return l.connections(name) == 0 })
	eventually(t, "Close leaves no goroutine", func() bool { return runtime.NumGoroutine() <= goroutines+goroutinesOfTest })
}

// outage takes Redis away while readers and writers are at work, until it has been noticed and written past, and gives it back.
func (l *ledger) outage(server *testenv.RedisServer, n int) {
	l.t.Helper()
	before := l.stats()
	stop := make(chan struct{})
	var all sync.WaitGroup
	var wrote atomic.Int64
	for w := range 6 {
		all.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if err := kindsOfCall[(w+i)%len(kindsOfCall)].call(context.Background(), l); err != nil && sqlState(err) != "40P01" {
					l.t.Errorf("outage %d: %s: %v", n, kindsOfCall[(w+i)%len(kindsOfCall)].name, err)
					return
				}
				wrote.Add(1)
			}
		})
	}
	mend := server.Resume
	if n%2 == 0 {
		server.Kill()
		mend = server.Restart
	} else {
		server.Pause()
	}
	eventually(l.t, fmt.Sprintf("outage %d is announced", n), func() bool { return l.stats().Outbox.Announced > before.Outbox.Announced })
	if n%4 == 0 {
		eventually(l.t, fmt.Sprintf("outage %d owes everything", n), func() bool { return l.stats().Outbox.Full > before.Outbox.Full })
	}
	done := wrote.Load()
	eventually(l.t, fmt.Sprintf("the service works on in outage %d", n), func() bool { return wrote.Load() > done+20 })
	mend()
	eventually(l.t, fmt.Sprintf("outage %d is over", n), func() bool { return l.stats().Outbox.Removed > before.Outbox.Removed })
	close(stop)
	all.Wait()
}

func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // the first may leave what has finalizers
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// connections counts those of the driver under test, if it was given a name.
func (l *ledger) connections(name string) (n int) {
	l.t.Helper()
	err := l.plain.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name).Scan(&n)
	if err != nil {
		l.t.Fatal(err)
	}
	return n
}

// With Redis away for hours and ever new keys written, neither the process' memory nor the outbox may grow with them.
func TestALongOutageStaysBounded(t *testing.T) {
	const most, keys = 50, 2000
	schema := testenv.Outbox(t, testenv.Postgres(t))
	l := newLedger(t, ledgerSetup{redis: nowhere(t), config: withOutbox(t, schema, func(c *wtcache.Config) { c.MaxQueuedKeys = most })})
	for id := 1000; id < 1000+keys; id++ {
		l.exec("INSERT INTO accounts VALUES ($1, 1)", id)
	}
	s := l.stats()
	// What the writers of one moment add before everything is owed is a row each: here there is one writer.
	if n := l.rowsQueued(schema); n > 10*most || s.Outbox.Full == 0 || s.Unfenced != keys {
		t.Errorf("after %d keys: %d rows in the outbox, everything owed %d times, %d written past Redis", keys, n, s.Outbox.Full, s.Unfenced)
	}
	if s.Redis.OwedTotal != 0 || wtcache.Remains(t, l.db)["owed"] != 0 {
		t.Errorf("%d keys came to be owed in memory, though the outbox has them", s.Redis.OwedTotal)
	}
}
