package wtcache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// accountReads are the ways to read an account.
var accountReads = []struct {
	name string
	read func(context.Context, *ledger, int) (n int, cached bool, err error)
}{
	{"Get", func(ctx context.Context, l *ledger, id int) (int, bool, error) {
		var a account
		read, err := l.cache.Get(ctx, "accounts", &a, id)
		return a.N, read.FromCache, err
	}},
	{"GetMany", func(ctx context.Context, l *ledger, id int) (int, bool, error) {
		r, err := wtcache.ReaderOf[account](l.db, "accounts")
		if err != nil {
			return 0, false, err
		}
		rows, err := r.GetMany(ctx, 9, id)
		if err != nil {
			return 0, false, err
		}
		return rows[1].Value.N, rows[1].FromCache, nil
	}},
	{"In", func(ctx context.Context, l *ledger, id int) (n int, cached bool, err error) {
		tx, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return 0, false, err
		}
		defer func() { _ = tx.Rollback() }()
		var a account
		read, err := l.cache.With(wtcache.In(tx)).Get(ctx, "accounts", &a, id)
		return a.N, read.FromCache, err
	}},
	{"ReplicaAllowed", func(ctx context.Context, l *ledger, id int) (int, bool, error) {
		var a account
		read, err := l.cache.With(wtcache.ReplicaAllowed()).Get(ctx, "accounts", &a, id)
		return a.N, read.FromCache, err
	}},
}

// unhurried is for a process whose Redis is held up by the test.
func unhurried(c *wtcache.Config) { c.RedisTimeout, c.FenceLife = patience, 4*patience }

// Once a commit is acknowledged nobody may be given the row from before it, in whatever way they read, and however long it takes until
// Redis is told.
func TestReadersBesideAQueue(t *testing.T) {
	for _, format := range []string{"envelope", "plain"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			l, link, schema := cutLedger(t, ledgerSetup{format: format})
			g := newGate(t, "invalidate")
			well := l.beside(ledgerSetup{format: format, hook: g, config: withOutbox(t, schema, unhurried, func(c *wtcache.Config) {
				c.RedisReplica = redisClient(t, testenv.RealRedis(t))
			})})
			well.warm(1, 9)
			for _, w := range accountReads {
				if _, cached, err := w.read(t.Context(), well, 1); err != nil || !cached {
					t.Fatalf("%s: from cache: %v, %v", w.name, cached, err)
				}
			}
			g.close()
			link.Pause()
			for n := 1; n <= 10; n++ {
				l.exec(setFenceFirst, n, 1)
				for _, w := range accountReads {
					if got, cached, err := w.read(t.Context(), well, 1); err != nil || got != n {
						t.Fatalf("%s gets %d (from cache: %v), %v, after the commit of %d", w.name, got, cached, err, n)
					}
				}
			}
			eventually(t, "somebody tries to drain", func() bool { return g.holding() > 0 })
			if n := count(t, l.plain, schema+".outbox"); n == 0 {
				t.Error("rows have left the outbox before Redis has acknowledged")
			}
			if n, there := well.entry(1); !there || n != 0 {
				t.Errorf("the test has not kept the old entry: %d, %v", n, there)
			}
			g.open()
			link.Resume()
			settled(t, l.plain, schema)
			well.wantTrue()
			for _, w := range accountReads {
				eventually(t, w.name+" hits again", func() bool {
					n, cached, err := w.read(t.Context(), well, 1)
					if err != nil || n != 10 {
						t.Fatalf("%s gets %d, %v", w.name, n, err)
					}
					return cached
				})
			}
		})
	}
}

// A rule whose writers never queue has nothing to look out for: its readers go on hitting while the database is away. Those of a rule that
// queues cannot know, and must not be served.
func TestReadersWithoutADatabase(t *testing.T) {
	for name, shared := range map[string]string{"": "", "shared keys": "invalidate: [\"{P}list:{n}\"]\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			schema := testenv.Outbox(t, testenv.Postgres(t))
			h := newShelf(t, shelfSetup{
				ddl: `CREATE TABLE firm (id int PRIMARY KEY, n int); CREATE TABLE soft (id int PRIMARY KEY, n int);
					INSERT INTO firm VALUES (1, 1); INSERT INTO soft VALUES (1, 1)`,
				rules: map[string]string{
					"firm": "table: {S}.firm\nkey: \"{P}firm:{id}\"\nredis_down: refuse\n",
					"soft": "table: {S}.soft\nkey: \"{P}soft:{id}\"\n" + shared,
				},
				config: func(c *wtcache.Config) { c.Outbox = wtcache.OutboxOff },
			})
			proxy := testenv.ProxyURL(t, testenv.Postgres(t))
			h.dsn = withSearchPath(t, proxy.URL, h.schema)
			db, _ := h.open(shelfSetup{config: func(c *wtcache.Config) { c.Outbox, c.Watch = schema, 200*time.Millisecond }})
			firm, soft := readerOf[crate](t, db, "firm"), readerOf[crate](t, db, "soft")
			eventually(t, "hits", func() bool { return seen(t, firm, 1).FromCache && seen(t, soft, 1).FromCache })
			proxy.Pause()
			defer proxy.Resume()
			eventually(t, "a reader of the rule that queues is not served", func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, err := soft.Row(ctx, 1)
				return errors.Is(err, context.DeadlineExceeded)
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			row, err := firm.Row(ctx, 1)
			if served := err == nil && row.FromCache; served != (shared == "") {
				t.Errorf("a reader of the rule that refuses: %+v, %v", row, err)
			}
		})
	}
}

