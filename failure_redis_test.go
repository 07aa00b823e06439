package wtcache_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// ownRedis is a Redis of the test's own that keeps what it acknowledged over a restart,
// so that what was cached before a failure is there again after it.
func ownRedis(t *testing.T) *testenv.RedisServer {
	t.Helper()
	return testenv.NewRedis(t, "--appendonly", "yes", "--appendfsync", "always")
}

// impatient is for a Redis that does not answer: the deadline is the default.
func impatient(c *wtcache.Config) { c.RedisTimeout = 0 }

// soonTrusting is for a Redis that begins anew, and is not trusted for the life of a fence.
func soonTrusting(c *wtcache.Config) { c.RedisTimeout, c.FenceLife = 0, time.Second }

// nowhere is a Redis that is not there.
func nowhere(t *testing.T) string { return "unix://" + t.TempDir() + "/redis.sock" }

// A service must come up while Redis is down: it opens, reads and writes what has no
// rule, and reads through the cache are reads of the database.
func TestFailureAtOpen(t *testing.T) {
	for _, rule := range []string{"redis_down: refuse\n", ""} {
		l := newLedger(t, ledgerSetup{redis: nowhere(t), rule: rule, config: impatient})
		if err := l.db.Ping(); err != nil {
			t.Fatal(err)
		}
		l.exec("UPDATE unruled SET n = 5")
		if got := l.read(1); got != 0 {
			t.Errorf("a reader gets %d", got)
		}
		_, err := l.db.Exec(setOne)
		if refused := errors.Is(err, wtcache.ErrRefused); refused != (rule != "") || !refused && err != nil {
			t.Errorf("under %q the first write gave %v", rule, err)
		}
	}
}

// outages are the ways in which a Redis that served does so no longer. Each breaks a
// server and gives what mends it.
var outages = []struct {
	name string
	do   func(*testing.T, *testenv.RedisServer) (mend func())
}{
	{"killed", func(_ *testing.T, s *testenv.RedisServer) func() { s.Kill(); return s.Restart }},
	{"stopped", func(_ *testing.T, s *testenv.RedisServer) func() { s.Pause(); return s.Resume }},
	{"wrong password", func(t *testing.T, s *testenv.RedisServer) func() {
		admin := redisClient(t, s.URL)
		order(t, admin, "CONFIG", "SET", "requirepass", "secret")
		order(t, admin, "AUTH", "secret")
		order(t, admin, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
		return func() {
			mender := redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket(), Password: "secret"})
			defer mender.Close()
			order(t, mender, "CONFIG", "SET", "requirepass", "")
		}
	}},
	{"read-only replica", func(t *testing.T, s *testenv.RedisServer) func() {
		admin := redisClient(t, s.URL)
		order(t, admin, "REPLICAOF", "127.0.0.1", "1")
		return func() { order(t, admin, "REPLICAOF", "NO", "ONE") }
	}},
	{"out of memory", func(t *testing.T, s *testenv.RedisServer) func() {
		admin := redisClient(t, s.URL)
		order(t, admin, "CONFIG", "SET", "maxmemory", "1")
		return func() { order(t, admin, "CONFIG", "SET", "maxmemory", "0") }
	}},
}

func order(t *testing.T, rdb *redis.Client, words ...any) {
	t.Helper()
	if err := rdb.Do(context.Background(), words...).Err(); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
}

