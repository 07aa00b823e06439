package wtcache_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache"
)

// Transactions that wait for the announcement hold their sessions of a PgBouncer meanwhile. The announcement needs one, too: it must not wait for
// those that wait for it, or no write succeeds for as long as Redis is away.
func TestQueueWhenThePoolerHasNoSessionLeft(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	_ = d.db.Close()
	db := d.through(d.connector(behindPgBouncer(t, pgx.QueryExecModeExec, 2)))
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	d.link.Pause()
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() {
			tries := 0
			for ; tries < 6; tries++ {
				err := inOneTx(fmt.Sprintf("UPDATE crates SET n = 1 WHERE id = %d", i+1))(t.Context(), db)
				if err == nil {
					break
				}
				if !errors.Is(err, wtcache.ErrRefused) {
					t.Error(err)
				}
				t.Logf("writer %d, try %d: %v", i, tries, err)
			}
			if tries == 6 {
				t.Errorf("writer %d was refused each time", i)
			}
		})
	}
	all.Wait()
	d.link.Resume()
	settled(t, d.plain, d.outbox)
}
