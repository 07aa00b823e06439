package cachesync

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// BenchmarkSweep is what a statement of unknown rows costs beside Postgres' part where a rule's entries are all cached: the
// walk ahead, and the sweep. "scan-µs" and "del-µs" are Redis' own time in the commands.
func BenchmarkSweep(b *testing.B) {
	const keys = 100_000
	for _, format := range []Format{Envelope, Plain} {
		b.Run(format.String(), func(b *testing.B) {
			rdb := dial(b, testenv.RealRedis(b))
			c := newTestClient(b, rdb, Options{NoHeaders: format == Envelope})
			prefix, payload := testenv.KeyPrefix(b), fmt.Sprintf("%0256d", 1)
			key := prefix + "model"
			e := entry(format, payload, 5)
			e.TTL = time.Hour
			mustFence(b, c, key).Apply(b.Context(), map[string]Entry{key: e})
			spent := map[string]float64{}
			for b.Loop() {
				b.StopTimer()
				copyEntry(b, c, key, format, keys)
				before := commandTimes(b, c)
				b.StartTimer()
				<-c.SweepAhead(b.Context(), []string{prefix + "e*"})
				if _, err := c.Sweep(b.Context(), []string{prefix + "e*"}); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				for name, t := range commandTimes(b, c) {
					spent[name] += t - before[name]
				}
				b.StartTimer()
			}
			if got := c.Stats().SweptKeys; got < int64(b.N)*keys {
				b.Fatalf("%d keys were swept in %d sweeps", got, b.N)
			}
			for _, name := range []string{"scan", "del", "evalsha"} {
				b.ReportMetric(spent[name]/float64(b.N), name+"-µs/op")
			}
		})
	}
}

// copyEntry makes so many entries of one.
func copyEntry(b *testing.B, c *Client, key string, format Format, n int) {
	model, _ := siblingsOf(key)
	pipe, db := c.rdb.Pipeline(), c.rdb.(*redis.Client).Options().DB
	for i := range n {
		s, _ := siblingsOf(strings.TrimSuffix(key, "model") + "e" + strconv.Itoa(i))
		pipe.Copy(b.Context(), model.key, s.key, db, false)
		if format == Plain {
			pipe.Copy(b.Context(), model.meta, s.meta, db, false)
		}
	}
	if _, err := pipe.Exec(b.Context()); err != nil {
		b.Fatal(err)
	}
}

var commandStat = regexp.MustCompile(`cmdstat_(\w+):calls=\d+,usec=(\d+)`)

// commandTimes gives the microseconds that Redis has spent in each command.
func commandTimes(b *testing.B, c *Client) map[string]float64 {
	text, err := c.rdb.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	times := map[string]float64{}
	for _, m := range commandStat.FindAllStringSubmatch(text, -1) {
		times[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	return times
}
