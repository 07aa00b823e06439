package draft_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
	"github.com/wtcache/wtcache/rules/draft"
)

// database is one that is the test's own, since init looks at all schemas.
type database struct {
	t    *testing.T
	conn *pgx.Conn
	dsn  string
}

func newDatabase(t *testing.T, ddl ...string) *database {
	t.Helper()
	dsn := testenv.Database(t, testenv.Postgres(t))
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	d := &database{t, conn, dsn}
	for _, text := range ddl {
		d.exec(text)
	}
	return d
}

func (d *database) exec(text string) {
	d.t.Helper()
	if _, err := d.conn.PgConn().Exec(d.t.Context(), text).ReadAll(); err != nil {
		d.t.Fatalf("%.200s: %v", text, err)
	}
}

// query is a rules.Querier.
func (d *database) query(ctx context.Context, text string) ([][]*string, error) {
	results, err := d.conn.PgConn().Exec(ctx, text).ReadAll()
	if err != nil {
		return nil, err
	}
	var out [][]*string
	for _, row := range results[0].Rows {
		cells := make([]*string, len(row))
		for i, cell := range row {
			if cell != nil {
				s := string(cell)
				cells[i] = &s
			}
		}
		out = append(out, cells)
	}
	return out, nil
}

func (d *database) draft(o draft.Options) *draft.Result {
	d.t.Helper()
	got, err := draft.New(d.t.Context(), d.query, o)
	if err != nil {
		d.t.Fatal(err)
	}
	return got
}

func sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../examples/filmstore", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestPrint(t *testing.T) {
	d := newDatabase(t, sample(t, "schema.sql"))
	got := d.draft(draft.Options{})
	for _, f := range got.Files {
		t.Logf("=== %s\n%s", f.Name, f.Text)
	}
	for _, s := range got.Skipped {
		t.Logf("%s (%s): %s", s.Name, s.Kind, s.Reason)
	}
	_ = errors.New
	_ = strings.Join
	_ = rules.Load
}
