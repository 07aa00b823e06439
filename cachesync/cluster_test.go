package cachesync

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

func dialCluster(t testing.TB, url string, adjust ...func(*redis.ClusterOptions)) *redis.ClusterClient {
	t.Helper()
	o, err := redis.ParseClusterURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled, o.DialerRetries = true, 1
	for _, a := range adjust {
		a(o)
	}
	rdb := redis.NewClusterClient(o)
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// byServer sorts keys of the test's own by the server that holds them.
func byServer(t testing.TB, s *testenv.RedisCluster, n int) (sorted map[*testenv.RedisServer][]string) {
	t.Helper()
	prefix := testenv.KeyPrefix(t)
	sorted = make(map[*testenv.RedisServer][]string)
	for i := range n {
		key := fmt.Sprint(prefix, i)
		sorted[s.Master(key)] = append(sorted[s.Master(key)], key)
	}
	if len(sorted) != 3 {
		t.Fatalf("%d keys lie on %d servers, want 3", n, len(sorted))
	}
	return sorted
}

// A fence over several servers, one of which is dead, must say exactly which keys it does
// not hold: those it does hold are served by nobody until it is taken back, and what the
// living servers did must not look as if it had failed.
func TestFenceOverADeadServer(t *testing.T) {
	s := testenv.NewCluster(t)
	keys := byServer(t, s, 24)
	dead := s.Nodes[1]
	s.Replica(dead).Kill()
	rdb := dialCluster(t, s.URL)
	c := newTestClient(t, rdb, Options{Deadline: time.Second, FenceLife: time.Hour, Breaker: BreakerOptions{Failures: 2, OpenFor: time.Hour}})
	all := slices.Concat(keys[s.Nodes[0]], keys[dead], keys[s.Nodes[2]])
	mustFence(t, c, all...).Abort(t.Context())
	alive := slices.Concat(keys[s.Nodes[0]], keys[s.Nodes[2]])

	for _, name := range []string{"hung", "killed"} {
		map[string]func(){"hung": dead.Pause, "killed": dead.Kill}[name]()
		for range 3 { // the breaker opens after two
			_, err := c.Fence(t.Context(), all)
			failed, ok := errors.AsType[*FenceError](err)
			if !ok || !errors.Is(err, ErrUnavailable) {
				t.Fatalf("%s: got %v, want a FenceError", name, err)
			}
			if want := keys[dead]; !sameKeys(failed.Failed, want) || !sameKeys(failed.Fenced, alive) {
				t.Errorf("%s: failed are %q and fenced %q, want %q and %q", name, failed.Failed, failed.Fenced, want, alive)
			}
			for _, key := range alive {
				if got := look(t, rdb, key); !strings.HasPrefix(got, "fence 1") {
					t.Errorf("%s: %s is %s", name, key, got)
				}
			}
			failed.Abort(t.Context())
			for _, key := range alive {
				if got := look(t, rdb, key); got != "absent" {
					t.Errorf("%s: %s is %s after Abort", name, key, got)
				}
			}
		}
		if n := c.Stats().BreakerOpens; n != 1 {
			t.Errorf("%s: %d breakers opened, want the dead server's", name, n)
		}
		for i, key := range alive {
			format := allFormats[i%len(allFormats)]
			f := mustFence(t, c, key)
			if r := f.Apply(t.Context(), map[string]Entry{key: entry(format, `{"n":1}`, 1)}); r.Stored != 1 {
				t.Errorf("%s: %s, on a server that lives: %+v", name, key, r)
			}
			if _, hit, err := c.Get(t.Context(), key, format, testSchema); !hit || err != nil {
				t.Errorf("%s: %s is not served: %v", name, key, err)
			}
			if err := c.Invalidate(t.Context(), []string{key}, ""); err != nil {
				t.Error(err)
			}
		}
	}
}

// A value's parts lie under several names, which a Cluster lets a script touch only where they share a slot. Where they do
// not, entries of that format cannot be written, or what ends them leaves a part behind that is served.
func TestEveryFormatOnACluster(t *testing.T) {
	rdb := dialCluster(t, testenv.Cluster(t))
	c := newTestClient(t, rdb, Options{})
	ctx, prefix := t.Context(), testenv.KeyPrefix(t)
	var keys []string
	for i, format := range slices.Repeat(allFormats, 6) { // over all servers
		other := allFormats[(i+1)%len(allFormats)]
		for _, key := range []string{fmt.Sprint(prefix, i), fmt.Sprintf("%s{%d}:x", prefix, i)} {
			keys = append(keys, key)
			check := func(what, is string, in Format, payload string) {
				t.Helper()
				wantValue(t, c, key, what, is, in, payload)
			}
			store(t, c, key, entry(format, `{"n":5}`, 5))
			check("a write", "value 5", format, `{"n":5}`)
			c.InvalidateOrOwe(ctx, []string{key})
			check("an eventual write", "absent", format, "")
			store(t, c, key, entry(other, `{"n":8}`, 8))
			check("a write in another format", "value 8", other, `{"n":8}`)
			mustFence(t, c, key).Abort(ctx)
			check("a fence", "absent", format, "")
			fill(t, c, key, entry(format, `{"n":8}`, 0))
			check("a fill", "fill", format, `{"n":8}`)
			if err := c.Invalidate(ctx, []string{key}, ""); err != nil {
				t.Error(err)
			}
			check("an invalidation", "absent", format, "")
			store(t, c, key, entry(format, `{"n":9}`, 9))
		}
	}
	if _, err := c.Sweep(ctx, []string{prefix + "*"}); err != nil {
		t.Error(err)
	}
	for _, key := range keys {
		wantValue(t, c, key, "a sweep", "absent", Envelope, "")
	}
}

// wantValue: that is all that there is, in that format and in no other.
func wantValue(t *testing.T, c *Client, key, after, is string, in Format, payload string) {
	t.Helper()
	if got := look(t, c.rdb, key); got != is {
		t.Errorf("%s, after %s: %s, want %s", key, after, got, is)
	}
	for _, f := range allFormats {
		if _, hit, err := c.Get(t.Context(), key, f, testSchema); hit != (is != "absent" && f == in) || err != nil {
			t.Errorf("%s, after %s, as %s: hit is %v, %v", key, after, f, hit, err)
		}
	}
	if text, there, err := foreignRead(t.Context(), c.rdb, key, in); there != (is != "absent") || text != payload || err != nil {
		t.Errorf("%s, after %s: others read %q, %v, %v", key, after, text, there, err)
	}
}

func sameKeys(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// What cannot be settled with a dead server is a debt of its keys alone: readers of others
// must go on being served.
func TestOwesOnlyWhatIsOwed(t *testing.T) {
	c := newTestClient(t, dial(t, "redis://127.0.0.1:1"), Options{Breaker: BreakerOptions{Failures: 1, OpenFor: time.Hour}})
	c.Owe([]string{"user:1"})
	c.OweSweep("barrier", []string{"order:*"})
	for key, want := range map[string]bool{"user:1": true, "user:2": false, "order:7": true, "orders": false} {
		if got := c.Owes(key); got != want {
			t.Errorf("Owes(%q) is %v, want %v", key, got, want)
		}
	}
}

// A client of the caller's own may have go-redis' settings: the successor of a dead server
// is found all the same, and not only a minute later.
func TestSuccessorIsFoundWithTheDefaults(t *testing.T) {
	s := testenv.NewCluster(t)
	rdb := dialCluster(t, s.URL, func(o *redis.ClusterOptions) {
		o.ContextTimeoutEnabled = false
		o.ClusterStateReloadInterval = time.Hour // a minute would be waited for by a patient test
	})
	c := newTestClient(t, rdb, Options{Deadline: 250 * time.Millisecond, FenceLife: time.Second})
	key := testenv.KeyPrefix(t) + "1"
	mustFence(t, c, key).Abort(t.Context())
	s.Failover(key)
	eventually(t, "the successor takes fences", func() bool {
		f, err := c.Fence(t.Context(), []string{key})
		if err != nil {
			return false
		}
		f.Abort(t.Context())
		return true
	})
}

// What makes reads old is refused; what only makes failures longer is told.
func TestClusterClientsThatAreRefused(t *testing.T) {
	for name, adjust := range map[string]func(*redis.ClusterOptions){
		"ReadOnly":       func(o *redis.ClusterOptions) { o.ReadOnly = true },
		"RouteByLatency": func(o *redis.ClusterOptions) { o.RouteByLatency = true },
		"RouteRandomly":  func(o *redis.ClusterOptions) { o.RouteRandomly = true },
	} {
		if _, err := New(dialCluster(t, "redis://127.0.0.1:1", adjust), Options{}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	var log strings.Builder
	rdb := dialCluster(t, "redis://127.0.0.1:1", func(o *redis.ClusterOptions) { o.MaxRedirects = -1 })
	newTestClient(t, rdb, Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if !strings.Contains(log.String(), "MaxRedirects") {
		t.Errorf("the log is %q", &log)
	}
}

// The layout of a Cluster tells whether walks over its keys can have missed some.
func TestSlotsOf(t *testing.T) {
	const head = "07c37df 127.0.0.1:30001@40001 myself,master - 0 1426238317239 4 connected"
	for _, test := range []struct {
		line, want string
		moved      bool
	}{
		{head + " 0-5460 7000", "4 0-5460 7000", false},
		{head, "4", false},
		{head + " 0-5460 [77->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]", "", true},
		{head + " 0-5460 [93-<-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]", "", true},
		{"07c37df 127.0.0.1:30001@40001 myself,slave e7d1 0 1426238317239 4 connected", "", true},
		{"", "", false},
	} {
		got, err := slotsOf(test.line)
		if got != test.want || errors.Is(err, errMoved) != test.moved {
			t.Errorf("%q: got %q, %v", test.line, got, err)
		}
	}
}

// Entries that change servers behind a walk's back, or a server that begins anew under it,
// can be missed by it: such a sweep must not pass for one that left nothing.
func TestSweepSeesServersChange(t *testing.T) {
	s := testenv.NewCluster(t)
	c := newTestClient(t, dialCluster(t, s.URL), Options{})
	glob := []string{testenv.KeyPrefix(t) + "*"}
	sweep := func() error { _, err := c.Sweep(t.Context(), glob); return err }
	const slot = 100 // of the first server; it is empty
	from, to := s.Nodes[0], s.Nodes[1]
	c.hooks.swept = func() {
		s.StartMigration(slot, to)
		s.EndMigration(slot, from, to)
	}
	if err := sweep(); !errors.Is(err, errMoved) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("a slot moved between the walks: %v", err)
	}
	c.hooks.swept = nil
	if err := sweep(); err != nil {
		t.Errorf("nothing moves: %v", err)
	}
	s.StartMigration(slot, from)
	if err := sweep(); !errors.Is(err, errMoved) {
		t.Errorf("a slot is on its way: %v", err)
	}
	s.EndMigration(slot, to, from)

	server := testenv.NewRedis(t)
	c = newTestClient(t, dial(t, server.URL), Options{})
	if err := sweep(); err != nil {
		t.Error(err)
	}
	c.hooks.swept = server.Restart
	if err := sweep(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the server began anew between the walks: %v", err)
	}
}
