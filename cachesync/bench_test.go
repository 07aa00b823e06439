package cachesync

import (
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

func benchClient(b *testing.B) (*Client, string, map[string]Entry) {
	c := newTestClient(b, dial(b, testenv.RealRedis(b)), Options{})
	key := testenv.KeyPrefix(b) + "1"
	payload := make([]byte, 256)
	for i := range payload {
		payload[i] = 'x'
	}
	e := entry(Envelope, string(payload), 5)
	mustFence(b, c, key).Apply(b.Context(), map[string]Entry{key: e})
	return c, key, map[string]Entry{key: e}
}

func BenchmarkBareSet(b *testing.B) {
	c, key, entries := benchClient(b)
	for b.Loop() {
		if err := c.rdb.Set(b.Context(), key, entries[key].Payload, time.Minute).Err(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFenceApply(b *testing.B) {
	c, key, entries := benchClient(b)
	for b.Loop() {
		if r := mustFence(b, c, key).Apply(b.Context(), entries); r.Stored != 1 {
			b.Fatalf("%+v", r)
		}
	}
}

func BenchmarkFenceApply100(b *testing.B) {
	c, prefix, _ := benchClient(b)
	keys, entries := manyKeys(prefix, 100, Envelope)
	for b.Loop() {
		if r := mustFence(b, c, keys...).Apply(b.Context(), entries); r.Stored != len(keys) {
			b.Fatalf("%+v", r)
		}
	}
}

func BenchmarkBareGet(b *testing.B) {
	c, key, _ := benchClient(b)
	for b.Loop() {
		if err := c.rdb.Get(b.Context(), key).Err(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	c, key, _ := benchClient(b)
	for b.Loop() {
		if _, ok, err := c.Get(b.Context(), key, Envelope, testSchema); !ok || err != nil {
			b.Fatal(ok, err)
		}
	}
}
