package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// dsnForms write one server's address in each form that pgx takes, with room for more
// settings at its end.
func dsnForms(t *testing.T, l *ledger) map[string]func(settings map[string]string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(l.dsn)
	if err != nil {
		t.Fatal(err)
	}
	keywords := func(settings map[string]string) string {
		var b strings.Builder
		for name, value := range settings {
			value = strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value)
			fmt.Fprintf(&b, " %s = '%s' ", name, value)
		}
		return b.String()
	}
	query := func(settings map[string]string) string {
		values := url.Values{}
		for name, value := range settings {
			values.Set(name, value)
		}
		return strings.ReplaceAll(values.Encode(), "+", "%20") + "&"
	}
	server := map[string]string{
		"host": cfg.Host, "port": fmt.Sprint(cfg.Port), "user": cfg.User, "dbname": cfg.Database, "search_path": l.schema,
		"password": cfg.Password, "application_name": "it's wtcache_mode=off & 100% \\ fine",
	}
	return map[string]func(map[string]string) string{
		"keywords": func(s map[string]string) string { return keywords(server) + keywords(s) },
		"settings first": func(s map[string]string) string {
			return keywords(s) + keywords(server)
		},
		"URL": func(s map[string]string) string {
			return strings.Trim("postgres:///?"+strings.TrimLeft(query(s)+query(server), "&"), "&")
		},
		"URL of several hosts": func(s map[string]string) string {
			several := map[string]string{}
			for name, value := range server {
				several[name] = value
			}
			several["host"] = "/nowhere," + cfg.Host
			several["port"] = fmt.Sprintf("5432,%d", cfg.Port)
			return strings.Trim("postgresql:///?"+query(several)+query(s), "&")
		},
		"registered": func(s map[string]string) string {
			registered, err := pgx.ParseConfig(keywords(server))
			if err != nil {
				t.Fatal(err)
			}
			name := stdlib.RegisterConnConfig(registered)
			t.Cleanup(func() { stdlib.UnregisterConnConfig(name) })
			return name + keywords(s)
		},
	}
}

// Changing the driver's name and adding the settings has to be enough, in whatever form
// a program has its DSN; and every byte that is not ours has to reach pgx.
func TestConfigByDSN(t *testing.T) {
	clearEnvironment(t)
	l := newLedger(t, ledgerSetup{})
	settings := map[string]string{
		"wtcache_redis": testenv.RealRedis(t),
		"wtcache_rules": ruleFolder(t, map[string]string{"it's a rule.yaml": string(l.rules("")["accounts.yaml"].Data)}),
	}
	for name, form := range dsnForms(t, l) {
		for _, source := range []string{"DSN", "environment"} {
			t.Run(name+"/"+source, func(t *testing.T) {
				l.reset(t)
				dsn := form(settings)
				if source == "environment" {
					for name, value := range settings {
						t.Setenv(strings.ToUpper(name), value)
					}
					dsn = form(nil)
				}
				db, err := sql.Open("wtcache", dsn)
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				if _, err := db.Exec(setFenceFirst, 3, 1); err != nil {
					t.Fatal(err)
				}
				l.wantCached(1, 3)
				if name == "registered" {
					return // pgx's RegisterConnConfig was given the name before
				}
				var application string
				if err := db.QueryRow("SHOW application_name").Scan(&application); err != nil || application != `it's wtcache_mode=off & 100% \ fine` {
					t.Errorf("application_name reached the server as %q (%v)", application, err)
				}
			})
		}
	}
}

// The DSN wins over the environment, and an error names where the value came from.
func TestConfigEnvironment(t *testing.T) {
	clearEnvironment(t)
	t.Setenv("WTCACHE_MODE", "loose")
	t.Setenv("WTCACHE_REDIS_TIMEOUT", "soon")
	_, err := sql.Open("wtcache", "host=h wtcache_mode=off")
	if !errors.Is(err, wtcache.ErrConfig) || !mentions(err, "environment variable WTCACHE_REDIS_TIMEOUT", `"soon"`) {
		t.Errorf("a bad environment variable gave %v", err)
	}
	db, err := sql.Open("wtcache", "host=h wtcache_mode=off wtcache_redis_timeout=1s")
	if err != nil {
		t.Fatalf("the DSN did not win: %v", err)
	}
	_ = db.Close()
}

