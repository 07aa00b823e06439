package cachesync

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// slot is Redis Cluster's: CRC16 (XMODEM) of the hash tag, modulo 16384.
func slot(key string) int {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if n := strings.IndexByte(key[open+1:], '}'); n > 0 {
			key = key[open+1 : open+1+n]
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc) % 16384
}

// A script that touches two slots is refused by a Cluster: every write of such
// a key would fail there.
func TestSiblingsShareTheKeysSlot(t *testing.T) {
	if slot("123456789") != 12739 {
		t.Fatal("this is not Redis' CRC16")
	}
	for _, key := range []string{
		"user:1", "a", "{user:1}", "user:{1}:x", "{a}{b}", "a{b", "{", "{{a}}", "x{a}y}z", "é", " ", "a\x00b",
	} {
		s, ok := siblingsOf(key)
		if !ok {
			t.Errorf("%q has no siblings", key)
			continue
		}
		if slot(s.control) != slot(key) || slot(s.meta) != slot(key) {
			t.Errorf("%q: slot %d, %q %d, %q %d", key, slot(key), s.control, slot(s.control), s.meta, slot(s.meta))
		}
		for _, name := range []string{s.pointer, s.version(version(5)), s.fill("ABC")} {
			if slot(name) != slot(key) {
				t.Errorf("%q: slot %d, %q %d", key, slot(key), name, slot(name))
			}
		}
		for _, name := range []string{s.key, s.control, s.meta, s.pointer} {
			if !slices.Contains(owners(name), key) {
				t.Errorf("a sweep that finds %q does not know that it is %q's", name, key)
			}
		}
	}
}

// A key without usable siblings is never cached; with siblings in another slot
// or under another key's name it would be stale or destroy a fence.
func TestKeysWithoutSiblingsAreNeverCached(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	for _, key := range []string{"", "}", "{}", "a}b", "{}{x}", prefix + "{5}:a:wt", prefix + "{5}:a:wtm",
		prefix + "{5}:a:current", prefix + "{5}:v" + version(5), prefix + "{5}:v" + fillVersion + "-ABC234",
	} {
		f := mustFence(t, c, key)
		if r := f.Apply(ctx, map[string]Entry{key: entry(Envelope, "1", 5)}); r.Stored+r.Lost+len(r.Owed) != 0 {
			t.Errorf("%q: %+v", key, r)
		}
		c.InvalidateOrOwe(ctx, []string{key})
		c.Owe([]string{key})
		if lease, err := c.Lease(ctx, key, Envelope, testSchema); lease.State != LeaseBypass || err != nil {
			t.Errorf("%q: %+v, %v", key, lease, err)
		}
		if _, ok, err := c.Get(ctx, key, Envelope, testSchema); ok || err != nil {
			t.Errorf("%q: found, or %v", key, err)
		}
		if held, err := c.BarrierHeld(ctx, key); !held || err != nil {
			t.Errorf("%q cannot be a barrier, so readers may not rely on it: %v, %v", key, held, err)
		}
		if key != "" && c.rdb.Exists(ctx, key).Val() != 0 {
			t.Errorf("%q was written", key)
		}
	}
	if n := c.Owed(); n != 0 {
		t.Errorf("%d owed", n)
	}
	if n := c.Stats().Uncacheable; n == 0 {
		t.Error("nobody could know: not counted")
	}
}

