package wtcache_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

func fewKeys(c *wtcache.Config) { c.MaxQueuedKeys = 5 }

// filled writes past Redis until everything is owed and no write costs more than its own statement.
func (l *ledger) filled() {
	l.t.Helper()
	l.downed()
	for i := 0; l.stats().Outbox.Full == 0; i++ {
		l.exec(setLockFirst, i, 9)
	}
}

// seenBy lets what matches pass, and says whether anything did.
func seenBy(p *testenv.Proxy, match string) (seen func() bool) {
	trap := p.HoldRequest(match)
	trap.Release()
	return func() bool {
		select {
		case <-trap.Reached():
			return true
		default:
			return false
		}
	}
}

// Past MaxQueuedKeys a write costs what it costs without a cache, and yet nobody is served what it has overwritten.
func TestQueueOfALongOutage(t *testing.T) {
	proxy := testenv.ProxyURL(t, testenv.Postgres(t))
	l, link, schema := cutLedger(t, ledgerSetup{postgres: proxy.URL}, fewKeys)
	well := l.beside(ledgerSetup{config: withOutbox(t, schema)})
	well.warm(1, 2, 3, 4)
	link.Pause()
	l.filled()
	eventually(t, "another process has drained what was queued by key", func() bool { return count(t, l.plain, schema+".outbox") == 1 })
	begun, inserted := seenBy(proxy, "begin"), seenBy(proxy, "insert into")
	for n := 1; n <= 20; n++ {
		l.exec(setFenceFirst, n, 1)
		l.exec(setLockFirst, n, 2)
		var got int
		if err := l.db.QueryRow("UPDATE accounts SET n = $1 WHERE id = 3 RETURNING n", n).Scan(&got); err != nil || got != n {
			t.Fatalf("returned %d, %v", got, err)
		}
		for id := 1; id <= 3; id++ {
			if got, read := well.reads(id); got != n {
				t.Fatalf("account %d is read as %d (from cache: %v) after the commit of %d", id, got, read.FromCache, n)
			}
		}
	}
	if begun() || inserted() {
		t.Errorf("an autocommit write has begun a transaction: %v, was queued by itself: %v", begun(), inserted())
	}
	if err := inOneTx("UPDATE accounts SET n = 21 WHERE id = 4", "UPDATE accounts SET n = 21 WHERE id = 1")(t.Context(), l.db); err != nil {
		t.Fatal(err)
	}
	if _, err := l.db.Exec("INSERT INTO accounts VALUES (1, 1)"); sqlState(err) != "23505" {
		t.Errorf("a statement that fails: %v", err)
	}
	if n := count(t, l.plain, schema+".outbox"); n != 1 {
		t.Errorf("%d rows are in the outbox: each write costs one", n)
	}
	if n, read := well.reads(4); n != 21 {
		t.Errorf("reads %d (from cache: %v) after the commit of 21", n, read.FromCache)
	}
	link.Resume()
	settled(t, l.plain, schema)
	l.wantTrue()
	well.wantTrue()
	eventually(t, "hits come back", func() bool { _, read := well.reads(1); return read.FromCache })
}

// Writers of every kind, a link that comes and goes, and readers all the while: none may read less than what was acknowledged before it began.
func TestQueueOfALongOutageWhileRedisComesBack(t *testing.T) {
	l, link, schema := cutLedger(t, ledgerSetup{}, fewKeys)
	well := l.beside(ledgerSetup{config: withOutbox(t, schema)})
	well.warm(1, 2, 3, 4)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	defer func() { stop(); all.Wait() }()
	var acknowledged [5]atomic.Int64
	writes := []func(n int64, id int) error{
		func(n int64, id int) error { _, err := l.db.Exec(setFenceFirst, n, id); return err },
		func(n int64, id int) error { _, err := l.db.Exec(setLockFirst, n, id); return err },
		func(n int64, id int) error {
			return inOneTx(fmt.Sprintf("UPDATE accounts SET n = %d WHERE id = %d", n, id))(context.Background(), l.db)
		},
		func(n int64, id int) error {
			return execs(fmt.Sprintf("WITH w AS (UPDATE accounts SET n = %d WHERE id = %d) SELECT 1", n, id))(context.Background(), l.db)
		},
	}
	for id := 1; id <= 4; id++ {
		all.Go(func() {
			for n := int64(1); ctx.Err() == nil; n++ {
				if err := writes[(int(n)+id)%len(writes)](n, id); err != nil {
					t.Errorf("write %d of account %d: %v", n, id, err)
					return
				}
				acknowledged[id].Store(n)
			}
		})
		for _, reader := range []*ledger{well, l} {
			all.Go(func() {
				for ctx.Err() == nil {
					least := acknowledged[id].Load()
					var a account
					read, err := reader.cache.Get(context.Background(), "accounts", &a, id)
					if err != nil || int64(a.N) < least {
						t.Errorf("account %d is read as %d (from cache: %v), %v, and %d was acknowledged", id, a.N, read.FromCache, err, least)
						return
					}
				}
			})
		}
	}
	for i := range 4 {
		link.Pause()
		full := l.stats().Outbox.Full
		if i%2 == 0 { // else the outage before may not be over yet, and all of it is
			eventually(t, fmt.Sprintf("everything is owed in outage %d", i), func() bool { return l.stats().Outbox.Full > full || t.Failed() })
		}
		unfenced := l.stats().Unfenced
		eventually(t, "writes go on", func() bool { return l.stats().Unfenced > unfenced+20 || t.Failed() })
		removed := l.stats().Outbox.Removed
		link.Resume()
		if i%2 == 1 {
			eventually(t, "the outage is over", func() bool { return l.stats().Outbox.Removed > removed || t.Failed() })
			hits := well.stats().Hits
			eventually(t, "hits", func() bool { return well.stats().Hits > hits || t.Failed() })
		}
	}
	stop()
	all.Wait()
	settled(t, l.plain, schema)
	for range 2 {
		l.wantTrue()
		well.wantTrue()
	}
}

