package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// depotSetup are tables with rules of every kind that queues: one entry, so that a write can be fenced before it runs; two entries
// and a shared key, so that it cannot; and an eventual one.
func depotSetup(outbox, redis string) shelfSetup {
	return shelfSetup{
		ddl: `CREATE TABLE goods (id int PRIMARY KEY, code text UNIQUE NOT NULL, shelf int NOT NULL, n int NOT NULL);
			CREATE TABLE crates (id int PRIMARY KEY, n int NOT NULL);
			CREATE TABLE loose (id int PRIMARY KEY, n int NOT NULL);
			INSERT INTO goods SELECT i, 'c' || i, i % 3, 0 FROM generate_series(1, 9) i;
			INSERT INTO crates SELECT i, 0 FROM generate_series(1, 9) i;
			INSERT INTO loose SELECT i, 0 FROM generate_series(1, 9) i`,
		rules: map[string]string{
			"goods":  "table: {S}.goods\nentries:\n  - {name: by_id, key: \"{P}good:{id}\"}\n  - {name: by_code, key: \"{P}code:{code}\"}\ninvalidate: [\"{P}shelf:{shelf}\"]\n",
			"crates": "table: {S}.crates\nkey: \"{P}crate:{id}\"\n",
			"loose":  "table: {S}.loose\nkey: \"{P}loose:{id}\"\nconsistency: eventual\nttl: 1m\n",
		},
		redis:  redis,
		config: withOutboxIn(outbox),
	}
}

// depot is a shelf whose process reaches Redis through a link that a test can cut.
type depot struct {
	*shelf
	outbox string // schema
	link   *testenv.Proxy
	last   int64 // row of the outbox that debts has given
}

type good struct {
	ID    int    `json:"id"`
	Code  string `json:"code"`
	Shelf int    `json:"shelf"`
	N     int    `json:"n"`
}

type crate struct{ ID, N int }

func newDepot(t *testing.T) *depot {
	t.Helper()
	d := &depot{outbox: testenv.Outbox(t, testenv.Postgres(t)), link: testenv.ProxyURL(t, testenv.RealRedis(t))}
	d.shelf = newShelf(t, depotSetup(d.outbox, d.link.URL))
	d.rdb = redisClient(t, testenv.RealRedis(t)) // past the link
	return d
}

