package wtcache_test

import (
	"context"
	"testing"
)

// What another session has prepared may be rows of any rule. COMMIT PREPARED commits them,
// so that every entry has to go.
func TestCommitPreparedIsCoarse(t *testing.T) {
	for _, c := range []struct {
		word string
		want int
	}{{"COMMIT", 1}, {"ROLLBACK", 0}} {
		t.Run(c.word, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{})
			l.warm(1, 2)
			l.prepare(setOne)
			if c.word == "COMMIT" {
				l.exec("COMMIT PREPARED '" + l.schema + "'")
				l.wantAbsent(1)
				l.wantAbsent(2)
			} else {
				l.exec("ROLLBACK PREPARED '" + l.schema + "'")
				l.wantCached(1, 0)
			}
			l.wantRow(1, c.want)
			l.wantTrue()
			l.warm(1) // the barrier is gone
			l.wantCached(1, c.want)
		})
	}
}

// prepare has a session that knows nothing of wtcache prepare a transaction.
func (l *ledger) prepare(text string) {
	l.t.Helper()
	tx, err := l.plain.Begin()
	if err != nil {
		l.t.Fatal(err)
	}
	for _, text := range []string{text, "PREPARE TRANSACTION '" + l.schema + "'"} {
		if _, err := tx.Exec(text); err != nil {
			l.t.Fatal(err)
		}
	}
	_ = tx.Commit() // it has ended by what was said
}

// A COMMIT PREPARED that fails, or is refused without Redis, has changed nothing: neither the
// prepared transaction nor, for longer than it took, what readers may do.
func TestCommitPreparedThatFails(t *testing.T) {
	server := ownRedis(t)
	l := newLedger(t, ledgerSetup{redis: server.URL, rule: "redis_down: refuse\n", config: impatient})
	name := "COMMIT PREPARED '" + l.schema + "'"
	if _, err := l.db.Exec(name); sqlState(err) != "42704" {
		t.Errorf("of a transaction that is not there: %v", err)
	}
	l.warm(1)
	conn := l.on()
	l.say(conn, "BEGIN")
	if _, err := conn.ExecContext(context.Background(), name); sqlState(err) != "25001" {
		t.Errorf("inside a transaction: %v", err)
	}
	l.say(conn, "ROLLBACK")
	if _, err := l.db.Exec(setOne + "; " + name); sqlState(err) != "25001" {
		t.Errorf("among other statements: %v", err)
	}
	l.noTransaction(conn)
	l.wantRow(1, 0)
	l.prepare(setOne)
	server.Kill()
	if _, err := l.db.Exec(name); !mentions(err, "accounts") {
		t.Errorf("without Redis: %v", err)
	}
	l.wantRow(1, 0)
	server.Restart()
	eventually(t, "it is committed", func() bool { _, err := l.db.Exec(name); return err == nil })
	l.wantRow(1, 1)
	l.wantTrue()
}

// PREPARE TRANSACTION hands captured rows to a session that nobody here would see, whatever
// kind of write they come from.
func TestPrepareTransactionIsRefusedAfterEveryKind(t *testing.T) {
	for _, c := range []struct{ rule, text string }{
		{"", coarseOne}, {"", "TRUNCATE accounts"}, {"consistency: eventual\n", setOne}, {"consistency: eventual\n", coarseOne},
	} {
		l := newLedger(t, ledgerSetup{rule: c.rule})
		conn := l.on()
		l.say(conn, "BEGIN", c.text)
		if _, err := conn.ExecContext(context.Background(), "PREPARE TRANSACTION '"+l.schema+"'"); !mentions(err, "PREPARE TRANSACTION", "COMMIT instead") {
			t.Errorf("%s under %q: %v", c.text, c.rule, err)
		}
		l.say(conn, "SAVEPOINT a", "ROLLBACK") // the transaction goes on
		l.say(conn, "BEGIN", "SAVEPOINT a", c.text, "ROLLBACK TO a", "PREPARE TRANSACTION '"+l.schema+"'", "ROLLBACK PREPARED '"+l.schema+"'")
	}
}
