package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A team that gates its deployments by warnings, and knows of one, must be able to let just that one through, and see that it did.
func TestCheckFailOnAndIgnore(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	url := testenv.NewRedis(t).URL
	s.exec(t, `CREATE FUNCTION sweep() RETURNS void LANGUAGE sql AS 'DELETE FROM users'`)
	s.exec(t, `CREATE PROCEDURE clean() LANGUAGE sql AS 'DELETE FROM users'`)
	s.check(t, url).want(t, 0, "warning: function (", "warning: procedure (", "2 warnings")
	s.check(t, url, "--fail-on", "warning").want(t, 1)
	s.check(t, url, "--fail-on", "warning", "--ignore", "function").want(t, 1, "1 warning", "1 ignored (--ignore)")
	s.check(t, url, "--fail-on", "warning", "--ignore", "function,procedure").want(t, 0, "0 warnings", "2 ignored")
	s.check(t, url, "--fail-on", "warning", "--ignore", "procedure,function:other").want(t, 1, "function "+s.schema+".sweep()")
	s.check(t, url, "--fail-on", "warning", "--ignore", "procedure,function:"+s.schema+".sweep").want(t, 0)
	r := s.check(t, url, "--json", "--ignore", "procedure").report(t)
	if r.Warnings != 1 {
		t.Errorf("JSON: %+v", r)
	}
	s.check(t, url, "--fail-on", "never").want(t, 2, "--fail-on", "error, warning")
}

// Whoever names a replica that cannot be used thinks that it carries the load, or is given another cache's rows.
func TestCheckReplicas(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	master, other := testenv.NewRedis(t), testenv.NewRedis(t)
	at := func(replica string) []string {
		return []string{"WTCACHE_REDIS=" + master.URL, "WTCACHE_RULES=" + s.rules, "WTCACHE_REDIS_REPLICA=" + replica}
	}
	dsn := []string{"check", "--dsn", s.dsn}
	run(t, at(other.URL), dsn...).want(t, 1, "error: redis replica", "another Redis' data")
	run(t, at(master.URL), dsn...).want(t, 0, "info: redis replica", "is the master itself")
	run(t, at("unix://"+t.TempDir()+"/gone.sock"), dsn...).want(t, 0, "warning: redis replica", "does not answer")
	replica := func(url string) []string { return append(at(master.URL)[:2:2], "WTCACHE_READ_REPLICA="+url) }
	run(t, replica(s.dsn), dsn...).want(t, 0, "warning: read replica", "not in recovery")
	run(t, replica("postgres:///d?host="+t.TempDir()), dsn...).want(t, 0, "warning: read replica", "cannot be asked")
	stranger := testenv.NewPostgres(t, testenv.PostgresOptions{})
	run(t, replica(stranger.URL), dsn...).want(t, 1, "error: read replica", "another database cluster")
}

// A standby that is named and never used is a cost without a use; the statement that mends it has to mend it.
func TestCheckStandby(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	s := shopIn(t, server.URL)
	s.rule(t, "redis_down: refuse\n")
	s.exec(t, "CREATE ROLE reports LOGIN; GRANT USAGE ON SCHEMA "+s.schema+" TO reports")
	standby := server.NewStandby(t, "standby", nil)
	env := []string{
		"WTCACHE_REDIS=" + testenv.NewRedis(t).URL, "WTCACHE_RULES=" + s.rules,
		"WTCACHE_READ_REPLICA=" + strings.Replace(standby.URL, "user=postgres", "user=reports", 1),
	}
	for _, want := range []string{"GRANT pg_read_all_stats TO", "GRANT SELECT ON"} {
		standby.CatchUp()
		var fix string
		for _, f := range run(t, env, "check", "--dsn", s.dsn, "--json").report(t).Findings {
			if f.Subject == "read replica" && strings.Contains(f.Fix, want) {
				_, fix, _ = strings.Cut(f.Fix, "on the primary: ")
			}
		}
		if fix == "" {
			run(t, env, "check", "--dsn", s.dsn).want(t, 0, want)
		}
		s.exec(t, fix)
	}
	standby.CatchUp()
	run(t, env, "check", "--dsn", s.dsn).want(t, 0, "info: read replica (wtcache_read_replica)", "a standby of this primary answers", "0 warnings")
}