// A statement whose caller has gone may still run, and commit after Redis has come back: what it owes must not have been settled before.
func TestQueueOfAStatementThatOutlivesItsCaller(t *testing.T) {
	t.Parallel()
	proxy := testenv.ProxyURL(t, testenv.Postgres(t))
	l, link, schema := cutLedger(t, ledgerSetup{postgres: proxy.URL}, fewKeys, func(c *wtcache.Config) { c.FenceLife = 30 * time.Second })
	well := l.beside(ledgerSetup{config: withOutbox(t, schema)})
	well.warm(1)
	link.Pause()
	l.filled()
	lock, err := l.plain.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if _, err := lock.Exec("SELECT FROM accounts WHERE id = 1 FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	cancelled := proxy.CutRequest("\x04\xd2\x16\x2e") // the request to cancel it does not arrive
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := l.db.ExecContext(ctx, setLockFirst, 7, 1); err == nil {
		t.Fatal("it did not wait for the lock")
	}
	await(t, "the request to cancel", cancelled)
	link.Resume()
	eventually(t, "writes are fenced again", func() bool {
		before := l.stats().Unfenced
		l.exec(setLockFirst, 1, 8)
		return l.stats().Unfenced == before
	})
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if _, read := well.reads(1); read.FromCache {
			break // it was filled: too early
		}
	}
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the statement commits", func() bool { return l.row(1) == 7 })
	settled(t, l.plain, schema)
	eventually(t, "hits", func() bool { _, read := well.reads(1); return read.FromCache })
	well.wantTrue()
	if s := l.stats(); s.InDoubt != 1 {
		t.Errorf("%d commits were in doubt", s.InDoubt)
	}
}

// A process that is stopped before its COMMIT, for so long that others have taken it for dead and settled everything in its place, has to see to
// its commit itself: nobody else will, and the old entry would stay. What it owes are keys where the row was captured before everything was
// owed, and else the table's entries. An eventual rule's keys have no fence and are owed all the same.
func TestQueueOfACommitThatOthersHaveSettledTooEarly(t *testing.T) {
	for _, rule := range bothConsistencies {
		for _, captured := range []bool{true, false} {
			t.Run(fmt.Sprintf("%scaptured: %t", rule, captured), func(t *testing.T) {
				l, link, schema := cutLedger(t, ledgerSetup{rule: rule}, fewKeys)
				well := l.beside(ledgerSetup{rule: rule, config: withOutbox(t, schema)})
				well.warm(1)
				tx := begin(t, l.db, nil)
				write := func() {
					if _, err := tx.Exec(setOne); err != nil {
						t.Fatal(err)
					}
				}
				if captured {
					write()
				}
				link.Pause()
				l.filled()
				if !captured {
					write()
				}
				settledForTheDead := false
				wtcache.AtCrashPoint(t, func(point string) {
					if point != "fenced" || settledForTheDead {
						return
					}
					settledForTheDead = true
					l.settledByOthers(schema)
					eventually(t, "a reader fills the old row", func() bool { _, read := well.reads(1); return read.FromCache })
				})
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if !settledForTheDead {
					t.Fatal("the write did not come to its COMMIT")
				}
				l.wantRow(1, 1)
				link.Resume()
				eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
				settled(t, l.plain, schema)
				well.wantTrue()
			})
		}
	}
}

// settledByOthers has other processes take this one for dead and settle everything in its place, and waits until it has heard of it.
func (l *ledger) settledByOthers(schema string) {
	l.t.Helper()
	if _, err := l.plain.Exec("UPDATE " + schema + ".outage SET seen_at = seen_at - interval '1 minute'"); err != nil {
		l.t.Error(err)
	}
	settled(l.t, l.plain, schema)
	eventually(l.t, "the process hears that it was taken for dead", func() bool { return l.stats().Outbox.Lost == 1 })
}

// A statement that has committed counts as committed, or in doubt, also where the client cannot decode the rows that it returns. Where others have
// settled everything before it nobody else would make its old entry absent.
func TestQueueOfRowsThatCannotBeDecoded(t *testing.T) {
	// pgx takes a bytea in text for hexadecimal digits.
	proxy := testenv.ProxyURL(t, withParameter(testenv.Postgres(t), "bytea_output=escape&default_query_exec_mode=exec"))
	l, link, schema := cutLedger(t, ledgerSetup{postgres: proxy.URL}, fewKeys, func(c *wtcache.Config) { c.FenceLife = time.Second })
	well := l.beside(ledgerSetup{config: withOutbox(t, schema)})
	well.warm(1)
	link.Pause()
	l.filled()
	trap := proxy.HoldRequest("::bytea")
	returned := make(chan error, 1)
	go func() {
		rows, err := l.db.Query(setOne + ` RETURNING '\x01'::bytea`)
		if err == nil {
			_ = rows.Close()
		}
		returned <- err
	}()
	await(t, "the statement", trap.Reached())
	l.settledByOthers(schema)
	eventually(t, "a reader fills the old row", func() bool { _, read := well.reads(1); return read.FromCache })
	trap.Release()
	if err := await(t, "the caller's error", returned); err == nil || sqlState(err) != "" {
		t.Fatalf("got %v, want an error of the client's own", err)
	}
	l.wantRow(1, 1)
	link.Resume()
	eventually(t, "the old row is cached no more", func() bool {
		n, there := well.entry(1)
		return !there || n == 1
	})
	well.wantTrue()
}
