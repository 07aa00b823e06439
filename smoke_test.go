package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

func TestSmoke(t *testing.T) {
	ctx := context.Background()
	pg, rd := testenv.Postgres(t), testenv.Redis(t)
	dsn, schema := testenv.Schema(t, pg)
	plain, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := plain.Exec(`CREATE TABLE users (id int PRIMARY KEY, name text, email text UNIQUE NOT NULL)`); err != nil {
		t.Fatal(err)
	}
	opt, err := redis.ParseURL(rd)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(opt)
	defer rdb.Close()
	prefix := testenv.KeyPrefix(t)
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{Redis: rdb, Rules: fstest.MapFS{
		"users.yaml": {Data: []byte(fmt.Sprintf("table: %s.users\nentries:\n  - key: \"%suser:{id}\"\n  - key: \"%semail:{email}\"\n", schema, prefix, prefix))},
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	show := func(what string) {
		for _, k := range []string{"user:1", "user:2", "email:a", "email:b"} {
			v, err := rdb.Get(ctx, prefix+k).Result()
			t.Logf("%s: %s = %s %v", what, k, v, err)
		}
	}
	if _, err := db.Exec(`INSERT INTO users VALUES (1, 'ann', 'a')`); err != nil {
		t.Fatal(err)
	}
	show("insert")
	res, err := db.Exec(`UPDATE users SET email = $1 WHERE id = $2`, "b", 1)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := res.RowsAffected()
	t.Log(n)
	show("update")
	c, err := wtcache.CacheOf(db)
	if err != nil {
		t.Fatal(err)
	}
	var u map[string]any
	r, err := c.Get(ctx, "users.by_email", &u, "b")
	t.Log(r, u, err)
	if _, err := db.Exec(`BEGIN; DELETE FROM users; INSERT INTO users VALUES (2,'x','a'); COMMIT`); err != nil {
		t.Fatal(err)
	}
	show("script")
	r, err = c.Get(ctx, "users.by_email", &u, "b")
	t.Log(r, u, err)
	if _, err := db.Exec(`TRUNCATE users`); err != nil {
		t.Fatal(err)
	}
	show("truncate")
	s, _ := wtcache.StatsOf(db)
	t.Logf("%+v", s)
}
