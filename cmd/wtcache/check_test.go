package main_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A deployment is gated by the exit code: a sound set-up must pass, whatever Redis it is.
func TestCheckFine(t *testing.T) {
	s := newShop(t)
	for name, url := range map[string]string{
		"single":   testenv.NewRedis(t).URL,
		"Cluster":  testenv.Cluster(t),
		"Sentinel": testenv.Sentinel(t),
	} {
		o := s.check(t, url)
		o.want(t, 0, "0 errors, 0 warnings")
		if o.stderr != "" {
			t.Errorf("%s: stderr holds %q", name, o.stderr)
		}
	}
	r := s.check(t, testenv.Cluster(t), "--json").report(t)
	for _, f := range r.Findings {
		if f.Subject == "replicas" && strings.Count(f.Where, "127.0.0.1:") != 3 {
			t.Errorf("of a Cluster's masters it names %q", f.Where)
		}
	}
}

// Each policy that evicts fences must stop a deployment, with the reason and the way out, and no other may.
func TestCheckPolicies(t *testing.T) {
	s := newShop(t)
	for policy, code := range map[string]int{
		"noeviction": 0, "volatile-lru": 0, "volatile-lfu": 0, "volatile-random": 0,
		"volatile-ttl": 1, "allkeys-lru": 1, "allkeys-lfu": 1, "allkeys-random": 1,
	} {
		// As with a provider, nobody may ask for the configuration.
		r := testenv.NewRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", policy, "--rename-command", "CONFIG", "")
		o := s.check(t, r.URL)
		if code == 0 {
			o.want(t, 0, "0 errors")
		} else {
			o.want(t, 1, "error: eviction (", policy, "What can be lost: a fence", "What to do: set maxmemory-policy noeviction", "wtcache_eviction=accept", "1 error,")
		}
		said := s.check(t, r.URL, "--accept-eviction", "--json")
		said.want(t, 0)
		want := cachesync.Warning
		if policy == "noeviction" {
			want = cachesync.Info
		}
		found := slices.DeleteFunc(said.report(t).Findings, func(f cachesync.Finding) bool { return f.Subject != "eviction" })
		if len(found) == 0 || found[0].Severity != want {
			t.Errorf("%s, accepted: %+v", policy, found)
		}
	}
}

