package wtcache_test

import (
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// withOutbox gives a ledger an outbox of its own.
func withOutbox(t *testing.T, schema string, more ...func(*wtcache.Config)) func(*wtcache.Config) {
	return func(c *wtcache.Config) {
		c.Outbox, c.Watch = schema, 200*time.Millisecond
		c.RedisTimeout = 200 * time.Millisecond
		for _, m := range more {
			m(c)
		}
	}
}

// A process whose link to Redis is cut writes on, and a process whose link is not must not serve what was there before: not
// once Commit has returned, whenever the outbox is drained.
func TestWriteWithoutRedisIsSeenByAll(t *testing.T) {
	outbox := testenv.Outbox(t, testenv.Postgres(t))
	link := testenv.ProxyURL(t, testenv.RealRedis(t))
	cut := newLedger(t, ledgerSetup{redis: link.URL, config: withOutbox(t, outbox)})
	well := cut.beside(ledgerSetup{config: withOutbox(t, outbox)})
	well.warm(1)
	if _, read := well.reads(1); !read.FromCache {
		t.Fatal("a hit was not served")
	}
	link.Pause()
	cut.exec(setFenceFirst, 7, 1)
	for range 50 {
		if n, read := well.reads(1); n != 7 {
			t.Fatalf("read %d (from cache: %v) after the commit of 7 was acknowledged", n, read.FromCache)
		}
	}
	link.Resume()
	eventually(t, "the outage to end", func() bool { return cut.stats().Outbox.Removed == 1 })
	well.wantTrue()
	eventually(t, "hits to come back", func() bool { _, read := well.reads(1); return read.FromCache })
}

func (l *ledger) reads(id int) (n int, read wtcache.Read) {
	l.t.Helper()
	var row struct{ N int }
	read, err := l.cache.Get(l.t.Context(), "accounts", &row, id)
	if err != nil {
		l.t.Fatal(err)
	}
	return row.N, read
}
