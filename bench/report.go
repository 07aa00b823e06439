package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Between these lines of the document stands what comes from the results.
const (
	begins = "<!-- results: written by \"go run . report\" in bench -->\n"
	ends   = "<!-- end of results -->\n"
)

func reportCommand(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("bench report", flag.ContinueOnError)
	flags.SetOutput(stderr)
	doc := flags.String("doc", "", "a Markdown file whose results are to be written again; standard output by default")
	plots := flags.String("plots", "", "the folder for the plots; none are drawn by default")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return errors.New("report needs one file of results")
	}
	s, err := readFile(flags.Arg(0))
	if err != nil {
		return err
	}
	if *plots != "" {
		if err := s.plot(*plots); err != nil {
			return err
		}
	}
	if *doc == "" {
		_, err := stdout.Write(s.markdown())
		return err
	}
	text, err := os.ReadFile(*doc)
	if err != nil {
		return err
	}
	text, err = insert(text, s.markdown())
	if err != nil {
		return fmt.Errorf("%s: %w", *doc, err)
	}
	return os.WriteFile(*doc, text, 0o644)
}

func readFile(path string) (*set, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return readResults(f, filepath.Base(path))
}

// insert puts the results in the place of those that are there.
func insert(doc, results []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(doc, []byte(begins))
	_, after, ok2 := bytes.Cut(rest, []byte(ends))
	if !ok || !ok2 {
		return nil, fmt.Errorf("the lines %q and %q are not in it", strings.TrimSpace(begins), strings.TrimSpace(ends))
	}
	return bytes.Join([][]byte{before, []byte(begins), results, []byte(ends), after}, nil), nil
}

// markdown gives the goals and then a table for each measure.
func (s *set) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Measured on %s CPUs (%s), %s/%s, %s, PostgreSQL %s, Redis %s.\n\n", s.config["cpus"], s.config["cpu"],
		s.config["goos"], s.config["goarch"], s.config["go"], s.config["postgres"], s.config["redis"])
	s.goals(&b)
	for _, m := range measures {
		s.table(&b, m)
	}
	return b.Bytes()
}

// goals has a line for each; beside a goal that is a ratio stands the least that a fenced write comes to, where that was
// measured.
func (s *set) goals(b *bytes.Buffer) {
	floor, line := "", "" // a column
	if s.has(wayTwoTrips) {
		floor, line = " `"+wayTwoTrips+"` |", "---|"
	}
	fmt.Fprintf(b, "| what | of | goal | measured (middle half of the rounds) |%s met |\n|---|---|---|---|%s---|\n", floor, line)
	for _, m := range measures {
		for _, g := range m.goals {
			e, ok := s.goal(m, g)
			if !ok {
				continue
			}
			if floor != "" {
				floor = " " + s.floor(m, g) + " |"
			}
			fmt.Fprintf(b, "| %s, %d at a time | %s | ≤ %s | %s |%s %s |\n", m.title, g.conns, g.what(), number(g.most), e, floor, g.met(e))
		}
	}
	b.WriteString("\n")
}

// floor is what the least fenced write comes to, as the goal counts.
func (s *set) floor(m *measure, g goal) string {
	if g.over == "" {
		return "–"
	}
	return s.over(place{m.name, wayTwoTrips, g.conns}, g.over, g.unit())
}

// goal is what was measured of a goal.
func (s *set) goal(m *measure, g goal) (estimate, bool) {
	at := place{m.name, g.way, g.conns}
	if g.over == "" {
		return s.value(at, g.unit())
	}
	return s.ratio(at, g.over, g.unit())
}

// met is said only where most rounds say so.
func (g goal) met(e estimate) string {
	switch {
	case e.high <= g.most:
		return "yes"
	case e.low > g.most:
		return "**no**"
	}
	return "within the spread"
}

func (g goal) unit() string {
	if g.in == "" {
		return unitP50
	}
	return g.in
}

func (g goal) what() string {
	text := "`" + g.way + "`"
	if g.over != "" {
		text += " over `" + g.over + "`"
	}
	return text + ", " + unitWords[g.unit()]
}

