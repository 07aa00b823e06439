package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// ledgerSQL is the table that the outcome tests write. The foreign key is looked at by
// COMMIT, so that a test can make COMMIT fail.
const ledgerSQL = `CREATE TABLE owners (id int PRIMARY KEY);
CREATE TABLE unruled (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO unruled VALUES (1, 0);
CREATE TABLE accounts (id int PRIMARY KEY, n int NOT NULL, owner int REFERENCES owners DEFERRABLE INITIALLY DEFERRED);
INSERT INTO accounts SELECT i, 0 FROM generate_series(1, 9) i`

// Statements on the ledger, by the way that autocommit takes for them.
const (
	setFenceFirst = "UPDATE accounts SET n = $1 WHERE id = $2"
	setLockFirst  = "UPDATE accounts SET n = $1 WHERE abs(id) = $2"
)

// patience is for what must happen, however slow the machine.
const patience = 30 * time.Second

// ledger is a test's own table with a rule, and the ways to look at both sides of it.
type ledger struct {
	t                   *testing.T
	dsn, schema, prefix string
	plain               *sql.DB       // without wtcache
	rdb                 *redis.Client // looks at what is in Redis
	db                  *sql.DB       // under test
	cache               *wtcache.Cache
	heard               *heard
	format              string // of the entries; "" is the default
}

type ledgerSetup struct {
	server          string // URL of Postgres itself
	postgres, redis string // URLs through which the driver under test goes
	base            func(driver.Connector) driver.Connector
	rule            string // further lines of the rule file
	format          string // of the entries
	hook            redis.Hook
	config          func(*wtcache.Config)
}

