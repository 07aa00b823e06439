package wtcache_test

import (
	"fmt"
	"testing"
)

// A process that is killed while it writes past Redis takes nothing with it: others see its write or do not, serve no old row, make its
// keys absent, and in the end take its outage away.
func TestQueueOfAKilledProcess(t *testing.T) {
	for _, c := range []struct {
		name      string
		child     child
		points    []string // in order
		committed int      // from this point on
		announced int
	}{
		{"transaction", child{Tx: true, Texts: []string{setOne}}, []string{"settled", "queued", "fenced", "committed", "applied"}, 3, 1},
		{"autocommit", child{Texts: []string{setOne}}, []string{"written", "settled", "queued", "fenced", "committed", "applied"}, 4, 2},
		{"coarse", child{Texts: []string{coarseOne}}, []string{"queued", "committed"}, 1, 0},
	} {
		for i, point := range c.points {
			t.Run(c.name+"/"+point, func(t *testing.T) {
				t.Parallel()
				l, link, schema := cutLedger(t, ledgerSetup{})
				well := l.beside(ledgerSetup{config: withOutbox(t, schema)})
				well.warm(1, 2)
				link.Pause()
				dead := c.child
				dead.Postgres, dead.Redis, dead.Rules, dead.Point, dead.Outbox = l.dsn, link.URL, l.ruleText(""), point, schema
				if !dead.end(t) {
					t.Fatal("the child did not come to that point")
				}
				want := 0
				if i >= c.committed {
					want = 1
				}
				eventually(t, "the transaction is over", func() bool { return l.unlocked(1) })
				well.wantRow(1, want)
				for range 20 {
					if n, read := well.reads(1); n != want {
						t.Fatalf("a reader gets %d (from cache: %v) and in the database is %d", n, read.FromCache, want)
					}
				}
				eventually(t, "the outbox is empty", func() bool { return count(t, l.plain, schema+".outbox") == 0 })
				if n, there := well.entry(1); there && n != want {
					t.Errorf("account 1 is cached as %d and is %d", n, want)
				}
				if n := count(t, l.plain, schema+".outage"); n != map[bool]int{true: 1}[i >= c.announced] {
					t.Errorf("%d outages are announced", n)
				}
				// The rest of the time until it counts as dead.
				if _, err := l.plain.Exec("UPDATE " + schema + ".outage SET seen_at = seen_at - interval '1 minute'"); err != nil {
					t.Fatal(err)
				}
				settled(t, l.plain, schema)
				well.wantTrue()
				eventually(t, "hits", func() bool { _, read := well.reads(1); return read.FromCache })
			})
		}
	}
}

// A process that is gone must not keep others from the cache for longer than it is announced, however many came and went.
func TestQueueOfManyKilledProcesses(t *testing.T) {
	l, link, schema := cutLedger(t, ledgerSetup{})
	link.Pause()
	for i := range 3 {
		dead := child{Postgres: l.dsn, Redis: link.URL, Rules: l.ruleText(""), Point: "committed", Outbox: schema,
			Texts: []string{fmt.Sprintf("UPDATE accounts SET n = %d WHERE id = %d", i+1, i+1)}}
		if !dead.end(t) {
			t.Fatal("the child did not come to that point")
		}
	}
	if n := count(t, l.plain, schema+".outage"); n != 3 {
		t.Errorf("%d outages are announced", n)
	}
	if _, err := l.plain.Exec("UPDATE " + schema + ".outage SET seen_at = seen_at - interval '1 minute'"); err != nil {
		t.Fatal(err)
	}
	well := l.beside(ledgerSetup{config: withOutbox(t, schema)})
	well.read(1)
	settled(t, l.plain, schema)
	well.wantTrue()
}
