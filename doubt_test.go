package wtcache_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// shortFences expire while a test waits.
func shortFences(c *wtcache.Config) {
	c.RedisTimeout, c.FenceLife = 250*time.Millisecond, time.Second
}

// While the server cannot be asked the fence is renewed, since the COMMIT may still land;
// but not for ever, or the key would never be cached again.
func TestDoubtThatCannotBeAskedForExpires(t *testing.T) {
	proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, base: way.base, config: shortFences})
	reader := l.other(ledgerSetup{})
	reader.warm(1)
	commit := setInTx(context.Background(), t, l, setOne)
	way.close(true)
	lose(t, proxy, "commit", commit)
	eventually(t, "the fence was renewed past its life", func() bool { return l.stats().Redis.Renewals >= 4 })
	if got := reader.read(1); got != 1 {
		t.Errorf("a reader gets %d, want 1", got)
	}
	l.wantInDoubt(1)
	eventually(t, "the driver gives up", func() bool { return l.stats().DoubtExpired == 1 })
	eventually(t, "a reader fills the key again", func() bool {
		if got := reader.read(1); got != 1 {
			t.Fatalf("a reader gets %d, want 1", got)
		}
		_, there := l.entry(1)
		return there
	})
	l.wantCached(1, 1)
	if l.heard.told("cannot be asked for") != 1 {
		t.Error("that the outcome was given up was not logged")
	}
}

// What a savepoint took back is not stored when the rest turns out to be committed.
func TestDoubtWithSavepoints(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.Postgres(t))
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
	l.warm(1, 2, 3)
	conn := l.on()
	l.say(conn, "BEGIN", "SAVEPOINT a", "UPDATE accounts SET n = 5 WHERE id = 1", "ROLLBACK TO a", "SAVEPOINT b",
		"UPDATE accounts SET n = 6 WHERE id = 2", "RELEASE b", "UPDATE accounts SET n = 7 WHERE id = 3")
	lose(t, proxy, "commit", func() error {
		_, err := conn.ExecContext(context.Background(), "COMMIT")
		return err
	})
	l.wantSettled(true)
	l.wantCached(1, 0)
	l.wantCached(2, 6)
	l.wantCached(3, 7)
	l.wantTrue()
}

// Coarse writes have no rows to tell the transaction by, and their rule's barrier keeps every
// key of it out of use: it has to fall when the outcome is known, and not before.
func TestDoubtOfCoarseWrites(t *testing.T) {
	for _, committed := range []bool{false, true} {
		for _, text := range []string{coarseOne, "TRUNCATE accounts"} {
			t.Run(fmt.Sprintf("%s/committed %v", text, committed), func(t *testing.T) {
				proxy := testenv.ProxyURL(t, testenv.Postgres(t))
				l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
				l.warm(1, 2, 3)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				trap := disturb(proxy, committed)
				returned := make(chan error, 1)
				go func() {
					_, err := l.db.ExecContext(ctx, text)
					returned <- err
				}()
				await(t, "the COMMIT on the wire", trap.Reached())
				if !strings.HasPrefix(text, "TRUNCATE") { // which locks readers out
					l.read(2)
				}
				l.wantAbsent(2)
				if !committed {
					cancel()
				} else {
					trap.Cut()
				}
				if err := await(t, "the caller's error", returned); err == nil {
					t.Error("the caller was told that it committed")
				}
				trap.Cut()
				l.wantSettled(committed)
				if text == coarseOne || !committed {
					l.warm(1, 2, 3) // the barrier is gone
					l.wantTrue()
				}
			})
		}
	}
}

// disturb catches a COMMIT: its acknowledgement, or itself.
func disturb(proxy *testenv.Proxy, committed bool) *testenv.Trap {
	if committed {
		return proxy.HoldReply("commit")
	}
	return proxy.HoldRequest("commit")
}

