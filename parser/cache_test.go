package parser

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// Without it the driver would plan by a text that is not the caller's.
func TestCacheFindsExactTexts(t *testing.T) {
	c := NewCache[int](100, 1<<20)
	c.Put("SELECT 1", 1)
	c.Put("SELECT 2", 2)
	c.Put("SELECT 1", 3)
	for text, want := range map[string]int{"SELECT 1": 3, "SELECT 2": 2} {
		if got, ok := c.Get(text); !ok || got != want {
			t.Errorf("%s: %d, %t", text, got, ok)
		}
	}
	if _, ok := c.Get("select 1"); ok {
		t.Error("found another text")
	}
	if c.Len() != 2 || c.Bytes() != len("SELECT 1SELECT 2") {
		t.Errorf("%d entries, %d bytes", c.Len(), c.Bytes())
	}
}

// Without it programs that build texts with literals would grow without end.
func TestCacheKeepsItsBounds(t *testing.T) {
	for _, bound := range []struct{ entries, bytes int }{{10, 1 << 20}, {5000, 8 << 20}, {1000, 4000}, {1, 100}, {0, 0}, {-1, -1}} {
		c := NewCache[int](bound.entries, bound.bytes)
		for i := range 3000 {
			c.Put(fmt.Sprintf("SELECT %d%s", i, strings.Repeat(" ", i%50)), i)
			c.Get(fmt.Sprintf("SELECT %d%s", i, strings.Repeat(" ", i%50)))
		}
		if c.Len() > max(0, bound.entries) || c.Bytes() > max(0, bound.bytes) {
			t.Errorf("%+v: %d entries, %d bytes", bound, c.Len(), c.Bytes())
		}
		if bound.entries > 0 && c.Len() == 0 {
			t.Errorf("%+v: keeps nothing", bound)
		}
	}
}

// Without it one long generated text would push everything else out.
func TestCacheRefusesLongTexts(t *testing.T) {
	c := NewCache[int](100, 64<<20)
	fits, long := strings.Repeat("x", maxCachedText), strings.Repeat("x", maxCachedText+1)
	c.Put(fits, 1)
	c.Put(long, 1)
	if _, ok := c.Get(long); ok {
		t.Error("a text over the limit was kept")
	}
	if _, ok := c.Get(fits); !ok {
		t.Error("a text at the limit was not kept")
	}
}

// Without it a burst of one-off texts would push out the statements that the
// program runs all the time.
func TestCacheKeepsWhatIsUsed(t *testing.T) {
	c := NewCache[int](8, 1<<20)
	c.Put("hot", 1)
	for i := range 1000 {
		c.Put(fmt.Sprint("cold", i), i)
		if _, ok := c.Get("hot"); !ok {
			t.Fatalf("the hot text went after %d others", i)
		}
	}
}

// Without it concurrent callers could see a torn or foreign plan.
func TestCacheConcurrently(t *testing.T) {
	c := NewCache[string](256, 64<<20)
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 2000 {
				text := fmt.Sprint("SELECT ", (i*7+w)%400)
				if got, ok := c.Get(text); ok && got != text {
					t.Errorf("%q for %q", got, text)
				}
				c.Put(text, text)
			}
		})
	}
	group.Wait()
	if c.Len() > 256 {
		t.Errorf("%d entries", c.Len())
	}
}

// Without it each query would feed the garbage collector.
func TestCacheGetDoesNotAllocate(t *testing.T) {
	c := NewCache[*Statement](100, 1<<20)
	c.Put(query200, &Statement{})
	c.Put(query200, &Statement{})
	for _, text := range []string{query200, smallUpdate} {
		if n := testing.AllocsPerRun(100, func() { c.Get(text); c.Again(text) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	}
}

// Without it a program whose texts never repeat would copy a part of the cache for each, and two
// texts that take turns would keep each other out of it.
func TestCacheKnowsWhatCameBefore(t *testing.T) {
	c := NewCache[int](1000, 1<<20)
	early, known := 0, 0
	for i := range 500 {
		if c.Again(fmt.Sprint("SELECT ", i)) {
			early++
		}
	}
	for i := range 500 {
		if c.Again(fmt.Sprint("SELECT ", i)) {
			known++
		}
	}
	if early > 2 || known < 450 { // it may take one text for another, and forgets some
		t.Errorf("of 500 texts %d were known before they came and %d afterwards", early, known)
	}
	for i := range 100_000 {
		c.Again(fmt.Sprint("INSERT ", i))
	}
	if c.Len() != 0 {
		t.Error("asking keeps a text")
	}
	for i := range 300 {
		a, b := fmt.Sprint("a", i), fmt.Sprint("b", i)
		known := 0
		for range 3 {
			for _, text := range []string{a, b} {
				if c.Again(text) {
					known++
				}
			}
		}
		if known < 4 {
			t.Errorf("%s and %s, in turn: known %d times of 6", a, b, known)
		}
	}
}

// A shape holds far more than its text: INSERTs of many rows, each number of rows a shape of its own, must not fill the memory.
func TestCacheCountsWhatShapesHold(t *testing.T) {
	c := NewCache[int](1000, 4*maxCachedText)
	text := func(rows int) string {
		return "INSERT INTO t (a, b) VALUES " + strings.Repeat("(1, 'x'), ", rows) + "(1, 'x')"
	}
	for rows := range 500 {
		var s Shape
		if !s.Read(text(rows)) {
			t.Fatal("no shape")
		}
		if c.KeepsShape(&s) {
			c.PutShape(&s, rows)
		}
		if most := 4 * maxCachedText; c.Bytes() > most {
			t.Fatalf("%d bytes are kept, the bound is %d", c.Bytes(), most)
		}
	}
	held := 0
	for rows := range 500 {
		var s Shape
		s.Read(text(rows))
		if v, ok := c.GetShape(&s); ok {
			if held++; v != rows {
				t.Errorf("the shape of %d rows gives the value of %d", rows, v)
			}
		}
	}
	if held == 0 || held > 4*maxCachedText/(2*slotBytes) {
		t.Errorf("%d of 500 shapes are kept", held)
	}
	var huge Shape
	if huge.Read(text(3000)); c.KeepsShape(&huge) {
		t.Error("a shape that holds more than the bound is to be kept")
	}
}
