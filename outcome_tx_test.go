package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A transaction's entries must follow its outcome exactly: a caller who commits gets the
// new value from the cache, one who rolls back never leaves what was not committed there.
// Every program starts from account 1 being 0 and cached.
var outcomePrograms = []struct {
	name  string
	texts []string // sent one by one over one connection; one that starts with "!" must fail
	n     int      // of account 1 afterwards, in Postgres and in its entry
	gone  bool     // its entry is absent: the driver cannot know which write holds
}{
	{name: "commit", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "COMMIT"}, n: 1},
	{name: "commit in other words", texts: []string{"start transaction", "UPDATE accounts SET n = 1 WHERE id = 1", "/* done */ End Work;"}, n: 1},
	{name: "isolation level", texts: []string{"BEGIN ISOLATION LEVEL SERIALIZABLE", "UPDATE accounts SET n = 1 WHERE id = 1", "commit work"}, n: 1},
	{name: "rollback", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "ROLLBACK"}, n: 0},
	{name: "abort", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "abort transaction"}, n: 0},
	{name: "last write wins", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "UPDATE accounts SET n = 2 WHERE id = 1", "COMMIT"}, n: 2},
	{name: "second BEGIN", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "BEGIN", "COMMIT"}, n: 1},
	{name: "COMMIT outside", texts: []string{"UPDATE accounts SET n = 1 WHERE id = 1", "COMMIT", "ROLLBACK"}, n: 1},
	{name: "savepoint rolled back", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "SAVEPOINT a",
		"UPDATE accounts SET n = 2 WHERE id = 1", "ROLLBACK TO a", "COMMIT"}, n: 1},
	{name: "savepoint rolled back, nothing else", texts: []string{"BEGIN", "SAVEPOINT a",
		"UPDATE accounts SET n = 2 WHERE id = 1", "ROLLBACK TRANSACTION TO SAVEPOINT a", "COMMIT"}, n: 0},
	{name: "savepoint released", texts: []string{"BEGIN", "SAVEPOINT a", "UPDATE accounts SET n = 2 WHERE id = 1", "RELEASE a", "COMMIT"}, n: 2},
	{name: "released into one that is rolled back", texts: []string{"BEGIN", "SAVEPOINT a", "SAVEPOINT b",
		"UPDATE accounts SET n = 2 WHERE id = 1", "RELEASE SAVEPOINT b", "ROLLBACK TO a", "COMMIT"}, n: 0},
	{name: "rolled back twice", texts: []string{"BEGIN", "SAVEPOINT a", "UPDATE accounts SET n = 1 WHERE id = 1", "ROLLBACK TO a",
		"UPDATE accounts SET n = 2 WHERE id = 1", "ROLLBACK TO a", "UPDATE accounts SET n = 3 WHERE id = 1", "COMMIT"}, n: 3},
	{name: "same name, inner rolled back", texts: []string{"BEGIN", "SAVEPOINT a", "UPDATE accounts SET n = 1 WHERE id = 1",
		"SAVEPOINT a", "UPDATE accounts SET n = 2 WHERE id = 1", "ROLLBACK TO a", "COMMIT"}, n: 1},
	{name: "same name, outer rolled back", texts: []string{"BEGIN", "SAVEPOINT a", "UPDATE accounts SET n = 1 WHERE id = 1",
		"SAVEPOINT a", "UPDATE accounts SET n = 2 WHERE id = 1", "RELEASE a", "ROLLBACK TO a", "COMMIT"}, n: 0},
	{name: "names are folded", texts: []string{"BEGIN", "SAVEPOINT Foo", "UPDATE accounts SET n = 1 WHERE id = 1", "ROLLBACK TO fOO", "COMMIT"}, n: 0},
	{name: "quoted names are not", texts: []string{"BEGIN", `SAVEPOINT "A"`, "UPDATE accounts SET n = 1 WHERE id = 1", "SAVEPOINT a",
		"UPDATE accounts SET n = 2 WHERE id = 1", `ROLLBACK TO "A"`, "COMMIT"}, n: 0},
	{name: "names are cut at 63 bytes", texts: []string{"BEGIN", "SAVEPOINT " + long + "x", "UPDATE accounts SET n = 1 WHERE id = 1",
		"ROLLBACK TO " + long + "y", "COMMIT"}, n: 0},
	{name: "unknown savepoint", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "!ROLLBACK TO nowhere", "COMMIT"}, n: 0},
	{name: "saved from a failure", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "SAVEPOINT a",
		"!UPDATE accounts SET n = 1/0 WHERE id = 1", "ROLLBACK TO a", "COMMIT"}, n: 1},
	{name: "COMMIT of a failed transaction", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "!SELECT 1/0", "COMMIT"}, n: 0},
	{name: "COMMIT AND CHAIN", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "COMMIT AND CHAIN",
		"UPDATE accounts SET n = 2 WHERE id = 1", "ROLLBACK"}, n: 1},
	{name: "COMMIT AND CHAIN twice", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "COMMIT AND CHAIN",
		"UPDATE accounts SET n = 2 WHERE id = 1", "COMMIT AND NO CHAIN"}, n: 2},
	{name: "ROLLBACK AND CHAIN", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "ROLLBACK AND CHAIN",
		"UPDATE accounts SET n = 2 WHERE id = 1", "COMMIT"}, n: 2},
	{name: "savepoints end with their transaction", texts: []string{"BEGIN", "SAVEPOINT a", "COMMIT AND CHAIN", "UPDATE accounts SET n = 1 WHERE id = 1",
		"!ROLLBACK TO a", "ROLLBACK"}, n: 0},

	// Texts of several statements.
	{name: "whole transaction in one text", texts: []string{"BEGIN; UPDATE accounts SET n = 1 WHERE id = 1; COMMIT"}, n: 1},
	{name: "rolled back in one text", texts: []string{"BEGIN; UPDATE accounts SET n = 1 WHERE id = 1; ROLLBACK"}, n: 0},
	{name: "implicit transaction", texts: []string{"UPDATE accounts SET n = 1 WHERE id = 1; UPDATE accounts SET n = n + 1 WHERE id = 1"}, n: 2},
	{name: "implicit transaction that fails", texts: []string{"!UPDATE accounts SET n = 1 WHERE id = 1; SELECT 1/0; SELECT 1"}, n: 0},
	{name: "COMMIT in the middle", texts: []string{"!UPDATE accounts SET n = 1 WHERE id = 1; COMMIT; UPDATE accounts SET n = 2 WHERE id = 1; SELECT 1/0"}, n: 1},
	{name: "ROLLBACK in the middle", texts: []string{"UPDATE accounts SET n = 1 WHERE id = 1; ROLLBACK; UPDATE accounts SET n = 2 WHERE id = 1"}, n: 2},
	{name: "BEGIN in the middle", texts: []string{"UPDATE accounts SET n = 1 WHERE id = 1; BEGIN; UPDATE accounts SET n = 2 WHERE id = 1", "ROLLBACK"}, n: 0},
	{name: "BEGIN at the end", texts: []string{"UPDATE accounts SET n = 1 WHERE id = 1; BEGIN", "UPDATE accounts SET n = 2 WHERE id = 1", "COMMIT"}, n: 2},
	{name: "two transactions", texts: []string{"BEGIN; UPDATE accounts SET n = 1 WHERE id = 1; COMMIT; BEGIN; UPDATE accounts SET n = 2 WHERE id = 1; ROLLBACK"}, n: 1},
	{name: "fails inside BEGIN", texts: []string{"!BEGIN; UPDATE accounts SET n = 1 WHERE id = 1; SELECT 1/0; COMMIT", "COMMIT"}, n: 0},
	{name: "left open", texts: []string{"BEGIN; UPDATE accounts SET n = 1 WHERE id = 1", "UPDATE accounts SET n = 2 WHERE id = 1; COMMIT"}, n: 2},
	{name: "savepoints in one text", texts: []string{"BEGIN; SAVEPOINT a; UPDATE accounts SET n = 1 WHERE id = 1; ROLLBACK TO a; UPDATE accounts SET n = n + 5 WHERE id = 1; COMMIT"}, n: 5},
	{name: "savepoint set before anything was written", texts: []string{"BEGIN; SAVEPOINT a", "UPDATE accounts SET n = 1 WHERE id = 1", "ROLLBACK TO a", "COMMIT"}, n: 0},
	{name: "savepoint set beside a read", texts: []string{"BEGIN", "SAVEPOINT a; SELECT 1", "UPDATE accounts SET n = 1 WHERE id = 1", "ROLLBACK TO a", "COMMIT"}, n: 0},
	{name: "inner savepoint set beside a read", texts: []string{"BEGIN", "SAVEPOINT a", "UPDATE accounts SET n = 1 WHERE id = 1", "SAVEPOINT a; SELECT 1",
		"UPDATE accounts SET n = 2 WHERE id = 1", "SELECT 1; ROLLBACK TO a", "COMMIT"}, n: 1},
	{name: "savepoint set by a text that fails", texts: []string{"BEGIN", "!SAVEPOINT a; SELECT 1/0", "ROLLBACK TO a",
		"UPDATE accounts SET n = 1 WHERE id = 1", "ROLLBACK TO a", "COMMIT"}, n: 0, gone: true},
	{name: "read beside COMMIT", texts: []string{"BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1", "SELECT 1; COMMIT; SELECT 2"}, n: 1},
	{name: "SAVEPOINT in an implicit transaction", texts: []string{"!UPDATE accounts SET n = 1 WHERE id = 1; SAVEPOINT a"}, n: 0},
	{name: "COMMIT AND CHAIN in an implicit transaction", texts: []string{"!UPDATE accounts SET n = 1 WHERE id = 1; COMMIT AND CHAIN"}, n: 0},
}

