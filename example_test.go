package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/url"
	"strings"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// servers starts (or finds) the Postgres and Redis that the examples run on, with an
// empty table, and gives the function that cleans up.
func servers(table string) (*testenv.Env, func()) {
	env, err := testenv.Start(context.Background(), testenv.Options{})
	if err != nil {
		log.Fatal(err)
	}
	db, err := sql.Open("pgx", env.DatabaseURL)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := db.Exec("CREATE TABLE " + table + " (id bigint PRIMARY KEY, name text NOT NULL)"); err != nil {
		log.Fatal(err)
	}
	return env, func() {
		_, err := db.Exec("DROP TABLE " + table)
		if err := errors.Join(err, db.Close(), env.Close()); err != nil {
			log.Fatal(err)
		}
	}
}

// withSettings adds settings to a DSN in URL form.
func withSettings(dsn string, settings url.Values) string {
	if strings.Contains(dsn, "?") {
		return dsn + "&" + settings.Encode()
	}
	return dsn + "?" + settings.Encode()
}

// The driver's name, two settings and a rule file are all that changes: the statements
// are the program's own.
func Example() {
	env, cleanUp := servers("example_users")
	defer cleanUp()

	// testdata/example/users.yaml:
	//
	//	table: public.example_users
	//	key: "example:user:{id}"
	settings := url.Values{"wtcache_redis": {env.RedisURL}, "wtcache_rules": {"testdata/example"}}
	db, err := sql.Open("wtcache", withSettings(env.DatabaseURL, settings))
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := db.Exec("INSERT INTO example_users VALUES ($1, $2)", 1, "Ann"); err != nil {
		log.Fatal(err)
	}

	cache, err := wtcache.CacheOf(db)
	if err != nil {
		log.Fatal(err)
	}
	var user struct {
		ID   int64
		Name string
	}
	read, err := cache.Get(context.Background(), "example_users", &user, 1)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(user.ID, user.Name, "from cache:", read.FromCache)

	if _, err := db.Exec("DELETE FROM example_users WHERE id = $1", 1); err != nil {
		log.Fatal(err)
	}
	_, err = cache.Get(context.Background(), "example_users", &user, 1)
	fmt.Println(err)
	// Output:
	// 1 Ann from cache: true
	// sql: no rows in result set
}

// OpenDB takes a base connector, rules from any fs.FS (an embed.FS, say), and the
// caller's own Redis client where there is one.
func ExampleOpenDB() {
	env, cleanUp := servers("example_books")
	defer cleanUp()

	cfg, err := pgx.ParseConfig(env.DatabaseURL)
	if err != nil {
		log.Fatal(err)
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{
		RedisURL: env.RedisURL,
		Rules: fstest.MapFS{"books.yaml": {Data: []byte(`
table: public.example_books
key: "example:book:{id}"
ttl: 1h
`)}},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	tx, err := db.Begin()
	if err != nil {
		log.Fatal(err)
	}
	if _, err := tx.Exec("INSERT INTO example_books VALUES (1, 'Moby-Dick'), (2, 'Emma')"); err != nil {
		log.Fatal(err)
	}
	if err := tx.Rollback(); err != nil { // nothing of it reaches Redis
		log.Fatal(err)
	}
	stats, err := wtcache.StatsOf(db)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("rows captured:", stats.CapturedRows, "keys fenced:", stats.Redis.Fences)
	// Output: rows captured: 2 keys fenced: 0
}