// `redis_down: refuse` is chosen by those to whom a stale entry is worse than a failed
// write: then nothing may have been committed, and the error has to say so.
func TestFailureRefusesTheWrite(t *testing.T) {
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			server := ownRedis(t)
			l := newLedger(t, ledgerSetup{redis: server.URL, rule: "redis_down: refuse\n", config: impatient})
			l.warm(1)
			mend := o.do(t, server)
			for _, w := range ways {
				err := w.set(context.Background(), t, l, setOne)()
				refused, ok := errors.AsType[*wtcache.RefusedError](err)
				if !ok || !errors.Is(err, wtcache.ErrRefused) || !errors.Is(err, wtcache.ErrUnavailable) {
					t.Errorf("%s: got %v, want a RefusedError", w.name, err)
				} else if len(refused.Rules) != 1 || !strings.HasSuffix(refused.Rules[0], ".accounts") {
					t.Errorf("%s: the refusing rules are %q", w.name, refused.Rules)
				}
				l.wantRow(1, 0)
				eventually(t, "the transaction is gone", func() bool { return l.unlocked(1) })
			}
			if s := l.stats(); s.Refused != uint64(len(ways)) || s.Committed != 0 || s.Redis.Owed != 0 {
				t.Errorf("Stats: %d refused, %d committed, %d owed", s.Refused, s.Committed, s.Redis.Owed)
			}
			mend()
			eventually(t, "the same write succeeds", func() bool {
				_, err := l.db.Exec(setOne)
				return err == nil
			})
			l.wantRow(1, 1)
			l.wantTrue()
		})
	}
}

// `redis_down: queue` commits. What Redis still holds is older then, so the key has to
// go as soon as Redis answers, whatever came before; and the user is told, once, that
// this debt dies with the process.
func TestFailureOwesTheKeys(t *testing.T) {
	for _, o := range outages {
		t.Run(o.name, func(t *testing.T) {
			server := ownRedis(t)
			l := newLedger(t, ledgerSetup{redis: server.URL, config: impatient})
			l.warm(1, 2)
			mend := o.do(t, server)
			for i, w := range ways {
				text := strings.Replace(setOne, "n = 1", "n = "+string(rune('1'+i)), 1)
				if err := w.set(context.Background(), t, l, text)(); err != nil {
					t.Errorf("%s: %v", w.name, err)
				}
				l.wantRow(1, 1+i)
			}
			if s := l.stats(); s.Unfenced != uint64(len(ways)) || s.Redis.OwedTotal == 0 {
				t.Errorf("Stats: %d committed unfenced, %d ever owed", s.Unfenced, s.Redis.OwedTotal)
			}
			if n := l.heard.told("not durably"); n != 1 {
				t.Errorf("that the debts are not durable was logged %d times", n)
			}
			mend()
			eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
			if n, there := l.entry(1); there {
				t.Errorf("account 1 is still cached as %d", n)
			}
			l.wantTrue()
		})
	}
}

// A coarse write owes a sweep.
func TestFailureOwesASweep(t *testing.T) {
	server := ownRedis(t)
	l := newLedger(t, ledgerSetup{redis: server.URL, config: impatient})
	l.warm(1, 2, 3)
	server.Kill()
	l.exec(coarseOne)
	l.wantRow(1, 1)
	server.Restart()
	eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
	for id := 1; id <= 3; id++ {
		l.wantAbsent(id)
	}
}

// Redis can go between the fence and the end of a write. By then it is committed: the
// caller is told of the success, and the rest is between the driver and Redis.
func TestFailureBetweenFenceAndApply(t *testing.T) {
	for _, o := range outages {
		for _, point := range []string{"fenced", "committed"} {
			t.Run(o.name+"/"+point, func(t *testing.T) {
				server := ownRedis(t)
				l := newLedger(t, ledgerSetup{redis: server.URL, config: soonTrusting})
				l.warm(1, 2, 3)
				for i, w := range ways {
					if point == "committed" && w.name != "Tx" && w.name != "fence first" {
						continue // those two differ there, the others come to one of them
					}
					t.Run(w.name, func(t *testing.T) {
						l.t = t
						var mend func()
						wtcache.AtCrashPoint(t, func(p string) {
							if p == point && mend == nil {
								mend = o.do(t, server)
							}
						})
						before := len(l.heard.reported())
						text := strings.Replace(setOne, "n = 1", "n = "+string(rune('1'+i)), 1)
						if err := w.set(context.Background(), t, l, text)(); err != nil {
							t.Errorf("a committed write gave %v", err)
						}
						if mend == nil {
							t.Fatalf("the write did not come to %q", point)
						}
						l.wantRow(1, 1+i)
						// Out of memory Redis still deletes, and so ends fences.
						if len(l.heard.reported()) == before && o.name != "out of memory" {
							t.Error("OnError was told nothing")
						}
						mend()
						eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
						if n, there := l.entry(1); there && n != 1+i {
							t.Errorf("account 1 is cached as %d, want %d or nothing", n, 1+i)
						}
						eventually(t, "a reader fills the key again", func() bool {
							_, there := l.entry(1)
							return there || l.read(1) != 1+i
						})
						l.wantTrue()
					})
				}
				if s := l.stats(); s.BackgroundErrors != uint64(len(l.heard.reported())) {
					t.Errorf("Stats count %d background errors, OnError was told %d", s.BackgroundErrors, len(l.heard.reported()))
				}
			})
		}
	}
}

