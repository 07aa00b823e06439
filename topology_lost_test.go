package wtcache_test

import (
	"context"
	"errors"
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A standby that was promoted without the last commits has lost them: whoever is served their
// entries sees what is nowhere else, until the entries' ttl has passed.
func TestPostgresFailoverLosesCommits(t *testing.T) {
	p := newPair(t, nil)
	l := newLedger(t, ledgerSetup{server: p.primary.URL})
	t.Cleanup(p.primary.Restart) // what follows removes the schema
	l.exec("UPDATE accounts SET n = 1 WHERE id = 1")
	p.standby.CatchUp()
	p.standby.Stop()
	l.exec("UPDATE accounts SET n = 2 WHERE id = 1") // not at the standby
	l.exec("UPDATE accounts SET n = 2 WHERE id = 2")
	p.primary.Kill()
	p.standby.Restart()
	p.standby.Promote()

	after := *l
	after.db = l.open(withSearchPath(t, p.standby.URL, l.schema), ledgerSetup{})
	var err error
	if after.cache, err = wtcache.CacheOf(after.db); err != nil {
		t.Fatal(err)
	}
	after.plain = openPlain(t, withSearchPath(t, p.standby.URL, l.schema))
	after.exec("UPDATE accounts SET n = n + 10 WHERE id = 2") // its first connection tells the timeline
	if n, there := after.entry(1); !there || n != 2 {
		t.Fatalf("the lost commit's entry is %d (there: %v): nothing is tested", n, there)
	}
	for id, name := range map[int]string{1: "that was not written since", 2: "that was"} {
		if got, want := after.read(id), after.row(id); got != want {
			t.Errorf("a row %s is served as %d, the database has %d", name, got, want)
		}
	}
	// The process that made the lost commit has no database any more. It hears of the new
	// timeline from Redis, and does not serve what it wrote.
	eventually(t, "the process from before hears of it", func() bool {
		var a account
		_, err := l.cache.Get(context.Background(), "accounts", &a, 1)
		return err != nil
	})
}

// A commit whose fence no replica has would be undone, for readers, by a failover of Redis.
func TestWaitReplicas(t *testing.T) {
	redis := testenv.NewRedis(t)
	refusing := newLedger(t, ledgerSetup{redis: redis.URL, rule: "wait_replicas: 1\nredis_down: refuse\n"})
	for name, write := range map[string]func() error{
		"autocommit": func() error { _, err := refusing.db.Exec("UPDATE accounts SET n = n + 1 WHERE id = 1"); return err },
		"key set":    func() error { _, err := refusing.db.Exec("UPDATE accounts SET n = 1 WHERE owner = 7"); return err },
		"coarse":     func() error { _, err := refusing.db.Exec("TRUNCATE accounts"); return err },
		"transaction": func() error {
			tx, err := refusing.db.Begin()
			if err != nil {
				return err
			}
			if _, err := tx.Exec("UPDATE accounts SET n = n + 1 WHERE id = 1"); err != nil {
				return errors.Join(err, tx.Rollback())
			}
			return tx.Commit()
		},
	} {
		_, refused := errors.AsType[*wtcache.RefusedError](write())
		if name == "key set" {
			continue // it may have met no row, and then fences nothing
		}
		if err := write(); !refused || !errors.Is(err, cachesync.ErrReplicas) {
			t.Errorf("%s: without a replica it gave %v", name, err)
		}
	}
}
