package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
)

// viaPgx runs a text past the driver.
func (l *ledger) viaPgx(conn *sql.Conn, text string) {
	l.t.Helper()
	if err := conn.Raw(func(dc any) error {
		pc, ok := wtcache.PgxConn(dc)
		if !ok {
			return errors.New("no pgx connection under the driver's")
		}
		_, err := pc.PgConn().Exec(context.Background(), text).ReadAll()
		return err
	}); err != nil {
		l.t.Fatalf("%s: %v", text, err)
	}
}

const prepareWrite = "PREPARE p AS UPDATE accounts SET n = n + 1 WHERE id = 1"

// What an SQL-level EXECUTE writes is known from its PREPARE. Where the name has come to
// stand for another statement since, a driver that goes by the old one leaves the row's old
// entry in the cache.
func TestPreparedNamesAreFollowed(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	for _, c := range []struct {
		name  string
		texts []string // one that starts with "!" must fail, one with ">" goes past the driver
	}{
		{"first", []string{prepareWrite}},
		{"in a script", []string{"PREPARE p AS SELECT 1", "DEALLOCATE p", "PREPARE q AS SELECT 1; " + prepareWrite}},
		{"in a script that reads", []string{"PREPARE p AS SELECT 1", "DEALLOCATE p", "/* x */ " + prepareWrite + "; SELECT 1"}},
		{"all in one script", []string{"PREPARE p AS SELECT 1", "SELECT 1; DEALLOCATE p; " + prepareWrite + "; SELECT 2"}},
		{"in a script that fails later", []string{"PREPARE p AS SELECT 1", "!DEALLOCATE p; " + prepareWrite + "; SELECT 1/0"}},
		{"in a script with a ruled write", []string{"PREPARE p AS SELECT 1", "DEALLOCATE p; UPDATE accounts SET n = 1 WHERE id = 2; " + prepareWrite}},
		{"all forgotten", []string{"PREPARE p AS SELECT 1", "DEALLOCATE ALL", prepareWrite}},
		{"all forgotten, otherwise", []string{"PREPARE p AS SELECT 1", "DEALLOCATE PREPARE ALL; SELECT 1", prepareWrite + "; SELECT 1"}},
		{"everything discarded", []string{"PREPARE p AS SELECT 1", "DISCARD ALL", prepareWrite}},
		{"other letters", []string{"PREPARE P AS SELECT 1", "deallocate \"p\"", "PREPARE \"p\" AS UPDATE accounts SET n = 2 WHERE id = 1"}},
		{"a transaction that is rolled back", []string{"PREPARE p AS SELECT 1", "BEGIN", "DEALLOCATE p", prepareWrite, "ROLLBACK"}},
		{"a savepoint that is rolled back", []string{"PREPARE p AS SELECT 1", "BEGIN; SAVEPOINT s; DEALLOCATE p; " + prepareWrite + "; ROLLBACK TO s; COMMIT"}},
		{"the second fails", []string{prepareWrite, "!PREPARE p AS SELECT 1"}},
		{"past the driver", []string{"PREPARE p AS SELECT 1", ">DEALLOCATE p; " + prepareWrite}},
		{"in a DO block", []string{"PREPARE p AS SELECT 1", "DO $$ BEGIN EXECUTE 'DEALLOCATE p'; EXECUTE 'PREPARE p AS UPDATE acc' || 'ounts SET n = 1 WHERE id = 1'; END $$"}},
		{"another search_path", []string{"CREATE TEMP TABLE accounts (id int, n int)", prepareWrite, "DROP TABLE pg_temp.accounts"}},
	} {
		for _, execute := range []string{"EXECUTE p", "SELECT 1; EXECUTE p", "EXPLAIN ANALYZE EXECUTE p"} {
			t.Run(c.name+"/"+execute, func(t *testing.T) {
				l.t = t
				l.exec("UPDATE accounts SET n = 0 WHERE id = 1")
				l.warm(1)
				conn := l.on()
				defer conn.Raw(func(any) error { return driver.ErrBadConn }) // its names end with it
				for _, text := range c.texts {
					switch text[0] {
					case '!':
						if _, err := conn.ExecContext(context.Background(), text[1:]); err == nil {
							t.Fatalf("%s succeeded", text)
						}
					case '>':
						l.viaPgx(conn, text[1:])
					default:
						l.say(conn, text)
					}
				}
				l.say(conn, execute)
				if l.row(1) == 0 {
					t.Fatal("the EXECUTE wrote nothing: the test is worth nothing")
				}
				l.wantTrue()
			})
		}
	}
}

// An EXECUTE of what only reads must not cost a service all entries of its rules because
// the name once stood for a write.
func TestPreparedReadStaysARead(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	conn := l.on()
	l.say(conn, prepareWrite, "DEALLOCATE p", "PREPARE p AS SELECT 1", "EXECUTE p")
	l.wantCached(1, 0)
	if n := l.stats().CoarseWrites; n != 0 {
		t.Errorf("%d coarse writes for an EXECUTE of a read", n)
	}
}

