package outbox

import (
	"testing"
	"time"
)

// A Redis that hung for a moment has failed a row or two. They must be tried again soon, and with them every process' readers hit again; one that
// is refused each time must cost less and less.
func TestARowThatFailedOnceIsTriedAgainSoon(t *testing.T) {
	w := newWorld(t)
	s := newSettler()
	s.refuseIf(func(Debt) error { return errRedis })
	b := w.box(Options{Settler: s})
	if err := b.Hand(t.Context(), keys("user:1")); err != nil {
		t.Fatal(err)
	}
	b.Close()                      // the worker's state is the test's from here
	b = w.box(Options{Settler: s}) // not started
	var last time.Duration
	for range 8 {
		if b.drain() == nil {
			t.Fatal("it was settled")
		}
		var row int64
		for row = range b.drainer.aside {
		}
		a := b.drainer.aside[row]
		if last == 0 && a.pause > refusedMin || last > 0 && a.pause != min(2*last, refusedMax) {
			t.Errorf("set aside for %v after %v", a.pause, last)
		}
		if b.drain() != nil {
			t.Error("it was tried again at once")
		}
		last = a.pause
		a.until = time.Now().Add(-time.Millisecond)
		b.drainer.aside[row] = a
	}
	s.refuseIf(nil)
	if err := b.drain(); err != nil || w.count("outbox") != 0 {
		t.Errorf("%v, %d rows are left", err, w.count("outbox"))
	}
}
