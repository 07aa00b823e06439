package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// series is what one way did at one number of connections: its values of each unit, a round each.
type series map[string][]float64

// set is what a file of results holds.
type set struct {
	config map[string]string
	of     map[place]series
}

type place struct {
	measure, way string
	conns        int
}

// readResults reads what run wrote. Lines of one way stand in the order of the rounds.
func readResults(r io.Reader, name string) (*set, error) {
	s := &set{config: map[string]string{}, of: map[place]series{}}
	reader := benchfmt.NewReader(r, name)
	for reader.Scan() {
		switch rec := reader.Result().(type) {
		case *benchfmt.SyntaxError:
			return nil, rec
		case *benchfmt.Result:
			for _, c := range rec.Config {
				s.config[c.Key] = string(c.Value)
			}
			at, err := placeOf(rec.Name)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if s.of[at] == nil {
				s.of[at] = series{}
			}
			for _, v := range rec.Values {
				value, unit := v.Value, v.Unit
				if v.OrigUnit != "" {
					value, unit = v.OrigValue, v.OrigUnit
				}
				s.of[at][unit] = append(s.of[at][unit], value)
			}
		}
	}
	if len(s.of) == 0 {
		return nil, fmt.Errorf("%s: no results in it", name)
	}
	return s, reader.Err()
}

// placeOf reads a benchmark's name as output wrote it.
func placeOf(name benchfmt.Name) (place, error) {
	base, parts := name.Parts()
	at := place{measure: string(base)}
	for _, part := range parts {
		key, value, _ := strings.Cut(strings.TrimLeft(string(part), "/-"), "=")
		switch key {
		case "way":
			at.way = value
		case "conns":
			n, err := strconv.Atoi(value)
			if err != nil {
				return at, fmt.Errorf("%s: conns is no number", name)
			}
			at.conns = n
		}
	}
	if at.way == "" || at.conns == 0 {
		return at, fmt.Errorf("%s: no way and conns in a benchmark's name", name)
	}
	return at, nil
}

// conns are the numbers of connections at which a measure was taken, in order.
func (s *set) conns(measure string) []int {
	seen := map[int]bool{}
	for at := range s.of {
		if at.measure == measure {
			seen[at.conns] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}

// has says whether a way was measured at all.
func (s *set) has(way string) bool {
	for at := range s.of {
		if at.way == way {
			return true
		}
	}
	return false
}

// estimate is a median with the middle half of the values around it.
type estimate struct{ low, median, high float64 }

func (e estimate) String() string {
	return fmt.Sprintf("%s (%s to %s)", number(e.median), number(e.low), number(e.high))
}

// value gives a unit's estimate over the rounds; ok is false where it was not measured.
func (s *set) value(at place, unit string) (e estimate, ok bool) {
	return estimateOf(s.of[at][unit])
}

// ratio is a unit over that of another way, round by round.
func (s *set) ratio(at place, over, unit string) (e estimate, ok bool) {
	below := at
	below.way = over
	values, bases := s.of[at][unit], s.of[below][unit]
	ratios := make([]float64, min(len(values), len(bases)))
	for i := range ratios {
		ratios[i] = values[i] / bases[i]
	}
	return estimateOf(ratios)
}

func estimateOf(values []float64) (e estimate, ok bool) {
	if len(values) == 0 {
		return e, false
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare[float64])
	quantile := func(q float64) float64 {
		at := q * float64(len(sorted)-1)
		i := int(at)
		if i+1 == len(sorted) {
			return sorted[i]
		}
		return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
	}
	return estimate{quantile(0.25), quantile(0.5), quantile(0.75)}, true
}
