package wtcache_test

import (
	"context"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A Redis that is gone, or hangs, must cost readers its deadline at most, and never an error:
// the rows are in the database. Once the breaker knows, it is not even asked.
func TestReaderPastARedisThatIsDown(t *testing.T) {
	ctx := context.Background()
	for name, end := range map[string]func(*testenv.RedisServer){"killed": (*testenv.RedisServer).Kill, "stopped": (*testenv.RedisServer).Pause} {
		server := ownRedis(t)
		s := itemsSetup("negative_ttl: 1h\n")
		s.redis, s.config = server.URL, impatient
		h := newShelf(t, s)
		items := readerOf[item](t, h.db, "items")
		seen(t, items, 1)
		seen(t, items, 99)
		end(server)
		tx := begin(t, h.db, nil)
		read := func() {
			for _, r := range []*wtcache.Reader[item]{items, items.With(wtcache.In(tx)), items.With(wtcache.MaxAge(time.Hour)), items.With(wtcache.ReplicaAllowed()), items.With(wtcache.Fresh())} {
				if row := seen(t, r, 1); row.FromCache || row.Value.Title != "old" {
					t.Errorf("%s: %+v", name, row)
				}
			}
			rows, err := items.GetMany(ctx, 2, 99, 1)
			if err != nil || rows[0].Value.Title != "old" || rows[1].Found || rows[2].FromCache {
				t.Errorf("%s: GetMany gave %+v, %v", name, rows, err)
			}
		}
		for h.stats().Redis.BreakerOpens == 0 {
			read()
		}
		const more = 20
		sent := h.sent.during(func() {
			for range more {
				read()
			}
		})
		// One call in a while tries whether Redis is back.
		if len(sent) > more {
			t.Errorf("%s: %d reads sent %d commands to a Redis that is known to be down", name, 6*more, len(sent))
		}
		h.must("UPDATE items SET title = 'x' WHERE id = 2")
		if row := seen(t, items, 2); row.Value.Title != "x" {
			t.Errorf("%s: %+v", name, row)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		if name == "stopped" {
			server.Resume()
		} else {
			server.Restart()
		}
		eventually(t, name+": Redis serves again", func() bool { return seen(t, items, 1).FromCache })
	}
}

// A Redis that breaks between the look and the lease, or between the lease and the fill, has
// not kept the row from its reader.
func TestReaderPastARedisThatBreaks(t *testing.T) {
	for _, script := range []string{"lease", "fill"} {
		proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
		s := itemsSetup("")
		s.redis = proxy.URL
		h := newShelf(t, s)
		h.rdb = redisClient(t, testenv.RealRedis(t))
		items := readerOf[item](t, h.db, "items")
		seen(t, items, 1) // so that the scripts are loaded
		for i, cut := range []func(string) <-chan struct{}{proxy.CutRequest, proxy.CutReply} {
			done := cut(digestOf(t, script))
			if row := seen(t, items, 2+i); row.FromCache || row.Value.Title != "old" {
				t.Errorf("%s, cut %d: %+v", script, i, row)
			}
			await(t, script+": the connection is cut", done)
			if row := seen(t, items, 2+i); row.Value.Title != "old" {
				t.Errorf("%s, cut %d, again: %+v", script, i, row)
			}
		}
	}
}

// The caller's context bounds a read, wherever it is held up, and says whose fault it was.
func TestReaderContext(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	lock := begin(t, h.plain, nil)
	runOn(t, lock, "LOCK TABLE items IN ACCESS EXCLUSIVE MODE")
	ctx, cancel := context.WithCancel(context.Background())
	returned := make(chan error, 1)
	go func() {
		_, err := items.GetMany(ctx, 1, 2, 3)
		returned <- err
	}()
	eventually(t, "the reader is under way", func() bool { return h.stats().DatabaseReads == 2 })
	cancel()
	if err := await(t, "the read", returned); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if _, err := items.Get(ctx, 4); err == nil {
		t.Error("a context that has ended gave a row")
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	// Neither a lease nor a flight is left in the way of the next one.
	eventually(t, "the next reader fills", func() bool {
		if row := seen(t, items, 2); row.Value.Title != "old" {
			t.Errorf("the next reader: %+v", row)
		}
		return h.there("item:2")
	})
}
