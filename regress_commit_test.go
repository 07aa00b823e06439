package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A COMMIT sent as text whose context ends before it goes out leaves the transaction open.
// database/sql's own Commit then commits it, and what was captured must not be forgotten in
// between, or everybody reads the old rows until the TTL ends.
func TestCommitAfterOneThatWasNotSent(t *testing.T) {
	for _, point := range []string{"settled", "fenced"} {
		for _, text := range []string{"COMMIT", "SELECT 1; COMMIT", "COMMIT AND CHAIN"} {
			t.Run(point+"/"+text, func(t *testing.T) {
				l := newLedger(t, ledgerSetup{})
				l.warm(1)
				tx, err := l.db.Begin()
				if err != nil {
					t.Fatal(err)
				}
				if _, err := tx.Exec(setFenceFirst, 9, 1); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				wtcache.AtCrashPoint(t, func(at string) {
					if at == point {
						cancel()
					}
				})
				if _, err := tx.ExecContext(ctx, text); err == nil {
					t.Fatal("the COMMIT went out: the test needs one that does not")
				}
				l.warm(1) // nothing is fenced meanwhile, so a reader may fill
				l.wantCached(1, 0)
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				l.wantRow(1, 9)
				l.wantCached(1, 9)
				l.wantTrue()
			})
		}
	}
}

