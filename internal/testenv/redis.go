package testenv

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type redisServer struct {
	home *home
	bin  string
	dir  string
	port int // 0: it listens on its socket alone
	args []string
	// sentinel: it runs as a Sentinel, from a file that it writes itself once it was started.
	sentinel bool
	proc     *process
	clock    *clock // nil: it goes by the machine's
	// unknown: nobody is told that its data are those that it has always had.
	unknown bool
	vouched bool // of a Cluster: its registry knows it
}

func newRedis(ctx context.Context, h *home, bin string, args ...string) (*redisServer, error) {
	dir, err := h.room("redis")
	if err != nil {
		return nil, err
	}
	r := &redisServer{home: h, bin: bin, dir: dir, args: args}
	if err := r.start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// databases are how many a Redis has that tests share, so that hardly any two tests meet in one. The first ones, which
// every Redis has, are left to programs that look for an empty one.
const (
	databases     = 1000
	firstDatabase = 16
)

// manyDatabases are arguments of a Redis that tests share.
func manyDatabases() []string { return []string{"--databases", strconv.Itoa(databases)} }

func (r *redisServer) socket() string { return filepath.Join(r.dir, "redis.sock") }

func (r *redisServer) addr() string { return net.JoinHostPort(loopback, strconv.Itoa(r.port)) }

func (r *redisServer) url() string {
	if r.port != 0 {
		return "redis://" + r.addr()
	}
	return "unix://" + r.socket()
}

func (r *redisServer) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	argv, err := r.argv()
	if err != nil {
		return err
	}
	proc, err := r.home.start(r.dir, "redis", argv...)
	if err != nil {
		return err
	}
	r.proc = proc
	if err := proc.awaitReady(ctx, r.ready); err != nil || r.sentinel || slices.Contains(r.args, "--cluster-enabled") {
		return err
	}
	return r.vouch(ctx, Registry)
}

// Registry is the hash in which cachesync notes since when it knows a server (cachesync.Registry).
// A server that was started for tests would be in quarantine for the life of a fence, as one
// that may have lost fences; what it is now is noted as known since always.
const Registry = "wtcache:epochs"

func (r *redisServer) vouch(ctx context.Context, registry string) error {
	if r.unknown {
		return nil
	}
	info, err := r.ask(ctx, "info", "server")
	if isUnknownCommand(err) {
		return nil // a test of what is refused: whoever cannot ask notices no loss either
	}
	if err != nil {
		return err
	}
	more, err := r.ask(ctx, "info", "replication")
	if err != nil {
		return err
	}
	_, err = r.ask(ctx, "eval", "redis.call('HSET', KEYS[1], ARGV[1], '0') return 'OK'", 1, registry, field(info, "run_id")+":"+field(more, "master_replid"))
	if isUnknownCommand(err) {
		return nil
	}
	return err
}

// isUnknownCommand knows the answer to a command that the test has renamed away.
func isUnknownCommand(err error) bool {
	return err != nil && strings.Contains(err.Error(), "unknown command")
}

func (r *redisServer) argv() ([]string, error) {
	if r.sentinel {
		return []string{r.bin, r.sentinelFile(), "--sentinel"}, nil
	}
	major, err := redisMajor(r.bin)
	if err != nil {
		return nil, err
	}
	argv := []string{r.bin, "--port", strconv.Itoa(r.port), "--bind", loopback, "--unixsocket", r.socket(), "--unixsocketperm", "700",
		"--dir", r.dir, "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"}
	if major >= 7 { // before, DEBUG was always allowed and the setting unknown
		argv = append(argv, "--enable-debug-command", "local")
	}
	argv = append(argv, r.args...)
	if r.clock != nil {
		argv = r.clock.argv(argv)
	}
	return argv, nil
}

func (r *redisServer) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return r.proc.end(ctx, syscall.SIGKILL)
}

// ready reports whether the server answers; it says LOADING while it reads a file from disk.
func (r *redisServer) ready() bool {
	conn, err := net.DialTimeout("unix", r.socket(), time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && line == "+PONG\r\n"
}
