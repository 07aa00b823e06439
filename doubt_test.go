package wtcache_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// shortFences expire while a test waits.
func shortFences(c *wtcache.Config) {
	c.RedisTimeout, c.FenceLife = 250*time.Millisecond, time.Second
}

// While the server cannot be asked the fence is renewed, since the COMMIT may still land;
// but not for ever, or the key would never be cached again.
func TestDoubtThatCannotBeAskedForExpires(t *testing.T) {
	proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, base: way.base, config: shortFences})
	reader := l.other(ledgerSetup{})
	reader.warm(1)
	commit := setInTx(context.Background(), t, l, setOne)
	way.close(true)
	lose(t, proxy, "commit", commit)
	eventually(t, "the fence was renewed past its life", func() bool { return l.stats().Redis.Renewals >= 4 })
	if got := reader.read(1); got != 1 {
		t.Errorf("a reader gets %d, want 1", got)
	}
	l.wantInDoubt(1)
	eventually(t, "the driver gives up", func() bool { return l.stats().DoubtExpired == 1 })
	eventually(t, "a reader fills the key again", func() bool {
		if got := reader.read(1); got != 1 {
			t.Fatalf("a reader gets %d, want 1", got)
		}
		_, there := l.entry(1)
		return there
	})
	l.wantCached(1, 1)
	if l.heard.told("cannot be asked for") != 1 {
		t.Error("that the outcome was given up was not logged")
	}
}

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

// What a savepoint took back is not stored when the rest turns out to be committed.
func TestDoubtWithSavepoints(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.Postgres(t))
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
	l.warm(1, 2, 3)
	conn := l.on()
	l.say(conn, "BEGIN", "SAVEPOINT a", "UPDATE accounts SET n = 5 WHERE id = 1", "ROLLBACK TO a", "SAVEPOINT b",
		"UPDATE accounts SET n = 6 WHERE id = 2", "RELEASE b", "UPDATE accounts SET n = 7 WHERE id = 3")
	lose(t, proxy, "commit", func() error {
		_, err := conn.ExecContext(context.Background(), "COMMIT")
		return err
	})
	l.wantSettled(true)
	l.wantCached(1, 0)
	l.wantCached(2, 6)
	l.wantCached(3, 7)
	l.wantTrue()
}

// Coarse writes have no rows to tell the transaction by, and their rule's barrier keeps every
// key of it out of use: it has to fall when the outcome is known, and not before.
func TestDoubtOfCoarseWrites(t *testing.T) {
	for _, committed := range []bool{false, true} {
		for _, text := range []string{coarseOne, "TRUNCATE accounts"} {
			t.Run(fmt.Sprintf("%s/committed %v", text, committed), func(t *testing.T) {
				proxy := testenv.ProxyURL(t, testenv.Postgres(t))
				l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
				l.warm(1, 2, 3)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				trap := disturb(proxy, committed)
				returned := make(chan error, 1)
				go func() {
					_, err := l.db.ExecContext(ctx, text)
					returned <- err
				}()
				await(t, "the COMMIT on the wire", trap.Reached())
				if !strings.HasPrefix(text, "TRUNCATE") { // which locks readers out
					l.read(2)
				}
				l.wantAbsent(2)
				if !committed {
					cancel()
				} else {
					trap.Cut()
				}
				if err := await(t, "the caller's error", returned); err == nil {
					t.Error("the caller was told that it committed")
				}
				trap.Cut()
				l.wantSettled(committed)
				if text == coarseOne || !committed {
					l.warm(1, 2, 3) // the barrier is gone
					l.wantTrue()
				}
			})
		}
	}
}

// disturb catches a COMMIT: its acknowledgement, or itself.
func disturb(proxy *testenv.Proxy, committed bool) *testenv.Trap {
	if committed {
		return proxy.HoldReply("commit")
	}
	return proxy.HoldRequest("commit")
}

// Eventual writes have no fence. Their keys are made absent when the outcome is lost and
// again when it is known, since a reader may have filled the old row in between.
func TestDoubtOfEventualWrites(t *testing.T) {
	server := standbyless(t)
	proxy, way := testenv.ProxyURL(t, server.URL), &route{}
	l := newLedger(t, ledgerSetup{server: server.URL, postgres: proxy.URL, base: way.base, rule: "consistency: eventual\n", config: longFences})
	reader := l.other(ledgerSetup{rule: "consistency: eventual\n"})
	reader.warm(1)
	conn := l.on()
	l.say(conn, "BEGIN", "SET LOCAL synchronous_commit = on", setOne)
	returned := make(chan error, 1)
	go func() {
		_, err := conn.ExecContext(context.Background(), "COMMIT")
		returned <- err
	}()
	pid := l.waiting("SyncRep")
	way.lead(pgxConnector(t, l.dsn))
	proxy.Pause()
	proxy.Cut()
	if err := await(t, "the caller's error", returned); err == nil {
		t.Error("the caller was told that it committed")
	}
	eventually(t, "the key is made absent at once", func() bool { _, there := l.entry(1); return !there && l.stats().Redis.Owed == 0 })
	reader.warm(1) // with the old row: the new one cannot be seen yet
	l.wantCached(1, 0)
	l.must("SELECT pg_cancel_backend($1)", pid)
	l.wantSettled(true)
	l.wantAbsent(1)
	proxy.Resume()
	reader.wantTrue()
}

