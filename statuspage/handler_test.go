package statuspage_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/statuspage"
)

func contains(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not shown in\n%s", w, text)
		}
	}
}

// An operator who opens the page sees the rules and what was counted, and every answer forbids the browser whatever is not the page's own.
func TestPageShowsWhatIsSo(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	at := s.serve(t, statuspage.Options{Name: "shop & co"})
	s.exec(t, "INSERT INTO users VALUES (1, 'ann@example.com', 'very secret name')")
	s.exec(t, "INSERT INTO orders VALUES (7, 1, 'open')")

	got := ask(t, "GET", at, nil)
	if got.status != http.StatusOK {
		t.Fatalf("status %d: %s", got.status, got.body)
	}
	contains(t, got.body, "shop &amp; co", s.schema+".users", s.schema+".orders", "user:{id}", "Redis down: refuse", "rows captured",
		`data-counter="precise">2<`, `data-counter="stored">`, "Healthy", "<svg", `role="img"`)
	for _, secret := range []string{"very secret", "ann@", "<script>alert", "style=", "onclick"} {
		if strings.Contains(got.body, secret) {
			t.Errorf("the page holds %q", secret)
		}
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; script-src 'self'", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Content-Type": "text/html; charset=utf-8",
	} {
		if !strings.HasPrefix(got.header.Get(name), want) {
			t.Errorf("%s is %q, want %q", name, got.header.Get(name), want)
		}
	}
}

// Scripts and `wtcache status --from` read stats.json: a name that changes breaks them.
func TestStatsJSON(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	at := s.serve(t, statuspage.Options{})
	s.exec(t, "INSERT INTO users VALUES (1, 'a', 'b')")
	got := ask(t, "GET", at+"stats.json", nil)
	var report struct {
		Health   struct{ Level, Title string }
		Rules    []wtcache.RuleInfo
		Counters struct {
			PreciseWrites uint64 `json:"precise_writes"`
			Committed     uint64
			Hits          uint64
			BreakerOpen   bool `json:"breaker_open"`
			WriteTimes    struct {
				Bounds []float64 `json:"bounds_seconds"`
				Counts []uint64
				Count  uint64
			} `json:"write_times"`
			Redis struct {
				Fences int64
				Ages   struct{ Counts []int64 }
			}
			Outbox struct {
				Depth  int64
				Oldest float64 `json:"oldest_seconds"`
			}
		}
		Samples []struct{ Time string }
		Errors  []any
	}
	if err := json.Unmarshal([]byte(got.body), &report); err != nil {
		t.Fatalf("%v in\n%s", err, got.body)
	}
	c := report.Counters
	if report.Health.Level != "healthy" || len(report.Rules) != 2 || c.PreciseWrites != 1 || c.Committed != 1 || c.Redis.Fences == 0 ||
		c.WriteTimes.Count != 1 || len(c.WriteTimes.Counts) != len(c.WriteTimes.Bounds)+1 || len(c.Redis.Ages.Counts) == 0 || report.Errors == nil {
		t.Errorf("stats.json is\n%s", got.body)
	}
}

