package wtcache_test

import (
	"context"
	"errors"
	"testing"
	"testing/fstest"

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

// A connection to a standby lives on when that is promoted, and what is written over it tells the timeline: also a coarse write, of which no
// row is captured. Else its process would serve the entries of lost commits until it opens another connection, or their ttl has passed.
func TestPostgresFailoverUnderAConnection(t *testing.T) {
	p := newPair(t, nil)
	l := newLedger(t, ledgerSetup{server: p.primary.URL})
	rules := l.rules("")
	rules["owners.yaml"] = &fstest.MapFile{Data: []byte("table: " + l.schema + ".owners\nkey: \"" + l.prefix + "owner:{id}\"\n")}
	both := func(c *wtcache.Config) { c.Rules = rules }
	type service struct {
		old, heir *ledger
		backend   int // of the heir's only connection
	}
	services := map[string]service{} // by what they write
	for _, text := range []string{"INSERT INTO owners VALUES (1)", "WITH w AS (INSERT INTO owners VALUES (2)) SELECT 1"} {
		redis := testenv.NewRedis(t).URL // its own: processes tell each other of a timeline there
		old := l.beside(ledgerSetup{redis: redis, config: both})
		old.rdb = redisClient(t, redis)
		old.exec("UPDATE accounts SET n = 1 WHERE id = 1")
		p.standby.CatchUp()
		there := *old
		there.dsn = withSearchPath(t, p.standby.URL, l.schema)
		heir := there.beside(ledgerSetup{redis: redis, config: both})
		heir.plain = openPlain(t, heir.dsn)
		heir.db.SetMaxOpenConns(1)
		if n, read := heir.reads(1); n != 1 || !read.FromCache {
			t.Fatalf("account 1 is read as %d (from cache: %v) before the failover", n, read.FromCache)
		}
		services[text] = service{old, heir, heir.backend()}
	}
	p.standby.Depart()
	for _, s := range services {
		s.old.exec("UPDATE accounts SET n = 2 WHERE id = 1") // not at the standby
	}
	p.standby.Promote()
	for text, s := range services {
		s.heir.exec(text)
		s.heir.wantRow(1, 1) // the commit of 2 is lost
		if n, there := s.heir.entry(1); !there || n != 2 {
			t.Fatalf("%s: the lost commit's entry is %d (there: %v): nothing is tested", text, n, there)
		}
		if s.heir.backend() != s.backend {
			t.Fatalf("%s: the connection did not live on: nothing is tested", text)
		}
		if n := s.heir.read(1); n != 1 {
			t.Errorf("after %s a row is served as %d, the database has 1", text, n)
		}
	}
}

// backend names the connection of a pool that has one.
func (l *ledger) backend() (pid int) {
	l.t.Helper()
	if err := l.db.QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
		l.t.Fatal(err)
	}
	return pid
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
