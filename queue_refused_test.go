package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/outbox"
	"github.com/wtcache/wtcache/internal/testenv"
)

// cutLedger is a ledger whose process reaches Redis through a link, and the schema of its outbox.
func cutLedger(t *testing.T, s ledgerSetup, more ...func(*wtcache.Config)) (l *ledger, link *testenv.Proxy, schema string) {
	t.Helper()
	schema = testenv.Outbox(t, testenv.Postgres(t))
	link = testenv.ProxyURL(t, testenv.RealRedis(t))
	s.redis, s.config = link.URL, withOutbox(t, schema, more...)
	l = newLedger(t, s)
	l.rdb = redisClient(t, testenv.RealRedis(t)) // past the link
	eventually(t, "the link is up", func() bool { _, there := l.entry(9); return there || l.read(9) != 0 })
	return l, link, schema
}

// downed writes past Redis until nobody asks it any more.
func (l *ledger) downed() {
	l.t.Helper()
	eventually(l.t, "the breaker is open", func() bool {
		l.exec(setLockFirst, 0, 9)
		return l.stats().Redis.BreakerOpens > 0
	})
}

// wantRefused wants nothing to have been committed since the outbox could not be written, and the error to say so.
func (l *ledger) wantRefused(err error, id, n int) {
	l.t.Helper()
	refused, ok := errors.AsType[*wtcache.RefusedError](err)
	if !ok || refused.Outbox == nil || !errors.Is(err, wtcache.ErrRefused) || !errors.Is(err, wtcache.ErrUnavailable) {
		l.t.Fatalf("got %v, want a RefusedError with the outbox's", err)
	}
	if len(refused.Rules) != 1 || !strings.HasSuffix(refused.Rules[0], ".accounts") || !mentions(err, "outbox", "nothing was committed") {
		l.t.Errorf("got %v for %q", err, refused.Rules)
	}
	eventually(l.t, "the transaction is gone", func() bool { return l.unlocked(id) })
	l.wantRow(id, n)
}

// A transaction whose snapshot is from before the announcement cannot see it and must not be queued. The caller is told to try again:
// that has to help, or programs whose transactions are REPEATABLE READ cannot write for as long as Redis is away.
func TestQueueOfAnOldSnapshot(t *testing.T) {
	for _, level := range []sql.IsolationLevel{sql.LevelRepeatableRead, sql.LevelSerializable} {
		t.Run(level.String(), func(t *testing.T) {
			l, link, schema := cutLedger(t, ledgerSetup{})
			l.warm(1, 2)
			link.Pause()
			try := func(n int) error {
				tx := begin(t, l.db, &sql.TxOptions{Isolation: level})
				if _, err := tx.Exec(setLockFirst, n, 1); err != nil {
					t.Fatal(err)
				}
				return tx.Commit()
			}
			l.wantRefused(try(1), 1, 0)
			if err := try(2); err != nil {
				t.Errorf("tried again: %v", err)
			}
			l.wantRow(1, 2)
			if s := l.stats().Outbox; s.Announced != 1 || s.Lost != 0 {
				t.Errorf("%d outages were announced and %d lost: each costs its readers and writers a wait", s.Announced, s.Lost)
			}
			// That the process says that it is alive must not be in the way of a snapshot from before.
			tx := begin(t, l.db, &sql.TxOptions{Isolation: level})
			if _, err := tx.Exec(setLockFirst, 3, 2); err != nil {
				t.Fatal(err)
			}
			if _, err := l.plain.Exec("UPDATE " + schema + ".outage SET seen_at = clock_timestamp()"); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				t.Errorf("a transaction that began before the process last said that it is alive: %v", err)
			}
			link.Resume()
			settled(t, l.plain, schema)
			l.wantTrue()
		})
	}
}

// An outage that others have removed (they took the process for dead) must not be committed under, and the next write announces anew.
func TestQueueUnderAnOutageThatIsGone(t *testing.T) {
	l, link, schema := cutLedger(t, ledgerSetup{})
	l.warm(1)
	link.Pause()
	l.downed() // else the process itself sees that nothing is owed any more
	l.exec(setLockFirst, 1, 1)
	if _, err := l.plain.Exec("DELETE FROM " + schema + ".outbox; DELETE FROM " + schema + ".outage"); err != nil {
		t.Fatal(err)
	}
	_, err := l.db.Exec(setLockFirst, 2, 1)
	l.wantRefused(err, 1, 1)
	l.exec(setLockFirst, 3, 1)
	if s := l.stats().Outbox; s.Announced != 2 || s.Lost != 1 {
		t.Errorf("%d outages were announced and %d lost", s.Announced, s.Lost)
	}
	link.Resume()
	settled(t, l.plain, schema)
	l.wantTrue()
}

