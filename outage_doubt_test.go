package wtcache_test

import (
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// While everything is owed a write has no row of the outbox that comes with its commit. Where its connection is lost the server may still carry it
// out: were the outage over by then, and the old row filled again, that one would be served until its TTL.
func TestDoubtWhileEverythingIsOwed(t *testing.T) {
	wire, server := testenv.ProxyURL(t, testenv.Postgres(t)), testenv.NewRedis(t)
	schema := testenv.Outbox(t, testenv.Postgres(t))
	l := newLedger(t, ledgerSetup{postgres: wire.URL, redis: server.URL, config: withOutbox(t, schema, func(c *wtcache.Config) {
		c.MaxQueuedKeys, c.FenceLife = 1, 30*time.Second
	})})
	other := l.beside(ledgerSetup{redis: server.URL, config: withOutbox(t, schema)})
	server.Kill()
	l.owesAll()
	lock := begin(t, l.plain, nil)
	var holder int
	if err := lock.QueryRow("UPDATE accounts SET n = 5 WHERE id = 1 RETURNING pg_backend_pid()").Scan(&holder); err != nil {
		t.Fatal(err)
	}
	returned := make(chan error, 1)
	go func() {
		_, err := l.db.Exec(setFenceFirst, 7, 1)
		returned <- err
	}()
	eventually(t, "the write waits for the row", func() bool {
		var waits bool
		err := l.plain.QueryRow("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid)))", holder).Scan(&waits)
		return err == nil && waits
	})
	for range 20 { // more than there are connections
		wire.CutRequest(cancelRequest) // pgx asks for the statement's end, which may come too late
	}
	wire.Cut()
	if err := await(t, "the write whose connection was lost", returned); err == nil {
		t.Fatal("a write whose connection was lost succeeded")
	}
	server.Restart()
	eventually(t, "what was queued before is drained", func() bool {
		var left bool
		err := l.plain.QueryRow("SELECT EXISTS (SELECT FROM " + schema + ".outbox WHERE NOT held)").Scan(&left)
		return err == nil && !left
	})
	polls := other.stats().Outbox.Polls
	eventually(t, "a reader has looked often, or has filled the old row", func() bool {
		other.read(1)
		_, there := other.entry(1)
		return there || other.stats().Outbox.Polls >= polls+10
	})
	if err := lock.Commit(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the server has carried it out", func() bool { return l.row(1) == 7 })
	if n := other.read(1); n != 7 {
		t.Errorf("a reader gets %d", n)
	}
	eventually(t, "the outage ends when nothing can land any more", func() bool { return l.stats().Outbox.Removed == 1 })
	eventually(t, "hits come back", func() bool {
		other.read(1)
		_, there := other.entry(1)
		return there
	})
	other.wantTrue()
}

// cancelRequest is the code of a request to cancel a statement.
// Source: https://www.postgresql.org/docs/current/protocol-message-formats.html
const cancelRequest = "\x04\xd2\x16\x2e"
