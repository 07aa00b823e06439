package torture

import (
	"errors"
	"flag"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

var seed = flag.Uint64("torture.seed", 0, "seed of what nemeses choose; 0 draws one and logs it")

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// play skips the test where there is nothing to start servers from.
func play(t *testing.T, o Options, plan Plan) Report {
	t.Helper()
	o.Seed, o.Keep = *seed, os.TempDir()
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		o.Keep = t.ArtifactDir()
	}
	var said strings.Builder
	o.Out = io.MultiWriter(&said, t.Output())
	report, err := Play(t.Context(), o, plan)
	switch {
	case errors.Is(err, testenv.ErrNoServer) && os.Getenv("WTCACHE_TEST_REQUIRE") != "1":
		t.Skip(err)
	case err != nil:
		t.Fatal(err)
	case len(plan.Nemeses) == 0 && plan.Time == 0 && strings.Contains(said.String(), "\nnote: "):
		t.Error("a nemesis that struck by itself did not do what it is there for")
	}
	return report
}

// wantTrue: whatever went wrong, nobody was told what was not true. When this fails, a user of the library has seen a price, a
// permission or a balance that another user had been told was changed; the output has the history around it.
func wantTrue(t *testing.T, r Report) {
	t.Helper()
	switch total := r.Total; {
	case r.Wrong():
		t.Errorf("%d stale reads, %d keys without an order, %d keys that differ from their row, %q not settled; see %s",
			total.Stale, total.NotLinearizable, total.Differing, total.Unsettled, r.Kept)
	case total.Undecided > 0: // a matter of the machine's speed; stale reads are counted all the same
		t.Logf("%d windows were not decided by Porcupine in time", total.Undecided)
	}
}

// wantShown: a run in which little was cached, or written, shows little.
func wantShown(t *testing.T, r Report) {
	t.Helper()
	if total := r.Total; total.Cached < total.Reads/10 || total.Done < total.Reads/20 {
		t.Errorf("only %d of %d reads were from the cache beside %d writes: that shows little", total.Cached, total.Reads, total.Done)
	}
}

// Every fault once by itself.
func TestEachNemesis(t *testing.T) {
	t.Parallel() // most of it is waiting
	r := play(t, Options{}, Plan{Once: true})
	wantTrue(t, r)
	wantShown(t, r)
}

// Faults in an order that nobody chose, and two at a time.
func TestNemesesAtRandom(t *testing.T) {
	t.Parallel()
	wantTrue(t, play(t, Options{}, Plan{Time: 25 * time.Second}))
}

// Another server takes a dead one's place.
func TestFailovers(t *testing.T) {
	t.Parallel()
	for _, topology := range fleets {
		t.Run(string(topology), func(t *testing.T) {
			t.Parallel()
			var names []string
			for _, k := range fleetKinds {
				names = append(names, k.make().Name())
			}
			wantTrue(t, play(t, Options{Topology: topology}, Plan{Once: true, Nemeses: append(names, calm.name, "kill writer")}))
		})
	}
}

// The caches that everybody writes by hand are not true when their Redis cannot be reached for three seconds by those who
// write. If this harness does not find that, what it finds of wtcache says nothing.
func TestByHandIsStale(t *testing.T) {
	t.Parallel()
	for _, mode := range []Mode{DualWrite, CacheAside} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			total := play(t, Options{Mode: mode}, Plan{Once: true, Nemeses: []string{"all writers' Redis refused"}}).Total
			if total.Stale == 0 || total.NotLinearizable == 0 {
				t.Errorf("%d stale reads, %d keys without an order", total.Stale, total.NotLinearizable)
			}
		})
	}
}
