package statuspage_test

import (
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/statuspage"
)

// shop is a program with two ruled tables.
type shop struct {
	db     *sql.DB
	config *pgx.ConnConfig
	cfg    wtcache.Config
	schema string
}

func newShop(t *testing.T, redis string) *shop {
	t.Helper()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	return shopIn(t, dsn, schema, testenv.KeyPrefix(t), "mail <> '<script>alert(1)</script>'", redis)
}

func shopIn(t *testing.T, dsn, schema, prefix, when, redis string) *shop {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	admin := stdlib.OpenDB(*config)
	defer admin.Close()
	if _, err := admin.Exec(`CREATE TABLE users (id int PRIMARY KEY, mail text, name text);
		CREATE TABLE orders (id bigint PRIMARY KEY, user_id int, state text)`); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("$S", schema, "$P", prefix, "$W", when).Replace
	s := &shop{config: config, schema: schema, cfg: wtcache.Config{RedisURL: redis, Rules: fstest.MapFS{
		"users.yaml": {Data: []byte(fill("table: $S.users\nredis_down: refuse\nentries:\n  - key: \"$Puser:{id}\"\n    ttl: 1h\n" +
			"  - key: \"$Puser:mail:{mail}\"\n    strategy: invalidate\n    when: \"$W\"\n"))},
		"orders.yaml": {Data: []byte(fill("table: $S.orders\nredis_down: refuse\nkey: \"$Porder:{id}\"\nformat: hash\ninvalidate: [\"$Porders:{user_id}\"]\n"))},
	}}}
	if s.db, err = wtcache.OpenDB(stdlib.GetConnector(*config), s.cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	return s
}

func (s *shop) exec(t *testing.T, text string, args ...any) {
	t.Helper()
	if _, err := s.db.Exec(text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// serve mounts the page under a prefix that is cut off.
func (s *shop) serve(t *testing.T, opts statuspage.Options) string {
	t.Helper()
	page, err := statuspage.New(s.db, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { page.Close() })
	return mount(t, page)
}

func mount(t *testing.T, page http.Handler) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/debug/wtcache/", http.StripPrefix("/debug/wtcache", page))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL + "/debug/wtcache/"
}

type answer struct {
	status int
	header http.Header
	body   string
}

var client = http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func ask(t *testing.T, method, address string, form url.Values) answer {
	t.Helper()
	var body io.Reader
	if form != nil {
		body = strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	if form != nil {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	got, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{got.StatusCode, got.Header, string(text)}
}

// eventually polls.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("in vain: " + what)
		}
	}
}
