package main_test

import (
	"database/sql"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// What an audit finds must end a pipeline, and what it looked at must not be shown in its log.
func TestAuditAndInspect(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(t, "INSERT INTO users SELECT i, 'secret' || i FROM generate_series(1, 12) i")
	url := testenv.NewRedis(t).URL
	where := []string{"--dsn", s.dsn, "--rules", s.rules, "--redis", url}
	command := func(args ...string) outcome { return run(t, nil, append(args, where...)...) }
	command("audit").want(t, 0, "no faults, 0 keys checked", "0 % of 12")

	db := openThrough(t, s, url)
	cache, err := wtcache.CacheOf(db)
	if err != nil {
		t.Fatal(err)
	}
	for id := range 10 {
		if _, err := cache.Get(t.Context(), "users", new([]byte), id+1); err != nil {
			t.Fatal(err)
		}
	}
	command("audit", "--all").want(t, 0, "no faults, 10 keys checked", "83 % of 12", "ages")
	command("inspect", "users", "3", "--compare").want(t, 0, "user:3", "good", "same", "served", "fits")
	s.exec(t, "UPDATE users SET name = 'other' WHERE id = 3")
	o := command("audit")
	o.want(t, 1, "stale user:3", "1 key at fault", "10 keys checked")
	o.wantNot(t, "secret", "other")
	command("audit", "--threshold", "1").want(t, 0, "1 key at fault")
	command("audit", "--threshold", "20%").want(t, 0, "1 key at fault")
	command("audit", "--threshold", "5%").want(t, 1, "1 key at fault")
	o = command("audit", "--json")
	var r wtcache.AuditReport
	if err := json.Unmarshal([]byte(o.stdout), &r); o.code != 1 || err != nil || r.Total.Stale != 1 || r.Entries[0].Examples[0].Key != "user:3" {
		t.Errorf("it reports (%d, %v) %s", o.code, err, o.stdout)
	}
	command("inspect", "users.by_nam", "3").want(t, 2, `no such entry: "users.by_nam"`)
	o = command("inspect", "user:3", "--compare")
	o.want(t, 1, "stale; differs in name")
	o.wantNot(t, "secret")
	command("inspect", "user:3", "user:99", "--payload").want(t, 0, "secret3", "nothing is stored")
	var i wtcache.Inspection
	if o = command("inspect", "user:3", "--json"); json.Unmarshal([]byte(o.stdout), &i) != nil || i.State != "good" || i.Entry == "" {
		t.Errorf("it reports %s", o.stdout)
	}
	command("audit", "--repair").want(t, 1, "1 made absent")
	command("audit").want(t, 0, "no faults, 9 keys checked")

	command("audit", "--threshold", "many").want(t, 2, "neither a number of keys")
	command("audit", "nobody").want(t, 2, "nobody", "users")
	command("audit", "--sample", "0").want(t, 2, "--all")
	command("inspect").want(t, 2)
	command("inspect", "users", "3", "4").want(t, 2, "takes 1 value")
	run(t, nil, "audit", "--dsn", s.dsn, "--rules", s.rules, "--redis", "redis://127.0.0.1:1").want(t, 2, "unavailable", "not finished")
	run(t, nil, "audit", "--json", "--dsn", s.dsn, "--rules", s.rules, "--redis", "redis://127.0.0.1:1").want(t, 2, `"unfinished": "audit`)
}

// A job that shows nothing to Prometheus alerts nobody; and whoever ends it wants no complaint.
func TestAuditEvery(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.exec(t, "INSERT INTO users VALUES (1, 'secret')")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // for a port that is free
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	_ = listener.Close()
	cmd := exec.CommandContext(t.Context(), path, "audit", "--every", "50ms", "--json", "--metrics", address,
		"--dsn", s.dsn, "--rules", s.rules, "--redis", testenv.NewRedis(t).URL)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := json.NewDecoder(out)
	for range 2 {
		var r wtcache.AuditReport
		if err := lines.Decode(&r); err != nil || len(r.Entries) != 1 {
			t.Errorf("it reports %+v (%v)", r, err)
		}
	}
	if answer, err := http.Get("http://" + address + "/metrics"); err != nil {
		t.Error(err)
	} else {
		text, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if !strings.Contains(string(text), "wtcache_audit_keys") {
			t.Errorf("the metrics are\n%s", text)
		}
	}
	_ = cmd.Process.Signal(os.Interrupt)
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil || stderr.Len() > 0 {
		t.Errorf("interrupted, it says %v: %s", err, stderr.String())
	}
	run(t, nil, "audit", "--metrics", address, "--dsn", s.dsn, "--rules", s.rules).want(t, 2, "--every")
}

// openThrough opens the shop as its program does.
func openThrough(t *testing.T, s *shop, redisURL string) *sql.DB {
	t.Helper()
	config, err := pgx.ParseConfig(s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*config), wtcache.Config{RulesPath: s.rules, RedisURL: redisURL, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (o outcome) wantNot(t *testing.T, words ...string) {
	t.Helper()
	for _, w := range words {
		if strings.Contains(o.stdout+o.stderr, w) {
			t.Errorf("%q is shown:\n%s%s", w, o.stdout, o.stderr)
		}
	}
}