// The later of two writers has the last word, also where the earlier one's outcome is known
// only after it: or the earlier row would be served from then on.
func TestDoubtOfTheEarlierOfTwoWriters(t *testing.T) {
	for _, second := range []string{setFenceFirst, setLockFirst} {
		t.Run(second, func(t *testing.T) {
			proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
			l := newLedger(t, ledgerSetup{postgres: proxy.URL, base: way.base, config: longFences})
			later := l.other(ledgerSetup{config: longFences})
			later.warm(1)
			commit := setInTx(context.Background(), t, l, setOne)
			way.close(true)
			lose(t, proxy, "commit", commit)
			later.exec(second, 2, 1)
			if got := later.read(1); got != 2 {
				t.Errorf("after the later COMMIT a reader gets %d", got)
			}
			l.wantInDoubt(1)
			way.close(false)
			l.wantSettled(true)
			if n, there := l.entry(1); there && n != 2 {
				t.Errorf("%d is cached, which was older when it was settled", n)
			}
			later.wantTrue()
		})
	}
}

// Redis may be down when the COMMIT goes out, and its outcome lost as well: then there is no
// fence, and the key has to go once the COMMIT is certain to be visible, not before only.
func TestDoubtOfUnfencedWrites(t *testing.T) {
	redis := ownRedis(t)
	proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, redis: redis.URL, base: way.base, config: func(c *wtcache.Config) {
		impatient(c)
		longFences(c)
	}})
	reader := l.other(ledgerSetup{redis: redis.URL})
	reader.warm(1)
	commit := setInTx(context.Background(), t, l, setOne)
	way.close(true)
	redis.Kill()
	lose(t, proxy, "commit", commit)
	redis.Restart()
	eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
	l.wantAbsent(1)
	owed := l.stats().Redis.OwedTotal
	way.close(false)
	l.wantSettled(true)
	if s := l.stats(); s.Redis.OwedTotal == owed || s.Unfenced != 1 {
		t.Errorf("once it was known nothing more was owed; %d committed unfenced", s.Unfenced)
	}
	eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
	reader.wantTrue()
}

// A service that closes its database keeps nothing of it: no goroutine, no connection.
func TestDoubtLeavesNothingBehind(t *testing.T) {
	proxy, way := testenv.ProxyURL(t, testenv.Postgres(t)), &route{}
	l := newLedger(t, ledgerSetup{})
	connected := func() (n int) {
		if err := l.plain.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", l.schema).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for _, settled := range []bool{true, false} {
		before := runtime.NumGoroutine()
		way.close(false)
		named := *l
		named.db = l.open(withSearchPath(t, proxy.URL, l.schema)+"&application_name="+l.schema, ledgerSetup{base: way.base, config: longFences})
		commit := setInTx(context.Background(), t, &named, setOne)
		way.close(!settled)
		lose(t, proxy, "commit", commit)
		if settled {
			named.wantSettled(true)
			eventually(t, "the asker's connection is closed", func() bool { return connected() == 0 })
			named.db.SetMaxIdleConns(0)
		}
		if err := named.db.Close(); err != nil {
			t.Error(err)
		}
		eventually(t, "no connection and no goroutine is left", func() bool {
			return connected() == 0 && runtime.NumGoroutine() <= before
		})
		if s := named.stats(); !settled && s.DoubtExpired != 1 {
			t.Errorf("%d were left to expire by Close", s.DoubtExpired)
		}
	}
	l.wantInDoubt(1) // by the one that was closed
}

// Rows can arrive before the connection breaks, and tell which transaction it was. That not
// all of them came means that what came is not the whole of it: nothing is stored.
func TestDoubtOfRowsThatBrokeOff(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.Postgres(t))
	l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
	l.must("ALTER TABLE accounts ADD COLUMN wide text")
	wide := strings.Repeat("x", 100_000)
	if err := l.db.Ping(); err != nil {
		t.Fatal(err)
	}
	cut := proxy.CutAfterBytes(testenv.Replies, 150_000) // in the second row
	if _, err := l.db.Exec("INSERT INTO accounts (id, n, wide) VALUES (101, 1, $1), (102, 1, $1)", wide); err == nil {
		t.Error("the caller was told that it committed")
	}
	await(t, "the cut", cut)
	if s := l.stats(); s.FenceFirst != 1 {
		t.Fatalf("%d writes were fenced first: the test needs one", s.FenceFirst)
	}
	eventually(t, "nothing is in doubt", func() bool {
		s := l.stats()
		return s.InDoubt == 1 && s.DoubtCommitted+s.DoubtAborted == 1
	})
	for _, id := range []int{101, 102} {
		l.wantAbsent(id)
		if l.fenced(id) {
			t.Errorf("account %d is still fenced", id)
		}
	}
}

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
