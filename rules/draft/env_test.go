package draft_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
	"github.com/wtcache/wtcache/rules/draft"
)

// database is one that is the test's own, since a draft looks at all schemas.
type database struct {
	t    *testing.T
	conn *pgx.Conn
	dsn  string
}

func newDatabase(t *testing.T, ddl string) *database {
	t.Helper()
	d := &database{t: t, dsn: testenv.Database(t, testenv.Postgres(t))}
	var err error
	if d.conn, err = pgx.Connect(t.Context(), d.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.conn.Close(context.Background()) })
	d.exec(ddl)
	return d
}

func (d *database) exec(text string) {
	d.t.Helper()
	if _, err := d.conn.PgConn().Exec(d.t.Context(), text).ReadAll(); err != nil {
		d.t.Fatalf("%.300s: %v", text, err)
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

// bind loads the folder and binds it as a program does, and wants no finding at error level.
func (d *database) bind(folder string) *rules.Set {
	d.t.Helper()
	loaded, err := rules.LoadPath(folder)
	if err != nil {
		d.t.Fatalf("what init wrote does not load:\n%v", err)
	}
	catalog, err := rules.LoadCatalog(d.t.Context(), d.query, loaded)
	if err != nil {
		d.t.Fatal(err)
	}
	set, faults, _ := rules.Bind(loaded, catalog)
	for _, f := range faults {
		d.t.Errorf("what init wrote does not bind: %s", f)
	}
	if d.t.Failed() {
		d.t.FailNow()
	}
	return set
}

// write writes all drafts into a folder of the test's own.
func write(t *testing.T, r *draft.Result) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "rules")
	for _, f := range r.Files {
		if got, err := f.Write(folder, draft.Keep); err != nil || got != draft.Written {
			t.Fatalf("%s is %s: %v", f.Name, got, err)
		}
	}
	return folder
}

func file(t *testing.T, r *draft.Result, name string) *draft.File {
	t.Helper()
	var names []string
	for _, f := range r.Files {
		if f.Name == name {
			return f
		}
		names = append(names, f.Name)
	}
	t.Fatalf("there is no %s among %s", name, strings.Join(names, ", "))
	return nil
}

func reason(r *draft.Result, name string) string {
	for _, s := range r.Skipped {
		if s.Name == name {
			return s.Reason
		}
	}
	return ""
}

func sample(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../examples/filmstore", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
