package testenv

import (
	"context"
	"os"
	"syscall"
	"testing"
)

// RedisServer is a further Redis for one test, which may do to it what a Redis suffers. Its methods end the test on an
// error, and may be called in a cleanup too. Not for concurrent use.
type RedisServer struct {
	// URL stays the same over restarts.
	URL string

	t testing.TB
	r *redisServer
}

// NewRedis starts a Redis that is the test's own, until its end. It is never miniredis. Further arguments are
// redis-server's and win over the defaults: "--appendonly", "yes" makes one whose Restart keeps the data.
func NewRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	r, err := shared.redis(t.Context(), args...)
	require(t, err)
	s := &RedisServer{URL: r.url(), t: t, r: r}
	t.Cleanup(func() {
		s.Kill()
		if err := os.RemoveAll(r.dir); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Socket is the path of the server's unix socket.
func (s *RedisServer) Socket() string { return s.r.socket() }

// Pause stops the process: connections stay open and are answered by nobody.
func (s *RedisServer) Pause() {
	s.t.Helper()
	s.check(s.r.proc.signal(syscall.SIGSTOP))
}

// Resume lets a paused process go on; it then answers what was sent meanwhile.
func (s *RedisServer) Resume() {
	s.t.Helper()
	s.check(s.r.proc.signal(syscall.SIGCONT))
}

// Kill ends the process at once. Connections break and new ones are refused. It does nothing where the server is down.
func (s *RedisServer) Kill() {
	s.t.Helper()
	s.check(s.r.kill(context.Background()))
}

// Restart kills the server if it runs and starts it again: empty, unless it was given persistence.
func (s *RedisServer) Restart() {
	s.t.Helper()
	s.Kill()
	s.check(s.r.start(context.Background()))
}

// Vouch notes that what the server is now it has always been, as is done when it starts: a
// first replica changes it, and so does what a test does to it.
func (s *RedisServer) Vouch() {
	s.t.Helper()
	s.check(s.r.vouch(context.Background(), Registry))
}

// Unvouched has nobody told, from now on and over restarts, that what the server holds is
// what it has always held.
func (s *RedisServer) Unvouched() {
	s.t.Helper()
	s.r.unknown = true
	admin := s.r.admin()
	defer admin.Close()
	s.check(admin.Del(context.Background(), Registry).Err())
}

func (s *RedisServer) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// PostgresServer is a further Postgres for one test. Its methods end the test on an error. Not for concurrent use.
type PostgresServer struct {
	// URL stays the same over restarts.
	URL string
	// Bin is the folder of psql, pg_ctl and the others, as far as the installation has them.
	Bin string

	t testing.TB
	p *postgres
}

// NewPostgres starts a Postgres that is the test's own, until its end.
func NewPostgres(t testing.TB, opts PostgresOptions) *PostgresServer {
	t.Helper()
	p, err := shared.postgres(t.Context(), opts)
	require(t, err)
	s := &PostgresServer{URL: p.url(), Bin: p.bin, t: t, p: p}
	t.Cleanup(func() {
		s.Stop()
		if err := p.remove(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// Socket is the path of the server's unix socket.
func (s *PostgresServer) Socket() string { return s.p.socket() }

// Stop shuts the server down in order: sessions end with SQLSTATE 57P01, everything is written. It does nothing where
// the server is down.
func (s *PostgresServer) Stop() {
	s.t.Helper()
	s.check(s.p.stop(context.Background()))
}

// Kill ends every process of the server at once, as a crash does: connections break without a word, and the next start
// recovers from the WAL. It does nothing where the server is down.
func (s *PostgresServer) Kill() {
	s.t.Helper()
	s.check(s.p.kill(context.Background()))
}

// Restart stops the server if it runs and starts it.
func (s *PostgresServer) Restart() {
	s.t.Helper()
	s.Stop()
	s.check(s.p.start(context.Background()))
}

func (s *PostgresServer) check(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}
