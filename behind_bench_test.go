package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// asyncBench is one table under three hands: pgx alone, a rule, and the same rule with `apply: async`.
type asyncBench struct{ raw, sync, async *sql.DB }

func newAsyncBench(b *testing.B, server string, conns int) *asyncBench {
	b.Helper()
	dsn, schema := testenv.Schema(b, server)
	a := &asyncBench{raw: openPlain(b, dsn)}
	for _, text := range []string{outageSQL, "VACUUM ANALYZE members, unruled"} {
		if _, err := a.raw.Exec(text); err != nil {
			b.Fatal(err)
		}
	}
	open := func(more string) *sql.DB {
		text := fmt.Sprintf("table: %s.members\nkey: \"%s{id}\"\n%s", schema, testenv.KeyPrefix(b), more)
		db, err := wtcache.OpenDB(pgxConnector(b, dsn), wtcache.Config{
			Redis: redisClient(b, testenv.RealRedis(b)), Rules: fstest.MapFS{"members.yaml": {Data: []byte(text)}},
			Outbox: wtcache.OutboxOff, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = db.Close() })
		return db
	}
	a.sync, a.async = open(""), open(asyncRule)
	for _, db := range []*sql.DB{a.raw, a.sync, a.async} {
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
	}
	return a
}

// thinking is what a program does between two calls when it pauses.
const thinking = 2 * time.Millisecond

// compare has each worker do the same under all three hands in turn, call by call, so that the machine's moods meet them
// alike, and gives medians of what a caller waits under one hand over what he does under another.
func (a *asyncBench) compare(b *testing.B, workers int, pause bool, work outageWork) {
	hands := []*sql.DB{a.raw, a.sync, a.async}
	for _, db := range hands {
		rate(b, db, workers, work) // so that its statements are prepared
	}
	before := []wtcache.Stats{{}, statsOf(b, a.sync), statsOf(b, a.async)}
	var mu sync.Mutex // guards took
	var took [3][]time.Duration
	var all sync.WaitGroup
	var round atomic.Int64
	b.ResetTimer()
	for w := range int64(workers) {
		all.Go(func() {
			var mine [3][]time.Duration
			for n := round.Add(1); n <= int64(b.N); n = round.Add(1) {
				for turn := range int64(3) {
					hand := (n + turn) % 3
					for i := range int64(4) { // several by one hand, so that they can meet
						began := time.Now()
						if err := work(b.Context(), hands[hand], 1+w*rowsOfWorker+(4*n+i)%rowsOfWorker); err != nil {
							b.Error(err)
							return
						}
						mine[hand] = append(mine[hand], time.Since(began))
						if pause {
							time.Sleep(thinking)
						}
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			for hand := range mine {
				took[hand] = append(took[hand], mine[hand]...)
			}
		})
	}
	all.Wait()
	b.StopTimer()
	at := func(hand, percent int) float64 {
		slices.Sort(took[hand])
		return float64(took[hand][len(took[hand])*percent/100])
	}
	for _, percent := range []int{50, 95} {
		b.ReportMetric(at(2, percent)/at(1, percent), fmt.Sprintf("async/sync-p%d", percent))
	}
	b.ReportMetric(at(1, 50)/at(0, 50), "sync/raw-p50")
	b.ReportMetric(at(2, 50)/at(0, 50), "async/raw-p50")
	for hand, name := range []string{1: "sync", 2: "async"} {
		if hand > 0 {
			now := statsOf(b, hands[hand])
			b.ReportMetric(float64(now.Redis.Stored-before[hand].Redis.Stored)/float64(now.Redis.Fences-before[hand].Redis.Fences), "stored-"+name)
		}
	}
	b.ReportMetric(at(0, 50)/1e3, "raw-us")
	now := statsOf(b, a.async)
	b.ReportMetric(float64(now.AppliesInLine-before[2].AppliesInLine)/float64(now.Committed-before[2].Committed), "by-caller")
	b.ReportMetric(0, "ns/op") // of a round: says nothing
}

func statsOf(t testing.TB, db *sql.DB) wtcache.Stats {
	t.Helper()
	s, err := wtcache.StatsOf(db)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// oneRowEach has each worker write the same row again and again, so that it comes back before its last apply is done.
func oneRowEach(ctx context.Context, db *sql.DB, id int64) error {
	_, err := db.ExecContext(ctx, "UPDATE members SET n = n + 1 WHERE id = $1", (id-1)/rowsOfWorker*rowsOfWorker+1)
	return err
}

// BenchmarkAsync is what `apply: async` saves its callers, and which part of the fenced keys was stored by their writes.
func BenchmarkAsync(b *testing.B) {
	server := testenv.NewPostgres(b, testenv.PostgresOptions{Durable: true, Settings: map[string]string{"shared_buffers": "256MB"}})
	for _, conns := range []int{1, 8, 32} {
		for _, c := range []struct {
			name  string
			pause bool
			work  outageWork
		}{
			{"update/pause", true, updateOf("members")},
			{"update/at-once", false, updateOf("members")},
			{"same-row/at-once", false, oneRowEach},
			{"five-updates/pause", true, fiveUpdates},
			{"five-updates/at-once", false, fiveUpdates},
		} {
			b.Run(fmt.Sprintf("conns=%d/%s", conns, c.name), func(b *testing.B) {
				newAsyncBench(b, server.URL, conns).compare(b, conns, c.pause, c.work)
			})
		}
	}
}