// What cannot be written to the outbox is refused before COMMIT: nobody would make the entry absent.
func TestQueueThatCannotBeWritten(t *testing.T) {
	l, link, schema := cutLedger(t, ledgerSetup{})
	role := "r_" + schema
	for _, text := range []string{
		"CREATE ROLE " + role,
		"GRANT USAGE ON SCHEMA " + l.schema + ", " + schema + " TO " + role,
		"GRANT SELECT, UPDATE ON accounts TO " + role,
		"GRANT SELECT ON " + schema + ".outbox, " + schema + ".outage TO " + role,
	} {
		if _, err := l.plain.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	t.Cleanup(func() { _, _ = l.plain.Exec("DROP OWNED BY " + role + "; DROP ROLE " + role) })
	l.warm(1, 2)
	link.Pause()
	l.exec(setLockFirst, 1, 2) // the outage is announced
	on := func(texts ...string) error { return onOne(texts...)(context.Background(), l.db) }
	ctx := context.Background()

	err := on("SET ROLE "+role, setOne)
	l.wantRefused(err, 1, 0)
	if sqlState(err) != "42501" {
		t.Errorf("a role that may not INSERT: %v", err)
	}
	if err := on("RESET ROLE"); err != nil {
		t.Fatal(err)
	}
	err = on("BEGIN", setOne, "SET TRANSACTION READ ONLY", "COMMIT")
	l.wantRefused(err, 1, 0)
	if sqlState(err) != "25006" {
		t.Errorf("a transaction that may not write: %v", err)
	}
	if _, err := l.plain.Exec("ALTER TABLE " + schema + ".outbox RENAME TO gone"); err != nil {
		t.Fatal(err)
	}
	for _, w := range ways {
		err := w.set(ctx, t, l, setOne)()
		l.wantRefused(err, 1, 0)
		if sqlState(err) != "42P01" {
			t.Errorf("%s, without the table: %v", w.name, err)
		}
	}
	if _, err := l.plain.Exec("ALTER TABLE " + schema + ".gone RENAME TO outbox"); err != nil {
		t.Fatal(err)
	}
	for _, w := range ways {
		if err := w.set(ctx, t, l, setOne)(); err != nil {
			t.Errorf("%s, with everything in its place again: %v", w.name, err)
		}
	}
	link.Resume()
	settled(t, l.plain, schema)
	l.wantTrue()
}

// The wait for readers may take longer than a caller has: the write fails by then, and nothing is committed.
func TestQueueWithAShortContext(t *testing.T) {
	for _, text := range []string{setFenceFirst, setLockFirst} {
		l, link, schema := cutLedger(t, ledgerSetup{}, func(c *wtcache.Config) { c.Watch = 3 * time.Second })
		l.warm(1)
		link.Pause()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := l.db.ExecContext(ctx, text, 1, 1)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%s: got %v", text, err)
		}
		eventually(t, "the transaction is gone", func() bool { return l.unlocked(1) })
		l.wantRow(1, 0)
		if n := count(t, l.plain, schema+".outbox"); n != 0 {
			t.Errorf("%d rows are in the outbox", n)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		tx, err := l.db.BeginTx(ctx, nil)
		if err == nil {
			_, err = tx.ExecContext(ctx, text, 2, 1)
			err = errors.Join(err, tx.Commit())
		}
		cancel()
		if err != nil { // the wait may have been over by then
			eventually(t, "the transaction is gone", func() bool { return l.unlocked(1) })
			l.wantRow(1, 0)
		}
		l.exec(text, 3, 1)
		l.wantRow(1, 3)
		link.Resume()
		settled(t, l.plain, schema)
		l.wantTrue()
	}
}

// Whoever starts a program without the outbox is told the statements that make it, and they do.
func TestOutboxMissingAtTheFirstConnection(t *testing.T) {
	server := testenv.Postgres(t)
	admin := openPlain(t, server)
	must := func(text string) {
		t.Helper()
		if _, err := admin.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	schema := testenv.Outbox(t, server)
	role := "r_" + schema
	must("CREATE ROLE " + role)
	t.Cleanup(func() { must("DROP OWNED BY " + role + "; DROP ROLE " + role) })
	for name, spoil := range map[string]string{
		"schema":    "DROP SCHEMA " + schema + " CASCADE",
		"table":     "DROP TABLE " + schema + ".outbox",
		"column":    "ALTER TABLE " + schema + ".outbox DROP COLUMN held",
		"durable":   "ALTER TABLE " + schema + ".outbox SET UNLOGGED",
		"privilege": "",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{})
			dsn := l.dsn
			if spoil == "" {
				must("GRANT USAGE ON SCHEMA " + l.schema + " TO " + role + "; GRANT SELECT, UPDATE ON " + l.schema + ".accounts TO " + role)
				dsn += "&role=" + role
			} else {
				must(spoil)
			}
			db := l.open(dsn, ledgerSetup{config: withOutbox(t, schema)})
			err := db.Ping()
			missing, ok := errors.AsType[*outbox.MissingError](err)
			if !ok || !errors.Is(err, wtcache.ErrOutbox) || missing.Statement == "" || !mentions(err, schema, missing.Statement[:20]) {
				t.Fatalf("got %v", err)
			}
			for _, config := range []func(*wtcache.Config){func(c *wtcache.Config) { c.Outbox = wtcache.OutboxOff }, withOutbox(t, schema)} {
				rule := ""
				if c := (wtcache.Config{}); true {
					if config(&c); c.Outbox == schema {
						rule = "redis_down: refuse\n"
					}
				}
				if err := l.open(dsn, ledgerSetup{config: config, rule: rule}).Ping(); err != nil {
					t.Errorf("a program that needs no outbox (%q): %v", rule, err)
				}
			}
			must(missing.Statement)
			if err := db.Ping(); err != nil {
				t.Fatalf("after its statement was run: %v", err)
			}
			if _, err := db.Exec(setOne); err != nil {
				t.Error(err)
			}
		})
	}
}

