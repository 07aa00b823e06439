package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/examples/orms/service"
	"github.com/wtcache/wtcache/internal/outbox/ddl"
	"github.com/wtcache/wtcache/internal/testenv"
)

// TestLibraries runs the service of each library with the driver "pgx" and with the driver "wtcache", which is the only
// difference. A failure means that a program which is written with this library does not work with wtcache as it did, or that
// its readers get old rows from Redis.
func TestLibraries(t *testing.T) {
	t.Parallel()
	for name := range libraries {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := database(t)
			sent := withPgx(t, name, dsn)
			execute(t, dsn, "TRUNCATE users, orders RESTART IDENTITY")
			handled := withWtcache(t, name, dsn)
			compareWithGolden(t, filepath.Join("testdata", strings.ReplaceAll(name, "/", "")+".txt"), describe(sent, handled))
		})
	}
}

// withPgx runs everything without a cache, and gives the statements that each step sent.
func withPgx(t *testing.T, library, dsn string) map[string][]string {
	cfg, err := pgx.ParseConfig(dsn)
	check(t, err)
	rec := &recorder{}
	cfg.Tracer = rec
	s := openService(t, library, "pgx", stdlib.RegisterConnConfig(cfg))
	sent := map[string][]string{}
	w := newWorld(t, s)
	for _, st := range steps {
		rec.take()
		check(t, st.do(w), st.name)
		sent[st.name] = rec.take()
	}
	contend(t, s)
	return sent
}

// withWtcache runs the same. After each step every key in Redis is compared with the database.
func withWtcache(t *testing.T, library, dsn string) map[string]counts {
	redisURL := redisOfItsOwn(t)
	s := openService(t, library, "wtcache", forWtcache(t, dsn, redisURL))
	truth := newTruth(t, dsn, redisURL)
	handled := map[string]counts{}
	w := newWorld(t, s)
	for _, st := range steps {
		before := statsOf(t, s.DB())
		check(t, st.do(w), st.name)
		handled[st.name] = difference(before, statsOf(t, s.DB()))
		truth.compare(t, "after "+st.name)
		truth.holds(t, "after "+st.name, w.stored, w.absent)
	}
	before := statsOf(t, s.DB())
	contend(t, s)
	truth.compare(t, "after everything at the same time")
	done := difference(before, statsOf(t, s.DB()))
	t.Logf("everything at the same time: %s; texts parsed: %d", done, done.parsed)
	if done.coarse != 0 || done.sweeps != 0 {
		t.Errorf("statements were coarse: %d, tables of which every entry became absent: %d; want neither", done.coarse, done.sweeps)
	}
	if after := statsOf(t, s.DB()); after.Uncaptured != 0 || after.BackgroundErrors != 0 || after.Unfenced != 0 {
		t.Errorf("%d statements uncaptured, %d errors in the background, %d commits without fences, want none", after.Uncaptured, after.BackgroundErrors, after.Unfenced)
	}
	return handled
}

// redisOfItsOwn starts a Redis, in which there is then nothing but what a test's own service has put there.
func redisOfItsOwn(t *testing.T) string { return testenv.NewRedis(t).URL }

// forWtcache adds to a DSN what a program would rather have in its environment, which here all tests share.
func forWtcache(t *testing.T, dsn, redisURL string) string {
	t.Helper()
	return withParameters(t, dsn, map[string]string{
		"wtcache_redis": redisURL, "wtcache_rules": "rules",
		"wtcache_redis_timeout": "7s", // a slow machine must not make a key absent; a fence lives 30 s, four times as long
	})
}

func openService(t *testing.T, library, driver, dsn string) service.Service {
	t.Helper()
	s, err := libraries[library](driver, dsn)
	check(t, err)
	t.Cleanup(func() { check(t, s.DB().Close()) })
	s.DB().SetMaxOpenConns(6) // the tests of all libraries share a server
	return s
}

// database makes a database with the service's tables and gives its DSN: the rules name tables of the schema public.
func database(t *testing.T) string {
	t.Helper()
	server, name := testenv.Postgres(t), "orms_"+strings.ToLower(rand.Text()[:10])
	execute(t, server, "CREATE DATABASE "+name)
	t.Cleanup(func() { execute(t, server, "DROP DATABASE "+name+" WITH (FORCE)") })
	dsn := withParameters(t, server, map[string]string{"dbname": name})
	schema, err := os.ReadFile("schema.sql")
	check(t, err)
	execute(t, dsn, ddl.For("wtcache")+string(schema))
	return dsn
}

func execute(t *testing.T, dsn, statements string) {
	t.Helper()
	ctx := context.Background() // the test's own has ended when it cleans up
	conn, err := pgx.Connect(ctx, dsn)
	check(t, err)
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statements)
	check(t, err)
}

// withParameters sets parameters in a DSN of either form: a URL, or keywords, of which the last one counts.
func withParameters(t *testing.T, dsn string, parameters map[string]string) string {
	t.Helper()
	if !strings.HasPrefix(dsn, "postgres") {
		for name, value := range parameters {
			dsn += " " + name + "='" + value + "'"
		}
		return dsn
	}
	u, err := url.Parse(dsn)
	check(t, err)
	query := u.Query()
	for name, value := range parameters {
		if name == "dbname" {
			u.Path = "/" + value
			continue
		}
		query.Set(name, value)
	}
	u.RawQuery = query.Encode()
	return u.String()
}

func statsOf(t *testing.T, db *sql.DB) wtcache.Stats {
	t.Helper()
	got, err := wtcache.StatsOf(db)
	check(t, err)
	return got
}

func check(t *testing.T, err error, what ...string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", strings.Join(what, " "), err)
	}
}
