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

// BenchmarkGet is a hit in each format, and the memory that the entry takes
// (all its names, for a payload of 256 bytes).
func BenchmarkGet(b *testing.B) {
	c, prefix, entries := benchClient(b)
	payload := string(entries[prefix].Payload)
	for _, format := range allFormats {
		b.Run(format.String(), func(b *testing.B) {
			key := prefix + format.String()
			store(b, c, key, entry(format, payload, 5))
			for b.Loop() {
				if _, ok, err := c.Get(b.Context(), key, format, testSchema); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
			b.ReportMetric(float64(memoryOf(b, c, key)), "redis-bytes")
		})
	}
}

// BenchmarkFenceApplyFormats is a write in each format.
func BenchmarkFenceApplyFormats(b *testing.B) {
	c, prefix, entries := benchClient(b)
	payload := string(entries[prefix].Payload)
	for _, format := range allFormats {
		b.Run(format.String(), func(b *testing.B) {
			key := prefix + format.String()
			for b.Loop() {
				store(b, c, key, entry(format, payload, 5))
			}
		})
	}
}

// memoryOf is what Redis says that all names of a key take.
func memoryOf(b *testing.B, c *Client, key string) (bytes int64) {
	b.Helper()
	for _, name := range c.rdb.Keys(b.Context(), "*"+key+"*").Val() {
		bytes += c.rdb.MemoryUsage(b.Context(), name, 0).Val()
	}
	return bytes
}
