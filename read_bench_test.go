package wtcache_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// member is a row of some 300 bytes as JSON, as services have them.
type member struct {
	ID      int64  `json:"id"`
	OrgID   int64  `json:"org_id"`
	Name    string `json:"name"`
	Email   string `json:"email"`
	Role    string `json:"role"`
	Active  bool   `json:"active"`
	Credit  int64  `json:"credit"`
	Bio     string `json:"bio"`
	Created string `json:"created"`
}

const memberSQL = `CREATE TABLE members (id bigint PRIMARY KEY, org_id bigint NOT NULL, name text NOT NULL, email text NOT NULL,
	role text NOT NULL, active boolean NOT NULL, credit bigint NOT NULL, bio text NOT NULL, created text NOT NULL);
	INSERT INTO members SELECT n, n % 10, 'Member number ' || n, 'member' || n || '@example.com', 'contributor', true, n * 7,
		repeat('She writes. ', 11) || 'Daily.', '2026-11-26T12:00:00Z' FROM generate_series(1, 1000) n`

type readBench struct {
	plain  *sql.DB // pgx without us
	db     *sql.DB
	rdb    *redis.Client
	prefix string
	reader *wtcache.Reader[member]
}

func newReadBench(b *testing.B, format string) *readBench {
	b.Helper()
	dsn, schema := testenv.Schema(b, testenv.Postgres(b))
	r := &readBench{plain: openPlain(b, dsn), prefix: testenv.KeyPrefix(b)}
	if _, err := r.plain.Exec(memberSQL); err != nil {
		b.Fatal(err)
	}
	r.rdb = redisClient(b, testenv.RealRedis(b))
	db, err := wtcache.OpenDB(pgxConnector(b, dsn), wtcache.Config{
		Redis: redisClient(b, testenv.RealRedis(b)),
		Rules: fstest.MapFS{"members.yaml": {Data: fmt.Appendf(nil, "table: %s.members\nkey: \"%s{id}\"\nformat: %s\n", schema, r.prefix, format)}},
	})
	if err != nil {
		b.Fatal(err)
	}
	r.db = db
	b.Cleanup(func() { _ = db.Close() })
	if r.reader, err = wtcache.ReaderOf[member](db, "members"); err != nil {
		b.Fatal(err)
	}
	return r
}

// keys are those of so many members.
func (r *readBench) keys(n int) []any {
	keys := make([]any, n)
	for i := range keys {
		keys[i] = i + 1
	}
	return keys
}

// forget makes members absent, as a write would.
func (r *readBench) forget(b *testing.B, n int) {
	b.Helper()
	names := make([]string, 0, 2*n)
	for i := range n {
		names = append(names, fmt.Sprintf("%s%d", r.prefix, i+1))
	}
	if err := r.rdb.Del(b.Context(), names...).Err(); err != nil {
		b.Fatal(err)
	}
}

// getRaw is the code that a hit replaces.
func (r *readBench) getRaw(b *testing.B) {
	text, err := r.rdb.Get(context.Background(), r.prefix+"raw").Bytes()
	var m member
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil || m.ID != 1 {
		b.Fatal(m, err)
	}
}

// BenchmarkReadHit is a hit against the code that it replaces: GET and json.Unmarshal with
// go-redis. Compare raw-plain with the formats: the ratio is what the reader costs.
func BenchmarkReadHit(b *testing.B) {
	ctx := context.Background()
	for _, format := range []string{"envelope", "plain", "hash", "versioned"} {
		r := newReadBench(b, format)
		if _, err := r.reader.Get(ctx, 1); err != nil {
			b.Fatal(err)
		}
		if format == "envelope" {
			first, err := r.reader.Get(ctx, 1)
			if err != nil {
				b.Fatal(err)
			}
			text, err := json.Marshal(first)
			if err != nil {
				b.Fatal(err)
			}
			r.rdb.Set(ctx, r.prefix+"raw", text, 0)
			b.Run("raw GET and json.Unmarshal", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					r.getRaw(b)
				}
				b.ReportMetric(float64(len(text)), "row-bytes")
			})
			r.rdb.Del(ctx, r.prefix+"raw")
		}
		b.Run(format, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				m, err := r.reader.Get(ctx, 1)
				if err != nil || m.ID != 1 {
					b.Fatal(m, err)
				}
			}
			b.ReportMetric(float64(r.memory(b)), "redis-bytes")
		})
	}
}

