package cachesync

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// atOnce runs one call after the other on each of so many goroutines, and reports how long the
// calls took besides how many there were.
func atOnce(b *testing.B, rdb *redis.Client, goroutines int, call func(worker int)) {
	b.Helper()
	ours, theirs := cpu(b), redisCPU(b, rdb)
	var left atomic.Int64
	left.Store(int64(b.N))
	took := make([][]time.Duration, goroutines)
	var wg sync.WaitGroup
	b.ResetTimer()
	for w := range goroutines {
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				began := time.Now()
				call(w)
				took[w] = append(took[w], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64((cpu(b)-ours).Nanoseconds())/1e3/float64(b.N), "cpu-µs/op")
	b.ReportMetric(float64((redisCPU(b, rdb)-theirs).Nanoseconds())/1e3/float64(b.N), "redis-cpu-µs/op")
	all := slices.Concat(took...)
	slices.Sort(all)
	for _, p := range []int{50, 95, 99} {
		b.ReportMetric(float64(all[(len(all)-1)*p/100].Microseconds()), fmt.Sprintf("p%d-µs", p))
	}
}

// cpu is the time that this process has computed: unlike how long calls took, it says much on a busy machine too.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// redisCPU is the time that Redis has computed.
func redisCPU(b *testing.B, rdb *redis.Client) (used time.Duration) {
	b.Helper()
	for line := range strings.Lines(rdb.Info(b.Context(), "cpu").Val()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name != "used_cpu_sys" && name != "used_cpu_user" {
			continue
		}
		seconds, err := strconv.ParseFloat(value, 64)
		if err != nil {
			b.Fatal(err)
		}
		used += time.Duration(seconds * float64(time.Second))
	}
	return used
}

// BenchmarkTogether compares a strict write's two calls, from many goroutines at once, with the one
// SET of a hand-written write: with so many requests under way before calls go together.
func BenchmarkTogether(b *testing.B) {
	rdb := dial(b, testenv.RealRedis(b), func(o *redis.Options) { o.PoolSize = 64 })
	prefix := testenv.KeyPrefix(b)
	const never = 1 << 20
	besides := []int{never, 1, 2, 4}
	var clients []*Client
	for _, n := range besides {
		clients = append(clients, newTestClient(b, rdb, Options{besides: n}))
	}
	for _, goroutines := range []int{1, 8, 32} {
		keys, entries := manyKeys(prefix, goroutines, Envelope)
		set := func(w int) {
			if err := rdb.Set(b.Context(), keys[w], entries[keys[w]].Payload, time.Minute).Err(); err != nil {
				b.Error(err)
			}
		}
		b.Run(fmt.Sprintf("goroutines=%d/set", goroutines), func(b *testing.B) { atOnce(b, rdb, goroutines, set) })
		for i, c := range clients {
			write := func(w int) {
				mine := map[string]Entry{keys[w]: entries[keys[w]]}
				if r := mustFence(b, c, keys[w]).Apply(b.Context(), mine); r.Stored != 1 {
					b.Errorf("%+v", r)
				}
			}
			b.Run(fmt.Sprintf("goroutines=%d/besides=%d", goroutines, besides[i]), func(b *testing.B) { atOnce(b, rdb, goroutines, write) })
		}
	}
}

// BenchmarkTogetherGet is the same for hits.
func BenchmarkTogetherGet(b *testing.B) {
	rdb := dial(b, testenv.RealRedis(b), func(o *redis.Options) { o.PoolSize = 64 })
	prefix := testenv.KeyPrefix(b)
	const goroutines, never = 32, 1 << 20
	keys, entries := manyKeys(prefix, goroutines, Envelope)
	besides := []int{never, 2, 4}
	var clients []*Client
	for _, n := range besides {
		clients = append(clients, newTestClient(b, rdb, Options{besides: n}))
	}
	for i, c := range clients {
		b.Run(fmt.Sprintf("besides=%d", besides[i]), func(b *testing.B) {
			mustFence(b, c, keys...).Apply(b.Context(), entries)
			atOnce(b, rdb, goroutines, func(w int) {
				if _, hit, err := c.Get(b.Context(), keys[w], Envelope, testSchema); !hit || err != nil {
					b.Error(hit, err)
				}
			})
		})
	}
}

func BenchmarkToken(b *testing.B) {
	for b.Loop() {
		newToken()
	}
}
