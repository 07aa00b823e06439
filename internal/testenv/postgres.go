package testenv

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startLimit bounds how long a server may take to start or stop; a loaded machine with two cores needs seconds.
const startLimit = 60 * time.Second

// PostgresOptions chooses how a private Postgres behaves. The zero value is fast and forgets: a crash of the machine
// (not of the server) may lose it.
type PostgresOptions struct {
	// Durable turns fsync and full-page writes on, for tests of crashes.
	Durable bool
	// Settings are further lines of postgresql.conf; they win over the defaults.
	Settings map[string]string
}

type postgres struct {
	home *home
	bin  string
	dir  string
	proc *process
}

func newPostgres(ctx context.Context, h *home, bin string, opts PostgresOptions) (*postgres, error) {
	dir, err := h.room("pg")
	if err != nil {
		return nil, err
	}
	p := &postgres{home: h, bin: bin, dir: dir}
	if err := p.initdb(ctx); err != nil {
		return nil, err
	}
	if err := p.configure(opts); err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *postgres) socket() string { return filepath.Join(p.dir, ".s.PGSQL.5432") }

// url has the port spelled out, because PGPORT of the caller's environment would fill it in.
func (p *postgres) url() string {
	q := url.Values{"host": {p.dir}, "port": {"5432"}, "user": {"postgres"}}
	return "postgres:///postgres?" + q.Encode()
}

func (p *postgres) initdb(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	err := p.initdbWith(ctx, "C.UTF-8")
	if err != nil && strings.Contains(err.Error(), "invalid locale") {
		err = p.initdbWith(ctx, "C") // macOS before 15 and some small images have no C.UTF-8
	}
	if err != nil {
		return fmt.Errorf("make a database cluster: %w", err)
	}
	return nil
}

func (p *postgres) initdbWith(ctx context.Context, locale string) error {
	proc, err := p.home.start(p.dir, "initdb", filepath.Join(p.bin, "initdb"), "--pgdata="+p.data(), "--no-sync", "--auth=trust",
		"--username=postgres", "--locale="+locale, "--encoding=UTF8")
	if err != nil {
		return err
	}
	return proc.run(ctx)
}

// configure appends to postgresql.conf rather than use command-line options, which ALTER SYSTEM could not override.
func (p *postgres) configure(opts PostgresOptions) error {
	durable := "off"
	if opts.Durable {
		durable = "on"
	}
	settings := map[string]string{
		"listen_addresses":          "",
		"unix_socket_directories":   p.dir,
		"port":                      "5432",
		"fsync":                     durable,
		"full_page_writes":          durable,
		"synchronous_commit":        "on",
		"wal_level":                 "logical",
		"max_prepared_transactions": "20",
		"max_connections":           "200",
		"shared_buffers":            "64MB",
		"timezone":                  "UTC",
		"log_timezone":              "UTC",
		// In files of the data folder, not in /dev/shm: a killed server leaves nothing there, and containers have little of it.
		"dynamic_shared_memory_type": "mmap",
		// The planner expects the driver's catalogue query to be dear and compiles it, for every connection of every test.
		"jit": "off",
	}
	maps.Copy(settings, opts.Settings)
	return p.set(settings)
}

// set appends lines to postgresql.conf, where the last line of a setting counts.
func (p *postgres) set(settings map[string]string) error {
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(p.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open postgresql.conf: %w", err)
	}
	_, err = f.WriteString("\n" + conf.String())
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write postgresql.conf: %w", err)
	}
	return nil
}

func (p *postgres) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	proc, err := p.home.start(p.dir, "postgres", filepath.Join(p.bin, "postgres"), "-D", p.data())
	if err != nil {
		return err
	}
	p.proc = proc
	return proc.awaitReady(ctx, p.ready)
}

// ready reads what pg_ctl reads: the postmaster keeps its process id in the first line of postmaster.pid and its state in
// the eighth. A file left by a killed server has another id.
func (p *postgres) ready() bool {
	text, err := os.ReadFile(filepath.Join(p.data(), "postmaster.pid"))
	if err != nil {
		return false
	}
	lines := strings.Split(string(text), "\n")
	return len(lines) >= 8 && lines[0] == strconv.Itoa(p.proc.pid) && strings.TrimSpace(lines[7]) == "ready"
}

// stop is Postgres' fast shutdown: sessions end, a checkpoint is written.
func (p *postgres) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return p.proc.end(ctx, syscall.SIGINT)
}

// kill ends every process of the server at once, with no word to clients and no checkpoint. The postmaster is stopped
// first, so that it starts no process that would be missed; and each of its children is waited for, because a new
// server does not start while one of the old holds the shared memory.
func (p *postgres) kill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := p.proc.signal(syscall.SIGSTOP); err != nil {
		return ignoreDone(err)
	}
	children, err := childrenOf(p.proc.pid)
	if err != nil {
		return err
	}
	for _, pid := range children {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := p.proc.end(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	for _, pid := range children {
		for !gone(pid) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("wait for process %d of Postgres to end: %w", pid, context.Cause(ctx))
			case <-time.After(5 * time.Millisecond):
			}
		}
	}
	return nil
}

// remove deletes the files of a server that has ended. Those of a killed one stay for the watchdog, which finds in them
// the shared memory to remove.
func (p *postgres) remove() error {
	if _, err := os.Lstat(filepath.Join(p.data(), "postmaster.pid")); err == nil {
		return nil
	}
	return os.RemoveAll(p.dir)
}

// childrenOf asks pgrep where there is no /proc (macOS); a small Linux image has /proc but no pgrep.
func childrenOf(pid int) ([]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if errors.Is(err, os.ErrNotExist) {
		text, err = exec.Command("pgrep", "-P", strconv.Itoa(pid)).Output()
	}
	if err != nil {
		return nil, fmt.Errorf("list the children of process %d: %w", pid, err)
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list the children of process %d: %w", pid, err)
		}
		pids = append(pids, child)
	}
	return pids, nil
}

// gone reports whether a process has ended; one that only waits to be reaped has.
func gone(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return strings.HasPrefix(state, "Z") || strings.HasPrefix(state, "X")
}
