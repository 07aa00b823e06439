package cachesync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// store has a writer put a value there.
func store(t testing.TB, c *Client, key string, e Entry) {
	t.Helper()
	if r := mustFence(t, c, key).Apply(t.Context(), map[string]Entry{key: e}); r.Stored != 1 {
		t.Fatalf("%+v", r)
	}
}

// fill has a reader put a value there.
func fill(t testing.TB, c *Client, key string, e Entry) {
	t.Helper()
	lease, err := c.Lease(t.Context(), key, e.Format, testSchema)
	if err != nil || lease.State != LeaseGranted {
		t.Fatalf("%+v, %v", lease, err)
	}
	if ok, err := c.Fill(t.Context(), lease, e); !ok || err != nil {
		t.Fatalf("fill: %v, %v", ok, err)
	}
}

// foreignRead reads as a program does that knows nothing of wtcache: the
// commands are those of the README.
func foreignRead(ctx context.Context, rdb redis.Cmdable, key string, format Format) (payload string, ok bool, err error) {
	switch format {
	case Hash:
		payload, err = rdb.HGet(ctx, key, "data").Result()
	case Versioned:
		names, _ := siblingsOf(key)
		var version string
		if version, err = rdb.Get(ctx, names.pointer).Result(); err == nil {
			payload, err = rdb.Get(ctx, version).Result()
		}
	default:
		payload, err = rdb.Get(ctx, key).Result()
		if format == Envelope && err == nil {
			_, payload, ok = strings.Cut(strings.TrimSuffix(payload, "}"), headData)
			return payload, ok, nil
		}
	}
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return "", false, nil
	}
	return payload, err == nil, err
}

// After a rule's format was changed, each way to end an entry must find it in
// the old format: an entry that is left behind there is stale for as long as
// somebody still reads it so.
func TestEveryFormatIsEndedFromEveryOther(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	ends := map[string]func(key string, to Format){
		"fence":  func(key string, to Format) { mustFence(t, c, key).Abort(ctx) },
		"lost":   func(key string, to Format) { c.run(ctx, applyCall(namesOf(t, key), &tokens{own: "gone"}, none)) },
		"reader": func(key string, to Format) { c.Lease(ctx, key, to, testSchema) },
		"invalidate": func(key string, to Format) {
			c.Invalidate(ctx, []string{key}, version(9))
		},
		"owe":          func(key string, to Format) { c.Owe([]string{key}); c.WaitOwed(ctx) },
		"sweep":        func(key string, to Format) { c.Sweep(ctx, []string{key}) },
		"eventual":     func(key string, to Format) { c.InvalidateOrOwe(ctx, []string{key}) },
		"other schema": func(key string, to Format) { c.Lease(ctx, key, to, foreignSchema) },
	}
	for name, end := range ends {
		for _, from := range allFormats {
			for _, to := range allFormats {
				if from == to && name == "reader" {
					continue // finds the value
				}
				key := fmt.Sprintf("%s%s:%s:%s", prefix, name, from, to)
				store(t, c, key, entry(from, "1", 5))
				end(key, to)
				if payload, ok, err := foreignRead(ctx, c.rdb, key, from); ok || err != nil {
					t.Errorf("%s, %s to %s: still read as %q, %v", name, from, to, payload, err)
				}
				if got := look(t, c.rdb, key); got != "absent" && got != "lease" {
					t.Errorf("%s, %s to %s: %s", name, from, to, got)
				}
			}
		}
	}
}

func namesOf(t *testing.T, key string) siblings {
	t.Helper()
	names, ok := siblingsOf(key)
	if !ok {
		t.Fatalf("%q cannot have siblings", key)
	}
	return names
}

