package wtcache_test

import (
	"database/sql"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
)

// ruleFolder writes rule files into a folder of the test's own.
func ruleFolder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func goodRules(t *testing.T) string {
	return ruleFolder(t, map[string]string{"users.yaml": "table: public.users\nkey: \"user:{id}\"\n"})
}

// Whoever mistypes a setting must learn at Open which one, and what to write instead:
// nothing is more expensive than a cache that is silently off.
func TestConfigFaultsAtOpen(t *testing.T) {
	good := "wtcache_redis=redis://localhost:1 wtcache_rules=" + goodRules(t)
	for _, c := range []struct {
		name, dsn string
		is        error
		words     []string
	}{
		{"unknown key", good + " wtcache_redsi=x", wtcache.ErrConfig, []string{"wtcache_redsi", "wtcache_redis"}},
		{"unknown key in a URL", "postgres://h/d?wtcache_fencelife=1s", wtcache.ErrConfig, []string{"wtcache_fencelife", "wtcache_fence_life"}},
		{"twice", good + " wtcache_redis=redis://other", wtcache.ErrConfig, []string{"wtcache_redis", "twice"}},
		{"no Redis", "wtcache_rules=" + goodRules(t), wtcache.ErrConfig, []string{"wtcache_redis", "WTCACHE_REDIS", "wtcache_mode=off"}},
		{"no rules", "wtcache_redis=redis://localhost:1", wtcache.ErrConfig, []string{"wtcache_rules", "WTCACHE_RULES"}},
		{"unknown mode", good + " wtcache_mode=loose", wtcache.ErrConfig, []string{`"loose"`, "strict", "eventual", "off"}},
		{"duration without a unit", good + " wtcache_fence_life=30", wtcache.ErrConfig, []string{"wtcache_fence_life", `"30"`, "30s"}},
		{"negative duration", good + " wtcache_redis_timeout=-1s", wtcache.ErrConfig, []string{"wtcache_redis_timeout", `"-1s"`}},
		{"no duration", good + " wtcache_redis_timeout=''", wtcache.ErrConfig, []string{"wtcache_redis_timeout"}},
		{"fence too short for the timeout", good + " wtcache_fence_life=1s wtcache_redis_timeout=500ms", wtcache.ErrConfig, []string{"1s", "500ms", "four"}},
		{"row limit in words", good + " wtcache_max_captured_rows=many", wtcache.ErrConfig, []string{"wtcache_max_captured_rows", `"many"`}},
		{"row limit of zero", good + " wtcache_max_captured_rows=0", wtcache.ErrConfig, []string{"wtcache_max_captured_rows", `"0"`}},
		{"replica that pgx cannot parse", good + " wtcache_read_replica='postgres://h:port/d'", wtcache.ErrConfig, []string{"read replica", "pgx"}},
		{"replica with keys of ours", good + " wtcache_read_replica='host=h wtcache_mode=off'", wtcache.ErrConfig, []string{"read replica", "wtcache_"}},
		{"applied without a replica", good + " wtcache_read_replica_applied=true", wtcache.ErrConfig, []string{"wtcache_read_replica", "WTCACHE_READ_REPLICA"}},
		{"applied in other words", good + " wtcache_read_replica_applied=yes", wtcache.ErrConfig, []string{"wtcache_read_replica_applied", `"yes"`, "true"}},
		{"eviction in other words", good + " wtcache_eviction=yes", wtcache.ErrConfig, []string{"wtcache_eviction", `"yes"`, "accept"}},
		{"bad escape in a URL", "postgres://h/d?wtcache_rules=%ZZ", wtcache.ErrConfig, []string{"wtcache_rules", "%ZZ"}},
		{"missing folder", "wtcache_redis=redis://localhost:1 wtcache_rules=/nowhere/rules", wtcache.ErrRules, []string{"/nowhere/rules"}},
		{"glob without a file", "wtcache_redis=redis://localhost:1 wtcache_rules=/nowhere/*.yaml", wtcache.ErrRules, []string{"/nowhere/*.yaml"}},
		{"empty folder", "wtcache_redis=redis://localhost:1 wtcache_rules=" + t.TempDir(), wtcache.ErrRules, nil},
		{"faulty rules, all told at once", "wtcache_redis=redis://localhost:1 wtcache_rules=" + ruleFolder(t, map[string]string{
			"a.yaml": "table: public.users\nkey: \"user:{id}\"\nttll: 5m\n",
			"b.yaml": "table: public.orders\nentries:\n  - key: \"order:{id\"\n",
		}), wtcache.ErrRules, []string{"a.yaml:3:1", "ttll", "ttl", "b.yaml:3:17"}},
		{"rule that is no YAML", "wtcache_redis=redis://localhost:1 wtcache_rules=" + ruleFolder(t, map[string]string{
			"a.yaml": "table: [\n",
		}), wtcache.ErrRules, []string{"a.yaml:"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clearEnvironment(t)
			db, err := sql.Open("wtcache", c.dsn)
			if err == nil {
				_ = db.Close()
				t.Fatal("it opened")
			}
			if !errors.Is(err, c.is) || !mentions(err, c.words...) {
				t.Errorf("got %v\nwant %v with %q", err, c.is, c.words)
			}
		})
	}
}

