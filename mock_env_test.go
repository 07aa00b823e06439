package wtcache_test

import (
	"context"
	"crypto/sha1"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// timeline is what a base driver and a Redis were sent, in order. It is safe for
// concurrent use.
type timeline struct {
	mu     sync.Mutex
	events []string
	tokens []string // of every fence request
	prefix string   // of the test's keys
}

func (l *timeline) add(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, event)
}

// take gives the events since the last take.
func (l *timeline) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.events
	l.events = nil
	return events
}

// mockBase is a connector over one sqlmock connection. What database/sql would take for a
// lost connection is met by a new mockConn over the same sqlmock.
type mockBase struct {
	conn    driver.Conn
	catalog *recordedCatalog
	log     *timeline
	seen    func(string) // where a test looks at whole texts
}

func (b *mockBase) Driver() driver.Driver { return mockDriver{} }

func (b *mockBase) Connect(context.Context) (driver.Conn, error) { return &mockConn{base: b}, nil }

type mockDriver struct{}

func (mockDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("the mock opens through its connector alone")
}

// mockConn forwards to sqlmock, except what the rules ask the catalogue, and notes what
// it was sent.
type mockConn struct{ base *mockBase }

var _ interface {
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
} = (*mockConn)(nil)

func (c *mockConn) Close() error { return nil } // sqlmock's connection outlives it

func (c *mockConn) Begin() (driver.Tx, error) {
	return nil, errors.New("Begin was called in place of BeginTx")
}

func (c *mockConn) Prepare(string) (driver.Stmt, error) {
	return nil, errors.New("Prepare was called in place of PrepareContext")
}

func (c *mockConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.base.log.add("BEGIN")
	tx, err := c.base.conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
	return mockTx{tx, c.base.log}, err
}

func (c *mockConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.base.log.add("prepare " + shown(query))
	return c.base.conn.(driver.ConnPrepareContext).PrepareContext(ctx, query)
}

func (c *mockConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.base.log.add(shown(query))
	return c.base.conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *mockConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if rows, ok := c.base.catalog.answer(query); ok {
		return rows, nil
	}
	if c.base.seen != nil {
		c.base.seen(query)
	}
	c.base.log.add(shown(query))
	return c.base.conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *mockConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.base.conn.(driver.NamedValueChecker).CheckNamedValue(v)
}

type mockTx struct {
	driver.Tx
	log *timeline
}

func (t mockTx) Commit() error {
	t.log.add("COMMIT")
	return t.Tx.Commit()
}

func (t mockTx) Rollback() error {
	t.log.add("ROLLBACK")
	return t.Tx.Rollback()
}

// capturedFrom is where the captured columns begin in every spliced text.
const capturedFrom = "pg_catalog.concat_ws(':', pg_catalog.concat("

// shown is a text with its captured columns, which run to its end, cut out.
func shown(query string) string {
	if i := strings.Index(query, capturedFrom); i >= 0 {
		return query[:i] + "<captured>"
	}
	return query
}

// scripts notes what Redis is sent: the scripts by the names of their files, with the
// keys without the test's prefix.
type scripts struct {
	log   *timeline
	names map[string]string // digest to name
}

var _ redis.Hook = scripts{}

func newScripts(t *testing.T, log *timeline) scripts {
	t.Helper()
	names, err := scriptNames()
	if err != nil {
		t.Fatal(err)
	}
	return scripts{log, names}
}

// scriptNames gives the names of the scripts' files by the digests that Redis knows them by.
func scriptNames() (map[string]string, error) {
	files, err := filepath.Glob("cachesync/lua/*.lua")
	if err != nil || len(files) < 2 {
		return nil, errors.Join(errors.New("no scripts were found"), err)
	}
	names := map[string]string{}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".lua")
		source, err := scriptSource(name)
		if err != nil {
			return nil, err
		}
		sum := sha1.Sum([]byte(source))
		names[hex.EncodeToString(sum[:])] = name
	}
	return names, nil
}

// scriptSource gives a script as Redis gets it: with the head before it, and the prelude in the place that is marked for it.
func scriptSource(name string) (string, error) {
	var parts [3]string
	for i, name := range []string{"head", "prelude", name} {
		text, err := os.ReadFile("cachesync/lua/" + name + ".lua")
		if err != nil {
			return "", err
		}
		parts[i] = string(text)
	}
	return parts[0] + "\n" + strings.Replace(parts[2], "\n-- prelude\n", "\n"+parts[1]+"\n", 1), nil
}

func (s scripts) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s scripts) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if !redis.HasErrorPrefix(err, "NOSCRIPT") { // the command itself does not hold it yet
			s.note([]redis.Cmder{cmd})
		}
		return err
	}
}

func (s scripts) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		s.note(cmds)
		return err
	}
}

// note adds one event for the commands of one request. A script that the server did not
// know is sent again in full, and only that counts.
func (s scripts) note(cmds []redis.Cmder) {
	var parts []string
	for _, cmd := range cmds {
		args := cmd.Args()
		name, ok := s.name(args)
		if !ok || redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			continue
		}
		s.log.mu.Lock()
		parts = append(parts, name+" "+strings.TrimPrefix(fmt.Sprint(args[3]), s.log.prefix))
		if name == "fence" {
			s.log.tokens = append(s.log.tokens, fmt.Sprint(args[3+args[2].(int)])) // behind the keys
		}
		s.log.mu.Unlock()
	}
	if len(parts) > 0 {
		slices.Sort(parts)
		s.log.add(strings.Join(parts, ", "))
	}
}