// The settings of the outbox come by a DSN and by the environment, as all others do.
func TestOutboxSettings(t *testing.T) {
	server := testenv.Postgres(t)
	schema := testenv.Outbox(t, server)
	l := newLedger(t, ledgerSetup{})
	clearEnvironment(t)
	t.Setenv("WTCACHE_REDIS", testenv.RealRedis(t))
	t.Setenv("WTCACHE_RULES", ruleFolder(t, map[string]string{"accounts.yaml": l.ruleText("")}))
	dsn := func(more string) string { return l.dsn + more }
	ping := func(dsn string) error {
		db, err := sql.Open("wtcache", dsn)
		if err != nil {
			return err
		}
		defer db.Close()
		return db.Ping()
	}
	for _, good := range []string{"", "&wtcache_outbox=off", "&wtcache_outbox=" + schema, "&wtcache_watch=off", "&wtcache_watch=100ms", "&wtcache_max_queued_keys=5"} {
		if err := ping(dsn(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	if err := ping(dsn("&wtcache_outbox=nowhere")); !errors.Is(err, wtcache.ErrOutbox) {
		t.Errorf("a schema that is not there: %v", err)
	}
	for _, bad := range []string{"wtcache_watch=2", "wtcache_watch=-1s", "wtcache_max_queued_keys=0", "wtcache_max_queued_keys=many"} {
		name, value, _ := strings.Cut(bad, "=")
		if err := ping(dsn("&" + bad)); !errors.Is(err, wtcache.ErrConfig) || !mentions(err, name, `"`+value+`"`) {
			t.Errorf("%s: %v", bad, err)
		}
	}
	for name, bad := range map[string]string{"WTCACHE_WATCH": "soon", "WTCACHE_MAX_QUEUED_KEYS": "none"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv(name, bad)
			if err := ping(l.dsn); !errors.Is(err, wtcache.ErrConfig) || !mentions(err, bad) {
				t.Errorf("%s=%s: %v", name, bad, err)
			}
		})
	}
	t.Setenv("WTCACHE_OUTBOX", "nowhere")
	if err := ping(l.dsn); !errors.Is(err, wtcache.ErrOutbox) {
		t.Errorf("WTCACHE_OUTBOX: %v", err)
	}
}