// Each way to store a value in a new format must take the one in the old
// format away.
func TestEveryFormatIsReplacedFromEveryOther(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	for _, from := range allFormats {
		for _, to := range allFormats {
			key := fmt.Sprintf("%s%s:%s", prefix, from, to)
			steps := []struct {
				name, after, payload string
				do                   func()
			}{
				{"write", "value 5", "5", func() { store(t, c, key, entry(to, "5", 5)) }},
				{"write in the old format", "value 7", "", func() { store(t, c, key, entry(from, "7", 7)) }},
				{"write in the new format again", "value 9", "9", func() { store(t, c, key, entry(to, "9", 9)) }},
				{"fill in the old format", "fill", "", func() { mustFence(t, c, key).Abort(ctx); fill(t, c, key, entry(from, "0", 0)) }},
				{"fill in the new format", "fill", "1", func() {
					if from == to {
						mustFence(t, c, key).Abort(ctx)
					}
					fill(t, c, key, entry(to, "1", 0))
				}},
			}
			store(t, c, key, entry(from, "4", 4))
			for _, step := range steps {
				step.do()
				if got := look(t, c.rdb, key); got != step.after {
					t.Errorf("%s to %s, %s: %s, want %s", from, to, step.name, got, step.after)
				}
				if step.payload == "" {
					continue
				}
				value, ok, err := c.Get(ctx, key, to, testSchema)
				if !ok || err != nil || string(value.Payload) != step.payload {
					t.Errorf("%s to %s, %s: read as %+v, %v, %v", from, to, step.name, value, ok, err)
				}
				if old, ok, err := c.Get(ctx, key, from, testSchema); err != nil || ok && string(old.Payload) != step.payload {
					t.Errorf("%s to %s, %s: the old release still reads %q, %v", from, to, step.name, old.Payload, err)
				}
				if from != Hash && from != Versioned {
					continue // the formats share the key: foreign readers of the one decode the other as what it is
				}
				if payload, ok, err := foreignRead(ctx, c.rdb, key, from); err != nil || ok && payload != step.payload {
					t.Errorf("%s to %s, %s: the old release's readers still read %q, %v", from, to, step.name, payload, err)
				}
			}
		}
	}
}

// A key that is in use for something else is not a reader's to delete; and
// somebody has to hear why it is never filled.
func TestForeignKeysAreLeftToTheirOwners(t *testing.T) {
	ctx := t.Context()
	for _, format := range allFormats {
		c, prefix := shared(t)
		var reported []error
		c.o.OnError = func(err error) { reported = append(reported, err) }
		put := map[string]func(names siblings) *redis.IntCmd{
			"list":      func(n siblings) *redis.IntCmd { return c.rdb.RPush(ctx, n.key, "theirs") },
			"hash":      func(n siblings) *redis.IntCmd { return c.rdb.HSet(ctx, n.key, "version", "7", "data", "theirs") },
			"long hash": func(n siblings) *redis.IntCmd { return c.rdb.HSet(ctx, n.key, "version", strings.Repeat("z", 24)) },
		}
		if format == Versioned {
			put["pointer"] = func(n siblings) *redis.IntCmd { return c.rdb.Append(ctx, n.pointer, "theirs") }
			put["pointer list"] = func(n siblings) *redis.IntCmd { return c.rdb.RPush(ctx, n.pointer, "theirs") }
			put["their own version"] = func(n siblings) *redis.IntCmd { return c.rdb.Append(ctx, n.pointer, n.version("3")) }
		}
		for name, put := range put {
			key := prefix + format.String() + name
			names := namesOf(t, key)
			if err := put(names).Err(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.rdb.Del(context.Background(), names.key, names.pointer) })
			before := dump(t, c.rdb, key)
			if v, ok, err := c.Get(ctx, key, format, testSchema); ok || err != nil {
				t.Errorf("%s over a %s: served %+v, %v", format, name, v, err)
			}
			if lease, err := c.Lease(ctx, key, format, testSchema); lease.State != LeaseBypass || err != nil {
				t.Errorf("%s over a %s: %+v, %v", format, name, lease, err)
			}
			if after := dump(t, c.rdb, key); after != before {
				t.Errorf("%s over a %s: a reader left %q of %q", format, name, after, before)
			}
			// A write of the row takes the key that its rule names.
			store(t, c, key, entry(format, "1", 5))
			if v, ok, err := c.Get(ctx, key, format, testSchema); !ok || err != nil || string(v.Payload) != "1" {
				t.Errorf("%s over a %s, written: %+v, %v, %v", format, name, v, ok, err)
			}
		}
		if n := c.Stats().ForeignKeys; n != int64(len(put)) || len(reported) != 1 || !errors.Is(reported[0], ErrForeign) {
			t.Errorf("%s: counted %d of %d, reported %v", format, n, len(put), reported)
		}
	}
}

