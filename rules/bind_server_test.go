package rules

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache/internal/testenv"
)

// database is one test's schema and a way to open sessions there.
type database struct {
	t      *testing.T
	db     *sql.DB
	schema string
}

func newDatabase(t *testing.T, ddl ...string) *database {
	t.Helper()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	d := &database{t, db, schema}
	for _, s := range ddl {
		d.exec(s)
	}
	return d
}

// here writes the test's schema for every "@".
func (d *database) here(text string) string { return strings.ReplaceAll(text, "@", d.schema) }

func (d *database) exec(text string) {
	d.t.Helper()
	if _, err := d.db.Exec(d.here(text)); err != nil {
		d.t.Fatalf("%s: %v", text, err)
	}
}

// server is one server session.
type server struct {
	d    *database
	conn *sql.Conn
}

// open starts a session and sends it some statements first.
func (d *database) open(first ...string) *server {
	d.t.Helper()
	conn, err := d.db.Conn(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	s := &server{d, conn}
	d.t.Cleanup(func() {
		// What the test has set must not reach the next user of the connection.
		conn.Raw(func(any) error { return driver.ErrBadConn })
		conn.Close()
	})
	for _, text := range first {
		s.exec(text)
	}
	return s
}

func (s *server) exec(text string) {
	s.d.t.Helper()
	if _, err := s.conn.ExecContext(context.Background(), s.d.here(text)); err != nil {
		s.d.t.Fatalf("%s: %v", text, err)
	}
}

func (s *server) query(_ context.Context, text string) ([][]*string, error) {
	return s.ask(text)
}

func (s *server) ask(text string, args ...any) ([][]*string, error) {
	rows, err := s.conn.QueryContext(context.Background(), text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out [][]*string
	for rows.Next() {
		cells := make([]*string, len(columns))
		into := make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		out = append(out, cells)
	}
	return out, rows.Err()
}

func (s *server) must(text string, args ...any) [][]*string {
	s.d.t.Helper()
	rows, err := s.ask(s.d.here(text), args...)
	if err != nil {
		s.d.t.Fatalf("%s: %v", text, err)
	}
	return rows
}

// rules loads rule files from their texts, as a user's would be.
func (d *database) rules(files ...string) []*Rule {
	d.t.Helper()
	fsys := fstest.MapFS{}
	for i, text := range files {
		fsys[fmt.Sprintf("rule%d.yaml", i)] = &fstest.MapFile{Data: []byte(d.here(text))}
	}
	rules, err := Load(fsys)
	if err != nil {
		d.t.Fatal(err)
	}
	return rules
}

func (d *database) bind(files ...string) (set *Set, errs, warnings []Finding) {
	d.t.Helper()
	rules := d.rules(files...)
	cat, err := LoadCatalog(context.Background(), d.open().query, rules)
	if err != nil {
		d.t.Fatal(err)
	}
	return Bind(rules, cat)
}

func (d *database) mustBind(files ...string) *Set {
	d.t.Helper()
	set, errs, _ := d.bind(files...)
	if len(errs) > 0 {
		d.t.Fatalf("findings:\n%s", joined(errs))
	}
	return set
}

func joined(findings []Finding) string {
	lines := make([]string, len(findings))
	for i, f := range findings {
		lines[i] = f.String()
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func show(cells []*string) string {
	out := make([]string, len(cells))
	for i, c := range cells {
		out[i] = "NULL"
		if c != nil {
			out[i] = *c
		}
	}
	return strings.Join(out, " | ")
}
