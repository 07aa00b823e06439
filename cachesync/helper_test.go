package cachesync

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
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

var allFormats = []Format{Envelope, Plain, Hash, Versioned}

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

// vouch notes in a registry that a server has always been what it is: else it would be in quarantine.
func vouch(t testing.TB, rdb *redis.Client, registry string) {
	t.Helper()
	who, ok := identityOf(rdb.Info(t.Context(), "server").Val() + "\n" + rdb.Info(t.Context(), "replication").Val())
	if !ok {
		t.Fatal("INFO does not say who answers")
	}
	if err := rdb.HSet(t.Context(), registry, who.String(), 0).Err(); err != nil {
		t.Fatal(err)
	}
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
// "lease", "fence 2 dirty floor 9". It fails the test where a part has no life,
// has been left without its other part, or is there in two formats.
func look(t testing.TB, rdb redis.UniversalClient, key string) string {
	t.Helper()
	ctx := context.Background()
	names, ok := siblingsOf(key)
	if !ok {
		t.Fatalf("%q cannot have siblings", key)
	}
	found := lookAtEntry(t, rdb, names)
	switch kind := rdb.Type(ctx, names.control).Val(); kind {
	case "none":
	case "string":
		if strings.HasPrefix(rdb.Get(ctx, names.control).Val(), "f:") {
			found = append(found, "fence 1")
		} else {
			found = append(found, "lease")
		}
	case "hash":
		found = append(found, describeFence(rdb.HGetAll(ctx, names.control).Val()))
	default:
		t.Errorf("%s: control key is a %s", key, kind)
	}
	for _, name := range []string{names.key, names.control, names.meta, names.pointer} {
		if rdb.PTTL(ctx, name).Val() == -1 {
			t.Errorf("%s would live for ever", name)
		}
	}
	if len(found) == 0 {
		return "absent"
	}
	return strings.Join(found, " + ")
}

// lookAtEntry describes the entry in each format in which it is there.
func lookAtEntry(t testing.TB, rdb redis.UniversalClient, names siblings) (found []string) {
	t.Helper()
	ctx := context.Background()
	meta := rdb.Get(ctx, names.meta).Val()
	if meta != "" && len(meta) != atTail+len(headEnd) {
		t.Fatalf("%s holds %q", names.meta, meta)
	}
	switch kind := rdb.Type(ctx, names.key).Val(); kind {
	case "none":
	case "string":
		header := meta
		if header == "" {
			header = rdb.Get(ctx, names.key).Val()
		}
		if len(header) < atTail {
			t.Fatalf("%s holds %q", names.key, header)
		}
		found = append(found, describeVersion("value", header[atVersion:atVersion+versionDigits]))
	case "hash":
		found = append(found, describeVersion("value", rdb.HGet(ctx, names.key, "version").Val()))
	default:
		t.Errorf("%s is a %s", names.key, kind)
	}
	if pointer := rdb.Get(ctx, names.pointer).Val(); pointer != "" {
		lookBehind(t, rdb, names, pointer, meta)
		found = append(found, describeVersion("value", meta[atVersion:atVersion+versionDigits]))
	}
	if meta != "" && len(found) == 0 {
		t.Errorf("%s: a header without a value", names.key)
	}
	return found
}

// dump gives all that Redis holds of a key, as text.
func dump(t testing.TB, rdb redis.UniversalClient, key string) string {
	t.Helper()
	ctx := context.Background()
	var lines []string
	for _, name := range rdb.Keys(ctx, "*"+key+"*").Val() {
		switch kind := rdb.Type(ctx, name).Val(); kind {
		case "string":
			lines = append(lines, name+" = "+rdb.Get(ctx, name).Val()+"\n")
		case "hash":
			for field, text := range rdb.HGetAll(ctx, name).Val() {
				lines = append(lines, name+" "+field+" "+text+"\n")
			}
		default:
			lines = append(lines, name+" is a "+kind+"\n")
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// lookBehind fails the test where a pointer leads nowhere, or soon will.
func lookBehind(t testing.TB, rdb redis.UniversalClient, names siblings, pointer, meta string) {
	t.Helper()
	ctx := context.Background()
	if meta == "" || !strings.HasPrefix(pointer, names.version(meta[atVersion:atVersion+versionDigits])) {
		t.Fatalf("%s leads to %q, its header is %q", names.pointer, pointer, meta)
	}
	first, second := rdb.PTTL(ctx, names.pointer).Val(), rdb.PTTL(ctx, pointer).Val()
	if first < 0 || second < first {
		t.Errorf("%s lives %v, the version that it names %v", names.pointer, first, second)
	}
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
