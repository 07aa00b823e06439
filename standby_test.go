package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A read replica takes load off the primary, and must not cost the promise: whatever is
// filled from it is what the primary had when the lease was granted, or newer. These share a
// primary.
func TestReplica(t *testing.T) {
	p := newPair(t, nil)
	for name, test := range map[string]func(*testing.T, pair){
		"lags and catches up":         testReplicaLags,
		"lags for long":               testReplicaLagsForLong,
		"position from before":        testReplicaPositionFromBefore,
		"idle primary after a switch": testReplicaIdle,
		"ordinary role":               testReplicaRole,
		"opened and closed":           testReplicaOwnPool,
		"dead":                        testReplicaDead,
		"silent":                      testReplicaSilent,
		"short deadline":              testReplicaShortDeadline,
		"errors of the row":           testReplicaRowErrors,
		"the primary is a standby":    testReplicaOfNoPrimary,
	} {
		t.Run(name, func(t *testing.T) {
			test(t, p)
			p.standby.CatchUp()
		})
	}
}

// A lagging standby would put the old row back into the cache, until its TTL. And one that has
// caught up has to be used, or it is of no use.
func testReplicaLags(t *testing.T, p pair) {
	l := p.open(t, nil)
	if from := l.miss(); from != onStandby {
		t.Errorf("the row came from %q", from)
	}
	l.wantCached(1, 0)

	p.standby.Pause()
	l.exec(setFenceFirst, 1, 1)
	l.forget()
	l.impatient()
	if from := l.miss(); from != onPrimary {
		t.Errorf("with the replay paused the row came from %q", from)
	}
	l.wantCached(1, 1)
	l.wantCounts(1, 1, 0)

	l.forget()
	l.replica.Wait(patience, patience)
	read := make(chan string, 1)
	go func() { read <- l.miss() }() // may have to wait for the replay
	p.standby.Resume()
	if from := await(t, "the miss", read); from != onStandby {
		t.Errorf("with the replay resumed the row came from %q", from)
	}
	l.wantCached(1, 1)
	l.wantCounts(2, 1, 0)
}

// Three writers: the first one's fence has remembered a position, which the standby has
// replayed; the second one's entry is made absent by the third, and both commits are not
// there yet. Whoever trusts the remembered position fills the first one's row, and it stays.
func testReplicaPositionFromBefore(t *testing.T, p pair) {
	for _, remembered := range []bool{true, false} {
		t.Run(fmt.Sprintf("remembered %v", remembered), func(t *testing.T) {
			l := p.open(t, nil)
			l.impatient()
			l.exec(setFenceFirst, 1, 1)
			then, err := l.replica.Remember(context.Background(), l.db)
			if err != nil {
				t.Fatal(err)
			}
			p.standby.CatchUp()
			p.standby.Pause()
			defer p.standby.Resume()
			l.exec(setFenceFirst, 2, 1)
			l.exec("WITH w AS (UPDATE accounts SET n = 3 WHERE id = 1 RETURNING 1) SELECT count(*) FROM w")
			l.takeLease()
			var n int
			if remembered {
				conn, err := then()
				if err != nil {
					t.Fatal(err)
				}
				n, _ = l.look(conn)
				_ = conn.Close()
			} else {
				n, _ = l.snapshot()
			}
			if !l.fill(n) {
				t.Fatal("the fill was refused: nothing is proved")
			}
			if cached, _ := l.entry(1); (cached != 3) != remembered {
				t.Errorf("account 1 is cached as %d and is 3", cached)
			}
		})
	}
}

// With synchronous_commit = off a commit is acknowledged, and visible, before it is flushed.
// A standby that has replayed all that was flushed lacks it.
func TestReplicaLacksACommitThatIsNotFlushed(t *testing.T) {
	p := newPair(t, map[string]string{"wal_writer_delay": "10s"})
	l := p.open(t, nil)
	p.standby.CatchUp()
	conn := l.on()
	l.say(conn, "SET synchronous_commit = off")
	l.impatient()
	missed := false
	for n := 1; !missed; n++ { // a checkpoint may flush it
		l.say(conn, fmt.Sprintf("UPDATE accounts SET n = %d WHERE id = 1", n))
		l.forget()
		if from := l.miss(); from == onPrimary {
			var flushed, replayed string
			if err := l.plain.QueryRow("SELECT pg_current_wal_flush_lsn()::text").Scan(&flushed); err != nil {
				t.Fatal(err)
			}
			standby := openPlain(t, p.standby.URL)
			if err := standby.QueryRow("SELECT pg_last_wal_replay_lsn()::text").Scan(&replayed); err != nil {
				t.Fatal(err)
			}
			was, _ := l.look(standby)
			missed = flushed == replayed && was != n // by the flushed position it was fresh
		}
		l.wantCached(1, n)
		if n > 1000 {
			t.Fatal("no commit was ever visible before it was flushed")
		}
	}
}

