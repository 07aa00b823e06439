package testenv

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// command sends one inline command to a Redis socket and returns the reply's text.
func command(t *testing.T, socket, line string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(line + "\r\n")); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	head, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(head, "$") {
		return head
	}
	n, err := strconv.Atoi(strings.TrimSpace(head[1:]))
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, n)
	for read := 0; read < n; {
		m, err := r.Read(body[read:])
		if err != nil {
			t.Fatal(err)
		}
		read += m
	}
	return string(body)
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func queryString(t *testing.T, conn *pgx.Conn, sql string) string {
	t.Helper()
	var s string
	if err := conn.QueryRow(t.Context(), sql).Scan(&s); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return s
}

func redisClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	opts, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	opts.MaxRetries, opts.DialerRetries, opts.ContextTimeoutEnabled = -1, 1, true
	client := redis.NewClient(opts)
	t.Cleanup(func() { client.Close() })
	return client
}

// Every integration test stands on these settings: prepared transactions, the follower's WAL level, a text order that does
// not depend on the machine.
func TestPostgresIsConfigured(t *testing.T) {
	t.Setenv("PGPORT", "1") // a developer's own settings must not redirect the tests
	t.Setenv("TZ", "America/New_York")
	for _, durable := range []bool{false, true} {
		s := NewPostgres(t, PostgresOptions{Durable: durable, Settings: map[string]string{"application_name": "it's"}})
		conn := connect(t, s.URL)
		fsync := map[bool]string{false: "off", true: "on"}[durable]
		for name, want := range map[string]string{
			"wal_level": "logical", "max_prepared_transactions": "20", "max_connections": "200", "listen_addresses": "",
			"fsync": fsync, "full_page_writes": fsync, "synchronous_commit": "on", "server_encoding": "UTF8", "TimeZone": "UTC",
		} {
			if got := queryString(t, conn, "SHOW "+name); got != want {
				t.Errorf("durable=%v: %s is %q, want %q", durable, name, got, want)
			}
		}
		if got := queryString(t, conn, "SELECT reset_val FROM pg_settings WHERE name = 'application_name'"); got != "it's" {
			t.Errorf("a setting with a quote arrived as %q", got)
		}
	}
}

// A test that fills Redis must see an error, not lost keys; and fault tests need DEBUG.
func TestRedisIsConfigured(t *testing.T) {
	s := NewRedis(t)
	client := redisClient(t, s.URL)
	for name, want := range map[string]string{"maxmemory-policy": "noeviction", "save": "", "appendonly": "no", "port": "0"} {
		got, err := client.ConfigGet(t.Context(), name).Result()
		if err != nil {
			t.Fatal(err)
		}
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	if err := client.Do(t.Context(), "DEBUG", "SLEEP", "0").Err(); err != nil {
		t.Errorf("DEBUG is refused: %v", err)
	}
}

// A caller of Start, such as the demonstration, expects Close to give everything back, and more than once.
func TestCloseRemovesEverything(t *testing.T) {
	withoutServers(t)
	env, err := Start(t.Context(), Options{})
	require(t, err)
	conn := connect(t, env.DatabaseURL) // a session that is left open must not hold Close up
	connectable(t, conn.Ping(t.Context()))
	connectable(t, redisClient(t, env.RedisURL).Ping(t.Context()).Err())
	for range 2 {
		if err := env.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if exists(env.Folder) {
		t.Errorf("%s is still there", env.Folder)
	}
}

// A start that is given up must not go on in the background.
func TestStartEndsWithItsContext(t *testing.T) {
	withoutServers(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env, err := Start(ctx, Options{})
	if errors.Is(err, ErrNoServer) {
		require(t, err)
	}
	if !errors.Is(err, context.Canceled) || env != nil {
		t.Fatalf("Start returned %v, %v", env, err)
	}
}

// Continuous integration may bring its own servers; starting others beside them would test the wrong ones.
func TestEnvironmentWins(t *testing.T) {
	t.Setenv("WTCACHE_TEST_DATABASE_URL", "postgres://example/db")
	t.Setenv("WTCACHE_TEST_REDIS_URL", "redis://example")
	t.Setenv("WTCACHE_TEST_REDIS_FAKE", "")
	env, err := Start(t.Context(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	if env.DatabaseURL != "postgres://example/db" || env.RedisURL != "redis://example" || !env.RealRedis || env.Folder != "" {
		t.Errorf("got %+v", env)
	}
}

// hideBinaries makes this machine look like one without Postgres and Redis.
func hideBinaries(t *testing.T) {
	t.Helper()
	withoutServers(t)
	t.Setenv("WTCACHE_TEST_POSTGRES_BIN", "")
	t.Setenv("WTCACHE_TEST_REDIS_BIN", "")
	t.Setenv("PATH", t.TempDir())
	oldPostgres, oldRedis := postgresFolders, redisFolders
	postgresFolders, redisFolders = nil, nil
	t.Cleanup(func() { postgresFolders, redisFolders = oldPostgres, oldRedis })
}

// Somebody without a Redis can still see the demonstration and most tests; entries expire there as they do elsewhere.
func TestMiniredisStandsIn(t *testing.T) {
	hideBinaries(t)
	env, err := Start(t.Context(), Options{NoPostgres: true})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	if env.RealRedis {
		t.Error("miniredis passes for a real Redis")
	}
	client := redisClient(t, env.RedisURL)
	if err := client.Set(t.Context(), "k", "v", 100*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the key has expired", func() bool { return client.Exists(t.Context(), "k").Val() == 0 })
}

// Without Postgres and without a network, the message is all that a new contributor has to go on.
func TestMissingPostgresNamesTheCommand(t *testing.T) {
	hideBinaries(t)
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", t.TempDir())
	nothing := httptest.NewServer(http.NotFoundHandler())
	defer nothing.Close()
	t.Setenv("WTCACHE_TEST_POSTGRES_REPOSITORY", nothing.URL)
	_, err := Start(t.Context(), Options{NoRedis: true})
	if !errors.Is(err, ErrNoServer) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"apt-get install postgresql", "brew install postgresql", "download"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in: %v", part, err)
		}
	}
}

// A version manager's wrapper works for one user in one folder; servers started through it fail in ways hard to read.
func TestWrappersAreNotUsed(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"initdb", "postgres", "redis-server"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	hideBinaries(t)
	t.Setenv("PATH", dir)
	if got, err := findPostgres(nil); !errors.Is(err, ErrNoServer) {
		t.Errorf("found Postgres in %q, %v", got, err)
	}
	if got, err := findRedis(nil); !errors.Is(err, ErrNoServer) {
		t.Errorf("found Redis at %q, %v", got, err)
	}
	t.Setenv("WTCACHE_TEST_POSTGRES_BIN", dir)
	if _, err := findPostgres(nil); err == nil || !strings.Contains(err.Error(), "WTCACHE_TEST_POSTGRES_BIN") {
		t.Errorf("a wrong WTCACHE_TEST_POSTGRES_BIN is not named: %v", err)
	}
}
