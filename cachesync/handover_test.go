package cachesync

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// handedOver takes over what a client owes, or does not.
type handedOver struct {
	mu     sync.Mutex // guards the rest
	refuse error
	tries  int
	keys   []string
	sweeps []OwedSweep
	during func() // called within each take-over
}

func (h *handedOver) take(_ context.Context, keys []string, sweeps []OwedSweep) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tries++
	if h.during != nil {
		h.during()
	}
	if h.refuse != nil {
		return h.refuse
	}
	h.keys, h.sweeps = append(h.keys, keys...), append(h.sweeps, sweeps...)
	return nil
}

func (h *handedOver) set(refuse error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuse = refuse
}

func (h *handedOver) tried() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tries
}

func indebted(t *testing.T, h *handedOver, after time.Duration) (*Client, *testenv.Proxy) {
	t.Helper()
	link := testenv.ProxyURL(t, testenv.RealRedis(t))
	c := newTestClient(t, dial(t, link.URL), Options{Deadline: 50 * time.Millisecond, HandOver: h.take, HandOverAfter: after})
	link.Pause()
	return c, link
}

// A debt that nobody takes must stay: one that is forgotten is a stale entry for good.
func TestADebtStaysUntilSomebodyHasIt(t *testing.T) {
	h := &handedOver{refuse: errors.New("no database")}
	c, _ := indebted(t, h, time.Millisecond)
	key := testenv.KeyPrefix(t) + "1"
	c.Owe([]string{key})
	c.OweSweep("", []string{key + "*"})
	eventually(t, "it is offered more than once", func() bool { return h.tried() > 1 })
	if c.Owed() != 2 || !c.Owes(key) {
		t.Fatalf("%d debts are left, although nobody has taken any", c.Owed())
	}
	h.set(nil)
	if err := c.WaitOwed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(h.keys, []string{key}) || len(h.sweeps) != 1 || h.sweeps[0].Globs[0] != key+"*" {
		t.Errorf("taken were %q and %v", h.keys, h.sweeps)
	}
	if n := c.Stats().OwedHandedOver; n != 2 {
		t.Errorf("%d debts are counted as handed over", n)
	}
}

// What is owed anew while the same key is being handed over is another commit's: the older row of the outbox may be settled before it.
func TestADebtOwedAnewMeanwhileStays(t *testing.T) {
	h := &handedOver{}
	c, link := indebted(t, h, time.Millisecond)
	key := testenv.KeyPrefix(t) + "1"
	anew := sync.OnceFunc(func() { c.Owe([]string{key}) })
	h.during = anew
	c.Owe([]string{key})
	eventually(t, "both are taken", func() bool { return h.tried() > 1 && c.Owed() == 0 })
	if !slices.Equal(h.keys, []string{key, key}) {
		t.Errorf("taken were %q", h.keys)
	}
	link.Resume()
}

// Before its time a debt is settled from memory, which costs the database nothing.
func TestADebtIsNotHandedOverAtOnce(t *testing.T) {
	h := &handedOver{}
	c, link := indebted(t, h, time.Hour)
	c.Owe([]string{testenv.KeyPrefix(t) + "1"})
	eventually(t, "it is tried", func() bool { return c.Stats().Retries > 1 })
	link.Resume()
	if err := c.WaitOwed(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h.tried() != 0 {
		t.Error("it was handed over")
	}
}

// The end of a process is the last chance.
func TestCloseHandsOver(t *testing.T) {
	h := &handedOver{}
	c, _ := indebted(t, h, time.Hour)
	var keys []string
	for i := range 3 {
		keys = append(keys, testenv.KeyPrefix(t)+string(rune('a'+i)))
	}
	c.Owe(keys)
	if err := c.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	slices.Sort(h.keys)
	slices.Sort(keys)
	if !slices.Equal(h.keys, keys) {
		t.Errorf("taken were %q", h.keys)
	}
	other, _ := indebted(t, &handedOver{refuse: errors.New("no database")}, time.Hour)
	other.Owe(keys)
	if err := other.Close(); !errors.Is(err, ErrDebtsLost) {
		t.Errorf("Close: %v, and debts are lost", err)
	}
}
