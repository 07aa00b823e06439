package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// evicting is a Redis that takes fences before anything else.
func evicting(t *testing.T, more ...string) *testenv.RedisServer {
	t.Helper()
	return testenv.NewRedis(t, append([]string{"--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl"}, more...)...)
}

// A service that starts on a Redis which evicts fences serves old rows one day and nobody knows why: it must not start,
// the error must say what to do, and once that is done the service must start without a restart.
func TestConditionRefusesEviction(t *testing.T) {
	s := evicting(t, "--rename-command", "CONFIG", "ADMIN")
	l := newLedger(t, ledgerSetup{redis: s.URL})
	for range 3 {
		err := l.db.Ping()
		var unfit *wtcache.UnfitError
		if !errors.Is(err, wtcache.ErrConfig) || !errors.As(err, &unfit) || len(unfit.Findings) != 1 ||
			!mentions(err, "volatile-ttl", "noeviction", "wtcache_eviction=accept", s.Socket()) {
			t.Fatalf("got %v", err)
		}
	}
	order(t, l.rdb, "ADMIN", "SET", "maxmemory-policy", "noeviction")
	eventually(t, "it starts", func() bool { return l.db.Ping() == nil })
}

// Who knows what eviction costs, or has no strict rule, must be able to start all the same, and be told once.
func TestConditionAccepted(t *testing.T) {
	s := evicting(t)
	for _, c := range []struct {
		name  string
		setup ledgerSetup
		lines int
	}{
		{"accepted", ledgerSetup{config: func(c *wtcache.Config) { c.AcceptEviction = true }}, 1},
		{"eventual rules", ledgerSetup{rule: "consistency: eventual\n"}, 0},
		{"eventual mode", ledgerSetup{config: func(c *wtcache.Config) { c.Mode = wtcache.ModeEventual }}, 0},
	} {
		c.setup.redis = s.URL
		l := newLedger(t, c.setup)
		l.db.SetMaxIdleConns(0)
		for range 3 {
			if err := l.db.Ping(); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if n := l.heard.told("volatile-ttl"); n != c.lines {
			t.Errorf("%s: it was said %d times, want %d", c.name, n, c.lines)
		}
		if errs := l.heard.reported(); len(errs) > 0 {
			t.Errorf("%s: reported %v", c.name, errs)
		}
	}
}

// inquiries counts what Redis is asked about itself.
type inquiries struct{ n atomic.Int64 }

func (q *inquiries) DialHook(next redis.DialHook) redis.DialHook { return next }

func (q *inquiries) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "info" && len(cmd.Args()) == 1 {
			q.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (q *inquiries) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A pool that opens many connections at once must not ask Redis once for each of them.
func TestConditionIsAskedForOnce(t *testing.T) {
	q := &inquiries{}
	l := newLedger(t, ledgerSetup{hook: q})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			c, err := l.db.Conn(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.Raw(func(any) error { return nil }); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	l.db.SetMaxIdleConns(0)
	if err := l.db.Ping(); err != nil {
		t.Fatal(err)
	}
	if n := q.n.Load(); n != 1 {
		t.Errorf("Redis was asked %d times", n)
	}
}

// A Redis that hangs must not keep a service from starting, and one that comes later must not be left unjudged: that would be
// the one start in which nobody is warned.
func TestConditionOfALateRedis(t *testing.T) {
	for _, c := range []struct {
		name          string
		breaks, mends func(*testenv.RedisServer)
	}{
		{"hanging", (*testenv.RedisServer).Pause, (*testenv.RedisServer).Resume},
		{"down", (*testenv.RedisServer).Kill, (*testenv.RedisServer).Restart},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := evicting(t)
			l := newLedger(t, ledgerSetup{redis: s.URL, config: impatient})
			c.breaks(s)
			// The look itself goes on for longer than this.
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
			defer cancel()
			if err := l.db.PingContext(ctx); err != nil {
				t.Fatalf("it does not start: %v", err)
			}
			c.mends(s)
			eventually(t, "the policy is reported", func() bool {
				for _, err := range l.heard.reported() {
					if errors.Is(err, wtcache.ErrConfig) && strings.Contains(err.Error(), "volatile-ttl") {
						return true
					}
				}
				return false
			})
			l.db.SetMaxIdleConns(0)
			if err := l.db.Ping(); err != nil {
				t.Errorf("a service that runs was taken down: %v", err)
			}
		})
	}
}

// A program that ends while Redis is away must not be held up, or leave anything running.
func TestConditionEndsWithTheDB(t *testing.T) {
	s := evicting(t)
	l := newLedger(t, ledgerSetup{redis: s.URL, config: impatient})
	s.Kill()
	if err := l.db.Ping(); err != nil {
		t.Fatal(err)
	}
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	if errs := l.heard.reported(); len(errs) > 0 {
		t.Errorf("after Close it reports %v", errs)
	}
}

// A Redis that refuses scripts leaves a cache that is always off: whoever set it up has to hear of it.
func TestConditionWithoutScripts(t *testing.T) {
	s := testenv.NewRedis(t, "--rename-command", "EVAL", "")
	l := newLedger(t, ledgerSetup{redis: s.URL, rule: "redis_down: refuse\n"})
	if err := l.db.Ping(); err != nil {
		t.Fatal(err)
	}
	if errs := l.heard.reported(); len(errs) != 1 || !mentions(errs[0], "Lua scripts are refused") {
		t.Errorf("reported %v", errs)
	}
	if _, err := l.db.Exec(setOne); !errors.Is(err, wtcache.ErrRefused) {
		t.Errorf("a write gave %v", err)
	}
}

// The settings' own way to say it.
func TestConditionAcceptedByDSN(t *testing.T) {
	clearEnvironment(t)
	s := evicting(t)
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	if _, err := openPlain(t, dsn).Exec("CREATE TABLE users (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	rules := ruleFolder(t, map[string]string{"users.yaml": "table: " + schema + ".users\nkey: \"" + testenv.KeyPrefix(t) + "{id}\"\n"})
	for value, accepted := range map[string]bool{"accept": true, "refuse": false, "": false} {
		t.Setenv("WTCACHE_EVICTION", value)
		t.Setenv("WTCACHE_REDIS", s.URL)
		t.Setenv("WTCACHE_RULES", rules)
		db, err := sql.Open("wtcache", dsn)
		if err != nil {
			t.Fatal(err)
		}
		if err = db.Ping(); (err == nil) != accepted {
			t.Errorf("with %q: %v", value, err)
		}
		_ = db.Close()
	}
}
