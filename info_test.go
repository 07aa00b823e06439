package wtcache_test

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// Whoever lists the rules of a running program (the status page, an audit) sees what is in force, before the first connection
// and after it: a wrong format, name or template here has them look at other keys than the driver writes.
func TestRulesOf(t *testing.T) {
	t.Parallel()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	prefix := testenv.KeyPrefix(t)
	rule := strings.NewReplacer("$S", schema, "$P", prefix).Replace(`
table: $S.users
apply: async
redis_down: refuse
entries:
  - key: "$Puser:{id}"
    omit: [secret]
  - key: "$Pmail:{mail}"
    format: plain
    ttl: 1h
    strategy: invalidate
    when: "id > 0"
invalidate: ["$Pusers:{id}"]
`)
	db, err := wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{
		RedisURL: testenv.Redis(t), Mode: wtcache.ModeEventual, Rules: fstest.MapFS{"users.yaml": {Data: []byte(rule)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	before, err := wtcache.RulesOf(db)
	if err != nil {
		t.Fatal(err)
	}
	if len(before) != 1 || before[0].Capture != wtcache.CaptureUnknown || before[0].Entries[0].Payload != nil {
		t.Errorf("before the first connection: %+v; want one rule, nothing known of the catalogue", before)
	}
	if _, err := db.Exec("CREATE TABLE users (id int PRIMARY KEY, mail text, secret text)"); err == nil {
		t.Fatal("the rules were bound to a table that is not there")
	}
	admin := stdlib.OpenDB(*cfg)
	defer admin.Close()
	if _, err := admin.Exec("CREATE TABLE users (id int PRIMARY KEY, mail text, secret text)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	after, err := wtcache.RulesOf(db)
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(after)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.NewReplacer("$S", schema, "$P", prefix).Replace(`[{"table":"$S.users","file":"users.yaml:2:8","consistency":"eventual",` +
		`"apply":"async","redis_down":"refuse","capture":"returning","entries":[` +
		`{"name":"by_id","read":"users.by_id","key":"$Puser:{id}","key_columns":["id"],"format":"envelope","strategy":"write","ttl_seconds":600,"jitter":0.1,"payload":["id","mail"]},` +
		`{"name":"by_mail","read":"users.by_mail","key":"$Pmail:{mail}","key_columns":["mail"],"format":"plain","strategy":"invalidate","ttl_seconds":3600,"jitter":0.1,"when":"id \u003e 0","payload":["id","mail","secret"]}],` +
		`"invalidate":["$Pusers:{id}"]}]`)
	if string(got) != want {
		t.Errorf("rules are\n%s, want\n%s", got, want)
	}
}

func TestRulesOfAnotherDriver(t *testing.T) {
	t.Parallel()
	db := stdlib.OpenDB(pgx.ConnConfig{})
	defer db.Close()
	if _, err := wtcache.RulesOf(db); err == nil || !strings.Contains(err.Error(), "was not opened through wtcache") {
		t.Errorf("got %v, want an error that says what is wrong with the *sql.DB", err)
	}
}
