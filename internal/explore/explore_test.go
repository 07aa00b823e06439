package explore

import (
	"fmt"
	"strings"
	"testing"
)

// jugs is the puzzle of two jugs, of 3 and 5 litres, that can be filled, emptied and poured into each other.
type jugs struct {
	wanted uint8 // wrong is a state that has so much in one jug
}

var sizes = [2]uint8{3, 5}

func (jugs) Start() [2]uint8 { return [2]uint8{} }

func (jugs) Steps(s *[2]uint8, named bool, to func(*[2]uint8, string)) {
	for i := range 2 {
		say := func(verb string, next [2]uint8) {
			label := ""
			if named {
				label = fmt.Sprintf("%s %d", verb, sizes[i])
			}
			to(&next, label)
		}
		full, empty, poured := *s, *s, *s
		full[i], empty[i] = sizes[i], 0
		moved := min(s[i], sizes[1-i]-s[1-i])
		poured[i], poured[1-i] = s[i]-moved, s[1-i]+moved
		say("fill", full)
		say("empty", empty)
		say("pour", poured)
	}
}

func (j jugs) Check(s *[2]uint8) string {
	if j.wanted > 0 && (s[0] == j.wanted || s[1] == j.wanted) {
		return fmt.Sprintf("%d litres", j.wanted)
	}
	return ""
}

// A search that misses states would call a broken protocol sound.
func TestEveryStateIsVisited(t *testing.T) {
	report, err := Run(jugs{}, 1000)
	if err != nil || report.Broken != "" {
		t.Fatal(err, report.Broken)
	}
	// The states with a jug that is full or empty: 2*6 + 2*4 - 4.
	if report.States != 16 || report.Transitions != 16*6 {
		t.Errorf("visited %d states by %d steps", report.States, report.Transitions)
	}
}

func TestTheTraceIsAShortestOne(t *testing.T) {
	report, err := Run(jugs{wanted: 4}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for _, s := range report.Trace {
		labels = append(labels, s.Label)
	}
	if got, want := strings.Join(labels, ", "), "fill 5, pour 5, empty 3, pour 5, fill 5, pour 5"; got != want {
		t.Errorf("4 litres by %s", got)
	}
	if report.Broken != "4 litres" || report.Trace[len(report.Trace)-1].State != [2]uint8{3, 4} {
		t.Errorf("%+v", report)
	}
}

// A search that was cut off must not look like one that found nothing.
func TestTheLimitIsAnError(t *testing.T) {
	if _, err := Run(jugs{}, 5); err == nil {
		t.Error("no error")
	}
}
