package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Ways of a paired measure have one backend of Postgres in common, each worker its own. A failure means that their times
// differ by how the system wakes two backends, and not by what the ways do.
func TestPairedWaysShareTheirWorkersConnection(t *testing.T) {
	s := testServers(t)
	if err := s.table(t.Context(), "others", 10); err != nil {
		t.Fatal(err)
	}
	const workers = 3
	m := measureOf(t, "Unruled")
	ways, done, err := m.open(t.Context(), s, workers, plan{rows: 10})
	if err != nil {
		t.Fatal(err)
	}
	seats, leave, err := m.seats(t.Context(), ways, workers)
	if err != nil {
		t.Fatal(err)
	}
	var backends []int
	for i, at := range seats {
		var pids []int
		for _, w := range at.ways {
			var pid int
			if err := w.db.QueryRowContext(t.Context(), "SELECT pg_backend_pid()").Scan(&pid); err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
		if len(pids) != len(m.ways) || len(slices.Compact(slices.Clone(pids))) != 1 {
			t.Errorf("worker %d: backends %v, want one for all of %v", i, pids, m.ways)
		}
		backends = append(backends, pids[0])
	}
	slices.Sort(backends)
	if len(slices.Compact(backends)) != workers {
		t.Errorf("backends %v, want one for each worker", backends)
	}
	for _, closed := range []func() error{leave, done} {
		if err := closed(); err != nil {
			t.Error(err)
		}
	}
}

// All ways of a worker are executed equally often, however short the time is: medians of samples that were not taken side
// by side would not be comparable.
func TestWorkersExecuteEveryWayInTurn(t *testing.T) {
	const turns = 50
	var executed [2]int
	first := map[int]bool{}
	var ways []*way
	for i := range executed {
		ways = append(ways, &way{do: func(context.Context, *rand.Rand) error {
			if executed[0] == executed[1] {
				first[i] = true
			}
			if executed[i]++; executed[i] > executed[1-i]+1 {
				t.Errorf("way %d is ahead: %v", i, executed)
			}
			return nil
		}})
	}
	seats := []*seat{{ways: ways}}
	timings, err := together(t.Context(), seats, 0)
	if err != nil || len(timings) != 2 || timings[0].n != 1 || timings[1].n != 1 {
		t.Errorf("%+v, %v, want one execution of each", timings, err)
	}
	times, err := work(t.Context(), [][]*way{ways}, func() bool { return executed[0] > turns })
	if err != nil || len(times[0]) != turns || len(times[1]) != turns {
		t.Errorf("%d and %d executions, %v, want %d of each", len(times[0]), len(times[1]), err, turns)
	}
	if len(first) != 2 {
		t.Error("one way is always first") // by chance once in 2^51
	}
	if took := timingOf([]time.Duration{3, 1, 2}, 6); took.p50 != 2 || took.n != 3 || took.took != 6 {
		t.Errorf("timing of 1, 2 and 3 is %+v", took)
	}
}