var unitWords = map[string]string{
	unitP50: "median", "ns/op": "ns each", "allocs/op": "allocations", unitTrips: "round trips to Redis", unitCommands: "commands to Redis",
	unitHeap: "rise of the heap",
}

// table has a line for each way and number of connections.
func (s *set) table(b *bytes.Buffer, m *measure) {
	conns := s.conns(m.name)
	if len(conns) == 0 {
		return
	}
	fmt.Fprintf(b, "### %s\n\n", m.title)
	if m.tight != nil {
		s.tight(b, m, conns)
		return
	}
	fmt.Fprintf(b, "![%s](benchmarks/%s.svg)\n\n", m.title, m.file())
	fmt.Fprintf(b, "| at a time | way | median over `%s` | p50 µs | p95 µs | p99 µs | a second | allocations | bytes | CPU µs here | Postgres | Redis | Redis: commands | round trips | stale at the end |%s\n", m.ways[0], m.extra(" heap rises by |"))
	fmt.Fprintf(b, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|%s\n", m.extra("---|"))
	for _, n := range conns {
		for _, way := range m.ways {
			if at := (place{m.name, way, n}); s.of[at] != nil {
				s.line(b, m, at)
			}
		}
	}
	b.WriteString("\n")
}

// extra is for the measures whose memory is looked at.
func (m *measure) extra(column string) string {
	if m.trial {
		return column
	}
	return ""
}

func (m *measure) file() string { return strings.ToLower(m.name) }

func (s *set) line(b *bytes.Buffer, m *measure, at place) {
	fmt.Fprintf(b, "| %d | `%s` | %s |", at.conns, at.way, s.over(at, m.ways[0], unitP50))
	for _, unit := range []string{unitP50, unitP95, unitP99} {
		e, _ := s.value(at, unit)
		fmt.Fprintf(b, " %s |", number(e.median/1000))
	}
	for _, unit := range []string{unitThroughput, "allocs/op", "B/op"} {
		e, _ := s.value(at, unit)
		fmt.Fprintf(b, " %s |", number(e.median))
	}
	for _, unit := range []string{unitHere, unitPostgres, unitRedis} {
		e, _ := s.value(at, unit)
		fmt.Fprintf(b, " %s |", number(e.median/1000))
	}
	for _, unit := range []string{unitCommands, unitTrips} {
		e, _ := s.value(at, unit)
		fmt.Fprintf(b, " %s |", number(e.median))
	}
	if stale, ok := s.value(at, unitStale); ok {
		all, _ := s.value(at, unitCached)
		fmt.Fprintf(b, " %s of %s |", number(stale.median), number(all.median))
	} else {
		b.WriteString(" – |")
	}
	if e, ok := s.value(at, unitHeap); ok {
		fmt.Fprintf(b, " %s MiB |", number(e.median/(1<<20)))
	}
	b.WriteString("\n")
}

func (s *set) tight(b *bytes.Buffer, m *measure, goroutines []int) {
	b.WriteString("| goroutines | ns each (middle half of the rounds) | allocations |\n|---|---|---|\n")
	for _, n := range goroutines {
		at := place{m.name, m.ways[0], n}
		e, _ := s.value(at, "ns/op")
		allocs, _ := s.value(at, "allocs/op")
		fmt.Fprintf(b, "| %d | %s | %s |\n", n, e, number(allocs.median))
	}
	b.WriteString("\n")
}

// over is a way's ratio to another as the tables have it.
func (s *set) over(at place, base, unit string) string {
	if at.way == base {
		return "1"
	}
	e, ok := s.ratio(at, base, unit)
	if !ok {
		return "–"
	}
	return e.String()
}

// number has three digits that count, and thousands in groups.
func number(x float64) string {
	switch {
	case x >= 10_000:
		text := fmt.Sprintf("%.0f", x)
		for i := len(text) - 3; i > 0; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
		return text
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	}
	text := strings.TrimRight(fmt.Sprintf("%.2f", x), "0")
	return strings.TrimSuffix(text, ".")
}
