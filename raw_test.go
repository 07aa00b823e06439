package wtcache_test

import (
	"context"
	"database/sql"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache"
)

// What goes past the driver inside a transaction can undo what was captured, or write it
// again: the payloads that were kept would be served although they were never committed.
func TestNothingUncommittedIsCachedAfterRaw(t *testing.T) {
	for _, c := range []struct {
		name, past string
		after      []string
	}{
		{"another transaction", "ROLLBACK; BEGIN", nil},
		{"another transaction that writes", "ROLLBACK; BEGIN", []string{"UPDATE accounts SET n = 5 WHERE id = 2"}},
		{"the row once more", "UPDATE accounts SET n = 2 WHERE id = 1", nil},
		{"back to a savepoint", "ROLLBACK TO s", nil},
		{"a savepoint of a known name", "SAVEPOINT s", []string{"ROLLBACK TO s"}},
		{"the commit of a savepoint", "RELEASE s; SAVEPOINT t", []string{"ROLLBACK TO t"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{})
			l.warm(1, 2)
			conn := l.on()
			l.say(conn, "BEGIN", "SAVEPOINT s", "UPDATE accounts SET n = 1 WHERE id = 1")
			l.viaPgx(conn, c.past)
			l.say(conn, append(c.after, "COMMIT")...)
			l.wantTrue()
		})
	}
}

// The same where nothing tells that it went past: rows of two transactions in one log mean
// that nobody knows how the first one ended.
func TestNothingUncommittedIsCachedOfTwoTransactions(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1, 2)
	conn := l.on()
	pc := pgxOf(t, conn)
	l.say(conn, "BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1")
	if _, err := pc.PgConn().Exec(context.Background(), "ROLLBACK; BEGIN").ReadAll(); err != nil {
		t.Fatal(err)
	}
	l.say(conn, "UPDATE accounts SET n = 5 WHERE id = 2", "COMMIT")
	l.wantTrue()
}

// A connection that ends after a COMMIT past the driver must not take what was captured with it.
func TestCommitThroughRawBeforeTheConnectionEnds(t *testing.T) {
	for _, reused := range []bool{false, true} {
		l := newLedger(t, ledgerSetup{})
		l.db.SetMaxOpenConns(1)
		if !reused {
			l.db.SetMaxIdleConns(-1)
		}
		l.read(1)
		conn := l.on()
		l.say(conn, "BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1")
		l.viaPgx(conn, "COMMIT")
		if err := conn.Close(); err != nil {
			t.Fatal(err)
		}
		l.exec("SELECT 1")
		eventually(t, "the key is absent", func() bool { n, there := l.entry(1); return !there || n == 1 })
	}
}

func pgxOf(t *testing.T, conn *sql.Conn) (pc *pgx.Conn) {
	t.Helper()
	if err := conn.Raw(func(dc any) error {
		pc, _ = wtcache.PgxConn(dc)
		return nil
	}); err != nil || pc == nil {
		t.Fatalf("no pgx connection under the driver's: %v", err)
	}
	return pc
}
