package linear

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// A check that takes a wrong history for a right one proves nothing of the cache; one that takes a right one for a wrong one
// makes every run of it fail.
func TestCheck(t *testing.T) {
	const w, r = Upsert, Read
	for _, c := range []struct {
		name string
		ops  []Op // the times are call and return
		want porcupine.CheckResult
	}{
		{"nothing", nil, porcupine.Ok},
		{"the first value", []Op{{Kind: r, Value: 0, Call: 1, Return: 2}}, porcupine.Ok},
		{"a value that nobody has written", []Op{{Kind: r, Value: 7, Call: 1, Return: 2}}, porcupine.Illegal},
		{"new after it", []Op{{Kind: w, Value: 1, Call: 1, Return: 2}, {Kind: r, Value: 1, Call: 3, Return: 4}}, porcupine.Ok},
		{"old after it", []Op{{Kind: w, Value: 1, Call: 1, Return: 2}, {Kind: r, Value: 0, Call: 3, Return: 4}}, porcupine.Illegal},
		{"old beside it", []Op{{Kind: w, Value: 1, Call: 1, Return: 5}, {Kind: r, Value: 0, Call: 3, Return: 4}}, porcupine.Ok},
		{"new before it was sent", []Op{{Kind: r, Value: 1, Call: 1, Return: 2}, {Kind: w, Value: 1, Call: 3, Return: 4}}, porcupine.Illegal},
		{"old after another has seen the new", []Op{{Kind: w, Value: 1, Call: 1, Return: 9}, {Kind: r, Value: 1, Call: 2, Return: 3}, {Kind: r, Value: 0, Call: 4, Return: 5}}, porcupine.Illegal},
		{"beside each other, both orders", []Op{{Kind: w, Value: 1, Call: 1, Return: 5}, {Kind: w, Value: 2, Call: 1, Return: 5}, {Kind: r, Value: 1, Call: 6, Return: 7}}, porcupine.Ok},
		{"to and fro", []Op{{Kind: w, Value: 1, Call: 1, Return: 5}, {Kind: w, Value: 2, Call: 1, Return: 5}, {Kind: r, Value: 1, Call: 6, Return: 7}, {Kind: r, Value: 2, Call: 8, Return: 9}}, porcupine.Illegal},
		{"another key's", []Op{{Kind: w, Value: 1, Call: 1, Return: 2}, {Key: 1, Kind: r, Value: 1, Call: 3, Return: 4}}, porcupine.Illegal},
		{"each key by itself", []Op{{Kind: w, Value: 1, Call: 1, Return: 2}, {Key: 1, Kind: r, Value: 0, Call: 3, Return: 4}}, porcupine.Ok},
		{"deleted", []Op{{Kind: Delete, Call: 1, Return: 2}, {Kind: r, Value: Absent, Call: 3, Return: 4}}, porcupine.Ok},
		{"there although deleted", []Op{{Kind: Delete, Call: 1, Return: 2}, {Kind: r, Value: 0, Call: 3, Return: 4}}, porcupine.Illegal},
		{"deleted twice", []Op{{Kind: Delete, Call: 1, Return: 2}, {Kind: Delete, Call: 3, Return: 4}}, porcupine.Illegal},
		{"updated after it was deleted", []Op{{Kind: Delete, Call: 1, Return: 2}, {Kind: Update, Value: 1, Call: 3, Return: 4}}, porcupine.Illegal},
		{"inserted again", []Op{{Kind: Delete, Call: 1, Return: 2}, {Kind: Insert, Value: 1, Call: 3, Return: 4}, {Kind: r, Value: 1, Call: 5, Return: 6}}, porcupine.Ok},
		{"inserted where it is", []Op{{Kind: Insert, Value: 1, Call: 1, Return: 2}}, porcupine.Illegal},
		{"in doubt and never seen", []Op{{Kind: Update, Value: 1, Call: 1, Return: 2, InDoubt: true}, {Kind: r, Value: 0, Call: 3, Return: 4}}, porcupine.Ok},
		{"in doubt and seen late", []Op{{Kind: Update, Value: 1, Call: 1, Return: 2, InDoubt: true}, {Kind: r, Value: 0, Call: 3, Return: 4}, {Kind: r, Value: 1, Call: 5, Return: 6}}, porcupine.Ok},
		{"in doubt, seen and gone", []Op{{Kind: Update, Value: 1, Call: 1, Return: 2, InDoubt: true}, {Kind: r, Value: 1, Call: 3, Return: 4}, {Kind: r, Value: 0, Call: 5, Return: 6}}, porcupine.Illegal},
		{"in doubt and deleted before the end", []Op{{Kind: Update, Value: 1, Call: 1, Return: 2, InDoubt: true}, {Kind: Delete, Call: 3, Return: 4}, {Kind: r, Value: Absent, Call: 5, Return: 6}}, porcupine.Ok},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := NewHistory(0)
			h.ops = c.ops
			v := h.Check(time.Minute)
			if v.Result != c.want || (len(v.Broken) == 1) != (c.want == porcupine.Illegal) {
				t.Errorf("%v", v)
			}
		})
	}
}

// Who is shown a violation must be shown which read it is.
func TestBrokenNamesWhatDoesNotFit(t *testing.T) {
	h := NewHistory(0)
	h.ops = []Op{
		{Key: 3, Kind: Update, Value: 1, Call: 1, Return: 2},
		{Client: 4, Key: 3, Kind: Read, Value: 0, Call: 3, Return: 4, Way: "Get"},
		{Key: 3, Kind: Read, Value: 1, Call: 5, Return: 6},
	}
	v := h.Check(time.Minute)
	if v.Stale != 1 {
		t.Errorf("%d stale reads", v.Stale)
	}
	if len(v.Broken) != 1 || v.Broken[0].Stuck != h.ops[1] || !strings.Contains(v.Broken[0].String(), "client 4, key 3: read 0 (Get)") {
		t.Fatalf("%v %v", v, v.Broken)
	}
	var page strings.Builder
	if err := v.Broken[0].Visualize(&page); err != nil || !strings.Contains(page.String(), "client 4, key 3") {
		t.Errorf("%v, %d bytes", err, page.Len())
	}
}

func TestRun(t *testing.T) {
	var done atomic.Int64
	if err := Run(3, 100, 1, func(int, *rand.Rand) error { done.Add(1); return nil }); err != nil || done.Load() != 100 {
		t.Errorf("%d calls, %v", done.Load(), err)
	}
	broken := errors.New("broken")
	if err := Run(3, 1<<40, 1, func(client int, _ *rand.Rand) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("an error did not end the run: %v", err)
	}
}

// The same seed gives the same pauses, or else a seed would tell nothing.
func TestDelaysFollowTheirSeed(t *testing.T) {
	a, b := NewDelays(5, 2, time.Second), NewDelays(5, 2, time.Second)
	var none, some int
	for range 100 {
		d := a.draw()
		if d != b.draw() || d < 0 || d > time.Second {
			t.Fatalf("%v", d)
		}
		if d == 0 {
			none++
		} else {
			some++
		}
	}
	if none == 0 || some == 0 {
		t.Errorf("%d pauses and %d none", some, none)
	}
}
