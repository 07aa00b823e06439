package outbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache/internal/testenv"
)

var awkward = []string{
	"user:1", "org:{a%7Bb}", `q"uote'd`, `back\slash \u0041`, "ümlaut ☃ 𝄞", "new\nline\ttab", "<&>", "$1 $2 ?", "\xff\xfe not UTF-8", "", "\u2028",
}

// A key that arrives changed at Redis is a key that stays stale. Insert must carry every key in every way of sending statements.
func TestInsertCarriesEveryKeyInEveryMode(t *testing.T) {
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	for _, mode := range modes {
		t.Run(mode.String(), func(t *testing.T) {
			w := newWorld(t)
			cfg, err := pgx.ParseConfig(w.dsn)
			if err != nil {
				t.Fatal(err)
			}
			cfg.DefaultQueryExecMode = mode
			db := stdlib.OpenDB(*cfg)
			defer db.Close()
			exercise(t, w, db)
		})
	}
}

// exercise announces, queues, drains and withdraws with a Box on db, and has the driver's part done on db, too.
func exercise(t *testing.T, w *world, db *sql.DB) {
	t.Helper()
	redis := newSettler()
	b := w.box(Options{DB: db, Settler: redis, seams: seams{after: atOnce}})
	serves(t, b)
	ticket := must(b.Announce(t.Context(), true))(t)
	debt := Debt{Keys: awkward, Sweeps: []Sweep{{Barrier: "b:ü", Globs: []string{`user:\*`, "x*"}}}}
	tx := must(db.BeginTx(t.Context(), nil))(t)
	defer tx.Rollback()
	text, args := b.Insert(ticket.Outage(), debt)
	if _, err := tx.ExecContext(t.Context(), text, args...); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	ticket.Done()
	if err := b.Hand(t.Context(), keys("handed")); err != nil {
		t.Fatal(err)
	}
	until(t, b, "all is settled", func() bool { return w.count("outbox") == 0 && w.count("outage") == 0 })
	b.Close()
	want := slices.Sorted(slices.Values(append([]string{"handed"}, awkward...)))
	if got := redis.keys(); !slices.Equal(got, want) {
		t.Errorf("settled %q, owed %q", got, want)
	}
	if s := redis.sweeps(); len(s) != 1 || s[0].Barrier != "b:ü" || !slices.Equal(s[0].Globs, debt.Sweeps[0].Globs) {
		t.Errorf("sweeps %q", s)
	}
}

// In a database whose encoding lacks a key's characters the write itself may be fine, since they are in the key's template alone.
func TestInsertCarriesEveryKeyInEveryEncoding(t *testing.T) {
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		t.Run(encoding, func(t *testing.T) {
			w := newWorld(t)
			name := w.schema + "_db"
			w.exec("CREATE DATABASE " + name + " TEMPLATE template0 ENCODING '" + encoding + "' LC_COLLATE 'C' LC_CTYPE 'C'")
			t.Cleanup(func() {
				if _, err := w.db.ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
					t.Error(err)
				}
			})
			cfg, err := pgx.ParseConfig(w.dsn)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Database = name
			cfg.RuntimeParams["client_encoding"] = "UTF8"
			db := stdlib.OpenDB(*cfg)
			defer db.Close()
			there := &world{t: t, schema: w.schema, db: db}
			there.exec(Schema(w.schema))
			exercise(t, there, db)
		})
	}
}

// A commit of very many keys must neither be refused nor become one row that no batch can hold.
func TestManyKeysBecomeSeveralRows(t *testing.T) {
	w := newWorld(t)
	b := w.box(Options{})
	long := []string{strings.Repeat("a", 2*rowBytes), strings.Repeat("b", rowBytes), "c"}
	text, args := b.Insert(0, keys(append(numbered("user", 1200), long...)...))
	w.exec(text, args...)
	if n := w.count("outbox"); n != 6 {
		t.Errorf("%d rows", n)
	}
	until(t, b, "all is drained", func() bool { return w.count("outbox") == 0 })
	if n := b.Stats().Keys; n != 1203 {
		t.Errorf("%d keys settled", n)
	}
}

// plain hides that its base is pgx.
type plain struct{ base driver.Connector }

func (p plain) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := p.base.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return plainConn{c.(*stdlib.Conn)}, nil
}
func (p plain) Driver() driver.Driver { return p }
func (plain) Open(string) (driver.Conn, error) {
	return nil, errRedis
}

