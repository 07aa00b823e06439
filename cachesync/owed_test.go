package cachesync

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// safeBuffer is a log that goroutines write.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// short is a client that gives up on a dead server soon.
var short = Options{Deadline: 40 * time.Millisecond, Breaker: BreakerOptions{Failures: 3, OpenFor: 20 * time.Millisecond}}

// A commit whose apply cannot reach Redis must not fail, and must not leave the
// key stale or barred once Redis is back.
func TestApplyDuringAnOutageIsOwed(t *testing.T) {
	url := testenv.RealRedis(t)
	direct := dial(t, url)
	prefix := testenv.KeyPrefix(t)
	for _, outage := range []struct {
		name       string
		start, end func(*testenv.Proxy)
	}{
		{"before the request", func(p *testenv.Proxy) { p.Pause() }, func(p *testenv.Proxy) { p.Cut(); p.Resume() }},
		{"after it was carried out", func(p *testenv.Proxy) { p.CutReply("evalsha") }, func(*testenv.Proxy) {}},
	} {
		proxy := testenv.ProxyURL(t, url)
		log := new(safeBuffer)
		var mu sync.Mutex
		var reported []error
		c := newTestClient(t, dial(t, proxy.URL, retrying), Options{
			Deadline: 200 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(log, nil)),
			OnError: func(err error) { mu.Lock(); reported = append(reported, err); mu.Unlock() },
		})
		keys, entries := manyKeys(prefix, 3, Envelope)
		var f *Fence
		eventually(t, "a fence", func() bool {
			var err error
			f, err = c.Fence(t.Context(), keys)
			return err == nil
		})
		outage.start(proxy)
		if r := f.Apply(t.Context(), entries); len(r.Owed) != len(keys) {
			t.Errorf("%s: %+v", outage.name, r)
		}
		outage.end(proxy)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := c.WaitOwed(ctx); err != nil {
			t.Fatal(err)
		}
		for _, key := range keys {
			if got := look(t, direct, key); got != "absent" {
				t.Errorf("%s: %s is %s", outage.name, key, got)
			}
		}
		mu.Lock()
		if len(reported) != 1 || !errors.Is(reported[0], ErrUnavailable) {
			t.Errorf("%s: reported %v", outage.name, reported)
		}
		mu.Unlock()
		if n := strings.Count(log.String(), "not durably"); n != 1 {
			t.Errorf("%s: said %d times that debts are not durable", outage.name, n)
		}
		if s := c.Stats(); s.Owed != 0 || s.OwedTotal != int64(len(keys)) || s.Retries == 0 {
			t.Errorf("%s: counted %+v", outage.name, s)
		}
	}
}

