package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/drivertest"
	"github.com/wtcache/wtcache/internal/fakedriver"
	"github.com/wtcache/wtcache/internal/testenv"
)

// skipping is a fake base that takes no text unless it is prepared, and a key of its own.
func skipping(t *testing.T) (run func(texts ...string), rdb *redis.Client, key string) {
	t.Helper()
	b := openFake(t, fakedriver.Required)
	*b.On = func(c fakedriver.Call) (fakedriver.Reply, bool) {
		text := c.Op == fakedriver.Exec || c.Op == fakedriver.Query
		return fakedriver.Reply{Err: driver.ErrSkip}, text && !c.Prepared
	}
	b.Script("UPDATE users SET name = 'x' WHERE id = 1", fakedriver.Reply{Affected: 1})
	rdb = redisClient(t, testenv.RealRedis(t))
	config := conformanceConfig(t, mockSchema+".users")
	prefix := testenv.KeyPrefix(t)
	config.Rules, config.Redis = mockRules(prefix), rdb
	db, err := wtcache.OpenDB(b.Connector, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return func(texts ...string) {
		t.Helper()
		for _, text := range texts {
			if _, err := conn.ExecContext(t.Context(), text); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
	}, rdb, prefix + "user:1"
}

// A base that answers ErrSkip has done nothing yet. When this fails, what it does a moment later is not captured, and an
// old entry stays; or the key is out of use for a fence's life.
func TestWritesThatTheBaseSkipsAreCaptured(t *testing.T) {
	const write = "UPDATE users SET name = 'x' WHERE id = 1"
	for name, texts := range map[string][]string{
		"by itself": {write}, "in a transaction": {"BEGIN", write, "COMMIT"}, "several statements": {write + "; " + write}, "chained": {"BEGIN", write, "COMMIT AND CHAIN", "ROLLBACK"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			run, rdb, key := skipping(t)
			if err := rdb.Set(ctx, key, "old", 0).Err(); err != nil {
				t.Fatal(err)
			}
			run(texts...)
			if got := rdb.Get(ctx, key).Val(); got == "old" || got == "" {
				t.Errorf("the key holds %q", got)
			}
			if n, err := tokensOn(ctx, rdb, "{"+key+"}:wt"); n > 0 || err != nil {
				t.Errorf("the key is still fenced by %d tokens (%v)", n, err)
			}
		})
	}
}

// A rollback leaves nothing captured behind, however it is sent.
func TestRollbackThatTheBaseSkips(t *testing.T) {
	run, rdb, key := skipping(t)
	if err := rdb.Set(context.Background(), key, "old", 0).Err(); err != nil {
		t.Fatal(err)
	}
	run("BEGIN", "UPDATE users SET name = 'x' WHERE id = 1", "ROLLBACK", "BEGIN", "COMMIT")
	if got := rdb.Get(context.Background(), key).Val(); got != "old" {
		t.Errorf("the key holds %q", got)
	}
}

// PgxConn finds pgx under what Raw hands out, wrapped or not, and says so where there is none.
func TestPgxConnOfEachBase(t *testing.T) {
	server, fake, mock := openServer(execModes[0])(t, 0), openFake(t, fakedriver.Required), openSqlmock(t, 0)
	for _, c := range []struct {
		name string
		base drivertest.Base
		wrap func(*testing.T, drivertest.Base) (*sql.DB, error)
		ok   bool
	}{
		{"pgx", server, wrapServer, true}, {"fake", fake, wrapScripted, false}, {"sqlmock", mock, wrapScripted, false},
	} {
		wrapped, err := c.wrap(t, c.base)
		if err != nil {
			t.Fatal(err)
		}
		for _, db := range []*sql.DB{sql.OpenDB(c.base.Connector), wrapped} {
			err := rawConn(t, db, func(dc any) {
				if conn, ok := wtcache.PgxConn(dc); ok != c.ok || ok == (conn == nil) {
					t.Errorf("%s under %T: %v %v", c.name, dc, conn, ok)
				}
			})
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			_ = db.Close() // nothing is in use any more
		}
	}
}

func rawConn(t *testing.T, db *sql.DB, look func(any)) error {
	conn, err := db.Conn(t.Context())
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // looked at, and that was all
	return conn.Raw(func(dc any) error { look(dc); return nil })
}
