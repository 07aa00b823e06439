package wtcache_test

import (
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// While everything is owed a transaction's statements run as they are, and nobody knows which rows they write. Where the outage ends before
// their COMMIT, readers have filled what was there before: those entries must not outlive the COMMIT.
func TestTransactionOutlivesAnOutageThatOwesAll(t *testing.T) {
	server := testenv.NewRedis(t)
	schema := testenv.Outbox(t, testenv.Postgres(t))
	l := newLedger(t, ledgerSetup{redis: server.URL, config: withOutbox(t, schema, func(c *wtcache.Config) { c.MaxQueuedKeys = 1 })})
	server.Kill()
	l.owesAll()
	captured := l.stats().CapturedRows
	tx := begin(t, l.db, nil)
	runOn(t, tx, setFenceFirst, 5, 1)
	var n int
	if err := tx.QueryRow("UPDATE accounts SET n = 6 WHERE id = 2 RETURNING n").Scan(&n); err != nil || n != 6 {
		t.Fatalf("the row is %d, %v", n, err)
	}
	if got := l.stats().CapturedRows; got != captured {
		t.Errorf("%d rows were captured in vain", got-captured)
	}
	server.Restart()
	eventually(t, "the outage ends", func() bool { return l.stats().Outbox.Removed == 1 })
	eventually(t, "a reader fills the old rows", func() bool {
		l.read(1)
		l.read(2)
		_, one := l.entry(1)
		_, two := l.entry(2)
		return one && two
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	l.wantRow(1, 5)
	l.wantTrue()
}
