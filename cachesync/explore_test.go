package cachesync

import (
	"flag"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/explore"
	"github.com/wtcache/wtcache/internal/testenv"
)

var (
	exploreLong  = flag.Bool("explore.long", false, "explore the large programs too; takes half an hour or more")
	exploreTrace = flag.Bool("explore.traces", false, "print the trace of every violation that was wanted")
)

// exploreLimit is more than any program has, and as many states as 16 GB hold.
const exploreLimit = 250_000_000

// exploration is what came of one program.
type exploration struct {
	explore.Report[state]
	program
	trace   string          // the shortest way to a violation
	answers map[string]bool // that scripts gave
}

// run explores a program and says so in one line.
func run(t *testing.T, server *testenv.RedisServer, format Format, p program, mutations ...mutation) exploration {
	t.Helper()
	m := newMachine(t, server, format, mutations)
	defer m.close()
	e := newExplorer(m, p)
	start := time.Now()
	report, err := explore.Run(e, exploreLimit)
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	found := "holds"
	if report.Broken != "" {
		found = fmt.Sprintf("broken in %d steps", len(report.Trace))
	}
	t.Logf("%-44s %-8s %9d states %10d transitions %6d script runs %6.1f s: %s",
		p.name, format, report.States, report.Transitions, m.runs, time.Since(start).Seconds(), found)
	return exploration{report, p, e.spellTrace(report.Trace), m.answers}
}

// mustHold fails the test with the shortest way to a violation.
func (e exploration) mustHold(t *testing.T) {
	t.Helper()
	if e.Broken != "" {
		t.Errorf("%s: %s\n%s", e.name, e.Broken, e.trace)
	}
}

// mustBreak fails the test where nothing is violated.
func (e exploration) mustBreak(t *testing.T) {
	t.Helper()
	switch {
	case e.Broken == "":
		t.Errorf("%s: nothing is violated", e.name)
	case *exploreTrace:
		t.Logf("%s: %s\n%s", e.name, e.Broken, e.trace)
	}
}

func (e *explorer) spellTrace(steps []explore.Step[state]) string {
	var b strings.Builder
	for n, s := range steps {
		fmt.Fprintf(&b, "%3d  %s\n       %s\n", n+1, s.Label, e.spell(&s.State))
	}
	return b.String()
}

func exploreServer(t *testing.T) *testenv.RedisServer {
	t.Helper()
	return testenv.NewRedis(t)
}

// Every interleaving of the small programs keeps the promise, with the scripts as they are. The protocol does not know
// formats, so that all but the first play a part of the programs.
func TestExploreProtocol(t *testing.T) {
	server := exploreServer(t)
	if len(allFormats) != len(formatNames) {
		t.Fatal("a format is left out")
	}
	for n, format := range allFormats {
		programs := basePrograms()
		if n > 0 && !*exploreLong {
			programs = []program{
				programNamed(t, "three writers"), programNamed(t, "lock first twice, killed twice"), programNamed(t, "coarse twice"), programNamed(t, "eventual and strict"),
				programNamed(t, "eventual and strict, late requests"), programNamed(t, "foreign writer with follower"), programNamed(t, "flights that wait, young values"),
			}
		}
		explorePrograms(t, server, format, programs)
	}
}

func explorePrograms(t *testing.T, server *testenv.RedisServer, format Format, programs []program) {
	t.Helper()
	var mu sync.Mutex // guards met and explored
	met, explored := make(map[string]bool), 0
	t.Run(format.String(), func(t *testing.T) {
		for _, p := range programs {
			t.Run(p.name, func(t *testing.T) {
				t.Parallel()
				e := run(t, server, format, p)
				e.mustHold(t)
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(met, e.answers)
				explored++
			})
		}
	})
	if !t.Failed() && explored == len(programs) { // not where -run has left some out
		mustHaveMet(t, format, met)
	}
}

// The same with programs that are too large for every day.
func TestExploreLong(t *testing.T) {
	if !*exploreLong {
		t.Skip("the long run: go test ./cachesync -run Explore -explore.long -parallel 1 -timeout 4h, or make explore")
	}
	server := exploreServer(t)
	for _, p := range longPrograms() {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel() // as many as -parallel says
			run(t, server, Envelope, p).mustHold(t)
		})
	}
}

// mustHaveMet fails the test where the programs leave a case of a script out: they would say nothing about it.
func mustHaveMet(t *testing.T, format Format, met map[string]bool) {
	t.Helper()
	for op, answers := range map[op]string{
		opFence: "1 2 3", opRenew: "1 0", opApply: "stored held dropped lost", opAbort: "ended held gone",
		opLease: "value granted bypass", opFill: "1 0", opRelease: "1 0", opInvalidate: "fence lease deleted kept absent",
		opBarrier: "1 0", opLeaseNew: "granted bypass",
	} {
		for _, answer := range strings.Fields(answers) {
			if !met[opNames[op]+" "+answer] {
				t.Errorf("%s: no program makes %s answer %q", format, opNames[op], answer)
			}
		}
	}
}
