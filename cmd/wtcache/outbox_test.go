package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// A missing outbox must be found before the program is deployed, with statements that make it; and so must a role that may not
// use it.
func TestCheckOutbox(t *testing.T) {
	s := newShopWithoutOutbox(t)
	url := testenv.NewRedis(t).URL
	fix := func(code int) string {
		t.Helper()
		o := s.check(t, url, "--json")
		o.want(t, code)
		for _, f := range o.report(t).Findings {
			if f.Subject == "outbox" {
				return f.Fix
			}
		}
		return ""
	}
	s.exec(t, fix(1))
	if again := fix(0); again != "" {
		t.Errorf("the outbox was made, and it says %s", again)
	}
	s.exec(t, "CREATE ROLE shop; GRANT USAGE ON SCHEMA "+s.schema+" TO shop; GRANT ALL ON users TO shop")
	owner := s.dsn
	s.dsn += "&role=shop"
	grants := fix(1)
	if !strings.Contains(grants, "GRANT") {
		t.Fatalf("it advises %q", grants)
	}
	s.exec(t, grants)
	fix(0)
	s.dsn = owner
	s.exec(t, "DROP OWNED BY shop; DROP ROLE shop")
}

// What is printed, what psql is given and what is applied must be the same tables.
func TestSchema(t *testing.T) {
	s := newShopWithoutOutbox(t)
	url := testenv.NewRedis(t).URL
	s.check(t, url).want(t, 1, "error: outbox (schema wtcache)", "CREATE TABLE IF NOT EXISTS", "1 error")
	o := run(t, nil, "schema")
	o.want(t, 0, "CREATE SCHEMA IF NOT EXISTS", `"wtcache".outbox`)
	s.exec(t, o.stdout)
	s.check(t, url).want(t, 0, "0 errors")
	s.exec(t, "DROP SCHEMA wtcache CASCADE; CREATE ROLE shop")
	for range 2 { // it may be run again
		run(t, []string{"DATABASE_URL=" + s.dsn}, "schema", "--apply", "--grant-to", "shop").want(t, 0, "the outbox is in schema wtcache")
	}
	s.exec(t, "GRANT USAGE ON SCHEMA "+s.schema+" TO shop; GRANT ALL ON users TO shop")
	asShop := *s
	asShop.dsn += "&role=shop"
	asShop.check(t, url).want(t, 0, "0 errors")
	run(t, nil, "schema", "--schema", `odd "name"`).want(t, 0, `"odd ""name"""`)
	s.check(t, url, "--outbox", "elsewhere").want(t, 1, "error: outbox (schema elsewhere)")
	s.check(t, url, "--outbox", "off").want(t, 0, "0 errors")
	run(t, nil, "schema", "--apply", "--schema", "elsewhere", "--dsn", s.dsn).want(t, 0, "in schema elsewhere")
	s.check(t, url, "--outbox", "elsewhere").want(t, 0, "0 errors")
	drain := []string{"drain", "--dsn", s.dsn + "&wtcache_outbox=elsewhere", "--rules", s.rules, "--redis", url}
	run(t, nil, drain...).want(t, 0, "0 rows drained")
	run(t, nil, append(drain, "--outbox", "off")...).want(t, 2, "no outbox to drain")
	// Made where no program looks for it, it would be said to be missing as before.
	run(t, []string{"WTCACHE_OUTBOX=of_the_env"}, "schema").want(t, 0, `CREATE SCHEMA IF NOT EXISTS "of_the_env"`)
	run(t, []string{"WTCACHE_OUTBOX=of_the_env"}, "schema", "--schema", "flag").want(t, 0, `CREATE SCHEMA IF NOT EXISTS "flag"`)
	run(t, []string{"WTCACHE_OUTBOX=off"}, "schema").want(t, 2, "the outbox is off")
	run(t, nil, "schema", "--apply", "--dsn", s.dsn+"&wtcache_outbox=of_the_dsn").want(t, 0, "in schema of_the_dsn")
	run(t, nil, "schema", "--apply").want(t, 2, "--dsn")
	run(t, nil, "schema", "--dsn", s.dsn).want(t, 2, "--apply")
	run(t, nil, "schema", "--apply", "--dsn", asShop.dsn).want(t, 2, "permission denied")
}

// After an outage with no program left to settle it, what is owed must be settled by hand; and a row may leave the outbox only
// when Redis has it.
func TestDrain(t *testing.T) {
	s := newShopWithoutOutbox(t)
	r := testenv.NewRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	drain := func(more ...string) outcome {
		t.Helper()
		return run(t, nil, append([]string{"drain", "--dsn", s.dsn, "--rules", s.rules, "--redis", r.URL}, more...)...)
	}
	drain().want(t, 2, `schema "wtcache" is missing`, "wtcache schema")
	run(t, nil, "schema", "--apply", "--dsn", s.dsn).want(t, 0)
	drain().want(t, 0, "0 rows drained")

	rdb := redis.NewClient(&redis.Options{Network: "unix", Addr: r.Socket()})
	defer rdb.Close()
	for _, key := range []string{"user:1", "user:2", "user:3", "item:1"} {
		if err := rdb.Set(t.Context(), key, "old", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s.exec(t, `INSERT INTO wtcache.outbox (debt) VALUES ('{"keys": ["user:1", "user:2"]}'), ('{"keys": ["user:2"]}'),
		('{"sweeps": [{"barrier": "wtcache:barrier:public.items", "globs": ["item:*"]}]}')`)
	r.Kill()
	drain().want(t, 2, "redis is unavailable")
	if n := s.left(t); n != 3 {
		t.Fatalf("with Redis down %d rows are left of 3", n)
	}
	r.Restart()
	o := drain("--json")
	o.want(t, 0)
	var counts map[string]int64
	if err := json.Unmarshal([]byte(o.stdout), &counts); err != nil || counts["rows"] != 3 || counts["keys"] != 2 || counts["sweeps"] != 1 || counts["left"] != 0 {
		t.Errorf("it reports %s (%v)", o.stdout, err)
	}
	if n := s.left(t); n != 0 {
		t.Errorf("%d rows are left", n)
	}
	if keys, err := rdb.Keys(t.Context(), "????:?").Result(); err != nil || len(keys) != 1 || keys[0] != "user:3" {
		t.Errorf("Redis holds %q (%v)", keys, err)
	}
}

// A row that cannot be read must not pass for drained.
func TestDrainUnreadable(t *testing.T) {
	s := newShopWithoutOutbox(t)
	run(t, nil, "schema", "--apply", "--dsn", s.dsn).want(t, 0)
	s.exec(t, `INSERT INTO wtcache.outbox (debt) VALUES ('{"keys": ["user:1"]}'), ('{"unheard": 1}')`)
	o := run(t, nil, "drain", "--dsn", s.dsn, "--rules", s.rules, "--redis", testenv.NewRedis(t).URL)
	o.want(t, 1, "1 row drained", "1 left", "row 2 of", "unheard")
}

func (s *shop) left(t *testing.T) (n int) {
	t.Helper()
	if err := s.db.QueryRow("SELECT count(*) FROM wtcache.outbox").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
