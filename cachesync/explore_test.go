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

// outcome of one exploration.
type exploration struct {
	explore.Report[state]
	*explorer
}

// run explores a program and says so in one line.
func run(t *testing.T, server *testenv.RedisServer, format Format, p program, mutations ...mutation) exploration {
	t.Helper()
	m := newMachine(t, server, format, mutations)
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
	return exploration{report, e}
}

// mustHold fails the test with the shortest way to a violation.
func (e exploration) mustHold(t *testing.T) {
	t.Helper()
	if e.Broken != "" {
		t.Errorf("%s: %s\n%s", e.name, e.Broken, e.trace())
	}
}

// mustBreak fails the test where nothing is violated.
func (e exploration) mustBreak(t *testing.T) {
	t.Helper()
	switch {
	case e.Broken == "":
		t.Errorf("%s: nothing is violated", e.name)
	case *exploreTrace:
		t.Logf("%s: %s\n%s", e.name, e.Broken, e.trace())
	}
}

func (e exploration) trace() string {
	var b strings.Builder
	for n, s := range e.Trace {
		fmt.Fprintf(&b, "%3d  %s\n       %s\n", n+1, s.Label, e.spell(&s.State))
	}
	return b.String()
}

func exploreServer(t *testing.T) *testenv.RedisServer {
	t.Helper()
	return testenv.NewRedis(t)
}

func TestExploreTry(t *testing.T) {
	server := exploreServer(t)
	one := [][]int{{0}}
	w := func(k kind) process { return process{kind: k, rows: []int{0}, keys: []int{0}, fails: true} }
	r := process{kind: reader, keys: []int{0}}
	for _, p := range []program{
		{name: "lock", keys: one, procs: []process{w(lockFirst), r}},
		{name: "lock lock", keys: one, procs: []process{w(lockFirst), w(lockFirst), r}},
		{name: "lock fence rr", keys: one, procs: []process{w(lockFirst), w(fenceFirst), r, r}},
		{name: "lock fence rr c", keys: one, procs: []process{w(lockFirst), w(fenceFirst), r, r}, faults: faults{crash: 1}},
		{name: "lock fence rr d", keys: one, procs: []process{w(lockFirst), w(fenceFirst), r, r}, faults: faults{crash: 1, doubt: 1}},
		{name: "lock fence rr dx", keys: one, procs: []process{w(lockFirst), w(fenceFirst), r, r}, faults: faults{crash: 1, doubt: 1, expiry: outlive}},
		{name: "lock fence r late", keys: one, procs: []process{w(lockFirst), w(fenceFirst), r}, faults: faults{late: 1, expiry: outlive}},
		{name: "lock fence r late2", keys: one, procs: []process{w(lockFirst), w(fenceFirst), r}, faults: faults{late: 2, expiry: outlive}},
		{name: "lock lock fence", keys: one, procs: []process{w(lockFirst), w(lockFirst), w(fenceFirst), r}},
		{name: "coarse lock r", keys: one, procs: []process{w(lockFirst), w(coarse), r}},
		{name: "coarse lock rr", keys: one, procs: []process{w(lockFirst), w(coarse), r, r}, faults: faults{expiry: outlive}},
	} {
		p.props = allProperties
		run(t, server, Envelope, p).mustHold(t)
	}
}
