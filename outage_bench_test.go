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

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// outageBench is a table with a rule and one without, on a Postgres that waits for its disk, beside a Redis that does not answer.
type outageBench struct {
	plain *sql.DB // pgx without us
	db    *sql.DB
}

// Each worker has rows of its own, so that none waits for another's lock.
const rowsOfWorker = 100

const outageSQL = `CREATE TABLE members (id bigint PRIMARY KEY, name text NOT NULL, bio text NOT NULL, n bigint NOT NULL) WITH (fillfactor = 50);
	INSERT INTO members SELECT n, 'Member number ' || n, repeat('She writes. ', 20), 0 FROM generate_series(1, 3200) n;
	CREATE TABLE unruled (LIKE members INCLUDING ALL); INSERT INTO unruled SELECT * FROM members`

// newOutageBench opens both, and has the writers of one found out that Redis does not answer. Under owed all every entry is owed.
func newOutageBench(b *testing.B, server, redisURL string, conns int, owed bool) *outageBench {
	b.Helper()
	dsn, schema := testenv.Schema(b, server)
	o := &outageBench{plain: openPlain(b, dsn)}
	for _, text := range []string{outageSQL, "VACUUM ANALYZE members, unruled"} {
		if _, err := o.plain.Exec(text); err != nil {
			b.Fatal(err)
		}
	}
	cfg := wtcache.Config{
		Redis:  redisClient(b, redisURL),
		Rules:  fstest.MapFS{"members.yaml": {Data: fmt.Appendf(nil, "table: %s.members\nkey: \"%s{id}\"\n", schema, testenv.KeyPrefix(b))}},
		Outbox: testenv.Outbox(b, server), Watch: time.Millisecond, MaxQueuedKeys: 1 << 30,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if owed {
		cfg.MaxQueuedKeys = 1
	}
	var err error
	if o.db, err = wtcache.OpenDB(pgxConnector(b, dsn), cfg); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = o.db.Close() })
	for _, db := range []*sql.DB{o.plain, o.db} {
		db.SetMaxOpenConns(conns)
		db.SetMaxIdleConns(conns)
	}
	eventually(b, "the outage is known", func() bool {
		_, err := o.db.Exec("UPDATE members SET n = n + 1 WHERE id = $1", 1)
		s, errStats := wtcache.StatsOf(o.db)
		if err != nil || errStats != nil {
			b.Fatal(err, errStats)
		}
		return s.Redis.BreakerOpens > 0 && s.Outbox.Announced > 0 && (s.Outbox.Full > 0) == owed
	})
	return o
}

// outageWork is what a worker does over and over. id is its own.
type outageWork func(ctx context.Context, db *sql.DB, id int64) error

func updateOf(table string) outageWork {
	text := "UPDATE " + table + " SET n = n + 1 WHERE id = $1"
	return func(ctx context.Context, db *sql.DB, id int64) error {
		_, err := db.ExecContext(ctx, text, id)
		return err
	}
}

func fiveUpdates(ctx context.Context, db *sql.DB, id int64) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
	first := (id-1)/rowsOfWorker*rowsOfWorker + 1
	for i := range int64(5) {
		if _, err := tx.ExecContext(ctx, "UPDATE members SET n = n + 1 WHERE id = $1", first+(id-first+i)%rowsOfWorker); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// slice is how long one side works before it is the other's turn: long enough for many commits, and so short that the machine's moods
// meet both alike.
const slice = 50 * time.Millisecond

// rate is how much work so many workers do in a second.
func rate(b *testing.B, db *sql.DB, workers int, work outageWork) float64 {
	b.Helper()
	var done atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for w := range int64(workers) {
		all.Go(func() {
			for i := int64(0); time.Since(began) < slice; i++ {
				if err := work(b.Context(), db, 1+w*rowsOfWorker+i%rowsOfWorker); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	all.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

// compare takes both in turn, and gives the median of what the one costs over what the other does.
func (o *outageBench) compare(b *testing.B, workers int, work outageWork) {
	var ratios, rates []float64
	rate(b, o.plain, workers, work) // so that its statements are prepared
	rate(b, o.db, workers, work)
	for i := 0; b.Loop(); i++ {
		var raw, ours float64
		if i%2 == 0 {
			raw = rate(b, o.plain, workers, work)
			ours = rate(b, o.db, workers, work)
		} else {
			ours = rate(b, o.db, workers, work)
			raw = rate(b, o.plain, workers, work)
		}
		ratios, rates = append(ratios, raw/ours), append(rates, raw)
	}
	slices.Sort(ratios)
	slices.Sort(rates)
	b.ReportMetric(ratios[len(ratios)/2], "x-of-raw")
	b.ReportMetric(ratios[len(ratios)/4], "x-of-raw-25%")
	b.ReportMetric(ratios[len(ratios)*3/4], "x-of-raw-75%")
	b.ReportMetric(rates[len(rates)/2], "raw/s")
	b.ReportMetric(0, "ns/op") // of a round: says nothing
}

// BenchmarkOutage is what writes cost while Redis does not answer, over what they cost with pgx alone: x-of-raw. While keys are queued one by
// one each write has a row of the outbox beside it; once everything is owed it has not. What has no rule is to cost the same.
func BenchmarkOutage(b *testing.B) {
	redis.SetLogger(&logging.VoidLogger{}) // it tells of each connection that is refused
	server := testenv.NewPostgres(b, testenv.PostgresOptions{Durable: true, Settings: map[string]string{"shared_buffers": "256MB"}})
	for _, state := range []string{"refused", "hangs"} {
		url := "unix://" + b.TempDir() + "/redis.sock"
		if state == "hangs" {
			server := testenv.NewRedis(b)
			server.Pause()
			b.Cleanup(server.Resume)
			url = server.URL
		}
		for _, conns := range []int{1, 8, 32} {
			for _, c := range []struct {
				name string
				owed bool
				work outageWork
			}{
				{"update/everything-owed", true, updateOf("members")},
				{"five-updates/everything-owed", true, fiveUpdates},
				{"update/queued", false, updateOf("members")},
				{"five-updates/queued", false, fiveUpdates},
				{"unruled", true, updateOf("unruled")},
			} {
				b.Run(fmt.Sprintf("redis=%s/conns=%d/%s", state, conns, c.name), func(b *testing.B) {
					newOutageBench(b, server.URL, url, conns, c.owed).compare(b, conns, c.work)
				})
			}
		}
	}
}