// After a switch of WAL files, and with nothing written since, the position of the primary is
// behind a page's header that is not written yet: no standby would ever be used.
func testReplicaIdle(t *testing.T, p pair) {
	l := p.open(t, nil)
	l.must("SELECT pg_switch_wal()")
	if from := l.miss(); from != onStandby {
		t.Errorf("the row came from %q", from)
	}
}

// A service does not run as a superuser. What its role needs has to be enough, and where it
// is missing somebody has to learn what to grant.
func testReplicaRole(t *testing.T, p pair) {
	role := "role_" + strings.ToLower(strings.Trim(testenv.KeyPrefix(t), ":"))
	execOn(t, p.primary.URL, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() { execOn(t, p.primary.URL, "DROP OWNED BY "+role, "DROP ROLE "+role) })
	as := func(url string) string { return strings.Replace(url, "user=postgres", "user="+role, 1) }
	l := p.open(t, func(cfg *wtcache.Config) { cfg.ReadReplicaDSN = as(p.standby.URL) })
	l.must("GRANT USAGE ON SCHEMA " + l.schema + " TO " + role)
	l.must("GRANT SELECT ON accounts TO " + role)
	l.db = l.open(withSearchPath(t, as(p.primary.URL), l.schema), ledgerSetup{config: func(cfg *wtcache.Config) {
		cfg.ReadReplicaDSN = as(p.standby.URL)
	}})
	l.replica = wtcache.StandbyOf(t, l.db)
	l.replica.Wait(patience, patience)
	l.wantRefused("GRANT pg_read_all_stats")
	l.must("GRANT pg_read_all_stats TO " + role)
	l.replica.Clock(later, 0)
	l.forget()
	if from := l.miss(); from != onStandby {
		t.Errorf("the row came from %q", from)
	}
	l.wantCounts(1, 0, 1)
}

// The pool that wtcache opens goes with the *sql.DB, or each reopening leaks sessions; the
// caller's own stays.
func testReplicaOwnPool(t *testing.T, p pair) {
	clearEnvironment(t)
	watch := openPlain(t, p.standby.URL)
	sessions := func(name string) (n int) {
		if err := watch.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE application_name = $1", name).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	l := p.open(t, nil)
	t.Setenv("WTCACHE_REDIS", testenv.RealRedis(t))
	t.Setenv("WTCACHE_RULES", ruleFolder(t, map[string]string{"accounts.yaml": l.ruleText("")}))
	t.Setenv("WTCACHE_READ_REPLICA", p.standby.URL+"&application_name=ours")
	db, err := sql.Open("wtcache", l.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l.db, l.replica = db, wtcache.StandbyOf(t, db)
	l.replica.Wait(patience, patience)
	if from := l.miss(); from != onStandby {
		t.Errorf("the row came from %q", from)
	}
	if n := sessions("ours"); n == 0 {
		t.Fatal("the standby has no session of ours: nothing is proved")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the sessions are closed", func() bool { return sessions("ours") == 0 })

	own := openPlain(t, p.standby.URL)
	l.db = l.open(l.dsn, ledgerSetup{config: func(cfg *wtcache.Config) { cfg.ReadReplica = own }})
	if err := l.db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := own.Ping(); err != nil {
		t.Errorf("the caller's pool was closed: %v", err)
	}
}

// A database that another database's primary wrote has rows under the same keys, and its
// positions say nothing of ours: a DSN that was copied from another environment.
func TestReplicaOfAnotherClusterIsRefused(t *testing.T) {
	ours := testenv.NewPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"cluster_name": onPrimary}})
	theirs := newPair(t, nil)
	openReplica(t, ours.URL, theirs.standby, nil).wantRefused("belongs to another database cluster")
}

// After a failover that the old primary survives, both it and the new one write, and a
// standby follows one of them. Positions can be compared and mean nothing.
func TestReplicaOfAnotherTimelineIsRefused(t *testing.T) {
	p := newPair(t, nil)
	heir := p.primary.NewStandby(t, "heir", map[string]string{"cluster_name": onPrimary})
	moved := p.primary.NewStandby(t, onStandby, map[string]string{
		"primary_conninfo": "host=" + filepath.Dir(heir.Socket()) + " port=5432 user=postgres",
	})
	l := p.open(t, nil)
	heir.CatchUp()
	heir.Promote()
	execOn(t, heir.URL, "CREATE TABLE filler AS SELECT generate_series(1, 10000)")
	execOn(t, p.primary.URL, "CREATE TABLE filler AS SELECT generate_series(1, 20000)")
	var end, timeline string
	ask(t, heir.URL, "SELECT pg_current_wal_flush_lsn()::text", &end)
	moved.AwaitReplay(end)
	ask(t, moved.URL, "SELECT timeline_id::text FROM pg_control_checkpoint()", &timeline)
	if timeline != "1" {
		t.Fatalf("the control file of the standby says timeline %s: it does not show the trap", timeline)
	}

	t.Run("of the heir", func(t *testing.T) {
		n := openReplica(t, heir.URL, moved, nil)
		if from := n.miss(); from != onStandby {
			t.Errorf("the row came from %q", from)
		}
	})
	t.Run("left for the heir", func(t *testing.T) {
		var end string
		ask(t, p.primary.URL, "SELECT pg_current_wal_insert_lsn()::text", &end)
		l := l.with(t, p.primary.URL, moved)
		execOn(t, heir.URL, "CREATE TABLE more AS SELECT generate_series(1, 50000)")
		moved.AwaitReplay(end)
		l.wantRefused("follows another timeline")
	})
	t.Run("left behind", func(t *testing.T) {
		l := l.with(t, heir.URL, p.standby)
		execOn(t, p.primary.URL, "CREATE TABLE more AS SELECT generate_series(1, 200000)")
		p.standby.CatchUp()
		l.wantRefused("follows another timeline")
	})
	t.Run("promoted", func(t *testing.T) {
		l := l.with(t, p.primary.URL, p.standby)
		p.standby.Promote()
		l.wantRefused("is not in recovery")
	})
}

