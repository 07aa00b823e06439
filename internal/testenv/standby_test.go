package testenv

import "testing"

// The tests of reads from a standby believe that it lags when it is told to, catches up when it may, and is cut off from its
// primary by a promotion.
func TestStandbyDoesAsTold(t *testing.T) {
	primary := NewPostgres(t, PostgresOptions{Settings: map[string]string{"cluster_name": "primary"}})
	ctx := t.Context()
	on := connect(t, primary.URL)
	write := func(sql string) {
		t.Helper()
		if _, err := on.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	write("CREATE TABLE things (id int)")
	s := primary.NewStandby(t, "follower", nil)
	write("INSERT INTO things VALUES (1)")
	s.CatchUp()
	count := func(want, when string) {
		t.Helper()
		if got := queryString(t, connect(t, s.URL), "SELECT count(*)::text FROM things"); got != want {
			t.Errorf("%s the standby has %s rows, want %s", when, got, want)
		}
	}
	count("1", "after CatchUp")
	if got := queryString(t, connect(t, s.URL), "SELECT current_setting('cluster_name')||' '||pg_is_in_recovery()"); got != "follower true" {
		t.Errorf("the standby says of itself %q", got)
	}

	s.Pause()
	write("INSERT INTO things VALUES (2)")
	position := primary.mark()
	eventually(t, "the WAL has reached the standby", func() bool {
		return queryString(t, connect(t, s.URL), "SELECT (pg_last_wal_receive_lsn() >= '"+position+"')::text") == "true"
	})
	count("1", "paused")
	s.Resume()
	s.AwaitReplay(position)
	count("2", "after Resume")

	s.Restart()
	write("INSERT INTO things VALUES (3)")
	s.CatchUp()
	count("3", "after Restart")

	s.Promote()
	write("INSERT INTO things VALUES (4)")
	count("3", "after Promote")
	if got := queryString(t, connect(t, s.URL), "SELECT left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)"); got != "00000002" {
		t.Errorf("after Promote it is on timeline %s", got)
	}
}

// What COMMITs wait for must be this standby, by its name.
func TestStandbyIsSynchronousByName(t *testing.T) {
	primary := NewPostgres(t, PostgresOptions{Settings: map[string]string{"synchronous_standby_names": "follower", "synchronous_commit": "local"}})
	primary.NewStandby(t, "follower", nil)
	on := connect(t, primary.URL)
	eventually(t, "the standby is a synchronous one", func() bool {
		return queryString(t, on, "SELECT coalesce(max(sync_state), '') FROM pg_stat_replication") == "sync"
	})
}
