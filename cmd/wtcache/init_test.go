package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
)

// initReport is the output of init --json.
type initReport struct {
	Folder string
	Files  []struct {
		File, Table, Action string
		Entries             []struct{ Name, Key, Index string }
		Omitted             []struct{ Column, Reason string }
	}
	Skipped []struct{ Name, Kind, Reason string }
}

// newStore is a database of its own with a few tables, and a place for rules.
func newStore(t *testing.T) (dsn, rules string) {
	t.Helper()
	dsn = testenv.Database(t, testenv.Postgres(t))
	s := &shop{dsn: dsn}
	s.open(t)
	s.exec(t, `CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, password_hash text); CREATE TABLE orders (id int PRIMARY KEY); CREATE TABLE log (line text)`)
	return dsn, filepath.Join(t.TempDir(), "rules")
}

// TestInit: what init writes is what check finds nothing wrong with, and what somebody has changed since is kept.
func TestInit(t *testing.T) {
	t.Parallel()
	dsn, rules := newStore(t)
	redis := testenv.NewRedis(t).URL
	run(t, nil, "init", "--dsn", dsn, "--rules", rules).want(t, 0, "users.yaml", "user", "2 files written", "leaves out password_hash", "public.log", "no primary key",
		`run "wtcache check --rules `+rules+`"`)
	run(t, nil, "check", "--dsn", dsn, "--rules", rules, "--redis", redis).want(t, 0, "0 errors")

	users := filepath.Join(rules, "users.yaml")
	drafted, err := os.ReadFile(users)
	if err != nil {
		t.Fatal(err)
	}
	mine := append(slices.Clone(drafted), "# mine\n"...)
	if err := os.WriteFile(users, mine, 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "init", "--dsn", dsn, "--rules", rules).want(t, 1, "1 file kept", "1 file unchanged", "--force")
	run(t, nil, "init", "--dsn", dsn, "--rules", rules, "--dry-run").want(t, 0, "--- "+users, `key: "users:{id}"`, "2 files drafted")
	if text, _ := os.ReadFile(users); string(text) != string(mine) {
		t.Error("a file that somebody has changed is lost")
	}
	run(t, nil, "init", "--dsn", dsn, "--rules", rules, "--force").want(t, 0, "1 file replaced")
	if text, _ := os.ReadFile(users); string(text) != string(drafted) {
		t.Error("--force did not write the draft")
	}
}

// TestInitJSON: scripts find in the JSON what people find in the text.
func TestInitJSON(t *testing.T) {
	t.Parallel()
	dsn, rules := newStore(t)
	run(t, []string{"WTCACHE_DSN=" + dsn, "WTCACHE_RULES=" + rules}, "init", "--dry-run").want(t, 0, `run "wtcache check"`)
	// The settings of the program name the folder, too.
	out := run(t, []string{"WTCACHE_DSN=" + dsn, "WTCACHE_RULES=" + rules}, "init", "--only", "users", "--json")
	out.want(t, 0)
	var r initReport
	if err := json.Unmarshal([]byte(out.stdout), &r); err != nil {
		t.Fatalf("%v\n%s", err, out.stdout)
	}
	if r.Folder != rules || len(r.Files) != 1 || r.Files[0].File != "users.yaml" || r.Files[0].Table != "public.users" || r.Files[0].Action != "written" ||
		len(r.Files[0].Entries) != 2 || r.Files[0].Entries[1].Key != "users:email:{email}" || r.Files[0].Omitted[0].Column != "password_hash" || r.Skipped == nil {
		t.Errorf("the report is %s", out.stdout)
	}
	if files, _ := os.ReadDir(rules); len(files) != 1 {
		t.Errorf("--only users wrote %v", files)
	}
}

// TestInitRefuses: a slip of the pen ends in a message that says how to go on, with exit code 2, and a table that cannot
// have a rule in one with exit code 1.
func TestInitRefuses(t *testing.T) {
	t.Parallel()
	dsn, rules := newStore(t)
	run(t, nil, "init", "--dsn", dsn, "--rules", rules, "--only", "usrs").want(t, 2, `"usrs" is no table`, "did you mean users?")
	run(t, nil, "init", "--dsn", dsn, "--rules", rules, "--schema", "publik").want(t, 2, "did you mean public?")
	run(t, nil, "init", "--dsn", dsn, "--rules", rules, "--only", "log").want(t, 1, "public.log", "no primary key", "no table that a rule could be drafted for")
	run(t, nil, "init", "--rules", rules).want(t, 2, "--dsn")
	run(t, nil, "init", "--dsn", dsn, "--rules", filepath.Join(rules, "*.yaml")).want(t, 2, "is a pattern")
	if _, err := os.Stat(rules); err == nil {
		t.Error("a run that wrote nothing made the folder")
	}
	if err := os.Mkdir(rules, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(rules, "odd.yaml"), []byte("tabel: x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, nil, "init", "--dsn", dsn, "--rules", rules).want(t, 2, "mend or move them first", "odd.yaml:1:1", `did you mean "table"?`)
	run(t, nil, "init", "--dsn", dsn, "--rules", filepath.Join(rules, "odd.yaml")).want(t, 2, "is a file")
	if files, _ := os.ReadDir(rules); len(files) != 1 {
		t.Errorf("a refused init wrote %v", files)
	}
	out := run(t, nil, "init", "--dsn", "postgres://me:geheim@localhost:1/shop?connect_timeout=5", "--rules", t.TempDir())
	out.want(t, 2)
	if strings.Contains(out.stdout+out.stderr, "geheim") {
		t.Errorf("the password is shown: %s", out.stderr)
	}
}
