package wtcache_test

import (
	"context"
	"testing"

	"github.com/wtcache/wtcache"
)

// Where Redis loses the barrier of a coarse write (it was evicted, or Redis has restarted), a reader may fill the row as it
// was before the commit, behind both walks of the sweep. Once Exec has returned, that entry must be gone: for a precise
// write an apply that finds no fence deletes what is there, and a coarse one must not promise less.
func TestLostBarrierLeavesNothingOld(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	barrier := "{wtcache:barrier:" + l.schema + ".accounts}:wt"
	r := &handReader{ledger: l, sync: l.protocol(), order: []int{stepLease, stepBarrier, stepSnapshot, stepFill}}
	wtcache.AtCrashPoint(t, func(point string) {
		switch point {
		case "fenced":
			if n := l.rdb.Del(context.Background(), barrier).Val(); n != 1 {
				t.Errorf("there was no barrier at %s", barrier)
			}
			r.step()
			r.step()
			r.step()
		case "committed":
			r.step()
			if n, there := l.entry(1); !there || n != 0 {
				t.Error("the reader has filled nothing: the test sees nothing")
			}
		}
	})
	if _, err := l.db.Exec(coarseOne); err != nil {
		t.Fatal(err)
	}
	if n, there := l.entry(1); there && n != 1 {
		t.Errorf("account 1 is cached as %d after the write has returned", n)
	}
}
