package cachesync

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// commandCalls is how often a server has run a command.
func commandCalls(t *testing.T, rdb *redis.Client, command string) int {
	t.Helper()
	info := rdb.Info(t.Context(), "commandstats").Val()
	_, rest, ok := strings.Cut(info, "cmdstat_"+command+":calls=")
	if !ok {
		return 0
	}
	digits, _, _ := strings.Cut(rest, ",")
	n, err := strconv.Atoi(digits)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// liveTokens are the tokens on a key, as the server has them.
func liveTokens(t *testing.T, rdb *redis.Client, key string) []string {
	t.Helper()
	names, _ := siblingsOf(key)
	if token, ok := strings.CutPrefix(rdb.Get(t.Context(), names.control).Val(), "f:"); ok {
		return []string{token}
	}
	var found []string
	for name := range rdb.HGetAll(t.Context(), names.control).Val() {
		if token, ok := strings.CutPrefix(name, "t:"); ok {
			found = append(found, token)
		}
	}
	slices.Sort(found)
	return found
}

// retrying is a client whose owner asked for many retries.
func retrying(o *redis.Options) {
	o.MaxRetries = 5
	o.MinRetryBackoff, o.MaxRetryBackoff = time.Millisecond, time.Millisecond
}

// A token that goes out twice can put a fence back after its end, behind which
// an old row is stored: go-redis' own retries must be off, whatever the
// caller's client says, in pipelines too.
func TestRequestsAreNeverSentAgain(t *testing.T) {
	for _, keys := range [][]string{{"k1"}, {"k1", "k2", "k3"}} {
		server := testenv.NewRedis(t)
		direct := dial(t, server.URL)
		warm := newTestClient(t, direct, Options{})
		mustFence(t, warm, "warm").Apply(t.Context(), nil)
		proxy := testenv.ProxyURL(t, server.URL)
		c := newTestClient(t, dial(t, proxy.URL, retrying), Options{})
		sent := func() int { return commandCalls(t, direct, "evalsha") }

		before := sent()
		cut := proxy.CutReply("evalsha")
		f := mustFence(t, c, keys...)
		<-cut
		if n := sent() - before; n != 2*len(keys) {
			t.Errorf("%d keys: the server saw %d requests, want two each, under different tokens", len(keys), n)
		}
		for i, key := range keys {
			mine := append([]string{f.held[i].tokens.own}, f.held[i].tokens.earlier...)
			slices.Sort(mine)
			if on := liveTokens(t, direct, key); len(on) != 2 || !slices.Equal(on, mine) {
				t.Errorf("%s: tokens %v on the server, %v remembered", key, on, mine)
			}
		}
		entries := map[string]Entry{}
		for _, key := range keys {
			entries[key] = entry(Envelope, "1", 5)
		}
		if r := f.Apply(t.Context(), entries); r.Dropped != len(keys) {
			t.Errorf("after a doubtful fence: %+v", r)
		}
		for _, key := range keys {
			if got := look(t, direct, key); got != "absent" {
				t.Errorf("%s: %s; all tokens of a key are released together", key, got)
			}
		}

		before = sent()
		cut = proxy.CutReply("evalsha")
		_, err := c.Lease(t.Context(), "other", Envelope, testSchema)
		<-cut
		if n := sent() - before; err == nil || n != 1 {
			t.Errorf("lease: sent %d times, %v", n, err)
		}
	}
}

// A late request: the server sees the fence after its owner has given up and
// fenced again. The key may be barred for a while; it must not hold a value
// that a missed writer has made old.
func TestLateFenceOnlyBarsTheKey(t *testing.T) {
	url := testenv.RealRedis(t)
	direct := dial(t, url)
	proxy := testenv.ProxyURL(t, url)
	c := newTestClient(t, dial(t, proxy.URL), Options{Deadline: 500 * time.Millisecond, FenceLife: time.Hour})
	key := testenv.KeyPrefix(t) + "1"
	names, _ := siblingsOf(key)
	mustFence(t, c, key).Abort(t.Context()) // a connection is there and the scripts are known
	trap := proxy.HoldRequest(names.control)
	_, err := c.Fence(t.Context(), []string{key})
	var failure *FenceError
	if !errors.As(err, &failure) || !errors.Is(err, ErrUnavailable) || !slices.Equal(failure.Failed, []string{key}) {
		t.Fatalf("got %v", err)
	}
	<-trap.Reached()
	other := newTestClient(t, direct, Options{})
	f := mustFence(t, other, key)
	trap.Release()
	eventually(t, "the late fence arrives", func() bool { return len(liveTokens(t, direct, key)) == 2 })
	f.Apply(t.Context(), map[string]Entry{key: entry(Envelope, "1", 5)})
	if got := look(t, direct, key); got != "fence 1 dirty" {
		t.Errorf("then %s", got)
	}
	failure.Abort(t.Context())
	if got := look(t, direct, key); got != "absent" {
		t.Errorf("after the failed fence was aborted: %s", got)
	}
}

// A server that lost its scripts must cost a round trip, not the write; and the
// request that is issued again carries another token.
func TestUnknownScriptsAreSentInFull(t *testing.T) {
	server := testenv.NewRedis(t)
	rdb := dial(t, server.URL)
	c := newTestClient(t, rdb, Options{})
	keys, entries := manyKeys("k", 3, Envelope)
	for range 2 {
		rdb.ScriptFlush(t.Context())
		f := mustFence(t, c, keys...)
		for i, key := range keys {
			if on := liveTokens(t, rdb, key); !slices.Equal(on, []string{f.held[i].tokens.own}) {
				t.Errorf("%s: tokens %v, want %v", key, on, f.held[i].tokens.own)
			}
			if len(f.held[i].tokens.earlier) != 1 {
				t.Errorf("%s: issued again under the same token", key)
			}
		}
		rdb.ScriptFlush(t.Context())
		if r := f.Apply(t.Context(), entries); r.Stored != len(keys) {
			t.Errorf("%+v", r)
		}
	}
}

// A commit that takes longer than a fence lives must stay fenced as long as
// its owner does.
func TestFenceIsRenewed(t *testing.T) {
	t.Parallel()
	rdb := dial(t, testenv.RealRedis(t))
	c := newTestClient(t, rdb, Options{FenceLife: 2 * time.Second, Deadline: 400 * time.Millisecond})
	key := testenv.KeyPrefix(t) + "1"
	f := mustFence(t, c, key)
	eventually(t, "three renewals, which is more than a life", func() bool { return c.Stats().Renewals >= 3 })
	if r := f.Apply(t.Context(), map[string]Entry{key: entry(Envelope, "1", 5)}); r.Stored != 1 {
		t.Errorf("%+v", r)
	}
	if got := look(t, rdb, key); got != "value 5" {
		t.Errorf("then %s", got)
	}
}

// A token that vanished may have let another writer come and go: its owner must
// bar the key again and must not store its own, possibly older, payload.
func TestVanishedFenceStoresNothing(t *testing.T) {
	c, key := shared(t)
	rdb := c.rdb
	names, _ := siblingsOf(key)
	f := mustFence(t, c, key)
	rdb.Del(t.Context(), names.control)
	mustFence(t, c, key).Apply(t.Context(), map[string]Entry{key: entry(Envelope, "2", 6)})
	f.renew()
	if got := look(t, rdb, key); got != "fence 1" {
		t.Fatalf("after the renewal: %s", got)
	}
	f.renew()
	if s := c.Stats(); s.Refenced != 1 || s.Renewals != 1 {
		t.Errorf("counted %+v", s)
	}
	if r := f.Apply(t.Context(), map[string]Entry{key: entry(Envelope, "1", 5)}); r.Dropped != 1 {
		t.Errorf("%+v", r)
	}
	if got := look(t, rdb, key); got != "absent" {
		t.Errorf("then %s", got)
	}
}

// A renewal that puts a new token on the key while the fence ends must not
// come last: nobody would release that token.
func TestEndWaitsForRenewal(t *testing.T) {
	url := testenv.RealRedis(t)
	direct := dial(t, url)
	proxy := testenv.ProxyURL(t, url)
	c := newTestClient(t, dial(t, proxy.URL), Options{})
	key := testenv.KeyPrefix(t) + "1"
	names, _ := siblingsOf(key)
	f := mustFence(t, c, key)
	direct.Del(t.Context(), names.control)
	trap := proxy.HoldRequest(fenceScript.digest)
	renewed := make(chan struct{})
	go func() { f.renew(); close(renewed) }()
	<-trap.Reached()
	applied := make(chan Result, 1)
	go func() { applied <- f.Apply(context.Background(), map[string]Entry{key: entry(Envelope, "1", 5)}) }()
	eventually(t, "the fence is ending", f.ended)
	select {
	case r := <-applied:
		trap.Release()
		t.Fatalf("ended while a token was on its way: %+v", r)
	case <-time.After(50 * time.Millisecond): // what a wrong end would need at most; a right one waits
	}
	trap.Release()
	<-renewed
	if r := <-applied; r.Dropped != 1 {
		t.Errorf("%+v", r)
	}
	if got := look(t, direct, key); got != "absent" {
		t.Errorf("then %s", got)
	}
}

// In doubt, neither end is right: the key stays barred, and not for ever.
func TestLeaveLetsTheFenceExpire(t *testing.T) {
	rdb := dial(t, testenv.RealRedis(t))
	c := newTestClient(t, rdb, Options{FenceLife: 40 * time.Millisecond, Deadline: 10 * time.Millisecond})
	key := testenv.KeyPrefix(t) + "1"
	var f *Fence
	eventually(t, "a fence within its short deadline", func() bool {
		var err error
		f, err = c.Fence(t.Context(), []string{key})
		return err == nil
	})
	f.Leave()
	if r := f.Apply(t.Context(), map[string]Entry{key: entry(Envelope, "1", 5)}); r.Stored+r.Held+r.Dropped+r.Lost+len(r.Owed) != 0 {
		t.Errorf("applied after Leave: %+v", r)
	}
	f.Abort(t.Context())
	if c.Stats().Aborts != 0 {
		t.Error("aborted after Leave")
	}
	eventually(t, "the fence expires", func() bool { return look(t, rdb, key) == "absent" })
}

// A sweep is worth nothing where its barrier was gone for a while: whoever ends
// the barrier must hear of it.
func TestLiftTellsWhetherTheBarrierStood(t *testing.T) {
	for name, test := range map[string]struct {
		lose     func(*Client, *Fence)
		unbroken bool
	}{
		"stood": {func(*Client, *Fence) {}, true},
		"beside": {func(c *Client, f *Fence) {
			c.run(context.Background(), fenceCall(f.held[0].names, new(tokens), time.Minute))
		}, true},
		"lost": {func(c *Client, f *Fence) { c.rdb.Del(context.Background(), f.held[0].names.control) }, false},
		"another": {func(c *Client, f *Fence) {
			c.rdb.Del(context.Background(), f.held[0].names.control)
			c.run(context.Background(), fenceCall(f.held[0].names, new(tokens), time.Minute))
		}, false},
		"another, by an earlier try that arrives late": {func(c *Client, f *Fence) {
			h := f.held[0]
			c.rdb.Del(context.Background(), h.names.control)
			late := new(tokens)
			c.run(context.Background(), fenceCall(h.names, late, time.Minute))
			h.tokens.earlier = append(h.tokens.earlier, late.own)
		}, false},
		"replaced": {func(c *Client, f *Fence) {
			c.rdb.Del(context.Background(), f.held[0].names.control)
			f.renew()
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, key := shared(t)
			f := mustFence(t, c, key)
			test.lose(c, f)
			if got := f.Lift(t.Context()); got != test.unbroken {
				t.Errorf("unbroken: %v", got)
			}
		})
	}
}

// One broken key must not hold up the report of which keys are safe.
func TestFenceErrorNamesTheKeys(t *testing.T) {
	c, prefix := shared(t)
	bad, _ := siblingsOf(prefix + "bad")
	c.rdb.SAdd(t.Context(), bad.control, "not ours")
	t.Cleanup(func() { c.rdb.Del(context.Background(), bad.control) })
	_, err := c.Fence(t.Context(), []string{prefix + "a", bad.key, prefix + "b", prefix + "a"})
	var failure *FenceError
	if !errors.As(err, &failure) || !errors.Is(err, ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if !slices.Equal(failure.Failed, []string{bad.key}) || !slices.Equal(failure.Fenced, []string{prefix + "a", prefix + "b"}) {
		t.Errorf("failed %v, fenced %v", failure.Failed, failure.Fenced)
	}
	if got := look(t, c.rdb, prefix+"a"); got != "fence 1" {
		t.Errorf("a fence was given up by itself: %s", got)
	}
	failure.Abort(t.Context())
	if got := look(t, c.rdb, prefix+"a"); got != "absent" {
		t.Errorf("then %s", got)
	}
}

// A written key that nobody fenced is a bug somewhere; it must not end as a
// stale entry.
func TestUnfencedEntryIsMadeAbsent(t *testing.T) {
	c, prefix := shared(t)
	var reported []error
	c.o.OnError = func(err error) { reported = append(reported, err) }
	stranger := prefix + "stranger"
	mustFence(t, c, stranger).Apply(t.Context(), map[string]Entry{stranger: entry(Envelope, "1", 4)})
	r := mustFence(t, c, prefix+"a").Apply(t.Context(), map[string]Entry{stranger: entry(Envelope, "1", 5)})
	if r.Dropped != 1 || !slices.Equal(r.Owed, []string{stranger}) || len(reported) != 1 || !errors.Is(reported[0], ErrUnfenced) {
		t.Errorf("%+v, reported %v", r, reported)
	}
	if err := c.WaitOwed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := look(t, c.rdb, stranger); got != "absent" {
		t.Errorf("then %s", got)
	}
}

// A fence that took longer than it lives may be over when it is acknowledged:
// to commit behind it would be to commit without one.
func TestFenceSlowerThanItsLifeFails(t *testing.T) {
	c, key := shared(t)
	c.o.FenceLife = 1
	if _, err := c.Fence(t.Context(), []string{key}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// Client-side mistakes that would void the promise must show at once.
func TestNewRefuses(t *testing.T) {
	good := dial(t, "redis://127.0.0.1:1")
	clients := map[string]redis.UniversalClient{
		"ring":            redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": "127.0.0.1:1"}}),
		"replicas":        redis.NewClusterClient(&redis.ClusterOptions{ReadOnly: true}),
		"latency":         redis.NewClusterClient(&redis.ClusterOptions{RouteByLatency: true}),
		"random replicas": redis.NewClusterClient(&redis.ClusterOptions{RouteRandomly: true}),
	}
	for name, rdb := range clients {
		if c, err := New(rdb, Options{}); err == nil {
			t.Errorf("%s: accepted as %v", name, c)
		}
		rdb.Close()
	}
	if _, err := New(nil, Options{}); err == nil {
		t.Error("no client: accepted")
	}
	for name, o := range map[string]Options{
		"life":     {FenceLife: 999 * time.Millisecond},
		"lease":    {LeaseLife: time.Microsecond},
		"deadline": {Deadline: -1},
		"breaker":  {Breaker: BreakerOptions{Failures: -1}},
		"owed":     {OwedMax: -1},
	} {
		if _, err := New(good, o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c, err := New(good, Options{})
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if _, err := c.Fence(t.Context(), []string{"a"}); !errors.Is(err, ErrClosed) {
		t.Errorf("fence after Close: %v", err)
	}
}