// What nobody has fenced is served until it is made absent: that must not depend on the caller's
// context, and where Redis cannot be told now it must be later, and somebody must hear of it.
func TestInvalidateOrOwe(t *testing.T) {
	server := testenv.NewRedis(t)
	proxy := testenv.ProxyURL(t, server.URL)
	direct := dial(t, server.URL)
	var mu sync.Mutex // guards reported
	var reported []error
	c := newTestClient(t, dial(t, proxy.URL), Options{Deadline: time.Second, OnError: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		reported = append(reported, err)
	}})
	keys := []string{"k1", "k2", "k3"}
	old := func() {
		for _, key := range keys {
			direct.Set(t.Context(), key, "an old value", time.Hour)
		}
	}
	absent := func(when string) {
		t.Helper()
		for _, key := range keys {
			if got := look(t, direct, key); got != "absent" {
				t.Errorf("%s: %s is %s", when, key, got)
			}
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	old()
	c.InvalidateOrOwe(gone, keys)
	absent("with a context that has ended")
	if s := c.Stats(); s.Invalidations != 3 || s.OwedTotal != 0 {
		t.Errorf("%d are counted and %d owed, want 3 and none", s.Invalidations, s.OwedTotal)
	}

	old()
	proxy.Pause()
	c.InvalidateOrOwe(t.Context(), keys)
	for _, key := range keys {
		if !c.Owes(key) {
			t.Errorf("%s is not owed", key)
		}
	}
	proxy.Cut()
	proxy.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitOwed(ctx); err != nil {
		t.Fatal(err)
	}
	absent("once Redis answers")
	mu.Lock()
	defer mu.Unlock()
	var failed *KeysError
	if len(reported) != 1 || !errors.As(reported[0], &failed) || len(failed.Keys) != 3 || !errors.Is(failed, ErrUnavailable) {
		t.Errorf("reported %v", reported)
	}
	if s := c.Stats(); s.Invalidations != 3 {
		t.Errorf("%d invalidations are counted, of which 3 were not acknowledged", s.Invalidations)
	}
}

// A dead Redis must not add its deadline to every write, and must be used again
// by itself when it is back: what is owed then reaches it.
func TestBreakerAndRecovery(t *testing.T) {
	server := testenv.NewRedis(t)
	proxy := testenv.ProxyURL(t, server.URL) // holds debts back until the old values are there
	c := newTestClient(t, dial(t, proxy.URL), short)
	server.Kill()
	opened := func() bool {
		_, err := c.Fence(t.Context(), []string{"k"})
		if !errors.Is(err, ErrUnavailable) {
			t.Fatalf("fence on a dead server: %v", err)
		}
		return c.Stats().BreakerOpens > 0
	}
	eventually(t, "the breaker opens", opened)
	c.Owe([]string{"k", "k2", "k"})
	c.InvalidateOrOwe(t.Context(), []string{"k3"})
	c.OweSweep("barrier", []string{"user:*"})
	if n := c.Owed(); n != 4 {
		t.Errorf("%d owed, want 3 keys and a sweep", n)
	}
	if err := c.Invalidate(t.Context(), []string{"k"}, ""); !errors.Is(err, ErrUnavailable) {
		t.Errorf("invalidate: %v", err)
	}
	if _, _, err := c.Get(t.Context(), "k", Envelope, testSchema); !errors.Is(err, ErrUnavailable) {
		t.Errorf("get: %v", err)
	}
	proxy.Pause()
	server.Restart()
	direct := dial(t, server.URL)
	for _, key := range []string{"k", "k2", "k3", "user:1"} {
		direct.Set(t.Context(), key, "an old value", time.Hour)
	}
	proxy.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitOwed(ctx); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"k", "k2", "k3", "user:1", "barrier"} {
		if got := look(t, direct, key); got != "absent" {
			t.Errorf("%s: %s", key, got)
		}
	}
	eventually(t, "fences work again", func() bool {
		f, err := c.Fence(t.Context(), []string{"k"})
		if err != nil {
			return false
		}
		f.Abort(t.Context())
		return true
	})
}

// With the breaker open not even a connection is tried.
func TestOpenBreakerSendsNothing(t *testing.T) {
	var dials int
	var mu sync.Mutex
	count := func() int { mu.Lock(); defer mu.Unlock(); return dials }
	rdb := dial(t, "redis://127.0.0.1:1", func(o *redis.Options) {
		o.DialerRetries = 1
		inner := o.Dialer
		if inner == nil {
			inner = redis.NewDialer(o)
		}
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			mu.Lock()
			dials++
			mu.Unlock()
			return inner(ctx, network, addr)
		}
	})
	c := newTestClient(t, rdb, Options{Breaker: BreakerOptions{Failures: 2, OpenFor: time.Hour}})
	for c.Stats().BreakerOpens == 0 {
		if _, err := c.Fence(t.Context(), []string{"k"}); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	before := count()
	if before == 0 {
		t.Fatal("no dial was counted")
	}
	for range 100 {
		if _, err := c.Fence(t.Context(), []string{"k"}); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
		<-c.SweepAhead(t.Context(), []string{"k*"}) // nor for what is begun without asking whether Redis is down
	}
	if n := count() - before; n > 2 {
		t.Errorf("%d dials behind an open breaker", n)
	}
}