func (s scripts) name(args []any) (string, bool) {
	switch verb := strings.ToLower(fmt.Sprint(args[0])); verb {
	case "evalsha":
		name, ok := s.names[fmt.Sprint(args[1])]
		return name, ok
	case "eval":
		sum := sha1.Sum([]byte(fmt.Sprint(args[1])))
		name, ok := s.names[hex.EncodeToString(sum[:])]
		return name, ok
	}
	return "", false
}

// mocked is a database under test whose base is sqlmock and whose Redis is real.
type mocked struct {
	db   *sql.DB
	mock sqlmock.Sqlmock
	log  *timeline
	rdb  *redis.Client // looks at Redis, unseen by the timeline
	key  func(string) string
	oid  func(table string) string

	base   *mockBase
	config wtcache.Config
}

// newMocked opens one. The tables are those of the recorded catalogue.
func newMocked(t *testing.T) *mocked {
	t.Helper()
	prefix := testenv.KeyPrefix(t)
	log := &timeline{prefix: prefix}
	plain, mock, err := sqlmock.NewWithDSN(prefix, sqlmock.QueryMatcherOption(sqlmock.QueryMatcherFunc(func(want, got string) error {
		if want != shown(got) {
			return fmt.Errorf("got %q, want %q", shown(got), want)
		}
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mock.ExpectClose(); _ = plain.Close() })
	conn, err := plain.Driver().Open(prefix)
	if err != nil {
		t.Fatal(err)
	}
	catalog := loadCatalog(t)
	client := redisClient(t, testenv.RealRedis(t))
	client.AddHook(newScripts(t, log))
	base := &mockBase{conn: conn, catalog: catalog, log: log}
	config := wtcache.Config{
		Redis: client, Rules: mockRules(prefix), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), RedisTimeout: 5 * time.Second, Outbox: wtcache.OutboxOff,
	}
	db, err := wtcache.OpenDB(base, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Ping(); err != nil {
		t.Fatalf("%.200v\nwhere the rules ask the catalogue something new, record it: go test -run TestRecordedCatalog . -args -update", err)
	}
	m := &mocked{db: db, mock: mock, log: log, rdb: redisClient(t, testenv.RealRedis(t)), oid: catalog.oid, base: base, config: config}
	m.key = func(name string) string { return prefix + name }
	return m
}

// mockRules: users has one entry, so that its keys can be fenced before a statement
// runs; orders has two and a key that rows share; carts refuses to commit unfenced.
func mockRules(prefix string) fstest.MapFS {
	file := func(text string) *fstest.MapFile {
		return &fstest.MapFile{Data: []byte(strings.ReplaceAll(text, "@", prefix))}
	}
	return fstest.MapFS{
		"users.yaml":  file("table: " + mockSchema + ".users\nkey: \"@user:{id}\"\n"),
		"orders.yaml": file("table: " + mockSchema + ".orders\nentries:\n  - key: \"@order:{id}\"\n  - key: \"@number:{number}\"\ninvalidate: [\"@orders:{user_id}\"]\n"),
		"carts.yaml":  file("table: " + mockSchema + ".carts\nkey: \"@cart:{id}\"\nredis_down: refuse\n"),
	}
}

var versions int

// userRows are rows as the spliced statement gives them: the caller's columns, then the
// captured ones.
func (m *mocked) userRows(columns []string, users ...user) *sqlmock.Rows {
	rows := sqlmock.NewRows(append(columns, "version", "tableoid", "id", "payload"))
	for _, u := range users {
		versions++
		cells := []driver.Value{}
		for _, c := range columns {
			cells = append(cells, map[string]driver.Value{"id": u.id, "name": u.name}[c])
		}
		rows.AddRow(append(cells, fmt.Sprintf("000000010/%X", 4096+versions), m.oid("users"), fmt.Sprint(u.id),
			fmt.Sprintf(`{"id":%d,"name":%q}`, u.id, u.name))...)
	}
	return rows
}

type user struct {
	id   int64
	name string
}

// deletedRows are those of a DELETE, which has no payload.
func (m *mocked) deletedRows(ids ...int64) *sqlmock.Rows {
	rows := sqlmock.NewRows([]string{"version", "tableoid", "id"})
	for _, id := range ids {
		versions++
		rows.AddRow(fmt.Sprintf("000000010/%X", 4096+versions), m.oid("users"), fmt.Sprint(id))
	}
	return rows
}

// expect compares the timeline since the last look, and lets sqlmock say what it missed.
func (m *mocked) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := m.log.take(); !slices.Equal(got, want) {
		t.Errorf("what was sent:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
	if err := m.mock.ExpectationsWereMet(); err != nil {
		t.Error(err)
	}
}

// payload is what Redis holds for a key, "" for nothing.
func (m *mocked) payload(t *testing.T, name string) string {
	t.Helper()
	text, err := m.rdb.Get(context.Background(), m.key(name)).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	if i := strings.Index(text, `"data":`); i >= 0 {
		return strings.TrimSuffix(text[i+len(`"data":`):], "}")
	}
	return text
}

// fences counts the live tokens on a key.
func (m *mocked) fences(t *testing.T, name string) int {
	t.Helper()
	n, err := tokensOn(context.Background(), m.rdb, "{"+m.key(name)+"}:wt")
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// mentions says whether an error's text holds all of the words.
func mentions(err error, words ...string) bool {
	for _, w := range words {
		if err == nil || !strings.Contains(err.Error(), w) {
			return false
		}
	}
	return true
}
