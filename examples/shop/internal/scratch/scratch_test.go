package scratch

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// TestRedisIsNobodyElses: the demo deletes keys, so it must neither take a database that holds any nor touch others' keys.
func TestRedisIsNobodyElses(t *testing.T) {
	server := testenv.Redis(t)
	first, releaseFirst, err := Redis(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	second, releaseSecond, err := Redis(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	if first == second {
		t.Fatalf("two callers were given %s", first)
	}
	o, err := redis.ParseURL(first)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(o)
	defer rdb.Close()
	for _, key := range []string{"product:1", "{product:1}:wtm", "{user:1}:wt", "somebody:else"} {
		if err := rdb.Set(t.Context(), key, "x", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	defer rdb.Del(t.Context(), "somebody:else")
	if err := releaseFirst(); err != nil {
		t.Fatal(err)
	}
	left, err := rdb.Keys(t.Context(), "*").Result()
	if err != nil || len(left) != 1 || left[0] != "somebody:else" {
		t.Errorf("left behind: %v (%v), want somebody:else alone", left, err)
	}
	third, releaseThird, err := Redis(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	if third == first {
		t.Errorf("%s was given away while somebody else's key is there", third)
	}
	for _, release := range []func() error{releaseSecond, releaseThird} {
		if err := release(); err != nil {
			t.Error(err)
		}
	}
}

// TestDatabaseIsDropped: a demo that was used twenty times must not leave twenty databases.
func TestDatabaseIsDropped(t *testing.T) {
	dsn, drop, err := Database(t.Context(), testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn) // stays connected: the drop must not wait for it
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := drop(); err != nil {
		t.Fatal(err)
	}
	if again, err := pgx.Connect(t.Context(), dsn); err == nil {
		again.Close(t.Context())
		t.Error("the database is still there")
	}
}

// TestDSNKeepsPassword: a password with quotes in it must not lock the demo out of its own database.
func TestDSNKeepsPassword(t *testing.T) {
	const password = `it's a \ word`
	cfg, err := pgx.ParseConfig("host=db.example port=5433 user=u dbname=d sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	cfg.Password = password
	got, err := pgx.ParseConfig(PostgresDSN(cfg, "127.0.0.1", 6000))
	if err != nil {
		t.Fatal(err)
	}
	if got.Password != password || got.User != "u" || got.Database != "d" || got.Host != "127.0.0.1" || got.Port != 6000 {
		t.Errorf("got user %q, password %q, database %q at %s:%d", got.User, got.Password, got.Database, got.Host, got.Port)
	}
}

// TestTLS: the usual DSN without an sslmode must do, and one that insists on TLS must not be sent in the clear.
func TestTLS(t *testing.T) {
	for dsn, plain := range map[string]bool{
		"postgres://db.example/d":                     true,
		"postgres://db.example/d?sslmode=disable":     true,
		"host=/tmp dbname=d":                          true,
		"postgres://db.example/d?sslmode=require":     false,
		"postgres://db.example/d?sslmode=verify-full": false,
	} {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		if got := takesPlain(cfg); got != plain {
			t.Errorf("%s: plain is %v, want %v", dsn, got, plain)
		}
	}
	if _, _, err := Database(t.Context(), "postgres://db.example/d?sslmode=require"); err == nil {
		t.Error("a DSN that insists on TLS was accepted")
	}
}

// TestRedisURLKeepsDatabase: a proxy's URL that lost the database's number would have the demo write into database 0.
func TestRedisURLKeepsDatabase(t *testing.T) {
	for _, from := range []string{"redis://u:p%40ss@localhost:1/7", "unix://u:p%40ss@/tmp/redis.sock?db=7"} {
		o, err := redis.ParseURL(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, to := range [][2]string{{"tcp", "127.0.0.1:6000"}, {"unix", "/tmp/other.sock"}} {
			got, err := redis.ParseURL(RedisURL(o, to[0], to[1]))
			if err != nil {
				t.Fatal(err)
			}
			if got.Network != to[0] || got.Addr != to[1] || got.DB != 7 || got.Username != "u" || got.Password != "p@ss" {
				t.Errorf("%s to %v: got %s %s, database %d, %s:%s", from, to, got.Network, got.Addr, got.DB, got.Username, got.Password)
			}
		}
	}
}
