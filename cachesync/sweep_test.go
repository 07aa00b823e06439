package cachesync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// After a TRUNCATE no entry of the rule may be served, filled by a reader that
// read before it, or stored by a writer that committed before it; and other
// rules' entries, or foreign keys, must stay.
func TestSweepEndsEverythingOfTheRule(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	for _, rule := range []string{"user:", "{u}:"} { // with a hash tag and without
		rule := prefix + rule
		swept, other := []string{rule + "lease"}, prefix+"other:1"
		for _, format := range allFormats {
			key := rule + format.String()
			mustFence(t, c, key).Apply(ctx, map[string]Entry{key: entry(format, "1", 5)})
			swept = append(swept, key)
		}
		mustFence(t, c, other).Apply(ctx, map[string]Entry{other: entry(Versioned, "1", 5)})
		lease, err := c.Lease(ctx, rule+"lease", Envelope, testSchema)
		if err != nil || lease.State != LeaseGranted {
			t.Fatalf("%+v, %v", lease, err)
		}
		otherLease, err := c.Lease(ctx, prefix+"other:2", Envelope, testSchema)
		if err != nil {
			t.Fatal(err)
		}
		fence := mustFence(t, c, rule+"fence")
		foreign := "x" + rule + "foreign"
		c.rdb.Set(ctx, foreign, "1", time.Minute)

		if _, err := c.Sweep(ctx, []string{rule + "*"}); err != nil {
			t.Fatal(err)
		}
		for _, key := range swept {
			if got := look(t, c.rdb, key); got != "absent" {
				t.Errorf("%s: %s", key, got)
			}
		}
		if ok, err := c.Fill(ctx, lease, entry(Envelope, "1", 0)); ok || err != nil {
			t.Errorf("a lease from before was filled (%v)", err)
		}
		if r := fence.Apply(ctx, map[string]Entry{rule + "fence": entry(Envelope, "1", 5)}); r.Dropped != 1 {
			t.Errorf("a writer from before: %+v", r)
		}
		if got := look(t, c.rdb, other); got != "value 5" {
			t.Errorf("another rule's entry: %s", got)
		}
		if ok, err := c.Fill(ctx, otherLease, entry(Envelope, "1", 0)); !ok || err != nil {
			t.Errorf("another rule's lease: %v, %v", ok, err)
		}
		if c.rdb.Get(ctx, foreign).Val() != "1" {
			t.Error("a foreign key was deleted")
		}
		c.rdb.Del(ctx, foreign)
		if err := c.Invalidate(ctx, []string{other, prefix + "other:2"}, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// A lease from before the barrier may be filled behind the first walk: that is
// what the second is for.
func TestSweepWalksTwice(t *testing.T) {
	c, prefix := shared(t)
	key := prefix + "late"
	c.hooks.swept = func() {
		mustFence(t, c, key).Apply(t.Context(), map[string]Entry{key: entry(Envelope, "1", 5)})
	}
	if n, err := c.Sweep(t.Context(), []string{prefix + "*"}); err != nil || n != 1 {
		t.Errorf("swept %d, %v", n, err)
	}
	if got := look(t, c.rdb, key); got != "absent" {
		t.Errorf("then %s", got)
	}
}

// A keyspace of many pages must be swept to its end.
func TestSweepOfManyKeys(t *testing.T) {
	c, prefix := shared(t)
	for _, format := range allFormats {
		keys, entries := manyKeys(prefix+format.String(), 1000, format)
		if r := mustFence(t, c, keys...).Apply(t.Context(), entries); r.Stored != len(keys) {
			t.Fatalf("%+v", r)
		}
	}
	if n, err := c.Sweep(t.Context(), []string{"nothing:*", prefix + "*"}); err != nil || n != 1000*len(allFormats) {
		t.Errorf("swept %d, %v", n, err)
	}
	left := slices.DeleteFunc(c.rdb.Keys(t.Context(), "*"+prefix+"*").Val(), isVersion)
	if len(left) != 0 {
		t.Errorf("%d left, like %s", len(left), left[0])
	}
}

// A sweep that stops half-way must say so: the caller must not commit on it.
func TestSweepErrors(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
	c := newTestClient(t, dial(t, proxy.URL), Options{})
	prefix := testenv.KeyPrefix(t)
	mustFence(t, c, prefix+"1").Apply(t.Context(), map[string]Entry{prefix + "1": entry(Envelope, "1", 5)})
	held := mustFence(t, c, prefix+"2") // is what the script is asked for
	defer held.Abort(context.Background())
	for _, request := range []string{"scan", "evalsha"} {
		cut := proxy.CutReply(request)
		if _, err := c.Sweep(t.Context(), []string{prefix + "*"}); !errors.Is(err, ErrUnavailable) {
			t.Errorf("%s cut: %v", request, err)
		}
		<-cut
		mustFence(t, c, prefix+"1").Apply(t.Context(), map[string]Entry{prefix + "1": entry(Envelope, "1", 5)})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Sweep(gone, []string{prefix + "*"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if c.Stats().Sweeps != 0 {
		t.Error("counted as done")
	}
}

// The caller commits on what a sweep says: it must not call a value gone whose deletion did not arrive. After that of the second
// walk nobody comes by.
func TestSweepIsNotDoneWithoutAnAnswer(t *testing.T) {
	for _, cut := range []func(*testenv.Proxy, string) <-chan struct{}{(*testenv.Proxy).CutRequest, (*testenv.Proxy).CutReply} {
		proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
		c := newTestClient(t, dial(t, proxy.URL), Options{})
		key := testenv.KeyPrefix(t) + "1"
		var done <-chan struct{}
		c.hooks.swept = func() {
			store(t, c, key, entry(Envelope, "1", 5))
			done = cut(proxy, "del")
		}
		_, err := c.Sweep(t.Context(), []string{key})
		<-done
		if there := c.rdb.Exists(t.Context(), key).Val() != 0; there && err == nil {
			t.Error("the value is still there, and the sweep is done")
		}
		c.hooks.swept = nil
		if _, err := c.Sweep(t.Context(), []string{key}); err != nil || c.rdb.Exists(t.Context(), key).Val() != 0 {
			t.Errorf("the next sweep: %v", err)
		}
	}
}

// The same where Redis gives a page and refuses the deletions that came with the request.
func TestSweepIsNotDoneWhereDeletionsAreRefused(t *testing.T) {
	server := testenv.NewRedis(t)
	admin := dial(t, server.URL)
	keys, entries := manyKeys("user:", 2000, Envelope)
	mustFence(t, newTestClient(t, admin, Options{}), keys...).Apply(t.Context(), entries)
	if err := admin.Do(t.Context(), "acl", "setuser", "weak", "on", "nopass", "~*", "+@all", "-del").Err(); err != nil {
		t.Fatal(err)
	}
	weak := dial(t, server.URL, func(o *redis.Options) { o.Username, o.Password = "weak", "x" })
	if n, err := newTestClient(t, weak, Options{}).Sweep(t.Context(), []string{"user:*"}); err == nil {
		t.Errorf("done, with %d met and %d left", n, admin.DBSize(t.Context()).Val())
	}
}

// A coarse write must not fail for one connection that is lost in the middle of its walk.
func TestSweepOutlivesALostConnection(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
	c := newTestClient(t, dial(t, proxy.URL), Options{})
	prefix := testenv.KeyPrefix(t)
	keys, entries := manyKeys(prefix, 3*scanCount, Envelope) // some pages
	mustFence(t, c, keys...).Apply(t.Context(), entries)
	cut := proxy.CutReply("del") // and the next page's
	if _, err := c.Sweep(t.Context(), []string{prefix + "*"}); err != nil {
		t.Error(err)
	}
	<-cut
	if left := c.rdb.Keys(t.Context(), prefix+"*").Val(); len(left) > 0 {
		t.Errorf("%d keys are left", len(left))
	}
}

// Readers must see the barrier from its acknowledgement to its release, and
// must not trust a question that was not answered.
func TestBarrier(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
	c := newTestClient(t, dial(t, proxy.URL), Options{})
	barrier := testenv.KeyPrefix(t) + "barrier"
	want := func(held bool) {
		t.Helper()
		if got, err := c.BarrierHeld(t.Context(), barrier); got != held || err != nil {
			t.Errorf("held %v, %v; want %v", got, err, held)
		}
	}
	want(false)
	first, second := mustFence(t, c, barrier), mustFence(t, c, barrier)
	want(true)
	first.Abort(t.Context())
	want(true)
	second.Apply(t.Context(), nil)
	want(false)
	cut := proxy.CutReply("evalsha")
	if held, err := c.BarrierHeld(t.Context(), barrier); !held || err == nil {
		t.Errorf("unanswered: %v, %v", held, err)
	}
	<-cut
}

// A caller may hand over thousands of keys and large payloads: they must go in
// several requests, each under its own deadline.
func TestChunks(t *testing.T) {
	for _, tt := range []struct{ calls, size, want int }{
		{1, 10 << 20, 1}, {2, 10 << 20, 1}, {500, 1, 500}, {501, 1, 500}, {1200, 1, 500}, {100, 1 << 20, 4},
	} {
		calls := make([]*call, tt.calls)
		for i := range calls {
			calls[i] = &call{size: tt.size}
		}
		if got := chunk(calls); got != tt.want {
			t.Errorf("%s: first request holds %d, want %d", fmt.Sprint(tt), got, tt.want)
		}
	}
}

// A program whose rules need no headers may still meet entries that have one, of rules as they were: nothing of them may be
// served after a sweep, and what is stored next must be whole.
func TestSweepWithoutHeadersEndsEntriesThatHaveOne(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		rdb := dial(t, testenv.RealRedis(t))
		sent := &deletions{}
		rdb.AddHook(sent)
		c := newTestClient(t, rdb, Options{NoHeaders: true})
		prefix, ctx := testenv.KeyPrefix(t), t.Context()
		sweep := func() {
			t.Helper()
			keys, entries := manyKeys(prefix+"bare", 3*scanCount, Envelope) // some pages
			mustFence(t, c, keys...).Apply(ctx, entries)
			if ahead {
				<-c.SweepAhead(ctx, []string{prefix + "*"})
			}
			if _, err := c.Sweep(ctx, []string{prefix + "*"}); err != nil {
				t.Fatal(err)
			}
			if left := c.rdb.Keys(ctx, prefix+"bare*").Val(); len(left) > 0 {
				t.Errorf("%d keys are left, like %s", len(left), left[0])
			}
		}
		sweep()
		if bare, headed := sent.bare.Load(), sent.headed.Load(); bare == 0 || headed > 0 {
			t.Errorf("%d deletions without headers and %d with some, where there is none", bare, headed)
		}
		had := map[string]Format{}
		for _, format := range []Format{Plain, Versioned} {
			for i := range 20 {
				key := fmt.Sprintf("%s%s%d", prefix, format, i)
				store(t, c, key, entry(format, "1", 5))
				had[key] = format
			}
		}
		sweep()
		if sent.headed.Load() == 0 {
			t.Error("no headers were deleted where there were some")
		}
		for key, format := range had {
			names, _ := siblingsOf(key)
			if n, err := c.rdb.Exists(ctx, names.key, names.pointer, names.control).Result(); n != 0 || err != nil {
				t.Errorf("%s: %d of value, pointer and control state are there (%v)", key, n, err)
			}
			store(t, c, key, entry(format, "2", 6))
			if got := look(t, c.rdb, key); got != "value 6" {
				t.Errorf("%s: stored anew it is %s", key, got)
			}
		}
	}
}

// deletions counts commands that delete values alone, and those that delete headers, too.
type deletions struct{ bare, headed atomic.Int64 }

func (d *deletions) note(cmds ...redis.Cmder) {
	for _, cmd := range cmds {
		switch args := cmd.Args(); {
		case cmd.Name() != "del":
		case slices.ContainsFunc(args, func(arg any) bool { return isHeader(fmt.Sprint(arg)) }):
			d.headed.Add(1)
		default:
			d.bare.Add(1)
		}
	}
}

func (d *deletions) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d *deletions) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { d.note(cmd); return next(ctx, cmd) }
}

func (d *deletions) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { d.note(cmds...); return next(ctx, cmds) }
}

// Who watches a client must be able to tell what a sweep takes away: wtcachetest shows it to its users.
func TestSweptKeysAreThoseOfTheCommand(t *testing.T) {
	a, _ := siblingsOf("user:1")
	for _, tt := range []struct {
		args []any
		keys []string
		ok   bool
	}{
		{[]any{"del", "user:1", a.meta, "user:2"}, []string{"user:1", "user:2"}, true},
		{[]any{"del", "user:1"}, []string{"user:1"}, true},
		{[]any{"del"}, nil, false},
		{[]any{"get", "user:1"}, nil, false},
		{[]any{"del", 1}, nil, false},
	} {
		if keys, ok := SweptKeys(tt.args); ok != tt.ok || !slices.Equal(keys, tt.keys) {
			t.Errorf("%v: %v, %v", tt.args, keys, ok)
		}
	}
}

// What is deleted ahead of a commit that may never come must be values alone: a lease or a fence that ended with it would cost
// its holder a fill, or a payload. Of a value that had a header to itself nothing must stay, or a plain one would be there as without one.
func TestSweepAheadDeletesBareValues(t *testing.T) {
	for _, format := range []Format{Envelope, Plain, Hash, Versioned} {
		t.Run(format.String(), func(t *testing.T) {
			c, prefix := shared(t)
			ctx := t.Context()
			key := func(name string) string { return prefix + "user:" + name }
			for _, k := range []string{key("value"), key("fenced"), prefix + "other:1"} {
				mustFence(t, c, k).Apply(ctx, map[string]Entry{k: entry(format, "1", 5)})
			}
			lease, err := c.Lease(ctx, key("lease"), format, testSchema)
			if err != nil {
				t.Fatal(err)
			}
			fence := mustFence(t, c, key("fenced"))
			before, other := look(t, c.rdb, key("value")), look(t, c.rdb, prefix+"other:1")
			<-c.SweepAhead(ctx, []string{prefix + "user:*"})
			want := "absent"
			if format == Versioned { // its pointer is met, and nothing under its own name
				want = before
			}
			for k, want := range map[string]string{key("value"): want, prefix + "other:1": other} {
				if got := look(t, c.rdb, k); got != want {
					t.Errorf("%s: %s, want %s", k, got, want)
				}
			}
			if ok, err := c.Fill(ctx, lease, entry(format, "1", 0)); !ok || err != nil {
				t.Errorf("a lease was ended: %v, %v", ok, err)
			}
			if r := fence.Apply(ctx, map[string]Entry{key("fenced"): entry(format, "2", 6)}); r.Dropped != 0 {
				t.Errorf("a fence was made dirty: %+v", r)
			}
			given, giveUp := context.WithCancel(ctx)
			giveUp()
			<-c.SweepAhead(given, []string{prefix + "*"})
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			<-c.SweepAhead(ctx, []string{prefix + "*"})
			if got := look(t, c.rdb, prefix+"other:1"); got != other {
				t.Errorf("after its context had ended, or its client: %s", got)
			}
		})
	}
}

// A program that ends must not leave requests behind on a Redis client that it closes next.
func TestCloseWaitsForSweepAhead(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
	c := newTestClient(t, dial(t, proxy.URL), Options{Deadline: 250 * time.Millisecond, FenceLife: time.Minute})
	key := testenv.KeyPrefix(t) + "1"
	store(t, c, key, entry(Envelope, "1", 5))
	trap := proxy.HoldRequest("\r\ndel\r\n")
	done := c.SweepAhead(t.Context(), []string{key})
	<-trap.Reached() // and it is never answered
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
	default:
		t.Error("it was closed while a walk was under way")
	}
}