// clearEnvironment keeps the settings of whoever runs the tests out of them.
func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"REDIS", "RULES", "MODE", "FENCE_LIFE", "REDIS_TIMEOUT", "MAX_CAPTURED_ROWS", "READ_REPLICA", "READ_REPLICA_APPLIED", "EVICTION"} {
		t.Setenv("WTCACHE_"+name, "")
	}
}

// A password must not come to light because something else in its URL is wrong, and
// least of all because the password itself holds what has to be escaped.
func TestConfigHidesTheRedisPassword(t *testing.T) {
	clearEnvironment(t)
	rules := goodRules(t)
	for _, bad := range []string{
		"redis://user:hunter2@localhost:port/0",
		"redis://user:hunter2@localhost:6379/zero",
		"redis://:hunter2@localhost:6379/0?unknown_option=1",
		"redis://:hunter2@localhost:6379/0?dial_timeout=never",
		"http://user:hunter2@localhost:6379",
		"user:hunter2@localhost:6379",
		"localhost:6379",
		"redis://user:hun/ter2@localhost:6379",
		"redis://user:hun#ter2@localhost:6379",
		"redis://user:hun?ter2@localhost:6379",
		"redis://user:hun%ter2@localhost:6379",
		"redis://user:hun ter2@localhost:6379",
		"redis://user:hunter2\x7f@localhost:6379",
		"redis://localhost:6379?master_name=m&sentinel_password=hunter2&db=zero",
		"redis://localhost:6379?addr=a:1&password=hunter2&unknown=1",
		"://user:hunter2@localhost",
		"localhost",
	} {
		_, err := sql.Open("wtcache", "postgres:///d?wtcache_rules="+rules+"&wtcache_redis="+strings.ReplaceAll(url.QueryEscape(bad), "+", "%20"))
		if err == nil {
			t.Errorf("%q opened", bad)
			continue
		}
		if !errors.Is(err, wtcache.ErrConfig) {
			t.Errorf("%q: %v is no ErrConfig", bad, err)
		}
		for _, part := range []string{"hunter2", "ter2", "hun"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: the error tells of the password: %v", bad, err)
				break
			}
		}
	}
}

// The same faults in a Config in code.
func TestConfigFaultsInCode(t *testing.T) {
	base := pgxConnector(t, "postgres://localhost/d")
	rules := mockRules("")
	for name, c := range map[string]struct {
		cfg   wtcache.Config
		words []string
	}{
		"nothing":          {wtcache.Config{}, []string{"Config.Redis"}},
		"no rules":         {wtcache.Config{RedisURL: "redis://localhost:1"}, []string{"Config.Rules"}},
		"mode":             {wtcache.Config{RedisURL: "redis://localhost:1", Rules: rules, Mode: "loose"}, []string{"loose"}},
		"negative timeout": {wtcache.Config{RedisURL: "redis://localhost:1", Rules: rules, RedisTimeout: -1}, []string{"negative"}},
		"negative life":    {wtcache.Config{RedisURL: "redis://localhost:1", Rules: rules, FenceLife: -1}, []string{"fence life"}},
		"negative rows":    {wtcache.Config{RedisURL: "redis://localhost:1", Rules: rules, MaxCapturedRows: -1}, []string{"negative"}},
		"replica of ours":  {wtcache.Config{RedisURL: "redis://localhost:1", Rules: rules, ReadReplica: openOff(t)}, []string{"ReadReplica", "pgx"}},
		"tiny timeout":     {wtcache.Config{RedisURL: "redis://localhost:1", Rules: rules, RedisTimeout: 1}, []string{"millisecond"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := wtcache.NewConnector(base, c.cfg); !errors.Is(err, wtcache.ErrConfig) || !mentions(err, c.words...) {
				t.Errorf("got %v, want ErrConfig with %q", err, c.words)
			}
		})
	}
}

// openOff opens a *sql.DB through wtcache.
func openOff(t *testing.T) *sql.DB {
	t.Helper()
	db, err := wtcache.OpenDB(pgxConnector(t, "postgres://localhost/d"), wtcache.Config{Mode: wtcache.ModeOff})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// The replica's DSN has a password, too, and what is wrong with it may be the password.
func TestConfigHidesTheReplicaPassword(t *testing.T) {
	clearEnvironment(t)
	for _, bad := range []string{
		"postgres://user:hunter2@localhost:port/d", "postgres://user:hun/ter2@localhost/d", "postgres://user:hun%ter2@localhost/d",
		"host=h password='hunter2", "user:hunter2@localhost", "host=h password=hunter2 wtcache_mode=off", "host=h password=hunter2 sslmode=nosuch",
	} {
		_, err := wtcache.NewConnector(pgxConnector(t, "postgres://localhost/d"), wtcache.Config{
			RedisURL: "redis://localhost:1", Rules: mockRules(""), ReadReplicaDSN: bad,
		})
		if !errors.Is(err, wtcache.ErrConfig) {
			t.Errorf("%q: %v is no ErrConfig", bad, err)
		} else if strings.Contains(err.Error(), "hun") || strings.Contains(err.Error(), "ter2") {
			t.Errorf("%q: the error tells of the password: %v", bad, err)
		}
	}
}
