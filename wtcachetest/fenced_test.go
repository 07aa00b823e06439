package wtcachetest

import (
	"strings"
	"testing"
)

// complaints is a test that only keeps what it is told.
type complaints struct {
	testing.TB
	said []string
}

func (c *complaints) Helper()                      {}
func (c *complaints) Errorf(text string, _ ...any) { c.said = append(c.said, text) }

// The driver never does any of the wrong ones, so that only a made-up list shows that
// they would be found.
func TestFencedBeforeCommit(t *testing.T) {
	t.Parallel()
	fence, apply, commit := operation{verb: "fence", key: "k"}, operation{verb: "apply", key: "k"}, operation{verb: "COMMIT", commits: true}
	failed := operation{verb: "fence", key: "k", note: "Redis did not answer"}
	for name, test := range map[string]struct {
		ops  []operation
		good bool
	}{
		"in order":         {[]operation{fence, commit, apply}, true},
		"in doubt":         {[]operation{fence, commit}, true},
		"after the COMMIT": {[]operation{commit, fence, apply}, false},
		"no fence":         {[]operation{commit, apply}, false},
		"no COMMIT":        {[]operation{fence, apply}, false},
		"applied before":   {[]operation{apply, fence, commit}, false},
		"not acknowledged": {[]operation{failed, commit, apply}, false},
	} {
		said := &complaints{TB: t}
		c := &Cache{t: said, log: &log{ops: test.ops}}
		c.ExpectFencedBeforeCommit("k")
		if good := len(said.said) == 0; good != test.good {
			t.Errorf("%s: holds is %t, want %t %s", name, good, test.good, strings.Join(said.said, ""))
		}
	}
}