// A sweep that misjudges a pattern leaves stale entries: the server's own
// matcher is the judge.
func TestGlobsMatchAsRedisDoes(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	subjects := []string{"", "a", "b", "ab", "abc", "a*c", "a?c", "[a]", "a]", "a-c", "^a", "a\\c", "\\", "axbxc", "aXc", "{a}:wt", "-"}
	patterns := []string{
		"*", "?", "a*", "*c", "a*c", "a**c", "a?c", `a\*c`, `a\?c`, "[ab]", "[a-b]*", "[b-a]*", "[^a]*", "[^a-b]*", "a[", "[a",
		`[\]a]*`, `[\[]a]`, "a]", `\`, `a\\c`, "[]a]", "[a-", "[-a]", "[^]", "a[*]c", "*x*x*", "{?}:wt", "*[^c]", "",
	}
	for _, s := range subjects {
		c.rdb.Set(ctx, prefix+s, "1", 0)
		t.Cleanup(func() { c.rdb.Del(context.Background(), prefix+s) })
	}
	for _, p := range patterns {
		var want, got []string
		for _, name := range c.rdb.Keys(ctx, prefix+p).Val() {
			want = append(want, strings.TrimPrefix(name, prefix))
		}
		for _, s := range subjects {
			if matchGlob(prefix+p, prefix+s) {
				got = append(got, s)
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%q matches %q, redis says %q", p, got, want)
		}
	}
}

// Cluster users lose every write if a script, a pipeline or a sweep crosses
// slots, or if a redirection breaks what must be sent once. One node that owns
// all slots refuses cross-slot scripts as three do.
func TestOnACluster(t *testing.T) {
	server := testenv.NewRedis(t, "--cluster-enabled", "yes")
	node := dial(t, server.URL)
	if err := node.ClusterAddSlotsRange(t.Context(), 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClusterClient(&redis.ClusterOptions{
		Addrs:                 []string{"node"},
		ContextTimeoutEnabled: true,
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", server.Socket())
		},
		ClusterSlots: func(context.Context) ([]redis.ClusterSlot, error) {
			return []redis.ClusterSlot{{Start: 0, End: 16383, Nodes: []redis.ClusterNode{{Addr: "node"}}}}, nil
		},
	})
	t.Cleanup(func() { rdb.Close() })
	eventually(t, "the cluster is up", func() bool { return rdb.Set(t.Context(), "up", "1", 0).Err() == nil })
	vouch(t, node, Registry+":{0}")
	c := newTestClient(t, rdb, Options{})
	var keys []string
	for _, format := range allFormats {
		some, entries := manyKeys("c:"+format.String(), 600, format)
		if r := mustFence(t, c, some...).Apply(t.Context(), entries); r.Stored != len(some) {
			t.Fatalf("%+v", r)
		}
		if v, ok, err := c.Get(t.Context(), some[7], format, testSchema); !ok || err != nil || string(v.Payload) != "1" {
			t.Errorf("%+v, %v, %v", v, ok, err)
		}
		keys = append(keys, some...)
	}
	lease, err := c.Lease(t.Context(), "c:{new}:1", Versioned, testSchema)
	if err != nil || lease.State != LeaseGranted {
		t.Fatalf("%+v, %v", lease, err)
	}
	if n, err := c.Sweep(t.Context(), []string{"c:*"}); err != nil || n != len(keys)+1 {
		t.Errorf("swept %d of %d, %v", n, len(keys)+1, err)
	}
	if ok, err := c.Fill(t.Context(), lease, entry(Versioned, "1", 0)); ok || err != nil {
		t.Errorf("a swept lease was filled, or %v", err)
	}
	for _, key := range []string{"c:{new}:2", "c:3"} {
		fillAndRead(t, c, key, Versioned)
	}
	// A pointer to another key's version leads to another slot, where a script may not
	// go, and to another row.
	names, _ := siblingsOf("c:4")
	others, _ := siblingsOf("c:3")
	for from, to := range map[string]string{others.pointer: names.pointer, others.meta: names.meta} {
		rdb.Set(t.Context(), to, rdb.Get(t.Context(), from).Val(), time.Minute)
	}
	if _, ok, err := c.Get(t.Context(), "c:4", Versioned, testSchema); ok || err != nil {
		t.Errorf("behind somebody else's pointer: %v, %v", ok, err)
	}
	if lease, err := c.Lease(t.Context(), "c:4", Versioned, testSchema); lease.State != LeaseBypass || err != nil {
		t.Errorf("behind somebody else's pointer: %+v, %v", lease, err)
	}
}

func manyKeys(prefix string, n int, format Format) ([]string, map[string]Entry) {
	keys := make([]string, n)
	entries := make(map[string]Entry, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s%d", prefix, i)
		entries[keys[i]] = entry(format, "1", 5)
	}
	return keys, entries
}

// fillAndRead is a reader who meets an absent key and one who comes after.
func fillAndRead(t *testing.T, c *Client, key string, format Format) {
	t.Helper()
	lease, err := c.Lease(t.Context(), key, format, testSchema)
	if err != nil || lease.State != LeaseGranted {
		t.Fatalf("%s: %+v, %v", key, lease, err)
	}
	if ok, err := c.Fill(t.Context(), lease, entry(format, "7", 0)); !ok || err != nil {
		t.Errorf("%s: fill %v, %v", key, ok, err)
	}
	if v, ok, err := c.Get(t.Context(), key, format, testSchema); !ok || err != nil || string(v.Payload) != "7" {
		t.Errorf("%s: %+v, %v, %v", key, v, ok, err)
	}
}