// Where every COMMIT waits for the standby, the primary need not be asked at all; and nothing
// that was acknowledged may be missing. The primary is nil here: it cannot be asked.
func TestReplicaThatCommitsWaitFor(t *testing.T) {
	p := newPair(t, map[string]string{"synchronous_standby_names": onStandby, "synchronous_commit": "remote_apply"})
	l := p.open(t, func(cfg *wtcache.Config) { cfg.ReadReplicaApplied = true })
	snapshot := func() int {
		t.Helper()
		conn, done := l.replica.Reading(context.Background(), nil)
		defer done()
		if conn == nil {
			t.Fatal("the standby is not used")
		}
		n, from := l.look(conn)
		if from != onStandby {
			t.Errorf("the row came from %q", from)
		}
		return n
	}
	for n := 1; n <= 20; n++ {
		l.exec(setFenceFirst, n, 1)
		if got := snapshot(); got != n {
			t.Errorf("the standby has %d after %d was acknowledged", got, n)
		}
	}
	p.standby.Pause()
	returned := make(chan error, 1)
	go func() {
		_, err := l.db.Exec(setLockFirst, 21, 1)
		returned <- err
	}()
	l.waiting("SyncRep")
	if got := snapshot(); got != 20 {
		t.Errorf("the standby has %d, which it has not replayed", got)
	}
	p.standby.Resume()
	if err := await(t, "the COMMIT", returned); err != nil {
		t.Fatal(err)
	}
	if got := snapshot(); got != 21 {
		t.Errorf("the standby has %d after 21 was acknowledged", got)
	}
	p.standby.Promote()
	if conn, done := l.replica.Reading(context.Background(), nil); conn != nil {
		done()
		t.Error("a standby that was promoted, for which nothing waits any more, is used")
	}
	execOn(t, p.primary.URL, "ALTER SYSTEM SET synchronous_standby_names = ''", "SELECT pg_reload_conf()") // or the cleanup waits, too
}

// A standby shows a commit as soon as it has replayed it, which may be before the primary
// does. A reader that returned that row, and another that reads the primary afterwards, would
// see time go back. The lease tells: such a commit is under its fence, so that the fill of its
// row is refused, and the row is then not to be returned either.
func TestReplicaShowsACommitBeforeThePrimary(t *testing.T) {
	p := newPair(t, map[string]string{"synchronous_standby_names": "FIRST 2 (" + onStandby + ", nobody)", "synchronous_commit": "local"})
	l := p.open(t, nil)
	l.takeLease()
	conn, done := l.replica.Reading(context.Background(), l.db)
	defer done()
	if conn == nil {
		t.Fatal("the standby is not used")
	}
	tx, err := l.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"SET LOCAL synchronous_commit = remote_apply", setOne} {
		if _, err := tx.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	returned := make(chan error, 1)
	go func() { returned <- tx.Commit() }()
	pid := l.waiting("SyncRep")
	eventually(t, "the standby shows the commit", func() bool {
		n, _ := l.look(conn)
		return n == 1
	})
	l.wantRow(1, 0)
	if l.fill(1) {
		t.Error("the row of a commit that the primary does not show yet was filled")
	}
	l.must("SELECT pg_cancel_backend($1)", pid)
	if err := await(t, "the COMMIT", returned); err != nil {
		t.Fatal(err)
	}
	l.wantRow(1, 1)
}

// A reader of a mode without a cache has no use for a replica, whatever the settings say.
func TestReplicaIsIgnoredInModeOff(t *testing.T) {
	clearEnvironment(t)
	db, err := sql.Open("wtcache", testenv.Postgres(t)+"&wtcache_mode=off&wtcache_read_replica=nonsense&wtcache_read_replica_applied=true")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	if conn, _ := wtcache.StandbyOf(t, db).Reading(context.Background(), db); conn != nil {
		t.Error("there is a replica")
	}
}
