package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A way in which account 1 can be set to n and committed. The texts hold literals: they
// go out as one message each, which a proxy on the wire can tell apart.
type way struct {
	name string
	// set runs the write up to its COMMIT, and commit is the rest.
	set    func(context.Context, *testing.T, *ledger, string) (commit func() error)
	commit string // what the message that commits holds
	// retried: database/sql runs it again where the driver says ErrBadConn.
	retried bool
}

var ways = []way{
	{"Tx", setInTx, "commit", false},
	{"COMMIT as text", setByWords, "commit", false},
	{"fence first", setAtOnce, "update accounts", true},
	{"lock first", func(ctx context.Context, t *testing.T, l *ledger, set string) func() error {
		return setAtOnce(ctx, t, l, set+" AND n >= 0 OR id < 0")
	}, "commit", false},
	{"one text", func(ctx context.Context, t *testing.T, l *ledger, set string) func() error {
		return setAtOnce(ctx, t, l, "BEGIN; "+set+"; COMMIT")
	}, "commit", true},
	{"implicit transaction", func(ctx context.Context, t *testing.T, l *ledger, set string) func() error {
		return setAtOnce(ctx, t, l, set+"; UPDATE unruled SET n = 1")
	}, "commit", false},
}

func setInTx(ctx context.Context, t *testing.T, l *ledger, set string) func() error {
	t.Helper()
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(set); err != nil {
		t.Fatal(err)
	}
	return tx.Commit
}

func setByWords(ctx context.Context, t *testing.T, l *ledger, set string) func() error {
	t.Helper()
	conn := l.on()
	l.say(conn, "BEGIN", set)
	return func() error {
		_, err := conn.ExecContext(ctx, "COMMIT")
		return err
	}
}

func setAtOnce(ctx context.Context, _ *testing.T, l *ledger, set string) func() error {
	return func() error {
		_, err := l.db.ExecContext(ctx, set)
		return err
	}
}

const setOne = "UPDATE accounts SET n = 1 WHERE id = 1"

// A COMMIT that the server refuses has changed nothing: its error reaches the caller,
// what was not committed never reaches the cache, and no fence keeps the key out of use.
func TestOutcomeOfRefusedCommit(t *testing.T) {
	for _, w := range ways {
		t.Run(w.name, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{})
			l.warm(1)
			commit := w.set(context.Background(), t, l, "UPDATE accounts SET n = 1, owner = 99 WHERE id = 1")
			if err := commit(); sqlState(err) != "23503" {
				t.Errorf("the deferred foreign key gave %v", err)
			}
			l.wantRow(1, 0)
			l.wantAbsent(1)
			if l.fenced(1) {
				t.Error("the key is still fenced after a certain rollback")
			}
			l.wantTrue()
		})
	}
}

// Serializable transactions that lose are rolled back by their COMMIT.
func TestOutcomeOfSerializationFailure(t *testing.T) {
	ctx := context.Background()
	l := newLedger(t, ledgerSetup{})
	l.warm(1, 2)
	var txs [2]*sql.Tx
	for i := range txs {
		tx, err := l.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelSerializable})
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		var sum int
		if err := tx.QueryRow("SELECT sum(n) FROM accounts").Scan(&sum); err != nil {
			t.Fatal(err)
		}
		txs[i] = tx
	}
	for i, tx := range txs {
		if _, err := tx.Exec(setFenceFirst, 7, i+1); err != nil {
			t.Fatal(err)
		}
	}
	if err := txs[0].Commit(); err != nil {
		t.Fatal(err)
	}
	if err := txs[1].Commit(); sqlState(err) != "40001" {
		t.Fatalf("the second COMMIT gave %v, want a serialization failure", err)
	}
	l.wantCached(1, 7)
	l.wantRow(2, 0)
	if n, there := l.entry(2); there && n != 0 {
		t.Errorf("account 2 is cached as %d, which was rolled back", n)
	}
	if l.fenced(2) {
		t.Error("the loser's key is still fenced")
	}
	l.wantTrue()
}

// disturbance makes a COMMIT fail on the wire. It returns what to do once the caller has
// its error.
var disturbances = []struct {
	name      string
	committed bool // the server gets to see the COMMIT
	cancel    bool // the caller gives up; else the connection breaks
	trap      func(*testenv.Proxy, string) *testenv.Trap
}{
	{"request held, caller gives up", false, true, (*testenv.Proxy).HoldRequest},
	{"acknowledgement held, caller gives up", true, true, (*testenv.Proxy).HoldReply},
	{"connection lost before the request", false, false, (*testenv.Proxy).HoldRequest},
	{"connection lost before the acknowledgement", true, false, (*testenv.Proxy).HoldReply},
}

