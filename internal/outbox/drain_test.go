package outbox

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// Two processes that drain at once must not do each other's work, and must between them do all of it.
func TestTwoDrainersShareTheRows(t *testing.T) {
	w := newWorld(t)
	all := numbered("user", 450)
	for _, k := range all {
		text, args := w.box(Options{}).Insert(0, keys(k))
		w.exec(text, args...)
	}
	redis, both := newSettler(), make(chan struct{}, 100)
	first := make(chan struct{})
	redis.before = func(Debt) { // the first batches are in hand at the same time
		select {
		case both <- struct{}{}:
			if len(both) == 2 {
				close(first)
			}
		default:
		}
		<-first
	}
	a, b := w.box(Options{Settler: redis}), w.box(Options{Settler: redis})
	a.Start()
	until(t, b, "the outbox is empty", func() bool { return w.count("outbox") == 0 })
	a.Close()
	b.Close()
	if got := redis.keys(); !slices.Equal(got, all) {
		t.Errorf("%d keys settled, %d owed: lost or done twice", len(got), len(all))
	}
	if a.Stats().Rows == 0 || b.Stats().Rows == 0 {
		t.Errorf("one did it all: %d and %d", a.Stats().Rows, b.Stats().Rows)
	}
}

// A drainer that dies after Redis has acknowledged and before its rows are deleted has them drained again; one that dies before loses nothing.
func TestACrashAfterSettlingDrainsAgain(t *testing.T) {
	w := newWorld(t)
	g := newGate("settled")
	redis := newSettler()
	b := w.box(Options{Settler: redis, seams: seams{at: g.at}})
	text, args := b.Insert(0, keys("user:1"))
	w.exec(text, args...)
	b.Start()
	receive(t, "the settled batch", g.reached)
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND state = 'idle in transaction' AND query LIKE '%` + w.schema + `"."outbox%' OR query LIKE '%` + w.schema + `".outbox%' AND state = 'idle in transaction'`)
	close(g.pass)
	until(t, b, "the row is drained again", func() bool { return w.count("outbox") == 0 })
	if got := redis.keys(); !slices.Equal(got, []string{"user:1", "user:1"}) {
		t.Errorf("settled %q", got)
	}
	if b.Stats().DrainErrors != 1 {
		t.Error("the session was not ended: the test has shown nothing")
	}
}

// A row that leaves before Redis has acknowledged is a stale entry for as long as its TTL.
func TestRowsStayUntilRedisHasAcknowledged(t *testing.T) {
	w := newWorld(t)
	redis := newSettler()
	redis.refuseIf(func(Debt) error { return errRedis })
	b := w.box(Options{Settler: redis})
	text, args := b.Insert(0, keys(numbered("user", 3)...))
	w.exec(text, args...)
	until(t, b, "a failed batch", func() bool { return b.Stats().DrainErrors > 0 })
	if w.count("outbox") != 1 {
		t.Fatal("rows have left that Redis has not acknowledged")
	}
	if err := b.Drained(t.Context()); !errors.Is(err, ErrNotDrained) {
		t.Errorf("got %v: reads would be served again too early", err)
	}
	redis.refuseIf(nil)
	b.Close()
	b = w.box(Options{Settler: redis})
	if err := b.Drained(t.Context()); err != nil || w.count("outbox") != 0 {
		t.Error(err)
	}
}

// A row that no version here can read, or that Redis refuses, must not keep the others' keys stale; and it must stay, and be told.
func TestARowThatCannotBeSettledHoldsNobodyUp(t *testing.T) {
	for _, c := range []struct{ name, debt string }{
		{"unknown field", `{"keys": ["a"], "from_a_newer_version": 1}`},
		{"no object", `["a"]`},
		{"null", `null`},
		{"nothing owed", `{}`},
		{"a sweep of nothing", `{"sweeps": [{"barrier": "b"}]}`},
		{"refused by redis", `{"keys": ["refused"]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			redis := newSettler()
			redis.refuseIf(func(d Debt) error {
				if slices.Contains(d.Keys, "refused") {
					return errRedis
				}
				return nil
			})
			told := make(chan error, 10)
			w.exec("INSERT INTO "+w.schema+".outbox (debt) VALUES ($1::text::json)", c.debt)
			b := w.box(Options{Settler: redis, Busy: time.Millisecond, OnError: func(err error) { told <- err }})
			all := numbered("user", 130)
			for _, k := range all {
				text, args := b.Insert(0, keys(k))
				w.exec(text, args...)
			}
			until(t, b, "all but one row are drained", func() bool { return w.count("outbox") == 1 })
			if got := redis.keys(); !slices.Equal(got, all) {
				t.Errorf("settled %d of %d", len(got), len(all))
			}
			for err := error(nil); err == nil || !strings.Contains(err.Error(), "row 1 of"); {
				err = receive(t, "a report that names the row", told)
			}
			if err := b.Drained(t.Context()); !errors.Is(err, ErrNotDrained) {
				t.Errorf("got %v: its keys are still old", err)
			}
		})
	}
}