const dump = `--
-- PostgreSQL database dump
--
\restrict abcdef

SET statement_timeout = 0;
SET transaction_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE DATABASE shop;
\connect shop
CREATE SCHEMA shop;
ALTER SCHEMA shop OWNER TO nobody_here;
CREATE FUNCTION shop.touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE shop.users SET name = '
\not a command; of psql';
  RETURN NULL;
END$$;
CREATE TABLE shop.users (id integer NOT NULL, name text, email text);
COPY shop.users (id, name, email) FROM stdin;
1	O'Hara; \N	$$
\.
ALTER TABLE ONLY shop.users ADD CONSTRAINT users_pkey PRIMARY KEY (id);
CREATE TABLE shop.visits (id integer);
CREATE TRIGGER on_visit AFTER INSERT ON shop.visits FOR EACH ROW EXECUTE FUNCTION shop.touch();
GRANT SELECT ON TABLE shop.users TO nobody_here;
GRANT nobody_here TO nobody_there;
`

// In CI there is a schema in the repository and an empty server: what would go wrong in production has to be found there, and
// nothing may stay on the server.
func TestCheckDump(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rule := write("users.yaml", "table: shop.users\nkey: \"user:{id}\"\nredis_down: refuse\n")
	args := func(file string, more ...string) []string {
		return append([]string{"check", "--dsn", server.URL, "--rules", rule, "--dump", file}, more...)
	}
	o := run(t, nil, args(write("good.sql", dump))...)
	o.want(t, 0, "warning: trigger ("+rule+":1:8): trigger on_visit on shop.visits", "line 3: UPDATE shop.users", "1 warning",
		"1 statement left out (rows are not needed)", "2 statements left out (it would change more than the scratch database)",
		"2 statements left out (a role that it names", "against a dump", "Redis was not looked at")
	run(t, nil, args(write("good.sql", dump), "--fail-on", "warning")...).want(t, 1)
	with := run(t, nil, args(write("good.sql", dump), "--redis", testenv.NewRedis(t).URL)...)
	with.want(t, 0)
	if strings.Contains(with.stdout, "Redis was not looked at") {
		t.Error("a Redis that is named is not looked at")
	}
	bad := write("bad.sql", dump+"CREATE TABLE shop.more (\n  id nosuchtype\n);\n")
	run(t, nil, args(bad)...).want(t, 2, bad+":"+line(t, dump+"CREATE TABLE shop.more (", "CREATE TABLE shop.more ("), "nosuchtype", "CREATE TABLE shop.more ( id nosuchtype )")
	run(t, nil, args(filepath.Join(dir, "none.sql"))...).want(t, 2, "none.sql")
	run(t, nil, args(write("marked.sql", "\ufeff"+dump))...).want(t, 0, "warning: trigger")
	// What is loaded as something else than it is gives findings, or the want of them, that mean nothing.
	run(t, nil, args(write("all.sql", "\\connect template1\n"+dump+"\\connect shop\n"+dump))...).want(t, 2, "all.sql", "several databases (template1, shop)")
	run(t, nil, args(write("parts.sql", dump+"\\ir more.sql\n"))...).want(t, 2, "parts.sql", "it includes more.sql")
	run(t, nil, args(write("own.dump", "PGDMP\x01\x0e\x00"))...).want(t, 2, "own.dump", "pg_restore -s")
	run(t, nil, args(write("role.sql", dump+"DO $$ BEGIN CREATE ROLE left_behind; EXCEPTION WHEN duplicate_object THEN NULL; END $$;\n"))...).want(t, 0, "3 statements left out (it would change more")
	if n := scalar(t, server.URL, "SELECT count(*)::text FROM pg_roles WHERE rolname = 'left_behind'"); n != "0" {
		t.Error("check has made a role on the server")
	}
	broken := write("broken.yaml", "table: shop.users\nkey: \"user:{nosuch}\"\n")
	run(t, nil, append(args(write("good.sql", dump)), "--rules", broken)...).want(t, 1, "nosuch")
	nothingStays(t, server)
	poor := strings.Replace(server.URL, "user=postgres", "user=poor", 1)
	sqlOn(t, server.URL, "CREATE ROLE poor LOGIN")
	run(t, nil, "check", "--dsn", poor, "--rules", rule, "--dump", write("good.sql", dump)).want(t, 2, `ALTER ROLE "poor" CREATEDB`)
	sqlOn(t, server.URL, "ALTER ROLE poor CREATEDB")
	run(t, nil, "check", "--dsn", poor, "--rules", rule, "--dump", write("good.sql", dump)).want(t, 0, "warning: trigger")
	nothingStays(t, server)
}

