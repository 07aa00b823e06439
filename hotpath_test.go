package wtcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strconv"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
)

// idleConn is a base connection that does nothing, so that what is measured is the wrapper.
type idleConn struct{}

func (idleConn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (idleConn) Close() error                        { return nil }
func (idleConn) Begin() (driver.Tx, error)           { return nil, driver.ErrSkip }

func (idleConn) BeginTx(context.Context, driver.TxOptions) (driver.Tx, error) {
	return nil, driver.ErrSkip
}

func (idleConn) PrepareContext(context.Context, string) (driver.Stmt, error) {
	return nil, driver.ErrSkip
}

func (idleConn) ExecContext(context.Context, string, []driver.NamedValue) (driver.Result, error) {
	return driver.ResultNoRows, nil
}

func (idleConn) QueryContext(context.Context, string, []driver.NamedValue) (driver.Rows, error) {
	return nil, nil
}

// idleWrapped is a conn over idleConn with rules that were bound to a real catalogue.
func idleWrapped(t testing.TB) *conn {
	t.Helper()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	plain := sql.OpenDB(stdlib.GetConnector(*cfg))
	t.Cleanup(func() { _ = plain.Close() })
	if _, err := plain.Exec("CREATE TABLE users (id bigint PRIMARY KEY, name text)"); err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{})
	t.Cleanup(func() { _ = rdb.Close() })
	db, err := OpenDB(stdlib.GetConnector(*cfg), Config{Redis: rdb, Rules: fstest.MapFS{
		"users.yaml": {Data: fmt.Appendf(nil, "table: %s.users\nkey: \"user:{id}\"\n", schema)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := db.Ping(); err != nil {
		t.Fatal(err)
	}
	e, err := engineOf(db)
	if err != nil {
		t.Fatal(err)
	}
	base, err := requireInterfaces(idleConn{})
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{engine: e, base: base, gen: e.gen.Load()}
	c.gen.sessions.Range(func(_, s any) bool {
		c.session = s.(*rules.Session)
		return false
	})
	return c
}

var unruledTexts = []string{
	"SELECT 1",
	"SELECT id, total FROM orders WHERE customer = $1 AND placed_at > now() - interval '1 day' ORDER BY id DESC LIMIT 20",
	"UPDATE orders SET total = total + $1 WHERE id = $2",
	"SELECT * FROM users WHERE id = $1", // names a rule, is a read
}

// A program that uses wtcache for one table must not pay for it on every other: a
// statement that touches no rule costs no allocation of ours.
func TestUnruledStatementAllocatesNothing(t *testing.T) {
	c := idleWrapped(t)
	ctx := context.Background()
	args := []driver.NamedValue{{Ordinal: 1, Value: int64(7)}}
	for _, text := range unruledTexts {
		base := testing.AllocsPerRun(100, func() { _, _ = idleConn{}.ExecContext(ctx, text, args) })
		ours := testing.AllocsPerRun(100, func() {
			if _, err := c.ExecContext(ctx, text, args); err != nil {
				t.Fatal(err)
			}
		})
		if ours != base {
			t.Errorf("%s: %v allocations, %v without wtcache", text, ours, base)
		}
	}
}

func BenchmarkUnruledExec(b *testing.B) {
	c := idleWrapped(b)
	ctx := context.Background()
	for name, conn := range map[string]driver.ExecerContext{"base": idleConn{}, "wtcache": c} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.ExecContext(ctx, unruledTexts[1], nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What statements cost whose texts never come again: of a table without a rule, and of one with.
func BenchmarkNewTexts(b *testing.B) {
	c := idleWrapped(b)
	ctx := context.Background()
	text := make([]byte, 0, 256)
	for name, form := range map[string]string{
		"unruled": "UPDATE orders SET total = 12, note = 'nothing to do with a rule' WHERE state = 'open' AND id = ",
		"read":    "SELECT * FROM users WHERE name = 'Ann' AND id = ",
		"ruled":   "UPDATE users SET name = 'Ann' WHERE id = ",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				p, err := c.plan(ctx, string(strconv.AppendInt(append(text[:0], form...), int64(i), 10)))
				if err != nil {
					b.Fatal(err)
				}
				if p.touches {
					p.bind(c)
				}
			}
		})
	}
}

// capturedRow gives a step that writes a ruled row, and its captured columns as they come over the wire.
func capturedRow(t testing.TB, c *conn) (*step, [][]byte) {
	t.Helper()
	p, err := c.plan(context.Background(), "UPDATE users SET name = $1 WHERE id = $2")
	if err != nil {
		t.Fatal(err)
	}
	st := &p.bind(c).steps[0]
	if st.action != actPrecise {
		t.Fatalf("the write is not captured: %q", st.reason)
	}
	return st, [][]byte{
		[]byte("0000000116/B374D848:731"), strconv.AppendUint(nil, uint64(st.table.OID), 10),
		[]byte("4711"), []byte(`{"id":4711,"name":"ann"}`),
	}
}

// captureOnce takes a row in and settles it, as an Exec of one row does.
func captureOnce(c *conn, st *step, cells [][]byte) *owed {
	c.tx = txState{statements: 1}
	c.recordRaw(st, cells)
	return c.settle()
}

// Whoever writes a row with a rule pays for it in memory on every write.
func TestCapturedRowAllocatesLittle(t *testing.T) {
	c := idleWrapped(t)
	st, cells := capturedRow(t, c)
	if o := captureOnce(c, st, cells); len(o.strict) != 1 {
		t.Fatalf("%d keys are owed, want 1", len(o.strict))
	}
	const most = 15
	if n := testing.AllocsPerRun(100, func() { captureOnce(c, st, cells) }); n > most {
		t.Errorf("a captured row takes %v allocations, want at most %d", n, most)
	}
}

// A row past what a transaction keeps is counted and not read.
func TestSurplusRowAllocatesNothing(t *testing.T) {
	c := idleWrapped(t)
	st, cells := capturedRow(t, c)
	c.tx = txState{log: make([]change, c.engine.cfg.MaxCapturedRows, c.engine.cfg.MaxCapturedRows+1)}
	if n := testing.AllocsPerRun(100, func() { c.recordRaw(st, cells) }); n != 0 {
		t.Errorf("a row that is not kept takes %v allocations", n)
	}
}

func BenchmarkCapturedRow(b *testing.B) {
	c := idleWrapped(b)
	st, cells := capturedRow(b, c)
	b.ReportAllocs()
	for b.Loop() {
		captureOnce(c, st, cells)
	}
}
