package cachesync

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/explore"
	"github.com/wtcache/wtcache/internal/testenv"
)

var (
	exploreLong  = flag.Bool("explore.long", false, "explore the large programs too; takes hours")
	exploreTrace = flag.Bool("explore.traces", false, "print the trace of every violation that was wanted")
)

// exploreLimit is more than any program of the short run has.
const exploreLimit = 20_000_000

// exploration is what came of one program.
type exploration struct {
	explore.Report[state]
	program
	trace string // the shortest way to a violation
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
	return exploration{report, p, e.spellTrace(report.Trace)}
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

// Every interleaving of the small programs keeps the promise, with the scripts as they are.
func TestExploreProtocol(t *testing.T) {
	server := exploreServer(t)
	for _, format := range []Format{Envelope, Plain} {
		for _, p := range basePrograms() {
			t.Run(format.String()+"/"+p.name, func(t *testing.T) {
				t.Parallel()
				run(t, server, format, p).mustHold(t)
			})
		}
	}
}
