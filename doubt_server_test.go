package wtcache_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
)

// standbyless is a Postgres whose COMMITs wait for a standby that is not there, where the
// transaction asks for it: on disk they are committed, and nobody can see them.
func standbyless(t *testing.T) *testenv.PostgresServer {
	return testenv.NewPostgres(t, testenv.PostgresOptions{Settings: map[string]string{
		"synchronous_standby_names": "nobody", "synchronous_commit": "local",
	}})
}

// A COMMIT that waits for a standby is not in anybody's snapshot, though its record is
// written. Taken for committed it would be served before it can be read; with its fence gone
// a reader would fill the old row, and keep it when the new one becomes visible.
func TestDoubtIsNotSettledBeforeTheCommitIsVisible(t *testing.T) {
	server := standbyless(t)
	proxy, way := testenv.ProxyURL(t, server.URL), &route{}
	l := newLedger(t, ledgerSetup{server: server.URL, postgres: proxy.URL, base: way.base, config: shortFences})
	reader := l.other(ledgerSetup{})
	reader.warm(1)
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"SET LOCAL synchronous_commit = on", setOne} {
		if _, err := tx.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	returned := make(chan error, 1)
	go func() { returned <- tx.Commit() }()
	pid := l.waiting("SyncRep")
	way.lead(pgxConnector(t, l.dsn))
	proxy.Pause() // or pgx's own cancellation would end the wait
	proxy.Cut()
	if err := await(t, "the caller's error", returned); err == nil {
		t.Error("the caller was told that it committed")
	}
	before := l.stats().Redis.Renewals
	eventually(t, "the fence was renewed past its life, and past what an unknown outcome gets", func() bool {
		return l.stats().Redis.Renewals >= before+13
	})
	if got := reader.read(1); got != 0 {
		t.Errorf("a reader gets %d, which nobody can see yet", got)
	}
	l.wantInDoubt(1)
	l.must("SELECT pg_cancel_backend($1)", pid) // ends the wait, not the transaction
	l.wantSettled(true)
	l.wantRow(1, 1)
	l.wantCached(1, 1)
	proxy.Resume()
}

// A COMMIT can be ended from outside at every point. What came of it only the server knows.
func TestDoubtOfCommitThatIsEnded(t *testing.T) {
	server := standbyless(t)
	for _, c := range []struct {
		name      string
		before    string // in the transaction
		event     string // what its COMMIT waits for
		committed bool
	}{
		{"before it is written", "INSERT INTO slow VALUES (1)", "advisory", false},
		{"after it is written", "SET LOCAL synchronous_commit = on", "SyncRep", true},
	} {
		for _, by := range []string{"terminated", "caller gives up", "deadline"} {
			t.Run(c.name+"/"+by, func(t *testing.T) {
				l := newLedger(t, ledgerSetup{server: server.URL, config: longFences})
				l.must(`CREATE TABLE slow (id int);
					CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END';
					CREATE CONSTRAINT TRIGGER late AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()`)
				blocker, err := l.plain.Begin()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = blocker.Rollback() }()
				if _, err := blocker.Exec("SELECT pg_advisory_xact_lock(4711)"); err != nil {
					t.Fatal(err)
				}
				l.warm(1)
				ctx, cancel := deadlined(by == "deadline")
				defer cancel()
				conn := l.on()
				l.say(conn, "BEGIN", c.before, setOne)
				returned := make(chan error, 1)
				go func() {
					_, err := conn.ExecContext(ctx, "COMMIT")
					returned <- err
				}()
				pid := l.waiting(c.event)
				if by == "terminated" {
					l.must("SELECT pg_terminate_backend($1)", pid)
				} else {
					cancel()
				}
				if err := await(t, "the caller's error", returned); err == nil {
					t.Error("the caller was told that it committed")
				}
				l.wantSettled(c.committed)
				if c.committed {
					l.wantRow(1, 1)
					l.wantCached(1, 1)
				} else {
					l.wantRow(1, 0)
					l.wantAbsent(1)
				}
				l.wantTrue()
			})
		}
	}
}

