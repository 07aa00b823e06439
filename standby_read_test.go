package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/wtcache/wtcache"
)

// The reader itself, over a primary and a standby: a standby that has everything takes the
// miss off the primary and fills; one that lags is not believed; and under a writer's fence
// it is left alone.
func TestReaderOverAStandby(t *testing.T) {
	p := newPair(t, nil)
	r := p.open(t, nil)
	reader, err := wtcache.ReaderOf[account](r.db, "accounts")
	if err != nil {
		t.Fatal(err)
	}
	read := func(want int, cached bool) wtcache.Stats {
		t.Helper()
		row, err := reader.Row(context.Background(), 1)
		if err != nil || row.Value.N != want || row.FromCache != cached {
			t.Fatalf("account 1 is %+v (%v), want %d", row, err, want)
		}
		return r.stats()
	}

	if _, err := r.db.Exec("UPDATE accounts SET n = 7 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	r.forget()
	if s := read(7, false); s.ReplicaReads != 1 || s.Fills != 1 || s.DatabaseReads != 1 {
		t.Errorf("the standby was read %d times, of %d reads with %d fills", s.ReplicaReads, s.DatabaseReads, s.Fills)
	}
	read(7, true)

	// It does not replay any more: what was committed since is on the primary alone.
	p.standby.Pause()
	r.impatient()
	if _, err := r.db.Exec("UPDATE accounts SET n = 8 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	r.forget()
	if s := read(8, false); s.ReplicaReads != 1 || s.ReplicaBehind != 1 || s.Fills != 2 {
		t.Errorf("a standby that lags: %d reads of it, %d times behind, %d fills", s.ReplicaReads, s.ReplicaBehind, s.Fills)
	}
	read(8, true)
	p.standby.Resume()
	p.standby.CatchUp()

	// A row that is not there is an answer, too.
	if _, err := reader.Get(context.Background(), 999); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("a row that is not there: %v", err)
	}

	// Under a fence nothing may be filled, and a standby's row may be ahead of the primary's.
	before := r.stats()
	fence, err := r.sync.Fence(context.Background(), []string{r.key(1)})
	if err != nil {
		t.Fatal(err)
	}
	if s := read(8, false); s.ReplicaReads != before.ReplicaReads || s.Bypasses != before.Bypasses+1 {
		t.Errorf("under a fence the standby was read %d times", s.ReplicaReads-before.ReplicaReads)
	}
	fence.Abort(context.Background())
}
