package outbox

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
)

var _ Querier = (func(context.Context, string) ([][]*string, error))(rules.Querier(nil))

// querier asks on one connection, whose role the test has set.
func querier(conn *sql.Conn) Querier {
	return func(ctx context.Context, text string) ([][]*string, error) {
		rows, err := conn.QueryContext(ctx, text)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		names, err := rows.Columns()
		if err != nil {
			return nil, err
		}
		var all [][]*string
		for rows.Next() {
			cells, dest := make([]*string, len(names)), make([]any, len(names))
			for i := range cells {
				dest[i] = &cells[i]
			}
			if err := rows.Scan(dest...); err != nil {
				return nil, err
			}
			all = append(all, cells)
		}
		return all, rows.Err()
	}
}

// connectAs gives a connection that acts as a role of the test's own, without any rights.
func connectAs(t *testing.T, w *world) (conn *sql.Conn, role string) {
	t.Helper()
	role = strings.TrimPrefix(w.schema, "wt_") + "_r"
	w.exec("CREATE ROLE " + role)
	t.Cleanup(func() {
		for _, text := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
			if _, err := w.db.ExecContext(context.Background(), text); err != nil {
				t.Error(err)
			}
		}
	})
	conn = must(w.db.Conn(t.Context()))(t)
	t.Cleanup(func() {
		if _, err := conn.ExecContext(context.Background(), "RESET ROLE"); err != nil {
			t.Error(err)
		}
		conn.Close()
	})
	if _, err := conn.ExecContext(t.Context(), "SET ROLE "+role); err != nil {
		t.Fatal(err)
	}
	return conn, role
}

// Whoever starts with an incomplete outbox must be told before the first outage, and the statement that he is told must mend it: in
// an outage it is too late.
func TestCheckNamesWhatIsMissingAndHowToMendIt(t *testing.T) {
	for _, c := range []struct{ name, breaking, problem string }{
		{"nothing", "SELECT 1", ""},
		{"schema", "DROP SCHEMA $S CASCADE", `schema "$S" is missing`},
		{"table outbox", "DROP TABLE $S.outbox", `table "$S".outbox is missing`},
		{"table outage", "DROP TABLE $S.outage CASCADE", `table "$S".outage is missing`},
		{"table watch", "DROP TABLE $S.watch", `table "$S".watch is missing`},
		{"column", "ALTER TABLE $S.outage DROP COLUMN seen_at", `column seen_at of "$S".outage is missing`},
		{"column of the key", "ALTER TABLE $S.outbox DROP COLUMN outage", `column outage of "$S".outbox is missing`},
		{"foreign key", "ALTER TABLE $S.outbox DROP CONSTRAINT outbox_outage_fkey", `the foreign key from "$S".outbox to "$S".outage is missing`},
		{"foreign key that cascades", "ALTER TABLE $S.outbox DROP CONSTRAINT outbox_outage_fkey, ADD FOREIGN KEY (outage) REFERENCES $S.outage ON DELETE CASCADE", `the foreign key "outbox_outage_fkey`},
		{"not durable", "ALTER TABLE $S.outbox SET UNLOGGED", `table "$S".outbox is not durable`},
		{"hidden rows", "ALTER TABLE $S.outage ENABLE ROW LEVEL SECURITY", `row-level security hides rows of "$S".outage`},
		{"usage", "REVOKE USAGE ON SCHEMA $S FROM $R", `role "$R" has no USAGE on schema "$S"`},
		{"insert", "REVOKE INSERT ON $S.outbox FROM $R", `role "$R" may not INSERT on "$S".outbox`},
		{"delete", "REVOKE DELETE ON $S.outbox FROM $R", `role "$R" may not DELETE on "$S".outbox`},
		{"update", "REVOKE UPDATE ON $S.outage FROM $R", `role "$R" may not UPDATE on "$S".outage`},
		{"select", "REVOKE SELECT ON $S.watch FROM $R", `role "$R" may not SELECT on "$S".watch`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			conn, role := connectAs(t, w)
			w.exec(Grants(w.schema, role))
			fill := strings.NewReplacer("$S", w.schema, "$R", role)
			w.exec(fill.Replace(c.breaking))
			err := Check(t.Context(), querier(conn), w.schema)
			if c.problem == "" {
				if err != nil {
					t.Fatalf("a complete outbox: %v", err)
				}
				return
			}
			var m *MissingError
			if !errors.As(err, &m) || !errors.Is(err, ErrMissing) || !strings.Contains(m.Problem, fill.Replace(c.problem)) {
				t.Fatalf("got %v", err)
			}
			if !strings.Contains(err.Error(), strings.TrimSpace(m.Statement)) {
				t.Errorf("the text lacks the statement: %v", err)
			}
			mend(t, w, conn, err)
			w.exec("CREATE SCHEMA IF NOT EXISTS " + w.schema) // for the test's own end
		})
	}
}

// mend runs what each error says until there is none.
func mend(t *testing.T, w *world, conn *sql.Conn, err error) {
	t.Helper()
	for range 3 {
		var m *MissingError
		if !errors.As(err, &m) {
			t.Fatal(err)
		}
		w.exec(m.Statement)
		if err = Check(t.Context(), querier(conn), w.schema); err == nil {
			return
		}
	}
	t.Fatalf("not mended: %v", err)
}

// A table of somebody else's that has the name must not be written to, and no statement of ours may touch it.
func TestCheckOffersNoStatementForAForeignTable(t *testing.T) {
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	w := &world{t: t, dsn: dsn, schema: schema, db: open(t, dsn)}
	w.exec("CREATE TABLE " + schema + ".outbox (id uuid PRIMARY KEY, payload text)")
	w.exec("CREATE TABLE " + schema + ".outage (id bigint PRIMARY KEY, process text, announced_at timestamptz, seen_at timestamptz); CREATE TABLE " + schema + ".watch (millis bigint)")
	conn := must(w.db.Conn(t.Context()))(t)
	defer conn.Close()
	var m *MissingError
	if err := Check(t.Context(), querier(conn), schema); !errors.As(err, &m) || m.Statement != "" || !strings.Contains(m.Problem, "is of type uuid, not bigint") {
		t.Fatalf("got %v", err)
	}
}

// `wtcache schema | psql` may be run twice, and under a name that needs quoting.
func TestSchemaMayBeRunAgain(t *testing.T) {
	w := newWorld(t)
	odd := w.schema + ` "odd\'`
	t.Cleanup(func() { w.db.Exec("DROP SCHEMA " + quote(odd) + " CASCADE") })
	for range 2 {
		w.exec(Schema(odd))
	}
	conn := must(w.db.Conn(t.Context()))(t)
	defer conn.Close()
	if err := Check(t.Context(), querier(conn), odd); err != nil {
		t.Fatal(err)
	}
}
