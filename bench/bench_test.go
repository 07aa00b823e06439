package main

import (
	"bytes"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func testServers(t *testing.T) *servers {
	t.Helper()
	s, err := startServers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestEveryMeasureRuns runs all of it, briefly and on few rows. A failure means that the figures of docs/BENCHMARKS.md can no
// longer be measured, that a measure leaves stale entries, or that a statement which touches no rule, or a plan's look-up,
// allocates: those are counts, and the same everywhere. No time is judged.
func TestEveryMeasureRuns(t *testing.T) {
	s := testServers(t)
	var out bytes.Buffer
	p := plan{conns: []int{1, 3}, rounds: 3, slice: 20 * time.Millisecond, trials: 2, rows: 500}
	if err := run(t.Context(), s, measures, p, io.Discard, newOutput(&out, s).write); err != nil {
		t.Fatal(err)
	}
	results, err := readResults(&out, "results.txt")
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	if err := results.plot(folder); err != nil {
		t.Fatal(err)
	}
	text := string(results.markdown())
	for _, m := range measures {
		if !strings.Contains(text, "### "+m.title+"\n") {
			t.Errorf("%s is not in the report", m.name)
		}
		for _, way := range m.ways {
			if results.of[place{m.name, way, 1}] == nil {
				t.Errorf("%s by %s was not measured", m.name, way)
			}
		}
		if m.tight != nil {
			continue
		}
		if svg, err := os.ReadFile(filepath.Join(folder, m.file()+".svg")); err != nil || !bytes.Contains(svg, []byte("</svg>")) {
			t.Errorf("%s: no plot: %v", m.name, err)
		}
		for _, way := range m.ways {
			results.checkEntries(t, m, way)
		}
	}
	results.checkAllocations(t)
}

// What one trial, or one measure, leaves in Redis, the sweeps of the next would walk over. A failure means that the figures of
// large statements have in them what other ways stored before.
func TestTrialsMeetNoOthersEntries(t *testing.T) {
	s := testServers(t)
	left := func() {
		t.Helper()
		keys, err := s.watch.Keys(t.Context(), "*").Result()
		keys = slices.DeleteFunc(keys, func(key string) bool { return key == "wtcache:epochs" }) // who Redis is
		if err != nil || len(keys) > 0 {
			t.Errorf("Redis holds %d keys (%v), such as %q", len(keys), err, keys[:min(len(keys), 3)])
		}
	}
	some, err := of("Literals,Bulk10k,Bulk100kCached")
	if err != nil {
		t.Fatal(err)
	}
	trials := 0
	p := plan{conns: []int{1}, rounds: 1, slice: 20 * time.Millisecond, trials: 2, rows: 50}
	if err := run(t.Context(), s, some, p, io.Discard, func(r result) error {
		if r.measure != "Literals" {
			trials++
			left()
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	left()
	if trials != 16 {
		t.Errorf("%d trials, want 16", trials)
	}
}

// checkEntries wants what the ways with a cache left in it to be there: one that stored nothing would be fast, and never
// stale. (That it is not stale is judged by the run.) Eventual writes leave absent keys absent.
func (s *set) checkEntries(t *testing.T, m *measure, way string) {
	t.Helper()
	if !slices.Contains(m.ways, wayDual) || !slices.Contains([]string{wayDual, wayBest, wayTwoTrips, wayStrict, wayAsync}, way) {
		return
	}
	if e, ok := s.value(place{m.name, way, 1}, unitCached); !ok || e.median == 0 {
		t.Errorf("%s by %s left no entries", m.name, way)
	}
}

// checkAllocations holds the goals that are counts.
func (s *set) checkAllocations(t *testing.T) {
	t.Helper()
	held := 0
	for _, m := range measures {
		for _, g := range m.goals {
			if g.unit() != "allocs/op" && g.unit() != unitTrips {
				continue
			}
			held++
			// What else goes on in the process only adds: the least of the rounds is a way's own.
			got, base := s.of[place{m.name, g.way, g.conns}][g.unit()], []float64{1}
			if g.over != "" {
				base = s.of[place{m.name, g.over, g.conns}][g.unit()]
			}
			if len(got) == 0 || len(base) == 0 || slices.Min(got) > g.most*slices.Min(base) {
				t.Errorf("%s: %s: %v to %v, where at most %v is the goal", m.name, g.what(), got, base, g.most)
			}
		}
	}
	if held < 3 {
		t.Errorf("only %d goals of counts are left", held)
	}
}

// The column two-trips stands beside the goals that are ratios of a measure with that way, and is left out where it was not measured.
func TestGoalsShowTheLeastBesideThem(t *testing.T) {
	const without = `BenchmarkUnruled/way=pgx/conns=1-2 1 100 ns/op 100 p50-ns
BenchmarkUnruled/way=strict/conns=1-2 1 101 ns/op 101 p50-ns
BenchmarkUpdate/way=dual-write/conns=1-2 1 100 ns/op 100 p50-ns 1 redis-trips/op
BenchmarkUpdate/way=strict/conns=1-2 1 150 ns/op 150 p50-ns 2 redis-trips/op
`
	const with = without + "BenchmarkUpdate/way=two-trips/conns=1-2 1 125 ns/op 125 p50-ns 2 redis-trips/op\n"
	for text, want := range map[string][]string{
		without: {"(middle half of the rounds) | met |\n|---|---|---|---|---|\n", "| 1.01 (1.01 to 1.01) | yes |", "| 1.5 (1.5 to 1.5) | **no** |", "| 2 (2 to 2) | yes |"},
		with: {
			"(middle half of the rounds) | `two-trips` | met |\n|---|---|---|---|---|---|\n", "| 1.01 (1.01 to 1.01) | – | yes |",
			"| 1.5 (1.5 to 1.5) | 1.25 (1.25 to 1.25) | **no** |", "| 2 (2 to 2) | – | yes |",
		},
	} {
		s, err := readResults(strings.NewReader(text), "x")
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		s.goals(&b)
		for _, part := range want {
			if !strings.Contains(b.String(), part) {
				t.Errorf("no %q in:\n%s", part, &b)
			}
		}
	}
}

const (
	document = "../docs/BENCHMARKS.md"
	plotted  = "../docs/benchmarks"
)

// What the document says was measured: its tables and plots come from the results that lie beside it.
func TestDocumentShowsItsResults(t *testing.T) {
	results, err := readFile(filepath.Join(plotted, "results.txt"))
	if err != nil {
		t.Fatal(err)
	}
	have, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	want, err := insert(have, results.markdown())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s is not what its results say: run make compare-report", document)
	}
	folder := t.TempDir()
	if err := results.plot(folder); err != nil {
		t.Fatal(err)
	}
	for _, m := range measures {
		if m.tight != nil {
			continue
		}
		have, err := os.ReadFile(filepath.Join(plotted, m.file()+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(folder, m.file()+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(have, want) {
			t.Errorf("%s.svg is not what the results say: run make compare-report", m.file())
		}
	}
}

// A ratio pairs the rounds: a slow machine in one of them is slow for both.
func TestRatiosPairRounds(t *testing.T) {
	const text = `BenchmarkUpdate/way=pgx/conns=8-2 1 100 ns/op 100 p50-ns
BenchmarkUpdate/way=strict/conns=8-2 1 150 ns/op 150 p50-ns
BenchmarkUpdate/way=pgx/conns=8-2 1 900 ns/op 900 p50-ns
BenchmarkUpdate/way=strict/conns=8-2 1 1350 ns/op 1350 p50-ns
BenchmarkUpdate/way=pgx/conns=8-2 1 200 ns/op 200 p50-ns
BenchmarkUpdate/way=strict/conns=8-2 1 400 ns/op 400 p50-ns
`
	s, err := readResults(strings.NewReader(text), "x")
	if err != nil {
		t.Fatal(err)
	}
	e, ok := s.ratio(place{"Update", wayStrict, 8}, wayPgx, unitP50)
	if !ok || e.median != 1.5 || e.low != 1.5 || e.high != 1.75 {
		t.Errorf("got %+v, want a median of 1.5 between 1.5 and 1.75", e)
	}
	if _, ok := s.ratio(place{"Update", wayStrict, 1}, wayPgx, unitP50); ok {
		t.Error("a ratio of what was not measured")
	}
}

func TestResultsThatCannotBeRead(t *testing.T) {
	for name, text := range map[string]string{
		"empty":    "goos: linux\n",
		"no way":   "BenchmarkUpdate-2 1 100 ns/op\n",
		"no conns": "BenchmarkUpdate/way=pgx/conns=x-2 1 100 ns/op\n",
		"broken":   "BenchmarkUpdate/way=pgx/conns=1-2 1 many ns/op\n",
	} {
		if _, err := readResults(strings.NewReader(text), name); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
}

func TestPercentile(t *testing.T) {
	var times []time.Duration
	for i := range 200 {
		times = append(times, time.Duration(i+1))
	}
	for p, want := range map[int]time.Duration{50: 100, 95: 190, 99: 198, 100: 200} {
		if got := percentile(times, p); got != want {
			t.Errorf("p%d is %d, want %d", p, got, want)
		}
	}
	if got := percentile(times[:1], 50); got != 1 {
		t.Errorf("p50 of one value is %d", got)
	}
}

func TestNumbersAreShort(t *testing.T) {
	for x, want := range map[float64]string{0: "0", 0.05: "0.05", 1: "1", 1.5: "1.5", 1.456: "1.46", 12.34: "12.3", 123.4: "123", 1234: "1234", 1234567: "1,234,567", math.Pi: "3.14"} {
		if got := number(x); got != want {
			t.Errorf("number(%v) is %q, want %q", x, got, want)
		}
	}
}

// A mistake in a command must not cost a long run.
func TestCommandRefusesMistakes(t *testing.T) {
	for _, args := range [][]string{
		nil, {"walk"}, {"run", "-measures", "Sums"}, {"run", "-conns", "1,many"}, {"run", "-conns", "0"}, {"report"}, {"report", "missing.txt"},
	} {
		if err := command(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("bench %s: no error", strings.Join(args, " "))
		}
	}
}
