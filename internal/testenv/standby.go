package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Standby is a hot standby of a PostgresServer, which it follows by streaming. Its methods end the test on an error. Not
// for concurrent use.
type Standby struct {
	*PostgresServer
	// Name is its application_name on the primary, which synchronous_standby_names may list, and its cluster_name.
	Name string

	primary *PostgresServer
}

// NewStandby copies the server and starts the copy as a standby of it, until the test's end. Settings are further lines of
// the standby's postgresql.conf, which otherwise has its primary's. The name must be a plain word.
func (s *PostgresServer) NewStandby(t testing.TB, name string, settings map[string]string) *Standby {
	t.Helper()
	dir, err := s.p.home.room("standby")
	require(t, err)
	p := &postgres{home: s.p.home, bin: s.p.bin, dir: dir}
	own := map[string]string{
		"unix_socket_directories": dir,
		"hot_standby":             "on",
		"cluster_name":            name,
		"primary_conninfo":        "host=" + s.p.dir + " port=5432 user=postgres application_name=" + name,
		// For a primary that was restarted: the default is 5 s.
		"wal_retrieve_retry_interval": "50ms",
	}
	maps.Copy(own, settings)
	require(t, s.copyTo(t.Context(), p))
	require(t, p.set(own))
	require(t, p.signal("standby.signal"))
	require(t, p.start(t.Context()))
	y := &Standby{PostgresServer: &PostgresServer{URL: p.url(), Bin: p.bin, t: t, p: p}, Name: name, primary: s}
	t.Cleanup(func() {
		y.Stop()
		if err := p.remove(); err != nil {
			t.Error(err)
		}
	})
	return y
}

// copyTo copies the data folder while the server runs, as the manual tells for a tool of one's own: pg_basebackup is not
// in every installation.
// Source: https://www.postgresql.org/docs/current/continuous-archiving.html#BACKUP-LOWLEVEL-BASE-BACKUP
func (s *PostgresServer) copyTo(ctx context.Context, p *postgres) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	start, stop := "SELECT pg_backup_start('testenv', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	var version int
	if err := conn.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
		return err
	}
	if version < 150000 {
		start, stop = "SELECT pg_start_backup('testenv', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	if _, err := conn.Exec(ctx, start); err != nil {
		return fmt.Errorf("start a backup: %w", err)
	}
	if err := p.home.copyData(s.p.data(), p.data()); err != nil {
		return fmt.Errorf("copy the data folder: %w", err)
	}
	var label string
	if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
		return fmt.Errorf("end the backup: %w", err)
	}
	path := filepath.Join(p.data(), "backup_label")
	return errors.Join(os.WriteFile(path, []byte(label), 0o600), p.home.give(path))
}

// leftOut are folders whose files belong to the running server alone. The WAL is streamed.
var leftOut = []string{"pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_stat_tmp", "pg_subtrans"}

// copyData copies a data folder, all but leftOut. A file that goes while it is being copied is one that the WAL does away
// with.
func (h *home) copyData(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		top, _, below := strings.Cut(name, string(filepath.Separator))
		target := filepath.Join(to, name)
		switch {
		case entry.IsDir():
			err = os.Mkdir(target, 0o700)
		case below && slices.Contains(leftOut, top), strings.HasPrefix(name, "postmaster."):
			return nil
		default:
			err = copyFile(path, target)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return errors.Join(err, h.give(target))
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// signal makes one of the empty files that tell a server how to start.
func (p *postgres) signal(name string) error {
	path := filepath.Join(p.data(), name)
	return errors.Join(os.WriteFile(path, nil, 0o600), p.home.give(path))
}

// Pause stops the replay: the standby goes on to receive and to answer, and sees no further commit.
func (s *Standby) Pause() {
	s.t.Helper()
	s.query("SELECT pg_wal_replay_pause()::text")
	paused := "SELECT pg_is_wal_replay_paused()::text"
	if s.query("SELECT (current_setting('server_version_num')::int >= 140000)::text") == "true" {
		paused = "SELECT (pg_get_wal_replay_pause_state() = 'paused')::text" // the other only says that it was asked for
	}
	s.await("the replay is paused", paused)
}

// Resume lets a paused replay go on.
func (s *Standby) Resume() {
	s.t.Helper()
	s.query("SELECT pg_wal_replay_resume()::text")
}

// Depart ends the streaming for good: the standby goes on to answer, and gets nothing of what is committed from now on.
func (s *Standby) Depart() {
	s.t.Helper()
	s.query("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()::text")
	s.await("nothing is received any more", "SELECT (count(*) = 0)::text FROM pg_stat_wal_receiver")
}

// CatchUp waits until the standby has replayed all that was committed on the primary when it was called.
func (s *Standby) CatchUp() {
	s.t.Helper()
	s.AwaitReplay(s.primary.mark())
}

// AwaitReplay waits until the standby has replayed up to a position.
func (s *Standby) AwaitReplay(position string) {
	s.t.Helper()
	s.await("the position "+position+" is replayed", "SELECT (pg_last_wal_replay_lsn() >= '"+position+"')::text")
}

// Promote makes the standby a primary, on a timeline of its own, and waits until it is one.
func (s *Standby) Promote() {
	s.t.Helper()
	if s.query("SELECT pg_promote()::text") != "true" {
		s.t.Fatal("the standby was not promoted in time")
	}
}

// mark writes a record to the WAL, has it sent, and gives its position. The position at which the next record would go is
// none to wait for: at the start of a page it lies behind a header, which is written with that next record.
func (s *PostgresServer) mark() string {
	s.t.Helper()
	// No COMMIT of the server's own settings: it may be one that waits for the standby.
	return s.query("SET synchronous_commit = local", "SELECT pg_logical_emit_message(true, 'testenv', '')::text")
}

// query gives the single value of the last of texts.
func (s *PostgresServer) query(texts ...string) (value string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.URL)
	s.check(err)
	defer conn.Close(ctx)
	last := len(texts) - 1
	for _, text := range texts[:last] {
		_, err := conn.Exec(ctx, text)
		s.check(err)
	}
	s.check(conn.QueryRow(ctx, texts[last]).Scan(&value))
	return value
}

// await asks until the answer is true.
func (s *PostgresServer) await(what, question string) {
	s.t.Helper()
	for end := time.Now().Add(startLimit); s.query(question) != "true"; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("not so after %v: %s", startLimit, what)
		}
	}
}
