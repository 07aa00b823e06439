package wtcache_test

import (
	"context"
	"database/sql"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A family is a schema with its rules and the write forms that are tried on it. In
// its texts {{S}} is the schema, {{P}} the prefix of all keys and {{R}} the name of a
// role that the test may create.
type family struct {
	name   string
	ddl    string            // run once, without the driver
	drop   string            // undone at the end: what does not go with the schema
	seed   string            // the rows, put in place before every run, without the driver
	touch  []string          // written through the driver before every run, so that entries of writers can go stale, too
	rules  map[string]string // rule files
	tables []table           // what the rules come to, for the test's own reckoning
	most   int               // Config.MaxCapturedRows; with it the rows are counted (ANALYZE) before the driver looks
	forms  []form
}

// A table is a rule as this test understands it, independently of the driver.
type table struct {
	name    string // as FROM needs it
	entries []entry
	shared  []string // key templates
}

// An entry is a key of a row and what is to stand under it.
type entry struct {
	get    string // its name for Cache.Get
	key    string // template, without the prefix
	row    string // SQL for the payload over the row t; row_to_json(t.*) by default
	when   string // SQL over the row t; always by default
	plain  bool   // the bare payload is stored
	format string // "" is envelope, or plain
	loose  bool   // equal values have several texts, so that a row is found by other keys than its own
	absent bool   // writes leave the key empty: strategy invalidate, eventual writes, AFTER triggers
}

// class is what a form gets by DESIGN's table.
type class int

const (
	precise   class = iota // the very rows
	coarse                 // every entry of the rule becomes absent
	pinned                 // the keys that the statement names become absent
	untouched              // writes no ruled row
	uncounted              // more than one of these
)

func (c class) String() string {
	return [...]string{"precise", "coarse", "pinned", "untouched", "uncounted"}[c]
}

// how a form is called.
type how int

const (
	byExec     how = iota
	byQuery        // rows read to the end
	byQueryRow     // one row, one column
	byOneRow       // rows closed after the first
	byNoRow        // rows closed before the first
	byOpenRows     // rows left open until the transaction ends
	byPrepExec
	byPrepQuery
)

// way is the transaction around a form.
type around string

const (
	auto      around = "autocommit"
	committed around = "committed"
	aborted   around = "rolled back"
	savepoint around = "savepoint rolled back"
	released  around = "savepoint released"
)

var allWays = []around{auto, committed, aborted, savepoint}

func (w around) commits() bool { return w == auto || w == committed || w == released }

// A form is one way to write, and what it gets.
type form struct {
	name    string
	session []string // run on the connection beforehand
	first   []string // run on the connection beforehand and judged with the form
	inTx    []string // the same, in the transaction
	sql     string
	args    []any
	how     how
	class   class
	ways    []around // allWays by default
	moved   bool     // keys go from one row to another inside the statement, or are fenced for no row: they may be left empty
	same    bool     // changes no row
	random  bool     // its rows differ from run to run
	fails   string   // a part of the error that it has to give; then it changes nothing
	fresh   bool     // changes definitions: each run has a schema of its own
	lost    bool     // afterwards the rule does not fit the table: every key has to be absent, nothing is read
	after   []string // run through the driver after the form has been judged, and judged again
}

// world is a family's schema, open three ways: through the driver, to Redis, and
// through plain pgx, by which alone it is judged.
type world struct {
	*family
	db     *sql.DB
	cache  *wtcache.Cache
	redis  deployment
	rdb    redis.UniversalClient
	plain  *pgx.Conn
	dsn    string
	schema string
	prefix string
	role   string
}

func newWorld(t *testing.T, f *family, options ...func(*pgx.ConnConfig)) *world {
	t.Helper()
	return newWorldOn(t, single, f, options...)
}

func newWorldOn(t *testing.T, d deployment, f *family, options ...func(*pgx.ConnConfig)) *world {
	t.Helper()
	w := newTwinOn(t, d, f)
	w.db = w.open(t, options...)
	if f.most > 0 { // the catalogue is read now: a seed may make the numbers unknown again
		if err := w.db.PingContext(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if w.cache, err = wtcache.CacheOf(w.db); err != nil {
		t.Fatal(err)
	}
	return w
}

// newTwin makes a family's schema, not yet opened.
func newTwin(t *testing.T, f *family) *world {
	t.Helper()
	return newTwinOn(t, single, f)
}

func newTwinOn(t *testing.T, d deployment, f *family) *world {
	t.Helper()
	w := &world{family: f, redis: d, prefix: testenv.KeyPrefix(t)}
	w.dsn, w.schema = testenv.Schema(t, testenv.Postgres(t))
	w.role = "role_" + w.schema
	w.rdb = d.client(t, d.url(t))
	w.plain = connectPlain(t, w.dsn)
	w.execPlain(t, f.ddl)
	if f.most > 0 {
		w.execPlain(t, f.seed)
		w.execPlain(t, `DO $$ DECLARE r regclass; BEGIN
			FOR r IN SELECT oid FROM pg_class WHERE relnamespace = current_schema::regnamespace AND relkind IN ('r', 'p') LOOP EXECUTE 'ANALYZE ' || r; END LOOP;
		END $$`)
	}
	if f.drop != "" {
		t.Cleanup(func() { w.execPlain(t, f.drop) })
	}
	return w
}

func connectPlain(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // the test's own context has ended
	return conn
}

// open opens the schema through the driver. The deadlines are generous: what is slow
// here is the machine.
func (w *world) open(t *testing.T, options ...func(*pgx.ConnConfig)) *sql.DB {
	t.Helper()
	cfg := w.config(t, options...)
	files := fstest.MapFS{}
	for name, text := range w.rules {
		files[name+".yaml"] = &fstest.MapFile{Data: []byte(w.expand(text))}
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{
		RedisURL: w.redis.url(t), Rules: files, MaxCapturedRows: w.most,
		RedisTimeout: 10 * time.Second, FenceLife: 2 * time.Minute,
		Logger: slog.New(slog.DiscardHandler),
		Outbox: wtcache.OutboxOff, // queue_forms_test.go has the forms with one
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (w *world) config(t *testing.T, options ...func(*pgx.ConnConfig)) *pgx.ConnConfig {
	t.Helper()
	cfg, err := pgx.ParseConfig(w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	// The planner expects the catalogue query to be dear and compiles it, for up to seconds a session.
	cfg.RuntimeParams["jit"] = "off"
	for _, o := range options {
		o(cfg)
	}
	return cfg
}

func (w *world) expand(text string) string {
	return strings.NewReplacer("{{S}}", w.schema, "{{P}}", w.prefix, "{{R}}", w.role).Replace(text)
}

func (w *world) execPlain(t *testing.T, text string) {
	t.Helper()
	// A cleanup outlives the test's context.
	if _, err := w.plain.PgConn().Exec(context.WithoutCancel(t.Context()), w.expand(text)).ReadAll(); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// reset puts the rows in place and fills the cache: most entries by readers, those of
// touch by writers.
func (w *world) reset(t *testing.T) snapshot {
	t.Helper()
	w.execPlain(t, w.seed)
	for _, key := range w.keys(t) { // one by one: in a Cluster they are in many slots
		if err := w.rdb.Del(t.Context(), key).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range w.touch {
		if _, err := w.db.ExecContext(t.Context(), w.expand(text)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	before := w.snapshot(t)
	w.readAll(t, before, before)
	for key := range before.shared {
		if err := w.rdb.Set(t.Context(), key, "members as they were", time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for key, row := range before.rows {
		if _, cached := w.cached(t, key, row.entry); cached != row.storable {
			t.Fatalf("%s: cached is %v before the form ran, want %v: nothing could go stale", key, cached, row.storable)
		}
	}
	return before
}