// Eventual writes have no fence. Their keys are made absent when the outcome is lost and
// again when it is known, since a reader may have filled the old row in between.
func TestDoubtOfEventualWrites(t *testing.T) {
	server := standbyless(t)
	proxy, way := testenv.ProxyURL(t, server.URL), &route{}
	l := newLedger(t, ledgerSetup{server: server.URL, postgres: proxy.URL, base: way.base, rule: "consistency: eventual\n", config: longFences})
	reader := l.other(ledgerSetup{rule: "consistency: eventual\n"})
	reader.warm(1)
	conn := l.on()
	l.say(conn, "BEGIN", "SET LOCAL synchronous_commit = on", setOne)
	returned := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(context.Background(), "COMMIT")
		returned <- err
	}()
	pid := l.waiting("SyncRep")
	way.lead(pgxConnector(t, l.dsn))
	proxy.Pause()
	proxy.Cut()
	if err := await(t, "the caller's error", returned); err == nil {
		t.Error("the caller was told that it committed")
	}
	eventually(t, "the key is made absent at once", func() bool { _, there := l.entry(1); return !there && l.stats().Redis.Owed == 0 })
	reader.warm(1) // with the old row: the new one cannot be seen yet
	l.wantCached(1, 0)
	l.must("SELECT pg_cancel_backend($1)", pid)
	l.wantSettled(true)
	l.wantAbsent(1)
	proxy.Resume()
	reader.wantTrue()
}

// The later of two writers has the last word, also where the earlier one's outcome is known
// only after it: or the earlier row would be served from then on.
func TestDoubtOfTheEarlierOfTwoWriters(t *testing.T) {
	for _, second := range []string{setFenceFirst, setLockFirst} {
		t.Run(second, func(t *testing.T) {
			proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
			l := newLedger(t, ledgerSetup{postgres: proxy.URL, base: way.base, config: longFences})
			later := l.other(ledgerSetup{config: longFences})
			later.warm(1)
			commit := setInTx(context.Background(), t, l, setOne)
			way.close(true)
			lose(t, proxy, "commit", commit)
			later.exec(second, 2, 1)
			if got := later.read(1); got != 2 {
				t.Errorf("after the later COMMIT a reader gets %d", got)
			}
			l.wantInDoubt(1)
			way.close(false)
			l.wantSettled(true)
			if n, there := l.entry(1); there && n != 2 {
				t.Errorf("%d is cached, which was older when it was settled", n)
			}
			later.wantTrue()
		})
	}
}

// Redis may be down when the COMMIT goes out, and its outcome lost as well: then there is no
// fence, and the key has to go once the COMMIT is certain to be visible, not before only.
func TestDoubtOfUnfencedWrites(t *testing.T) {
	redis := ownRedis(t)
	proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, redis: redis.URL, base: way.base, config: func(c *wtcache.Config) {
		impatient(c)
		longFences(c)
	}})
	reader := l.other(ledgerSetup{redis: redis.URL})
	reader.warm(1)
	commit := setInTx(context.Background(), t, l, setOne)
	way.close(true)
	redis.Kill()
	lose(t, proxy, "commit", commit)
	redis.Restart()
	eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
	l.wantAbsent(1)
	owed := l.stats().Redis.OwedTotal
	way.close(false)
	l.wantSettled(true)
	if s := l.stats(); s.Redis.OwedTotal == owed || s.Unfenced != 1 {
		t.Errorf("once it was known nothing more was owed; %d committed unfenced", s.Unfenced)
	}
	eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
	reader.wantTrue()
}

