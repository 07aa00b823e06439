package wtcache_test

import (
	"context"
	"database/sql/driver"
	"encoding/json"
	"flag"
	"io"
	"os"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// The catalogue that the mocked tests see is recorded from a real server, so that they
// need none: go test -run TestRecordedCatalog . -args -update
var recordCatalog = flag.Bool("update", false, "record testdata/catalog anew from a real Postgres")

const (
	mockSchema  = "wtcache_mock"
	catalogFile = "testdata/catalog/mock.json"
)

const mockTables = `DROP SCHEMA IF EXISTS ` + mockSchema + ` CASCADE;
CREATE SCHEMA ` + mockSchema + `;
SET search_path = ` + mockSchema + `;
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id bigint PRIMARY KEY, number text NOT NULL UNIQUE, user_id bigint NOT NULL, total bigint NOT NULL);
CREATE TABLE carts (id bigint PRIMARY KEY, total bigint NOT NULL);
CREATE TABLE logs (id bigint PRIMARY KEY, line text NOT NULL)`

// recordedCatalog answers what the rules ask, by the exact text of the question.
type recordedCatalog struct {
	OIDs    map[string]string // of the tables
	Answers []recordedAnswer
}

type recordedAnswer struct {
	SQL     string
	Columns []string
	Rows    [][]*string
}

func loadCatalog(t testing.TB) *recordedCatalog {
	t.Helper()
	text, err := os.ReadFile(catalogFile)
	if err != nil {
		t.Fatal(err)
	}
	c := new(recordedCatalog)
	if err := json.Unmarshal(text, c); err != nil {
		t.Fatalf("%s: %v", catalogFile, err)
	}
	return c
}

func (c *recordedCatalog) oid(table string) string { return c.OIDs[table] }

func (c *recordedCatalog) answer(sql string) (driver.Rows, bool) {
	for _, a := range c.Answers {
		if a.SQL == sql {
			return &recordedRows{columns: a.Columns, rows: a.Rows}, true
		}
	}
	return nil, false
}

type recordedRows struct {
	columns []string
	rows    [][]*string
}

func (r *recordedRows) Columns() []string { return r.columns }
func (r *recordedRows) Close() error      { return nil }

func (r *recordedRows) Next(dest []driver.Value) error {
	if len(r.rows) == 0 {
		return io.EOF
	}
	for i, cell := range r.rows[0] {
		dest[i] = nil
		if cell != nil {
			dest[i] = *cell
		}
	}
	r.rows = r.rows[1:]
	return nil
}

// recorder is a base connector that keeps what is asked through its connections.
type recorder struct {
	driver.Connector
	catalog *recordedCatalog
}

func (r recorder) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	return recordingConn{conn, r.catalog}, err
}

type recordingConn struct {
	driver.Conn
	catalog *recordedCatalog
}

func (c recordingConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}

func (c recordingConn) PrepareContext(ctx context.Context, q string) (driver.Stmt, error) {
	return c.Conn.(driver.ConnPrepareContext).PrepareContext(ctx, q)
}

func (c recordingConn) ExecContext(ctx context.Context, q string, a []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, q, a)
}

func (c recordingConn) QueryContext(ctx context.Context, q string, a []driver.NamedValue) (driver.Rows, error) {
	rows, err := c.Conn.(driver.QueryerContext).QueryContext(ctx, q, a)
	if err != nil {
		return nil, err
	}
	answer := recordedAnswer{SQL: q, Columns: rows.Columns()}
	cells := make([]driver.Value, len(answer.Columns))
	for {
		if err := rows.Next(cells); err == io.EOF {
			break
		} else if err != nil {
			return nil, err
		}
		row := make([]*string, len(cells))
		for i, cell := range cells {
			if text, ok := cell.(string); ok {
				row[i] = &text
			}
		}
		answer.Rows = append(answer.Rows, row)
	}
	c.catalog.Answers = append(c.catalog.Answers, answer)
	return &recordedRows{columns: answer.Columns, rows: answer.Rows}, rows.Close()
}

// The recording has to answer every question that the rules ask today: where one of them
// has changed, the mocked tests would otherwise fail in a way that says nothing.
func TestRecordedCatalog(t *testing.T) {
	if *recordCatalog {
		record(t)
	}
	m := newMocked(t)
	m.expect(t) // every question was answered: none came through to sqlmock
}

func record(t *testing.T) {
	t.Helper()
	cfg, err := pgx.ParseConfig(testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	plain := openPlain(t, cfg.ConnString())
	if _, err := plain.Exec(mockTables); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = plain.Exec("DROP SCHEMA " + mockSchema + " CASCADE") }()
	catalog := &recordedCatalog{OIDs: map[string]string{}}
	base := recorder{pgxConnector(t, withSearchPath(t, cfg.ConnString(), mockSchema)), catalog}
	db, err := wtcache.OpenDB(base, wtcache.Config{Redis: redisClient(t, testenv.Redis(t)), Rules: mockRules(""), Outbox: wtcache.OutboxOff})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"users", "orders", "carts"} {
		var oid uint64
		if err := plain.QueryRow("SELECT $1::text::regclass::oid::int8", mockSchema+"."+table).Scan(&oid); err != nil {
			t.Fatal(err)
		}
		catalog.OIDs[table] = strconv.FormatUint(oid, 10)
	}
	text, err := json.MarshalIndent(catalog, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("testdata/catalog", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(catalogFile, append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
