package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
)

// shared holds the servers of a test binary. Nothing closes it: the watchdog does when the process ends.
var shared = newSite()

var sharedPostgres = sync.OnceValues(func() (*Env, error) {
	env := &Env{site: shared}
	return env, env.startPostgres(context.Background(), PostgresOptions{})
})

var sharedRedis = sync.OnceValues(func() (*Env, error) {
	env := &Env{site: shared}
	return env, env.startRedis(context.Background())
})

// Postgres returns the DSN of the Postgres that the tests of this process share, starting it at the first call. Tests
// keep apart by Schema. It may be called from any goroutine that may call t.FailNow.
func Postgres(t testing.TB) string {
	t.Helper()
	env, err := sharedPostgres()
	require(t, err)
	return env.DatabaseURL
}

// Redis returns the URL of the Redis that the tests of this process share, starting it at the first call. Tests keep apart
// by KeyPrefix and never empty the server. It may be miniredis, except under WTCACHE_TEST_REQUIRE=1; a test that
// miniredis would mislead calls RealRedis.
//
// A server that was started for tests has many databases, and the URL names one for the test: a walk through all keys
// (SCAN) hardly meets others'. Subtests of a test that has called Redis or RealRedis are in its database.
func Redis(t testing.TB) string {
	t.Helper()
	env, err := sharedRedis()
	require(t, err)
	if !env.RealRedis && required() {
		require(t, errOnlyMiniredis)
	}
	return env.redisFor(t)
}

// RealRedis is Redis for tests of what miniredis lacks: expiry, TIME, number formats in scripts, CONFIG, CLIENT, WAIT.
func RealRedis(t testing.TB) string {
	t.Helper()
	env, err := sharedRedis()
	require(t, err)
	if !env.RealRedis {
		require(t, errOnlyMiniredis)
	}
	return env.redisFor(t)
}

func (e *Env) redisFor(t testing.TB) string {
	t.Helper()
	if !e.ManyDatabases {
		return e.RedisURL
	}
	return ownDatabase(t, e.RedisURL, e.RedisURL)
}

// databaseOf has the number of each test's database, by the server's URL and the test's name.
var databaseOf sync.Map

// ownDatabase gives serverURL, or another URL that leads to that server, with the database of the test: that of the nearest
// test around it that has one, or else one drawn at random, since processes share the server and do not know each other's.
func ownDatabase(t testing.TB, serverURL, withURL string) string {
	t.Helper()
	for name := t.Name(); ; {
		if n, ok := databaseOf.Load(serverURL + " " + name); ok {
			return inDatabase(t, withURL, n.(int))
		}
		at := strings.LastIndexByte(name, '/')
		if at < 0 {
			break
		}
		name = name[:at]
	}
	n, _ := databaseOf.LoadOrStore(serverURL+" "+t.Name(), firstDatabase+mathrand.IntN(databases-firstDatabase))
	return inDatabase(t, withURL, n.(int))
}

func inDatabase(t testing.TB, redisURL string, n int) string {
	t.Helper()
	u, err := url.Parse(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	q.Set("db", strconv.Itoa(n))
	u.RawQuery = q.Encode()
	return u.String()
}

var errOnlyMiniredis = fmt.Errorf("%w: this test needs a real Redis and there is only miniredis; install one with %s", ErrNoServer, installRedis)

func required() bool { return os.Getenv("WTCACHE_TEST_REQUIRE") == "1" }

// require ends the test where err is not nil. Only a server that is not installed excuses a test: one that does not start
// is a failure.
func require(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case errors.Is(err, ErrNoServer) && !required():
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// Schema makes a schema for the test, drops it at the test's end with all that is in it, and returns databaseURL with
// the schema as its search_path, and the schema's name. A test ends its transactions before it returns, else the drop waits for
// their locks.
func Schema(t testing.TB, databaseURL string) (dsn, schema string) {
	t.Helper()
	schema = "wt_" + identifier(t)
	execute(t, databaseURL, "CREATE SCHEMA "+schema)
	t.Cleanup(func() { execute(t, databaseURL, "DROP SCHEMA "+schema+" CASCADE") })
	return withParameter(databaseURL, "search_path", schema), schema
}

func execute(t testing.TB, databaseURL, sql string) {
	t.Helper()
	// Not the test's own context, which has ended when a cleanup runs.
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// withParameter sets a parameter in a DSN of either form: a URL, or keywords, of which the last one counts.
func withParameter(dsn, name, value string) string {
	u, err := url.Parse(dsn)
	if err != nil || !strings.HasPrefix(u.Scheme, "postgres") {
		return dsn + " " + name + "='" + value + "'"
	}
	q := u.Query()
	q.Set(name, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// KeyPrefix returns a prefix for the test's Redis keys that no other test and no other run has.
func KeyPrefix(t testing.TB) string {
	return identifier(t) + ":"
}

var notInIdentifier = regexp.MustCompile(`[^a-z0-9]+`)

// identifier makes a name for the test that is unique, tells which test it was, and needs no quoting in SQL.
func identifier(t testing.TB) string {
	name := strings.Trim(notInIdentifier.ReplaceAllString(strings.ToLower(t.Name()), "_"), "_")
	const longest = 40 // Postgres cuts names after 63 bytes
	if len(name) > longest {
		name = name[:longest]
	}
	return name + "_" + strings.ToLower(rand.Text()[:8])
}
