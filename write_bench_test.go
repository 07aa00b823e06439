package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// writeBench is a ruled table on a Postgres that waits for its disk, beside a Redis that answers.
type writeBench struct {
	plain *sql.DB // pgx without us
	db    *sql.DB
	rdb   *redis.Client
	keys  string // their prefix
}

func newWriteBench(b *testing.B, server, rows string) *writeBench {
	b.Helper()
	dsn, schema := testenv.Schema(b, server)
	w := &writeBench{plain: openPlain(b, dsn), rdb: redisClient(b, testenv.RealRedis(b)), keys: testenv.KeyPrefix(b)}
	for _, text := range []string{
		`CREATE TABLE members (id bigint PRIMARY KEY, name text NOT NULL, bio text NOT NULL, n bigint NOT NULL, seen timestamptz NOT NULL DEFAULT now()) WITH (fillfactor = 50)`,
		`INSERT INTO members SELECT n, 'Member number ' || n, repeat('She writes. ', 20), 0 FROM generate_series(1, ` + rows + `) n`,
		"VACUUM ANALYZE members",
	} {
		if _, err := w.plain.Exec(text); err != nil {
			b.Fatal(err)
		}
	}
	var err error
	w.db, err = wtcache.OpenDB(pgxConnector(b, dsn), wtcache.Config{
		Redis:  redisClient(b, testenv.RealRedis(b)),
		Rules:  fstest.MapFS{"members.yaml": {Data: fmt.Appendf(nil, "table: %s.members\nkey: \"%s{id}\"\n", schema, w.keys)}},
		Outbox: wtcache.OutboxOff, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = w.db.Close() })
	for _, db := range []*sql.DB{w.plain, w.db} {
		db.SetMaxOpenConns(1)
	}
	return w
}

// inTurn takes two ways of one work in turn, call by call, and gives the median of what the second costs over the first.
// before is run before each call and not timed.
func inTurn(b *testing.B, before func(), base, ours func(ctx context.Context, i int64) error) {
	b.Helper()
	var times [2][]time.Duration
	for i := int64(0); b.Loop(); i++ {
		for turn := range int64(2) {
			side := (turn + i) % 2
			if before != nil {
				before()
			}
			began := time.Now()
			if err := []func(context.Context, int64) error{base, ours}[side](b.Context(), i); err != nil {
				b.Fatal(err)
			}
			times[side] = append(times[side], time.Since(began))
		}
	}
	p50 := func(side int) time.Duration {
		slices.Sort(times[side])
		return times[side][len(times[side])/2]
	}
	b.ReportMetric(float64(p50(1))/float64(p50(0)), "x-of-base")
	b.ReportMetric(float64(p50(0).Microseconds()), "base-µs")
	b.ReportMetric(float64((p50(1) - p50(0)).Microseconds()), "more-µs")
	b.ReportMetric(0, "ns/op") // of a round: says nothing
}

const (
	memberUpdate    = "UPDATE members SET n = n + 1 WHERE id = $1"
	memberReturning = memberUpdate + " RETURNING row_to_json(members.*)::text"
)

func (w *writeBench) update(db *sql.DB, text string) func(context.Context, int64) error {
	return func(ctx context.Context, i int64) error {
		_, err := db.ExecContext(ctx, text, 1+i%rowsOfWorker)
		return err
	}
}

// dual is what people write by hand.
func (w *writeBench) dual(ctx context.Context, i int64) error {
	id := 1 + i%rowsOfWorker
	var payload string
	if err := w.plain.QueryRowContext(ctx, memberReturning, id).Scan(&payload); err != nil {
		return err
	}
	return w.rdb.Set(ctx, fmt.Sprintf("%shand%d", w.keys, id), payload, time.Hour).Err()
}

func five(db *sql.DB) func(context.Context, int64) error {
	return func(ctx context.Context, i int64) error { return fiveUpdates(ctx, db, 1+i%rowsOfWorker) }
}

// BenchmarkRuledWrite is what a strict write costs over pgx alone, and over the dual write that people write by hand.
func BenchmarkRuledWrite(b *testing.B) {
	server := testenv.NewPostgres(b, testenv.PostgresOptions{Durable: true, Settings: map[string]string{"shared_buffers": "256MB"}})
	w := newWriteBench(b, server.URL, "3200")
	b.Run("update/raw", func(b *testing.B) { inTurn(b, nil, w.update(w.plain, memberUpdate), w.update(w.db, memberUpdate)) })
	b.Run("update/dual", func(b *testing.B) { inTurn(b, nil, w.dual, w.update(w.db, memberUpdate)) })
	b.Run("lock-first/raw", func(b *testing.B) {
		text := "UPDATE members SET n = n + 1 WHERE id IN ($1, 0)"
		inTurn(b, nil, w.update(w.plain, text), w.update(w.db, text))
	})
	b.Run("five/raw", func(b *testing.B) { inTurn(b, nil, five(w.plain), five(w.db)) })
}

// BenchmarkLargeWrite is what one UPDATE of many rows costs over pgx alone, and the memory that it takes at most: of a text that
// is sent again and again, and of one that is sent once.
func BenchmarkLargeWrite(b *testing.B) {
	server := testenv.NewPostgres(b, testenv.PostgresOptions{Durable: true, Settings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "8GB", "autovacuum": "off"}})
	for _, rows := range []string{"1000", "10000", "100000", "300000"} {
		b.Run("rows="+rows, func(b *testing.B) {
			w := newWriteBench(b, server.URL, rows)
			large := func(db *sql.DB, text string) func(context.Context, int64) error {
				return func(ctx context.Context, i int64) error {
					_, err := db.ExecContext(ctx, strings.ReplaceAll(text, "%d", strconv.FormatInt(i, 10)), 0)
					return err
				}
			}
			const again, once = "UPDATE members SET n = n + 1 WHERE id > $1", "UPDATE members SET n = n + 1 WHERE id > $1 -- %d"
			b.Run("again", func(b *testing.B) { largePair(b, w, large(w.plain, again), large(w.db, again)) })
			b.Run("once", func(b *testing.B) { largePair(b, w, large(w.plain, once), large(w.db, once)) })
		})
	}
}

func largePair(b *testing.B, w *writeBench, base, ours func(context.Context, int64) error) {
	peak := uint64(0)
	watched := func(ctx context.Context, i int64) error {
		stop := make(chan uint64)
		go func() { stop <- heapPeak(stop) }()
		err := ours(ctx, i)
		stop <- 0
		peak = max(peak, <-stop)
		return err
	}
	vacuum := func() {
		if _, err := w.plain.Exec("VACUUM members"); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
	}
	if err := ours(b.Context(), -1); err != nil { // the first run of a text finds out how many rows it writes
		b.Fatal(err)
	}
	inTurn(b, vacuum, base, watched)
	b.ReportMetric(float64(peak)/1e6, "peak-MB")
}

// heapPeak looks at the heap until it is told to stop.
func heapPeak(stop <-chan uint64) (peak uint64) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	first := m.HeapAlloc
	for {
		select {
		case <-stop:
			return peak
		case <-time.After(5 * time.Millisecond):
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc-min(first, m.HeapAlloc))
		}
	}
}