// Under `redis_down: refuse` such a COMMIT is refused, and the refusal must hold: a Commit
// after it may not commit behind Redis' back what the caller was told is not committed.
func TestRefusalHoldsWhenTheContextEnds(t *testing.T) {
	server := ownRedis(t)
	l := newLedger(t, ledgerSetup{redis: server.URL, rule: "redis_down: refuse\n", config: impatient})
	l.warm(1)
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(setFenceFirst, 9, 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	wtcache.AtCrashPoint(t, func(at string) {
		if at == "settled" {
			cancel()
		}
	})
	server.Kill()
	if _, err := tx.ExecContext(ctx, "COMMIT"); !errors.Is(err, wtcache.ErrRefused) {
		t.Fatalf("COMMIT without Redis gave %v, want a refusal", err)
	}
	if !l.unlocked(1) {
		t.Error("the refused transaction still holds its locks")
	}
	_ = tx.Commit() // outside of any transaction by now, which pgx takes for a success
	l.wantRow(1, 0)
	server.Restart()
	eventually(t, "Redis is asked again", func() bool {
		return l.db.QueryRow("SELECT 1").Err() == nil && l.rdb.Ping(context.Background()).Err() == nil
	})
	l.wantTrue()
}

// An eventual write has no fence that would expire: when nobody knows whether it was
// committed, its entries have to go, or the old row stays cached until the TTL ends.
func TestEventualWriteInDoubtIsOwed(t *testing.T) {
	for _, d := range disturbances {
		for _, text := range []string{setOne, setOne + " AND n >= 0 OR id < 0", setOne + " RETURNING n"} {
			t.Run(d.name+"/"+text, func(t *testing.T) {
				proxy := testenv.ProxyURL(t, testenv.Postgres(t))
				l := newLedger(t, ledgerSetup{postgres: proxy.URL, rule: "consistency: eventual\n"})
				l.warm(1)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				trap := d.trap(proxy, "update accounts")
				returned := make(chan error, 1)
				go func() {
					_, err := l.db.ExecContext(ctx, text)
					returned <- err
				}()
				await(t, "the write on the wire", trap.Reached())
				if d.cancel {
					cancel()
				} else {
					trap.Cut()
				}
				err := await(t, "the caller's error", returned)
				trap.Cut()
				if s := l.stats(); err != nil && (s.InDoubt != 1 || s.Redis.OwedTotal == 0) {
					t.Errorf("after %v: %d in doubt, %d keys ever owed", err, s.InDoubt, s.Redis.OwedTotal)
				}
				if d.committed {
					l.wantRow(1, 1)
				}
				eventually(t, "the old row is no longer cached", func() bool {
					n, there := l.entry(1)
					return !there || n == l.row(1)
				})
				l.wantTrue()
			})
		}
	}
}

// severed is a connection that can die as an idle one does in a pool: its client sees it
// at the next write, of which nothing gets out.
type severed struct {
	net.Conn
	born int64
	dead *atomic.Int64 // all that were born by then
}

func (s *severed) Write(p []byte) (int, error) {
	if s.born <= s.dead.Load() {
		return 0, syscall.EPIPE
	}
	return s.Conn.Write(p)
}

// A server that restarts leaves dead connections in the pool. database/sql hides them by
// running a statement again on another one, which the driver must not make impossible where
// it begins a transaction of its own first.
func TestDeadPooledConnectionIsHidden(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	cfg, err := pgx.ParseConfig(l.dsn)
	if err != nil {
		t.Fatal(err)
	}
	var born, dead atomic.Int64
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &severed{conn, born.Add(1), &dead}, err
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{
		Redis: redisClient(t, testenv.RealRedis(t)), Rules: l.rules(""), RedisTimeout: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	var prepared *sql.Stmt // on the connection that dies
	exec := func(text string, args ...any) func() error {
		return func() error { _, err := db.Exec(text, args...); return err }
	}
	for name, run := range map[string]func() error{
		"fence first":      exec("UPDATE accounts SET n = n + 1 WHERE id = 1"),
		"lock first":       exec("UPDATE accounts SET n = n + 1 WHERE abs(id) = 1"),
		"lock first, args": exec("UPDATE accounts SET n = n + 1 WHERE abs(id) = $1", 1),
		"lock first, rows": func() error {
			return db.QueryRow("UPDATE accounts SET n = n + 1 WHERE abs(id) = 1 RETURNING id").Scan(new(int))
		},
		"lock first, prepared": func() error { _, err := prepared.Exec(1); return err },
		"one text":             exec("UPDATE accounts SET n = n + 1 WHERE id = 1; UPDATE unruled SET n = 1"),
		"coarse":               exec("WITH u AS (UPDATE accounts SET n = n + 1 WHERE id = 1) SELECT 1"),
	} {
		if prepared, err = db.Prepare("UPDATE accounts SET n = n + 1 WHERE abs(id) = $1"); err != nil {
			t.Fatal(err)
		}
		before := l.row(1)
		dead.Store(born.Load())
		if err := run(); err != nil {
			t.Errorf("%s over a dead pooled connection: %v", name, err)
		} else if got := l.row(1); got != before+1 {
			t.Errorf("%s over a dead pooled connection was carried out %d times", name, got-before)
		}
		_ = prepared.Close()
	}
	l.wantTrue()
}

// noTransaction fails where the connection was left in one.
func (l *ledger) noTransaction(conn interface {
	Raw(func(any) error) error
}) {
	l.t.Helper()
	if err := conn.Raw(func(dc any) error {
		pc, _ := wtcache.PgxConn(dc)
		if status := pc.PgConn().TxStatus(); status != 'I' {
			return errors.New("the connection was left in a transaction: " + string(status))
		}
		return nil
	}); err != nil {
		l.t.Error(err)
	}
}

// The server reads a text as a whole before it runs any of it: one with a syntax error late
// in it has done nothing. A user who mends the text and sends it again must not find half of
// it done, or in the cache.
func TestSyntaxErrorRunsNothing(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	conn := l.on()
	for _, text := range []string{
		"UPDATE accounts SET n = 1 WHERE id = 1; SELEC 1",
		"UPDATE accounts SET n = 1 WHERE id = 1; COMMIT; SELEC 1",
		"BEGIN; UPDATE accounts SET n = 1 WHERE id = 1; COMMIT; SELEC 1",
		"UPDATE accounts SET n = 1 WHERE id = 1; COMMIT; SELECT (1; UPDATE accounts SET n = 2 WHERE id = 1",
		"UPDATE accounts SET n = 1 WHERE id = 1; COMMIT; SELECT 'open",
		"COMMIT; UPDATE accounts SET n = 1 WHERE id = 1; UPDATE accounts SET n = = 2 WHERE id = 1",
	} {
		_, want := l.plain.Exec(text)
		if sqlState(want) != "42601" {
			t.Fatalf("%s: plain pgx gives %v", text, want)
		}
		_, err := conn.ExecContext(context.Background(), text)
		words := strings.Contains(text, "COMMIT")
		if sqlState(err) != "42601" && !(words && errors.Is(err, wtcache.ErrNotCapturable)) {
			t.Errorf("%s: %v, want a syntax error", text, err)
		}
		l.wantRow(1, 0)
		if n, there := l.entry(1); there && n != 0 {
			t.Errorf("%s: %d is cached", text, n)
		}
		l.noTransaction(conn)
	}
	l.wantTrue()
}