// A caller who gives up says nothing about Redis: a burst of cancelled requests
// must not switch the cache off for everybody.
func TestCancelledCallersDoNotOpenTheBreaker(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
	c := newTestClient(t, dial(t, proxy.URL), Options{Breaker: BreakerOptions{Failures: 1}})
	key := testenv.KeyPrefix(t) + "1"
	mustFence(t, c, key).Abort(t.Context())
	proxy.Pause()
	for range 3 {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		_, err := c.Fence(ctx, []string{key})
		if !errors.Is(err, context.DeadlineExceeded) || errors.Is(err, ErrUnavailable) {
			t.Errorf("a caller's deadline: %v", err)
		}
		cancel()
		if _, err = c.Fence(ctx, []string{key}); err == nil || errors.Is(err, ErrUnavailable) {
			t.Errorf("a caller that was gone before: %v", err)
		}
	}
	proxy.Resume()
	if n := c.Stats().BreakerOpens; n != 0 {
		t.Errorf("the breaker opened %d times", n)
	}
	if _, err := c.Fence(t.Context(), []string{key}); err != nil {
		t.Error(err)
	}
}

// A caller's client without ContextTimeoutEnabled would make every write wait
// for its own, long timeouts. Without our deadline this test does not end.
func TestDeadlineHoldsForAnyClient(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
	rdb := dial(t, proxy.URL, func(o *redis.Options) {
		o.ContextTimeoutEnabled = false
		o.ReadTimeout, o.WriteTimeout = -1, -1
	})
	c := newTestClient(t, rdb, Options{Deadline: 30 * time.Millisecond})
	proxy.Pause()
	if _, err := c.Fence(t.Context(), []string{"k"}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	proxy.Cut()
	proxy.Resume()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Memory must not grow with an outage, and what is given up for that must be
// made good by a sweep, not forgotten.
func TestTooManyDebtsBecomeASweep(t *testing.T) {
	server := testenv.NewRedis(t)
	o := short
	o.OwedMax = 10
	o.Globs = []string{"user:*"}
	proxy := testenv.ProxyURL(t, server.URL) // holds debts back until the old values are there
	c := newTestClient(t, dial(t, proxy.URL), o)
	server.Kill()
	keys, _ := manyKeys("user:", 100, Envelope)
	c.Owe(append(keys, "unruled"))
	if n := c.Owed(); n > 12 {
		t.Errorf("%d owed, past the bound of 10 keys, one that has no glob, and a sweep", n)
	}
	if c.Stats().OwedDegraded == 0 {
		t.Error("not counted")
	}
	proxy.Pause()
	server.Restart()
	direct := dial(t, server.URL)
	for _, key := range append(keys, "unruled") {
		direct.Set(t.Context(), key, "an old value", time.Hour)
	}
	proxy.Resume()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitOwed(ctx); err != nil {
		t.Fatal(err)
	}
	direct.Del(t.Context(), Registry)
	if left := direct.Keys(t.Context(), "*").Val(); len(left) != 0 {
		t.Errorf("left stale: %v", left)
	}
}

// A debt that is incurred again while its first request is under way is not
// settled by it: the later commit is newer than what that request saw.
func TestDebtIncurredMeanwhileStays(t *testing.T) {
	url := testenv.RealRedis(t)
	proxy := testenv.ProxyURL(t, url)
	c := newTestClient(t, dial(t, proxy.URL), Options{})
	direct := dial(t, url)
	key := testenv.KeyPrefix(t) + "1"
	mustFence(t, c, key).Abort(t.Context())
	names, _ := siblingsOf(key)
	trap := proxy.HoldReply(names.control)
	c.Owe([]string{key})
	<-trap.Reached()
	direct.Set(t.Context(), key, "filled in between", time.Minute)
	c.Owe([]string{key})
	trap.Release()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.WaitOwed(ctx); err != nil {
		t.Fatal(err)
	}
	if got := direct.Get(t.Context(), key).Val(); got != "" {
		t.Errorf("left stale: %q", got)
	}
}

// Debts that die with the process must at least be heard of.
func TestCloseTellsOfDebts(t *testing.T) {
	var reported []error
	o := short
	o.Logger = slog.New(slog.DiscardHandler)
	o.OnError = func(err error) { reported = append(reported, err) }
	c, err := New(dial(t, "redis://127.0.0.1:1"), o)
	if err != nil {
		t.Fatal(err)
	}
	c.Owe([]string{"k"})
	if err := c.Close(); !errors.Is(err, ErrDebtsLost) || len(reported) != 1 {
		t.Errorf("%v, reported %v", err, reported)
	}
	if err := c.WaitOwed(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("wait after Close: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}