// A process whose own link was down must not serve what Redis held before, until all that was owed then is settled: it has not looked.
func TestHitsComeBackWhenTheQueueIsDrained(t *testing.T) {
	for _, watch := range []time.Duration{200 * time.Millisecond, -1} {
		t.Run(watch.String(), func(t *testing.T) {
			t.Parallel()
			l, link, schema := cutLedger(t, ledgerSetup{}, func(c *wtcache.Config) { c.Watch = watch })
			other := testenv.ProxyURL(t, testenv.RealRedis(t))
			g := newGate(t, "invalidate")
			reader := l.beside(ledgerSetup{redis: other.URL, hook: g, config: withOutbox(t, schema, func(c *wtcache.Config) { c.Watch = watch })})
			reader.warm(1)
			if _, read := reader.reads(1); !read.FromCache {
				t.Fatal("a hit was not served")
			}
			g.close()
			other.Pause()
			link.Pause()
			eventually(t, "the reader's breaker is open", func() bool { reader.reads(1); return reader.stats().Redis.BreakerOpens > 0 })
			l.downed()
			l.exec(setLockFirst, 7, 1)
			other.Resume()
			eventually(t, "the reader's process drains", func() bool { return g.holding() > 0 })
			for range 200 {
				if n, read := reader.reads(1); n != 7 || read.FromCache {
					t.Fatalf("reads %d (from cache: %v) while its row is owed", n, read.FromCache)
				}
			}
			g.open()
			link.Resume()
			settled(t, l.plain, schema)
			eventually(t, "hits come back", func() bool {
				n, read := reader.reads(1)
				if n != 7 {
					t.Fatalf("reads %d", n)
				}
				return read.FromCache
			})
			reader.wantTrue()
		})
	}
}

// The process that queued is the last that may be served too early: its own Redis has answered, and others hold its rows.
func TestTheWriterHitsWhenItsQueueIsDrained(t *testing.T) {
	schema := testenv.Outbox(t, testenv.Postgres(t))
	link, g := testenv.ProxyURL(t, testenv.RealRedis(t)), newGate(t, "invalidate")
	l := newLedger(t, ledgerSetup{redis: link.URL, hook: g, config: withOutbox(t, schema)})
	l.rdb = redisClient(t, testenv.RealRedis(t))
	eventually(t, "a hit", func() bool { _, read := l.reads(1); return read.FromCache })
	g.close()
	link.Pause()
	l.downed()
	l.exec(setLockFirst, 7, 1)
	link.Resume()
	eventually(t, "it drains", func() bool { return g.holding() > 0 })
	for range 200 {
		if n, read := l.reads(1); n != 7 || read.FromCache {
			t.Fatalf("reads %d (from cache: %v) while its row is owed", n, read.FromCache)
		}
	}
	l.exec(setLockFirst, 8, 2) // and writes are fenced meanwhile
	g.open()
	settled(t, l.plain, schema)
	eventually(t, "hits come back", func() bool { _, read := l.reads(1); return read.FromCache })
	l.wantTrue()
}

// What could not be settled after its commit is retried in memory, and past a bound, or at the end of the process, handed to the outbox, so that
// it is not lost with the process.
func TestWhatIsOwedAfterCommitIsHandedOver(t *testing.T) {
	for _, way := range []string{"in time", "at Close", "coarse, at Close"} {
		t.Run(way, func(t *testing.T) {
			l, link, schema := cutLedger(t, ledgerSetup{})
			l.warm(1, 2)
			text := setOne
			if strings.HasPrefix(way, "coarse") {
				text = coarseOne
			}
			wtcache.AtCrashPoint(t, func(point string) {
				if point == "committed" {
					link.Pause()
				}
			})
			l.exec(text)
			l.wantRow(1, 1)
			if s := l.stats(); s.Queued != 0 || s.Unfenced != 0 {
				t.Fatalf("it was not fenced: %+v", s)
			}
			if way == "in time" {
				eventually(t, "it is handed over", func() bool { return l.stats().Redis.OwedHandedOver > 0 })
			} else if err := l.db.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if n := count(t, l.plain, schema+".outbox WHERE outage IS NULL"); n != 1 {
				t.Errorf("%d rows are in the outbox", n)
			}
			well := l.beside(ledgerSetup{config: withOutbox(t, schema)})
			well.read(2)
			settled(t, l.plain, schema)
			well.wantTrue()
			well.wantAbsent(1) // its fence is left to expire
			if way != "in time" {
				return
			}
			link.Resume()
			eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
			l.wantTrue()
		})
	}
}
