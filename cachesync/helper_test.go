package cachesync

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

const (
	testSchema    = "1a2b3c4d"
	foreignSchema = "ffffffff"
	patience      = 20 * time.Second // for what must happen, however slow the machine
)

// version makes versions that differ only in bits that a double does not hold.
func version(n int) string { return fmt.Sprintf("%08x%016x", 1, 1<<60+n) }

func dial(t testing.TB, url string, adjust ...func(*redis.Options)) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled = true
	for _, a := range adjust {
		a(o)
	}
	rdb := redis.NewClient(o)
	t.Cleanup(func() { rdb.Close() })
	return rdb
}

// newTestClient makes a client whose deadline only a dead server misses,
// unless the options say otherwise.
func newTestClient(t testing.TB, rdb redis.UniversalClient, o Options) *Client {
	t.Helper()
	if o.Deadline == 0 {
		o.Deadline = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	c, err := New(rdb, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// shared gives a client of the Redis that all tests share, and a key of the
// test's own.
func shared(t testing.TB) (*Client, string) {
	t.Helper()
	return newTestClient(t, dial(t, testenv.RealRedis(t)), Options{}), testenv.KeyPrefix(t) + "1"
}

func entry(format Format, payload string, n int) Entry {
	return Entry{Payload: []byte(payload), Version: version(n), Schema: testSchema, TTL: time.Minute, Format: format}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

func mustFence(t testing.TB, c *Client, keys ...string) *Fence {
	t.Helper()
	f, err := c.Fence(t.Context(), keys)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// look describes all that Redis holds for a key: "absent", "value 5", "fill",
// "lease", "fence 2 dirty floor 9". It fails the test where a part has no life
// or has been left without its other part.
func look(t testing.TB, rdb redis.UniversalClient, key string) string {
	t.Helper()
	ctx := context.Background()
	names, ok := siblingsOf(key)
	if !ok {
		t.Fatalf("%q cannot have siblings", key)
	}
	var found []string
	value, err := rdb.Get(ctx, names.key).Result()
	if err != nil && err != redis.Nil {
		t.Fatal(err)
	}
	meta := rdb.Get(ctx, names.meta).Val()
	if value == "" && meta != "" {
		t.Errorf("%s: meta without a value", key)
	}
	if value != "" {
		header := value
		if meta != "" {
			header = meta
		}
		if len(header) < atTail {
			t.Fatalf("%s holds %q", key, value)
		}
		found = append(found, describeVersion("value", header[atVersion:atVersion+versionDigits]))
	}
	switch kind := rdb.Type(ctx, names.control).Val(); kind {
	case "none":
	case "string":
		found = append(found, "lease")
	case "hash":
		found = append(found, describeFence(rdb.HGetAll(ctx, names.control).Val()))
	default:
		t.Errorf("%s: control key is a %s", key, kind)
	}
	for _, name := range []string{names.key, names.control, names.meta} {
		if rdb.PTTL(ctx, name).Val() == -1 {
			t.Errorf("%s would live for ever", name)
		}
	}
	if len(found) == 0 {
		return "absent"
	}
	return strings.Join(found, " + ")
}

func describeVersion(what, v string) string {
	if v == fillVersion {
		return "fill"
	}
	for n := range 20 {
		if v == version(n) {
			return fmt.Sprintf("%s %d", what, n)
		}
	}
	return what + " " + v
}

func describeFence(fields map[string]string) string {
	tokens, rest := 0, ""
	for name := range fields {
		if strings.HasPrefix(name, "t:") {
			tokens++
		}
	}
	if fields["dirty"] != "" {
		rest += " dirty"
	}
	if floor := fields["floor"]; floor != "" {
		rest += describeVersion(" floor", floor)
	}
	return fmt.Sprintf("fence %d%s", tokens, rest)
}