// A program may have a key of its own that is called like a pointer. Where no
// entry is versioned, no write or sweep may touch it.
func TestOthersPointersAreSpared(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	for i, theirs := range []string{"theirs", "", "{%s}:v3", "{%s}:v" + version(5) + "0"} {
		key := fmt.Sprintf("%s%d", prefix, i)
		names := namesOf(t, key)
		if strings.Contains(theirs, "%s") {
			theirs = fmt.Sprintf(theirs, key)
		}
		c.rdb.Set(ctx, names.pointer, theirs, time.Hour)
		for _, format := range []Format{Envelope, Plain, Hash} {
			store(t, c, key, entry(format, "1", 5))
			c.InvalidateOrOwe(ctx, []string{key})
			store(t, c, key, entry(format, "1", 6))
			mustFence(t, c, key).Abort(ctx)
			fill(t, c, key, entry(format, "1", 0))
			c.run(ctx, applyCall(names, &tokens{own: "gone"}, none))
			if _, err := c.Sweep(ctx, []string{key}); err != nil {
				t.Fatal(err)
			}
			if got, err := c.rdb.Get(ctx, names.pointer).Result(); got != theirs || err != nil {
				t.Errorf("%s: %q became %q, %v", format, theirs, got, err)
			}
		}
		c.rdb.Del(ctx, names.pointer)
	}
}

// A reader who stands between its two reads must find what it was pointed to,
// whatever is written, filled or swept meanwhile; and whoever keeps payloads
// by a version key's name must never find another one under it.
func TestVersionKeysNeverChange(t *testing.T) {
	c, key := shared(t)
	ctx := t.Context()
	names := namesOf(t, key)
	seen := map[string]string{}
	note := func(payload string) {
		t.Helper()
		name, err := c.rdb.Get(ctx, names.pointer).Result()
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := seen[name]; twice {
			t.Errorf("%s is pointed to again", name)
		}
		seen[name] = payload
		for name, payload := range seen {
			if got, err := c.rdb.Get(ctx, name).Result(); got != payload || err != nil {
				t.Errorf("%s held %q and holds %q, %v", name, payload, got, err)
			}
			if life := c.rdb.PTTL(ctx, name).Val(); life <= time.Minute || life > 2*time.Minute+time.Second {
				t.Errorf("%s lives %v, want its TTL and a minute", name, life)
			}
		}
	}
	for i := range 4 {
		payload := fmt.Sprint(i)
		store(t, c, key, entry(Versioned, "w"+payload, 2*i+1))
		note("w" + payload)
		store(t, c, key, entry(Versioned, "x"+payload, 2*i+2))
		note("x" + payload)
		c.InvalidateOrOwe(ctx, []string{key})
		if _, err := c.Sweep(ctx, []string{key}); err != nil {
			t.Fatal(err)
		}
		fill(t, c, key, entry(Versioned, "f"+payload, 0))
		note("f" + payload)
		if err := c.Invalidate(ctx, []string{key}, ""); err != nil {
			t.Fatal(err)
		}
		fill(t, c, key, entry(Versioned, "g"+payload, 0))
		note("g" + payload)
	}
	if len(seen) != 16 {
		t.Errorf("%d versions", len(seen))
	}
}

// A key with a hash tag of its own matches its rule's glob together with its
// version keys: a sweep must take the entry and not mistake them for entries.
func TestSweepSparesVersionKeys(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	rule := "{" + prefix + "}:"
	keys, entries := manyKeys(rule, 20, Versioned)
	if r := mustFence(t, c, keys...).Apply(ctx, entries); r.Stored != len(keys) {
		t.Fatalf("%+v", r)
	}
	fill(t, c, rule+"filled", entry(Versioned, "1", 0))
	// An evicted header must not hide the pointer.
	c.rdb.Del(ctx, namesOf(t, keys[0]).meta)
	if n, err := c.Sweep(ctx, []string{rule + "*"}); err != nil || n != len(keys)+1 {
		t.Errorf("swept %d of %d, %v", n, len(keys)+1, err)
	}
	left := c.rdb.Keys(ctx, "*"+prefix+"*").Val()
	if rest := slices.DeleteFunc(slices.Clone(left), isVersion); len(left) != len(keys)+1 || len(rest) != 0 {
		t.Errorf("left: %q", left)
	}
}