// BenchmarkReadRatio takes a hit and the code that it replaces in turn, so that the machine's
// moods meet both alike: x-of-raw is the time of hits over the time of GET and json.Unmarshal.
func BenchmarkReadRatio(b *testing.B) {
	ctx := context.Background()
	for _, format := range []string{"envelope", "plain", "hash", "versioned"} {
		b.Run(format, func(b *testing.B) {
			r := newReadBench(b, format)
			first, err := r.reader.Get(ctx, 1)
			if err != nil {
				b.Fatal(err)
			}
			text, err := json.Marshal(first)
			if err != nil {
				b.Fatal(err)
			}
			r.rdb.Set(ctx, r.prefix+"raw", text, 0)
			defer r.rdb.Del(ctx, r.prefix+"raw")
			var raw, hit time.Duration
			for b.Loop() {
				began := time.Now()
				r.getRaw(b)
				between := time.Now()
				if m, err := r.reader.Get(ctx, 1); err != nil || m.ID != 1 {
					b.Fatal(m, err)
				}
				raw, hit = raw+between.Sub(began), hit+time.Since(between)
			}
			b.ReportMetric(float64(hit)/float64(raw), "x-of-raw")
		})
	}
}

// memory is what all names of member 1's entry take in Redis.
func (r *readBench) memory(b *testing.B) (bytes int64) {
	b.Helper()
	for _, name := range r.rdb.Keys(b.Context(), "*"+r.prefix+"*").Val() {
		if strings.Contains(name, r.prefix+"1") {
			bytes += r.rdb.MemoryUsage(b.Context(), name, 0).Val()
		}
	}
	return bytes
}

// BenchmarkReadMiss is a miss (look, lease, barrier, query, fill) against the query alone.
func BenchmarkReadMiss(b *testing.B) {
	ctx := context.Background()
	r := newReadBench(b, "envelope")
	b.Run("plain query", func(b *testing.B) {
		for b.Loop() {
			var m member
			if err := r.plain.QueryRow("SELECT * FROM members WHERE id = $1", 1).
				Scan(&m.ID, &m.OrgID, &m.Name, &m.Email, &m.Role, &m.Active, &m.Credit, &m.Bio, &m.Created); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("miss", func(b *testing.B) {
		const n = 1000
		for i := 0; b.Loop(); i++ {
			if i%n == 0 {
				b.StopTimer()
				r.forget(b, n)
				b.StartTimer()
			}
			if m, err := r.reader.Get(ctx, 1+i%n); err != nil || m.ID != int64(1+i%n) {
				b.Fatal(m, err)
			}
		}
	})
	b.Run("fresh", func(b *testing.B) {
		fresh := r.reader.With(wtcache.Fresh())
		for b.Loop() {
			if m, err := fresh.Get(ctx, 1); err != nil || m.ID != 1 {
				b.Fatal(m, err)
			}
		}
	})
}

// BenchmarkReadMany is GetMany of 100 rows against MGET and json.Unmarshal, and against the
// query of 100 rows.
func BenchmarkReadMany(b *testing.B) {
	const n = 100
	ctx := context.Background()
	r := newReadBench(b, "envelope")
	keys := r.keys(n)
	rows, err := r.reader.GetMany(ctx, keys...)
	if err != nil {
		b.Fatal(err)
	}
	raw := make([]string, n)
	for i, row := range rows {
		text, err := json.Marshal(row.Value)
		if err != nil {
			b.Fatal(err)
		}
		raw[i] = fmt.Sprintf("%sraw%d", r.prefix, i)
		r.rdb.Set(ctx, raw[i], text, 0)
	}
	b.Run("raw MGET and json.Unmarshal", func(b *testing.B) {
		for b.Loop() {
			for _, text := range r.rdb.MGet(ctx, raw...).Val() {
				var m member
				if err := json.Unmarshal([]byte(text.(string)), &m); err != nil || m.ID == 0 {
					b.Fatal(err)
				}
			}
		}
	})
	r.rdb.Del(ctx, raw...)
	get := func(b *testing.B) {
		rows, err := r.reader.GetMany(ctx, keys...)
		if err != nil || len(rows) != n || !rows[n-1].Found {
			b.Fatal(err)
		}
	}
	b.Run("hits", func(b *testing.B) {
		for b.Loop() {
			get(b)
		}
	})
	b.Run("plain query", func(b *testing.B) {
		for b.Loop() {
			rows, err := r.plain.Query("SELECT * FROM members WHERE id <= $1", n)
			if err != nil {
				b.Fatal(err)
			}
			for rows.Next() {
				var m member
				if err := rows.Scan(&m.ID, &m.OrgID, &m.Name, &m.Email, &m.Role, &m.Active, &m.Credit, &m.Bio, &m.Created); err != nil {
					b.Fatal(err)
				}
			}
			if err := rows.Err(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("misses", func(b *testing.B) {
		all := r.keys(1000)
		for i := 0; b.Loop(); i += n {
			if i%len(all) == 0 {
				b.StopTimer()
				r.forget(b, len(all))
				b.StartTimer()
			}
			rows, err := r.reader.GetMany(ctx, all[i%len(all):][:n]...)
			if err != nil || !rows[n-1].Found || rows[n-1].FromCache {
				b.Fatal(err)
			}
		}
	})
}
