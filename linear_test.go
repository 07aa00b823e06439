package wtcache_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wtcache/wtcache/internal/linear"
)

// linearReads are the ways to read that have to be linearizable, all of them in one history. A new way of the reader is one
// more line.
var linearReads = []linearRead{
	{"Cache.Get", 24, 1, oneRow(readThrough)},
	{"GET", 4, 1, oneRow(readUnawareOf)},
	{"SELECT", 2, 1, oneRow(readTable)},
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
	often, seldom := uint64(*linearOps)/200, uint64(*linearOps)/3600
	if min(n.FenceFirst, n.LockFirst, uint64(n.Redis.Stored), n.Hits, n.Fills, n.Bypasses) < often || min(n.CoarseWrites, n.InDoubt, uint64(n.Redis.FillRefusals)) < seldom {
		s.t.Errorf("the mix is too thin to see anything: %+v", n)
	}
}

// The same harness must find what is wrong with caches that are known to be wrong, or what it says of this one proves nothing:
// hand-written ones of the usual kinds, and readers of wtcache's own protocol that leave one of its steps out.
func TestWhatIsNotLinearizable(t *testing.T) {
	ours := []linearRead{{"reader", 24, 1, nil}, {"eviction", 1, 1, oneRow(evict)}}
	for _, c := range []struct {
		name   string
		format string
		read   func(*linearShop) rowReader
		writes []linearWrite
		right  bool
	}{
		{"cache-aside, UPDATE and DEL", "plain", readAside, byHand("UPDATE, DEL", thenDelete), false},
		{"dual write, UPDATE and SET", "plain", readAside, byHand("UPDATE, SET", thenSet), false},
		{"a reader that fills without a lease", "plain", readAside, linearWrites, false},
		{"a reader that takes its snapshot before the lease", "envelope", readSteps(stepSnapshot, stepLease, stepBarrier, stepFill), linearWrites, false},
		{"a reader that does not look at the barrier", "envelope", readSteps(stepLease, stepSnapshot, stepFill), coarseWrites(), false},
		{"a reader that leaves nothing out", "envelope", readSteps(stepLease, stepBarrier, stepSnapshot, stepFill), linearWrites, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newLinearShop(t, linearSetup{formats: []string{c.format}})
			s.reads = slices.Clone(ours)
			s.reads[0].read = oneRow(c.read(s))
			s.writes = c.writes
			if c.right {
				t.Logf("%v", s.wantLinearizable(linearRound, 0))
				return
			}
			s.wantViolation()
		})
	}
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

// wantViolation plays rounds until one has no order, and has a read that everybody would call stale.
func (s *linearShop) wantViolation() {
	s.t.Helper()
	const rounds = 40
	var total linear.Verdict
	for s.rounds < rounds {
		v := s.round(linearRound / 4)
		total = total.Plus(v)
		if v.Result == porcupine.Illegal && v.Stale > 0 {
			s.t.Logf("round %d: %v\n%v", s.rounds, total, v.Broken[0])
			return
		}
	}
	s.t.Errorf("nothing was found wrong, so that the check proves nothing: %v", total)
}
