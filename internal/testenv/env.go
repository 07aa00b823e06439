package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"sync"
)

// Options chooses what Start starts. The zero value is one fast Postgres and one Redis.
type Options struct {
	Postgres PostgresOptions
	// NoPostgres and NoRedis leave one of the two out.
	NoPostgres, NoRedis bool
}

// Env is one Postgres and one Redis. Its fields are set by Start and do not change; a server that was left out has empty
// ones.
type Env struct {
	// DatabaseURL is a DSN that pgx takes, RedisURL one that go-redis' ParseURL takes.
	DatabaseURL, RedisURL string
	// RealRedis is false where miniredis stands in.
	RealRedis bool
	// ManyDatabases says that the Redis has a database for each test.
	ManyDatabases bool
	// PostgresBin is the folder of the binaries that were used; RedisBin is the path of the server. Empty where the
	// environment named a running server and no binaries were found.
	PostgresBin, RedisBin string
	// Folder is the temporary folder, which Close removes; empty where nothing was started.
	Folder string

	site     *site
	stopFake func()
}

// Start takes the servers that the environment names and starts the others. The error is ErrNoServer where there is
// nothing to start one from. Servers live until Close or the end of this process, not until ctx ends, which bounds the
// start alone.
func Start(ctx context.Context, opts Options) (*Env, error) {
	env := &Env{site: newSite()}
	var wg sync.WaitGroup
	var pgErr, redisErr error
	if !opts.NoPostgres {
		wg.Go(func() { pgErr = env.startPostgres(ctx, opts.Postgres) })
	}
	if !opts.NoRedis {
		wg.Go(func() { redisErr = env.startRedis(ctx) })
	}
	wg.Wait()
	if err := errors.Join(pgErr, redisErr); err != nil {
		return nil, errors.Join(err, env.Close())
	}
	env.Folder = env.site.folder()
	return env, nil
}

// Close stops what Start started and removes its files. Further calls do nothing.
func (e *Env) Close() error {
	if e.stopFake != nil {
		e.stopFake()
		e.stopFake = nil
	}
	return e.site.close()
}

// commandGate is gate for a command that needs its own standard input.
const commandGate = `read -r go <&%[1]d && exec %[1]d<&- && exec "$@"`

// StartCommand is cmd.Start for a process that must not outlive this one any more than the servers do: the watchdog ends
// it too, and its group where it leads one. The returned function is to be called after cmd.Wait. Where nothing was
// started there is no watchdog, and the command is started as it is.
func (e *Env) StartCommand(cmd *exec.Cmd) (waited func(), err error) {
	e.site.mu.Lock()
	h := e.site.home
	e.site.mu.Unlock()
	if h == nil || cmd.Err != nil {
		return func() {}, cmd.Start()
	}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open the gate of %s: %w", cmd.Path, err)
	}
	defer read.Close()
	defer write.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, read)
	script := fmt.Sprintf(commandGate, 2+len(cmd.ExtraFiles))
	cmd.Args = append([]string{"sh", "-c", script, cmd.Args[0], cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	if err := h.release(pid, write); err != nil {
		_ = cmd.Process.Kill()
		return nil, errors.Join(err, cmd.Wait())
	}
	return func() { _ = h.tell("-", pid) }, nil
}

func (e *Env) startPostgres(ctx context.Context, opts PostgresOptions) error {
	if url := os.Getenv("WTCACHE_TEST_DATABASE_URL"); url != "" {
		e.DatabaseURL = url
		// The binaries are a help for tests that start further servers, not needed for this one.
		e.PostgresBin, _ = findPostgres(nil)
		// One that does not answer, or whose role may not, is for those to notice who need it.
		_ = prepareOutbox(ctx, url)
		return nil
	}
	p, err := e.site.postgres(ctx, opts)
	if err != nil {
		return err
	}
	e.DatabaseURL, e.PostgresBin = p.url(), p.bin
	return nil
}

func (e *Env) startRedis(ctx context.Context) error {
	if url := os.Getenv("WTCACHE_TEST_REDIS_URL"); url != "" {
		e.RedisURL, e.RealRedis = url, os.Getenv("WTCACHE_TEST_REDIS_FAKE") != "1"
		e.ManyDatabases = os.Getenv("WTCACHE_TEST_REDIS_MANY") == url
		e.RedisBin, _ = findRedis(nil)
		return nil
	}
	r, err := e.site.redis(ctx, manyDatabases()...)
	if errors.Is(err, ErrNoServer) {
		e.RedisURL, e.stopFake, err = startMiniredis()
		return err
	}
	if err != nil {
		return err
	}
	e.RedisURL, e.RedisBin, e.RealRedis, e.ManyDatabases = r.url(), r.bin, true, true
	return nil
}

// site is a home that is made when its first server is, and the binaries that its servers are started from. It is safe
// for concurrent use.
type site struct {
	mu   sync.Mutex // guards home and bin; held while either is made
	home *home
	bin  string // of the embedded Postgres, once it was downloaded
}

func newSite() *site { return &site{} }

func (s *site) get() (*home, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.home == nil {
		h, err := newHome()
		if err != nil {
			return nil, err
		}
		s.home = h
	}
	return s.home, nil
}

func (s *site) folder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.home == nil {
		return ""
	}
	return s.home.dir
}

func (s *site) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.home == nil {
		return nil
	}
	return s.home.close()
}

func (s *site) postgres(ctx context.Context, opts PostgresOptions) (*postgres, error) {
	h, err := s.get()
	if err != nil {
		return nil, err
	}
	bin, err := s.postgresBin(h)
	if err != nil {
		return nil, err
	}
	p, err := newPostgres(ctx, h, bin, opts)
	if err != nil {
		return nil, err
	}
	return p, prepareOutbox(ctx, p.url())
}

func (s *site) postgresBin(h *home) (string, error) {
	bin, err := findPostgres(h.cred)
	if !errors.Is(err, ErrNoServer) {
		return bin, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bin == "" {
		got, downloadErr := embeddedPostgres(h)
		if downloadErr != nil {
			return "", fmt.Errorf("%w (and the embedded one is not to be had: %w)", err, downloadErr)
		}
		s.bin = got
	}
	return s.bin, nil
}

// forRedis looks for the binary first: without one there is no need of a home.
func (s *site) forRedis() (h *home, bin string, err error) {
	cred, err := serverCredential()
	if err != nil {
		return nil, "", err
	}
	if bin, err = findRedis(cred); err != nil {
		return nil, "", err
	}
	h, err = s.get()
	return h, bin, err
}

func (s *site) redis(ctx context.Context, args ...string) (*redisServer, error) {
	h, bin, err := s.forRedis()
	if err != nil {
		return nil, err
	}
	return newRedis(ctx, h, bin, args...)
}

// freePort returns a TCP port that was free a moment ago, or 0.
func freePort() uint32 {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		return 0
	}
	defer l.Close()
	return uint32(l.Addr().(*net.TCPAddr).Port)
}
