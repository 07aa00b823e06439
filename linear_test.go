package wtcache_test

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/linear"
)

// linearReads are the ways to read that have to be linearizable, all of them in one history. A new way of the reader is one
// more line.
var linearReads = []linearRead{
	{"Cache.Get", 10, 1, oneRow(readThrough)},
	{"Reader.Get", 8, 1, oneRow(readAs())},
	{"GetMany", 6, 3, readMany},
	{"MaxAge", 2, 1, oneRow(readAs(wtcache.MaxAge(5 * time.Millisecond)))},
	{"WaitForFill(0)", 2, 1, oneRow(readAs(wtcache.WaitForFill(0)))},
	{"Fresh", 1, 1, oneRow(readAs(wtcache.Fresh()))},
	{"GET", 4, 1, oneRow(readUnawareOf)},
	{"SELECT", 4, 1, oneRow(readTable)},
	{"eviction", 2, 1, oneRow(evict)},
}

// The cache beside Postgres is to its users one row a key, which changes at once: whatever they are told, by readers in three
// processes while others write in every way, could have come from such a row. When this fails somebody saw an old row after a
// new one, or one that was never committed.
func TestLinearizable(t *testing.T) {
	for _, setup := range []linearSetup{
		{formats: []string{"envelope"}},
		{formats: []string{"plain"}},
		{formats: []string{"hash"}},
		{formats: []string{"versioned"}},
		{formats: []string{"versioned", "hash", "plain"}},
		{formats: []string{"envelope", "versioned"}, rule: "negative_ttl: 1s\n"},
		{formats: []string{"envelope", "hash"}, rule: asyncRule},
	} {
		t.Run(strings.TrimSpace(strings.Join(setup.formats, " beside ")+" "+setup.rule), func(t *testing.T) {
			t.Parallel()
			s := newLinearShop(t, setup)
			total := s.wantLinearizable(*linearOps, *linearLong)
			t.Logf("%v", total)
			s.thickEnough()
			s.wantNoReports()
		})
	}
}

// thickEnough: where next to nothing meets, nothing is shown.
func (s *linearShop) thickEnough() {
	s.t.Helper()
	n := s.sum()
	s.t.Logf("%d fence first, %d lock first, %d coarse, %d in all committed, %d in doubt, %d payloads stored, %d hits, %d fills, %d fills refused, %d bypasses",
		n.FenceFirst, n.LockFirst, n.CoarseWrites, n.Committed, n.InDoubt, n.Redis.Stored, n.Hits, n.Fills, n.Redis.FillRefusals, n.Bypasses)
	often, seldom := uint64(*linearOps)/400, uint64(*linearOps)/3600
	if min(n.FenceFirst, n.LockFirst, uint64(n.Redis.Stored), n.Hits, n.Fills, n.Bypasses) < often || min(n.CoarseWrites, n.InDoubt, uint64(n.Redis.FillRefusals)) < seldom {
		s.t.Errorf("the mix is too thin to see anything: %+v", n)
	}
}

// wrongCache is a cache that is not linearizable.
type wrongCache struct {
	name   string
	format string
	read   func(*linearShop) rowReader // nil: all of wtcache's ways
	writes []linearWrite
	off    *switchedOff
	rule   string
}

// wrongCaches are hand-written ones of the usual kinds, and wtcache with readers or scripts that leave something out.
var wrongCaches = []wrongCache{
	{"cache-aside, UPDATE and DEL", "plain", readAside, byHand("UPDATE, DEL", thenDelete), nil, ""},
	{"dual write, UPDATE and SET", "plain", readAside, byHand("UPDATE, SET", thenSet), nil, ""},
	{"a reader that fills without a lease", "plain", readAside, linearWrites, nil, ""},
	{"a reader that takes its snapshot before the lease", "envelope", readSteps(stepSnapshot, stepLease, stepBarrier, stepFill), linearWrites, nil, ""},
	{"a reader that does not look at the barrier", "envelope", readSteps(stepLease, stepSnapshot, stepFill), coarseWrites(), nil, ""},
	{"a fence that does not delete the value", "envelope", nil, linearWrites, &switchedOff{"fence", "  redis.call('DEL', key, meta)\n", ""}, ""},
	{"the same, applied behind the caller", "envelope", nil, linearWrites, &switchedOff{"fence", "  redis.call('DEL', key, meta)\n", ""}, asyncRule},
}

// The same harness must find what is wrong with caches that are known to be wrong, or what it says of this one proves nothing.
func TestWhatIsNotLinearizable(t *testing.T) {
	for _, c := range wrongCaches {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newLinearShop(t, linearSetup{formats: []string{c.format}, off: c.off, rule: c.rule})
			if c.read != nil {
				s.reads = onlyThrough(c.read(s))
			}
			s.writes = c.writes
			s.wantViolation(40, *linearLong)
		})
	}
}

// The readers that were wrong above are right where they leave nothing out: it is not the harness that makes them wrong.
func TestReaderByHandIsLinearizable(t *testing.T) {
	s := newLinearShop(t, linearSetup{formats: []string{"envelope"}})
	s.reads = onlyThrough(readSteps(stepLease, stepBarrier, stepSnapshot, stepFill)(s))
	t.Logf("%v", s.wantLinearizable(linearRound, 0))
}

func onlyThrough(read rowReader) []linearRead {
	return []linearRead{{"reader", 24, 1, oneRow(read)}, {"eviction", 1, 1, oneRow(evict)}}
}

// wantLinearizable plays rounds of so many operations in all, and for so long.
func (s *linearShop) wantLinearizable(ops int, long time.Duration) (total linear.Verdict) {
	s.t.Helper()
	began := time.Now()
	for done := 0; done < ops || time.Since(began) < long; done += linearRound {
		v := s.round(min(linearRound, ops))
		if v.Result != porcupine.Ok {
			s.show(v)
			s.t.Fatalf("round %d: %v", s.rounds, v)
		}
		total = total.Plus(v)
	}
	return total
}

// wantViolation plays rounds until one has no order.
func (s *linearShop) wantViolation(rounds int, long time.Duration) {
	s.t.Helper()
	var total linear.Verdict
	for began := time.Now(); s.rounds < rounds || time.Since(began) < long; {
		v := s.round(linearRound / 2)
		total = total.Plus(v)
		if v.Result == porcupine.Illegal {
			s.t.Logf("round %d: %v\n%v", s.rounds, total, v.Broken[0])
			return
		}
	}
	s.t.Errorf("nothing was found wrong, so that the check proves nothing: %v", total)
}
