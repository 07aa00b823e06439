package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache/internal/testenv"
)

// patience ends a test that hangs. No test's verdict depends on it.
const patience = 30 * time.Second

// world is a schema with the outbox's tables.
type world struct {
	t      *testing.T
	dsn    string
	schema string
	db     *sql.DB // the test's own view
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	w := &world{t: t, dsn: dsn, schema: schema, db: open(t, dsn)}
	w.exec(Schema(schema))
	return w
}

func open(t *testing.T, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open("pgx", dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func (w *world) exec(text string, args ...any) {
	w.t.Helper()
	if _, err := w.db.ExecContext(w.t.Context(), text, args...); err != nil {
		w.t.Fatalf("%s: %v", text, err)
	}
}

func (w *world) count(table string) (n int) {
	w.t.Helper()
	if err := w.db.QueryRowContext(w.t.Context(), "SELECT count(*) FROM "+w.schema+"."+table).Scan(&n); err != nil {
		w.t.Fatal(err)
	}
	return n
}

// box makes a Box that pauses for so long that it works only when it is woken, as far as options do not say otherwise.
func (w *world) box(o Options) *Box {
	w.t.Helper()
	if o.DB == nil {
		o.DB = open(w.t, w.dsn)
	}
	if o.Settler == nil {
		o.Settler = newSettler()
	}
	if o.Busy == 0 {
		o.Busy = time.Hour
	}
	if o.Idle == 0 {
		o.Idle = time.Hour
	}
	o.Schema = w.schema
	o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	b := New(o)
	w.t.Cleanup(func() { b.Close() })
	return b
}

// at once: an announcement need not be waited for.
func atOnce(time.Duration) <-chan time.Time {
	c := make(chan time.Time, 1)
	c <- time.Time{}
	return c
}

// queue commits a debt under the Box's outage, as the driver does.
func (w *world) queue(b *Box, d Debt) {
	w.t.Helper()
	ticket := must(b.Announce(w.t.Context(), true))(w.t)
	defer ticket.Done()
	text, args := b.Insert(ticket.Outage(), d)
	w.exec(text, args...)
}

func keys(k ...string) Debt { return Debt{Keys: k} }

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// serves ends the test unless a reader may serve while no outage is there. Its poll may be too slow for a reader's patience on a busy
// machine, and is then asked again.
func serves(t *testing.T, b *Box) {
	t.Helper()
	for end := time.Now().Add(patience); !b.Clear(t.Context()); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no outage is there, and the reader may not serve")
		}
	}
}

// until has the Box work until a condition holds.
func until(t *testing.T, b *Box, what string, holds func() bool) {
	t.Helper()
	b.Start()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		b.mu.Lock()
		round := b.rounds
		b.mu.Unlock()
		if holds() {
			return
		}
		b.Nudge()
		if !await(ctx, ctx, round) {
			t.Fatalf("never: %s", what)
		}
	}
}

func receive[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatalf("never: %s", what)
	}
	return v
}

// settler stands for Redis.
type settler struct {
	dead atomic.Bool

	mu      sync.Mutex
	settled []Debt
	refuse  func(Debt) error
	before  func(Debt) // outside of mu
}

func newSettler() *settler { return &settler{} }

// down is a Redis out of reach: what is announced stays announced.
func down() *settler {
	s := newSettler()
	s.dead.Store(true)
	return s
}

func (s *settler) Reachable() bool { return !s.dead.Load() }

var errRedis = errors.New("redis refuses")

func (s *settler) Settle(_ context.Context, d Debt) error {
	s.mu.Lock()
	refuse, before := s.refuse, s.before
	s.mu.Unlock()
	if before != nil {
		before(d)
	}
	if s.dead.Load() {
		return errRedis
	}
	if refuse != nil {
		if err := refuse(d); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settled = append(s.settled, d)
	return nil
}

func (s *settler) refuseIf(refuse func(Debt) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = refuse
}

func (s *settler) keys() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.settled {
		all = append(all, d.Keys...)
	}
	slices.Sort(all)
	return all
}

func (s *settler) sweeps() (all []Sweep) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.settled {
		all = append(all, d.Sweeps...)
	}
	return all
}

// gate holds whoever comes to a named point, once.
type gate struct {
	point   string
	reached chan struct{}
	pass    chan struct{}
	once    sync.Once
}

func newGate(point string) *gate {
	return &gate{point: point, reached: make(chan struct{}), pass: make(chan struct{})}
}

func (g *gate) at(point string) {
	if point == g.point {
		g.once.Do(func() {
			close(g.reached)
			<-g.pass
		})
	}
}

// clock is a clock that the test moves.
type clock struct{ nanos atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.nanos.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

func numbered(prefix string, n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("%s:%04d", prefix, i))
	}
	return all
}
