package wtcache_test

import (
	"slices"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
)

// heldUp runs a large write that another transaction holds up, calls fn meanwhile, and lets it go on.
func heldUp(t *testing.T, h *shelf, text string, fn func()) {
	t.Helper()
	lock, err := h.plain.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }() // ended below, unless the test fails
	if _, err := lock.Exec("SELECT FROM crowd WHERE id = 9 FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := h.db.Exec(text)
		done <- err
	}()
	fn()
	if err := lock.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "the write", done); err != nil {
		t.Errorf("%s: %v", text, err)
	}
}

// While a large write runs values are deleted. Readers who come meanwhile store the old rows once more, which must be gone when it
// has returned.
func TestSweepAheadOfALargeWrite(t *testing.T) {
	t.Parallel()
	h := newShelf(t, countedSetup())
	wantCrowdRows(t, h, 0)
	heldUp(t, h, "UPDATE crowd SET n = n + 1", func() {
		eventually(t, "deleted while the statement runs", func() bool { return !h.there("c:1") && !h.there("n:name 9") })
		wantCrowdRows(t, h, 0)
		if !h.there("c:1") {
			t.Error("a reader's entry was not stored")
		}
	})
	wantCrowdRows(t, h, 1)
}

// Sweeps do not look for the headers of rules that have none. Were they told so of one that has, a sweep would leave each of
// them until it expires.
func TestSweepsLookForHeadersWhereARuleHasThem(t *testing.T) {
	for format, want := range map[rules.Format]bool{
		rules.FormatEnvelope: false, rules.FormatHash: false, rules.FormatPlain: true, rules.FormatVersioned: true,
	} {
		rule := &rules.Rule{Entries: []*rules.Entry{{Format: rules.FormatEnvelope}, {Format: format}}}
		if got := wtcache.HasHeaders(rule); got != want {
			t.Errorf("%s: %t", format, got)
		}
	}
}

// A rollback costs nothing in Redis: in a transaction of the caller's nothing is deleted before its COMMIT.
func TestLargeWriteThatIsRolledBackDeletesNothing(t *testing.T) {
	t.Parallel()
	h := newShelf(t, countedSetup())
	const text = "UPDATE crowd SET n = n + 1"
	h.exec(text) // is known as large then
	wantCrowdRows(t, h, 1)
	h.wantCost("rolled back", againCost, func() { h.inTx(false, text) })
	for _, key := range []string{"c:1", "c:9", "n:name 1", "n:name 9"} {
		if !h.there(key) {
			t.Errorf("%s is gone", key)
		}
	}
}

// Redis that goes away while values are deleted must not fail the write, nor leave the old rows to readers.
func TestSweepAheadLosesRedis(t *testing.T) {
	t.Parallel()
	s := countedSetup()
	link := testenv.ProxyURL(t, testenv.RealRedis(t))
	s.redis = link.URL
	bound := s.config
	s.config = func(c *wtcache.Config) {
		bound(c)
		c.RedisTimeout = 200 * time.Millisecond
	}
	h := newShelf(t, s)
	h.rdb = redisClient(t, testenv.RealRedis(t))
	wantCrowdRows(t, h, 0)
	heldUp(t, h, "UPDATE crowd SET n = n + 1", func() {
		eventually(t, "deleted while the statement runs", func() bool { return !h.there("c:1") })
		link.Pause()
		link.Cut()
	})
	wantCrowdRows(t, h, 1)
	link.Resume()
	wantCrowdRows(t, h, 1)
}

// A large write that waited for Redis to answer what nobody needs would keep its rows locked for others.
func TestLargeWriteDoesNotWaitForTheWalkAhead(t *testing.T) {
	t.Parallel()
	s := countedSetup()
	link := testenv.ProxyURL(t, testenv.RealRedis(t))
	s.redis = withParameter(link.URL, "read_timeout="+(4*patience).String())
	bound := s.config
	s.config = func(c *wtcache.Config) {
		bound(c)
		c.RedisTimeout, c.FenceLife = 4*patience, 20*patience
	}
	h := newShelf(t, s)
	wantCrowdRows(t, h, 0)
	trap := link.HoldRequest("\r\ndel\r\n")
	t.Cleanup(trap.Release) // else the end of the test would wait for it
	heldUp(t, h, "UPDATE crowd SET n = n + 1", func() { await(t, "a deletion", trap.Reached()) })
	wantCrowdRows(t, h, 1)
	trap.Release() // the deletion arrives late: a miss
	wantCrowdRows(t, h, 1)
}

// What is deleted ahead must be nothing that the sweep has to wait for itself.
func TestNothingIsDeletedAhead(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rule string
		want bool
	}{
		"any other rule": {want: true},
		"wait_replicas":  {rule: "wait_replicas: 1\n"},
		"eventual":       {rule: "consistency: eventual\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := countedSetup()
			s.rules["crowd"] += c.rule
			h := newShelf(t, s)
			h.exec("UPDATE crowd SET n = 1 WHERE id = 1")
			heldUp(t, h, "UPDATE crowd SET n = n + 1", func() {
				ahead := func() bool {
					h.sent.mu.Lock()
					defer h.sent.mu.Unlock()
					return slices.Contains(h.sent.names, "scan")
				}
				if c.want {
					eventually(t, "it walks ahead", ahead)
				}
				h.awaitsRow(t)
				if ahead() != c.want {
					t.Errorf("it walks ahead: %t, want %t", ahead(), c.want)
				}
			})
		})
	}
}

// awaitsRow waits until a session waits for another's row of the crowd.
func (h *shelf) awaitsRow(t *testing.T) {
	t.Helper()
	eventually(t, "it waits", func() (waiting bool) {
		if err := h.plain.QueryRow(`SELECT EXISTS (SELECT FROM pg_locks held JOIN pg_locks waiting USING (pid)
			WHERE held.relation = 'crowd'::regclass AND held.granted AND NOT waiting.granted)`).Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting
	})
}