// A user who may not run scripts has a cache that is always off.
func TestCheckRedisRights(t *testing.T) {
	s := newShop(t)
	r := testenv.NewRedis(t)
	admin := redis.NewClient(&redis.Options{Network: "unix", Addr: r.Socket()})
	defer admin.Close()
	for name, rights := range map[string][]any{
		"noeval":  {"~*", "+@all", "-eval"},
		"keyonly": {"~user:*", "+@all"},
		"enough":  {"~user:*", "~{user:*", "~wtcache:*", "~{wtcache:*", "+eval", "+evalsha", "+scan", "+time", "+info", "+@read", "+@write"},
	} {
		if err := admin.Do(t.Context(), append([]any{"acl", "setuser", name, "on", ">pass"}, rights...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	url := func(user string) string { return "unix://" + user + ":pass@" + r.Socket() }
	s.check(t, url("noeval")).want(t, 1, "error: scripts (", "Lua scripts are refused: NOPERM", "What to do: allow EVAL")
	s.check(t, url("keyonly")).want(t, 1, "error: rights (", "no access to keys like {user:*}:wt", "ACL SETUSER … ~{user:*}:wt")
	s.check(t, url("enough")).want(t, 0, "0 errors")
	o := s.check(t, "unix://enough:hunter2@"+r.Socket())
	o.want(t, 2, "WRONGPASS")
	if strings.Contains(o.stdout+o.stderr, "hunter2") {
		t.Error("it tells of a password")
	}
}

// Whoever copies the ACL rule from the documentation must have a cache that works.
func TestDocumentedRights(t *testing.T) {
	text, err := os.ReadFile("../../docs/REDIS.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\nACL SETUSER shop on >password ")
	rule, _, _ := strings.Cut(rest, "\n")
	if !ok {
		t.Fatal("docs/REDIS.md has no ACL rule")
	}
	s := newShop(t)
	s.rule(t, "redis_down: refuse\nformat: versioned\n")
	r := testenv.NewRedis(t)
	admin := redis.NewClient(&redis.Options{Network: "unix", Addr: r.Socket()})
	defer admin.Close()
	args := []any{"acl", "setuser", "shop", "on", ">password"}
	for _, word := range strings.Fields(rule) {
		args = append(args, word)
	}
	if err := admin.Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	s.check(t, "unix://shop:password@"+r.Socket()).want(t, 0, "0 errors, 0 warnings")
	if log := admin.ACLLog(t.Context(), 1).Val(); len(log) > 0 {
		t.Errorf("the server has refused %+v", *log[0])
	}
}

// A rule that a migration has broken must be found before the program is deployed, with its place.
func TestCheckRules(t *testing.T) {
	s := newShop(t)
	url := testenv.NewRedis(t).URL
	s.rule(t, "columns: [id, nane]\nredis_down: refuse\n")
	s.check(t, url).want(t, 1, "error: rules ("+s.rules+":3:", "nane", "name")
	s.rule(t, "colums: [id]\n")
	s.check(t, url).want(t, 1, "error: rules ("+s.rules+":3:1)", "colums", "columns")
	s.rule(t, "redis_down: refuse\n")
	s.exec(t, `CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE users SET name = ''; RETURN NULL; END$$`)
	s.exec(t, `CREATE TABLE visits (id int); CREATE TRIGGER touch AFTER INSERT ON visits FOR EACH ROW EXECUTE FUNCTION touch()`)
	s.check(t, url).want(t, 0, "warning: trigger (", "trigger touch on "+s.schema+".visits", "1 warning")
}

// A role that may write and not read has each write refused; the statement that mends it must mend it.
func TestCheckPostgresRights(t *testing.T) {
	s := newShop(t)
	url := testenv.NewRedis(t).URL
	role := "r" + s.schema
	s.exec(t, "CREATE ROLE "+role+"; GRANT USAGE ON SCHEMA "+s.schema+" TO "+role+"; GRANT INSERT, UPDATE, DELETE ON users TO "+role)
	t.Cleanup(func() { s.exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	asRole := *s
	asRole.dsn += "&role=" + role
	o := asRole.check(t, url, "--json")
	o.want(t, 1)
	var fix string
	for _, f := range o.report(t).Findings {
		if f.Subject == "rights" {
			fix = f.Fix
		}
	}
	if !strings.HasPrefix(fix, "GRANT SELECT ON ") {
		t.Fatalf("got %s", o.stdout)
	}
	s.exec(t, fix)
	asRole.check(t, url).want(t, 0)
}

// "Not looked at" must never pass for "fine", nor hide what was found elsewhere.
func TestCheckUnreachable(t *testing.T) {
	s := newShop(t)
	gone := "unix://" + t.TempDir() + "/redis.sock"
	s.rule(t, "columns: [id, nane]\nredis_down: refuse\n")
	o := s.check(t, gone, "--json")
	o.want(t, 2, "wtcache: ", "redis is unavailable")
	if r := o.report(t); r.Errors != 1 || r.Error == "" {
		t.Errorf("got %+v", r)
	}
	s.check(t, gone).want(t, 2, "nane", "not everything could be looked at")
	s.dsn = "postgres:///d?host=" + t.TempDir()
	s.check(t, testenv.NewRedis(t).URL).want(t, 2, "connect to Postgres")
}

// Whoever mistypes a flag or leaves a setting out must be told so, and not that all is well.
func TestUsage(t *testing.T) {
	run(t, nil, "check").want(t, 2, "--dsn", "WTCACHE_DSN")
	run(t, nil, "check", "--dns", "x").want(t, 2, "unknown flag: --dns")
	run(t, nil, "chekc").want(t, 2, "unknown command", "check")
	run(t, nil, "check", "more").want(t, 2, "unknown command")
	run(t, nil, "check", "--dsn", "postgres:///d").want(t, 2, "no Redis is named")
	run(t, nil, "check", "--dsn", "postgres:///d?wtcache_nonsense=1").want(t, 2, "wtcache_nonsense")
	run(t, nil, "check", "--dsn", "postgres:///d?wtcache_mode=off").want(t, 0, "wtcache is off")
	for _, args := range [][]string{{"--help"}, {"check", "--help"}} {
		run(t, nil, args...).want(t, 0, "Exit codes: 0")
	}
	run(t, nil, "check", "--help").want(t, 0, "Examples:", "wtcache check --dsn")
	run(t, nil, "version").want(t, 0, "wtcache ", "go1.")
}

// The command must look at what the program looks at: the DSN wins over the environment, as in the driver, and a flag over both.
func TestSettings(t *testing.T) {
	s := newShop(t)
	good, bad := testenv.NewRedis(t).URL, "unix:///nowhere/"
	env := func(redis string) []string {
		return []string{"WTCACHE_REDIS=" + redis, "WTCACHE_RULES=" + s.rules, "DATABASE_URL=" + s.dsn}
	}
	run(t, env(good), "check").want(t, 0)
	run(t, env(bad+"env.sock"), "check").want(t, 2, "env.sock")
	run(t, append(env(good), "WTCACHE_DSN="+s.dsn+"&wtcache_redis="+bad+"dsn.sock"), "check").want(t, 2, "dsn.sock")
	run(t, append(env(bad), "WTCACHE_DSN="+s.dsn+"&wtcache_redis="+bad), "check", "--redis", good).want(t, 0)
	r := testenv.NewRedis(t, "--maxmemory", "64mb", "--maxmemory-policy", "volatile-ttl")
	run(t, env(r.URL), "check").want(t, 1)
	run(t, append(env(r.URL), "WTCACHE_EVICTION=accept"), "check").want(t, 0)
	run(t, append(env(r.URL), "WTCACHE_MODE=eventual"), "check").want(t, 0)
	run(t, env(r.URL), "check", "--mode", "eventual").want(t, 0)
}
