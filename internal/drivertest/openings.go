package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/fakedriver"
	"github.com/wtcache/wtcache/internal/testenv"
)

// openingDSN belongs to the base, to the last blank.
const openingDSN = " host=there  user='a b' "

// opening is a way in which a program comes to its *sql.DB.
type opening struct {
	name      string
	connector func(*fakedriver.Base) driver.Connector // given to sql.OpenDB
	driver    func(*fakedriver.Base) driver.Driver    // or registered, and opened by its name
	closes    int                                     // how often the base's connector is to be closed
}

var openings = []opening{
	{name: "connector", connector: func(b *fakedriver.Base) driver.Connector { return b }},
	{name: "connector that can be closed", closes: 1,
		connector: func(b *fakedriver.Base) driver.Connector { return fakedriver.ClosingBase{Base: b} }},
	{name: "driver without a connector",
		driver: func(b *fakedriver.Base) driver.Driver { return fakedriver.DSNDriver{Base: b} }},
	{name: "driver with a connector",
		driver: func(b *fakedriver.Base) driver.Driver {
			return fakedriver.ContextDriver{DSNDriver: fakedriver.DSNDriver{Base: b}}
		}},
	{name: "driver with a connector that can be closed", closes: 1,
		driver: func(b *fakedriver.Base) driver.Driver {
			return fakedriver.ContextDriver{DSNDriver: fakedriver.DSNDriver{Base: b}, Closes: true}
		}},
}

// openingOps are what a base is asked on the way to a connection and back.
var openingOps = []fakedriver.Op{fakedriver.Open, fakedriver.OpenConnector, fakedriver.Connect, fakedriver.Close, fakedriver.CloseBase}

// exerciseOpenings opens a base in each of these ways: it has to be asked what it would be asked by itself, and what it
// answers has to reach the program.
func (target Target) exerciseOpenings(t *testing.T) {
	for _, o := range openings {
		t.Run("opening/"+o.name, func(t *testing.T) {
			t.Run("works", func(t *testing.T) { target.compareOpenings(t, o, "") })
			for _, op := range openingOps {
				t.Run("error of "+string(op), func(t *testing.T) { target.compareOpenings(t, o, op) })
			}
			if o.connector != nil { // a driver's Open takes no context
				t.Run("context that ends", func(t *testing.T) {
					want, got := target.cancelOpening(t, o, false), target.cancelOpening(t, o, true)
					if want != got || !strings.Contains(want, "is Canceled") {
						t.Errorf("the base by itself: %s; wrapped: %s", want, got)
					}
				})
			}
		})
	}
}

// compareOpenings opens both sides while one of the base's operations fails, or none.
func (target Target) compareOpenings(t *testing.T, o opening, failing fakedriver.Op) {
	t.Helper()
	want, plain := target.playOpening(t, o, failing, false)
	got, ours := target.playOpening(t, o, failing, true)
	if !slices.Equal(want, got) {
		t.Error(difference(want, got))
	}
	if shows := strings.Contains(strings.Join(want, "\n"), "is injected"); shows != (plain.Count(failing) > 0) {
		t.Errorf("the base by itself was asked %d times, and its error shows: %v", plain.Count(failing), shows)
	}
	closes := o.closes
	if ours.Count(fakedriver.OpenConnector) > 0 && failing == fakedriver.OpenConnector {
		closes = 0 // there is none
	}
	if n := ours.Count(fakedriver.CloseBase); n != closes {
		t.Errorf("the base's connector was closed %d times, want %d", n, closes)
	}
}

// playOpening opens, uses and closes a pool, and a connection of its driver's beside it.
func (target Target) playOpening(t *testing.T, o opening, failing fakedriver.Op, wrapped bool) (notes []string, _ *fakedriver.Base) {
	t.Helper()
	s := target.side(t, wrapped)
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		return fakedriver.Reply{Err: errInjected}, c.Op == failing
	})
	var err error
	if s.db, err = target.openAs(s, o); err != nil {
		s.note("open: %s", s.describe(err))
		return append(s.notes, s.asked()...), s.base.Fake
	}
	t.Cleanup(func() { _ = s.db.Close() }) // again, where all went well
	for range 2 {
		s.exec(s.db, writeOne, "x", 1)
		s.query(s.db, everything, returnAll, "x", 1)
	}
	s.settle()
	s.note("%s", s.pool())
	conn, err := s.db.Driver().Open(openingDSN)
	s.note("open of the pool's driver: %s", s.describe(err))
	if err == nil {
		s.note("close: %s", s.describe(conn.Close()))
	}
	s.note("close of the pool: %s, again %s", s.describe(s.db.Close()), s.describe(s.db.Close()))
	return append(s.notes, s.asked()...), s.base.Fake
}

// side gives a side whose base nobody has opened.
func (target Target) side(t *testing.T, wrapped bool) *side {
	t.Helper()
	s := &side{t: t, ctx: t.Context(), base: target.Open(t, usual), wrapped: wrapped}
	s.script(usualScript)
	return s
}

func (target Target) openAs(s *side, o opening) (*sql.DB, error) {
	s.t.Helper()
	b := s.base
	if o.connector != nil {
		if b.Connector = o.connector(b.Fake); s.wrapped {
			return target.Wrap(s.t, b)
		}
		return sql.OpenDB(b.Connector), nil
	}
	name := testenv.KeyPrefix(s.t) // database/sql keeps a name for good
	if s.wrapped {
		target.Register(s.t, name, o.driver(b.Fake))
	} else {
		sql.Register(name, o.driver(b.Fake))
	}
	return sql.Open(name, openingDSN)
}

// asked lists what the base was asked on the way to its connections and back, in order.
func (s *side) asked() (notes []string) {
	for _, c := range s.base.Fake.Calls() {
		if slices.Contains(openingOps, c.Op) {
			notes = append(notes, fmt.Sprintf("asked to %s of %q", c.Op, c.SQL))
		}
	}
	return notes
}

// cancelOpening ends the caller's context while the base connects.
func (target Target) cancelOpening(t *testing.T, o opening, wrapped bool) string {
	t.Helper()
	s := target.side(t, wrapped)
	never := make(chan struct{})
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		return fakedriver.Reply{Wait: never}, c.Op == fakedriver.Connect
	})
	var err error
	if s.db, err = target.openAs(s, o); err != nil {
		t.Fatal(err)
	}
	defer s.db.Close()
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	pinged := make(chan error, 1)
	go func() { pinged <- s.db.PingContext(ctx) }()
	s.until("a call of Connect", func() bool { return s.base.Fake.Count(fakedriver.Connect) == 1 })
	cancel()
	return s.describe(<-pinged)
}