// A caller whose COMMIT got no answer does not know whether it happened. Neither the old
// value, which may be outdated, nor the new one, which may never have been committed, may be
// served from the cache until the driver has asked; and then the key must not stay out of use.
func TestOutcomeInDoubt(t *testing.T) {
	for _, d := range disturbances {
		for _, w := range ways {
			t.Run(d.name+"/"+w.name, func(t *testing.T) {
				proxy := testenv.ProxyURL(t, testenv.Postgres(t))
				l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
				l.warm(1)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				commit := w.set(ctx, t, l, setOne)
				trap := d.trap(proxy, w.commit)
				returned := make(chan error, 1)
				go func() { returned <- commit() }()
				await(t, "the COMMIT on the wire", trap.Reached())
				l.wantInDoubt(1) // also while it is under way
				if d.cancel {
					cancel()
				} else {
					trap.Cut()
				}
				err := await(t, "the caller's error", returned)
				if !d.committed && d.cancel {
					l.wantInDoubt(1) // the server still waits for the COMMIT
					if got := l.read(1); got != 0 {
						t.Errorf("a reader gets %d while the COMMIT is under way", got)
					}
					l.wantInDoubt(1)
				}
				trap.Cut()
				retried := err == nil && w.retried && !d.cancel // pgx took the loss for one before anything was sent
				want := 0
				if d.committed || retried {
					want = 1
				}
				if err == nil && !retried {
					t.Error("the caller was told that it committed")
				}
				if w.name == "fence first" {
					l.wantRow(1, want)
					if got := l.read(1); got != want {
						t.Errorf("a reader gets %d, want %d", got, want)
					}
					l.wantInDoubt(1) // there was no row to tell the transaction by
					if s := l.stats(); s.InDoubt == 0 || s.DoubtExpired != s.InDoubt {
						t.Errorf("%d in doubt, %d left to expire", s.InDoubt, s.DoubtExpired)
					}
					return
				}
				l.wantSettled(d.committed)
				l.wantRow(1, want)
				if d.committed && !retried {
					l.wantCached(1, 1)
				}
				l.wantTrue()
			})
		}
	}
}

// longFences makes certain that no fence has expired where a key is no longer fenced.
func longFences(c *wtcache.Config) { c.FenceLife = time.Hour }

// wantSettled waits until nothing is in doubt and looks at how it was settled: all that was
// in doubt was committed, or all was not.
func (l *ledger) wantSettled(committed bool) {
	l.t.Helper()
	eventually(l.t, "nothing is in doubt", func() bool {
		s := l.stats()
		return s.InDoubt > 0 && s.InDoubt == s.DoubtCommitted+s.DoubtAborted+s.DoubtFinished+s.DoubtExpired
	})
	if s := l.stats(); committed && s.DoubtCommitted != s.InDoubt || !committed && s.DoubtAborted != s.InDoubt {
		l.t.Errorf("of %d in doubt %d were settled as committed, %d as aborted, %d as finished and %d left to expire",
			s.InDoubt, s.DoubtCommitted, s.DoubtAborted, s.DoubtFinished, s.DoubtExpired)
	} else if s.ApplyTimes.Count > s.Committed {
		l.t.Errorf("%d applies are counted as waited for, and %d callers were told that they had committed", s.ApplyTimes.Count, s.Committed)
	}
	if l.fenced(1) {
		l.t.Error("account 1 is still fenced")
	}
}

// A backend that was terminated answers COMMIT with a FATAL error: the driver cannot
// tell how far the COMMIT came, and asks.
func TestOutcomeOfTerminatedBackend(t *testing.T) {
	l := newLedger(t, ledgerSetup{config: longFences})
	l.warm(1)
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if err := tx.QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(setOne); err != nil {
		t.Fatal(err)
	}
	if _, err := l.plain.Exec("SELECT pg_terminate_backend($1, 30000)", pid); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err == nil {
		t.Error("COMMIT through a dead backend succeeded")
	}
	l.wantRow(1, 0)
	l.wantSettled(false)
	l.wantAbsent(1)
	if got := l.read(1); got != 0 {
		t.Errorf("a reader gets %d, want 0", got)
	}
}

// The caller's context may end at any point around COMMIT. Before it is sent nothing is
// committed; after it was acknowledged the cache is brought up to date all the same, and
// the caller is told of the success.
func TestOutcomeOfCancelledContext(t *testing.T) {
	for _, c := range []struct {
		point     string
		committed bool
	}{
		{"settled", false}, {"fenced", false}, {"committed", true}, {"applied", true},
	} {
		for _, w := range ways {
			if w.name == "fence first" && c.point == "settled" {
				continue // it has no such point
			}
			t.Run(c.point+"/"+w.name, func(t *testing.T) {
				l := newLedger(t, ledgerSetup{})
				l.warm(1)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				commit := w.set(ctx, t, l, setOne)
				wtcache.AtCrashPoint(t, func(point string) {
					if point == c.point {
						cancel()
					}
				})
				err := commit()
				if c.committed {
					if err != nil {
						t.Errorf("a write that was committed gave %v", err)
					}
					l.wantRow(1, 1)
					l.wantCached(1, 1)
					return
				}
				// For a text, pgx turns it into ErrBadConn.
				if !errors.Is(err, context.Canceled) && !errors.Is(err, driver.ErrBadConn) {
					t.Errorf("a write whose context had ended gave %v", err)
				}
				eventually(t, "the transaction is gone", func() bool { return l.unlocked(1) })
				l.wantRow(1, 0)
				l.wantAbsent(1)
				if l.fenced(1) {
					t.Error("the key is still fenced although nothing was sent")
				}
			})
		}
	}
}

// unlocked says whether no transaction holds the row any more.
func (l *ledger) unlocked(id int) bool {
	l.t.Helper()
	var there int
	err := l.plain.QueryRow("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE SKIP LOCKED", id).Scan(&there)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		l.t.Fatal(err)
	}
	return err == nil
}

// A context that ended before Commit is a rollback: database/sql does it, and Redis is
// not told a word.
func TestOutcomeOfContextCancelledBeforeCommit(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	ctx, cancel := context.WithCancel(context.Background())
	commit := setInTx(ctx, t, l, setOne)
	cancel()
	if err := commit(); !errors.Is(err, context.Canceled) && !errors.Is(err, sql.ErrTxDone) {
		t.Errorf("Commit after the context's end gave %v", err)
	}
	eventually(t, "the transaction is gone", func() bool { return l.unlocked(1) })
	l.wantRow(1, 0)
	l.wantCached(1, 0)
	if s := l.stats(); s.Redis.Fences != 0 {
		t.Errorf("%d keys were fenced for a rollback", s.Redis.Fences)
	}
}