// wtcache_mode=off is the way back: the base driver's own connections, no rules, no
// Redis, nothing in between.
func TestConfigModeOff(t *testing.T) {
	clearEnvironment(t)
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	db, err := sql.Open("wtcache", l.dsn+"&wtcache_mode=off&wtcache_redis=redis://nowhere:1&wtcache_rules=/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.Raw(func(dc any) error {
		if _, ok := dc.(*stdlib.Conn); !ok {
			return fmt.Errorf("the connection is a %T", dc)
		}
		if _, ok := wtcache.PgxConn(dc); !ok {
			return errors.New("PgxConn does not know pgx's own connection")
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if _, err := conn.ExecContext(context.Background(), setFenceFirst, 4, 1); err != nil {
		t.Fatal(err)
	}
	l.wantRow(1, 4)
	l.wantCached(1, 0) // nobody keeps it, as the mode's documentation says
	if _, err := wtcache.CacheOf(db); !errors.Is(err, wtcache.ErrConfig) {
		t.Errorf("CacheOf gave %v", err)
	}
	if s, err := wtcache.StatsOf(db); err != nil || s.PreciseWrites+s.Committed+s.FenceFirst+s.WriteTimes.Count+s.DatabaseReads+uint64(s.Redis.Fences) != 0 {
		t.Errorf("Stats are %+v, %v", s, err)
	}
}

// Functions that need wtcache say so where they are given another driver's *sql.DB.
func TestConfigOfAnotherDriver(t *testing.T) {
	db := openPlain(t, "postgres://localhost/d")
	if _, err := wtcache.CacheOf(db); !errors.Is(err, wtcache.ErrConfig) || !mentions(err, "stdlib.Driver") {
		t.Errorf("CacheOf gave %v", err)
	}
	if _, err := wtcache.StatsOf(db); !errors.Is(err, wtcache.ErrConfig) {
		t.Errorf("StatsOf gave %v", err)
	}
}

// Rules that the database contradicts: each connection says everything that is wrong, and
// the program works as soon as the database was mended, without being started again.
func TestConfigAgainstTheCatalogue(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	files := l.rules("")
	files["accounts.yaml"].Data = []byte(strings.Replace(string(files["accounts.yaml"].Data), "{id}", "{nr}", 1))
	files["orders.yaml"] = mockRules("")["orders.yaml"]
	files["orders.yaml"].Data = fmt.Appendf(nil, "table: %s.orders\nkey: \"%sorder:{id}\"\n", l.schema, l.prefix)
	db, err := wtcache.OpenDB(pgxConnector(t, l.dsn), wtcache.Config{Redis: l.rdb, Rules: files})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for range 2 {
		err := db.Ping()
		if !errors.Is(err, wtcache.ErrRules) || !mentions(err, "accounts.yaml:2:", `"nr"`, "orders.yaml:1:", "orders") {
			t.Fatalf("the first connection gave %v", err)
		}
	}
	if _, err := l.plain.Exec("ALTER TABLE accounts RENAME id TO nr; CREATE TABLE orders (id int PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if err := db.Ping(); err != nil {
		t.Fatalf("the database was mended: %v", err)
	}
	if _, err := db.Exec("UPDATE accounts SET n = 2 WHERE nr = 1"); err != nil {
		t.Fatal(err)
	}
	if err := l.rdb.Get(context.Background(), l.key(1)).Err(); err != nil {
		t.Errorf("after mending, the entry is %v", err)
	}
}

// Close gives everything back that Open took, and nothing that it was lent.
func TestConfigClose(t *testing.T) {
	clearEnvironment(t)
	l := newLedger(t, ledgerSetup{})
	rules := ruleFolder(t, map[string]string{"r.yaml": string(l.rules("")["accounts.yaml"].Data)})
	before := runtime.NumGoroutine()
	for range 5 {
		db, err := sql.Open("wtcache", l.dsn+"&wtcache_rules="+url.QueryEscape(rules)+"&wtcache_redis="+url.QueryEscape(testenv.RealRedis(t)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(setOne); err != nil {
			t.Fatal(err)
		}
		tx, err := db.Begin()
		if err == nil {
			_, err = tx.Exec("UPDATE accounts SET n = 2 WHERE id = 2")
		}
		if err := errors.Join(err, tx.Rollback(), db.Close()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })

	lent := redisClient(t, testenv.RealRedis(t))
	db, err := wtcache.OpenDB(pgxConnector(t, l.dsn), wtcache.Config{Redis: lent, Rules: l.rules("")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(setOne); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := lent.Ping(context.Background()).Err(); err != nil {
		t.Errorf("the caller's own client was closed: %v", err)
	}
}

// Close does not wait for a Redis that will not come back, and does not hide what is
// lost by that.
func TestConfigCloseWithDebts(t *testing.T) {
	for _, how := range []string{"killed", "stopped"} {
		t.Run(how, func(t *testing.T) {
			server := ownRedis(t)
			l := newLedger(t, ledgerSetup{redis: server.URL, config: impatient})
			l.warm(1)
			if how == "killed" {
				server.Kill()
			} else {
				server.Pause()
			}
			l.exec(setOne)
			closed := make(chan error, 1)
			go func() { closed <- l.db.Close() }()
			if err := await(t, "Close past a dead Redis", closed); !errors.Is(err, cachesync.ErrDebtsLost) {
				t.Errorf("Close gave %v, want ErrDebtsLost", err)
			}
			if n := l.heard.told("closed while invalidations were owed"); n != 1 {
				t.Errorf("the loss was logged %d times", n)
			}
			if how == "stopped" {
				server.Resume() // the cleanup's signals reach a running process
			}
		})
	}
}
