package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const installPgBouncer = "`apt-get install pgbouncer` (Debian, Ubuntu) or `brew install pgbouncer` (macOS)"

// PgBouncerPort is the port in the name of every PgBouncer's socket.
const PgBouncerPort = 6432

// PgBouncer is a PgBouncer of a test's own. A client that connects to Dir and PgBouncerPort reaches the database that it
// was made for, whichever database and user it names.
type PgBouncer struct {
	Dir string // of its unix socket
}

// NewPgBouncer starts a PgBouncer in transaction pooling mode, until the test's end: every transaction may go to another
// of at most poolSize sessions of the database. Each session has the search_path that databaseURL has as a parameter;
// parameters of clients are ignored.
func NewPgBouncer(t testing.TB, databaseURL string, poolSize int) *PgBouncer {
	t.Helper()
	bin, err := findPgBouncer()
	require(t, err)
	cfg, err := pgx.ParseConfig(databaseURL)
	require(t, err)
	h, err := shared.get()
	require(t, err)
	dir, err := h.room("pgb")
	require(t, err)
	ini := filepath.Join(dir, "pgbouncer.ini")
	require(t, os.WriteFile(ini, []byte(pgBouncerConfig(dir, cfg, poolSize)), 0o600))
	require(t, h.give(ini))
	proc, err := h.start(dir, "pgbouncer", bin, ini)
	require(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		require(t, errors.Join(proc.end(ctx, syscall.SIGKILL), os.RemoveAll(dir)))
	})
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	require(t, proc.awaitReady(ctx, func() bool {
		conn, err := net.DialTimeout("unix", filepath.Join(dir, fmt.Sprint(".s.PGSQL.", PgBouncerPort)), time.Second)
		return err == nil && conn.Close() == nil
	}))
	return &PgBouncer{Dir: dir}
}

// Through makes a client's configuration one that goes through the PgBouncer.
func (p *PgBouncer) Through(cfg *pgx.ConnConfig) {
	cfg.Host, cfg.Port, cfg.TLSConfig, cfg.Fallbacks = p.Dir, PgBouncerPort, nil, nil
}

func pgBouncerConfig(dir string, cfg *pgx.ConnConfig, poolSize int) string {
	server := []string{"host=" + cfg.Host, fmt.Sprint("port=", cfg.Port), "dbname=" + cfg.Database, "user=" + cfg.User}
	if cfg.Password != "" {
		server = append(server, "password="+cfg.Password)
	}
	if path := cfg.RuntimeParams["search_path"]; path != "" {
		server = append(server, "connect_query='SET search_path = "+path+"'")
	}
	return strings.Join([]string{
		"[databases]", "* = " + strings.Join(server, " "),
		"[pgbouncer]", "listen_addr =", "unix_socket_dir = " + dir, fmt.Sprint("listen_port = ", PgBouncerPort),
		"auth_type = any", "pool_mode = transaction", fmt.Sprint("default_pool_size = ", poolSize), "max_client_conn = 200",
		"ignore_startup_parameters = extra_float_digits,search_path,jit", "",
	}, "\n")
}

func findPgBouncer() (string, error) {
	if path := os.Getenv("WTCACHE_TEST_PGBOUNCER_BIN"); path != "" {
		return path, nil
	}
	if path, err := exec.LookPath("pgbouncer"); err == nil {
		return path, nil
	}
	for _, dir := range append([]string{"/usr/sbin"}, redisFolders...) {
		if path := filepath.Join(dir, "pgbouncer"); runnable(path, nil) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no pgbouncer; install it with %s", ErrNoServer, installPgBouncer)
}
