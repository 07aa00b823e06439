package wtcache_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// A Redis that hangs takes connections and says nothing. Whatever a program calls meanwhile has to come back, done: else its users wait for
// a cache. And once the breaker knows, nothing may so much as ask Redis, before everything is owed and after.
func TestNoCallIsHeldByAHungRedis(t *testing.T) {
	for name, most := range map[string]int{"keys are queued": 1 << 20, "everything is owed": 1} {
		t.Run(name, func(t *testing.T) {
			server, sent := testenv.NewRedis(t), &commands{}
			l := newLedger(t, ledgerSetup{redis: server.URL, hook: sent, config: withOutbox(t, testenv.Outbox(t, testenv.Postgres(t)), func(c *wtcache.Config) {
				c.MaxQueuedKeys = most
			})})
			l.warm(1, 2, 3)
			server.Pause()
			for _, k := range kindsOfCall {
				if err := returns(t, k.name+" while nobody knows that Redis hangs", func() error { return k.call(context.Background(), l) }); err != nil {
					t.Errorf("%s while nobody knows that Redis hangs: %v", k.name, err)
				}
			}
			if most == 1 {
				l.owesAll()
			}
			eventually(t, "the breaker opens", func() bool {
				l.exec(setFenceFirst, 1, 1)
				return l.stats().Redis.BreakerOpens > 0
			})
			for _, k := range kindsOfCall {
				eventually(t, k.name+" leaves Redis alone", func() bool {
					words := sent.during(func() {
						if err := returns(t, k.name, func() error { return k.call(context.Background(), l) }); err != nil {
							t.Errorf("%s: %v", k.name, err)
						}
					})
					// One call in a while finds out whether Redis is back: ours, or a reader's.
					return !slices.ContainsFunc(words, func(word string) bool { return word != "ping" })
				})
			}
			if err := returns(t, "Close beside a Redis that hangs", l.db.Close); err != nil {
				t.Errorf("Close: %v", err)
			}
			server.Resume()
		})
	}
}

// The first write of an outage waits until every reader knows. Who has less time than that must get an error when it is over, and
// nothing committed: a caller that has given up must not find its write done.
func TestAnnouncementEndsWithItsCaller(t *testing.T) {
	server := testenv.NewRedis(t)
	l := newLedger(t, ledgerSetup{redis: server.URL, config: withOutbox(t, testenv.Outbox(t, testenv.Postgres(t)), func(c *wtcache.Config) { c.Watch = time.Hour })})
	server.Pause()
	defer server.Resume()
	for _, k := range kindsOfCall[:4] {
		ctx, cancel := context.WithTimeout(context.Background(), 600*time.Millisecond)
		err := returns(t, k.name, func() error { return k.call(ctx, l) })
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, with an hour to wait: %v", k.name, err)
		}
	}
	for id := range 6 {
		l.wantRow(id+1, 0)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	waiting := make(chan error, 1)
	go func() { waiting <- kindsOfCall[0].call(ctx, l) }()
	eventually(t, "the writer waits", func() bool { return !l.unlocked(1) })
	if err := returns(t, "Close, with a writer that waits", l.db.Close); err != nil {
		t.Errorf("Close: %v", err)
	}
	if err := await(t, "the writer that waited", waiting); !errors.Is(err, wtcache.ErrRefused) {
		t.Errorf("the writer that waited: %v", err)
	}
	l.wantRow(1, 0)
}
