package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
)

// A user who warms a table sees what was done; one who was stopped goes on with the same command, and not with another.
func TestWarm(t *testing.T) {
	t.Parallel()
	s, redis := newShop(t), testenv.RealRedis(t)
	prefix := testenv.KeyPrefix(t)
	text := "table: " + s.schema + ".users\nkey: \"" + prefix + "user:{id}\"\nredis_down: refuse\n"
	if err := os.WriteFile(s.rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.exec(t, "INSERT INTO users SELECT i, 'n' FROM generate_series(1, 50) i")
	state := filepath.Join(t.TempDir(), "warm.json")
	call := func(more ...string) outcome {
		return run(t, nil, append([]string{"warm", "--dsn", s.dsn, "--rules", s.rules, "--redis", redis}, more...)...)
	}
	call("--from", "1", "--to", "11", "--batch", "3").want(t, 0, "users: 10 rows: 10 filled", "done: 10 rows")
	o := call("users", "--count", "--state", state, "--json")
	o.want(t, 0)
	var report struct {
		Rows, Filled, Cached int64
		Done                 bool
		Entries              []struct{ Entry string }
	}
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || report.Rows != 50 || report.Filled != 40 || report.Cached != 10 || !report.Done || len(report.Entries) != 1 {
		t.Errorf("--json printed %+v (%v):\n%s", report, err, o.stdout)
	}
	if _, err := os.Stat(state); !os.IsNotExist(err) {
		t.Errorf("at the end the state is still there (%v): the next call would do nothing", err)
	}
	call("user").want(t, 2, "did you mean")
	call("--max-redis-memory", "800%").want(t, 2, "--max-redis-memory")
	call("--from", "x").want(t, 2, "integer")
	call("--redis", "redis://127.0.0.1:1").want(t, 2, "redis is unavailable", "127.0.0.1:1")
	if err := os.WriteFile(state, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	call("--state", state).want(t, 2, "is no state of wtcache warm")
	call("--state", filepath.Join(t.TempDir(), "absent", "warm.json")).want(t, 2, "write the state")
}

// Who interrupts a long warming finds a state that the same command goes on from, to the last row.
func TestWarmInterrupted(t *testing.T) {
	t.Parallel()
	s, redis := newShop(t), testenv.RealRedis(t)
	text := "table: " + s.schema + ".users\nkey: \"" + testenv.KeyPrefix(t) + "user:{id}\"\nredis_down: refuse\n"
	if err := os.WriteFile(s.rules, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.exec(t, "INSERT INTO users SELECT i, 'n' FROM generate_series(1, 500) i")
	state := filepath.Join(t.TempDir(), "warm.json")
	args := []string{"warm", "--dsn", s.dsn, "--rules", s.rules, "--redis", redis, "--state", state, "--json"}
	cmd := start(t, append(args, "--batch", "5", "--rate", "50")...)
	eventually(t, "there is a state", func() bool { _, err := os.Stat(state); return err == nil })
	cmd.interrupt(t).want(t, 2, "the same command goes on from", `"done": false`)
	o := run(t, nil, append(args, "--batch", "50")...)
	o.want(t, 0)
	var report struct{ Rows, Filled int64 }
	if err := json.Unmarshal([]byte(o.stdout), &report); err != nil || report.Rows != 500 {
		t.Errorf("in all it has gone through %s rows (%v), want 500:\n%s", strconv.FormatInt(report.Rows, 10), err, o.stdout)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(state), "*")); len(left) != 0 {
		t.Errorf("files are left: %s", strings.Join(left, ", "))
	}
}