// through opens the depot's tables once more: the writer of the test, in another of pgx' modes or by another way to Postgres.
func (d *depot) through(base driver.Connector) *sql.DB {
	d.t.Helper()
	cfg := wtcache.Config{
		Redis: redisClient(d.t, d.link.URL), Rules: d.rules,
		Logger: slog.New(slog.NewTextHandler(d.heard, nil)), OnError: d.heard.error,
	}
	withOutboxIn(d.outbox)(&cfg)
	db, err := wtcache.OpenDB(base, cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (d *depot) connector(change func(*pgx.ConnConfig)) driver.Connector {
	d.t.Helper()
	cfg, err := pgx.ParseConfig(d.dsn)
	if err != nil {
		d.t.Fatal(err)
	}
	change(cfg)
	return stdlib.GetConnector(*cfg)
}

// beside opens another process, whose link to Redis is fine.
func (d *depot) beside() *shelf {
	d.t.Helper()
	other := *d.shelf
	other.heard = &heard{}
	other.db, other.sent = other.open(shelfSetup{config: withOutboxIn(d.outbox)})
	return &other
}

// withOutboxIn is for a Redis that may not answer.
func withOutboxIn(schema string) func(*wtcache.Config) {
	return func(c *wtcache.Config) {
		c.Outbox, c.Watch, c.RedisTimeout = schema, 200*time.Millisecond, 200*time.Millisecond
		c.FenceLife = 3 * time.Second // of fences that arrive late, too, which keep their keys out of use
	}
}

func count(t testing.TB, db *sql.DB, from string) (n int) {
	t.Helper()
	if err := db.QueryRow("SELECT count(*) FROM " + from).Scan(&n); err != nil {
		t.Fatalf("count %s: %v", from, err)
	}
	return n
}

// settled waits until the outbox is empty and no outage is announced.
func settled(t testing.TB, plain *sql.DB, outbox string) {
	t.Helper()
	eventually(t, "the outbox is empty and the outage over", func() bool {
		return count(t, plain, outbox+".outbox") == 0 && count(t, plain, outbox+".outage") == 0
	})
}

// debts gives what the outbox was given since the last call: keys, and the globs of sweeps, without the test's prefix.
func (d *depot) debts() (owed []string) {
	d.t.Helper()
	rows, err := d.plain.Query("SELECT id, debt::text FROM "+d.outbox+".outbox WHERE id > $1 ORDER BY id", d.last)
	if err != nil {
		d.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var text string
		var debt struct {
			Keys   []string
			Sweeps []struct{ Globs []string }
		}
		if err := rows.Scan(&d.last, &text); err != nil {
			d.t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &debt); err != nil {
			d.t.Fatalf("%s: %v", text, err)
		}
		owed = append(owed, debt.Keys...)
		for _, s := range debt.Sweeps {
			owed = append(owed, s.Globs...)
		}
	}
	if err := rows.Err(); err != nil {
		d.t.Fatal(err)
	}
	for i := range owed {
		owed[i] = strings.ReplaceAll(strings.TrimPrefix(owed[i], d.prefix), `\`, "")
	}
	slices.Sort(owed)
	return owed
}

// wantTrue reads all rows, until Redis serves them: each must be as it is in the database.
func (h *shelf) wantTrue() {
	h.t.Helper()
	crates, goods, codes := readerOf[crate](h.t, h.db, "crates"), readerOf[good](h.t, h.db, "goods.by_id"), readerOf[good](h.t, h.db, "goods.by_code")
	byID, byCode := h.goods()
	for id := range 12 {
		wantHit(h.t, goods, byID[id], id)
		var n int
		err := h.plain.QueryRow("SELECT n FROM crates WHERE id = $1", id).Scan(&n)
		if err != nil && !isNoRows(err) {
			h.t.Fatal(err)
		}
		wantHit(h.t, crates, map[bool]*crate{err == nil: {id, n}}[true], id)
	}
	for _, code := range slices.Concat([]string{"new", "other"}, []string{"c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8", "c9", "c10"}) {
		wantHit(h.t, codes, byCode[code], code)
	}
}

func (h *shelf) goods() (byID map[int]*good, byCode map[string]*good) {
	h.t.Helper()
	rows, err := h.plain.Query("SELECT id, code, shelf, n FROM goods")
	if err != nil {
		h.t.Fatal(err)
	}
	defer rows.Close()
	byID, byCode = map[int]*good{}, map[string]*good{}
	for rows.Next() {
		var g good
		if err := rows.Scan(&g.ID, &g.Code, &g.Shelf, &g.N); err != nil {
			h.t.Fatal(err)
		}
		byID[g.ID], byCode[g.Code] = &g, &g
	}
	return byID, byCode
}

// wantHit reads a row until it comes from Redis, and wants it to be the row on the way and then; nil: no row, which is not cached.
func wantHit[T comparable](t testing.TB, r *wtcache.Reader[T], want *T, key any) {
	t.Helper()
	eventually(t, fmt.Sprintf("a hit for %v", key), func() bool {
		row := seen(t, r, key)
		if row.Found != (want != nil) || want != nil && row.Value != *want {
			t.Fatalf("a reader gets %+v for %v (found: %v, from cache: %v), and in the database is %+v", row.Value, key, row.Found, row.FromCache, want)
		}
		return row.FromCache || want == nil
	})
}

// gate holds scripts back from Redis while it is closed, as many as come.
type gate struct {
	names map[string]string
	hold  string // the script's name

	mu   sync.Mutex
	shut chan struct{} // closed when the gate opens; nil while it is open
	held int
}

var _ redis.Hook = (*gate)(nil)

func newGate(t testing.TB, script string) *gate {
	t.Helper()
	names, err := scriptNames()
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{names: names, hold: script}
	t.Cleanup(g.open)
	return g
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut == nil {
		g.shut = make(chan struct{})
	}
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.shut != nil {
		close(g.shut)
		g.shut = nil
	}
}

// holding says how many requests were held back.
func (g *gate) holding() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// pass waits for the gate, or until the request's time is over.
func (g *gate) pass(ctx context.Context, cmds ...redis.Cmder) error {
	if !slices.ContainsFunc(cmds, func(cmd redis.Cmder) bool {
		args := cmd.Args()
		return len(args) > 1 && strings.HasPrefix(cmd.Name(), "eval") && g.names[fmt.Sprint(args[1])] == g.hold
	}) {
		return nil
	}
	g.mu.Lock()
	shut := g.shut
	if shut != nil {
		g.held++
	}
	g.mu.Unlock()
	if shut == nil {
		return nil
	}
	select {
	case <-shut:
		return nil
	case <-ctx.Done():
		for _, cmd := range cmds {
			cmd.SetErr(ctx.Err())
		}
		return ctx.Err()
	}
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := g.pass(ctx, cmd); err != nil {
			return err
		}
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := g.pass(ctx, cmds...); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}