// A statement may outlive the definitions that it was prepared under. When its table has
// come to be a child, or its view a view, of a ruled table, what it writes must be captured
// from then on.
func TestPreparedBeforeItsTableWasRuled(t *testing.T) {
	const ddl = `CREATE TABLE pending (LIKE accounts INCLUDING ALL); INSERT INTO pending VALUES (50, 0), (51, 0);
CREATE VIEW shown AS SELECT id, n FROM unruled`
	for _, c := range []struct {
		name, prepare, change string
		args                  []any
		id                    int
	}{
		{"update of a child", "UPDATE pending SET n = $1 WHERE id = 50", "ALTER TABLE pending INHERIT accounts", []any{8}, 50},
		{"update of a child by a CTE", "WITH u AS (UPDATE pending SET n = $1 WHERE id = 50 RETURNING 1) SELECT 1 FROM u", "ALTER TABLE pending INHERIT accounts", []any{8}, 50},
		{"upsert of a child", "INSERT INTO pending VALUES (50, 1) ON CONFLICT (id) DO UPDATE SET n = $1", "ALTER TABLE pending INHERIT accounts", []any{8}, 50},
		{"update of a view", "UPDATE shown SET n = $1 WHERE id = 1", "CREATE OR REPLACE VIEW shown AS SELECT id, n FROM accounts", []any{8}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{})
			if _, err := l.plain.Exec(ddl); err != nil {
				t.Fatal(err)
			}
			stmt, err := l.db.Prepare(c.prepare)
			if err != nil {
				t.Fatal(err)
			}
			defer stmt.Close()
			l.exec(c.change)
			l.warm(c.id)
			if _, err := stmt.Exec(c.args...); err != nil {
				t.Fatal(err)
			}
			want := l.row(c.id)
			if want != 8 {
				t.Fatalf("the row is %d: the statement wrote another", want)
			}
			if n, there := l.entry(c.id); there && n != want {
				t.Errorf("account %d is cached as %d and is %d in Postgres", c.id, n, want)
			}
			if got := l.read(c.id); got != want {
				t.Errorf("a reader gets %d, want %d", got, want)
			}
		})
	}
}

// asker is a *sql.DB or a *sql.Tx.
type asker interface {
	Query(string, ...any) (*sql.Rows, error)
	QueryRow(string, ...any) *sql.Row
	Prepare(string) (*sql.Stmt, error)
}

// answers says what the forms of Query make of a write.
func answers(db asker, text string, args []any) string {
	rows, err := db.Query(text, args...)
	if err != nil {
		return err.Error()
	}
	n := 0
	for rows.Next() {
		n++
	}
	columns, err := rows.Columns()
	got := fmt.Sprintf("%d rows of %d columns, %v, %v, %v", n, len(columns), err, rows.Err(), rows.Close())
	got += fmt.Sprintf("; one row: %v", db.QueryRow(text, args...).Scan(new(int)))
	stmt, err := db.Prepare(text)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = stmt.Close() }()
	return got + fmt.Sprintf("; prepared: %v", stmt.QueryRow(args...).Scan(new(int)))
}

// A program may ask for the rows of a write that has no RETURNING, and gets none from pgx.
// The captured columns must not make rows of it: a loop over them would scan what is not
// there, and `if err == sql.ErrNoRows` would take the other branch.
func TestQueryOfAWriteWithoutReturning(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	plain, err := l.plain.Begin()
	if err != nil {
		t.Fatal(err)
	}
	want := answers(plain, setFenceFirst, []any{5, 1})
	if err := plain.Rollback(); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		text string
		args []any
	}{
		{setFenceFirst, []any{5, 1}},
		{setLockFirst, []any{6, 1}},
		{"UPDATE accounts SET n = 7 WHERE id IN (1, 2, 3)", nil},
		{"INSERT INTO accounts (id, n) VALUES (1, 0) ON CONFLICT (id) DO UPDATE SET n = $1", []any{8}},
	} {
		if got := answers(l.db, c.text, c.args); got != want {
			t.Errorf("%s\n\tgives %s\n\tpgx   %s", c.text, got, want)
		}
		n := 5 + i
		l.wantRow(1, n)
		l.wantCached(1, n)
		tx, err := l.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if got := answers(tx, c.text, c.args); got != want {
			t.Errorf("in a transaction %s\n\tgives %s\n\tpgx   %s", c.text, got, want)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		l.wantCached(1, n)
	}
	l.wantTrue()
}

// The same for one connection whose search_path was changed past the driver: a text that
// named another table a moment ago names the ruled one now.
func TestSearchPathChangedPastTheDriver(t *testing.T) {
	ctx := context.Background()
	for _, in := range []string{"autocommit", "transaction", "script"} {
		for _, back := range []string{"SET search_path = %s", "SELECT set_config('search_path', '%s', false)", "RESET search_path"} {
			t.Run(in+"/"+back, func(t *testing.T) {
				l := newLedger(t, ledgerSetup{})
				l.warm(1)
				other := l.schema + "_other"
				if _, err := l.plain.Exec(fmt.Sprintf("CREATE SCHEMA %s CREATE TABLE accounts (id int, n int)", other)); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _, _ = l.plain.Exec("DROP SCHEMA " + other + " CASCADE") })
				conn := l.on()
				l.say(conn, "SET search_path = "+other, setOne)
				l.wantRow(1, 0)
				l.wantCached(1, 0)
				say := []string{setOne}
				switch in {
				case "transaction":
					l.say(conn, "BEGIN", setOne)
					say = append(say, "COMMIT")
				case "script":
					say = []string{"SELECT 1; " + setOne}
				}
				l.viaPgx(conn, strings.ReplaceAll(back, "%s", l.schema))
				l.say(conn, say...)
				l.wantRow(1, 1)
				l.wantTrue()
				if _, err := conn.ExecContext(ctx, "RESET search_path"); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}
