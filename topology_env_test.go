package wtcache_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A deployment is a way to run Redis. The driver makes its own client from the URL, as
// it does for users; the tests look through another one.
type deployment struct {
	url    func(t testing.TB) string
	client func(t testing.TB, url string) redis.UniversalClient
}

var (
	single   = deployment{testenv.Redis, openClient}
	cluster  = deployment{testenv.Cluster, openClient}
	sentinel = deployment{testenv.Sentinel, openClient}
)

// openClient makes a client as the URL says. It repeats what fails and soon asks anew who
// serves what: what it looks at is to be seen, not how.
func openClient(t testing.TB, rawURL string) redis.UniversalClient {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	var client redis.UniversalClient
	switch q := u.Query(); {
	case q.Has("master_name"):
		var o *redis.FailoverOptions
		if o, err = redis.ParseFailoverURL(rawURL); err == nil {
			client = redis.NewFailoverClient(o)
		}
	case q.Has("addr"):
		var o *redis.ClusterOptions
		if o, err = redis.ParseClusterURL(rawURL); err == nil {
			o.ClusterStateReloadInterval, o.ReadTimeout = 200*time.Millisecond, time.Second
			client = redis.NewClusterClient(o)
		}
	default:
		var o *redis.Options
		if o, err = redis.ParseURL(rawURL); err == nil {
			client = redis.NewClient(o)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// eachServer calls fn for each server that holds keys, of a Cluster side by side.
func eachServer(ctx context.Context, rdb redis.UniversalClient, fn func(context.Context, redis.Cmdable) error) error {
	if c, ok := rdb.(*redis.ClusterClient); ok {
		return c.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error { return fn(ctx, node) })
	}
	return fn(ctx, rdb)
}

// taggedFamily has keys with a hash tag of their own, so that those of a tenant are in
// one slot of a Cluster, beside entries that are spread over all.
var taggedFamily = &family{
	name:  "hash tags",
	ddl:   `CREATE TABLE orders (tenant int, id int, body text, code text UNIQUE, PRIMARY KEY (tenant, id))`,
	seed:  `TRUNCATE orders; INSERT INTO orders SELECT t, i, 'b' || i, t || '-' || i FROM generate_series(1, 4) t, generate_series(1, 3) i`,
	touch: []string{`UPDATE orders SET body = 'written' WHERE tenant < 3`},
	rules: map[string]string{"orders": `
table: {{S}}.orders
entries:
  - {name: tagged, key: "{{P}}order:{{{tenant}}}:{id}"}
  - {name: tagged_plain, key: "{{P}}plain:{{{tenant}}}:{id}", format: plain}
  - {name: spread, key: "{{P}}code:{code}"}
invalidate: ["{{P}}orders:{{{tenant}}}"]
`},
	tables: []table{{name: "{{S}}.orders", shared: []string{"orders:{{{tenant}}}"}, entries: []entry{
		{get: "orders.tagged", key: "order:{{{tenant}}}:{id}"},
		{get: "orders.tagged_plain", key: "plain:{{{tenant}}}:{id}", plain: true},
		{get: "orders.spread", key: "code:{code}"},
	}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO orders VALUES (1, 9, 'new', 'x'), (5, 1, 'new', 'y')`},
		{name: "insert, arguments", sql: `INSERT INTO orders (tenant, id, body, code) VALUES ($1, $2, 'new', $3)`, args: []any{7, 7, "z"}},
		{name: "update of one", sql: `UPDATE orders SET body = $1 WHERE tenant = $2 AND id = $3`, args: []any{"new", 1, 2}},
		{name: "update of one tenant", sql: `UPDATE orders SET body = 'new' WHERE tenant = 2`},
		{name: "update of all", sql: `UPDATE orders SET body = body || '!' RETURNING id`, how: byQuery},
		{name: "update that moves rows to another tenant", sql: `UPDATE orders SET tenant = tenant + 10 WHERE id = 1`},
		{name: "update of the other key", sql: `UPDATE orders SET code = 'c' || code WHERE tenant = 3`},
		{name: "delete", sql: `DELETE FROM orders WHERE id = 2`},
		{name: "several statements", sql: `UPDATE orders SET body = 'x' WHERE tenant = 1; DELETE FROM orders WHERE tenant = 2; INSERT INTO orders VALUES (8, 8, 'n', 'n')`},
		{name: "conflict", sql: `INSERT INTO orders VALUES (1, 1, 'c', 'c'), (6, 6, 'd', 'd') ON CONFLICT (tenant, id) DO UPDATE SET body = EXCLUDED.body`},
		{name: "truncate", sql: `TRUNCATE orders`, class: coarse},
		{name: "merge", sql: `MERGE INTO orders o USING (SELECT 1 AS t) s ON o.tenant = s.t WHEN MATCHED THEN UPDATE SET body = 'merged'`, class: coarse},
	},
}

// wantNoCrossSlot asks a Cluster's servers whether any call ever named keys of several
// slots: such a call never works, however often it is tried.
func wantNoCrossSlot(t *testing.T, rdb redis.UniversalClient) {
	t.Helper()
	err := eachServer(context.Background(), rdb, func(ctx context.Context, node redis.Cmdable) error {
		stats, err := node.Info(ctx, "errorstats").Result()
		if strings.Contains(stats, "CROSSSLOT") {
			t.Errorf("a server had calls over several slots:\n%s", stats)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// fleetRows are enough for each server of a Cluster to hold some of them.
const fleetRows = 48

// fleet is a test's own table whose entries are spread over the servers of a deployment,
// and what writers were told of it. Its writes may run beside its reads.
type fleet struct {
	t       *testing.T
	prefix  string
	barrier string  // the rule's
	plain   *sql.DB // without wtcache
	db      *sql.DB // under test
	cache   *wtcache.Cache
	rdb     redis.UniversalClient // looks at what is in Redis
	heard   *heard

	acked [fleetRows + 1]atomic.Int64 // what the last acknowledged write of a row has set
	pace  sync.RWMutex                // held by each write: taken alone, no write is under way
}

func newFleet(t *testing.T, redisURL, rule string, adjust ...func(*wtcache.Config)) *fleet {
	t.Helper()
	f := &fleet{t: t, prefix: testenv.KeyPrefix(t), heard: &heard{}, rdb: openClient(t, redisURL)}
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	f.plain, f.barrier = openPlain(t, dsn), "wtcache:barrier:"+schema+".accounts"
	if _, err := f.plain.Exec(fmt.Sprintf("CREATE TABLE accounts (id int PRIMARY KEY, n bigint NOT NULL); INSERT INTO accounts SELECT i, 0 FROM generate_series(1, %d) i", fleetRows)); err != nil {
		t.Fatal(err)
	}
	cfg := wtcache.Config{
		RedisURL: redisURL,
		Rules: fstest.MapFS{"accounts.yaml": {Data: fmt.Appendf(nil,
			"table: %s.accounts\nkey: \"%saccount:{id}\"\n%s", schema, f.prefix, rule)}},
		Logger: slog.New(slog.NewTextHandler(f.heard, nil)), OnError: f.heard.error,
		Outbox: wtcache.OutboxOff,
	}
	for _, a := range adjust {
		a(&cfg)
	}
	var err error
	if f.db, err = wtcache.OpenDB(pgxConnector(t, dsn), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.db.Close() })
	if f.cache, err = wtcache.CacheOf(f.db); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fleet) key(id int) string { return fmt.Sprintf("%saccount:%d", f.prefix, id) }

// add raises rows by one, each in a statement, in one transaction or, for a single row,
// in none.
func (f *fleet) add(ids ...int) error {
	f.pace.RLock()
	defer f.pace.RUnlock()
	const text = "UPDATE accounts SET n = n + 1 WHERE id = $1 RETURNING n"
	got := make([]int64, len(ids))
	if len(ids) == 1 {
		if err := f.db.QueryRow(text, ids[0]).Scan(&got[0]); err != nil {
			return err
		}
		f.ack(ids[0], got[0])
		return nil
	}
	tx, err := f.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it has ended where all went well
	for i, id := range slices.Sorted(slices.Values(ids)) {
		ids[i] = id
		if err := tx.QueryRow(text, id).Scan(&got[i]); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	for i, id := range ids {
		f.ack(id, got[i])
	}
	return nil
}

func (f *fleet) ack(id int, n int64) {
	for old := f.acked[id].Load(); old < n && !f.acked[id].CompareAndSwap(old, n); old = f.acked[id].Load() {
	}
}

// read reads a row through the cache: it may not be older than what was acknowledged
// before.
func (f *fleet) read(id int) (fromCache bool) {
	least := f.acked[id].Load()
	var a struct{ N int64 }
	r, err := f.cache.Get(context.Background(), "accounts", &a, id)
	if err != nil {
		f.t.Errorf("read account %d: %v", id, err)
	} else if a.N < least {
		f.t.Errorf("account %d is STALE: a reader got %d (from the cache: %v) after %d had been acknowledged", id, a.N, r.FromCache, least)
	}
	return r.FromCache
}

// entry looks at Redis itself.
func (f *fleet) entry(id int) (n int64, there bool) {
	f.t.Helper()
	var text string
	var err error
	eventually(f.t, "Redis can be looked at", func() bool {
		text, err = f.rdb.Get(context.Background(), f.key(id)).Result()
		return err == nil || errors.Is(err, redis.Nil)
	})
	if err != nil {
		return 0, false
	}
	var envelope struct{ Data struct{ N int64 } }
	if err == nil {
		err = json.Unmarshal([]byte(text), &envelope)
	}
	if err != nil {
		f.t.Fatalf("look at account %d: %v", id, err)
	}
	return envelope.Data.N, true
}

// wantTrue: when all is quiet, every entry equals its row or is absent, and readers see
// the rows.
func (f *fleet) wantTrue() {
	f.t.Helper()
	for id := 1; id <= fleetRows; id++ {
		var want int64
		if err := f.plain.QueryRow("SELECT n FROM accounts WHERE id = $1", id).Scan(&want); err != nil {
			f.t.Fatal(err)
		}
		if got, there := f.entry(id); there && got != want {
			f.t.Errorf("account %d is STALE: it is cached as %d and is %d in Postgres", id, got, want)
		}
		f.read(id)
	}
}

// wantServed: a row can be written and is then served from the cache, at last.
func (f *fleet) wantServed(ids ...int) {
	f.t.Helper()
	for _, id := range ids {
		eventually(f.t, fmt.Sprintf("account %d is written through and served", id), func() bool {
			if err := f.add(id); errors.Is(err, wtcache.ErrRefused) {
				return false
			} else if err != nil {
				f.t.Fatal(err)
			}
			n, there := f.entry(id)
			return there && n == f.acked[id].Load() && f.read(id)
		})
	}
}

func (f *fleet) stats() wtcache.Stats {
	f.t.Helper()
	s, err := wtcache.StatsOf(f.db)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fleet) settle() {
	f.t.Helper()
	eventually(f.t, "nothing is owed", func() bool { return f.stats().Redis.Owed == 0 })
}

// traffic writes and reads all rows until the returned function is called. No write may
// fail and no read may be stale.
func (f *fleet) traffic() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	run := func(step func(i int)) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
					step(i)
				}
			}
		})
	}
	write := func(ids ...int) {
		if err := f.add(ids...); err != nil {
			f.t.Errorf("a write of %v: %v", ids, err)
		}
	}
	run(func(i int) { write(1 + i%fleetRows) })
	run(func(i int) { write(1+i%fleetRows, 1+(i+7)%fleetRows, 1+(i+19)%fleetRows) })
	run(func(i int) { f.read(1 + i*5%fleetRows) })
	run(func(i int) { f.read(1 + i*11%fleetRows) })
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// quietly runs fn while no write is under way and the replicas have all that was written:
// what a failover loses otherwise is the subject of other promises.
func (f *fleet) quietly(fn func()) {
	f.t.Helper()
	f.pace.Lock()
	defer f.pace.Unlock()
	err := eachServer(context.Background(), f.rdb, func(ctx context.Context, node redis.Cmdable) error {
		far, _, err := replication(ctx, node)
		for end := time.Now().Add(patience); err == nil; time.Sleep(5 * time.Millisecond) {
			var replicas int
			if _, replicas, err = replication(ctx, node); err == nil && replicas >= far {
				return nil
			}
			if time.Now().After(end) {
				return errors.New("the replicas lag behind")
			}
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	fn()
}

// replication says how far a master is, and how far the last of its replicas: -1 where
// there is none.
func replication(ctx context.Context, master redis.Cmdable) (far, replicas int, err error) {
	text, err := master.Info(ctx, "replication").Result()
	replicas = -1
	for line := range strings.Lines(text) {
		_, offset, _ := strings.Cut(line, "offset")
		n, _ := strconv.Atoi(strings.FieldsFunc(offset+" 0", func(r rune) bool { return r < '0' || r > '9' })[0])
		switch {
		case strings.HasPrefix(line, "master_repl_offset:"):
			far = n
		case strings.HasPrefix(line, "slave") && strings.Contains(line, "state=online") && (replicas < 0 || n < replicas):
			replicas = n
		}
	}
	return far, replicas, err
}