// A version that Redis has evicted is a miss, and the next reader fills.
func TestPointerThatLeadsNowhere(t *testing.T) {
	c, key := shared(t)
	ctx := t.Context()
	names := namesOf(t, key)
	for what, lose := range map[string]func(){
		"the version": func() { c.rdb.Del(ctx, names.version(version(5))) },
		"the header":  func() { c.rdb.Del(ctx, names.meta) },
		"the pointer": func() { c.rdb.Del(ctx, names.pointer) },
		"the version, for a list": func() {
			c.rdb.Del(ctx, names.version(version(5)))
			c.rdb.RPush(ctx, names.version(version(5)), "x")
			c.rdb.Expire(ctx, names.version(version(5)), time.Hour)
		},
		"the header, for another version's": func() {
			h, _ := entry(Versioned, "1", 4).encode(version(4))
			c.rdb.Set(ctx, names.meta, h.head+"1700000000000"+h.tail, time.Minute)
		},
	} {
		store(t, c, key, entry(Versioned, "1", 5))
		lose()
		if v, ok, err := c.Get(ctx, key, Versioned, testSchema); ok || err != nil {
			t.Errorf("without %s: served %+v, %v", what, v, err)
		}
		fill(t, c, key, entry(Versioned, "2", 0))
		if got := look(t, c.rdb, key); got != "fill" {
			t.Errorf("without %s: then %s", what, got)
		}
		c.rdb.Del(ctx, names.version(version(5)))
	}
}

// An entry that readers keep alive would outlive what the rule says.
func TestReadersDoNotExtendALife(t *testing.T) {
	c, prefix := shared(t)
	ctx := t.Context()
	for _, format := range allFormats {
		key := prefix + format.String()
		names := namesOf(t, key)
		all := []string{names.key, names.meta, names.pointer, names.version(version(5))}
		store(t, c, key, entry(format, "1", 5))
		for _, name := range all {
			c.rdb.PExpire(ctx, name, 30*time.Second)
		}
		if _, ok, err := c.Get(ctx, key, format, testSchema); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if lease, err := c.Lease(ctx, key, format, testSchema); lease.State != LeaseValue || err != nil {
			t.Fatalf("%+v, %v", lease, err)
		}
		for _, name := range all {
			if life := c.rdb.PTTL(ctx, name).Val(); life > 30*time.Second {
				t.Errorf("%s: a read has given %s a life of %v", format, name, life)
			}
		}
		c.rdb.PExpire(ctx, key, time.Hour)
		store(t, c, key, entry(format, "1", 6))
		look(t, c.rdb, key)
		for _, name := range all[:3] {
			if life := c.rdb.PTTL(ctx, name).Val(); life > time.Minute {
				t.Errorf("%s: %s lives %v, its TTL is a minute", format, name, life)
			}
		}
	}
}

// A hit must cost one round trip in every format.
func TestAHitIsOneRoundTrip(t *testing.T) {
	server := testenv.NewRedis(t)
	counted := &countingHook{}
	rdb := dial(t, server.URL)
	c := newTestClient(t, rdb, Options{})
	for _, format := range allFormats {
		store(t, c, format.String(), entry(format, "1", 5))
		if _, ok, err := c.Get(t.Context(), format.String(), format, testSchema); !ok || err != nil { // the script is known now
			t.Fatal(ok, err)
		}
	}
	rdb.AddHook(counted)
	for i, format := range allFormats {
		if _, ok, err := c.Get(t.Context(), format.String(), format, testSchema); !ok || err != nil {
			t.Fatal(ok, err)
		}
		if counted.requests != i+1 {
			t.Errorf("%s: %d requests", format, counted.requests-i)
		}
	}
}

// countingHook counts round trips.
type countingHook struct{ requests int }

func (h *countingHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *countingHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { h.requests++; return next(ctx, cmd) }
}

func (h *countingHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { h.requests++; return next(ctx, cmds) }
}