const long = "a23456789_123456789_123456789_123456789_123456789_123456789_123" // 63 bytes

func TestOutcomeOfTransactionWords(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	for _, p := range outcomePrograms {
		t.Run(p.name, func(t *testing.T) {
			l.t = t
			l.exec("UPDATE accounts SET n = 0 WHERE id = 1")
			l.warm(1)
			conn, err := l.db.Conn(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range p.texts {
				fails := text[0] == '!'
				if fails {
					text = text[1:]
				}
				if _, err := conn.ExecContext(context.Background(), text); (err != nil) != fails {
					t.Fatalf("%s: error %v, want one: %v", text, err, fails)
				}
			}
			if err := conn.Close(); err != nil {
				t.Fatal(err)
			}
			l.wantRow(1, p.n)
			if p.gone {
				l.wantAbsent(1)
			} else {
				l.wantCached(1, p.n)
			}
		})
	}
}

// The same by database/sql's own calls.
func TestOutcomeOfTx(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		name string
		run  func(*sql.Tx) error
		n    int
	}{
		{"Commit", func(tx *sql.Tx) error { return tx.Commit() }, 1},
		{"Rollback", func(tx *sql.Tx) error { return tx.Rollback() }, 0},
		{"rows half read, then Commit", func(tx *sql.Tx) error {
			rows, err := tx.Query("UPDATE accounts SET n = n + 1 WHERE id IN (1, 2, 3) RETURNING id")
			if err != nil || !rows.Next() {
				return errors.Join(err, errors.New("no row"))
			}
			return errors.Join(rows.Close(), tx.Commit())
		}, 2},
		{"rows left open, then Commit", func(tx *sql.Tx) error {
			qctx, cancel := context.WithCancel(ctx)
			defer cancel()
			if _, err := tx.QueryContext(qctx, "UPDATE accounts SET n = n + 1 WHERE id IN (1, 2, 3) RETURNING id"); err != nil {
				return err
			}
			return tx.Commit()
		}, 2},
		{"prepared in the transaction", func(tx *sql.Tx) error {
			stmt, err := tx.Prepare("UPDATE accounts SET n = $1 WHERE id = $2")
			if err != nil {
				return err
			}
			_, err = stmt.Exec(7, 1)
			return errors.Join(err, tx.Commit())
		}, 7},
		{"COMMIT as text, then Commit", func(tx *sql.Tx) error {
			if _, err := tx.Exec("COMMIT"); err != nil {
				return err
			}
			return tx.Commit() // outside a transaction by now: a warning of the server's
		}, 1},
		{"ROLLBACK as text, then Commit", func(tx *sql.Tx) error {
			if _, err := tx.Exec("ROLLBACK"); err != nil {
				return err
			}
			return tx.Commit()
		}, 0},
		{"COMMIT prepared", func(tx *sql.Tx) error {
			stmt, err := tx.Prepare("COMMIT")
			if err != nil {
				return err
			}
			_, err = stmt.Exec()
			return errors.Join(err, stmt.Close())
		}, 1},
		{"COMMIT queried", func(tx *sql.Tx) error {
			rows, err := tx.Query("COMMIT")
			if err != nil {
				return err
			}
			return rows.Close()
		}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{})
			l.warm(1)
			tx, err := l.db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := tx.Exec("UPDATE accounts SET n = n + 1 WHERE id = 1"); err != nil {
				t.Fatal(err)
			}
			l.wantCached(1, 0) // nothing is said to Redis before COMMIT is asked for
			if err := c.run(tx); err != nil {
				t.Error(err)
			}
			_ = tx.Rollback()
			l.wantRow(1, c.n)
			l.wantCached(1, c.n)
			l.wantTrue()
		})
	}
}

