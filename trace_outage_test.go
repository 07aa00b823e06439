package wtcache_test

import (
	"context"
	"slices"
	"testing"

	"github.com/wtcache/wtcache"
)

// In an outage one must see that a write waited for the outbox, and afterwards that somebody has drained it. Whether Redis is out of
// reach is the first thing that an alert asks.
func TestSpansAndBreakerInAnOutage(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	spans := &seenSpans{}
	traced, _ := d.open(shelfSetup{redis: d.link.URL, config: func(c *wtcache.Config) {
		withOutboxIn(d.outbox)(c)
		c.Tracer = spans
	}})
	stats := func() wtcache.Stats {
		s, err := wtcache.StatsOf(traced)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if err := traced.Ping(); err != nil {
		t.Fatal(err)
	}
	d.link.Pause()
	ctx := context.WithValue(context.Background(), spanKey{}, "request")
	eventually(t, "the breaker is open", func() bool {
		if _, err := traced.ExecContext(ctx, "UPDATE goods SET n = n + 1 WHERE shelf = 1"); err != nil {
			t.Fatal(err)
		}
		return stats().BreakerOpen
	})
	if !d.hasSpan(spans, "wtcache.write>wtcache.queue") {
		t.Error("a write went to the outbox, and its span does not show it")
	}
	d.link.Resume()
	eventually(t, "the outbox is drained, under a span without a parent", func() bool {
		return d.hasSpan(spans, ">wtcache.drain") && !stats().BreakerOpen
	})
}

// hasSpan looks without waiting for spans to end.
func (d *depot) hasSpan(s *seenSpans, name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(one *seenSpan) bool { return one.parent+">"+one.name == name })
}