// newLedger opens a ledger. What the setup leaves out are the servers that all tests share.
func newLedger(t *testing.T, s ledgerSetup) *ledger {
	t.Helper()
	l := &ledger{t: t, prefix: testenv.KeyPrefix(t), heard: &heard{}, format: s.format}
	if s.server == "" {
		s.server = testenv.Postgres(t)
	}
	l.dsn, l.schema = testenv.Schema(t, s.server)
	l.plain = openPlain(t, l.dsn)
	if _, err := l.plain.Exec(ledgerSQL); err != nil {
		t.Fatal(err)
	}
	if s.redis == "" {
		s.redis = testenv.RealRedis(t)
	}
	l.rdb = redisClient(t, s.redis)
	dsn := l.dsn
	if s.postgres != "" {
		dsn = withSearchPath(t, s.postgres, l.schema)
	}
	l.db = l.open(dsn, s)
	var err error
	if l.cache, err = wtcache.CacheOf(l.db); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *ledger) open(dsn string, s ledgerSetup) *sql.DB {
	l.t.Helper()
	if s.redis == "" {
		s.redis = testenv.RealRedis(l.t)
	}
	cfg := wtcache.Config{
		Redis:   redisClient(l.t, s.redis),
		Rules:   l.rules(s.rule),
		Logger:  slog.New(slog.NewTextHandler(l.heard, nil)),
		OnError: l.heard.error,
		// Only a server that is dead misses it; tests of deadlines set their own.
		RedisTimeout: 5 * time.Second,
		Outbox:       wtcache.OutboxOff, // most of these tests are of what goes on in memory
	}
	if s.hook != nil {
		cfg.Redis.AddHook(s.hook)
	}
	if s.config != nil {
		s.config(&cfg)
	}
	base := pgxConnector(l.t, dsn)
	if s.base != nil {
		base = s.base(base)
	}
	db, err := wtcache.OpenDB(base, cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (l *ledger) rules(more string) fstest.MapFS {
	return fstest.MapFS{"accounts.yaml": {Data: []byte(l.ruleText(more))}}
}

func (l *ledger) ruleText(more string) string {
	text := fmt.Sprintf("table: %s.accounts\nkey: \"%saccount:{id}\"\n%s", l.schema, l.prefix, more)
	if l.format != "" {
		text += "format: " + l.format + "\n"
	}
	return text
}

func pgxConnector(t testing.TB, dsn string) driver.Connector {
	t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	return stdlib.GetConnector(*cfg)
}

func openPlain(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func redisClient(t testing.TB, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled = true
	o.MaxRetries = -1
	rdb := redis.NewClient(o)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func withSearchPath(t testing.TB, dsn, schema string) string {
	t.Helper()
	if !strings.Contains(dsn, "?") {
		t.Fatalf("the test's DSN %q is not a URL with parameters", dsn)
	}
	return dsn + "&search_path=" + schema
}

func (l *ledger) exec(query string, args ...any) {
	l.t.Helper()
	if _, err := l.db.Exec(query, args...); err != nil {
		l.t.Fatalf("%s: %v", query, err)
	}
}

// on gives one connection of the driver under test.
func (l *ledger) on() *sql.Conn {
	l.t.Helper()
	conn, err := l.db.Conn(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// say sends texts over one connection, each of which must succeed.
func (l *ledger) say(conn *sql.Conn, texts ...string) {
	l.t.Helper()
	for _, text := range texts {
		if _, err := conn.ExecContext(context.Background(), text); err != nil {
			l.t.Fatalf("%s: %v", text, err)
		}
	}
}

func (l *ledger) key(id int) string { return fmt.Sprintf("%saccount:%d", l.prefix, id) }

func (l *ledger) control(id int) string { return "{" + l.key(id) + "}:wt" }

// warm has a reader fill the entries, so that there is something to go stale.
func (l *ledger) warm(ids ...int) {
	l.t.Helper()
	for _, id := range ids {
		l.read(id)
		if _, there := l.entry(id); !there {
			l.t.Fatalf("a reader did not fill account %d", id)
		}
	}
}

type account struct {
	ID    int  `json:"id"`
	N     int  `json:"n"`
	Owner *int `json:"owner"`
}

// read reads through the cache.
func (l *ledger) read(id int) int {
	l.t.Helper()
	var a account
	if _, err := l.cache.Get(context.Background(), "accounts", &a, id); err != nil {
		l.t.Fatalf("read account %d: %v", id, err)
	}
	return a.N
}

// entry looks at Redis itself.
func (l *ledger) entry(id int) (n int, there bool) {
	l.t.Helper()
	payload, there, err := readUnaware(context.Background(), l.rdb, l.key(id), l.format)
	var a account
	if err == nil && there {
		err = json.Unmarshal(payload, &a)
	}
	if err != nil {
		l.t.Fatalf("look at account %d: %v", id, err)
	}
	return a.N, there
}

// row looks at Postgres itself.
func (l *ledger) row(id int) (n int) {
	l.t.Helper()
	if err := l.plain.QueryRow("SELECT n FROM accounts WHERE id = $1", id).Scan(&n); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// fenced says whether a writer's token lies on the key.
func (l *ledger) fenced(id int) bool {
	l.t.Helper()
	tokens, err := tokensOn(context.Background(), l.rdb, l.control(id))
	if err != nil {
		l.t.Fatal(err)
	}
	return tokens > 0
}

// tokensOn counts the tokens on a control key, in either form of a fence.
func tokensOn(ctx context.Context, rdb redis.UniversalClient, control string) (n int, err error) {
	text, err := rdb.Get(ctx, control).Result()
	switch {
	case err == nil && strings.HasPrefix(text, "f:"):
		return 1, nil
	case err == nil || errors.Is(err, redis.Nil):
		return 0, nil
	case !redis.HasErrorPrefix(err, "WRONGTYPE"):
		return 0, err
	}
	fields, err := rdb.HKeys(ctx, control).Result()
	for _, field := range fields {
		if strings.HasPrefix(field, "t:") {
			n++
		}
	}
	return n, err
}

func (l *ledger) wantRow(id, n int) {
	l.t.Helper()
	if got := l.row(id); got != n {
		l.t.Errorf("account %d is %d in Postgres, want %d", id, got, n)
	}
}

// wantCached: the entry is there, holds n, and nothing bars it.
func (l *ledger) wantCached(id, n int) {
	l.t.Helper()
	if got, there := l.entry(id); !there || got != n {
		l.t.Errorf("account %d is cached as %d (there: %v), want %d", id, got, there, n)
	}
	if l.fenced(id) {
		l.t.Errorf("account %d is still fenced", id)
	}
}

func (l *ledger) wantAbsent(id int) {
	l.t.Helper()
	if n, there := l.entry(id); there {
		l.t.Errorf("account %d is cached as %d, want nothing", id, n)
	}
}

// wantInDoubt: nothing is cached and a fence keeps it so.
func (l *ledger) wantInDoubt(id int) {
	l.t.Helper()
	l.wantAbsent(id)
	if !l.fenced(id) {
		l.t.Errorf("account %d is not fenced while its COMMIT is in doubt", id)
	}
}

// wantTrue: every entry equals its row or is absent, and readers see the rows.
func (l *ledger) wantTrue() {
	l.t.Helper()
	for id := 1; id <= 9; id++ {
		want := l.row(id)
		if got, there := l.entry(id); there && got != want {
			l.t.Errorf("account %d is cached as %d and is %d in Postgres", id, got, want)
		}
		if got := l.read(id); got != want {
			l.t.Errorf("a reader gets %d for account %d, which is %d in Postgres", got, id, want)
		}
	}
}

func (l *ledger) stats() wtcache.Stats {
	l.t.Helper()
	s, err := wtcache.StatsOf(l.db)
	if err != nil {
		l.t.Fatal(err)
	}
	return s
}

// eventually waits for what must come true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	// Longer than the fences of the tests live: a request that reaches Redis late may leave one behind.
	for end := time.Now().Add(5 * patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never came true: %s", what)
		}
	}
}

// await waits for a channel to be closed or to give a value.
func await[T any](t testing.TB, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("never came: %s", what)
	}
	return v
}

// sqlState is the server's code in an error, "" for none.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// heard keeps what the driver logged and told OnError. It is safe for concurrent use.
type heard struct {
	mu     sync.Mutex
	log    strings.Builder
	errors []error
}

func (h *heard) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(p)
}

func (h *heard) error(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.errors = append(h.errors, err)
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// told says how often a text was logged.
func (h *heard) told(text string) int { return strings.Count(h.String(), text) }

func (h *heard) reported() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]error(nil), h.errors...)
}