// Whoever presses Ctrl-C must not find databases of ours on the server afterwards.
func TestCheckDumpInterrupted(t *testing.T) {
	t.Parallel()
	server := testenv.NewPostgres(t, testenv.PostgresOptions{})
	dir := t.TempDir()
	rule, file := filepath.Join(dir, "users.yaml"), filepath.Join(dir, "slow.sql")
	for path, text := range map[string]string{rule: "table: shop.users\nkey: \"user:{id}\"\n", file: dump + "SELECT pg_sleep(600);\n"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "check", "--dsn", server.URL, "--rules", rule, "--dump", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); scalar(t, server.URL, "SELECT count(*)::text FROM pg_stat_activity WHERE query LIKE '%pg_sleep(600)%' AND datname LIKE 'wtcache_check_%'") == "0"; {
		if time.Now().After(deadline) {
			t.Fatal("it does not come to the slow statement")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("it ended with %v", err)
	}
	nothingStays(t, server)
}

func nothingStays(t *testing.T, server *testenv.PostgresServer) {
	t.Helper()
	if n := scalar(t, server.URL, "SELECT count(*)::text FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1')"); n != "0" {
		t.Errorf("%s databases are left on the server", n)
	}
}

// The exit code must be that of the severity: a team that upgrades must not see its builds break over notes.
func TestCheckSubjectsAreSaid(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	r := s.check(t, testenv.NewRedis(t).URL, "--json").report(t)
	for _, f := range r.Findings {
		if f.Severity > cachesync.Info {
			t.Errorf("a clean schema has %v", f)
		}
	}
}

// On the sample schema, with the rules that init writes, check has to name each way past the driver that the sample's README speaks of,
// and the same from its dump: a newcomer is shown what his own schema will be like.
func TestCheckFilmstore(t *testing.T) {
	t.Parallel()
	dsn := testenv.Database(t, testenv.Postgres(t))
	text, err := os.ReadFile("../../examples/filmstore/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	sqlOn(t, dsn, string(text))
	rules := filepath.Join(t.TempDir(), "rules")
	run(t, nil, "init", "--dsn", dsn, "--rules", rules).want(t, 0)
	want := []string{
		"procedure public.close_idle_accounts", // writes customer
		"function public.return_rental",
		"trigger inventory_copies on public.inventory", // writes film
		"table public.setting",                         // its rewrite rule
	}
	live := run(t, nil, "check", "--dsn", dsn, "--rules", rules, "--redis", testenv.NewRedis(t).URL, "--json", "--outbox", "off")
	dumped := run(t, nil, "check", "--dsn", dsn, "--rules", rules, "--dump", "../../examples/filmstore/schema.sql", "--json", "--outbox", "off")
	for how, o := range map[string]outcome{"live": live, "dump": dumped} {
		o.want(t, 0)
		var got []string
		for _, f := range o.report(t).Findings {
			if f.Severity == cachesync.Warning {
				object, _, _ := strings.Cut(f.Object, "(")
				got = append(got, object)
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: warnings are of\n%s\nwant\n%s\n%s", how, strings.Join(got, "\n"), strings.Join(want, "\n"), o.stdout)
		}
	}
}
