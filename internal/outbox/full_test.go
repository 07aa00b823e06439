package outbox

import (
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

func everything() []Sweep { return []Sweep{{Barrier: "b", Globs: []string{"user:*"}}} }

// fullBox queues enough that everything is owed.
func (w *world) fullBox(s *settler, c *clock) *Box {
	w.t.Helper()
	o := Options{Settler: s, Everything: everything, FullAfter: 3, seams: seams{after: atOnce}}
	if c != nil {
		o.seams.now = c.now
	}
	b := w.box(o)
	w.queue(b, keys("user:1", "user:2"))
	if b.Full() != nil {
		w.t.Fatal("everything is owed too early: entries are lost for nothing")
	}
	w.queue(b, keys("user:3"))
	waitFor(w.t, "everything is owed", func() bool {
		ticket := b.Full()
		if ticket != nil {
			ticket.Done()
		}
		return ticket != nil
	})
	return b
}

// A long outage costs no row for each commit. What stands for those commits is not settled before the last of them is over, by
// whoever reaches Redis: else their old entries would be served again.
func TestALongOutageOwesEverything(t *testing.T) {
	w := newWorld(t)
	s := down()
	b, other := w.fullBox(s, nil), newSettler()
	if ticket := must(b.Announce(t.Context(), true))(t); !ticket.Full() {
		t.Error("commits of transactions go on being queued one by one")
	} else {
		ticket.Done()
	}
	ticket := b.Full()
	helper := w.box(Options{Settler: other})
	until(t, helper, "single keys are drained", func() bool { return w.count("outbox WHERE NOT held") == 0 })
	if len(other.sweeps()) > 0 {
		t.Fatal("what stands for later commits was settled before them")
	}
	s.dead.Store(false)
	if none, err := b.withdraw(t.Context()); none || err != nil {
		t.Fatalf("withdrawn while a commit is under way: %v, %v", none, err)
	}
	ticket.Done()
	until(t, b, "the outage is over", func() bool { return !b.Announced() })
	if n := len(s.sweeps()) + len(other.sweeps()); n == 0 {
		t.Error("the outage is over and its commits' old entries are still there")
	}
	if w.count("outbox") != 0 || w.count("outage") != 0 {
		t.Error("something is left")
	}
	if b.Full() != nil {
		t.Error("a commit after the outage would be told to nobody")
	}
}

// A process that may count as dead must not go on under what others may have settled in its place.
func TestAPausedOwnerIsNotFull(t *testing.T) {
	w := newWorld(t)
	c := newClock()
	b := w.fullBox(down(), c)
	out := b.outage
	ticket := b.Full()
	c.advance(15 * time.Second)
	if b.Full() != nil || ticket.Full() {
		t.Fatal("a process that was paused commits as if it had not been")
	}
	b.renew(out)
	if !ticket.Full() {
		t.Error("a process that others know to be alive queues each commit")
	}
	ticket.Done()
	w.exec("UPDATE " + w.schema + ".outage SET seen_at = now() - interval '1 day'")
	other := newSettler()
	until(t, w.box(Options{Settler: other}), "the dead owner's outage is over", func() bool { return w.count("outage") == 0 })
	if len(other.sweeps()) == 0 {
		t.Error("the commits of a process that died are forgotten: stale entries")
	}
	b.renew(out)
	if b.Announced() || b.Full() != nil {
		t.Error("its owner takes no notice")
	}
}

// A process that counts as dead cannot come back to life: others may be about to settle in its place.
func TestTheDeadDoNotRenew(t *testing.T) {
	w := newWorld(t)
	b := w.fullBox(down(), nil)
	out := b.outage
	w.exec("UPDATE " + w.schema + ".outage SET seen_at = now() - interval '1 day'")
	b.renew(out)
	if b.Announced() {
		t.Error("it goes on under an outage that others may end at any moment")
	}
}

// Close gives back what was held for commits that can no longer come.
func TestCloseReleasesEverything(t *testing.T) {
	w := newWorld(t)
	b := w.fullBox(down(), nil)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if w.count("outbox WHERE held") != 0 {
		t.Error("nobody settles it before the process counts as dead")
	}
}

func waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// The answer to putting everything into the outbox can be lost. What is held back then must be let go of all the same, or the outage, and with
// it every read of the database, lasts until the process ends.
func TestEverythingIsLetGoOfWhenItsAnswerWasLost(t *testing.T) {
	w := newWorld(t)
	proxy := testenv.ProxyURL(t, w.dsn)
	s := down()
	b := w.box(Options{DB: open(t, proxy.URL), Settler: s, Everything: everything, FullAfter: 3, seams: seams{after: atOnce}})
	cut := proxy.CutReply("d.value, true")
	w.queue(b, keys("user:1", "user:2", "user:3"))
	receive(t, "the answer is lost", cut)
	waitFor(t, "the attempt is over", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.outage.holders == 0 })
	if w.count("outbox WHERE held") != 1 {
		t.Fatal("it was not put there")
	}
	s.dead.Store(false)
	until(t, b, "the outage is over", func() bool { return w.count("outage") == 0 && w.count("outbox") == 0 })
}

// Once everything may have been let go of, others may settle it at any moment: no later commit may rely on it.
func TestNothingIsFullOnceItMayHaveBeenLetGoOf(t *testing.T) {
	w := newWorld(t)
	proxy := testenv.ProxyURL(t, w.dsn)
	s := down()
	b := w.box(Options{DB: open(t, proxy.URL), Settler: s, Everything: everything, FullAfter: 1, seams: seams{after: atOnce}})
	w.queue(b, keys("user:1"))
	waitFor(t, "everything is owed", func() bool {
		ticket := b.Full()
		if ticket != nil {
			ticket.Done()
		}
		return ticket != nil
	})
	cut := proxy.CutReply("SET held = false")
	if _, err := b.withdraw(t.Context()); err == nil {
		t.Fatal("the lost answer went unnoticed")
	}
	receive(t, "the answer is lost", cut)
	if b.Full() != nil {
		t.Error("commits go on without a row of their own, and what stood for them may be settled already: stale entries")
	}
	s.dead.Store(false)
	until(t, b, "the outage is over", func() bool { return w.count("outage") == 0 && w.count("outbox") == 0 })
}

// A process that was stopped for longer than others wait, with a commit under way, has to know that they may have settled before it.
func TestATicketOfAStoppedProcessIsNotKept(t *testing.T) {
	w := newWorld(t)
	c := newClock()
	b := w.fullBox(down(), c)
	ticket := b.Full()
	c.advance(29 * time.Second)
	if !ticket.Kept() {
		t.Error("what it owes is settled twice for nothing")
	}
	c.advance(time.Second)
	if ticket.Kept() {
		t.Error("a stale entry would stay: nobody settles it after the commit")
	}
	ticket.Done()
}
