package main_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// folder is where binary is, once it was built.
var folder string

// binary is the command as a user has it, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "wtcache-command")
	if err != nil {
		return "", err
	}
	folder = dir
	path := filepath.Join(dir, "wtcache")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if folder != "" {
		_ = os.RemoveAll(folder)
	}
	os.Exit(code)
}

// outcome is what a run of the command left.
type outcome struct {
	code           int
	stdout, stderr string
}

// run runs the command with these variables of its own and none of whoever runs the tests.
func run(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// want ends the test unless the run ended with the code and said all the words.
func (o outcome) want(t *testing.T, code int, words ...string) {
	t.Helper()
	all := o.stdout + o.stderr
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, w := range words {
		if !strings.Contains(all, w) {
			t.Errorf("%q is not said", w)
		}
	}
	if t.Failed() {
		t.Fatalf("stdout:\n%s\nstderr:\n%s", o.stdout, o.stderr)
	}
}

// report is the output of check --json.
type report struct {
	Findings []cachesync.Finding
	Errors   int
	Warnings int
	Error    string
}

func (o outcome) report(t *testing.T) (r report) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("no JSON: %v\nstdout:\n%s\nstderr:\n%s", err, o.stdout, o.stderr)
	}
	return r
}

// shop is a database with a ruled table.
type shop struct {
	dsn, schema, rules string
	db                 *sql.DB
}

// newShop opens one in the Postgres that all tests share, with a rule that needs no outbox.
func newShop(t *testing.T) *shop {
	t.Helper()
	s := shopIn(t, testenv.Postgres(t))
	s.rule(t, "redis_down: refuse\n")
	return s
}

// newShopWithoutOutbox opens one in a Postgres of its own that nobody has prepared.
func newShopWithoutOutbox(t *testing.T) *shop {
	t.Helper()
	s := shopIn(t, testenv.NewPostgres(t, testenv.PostgresOptions{}).URL)
	s.exec(t, "DROP SCHEMA wtcache CASCADE")
	return s
}

// shopIn opens one in a Postgres, with a rule that needs an outbox.
func shopIn(t *testing.T, url string) *shop {
	t.Helper()
	s := &shop{}
	s.dsn, s.schema = testenv.Schema(t, url)
	s.open(t)
	s.exec(t, "CREATE TABLE users (id int PRIMARY KEY, name text)")
	s.rules = filepath.Join(t.TempDir(), "users.yaml")
	s.rule(t, "")
	return s
}

// open opens the database past wtcache.
func (s *shop) open(t *testing.T) {
	t.Helper()
	var err error
	if s.db, err = sql.Open("pgx", s.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
}

func (s *shop) exec(t *testing.T, text string) {
	t.Helper()
	if _, err := s.db.Exec(text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// rule writes the rule file, with further lines.
func (s *shop) rule(t *testing.T, more string) {
	t.Helper()
	text := "table: " + s.schema + ".users\nkey: \"user:{id}\"\n" + more
	if err := os.WriteFile(s.rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *shop) check(t *testing.T, redis string, more ...string) outcome {
	t.Helper()
	return run(t, nil, append([]string{"check", "--dsn", s.dsn, "--rules", s.rules, "--redis", redis}, more...)...)
}

// sqlOn runs a text on a server.
func sqlOn(t *testing.T, url, text string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// scalar asks a server for one text.
func scalar(t *testing.T, url, text string) (value string) {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.QueryRow(text).Scan(&value); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return value
}

// line is the number of the line on which a text begins, with a colon after it.
func line(t *testing.T, text, what string) string {
	t.Helper()
	before, _, ok := strings.Cut(text, what)
	if !ok {
		t.Fatalf("no %q", what)
	}
	return strconv.Itoa(1+strings.Count(before, "\n")) + ":"
}