// A COMMIT that the server turns into a rollback is an error to database/sql's callers
// and none to those who send the word; the entry must stay what it was for both.
func TestOutcomeOfFailedTransaction(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(setFenceFirst, 1, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("SELECT 1/0"); sqlState(err) != "22012" {
		t.Fatal(err)
	}
	if err := tx.Commit(); !errors.Is(err, pgx.ErrTxCommitRollback) {
		t.Errorf("Commit of a failed transaction: %v", err)
	}
	l.wantRow(1, 0)
	l.wantCached(1, 0)
}

// A connection that is given back with a transaction open is thrown away by the pool:
// what was written in it must not reach the cache, now or by its next user.
func TestOutcomeOfConnClosedInTransaction(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	conn := l.on()
	l.say(conn, "BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	l.exec(setFenceFirst, 5, 2) // by another connection, or by the same after its reset
	l.wantRow(1, 0)
	l.wantCached(1, 0)
	l.wantCached(2, 5)
}

// BEGIN as text and then BeginTx is one transaction to the server; what came before
// BeginTx is committed by its Commit.
func TestOutcomeOfBeginTxInsideBegin(t *testing.T) {
	ctx := context.Background()
	l := newLedger(t, ledgerSetup{})
	l.warm(1, 2)
	conn := l.on()
	l.say(conn, "BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1")
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(setFenceFirst, 2, 2); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	l.wantCached(1, 1)
	l.wantCached(2, 2)
}

// pgx can fail to decode a row that the server has written: the error is the caller's,
// and the transaction lives on. What was not seen of it must not stay in the cache.
func TestOutcomeOfRowsThatCannotBeDecoded(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	db := l.open(l.dsn+"&default_query_exec_mode=simple_protocol&datestyle=German", ledgerSetup{redis: testenv.RealRedis(t)})
	l.warm(1, 2, 3)
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	rows, err := tx.Query("UPDATE accounts SET n = id WHERE id <= 3 RETURNING '2000-01-31'::date")
	if err == nil {
		for rows.Next() {
		}
		err = errors.Join(rows.Err(), rows.Close())
	}
	if err == nil {
		t.Fatal("pgx decodes the row by now: the test needs one that it cannot decode")
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	l.wantRow(3, 3)
	l.wantTrue()
}

// A COMMIT that went past the driver is met with at its connection's next statement: the
// keys that were captured become absent, also where the next statement is another BEGIN.
func TestOutcomeOfCommitThroughRaw(t *testing.T) {
	ctx := context.Background()
	for _, next := range []string{"SELECT 1; SELECT 2", "BEGIN", "UPDATE accounts SET n = 2 WHERE id = 2", "begin tx"} {
		t.Run(next, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{})
			l.warm(1)
			conn := l.on()
			l.say(conn, "BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1")
			if err := conn.Raw(func(dc any) error {
				pc, ok := wtcache.PgxConn(dc)
				if !ok {
					return errors.New("no pgx connection under the driver's")
				}
				_, err := pc.Exec(ctx, "COMMIT")
				return err
			}); err != nil {
				t.Fatal(err)
			}
			if next == "begin tx" {
				tx, err := conn.BeginTx(ctx, nil)
				if err != nil {
					t.Fatal(err)
				}
				if err := tx.Rollback(); err != nil {
					t.Fatal(err)
				}
			} else {
				l.say(conn, next, "ROLLBACK")
			}
			eventually(t, "the key is absent", func() bool { _, there := l.entry(1); return !there })
			l.wantTrue()
		})
	}
}

// PREPARE TRANSACTION hands the decision to another session, which nobody here would
// see: after ruled writes it is refused, and nothing of the transaction is lost by that.
func TestPrepareTransactionIsRefusedAfterRuledWrites(t *testing.T) {
	ctx := context.Background()
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	conn := l.on()
	for _, text := range []string{"PREPARE TRANSACTION 'wtcache'", "SELECT 1; PREPARE TRANSACTION 'wtcache'"} {
		l.say(conn, "BEGIN", "UPDATE accounts SET n = 1 WHERE id = 1")
		if _, err := conn.ExecContext(ctx, text); !errors.Is(err, wtcache.ErrNotCapturable) {
			t.Errorf("%s after a ruled write: %v", text, err)
		}
		l.say(conn, "ROLLBACK")
		l.wantCached(1, 0)
	}
	l.say(conn, "BEGIN", "UPDATE unruled SET n = 1", "PREPARE TRANSACTION '"+l.schema+"'", "COMMIT PREPARED '"+l.schema+"'")
}