// deadlined gives a context that ends by cancel, with a deadline's error or a cancellation's.
func deadlined(deadline bool) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	if deadline {
		return &overdue{Context: ctx}, cancel
	}
	return ctx, cancel
}

// overdue says DeadlineExceeded when it is cancelled: a deadline that a test lets pass.
type overdue struct{ context.Context }

func (o *overdue) Err() error {
	if o.Context.Err() == nil {
		return nil
	}
	return context.DeadlineExceeded
}

// A server that restarts in order keeps what it knew: the outcome can be asked for as before.
func TestDoubtAcrossARestart(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			proxy := testenv.ProxyURL(t, server.URL)
			l := newLedger(t, ledgerSetup{server: server.URL, postgres: proxy.URL, config: longFences})
			l.warm(1)
			commit := setInTx(context.Background(), t, l, setOne)
			trap := disturb(proxy, committed)
			returned := make(chan error, 1)
			go func() { returned <- commit() }()
			await(t, "the COMMIT on the wire", trap.Reached())
			server.Restart()
			trap.Cut()
			if err := await(t, "the caller's error", returned); err == nil {
				t.Error("the caller was told that it committed")
			}
			l.wantSettled(committed)
			if committed {
				l.wantCached(1, 1)
			} else {
				l.wantAbsent(1)
			}
			eventually(t, "the pool has living connections", func() bool { return l.plain.Ping() == nil && l.db.Ping() == nil })
			l.wantTrue()
		})
	}
}

// A crash loses transactions whose WAL was not written, and the server gives their numbers
// out again. Here the number of one that was lost is soon that of another one, which is
// committed: the lost one's row must not be served for that.
func TestDoubtAfterACrashIsNotSettledByAnothersNumber(t *testing.T) {
	server := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"wal_writer_delay": "10s", "synchronous_commit": "off"}})
	proxy := testenv.ProxyURL(t, server.URL)
	l := newLedger(t, ledgerSetup{server: server.URL, postgres: proxy.URL, config: shortFences})
	l.must("CHECKPOINT") // the tables outlive the crash
	l.warm(1)
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var lost, number int64
	if _, err := tx.Exec(setOne); err != nil {
		t.Fatal(err)
	}
	if err := tx.QueryRow("SELECT txid_current()").Scan(&lost); err != nil {
		t.Fatal(err)
	}
	trap := proxy.HoldRequest("commit")
	returned := make(chan error, 1)
	go func() { returned <- tx.Commit() }()
	await(t, "the COMMIT on the wire", trap.Reached())
	server.Kill()
	server.Restart()
	for number < lost {
		plain := openPlain(t, l.dsn)
		if err := plain.QueryRow("UPDATE unruled SET n = n + 1 RETURNING txid_current()").Scan(&number); err != nil {
			t.Fatal(err)
		}
	}
	if number != lost {
		t.Fatalf("the first number after that crash was %d, past the lost %d: the test needs it given out again", number, lost)
	}
	trap.Cut()
	if err := await(t, "the caller's error", returned); err == nil {
		t.Error("the caller was told that it committed")
	}
	eventually(t, "nothing is in doubt", func() bool {
		s := l.stats()
		return s.DoubtFinished+s.DoubtExpired+s.DoubtCommitted+s.DoubtAborted == 1
	})
	if s := l.stats(); s.DoubtFinished != 1 {
		t.Errorf("settled as committed %d, aborted %d, expired %d, want finished", s.DoubtCommitted, s.DoubtAborted, s.DoubtExpired)
	}
	if l.fenced(1) {
		t.Error("account 1 is still fenced")
	}
	l.wantAbsent(1)
	l.plain = openPlain(t, l.dsn)
	l.wantRow(1, 0)
	l.wantTrue()
}