// A service that closes its database keeps nothing of it: no goroutine, no connection.
func TestDoubtLeavesNothingBehind(t *testing.T) {
	proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
	l := newLedger(t, ledgerSetup{})
	connected := func() (n int) {
		if err := l.plain.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", l.schema).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, settled := range []bool{true, false} {
		before := runtime.NumGoroutine()
		way.close(false)
		named := *l
		named.db = l.open(withSearchPath(t, proxy.URL, l.schema)+"&application_name="+l.schema, ledgerSetup{base: way.base, config: longFences})
		commit := setInTx(context.Background(), t, &named, setOne)
		way.close(!settled)
		lose(t, proxy, "commit", commit)
		if settled {
			named.wantSettled(true)
			eventually(t, "the asker's connection is closed", func() bool { return connected() == 0 })
			named.db.SetMaxIdleConns(0)
		}
		if err := named.db.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "no connection and no goroutine is left", func() bool {
			return connected() == 0 && runtime.NumGoroutine() <= before
		})
		if s := named.stats(); !settled && s.DoubtExpired != 1 {
			t.Errorf("%d were left to expire by Close", s.DoubtExpired)
		}
	}
	l.wantInDoubt(1) // by the one that was closed
}

// Rows can arrive before the connection breaks, and tell which transaction it was. That not
// all of them came means that what came is not the whole of it: nothing is stored.
func TestDoubtOfRowsThatBrokeOff(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.Postgres(t))
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
	l.must("ALTER TABLE accounts ADD COLUMN wide text")
	wide := strings.Repeat("x", 100_000)
	if err := l.db.Ping(); err != nil {
		t.Fatal(err)
	}
	cut := proxy.CutAfterBytes(testenv.Replies, 150_000) // in the second row
	if _, err := l.db.Exec("INSERT INTO accounts (id, n, wide) VALUES (101, 1, $1), (102, 1, $1)", wide); err == nil {
		t.Error("the caller was told that it committed")
	}
	await(t, "the cut", cut)
	if s := l.stats(); s.FenceFirst != 1 {
		t.Fatalf("%d writes were fenced first: the test needs one", s.FenceFirst)
	}
	eventually(t, "nothing is in doubt", func() bool {
		s := l.stats()
		return s.InDoubt == 1 && s.DoubtCommitted+s.DoubtAborted == 1
	})
	for _, id := range []int{101, 102} {
		l.wantAbsent(id)
		if l.fenced(id) {
			t.Errorf("account %d is still fenced", id)
		}
	}
}

// A write that was fenced first and whose answer got lost cannot be asked for: no row came to tell its transaction by. Its
// fence has to end by itself, or the key would never be cached again.
func TestDoubtOfFenceFirstExpires(t *testing.T) {
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			t.Parallel()
			proxy := testenv.ProxyURL(t, testenv.Postgres(t))
			l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: shortFences})
			reader := l.other(ledgerSetup{})
			reader.warm(1)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			trap := proxy.HoldRequest
			if committed {
				trap = proxy.HoldReply
			}
			held := trap("update accounts")
			returned := make(chan error, 1)
			go func() { _, err := l.db.ExecContext(ctx, setOne); returned <- err }()
			await(t, "the statement on the wire", held.Reached())
			eventually(t, "its fence was renewed past its life", func() bool { return l.stats().Redis.Renewals >= 4 })
			l.wantInDoubt(1)
			cancel()
			if err := await(t, "the caller's error", returned); err == nil {
				t.Error("the caller was told that it committed")
			}
			held.Cut()
			if s := l.stats(); s.FenceFirst != 1 || s.InDoubt != 1 || s.DoubtExpired != 1 {
				t.Errorf("%d writes were fenced first, %d are in doubt, %d left to expire", s.FenceFirst, s.InDoubt, s.DoubtExpired)
			}
			want := l.row(1)
			if committed != (want == 1) {
				t.Errorf("the row is %d", want)
			}
			eventually(t, "a reader fills the key again", func() bool {
				if got := reader.read(1); got != want {
					t.Fatalf("a reader gets %d, want %d", got, want)
				}
				_, there := l.entry(1)
				return there
			})
			l.wantCached(1, want)
			var a account
			if r, err := reader.cache.Get(context.Background(), "accounts", &a, 1); err != nil || !r.FromCache || a.N != want {
				t.Errorf("the key is not in use again: %+v, %+v, %v", a, r, err)
			}
			reader.wantTrue()
		})
	}
}