// The page can be put anywhere: a path that loses its style sheet is a page that nobody can read.
func TestAnyPrefix(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	page, err := statuspage.New(s.db, statuspage.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	mux := http.NewServeMux()
	mux.Handle("/a/", http.StripPrefix("/a/", page))
	mux.Handle("/b/c/", http.StripPrefix("/b/c", page))
	mux.Handle("/d/", page)
	mux.Handle("/e", http.StripPrefix("/e", page))
	mux.Handle("/", page)
	server := httptest.NewServer(mux)
	defer server.Close()
	for _, prefix := range []string{"/", "/a/", "/b/c/", "/d/"} {
		for name, kind := range map[string]string{"": "text/html", "style.css": "text/css", "live.js": "text/javascript", "icon.svg": "image/svg+xml", "stats.json": "application/json", "live": "text/html"} {
			got := ask(t, "GET", server.URL+prefix+name, nil)
			if got.status != http.StatusOK || !strings.HasPrefix(got.header.Get("Content-Type"), kind) {
				t.Errorf("GET %s%s: %d, %s, want 200, %s", prefix, name, got.status, got.header.Get("Content-Type"), kind)
			}
		}
	}
	if got := ask(t, "GET", server.URL+"/e", nil); got.status != http.StatusMovedPermanently || got.header.Get("Location") != "./e/" {
		t.Errorf("GET /e: %d to %q; want to ./e/, else relative addresses lead beside the page", got.status, got.header.Get("Location"))
	}
	if got := ask(t, "GET", server.URL+"/a/page.html", nil); got.status != http.StatusNotFound {
		t.Errorf("GET page.html: %d, want 404: templates are no assets", got.status)
	}
}

// The page is read-only: nothing but the explain form is taken, and that from no other site.
func TestMethods(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	at := s.serve(t, statuspage.Options{})
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "OPTIONS"} {
		for _, name := range []string{"", "stats.json", "style.css"} {
			if got := ask(t, method, at+name, nil); got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") == "" {
				t.Errorf("%s %s: %d, Allow %q", method, name, got.status, got.header.Get("Allow"))
			}
		}
	}
	if got := ask(t, "HEAD", at, nil); got.status != http.StatusOK || got.body != "" {
		t.Errorf("HEAD: %d, %q", got.status, got.body)
	}
	r, err := http.NewRequest("POST", at+"explain", strings.NewReader("sql=SELECT+1"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	got, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	if got.StatusCode != http.StatusForbidden {
		t.Errorf("a form of another site: %d, want 403", got.StatusCode)
	}
}

// Whoever pastes a statement learns what it does, with and without the script; and text of a statement stays text.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	at := s.serve(t, statuspage.Options{})
	before := rows(t, s)
	got := ask(t, "POST", at+"explain", url.Values{"sql": {"INSERT INTO users VALUES (5, '</textarea><script>alert(1)</script>', 'x'); TRUNCATE users"}})
	if got.status != http.StatusOK {
		t.Errorf("status %d", got.status)
	}
	contains(t, got.body, "<!DOCTYPE html>", "precise", "coarse", "&lt;script&gt;alert(1)")
	if strings.Contains(got.body, "<script>alert") || strings.Contains(got.body, `http-equiv="refresh"`) {
		t.Error("the statement's text became markup, or the answer is loaded over")
	}
	if after := rows(t, s); after != before {
		t.Errorf("explaining a statement ran it: %d rows where there were %d", after, before)
	}
	part := ask(t, "POST", at+"explain", url.Values{"sql": {`UPDATE users SET name = '<img src=x onerror=alert(1)>' WHERE ("oops`}, "part": {"1"}})
	long := ask(t, "POST", at+"explain?part=1", url.Values{"sql": {strings.Repeat("é", 50<<10)}}) // more than is read of a form
	if long.status != http.StatusRequestEntityTooLarge || strings.Contains(long.body, "<html") {
		t.Errorf("a text that is too long gives the script %d and\n%.200s", long.status, long.body)
	}
	if strings.Contains(part.body, "<html") || strings.Contains(part.body, "<img") {
		t.Errorf("the part for the script is\n%s", part.body)
	}
	contains(t, part.body, "Line 1, column")
	for text, status := range map[string]int{"": 400, "  \n": 400, strings.Repeat("x", 65<<10): 413, strings.Repeat("x", 1<<20): 413} {
		if got := ask(t, "POST", at+"explain", url.Values{"sql": {text}}); got.status != status {
			t.Errorf("a text of %d bytes: status %d, want %d", len(text), got.status, status)
		}
	}
}

func rows(t *testing.T, s *shop) (n int) {
	t.Helper()
	if err := s.db.QueryRow("SELECT count(*) FROM users").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A site that does not want the box has no box.
func TestNoExplain(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	at := s.serve(t, statuspage.Options{NoExplain: true})
	if got := ask(t, "GET", at, nil); strings.Contains(got.body, "<form") {
		t.Error("the page has the form")
	}
	if got := ask(t, "POST", at+"explain", url.Values{"sql": {"SELECT 1"}}); got.status != http.StatusMethodNotAllowed {
		t.Errorf("POST explain: %d, want 405", got.status)
	}
}

// When Redis goes away the page says so first, and the error's text cannot become markup.
func TestRedisAway(t *testing.T) {
	t.Parallel()
	redis := testenv.NewRedis(t)
	s := newShop(t, redis.URL)
	at := s.serve(t, statuspage.Options{})
	s.exec(t, "INSERT INTO users VALUES (1, 'a', 'b')")
	redis.Kill()
	eventually(t, "the page says that Redis is away", func() bool {
		_, _ = s.db.Exec("UPDATE users SET name = 'c' WHERE id = 1") // refused
		got := ask(t, "GET", at, nil)
		return strings.Contains(got.body, `<strong id="headline">Redis is away`) && strings.Contains(got.body, `class="health unhealthy"`)
	})
	if got := ask(t, "GET", at+"stats.json", nil); !strings.Contains(got.body, `"level": "unhealthy"`) || !strings.Contains(got.body, `"breaker_open": true`) {
		t.Errorf("stats.json does not say it:\n%s", got.body)
	}
}

// The page of `wtcache status --listen` has no counters of a program, and shows the servers.
func TestOutside(t *testing.T) {
	t.Parallel()
	s := newShop(t, testenv.Redis(t))
	page := statuspage.NewOutside(stdlib.GetConnector(*s.config), s.cfg, statuspage.Options{})
	defer page.Close()
	at := mount(t, page)
	got := ask(t, "GET", at, nil)
	contains(t, got.body, "Servers", "Outbox", s.schema+".users", "rows captured")
	got = ask(t, "POST", at+"explain", url.Values{"sql": {"DELETE FROM users WHERE id = 1"}})
	contains(t, got.body, "precise")
}

// A *sql.DB of another driver is refused with what is wrong, instead of an empty page.
func TestAnotherDriver(t *testing.T) {
	t.Parallel()
	db := stdlib.OpenDB(pgx.ConnConfig{})
	defer db.Close()
	if _, err := statuspage.New(db, statuspage.Options{}); err == nil || !strings.Contains(err.Error(), "was not opened through wtcache") {
		t.Errorf("got %v", err)
	}
}