type plainConn struct{ c *stdlib.Conn }

func (p plainConn) Prepare(q string) (driver.Stmt, error) { return p.c.Prepare(q) }
func (p plainConn) Close() error                          { return p.c.Close() }
func (p plainConn) Begin() (driver.Tx, error)             { return p.c.Begin() }
func (p plainConn) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return p.c.BeginTx(ctx, o)
}
func (p plainConn) QueryContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Rows, error) {
	return p.c.QueryContext(ctx, q, args)
}
func (p plainConn) ExecContext(ctx context.Context, q string, args []driver.NamedValue) (driver.Result, error) {
	return p.c.ExecContext(ctx, q, args)
}

// Whoever uses another driver than pgx has no LISTEN, and everything else.
func TestABaseThatIsNotPgx(t *testing.T) {
	w := newWorld(t)
	cfg, err := pgx.ParseConfig(w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(plain{stdlib.GetConnector(*cfg)})
	defer db.Close()
	exercise(t, w, db)
}

// Behind a PgBouncer in transaction mode each statement may meet another session, and notifications never come.
func TestBehindPgBouncer(t *testing.T) {
	w := newWorld(t)
	cfg, err := pgx.ParseConfig(w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	testenv.NewPgBouncer(t, w.dsn, 3).Through(cfg)
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	db := stdlib.OpenDB(*cfg)
	defer db.Close()
	exercise(t, w, db)
}

// A program that opens and closes databases must get its goroutines and connections back, in an outage, too.
func TestCloseLeavesNothing(t *testing.T) {
	w := newWorld(t)
	db := open(t, w.dsn)
	warm := must(db.Conn(t.Context()))(t)
	warm.Close()
	before := runtime.NumGoroutine()
	for range 5 {
		redis := down()
		listening := newGate("listening")
		close(listening.pass)
		b := w.box(Options{DB: db, Settler: redis, Busy: time.Millisecond, Idle: time.Millisecond, seams: seams{after: newWaits().after, at: listening.at}})
		b.Start()
		receive(t, "LISTEN", listening.reached)
		b.Clear(t.Context())
		result := announceAside(t, b, t.Context())
		for !b.Announced() {
			runtime.Gosched()
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if a := receive(t, "the waiting writer", result); a.err == nil {
			t.Error("a writer may commit although nobody keeps its outage")
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if b.Clear(t.Context()) {
			t.Error("a closed Box allows to serve")
		}
		if _, err := b.Announce(t.Context(), true); err == nil {
			t.Error("a closed Box announces")
		}
	}
	if n := db.Stats().InUse; n != 0 {
		t.Errorf("%d connections are in use", n)
	}
	if w.count("outage") != 0 {
		t.Error("outages are left that nothing needs: others do not serve for half a minute")
	}
	db.Close()
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond) // database/sql ends its own goroutine after Close
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

// What a closing process has queued is left to others at once, not only when it is taken for dead.
func TestCloseLeavesItsOutageToOthers(t *testing.T) {
	w := newWorld(t)
	redis := down()
	b := w.box(Options{Settler: redis, DeadAfter: 24 * time.Hour, seams: seams{after: atOnce}})
	w.queue(b, keys("user:1"))
	b.Close()
	if w.count("outage") != 1 {
		t.Fatal("removed although its commit is not settled: stale reads")
	}
	other := w.box(Options{DeadAfter: 24 * time.Hour})
	until(t, other, "others remove it", func() bool { return w.count("outage") == 0 && w.count("outbox") == 0 })
}

// Every cached read of a strict rule asks whether it may be served: that must cost next to nothing.
func TestClearCostsNoAllocation(t *testing.T) {
	w := newWorld(t)
	b := w.box(Options{Watch: time.Hour})
	ctx := t.Context()
	if !b.Clear(ctx) {
		t.Fatal("no outage is there, and the reader may not serve")
	}
	if n := testing.AllocsPerRun(1000, func() { b.Clear(ctx) }); n != 0 {
		t.Errorf("%v allocations a read", n)
	}
	if n := b.Stats().Polls; n != 1 {
		t.Errorf("%d polls", n)
	}
}

func BenchmarkClear(b *testing.B) {
	box := New(Options{DB: sql.OpenDB(plain{}), Settler: newSettler(), Watch: time.Hour})
	box.sight.Store(&sight{sent: time.Now(), clear: true})
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !box.Clear(context.Background()) {
				b.Error("not clear")
			}
		}
	})
}