// Rows that a write returns are as good as its COMMIT: a Redis that fails after it must
// not take them from the caller.
func TestFailureAfterCommitKeepsTheRows(t *testing.T) {
	server := ownRedis(t)
	l := newLedger(t, ledgerSetup{redis: server.URL, config: impatient})
	l.warm(1)
	wtcache.AtCrashPoint(t, func(p string) {
		if p == "committed" {
			server.Kill()
		}
	})
	var n int
	if err := l.db.QueryRow("UPDATE accounts SET n = 8 WHERE abs(id) = 1 RETURNING n").Scan(&n); err != nil || n != 8 {
		t.Errorf("the row is %d, %v", n, err)
	}
	if errs := l.heard.reported(); len(errs) == 0 || !errors.Is(errs[0], wtcache.ErrUnavailable) {
		t.Errorf("OnError was told %v", errs)
	}
}

// A Redis that hangs must not hang the service: writes return while it still does, and
// once the breaker has seen enough they do not even wait for the deadline.
func TestFailureOfAHungRedis(t *testing.T) {
	server := ownRedis(t)
	log := &timeline{}
	l := newLedger(t, ledgerSetup{redis: server.URL, hook: newScripts(t, log), config: impatient})
	l.warm(1)
	server.Pause()
	returned := make(chan error, 1)
	go func() {
		var err error
		for i := 0; err == nil && l.stats().Redis.BreakerOpens == 0; i++ {
			_, err = l.db.Exec(setFenceFirst, i, 1)
		}
		returned <- err
	}()
	if err := await(t, "writes past a hung Redis, until the breaker opens", returned); err != nil {
		t.Error(err)
	}
	log.take()
	const more = 50
	for i := range more {
		l.exec(setFenceFirst, 100+i, 1)
		var a account
		if _, err := l.cache.Get(context.Background(), "accounts", &a, 1); err != nil || a.N != 100+i {
			t.Errorf("a read past a hung Redis gave %d, %v", a.N, err)
		}
	}
	// One call in a while tries whether Redis is back, and waits for it.
	if waited := len(log.take()); waited > more/2 {
		t.Errorf("%d of %d writes went to a Redis that the breaker knows to be down", waited, more)
	}
	server.Resume()
	eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
	if n, there := l.entry(1); there && n != 100+more-1 {
		t.Errorf("account 1 is cached as %d", n)
	}
	l.wantTrue()
}

// A context that is short must be able to bound a write while Redis hangs; nothing is
// committed unfenced because of it.
func TestFailureWithAShortContext(t *testing.T) {
	server := ownRedis(t)
	l := newLedger(t, ledgerSetup{redis: server.URL, rule: "redis_down: refuse\n", config: impatient})
	l.warm(1)
	server.Pause()
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	tx, err := l.db.BeginTx(ctx, nil)
	if err == nil {
		_, err = tx.Exec(setOne)
		err = errors.Join(err, tx.Commit())
	}
	if err == nil {
		t.Error("a write past its context and past Redis succeeded")
	}
	server.Resume()
	eventually(t, "the transaction is gone", func() bool { return l.unlocked(1) })
	l.wantRow(1, 0)
	l.wantTrue()
}
