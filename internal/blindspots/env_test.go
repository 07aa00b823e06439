package blindspots_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/blindspots"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
)

// database is a schema of a test. In its texts @ stands for the schema's name.
type database struct {
	t      *testing.T
	schema string
	conn   *pgx.Conn
	dsn    string
}

func newDatabase(t *testing.T, ddl string) *database { return databaseIn(t, testenv.Postgres(t), ddl) }

func databaseIn(t *testing.T, url, ddl string) *database {
	t.Helper()
	dsn, schema := testenv.Schema(t, url)
	d := &database{t: t, schema: schema, dsn: dsn}
	d.conn = d.connect(dsn)
	d.exec(ddl)
	return d
}

func (d *database) connect(dsn string) *pgx.Conn {
	d.t.Helper()
	conn, err := pgx.Connect(d.t.Context(), dsn)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func (d *database) here(text string) string { return strings.ReplaceAll(text, "@", d.schema) }

func (d *database) exec(text string) {
	d.t.Helper()
	if _, err := d.conn.PgConn().Exec(d.t.Context(), d.here(text)).ReadAll(); err != nil {
		d.t.Fatalf("%s: %v", d.here(text), err)
	}
}

// querier asks on a connection as the driver does: everything as text.
func querier(conn *pgx.Conn) rules.Querier {
	return func(ctx context.Context, text string) ([][]*string, error) {
		results, err := conn.PgConn().Exec(ctx, text).ReadAll()
		if err != nil {
			return nil, err
		}
		var rows [][]*string
		for _, r := range results {
			for _, row := range r.Rows {
				cells := make([]*string, len(row))
				for i, cell := range row {
					if cell != nil {
						s := string(cell)
						cells[i] = &s
					}
				}
				rows = append(rows, cells)
			}
		}
		return rows, nil
	}
}

// rule writes a rule file for each table, and says where they are.
func (d *database) rules(texts ...string) string {
	d.t.Helper()
	dir := d.t.TempDir()
	for i, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), []byte(d.here(text)), 0o600); err != nil {
			d.t.Fatal(err)
		}
	}
	return dir
}

func (d *database) find(conn *pgx.Conn, dir string, opts blindspots.Options) []cachesync.Finding {
	d.t.Helper()
	ctx, q := d.t.Context(), querier(conn)
	loaded, err := rules.LoadPath(dir)
	if err != nil {
		d.t.Fatal(err)
	}
	catalog, err := rules.LoadCatalog(ctx, q, loaded)
	if err != nil {
		d.t.Fatal(err)
	}
	set, faults, _ := rules.Bind(loaded, catalog)
	if len(faults) > 0 {
		d.t.Fatal(faults)
	}
	session, err := set.Session(ctx, q, false)
	if err != nil {
		d.t.Fatal(err)
	}
	found, err := blindspots.Find(ctx, q, set, session, opts)
	if err != nil {
		d.t.Fatal(err)
	}
	return found
}

func show(found []cachesync.Finding) string {
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintf(&b, "%s | %s | %s | %s | %s\n    loss: %s\n    fix: %s\n", f.Severity, f.Subject, f.Object, f.Where, f.Problem, f.Loss, f.Fix)
	}
	return b.String()
}