// Nothing is taken while Redis is out of reach: locks on rows would only keep others from draining them.
func TestNothingIsTakenWhileRedisIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	redis := down()
	redis.before = func(Debt) { t.Error("Redis was asked") }
	b := w.box(Options{Settler: redis, seams: seams{after: atOnce}})
	if err := b.Hand(t.Context(), keys("user:1")); err != nil {
		t.Fatal(err)
	}
	must(b.Announce(t.Context(), true))(t).Done()
	rounds := 0
	until(t, b, "some rounds", func() bool { rounds++; return rounds > 5 })
	if w.count("outbox") != 1 {
		t.Error("the row has left")
	}
	if err := b.Drained(t.Context()); !errors.Is(err, ErrNotDrained) {
		t.Errorf("got %v: reads would be served although this process queues", err)
	}
	w.exec("DELETE FROM " + w.schema + ".outbox")
	if err := b.Drained(t.Context()); !errors.Is(err, ErrNotDrained) {
		t.Errorf("got %v: reads would be served although this process queues", err)
	}
	if w.count("outage") != 1 {
		t.Error("the outage is over although Redis is out of reach: each further write would announce anew, and wait")
	}
}

// What was handed over is settled by another process, which hears of it without waiting for its next look.
func TestHandWakesOthers(t *testing.T) {
	w := newWorld(t)
	listening, heard := newGate("listening"), newGate("heard")
	close(listening.pass)
	redis := newSettler()
	other := w.box(Options{Settler: redis, seams: seams{at: func(point string) { // looks once an hour
		listening.at(point)
		heard.at(point)
	}}})
	other.Start()
	receive(t, "LISTEN", listening.reached)
	dead := down()
	b := w.box(Options{Settler: dead})
	settled := make(chan struct{}, 10)
	redis.mu.Lock()
	redis.before = func(Debt) { settled <- struct{}{} }
	redis.mu.Unlock()
	debt := Debt{Keys: []string{"user:1"}, Sweeps: []Sweep{{Barrier: "b:user", Globs: []string{"user:*"}}}}
	if err := b.Hand(t.Context(), debt); err != nil {
		t.Fatal(err)
	}
	receive(t, "the notification", heard.reached)
	close(heard.pass)
	receive(t, "the other process settles it", settled)
	if s := b.Stats(); s.Handed != 2 {
		t.Errorf("%+v", s)
	}
}

// The whole table must not grow without limit while an outage lasts for hours: keys that a rule's glob covers become one sweep.
func TestALongOutageIsCollapsed(t *testing.T) {
	w := newWorld(t)
	redis := down()
	users := Sweep{Barrier: "b:user", Globs: []string{"user:*"}}
	b := w.box(Options{Settler: redis, MaxDepth: 100, seams: seams{after: atOnce}, Cover: func(key string) (Sweep, bool) {
		return users, strings.HasPrefix(key, "user:")
	}})
	ticket := must(b.Announce(t.Context(), true))(t)
	for i, k := range numbered("user", 1100) {
		if i%100 == 0 {
			w.queue(b, keys("order:"+k))
		}
		text, args := b.Insert(ticket.Outage(), keys(k))
		w.exec(text, args...)
	}
	ticket.Done()
	until(t, b, "what a sweep covers is collapsed", func() bool { return w.count("outbox") <= 11+2 })
	if s := b.Stats(); s.TooDeep == 0 || s.Collapsed < 1100 {
		t.Errorf("%+v", s)
	}
	other := newSettler()
	until(t, w.box(Options{Settler: other}), "all is drained", func() bool { return w.count("outbox") == 0 })
	if got := len(other.keys()); got != 11 {
		t.Errorf("%d keys that no sweep covers are settled, 11 are owed", got)
	}
	if got := other.sweeps(); len(got) == 0 || got[0].Barrier != users.Barrier || !slices.Equal(got[0].Globs, users.Globs) {
		t.Errorf("sweeps: %v: every user that was written in the outage stays stale", got)
	}
}

// A process that stands still in the middle of a batch must not keep its rows from all others: the server ends its transaction.
func TestTheServerEndsABatchThatStandsStill(t *testing.T) {
	w := newWorld(t)
	g := newGate("settled")
	b := w.box(Options{seams: seams{at: g.at, idle: 100 * time.Millisecond}})
	text, args := b.Insert(0, keys("user:1"))
	w.exec(text, args...)
	b.Start()
	receive(t, "the settled batch", g.reached)
	defer close(g.pass)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var n int
	err := w.db.QueryRowContext(ctx, "SELECT count(*) FROM (SELECT FROM "+w.schema+".outbox FOR UPDATE) AS mine").Scan(&n) // waits for the lock
	if err != nil || n != 1 {
		t.Fatalf("nobody else can drain the row: %d, %v", n, err)
	}
}
