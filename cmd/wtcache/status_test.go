package main_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/statuspage"
)

func (s *shop) status(t *testing.T, redis string, more ...string) outcome {
	t.Helper()
	return run(t, nil, append([]string{"status", "--dsn", s.dsn, "--rules", s.rules, "--redis", redis}, more...)...)
}

// An operator's first question, and a monitor's: is all well? A wrong exit code wakes nobody, or everybody.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	got := s.status(t, testenv.Redis(t))
	got.want(t, 0, "HEALTHY", s.schema+".users", "user:{id}", "no rule needs one", "policy noeviction", "capture: returning")

	got = s.status(t, testenv.Redis(t), "--json")
	var report struct {
		Health struct{ Level string }
		Rules  []wtcache.RuleInfo
		Redis  struct{ Servers []wtcache.RedisServer }
	}
	if err := json.Unmarshal([]byte(got.stdout), &report); err != nil {
		t.Fatalf("%v in\n%s", err, got.stdout)
	}
	if report.Health.Level != "healthy" || len(report.Rules) != 1 || len(report.Redis.Servers) != 1 {
		t.Errorf("the report is\n%s", got.stdout)
	}
}

func TestStatusWhereRedisIsAway(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.status(t, "redis://127.0.0.1:1").want(t, 1, "UNHEALTHY", "Redis is away", "does not answer")
}

// What waits in the outbox for long, and who writes past Redis, is what an outage leaves: it has to be seen.
func TestStatusOfTheOutbox(t *testing.T) {
	t.Parallel()
	s := newShopWithoutOutbox(t)
	s.status(t, testenv.Redis(t)).want(t, 1, "UNHEALTHY", "outbox")

	run(t, nil, "schema", "--apply", "--dsn", s.dsn).want(t, 0)
	s.status(t, testenv.Redis(t)).want(t, 0, "HEALTHY", "empty")

	s.exec(t, `INSERT INTO wtcache.outage (process) VALUES ('web-1/77');
		INSERT INTO wtcache.outbox (debt, created_at) VALUES ('{"keys": ["user:1"]}', now() - interval '2 hours'), ('{"keys": ["user:2"]}', now())`)
	s.status(t, testenv.Redis(t)).want(t, 1, "The outbox is not empty", "2 rows, the oldest for 2h", "outage: web-1/77", "An outage is announced")
}

// Programs side by side: which of them is ill is one look.
func TestStatusFromPrograms(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	config, err := pgx.ParseConfig(s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*config), wtcache.Config{RedisURL: testenv.Redis(t), RulesPath: s.rules})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	page, err := statuspage.New(db, statuspage.Options{Name: "web-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	mux := http.NewServeMux()
	mux.Handle("/status/", page)
	server := httptest.NewServer(mux)
	defer server.Close()
	for i := range 3 {
		if _, err := db.Exec("INSERT INTO users VALUES ($1, 'a')", i); err != nil {
			t.Fatal(err)
		}
	}
	got := run(t, nil, "status", "--from", server.URL+"/status/", "--from", server.URL+"/status/stats.json")
	got.want(t, 0, "web-1", "(2)")
	for line := range strings.Lines(got.stdout) {
		if words := strings.Fields(line); strings.HasPrefix(strings.TrimSpace(line), "precise writes") && strings.Join(words[2:], " ") != "3 3" {
			t.Errorf("three writes are shown as %q", line)
		}
	}
	run(t, nil, "status", "--from", server.URL+"/status/", "--from", "http://127.0.0.1:1/").want(t, 2, "could not be looked at", "?")
	run(t, nil, "status", "--from", server.URL+"/nothing").want(t, 2, "could not be looked at")
}

// The page of the command is served until it is interrupted, to this machine alone unless the user says otherwise.
func TestStatusListen(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "status", "--dsn", s.dsn, "--rules", s.rules, "--redis", testenv.Redis(t), "--listen", "127.0.0.1:0")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	get := func(host string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), "GET", address, nil)
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		got, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer got.Body.Close()
		text, err := io.ReadAll(got.Body)
		if err != nil {
			t.Fatal(err)
		}
		return got.StatusCode, string(text)
	}
	if status, text := get(""); status != http.StatusOK || !strings.Contains(text, s.schema+".users") {
		t.Errorf("status %d:\n%s", status, text)
	}
	if status, _ := get("evil.example"); status != http.StatusForbidden {
		t.Errorf("a page under a stranger's name: status %d, want 403", status)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("interrupted: %v, want exit code 0", err)
	}
}
