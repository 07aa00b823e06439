package wtcache_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// A deadline of BeginTx's context bounds COMMIT as well. One that passes while COMMIT is on the wire leaves a caller who
// knows nothing: the driver has to find out what the cache may hold.
func TestDoubtOfCommitPastItsDeadline(t *testing.T) {
	for _, committed := range []bool{false, true} {
		t.Run(fmt.Sprintf("committed %v", committed), func(t *testing.T) {
			t.Parallel()
			l, trap, err := commitPastDeadline(t, committed)
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the caller got %v", err)
			}
			if !committed {
				l.wantInDoubt(1) // the server still waits for the COMMIT
				if got := l.read(1); got != 0 {
					t.Errorf("a reader gets %d while the COMMIT is under way", got)
				}
				l.wantInDoubt(1)
			}
			trap.Cut()
			l.wantSettled(committed)
			if committed {
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

// commitPastDeadline commits a transaction whose deadline passes while the trap holds its COMMIT, or the server's answer.
// Where the machine is so slow that the deadline passes earlier, it tries again with more time.
func commitPastDeadline(t *testing.T, committed bool) (*ledger, *testenv.Trap, error) {
	t.Helper()
	for allowed := time.Second; allowed < patience; allowed *= 2 {
		proxy := testenv.ProxyURL(t, testenv.Postgres(t))
		l := newLedger(t, ledgerSetup{postgres: proxy.URL, config: longFences})
		l.warm(1)
		trap := disturb(proxy, committed)
		err := l.commitWithin(allowed)
		select {
		case <-trap.Reached():
			return l, trap, err
		default:
			t.Logf("%v were over before COMMIT was sent: %v", allowed, err)
		}
	}
	t.Fatal("no COMMIT was sent before its deadline")
	return nil, nil, nil
}

func (l *ledger) commitWithin(allowed time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), allowed)
	defer cancel()
	tx, err := l.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it has ended where it came to its COMMIT
	if _, err := tx.Exec(setOne); err != nil {
		return err
	}
	return tx.Commit()
}
