package wtcache

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// A metrics system pays for every reason with a time series: a reason that somebody makes of a statement's text must not
// take it down.
func TestReasonsAreBounded(t *testing.T) {
	t.Parallel()
	var many tally
	for i := range 10 * maxReasons {
		many.add(fmt.Sprintf("reason %d", i))
	}
	all := many.load()
	if len(all) > maxReasons+1 {
		t.Errorf("%d reasons are told apart, want at most %d", len(all), maxReasons+1)
	}
	var sum uint64
	for _, n := range all {
		sum += n
	}
	if sum != 10*maxReasons || all[coarseOther] == 0 {
		t.Errorf("%d writes are counted, %d of them as %q; want all of %d", sum, all[coarseOther], coarseOther, 10*maxReasons)
	}
	var none tally
	if none.load() != nil {
		t.Error("there are reasons before there was a coarse write")
	}
}

// A bound belongs to its bucket, as in Prometheus ("le"): else a latency of just the bound's value is shown as worse than it is.
func TestTimesByBucket(t *testing.T) {
	t.Parallel()
	var some times
	for _, took := range []time.Duration{0, 100 * time.Microsecond, 3 * time.Millisecond, time.Minute} {
		some.since(time.Now().Add(-took))
	}
	h := some.load()
	if len(h.Counts) != len(h.Bounds)+1 {
		t.Fatalf("%d buckets for %d bounds, want one more", len(h.Counts), len(h.Bounds))
	}
	var sum uint64
	for _, n := range h.Counts {
		sum += n
	}
	if h.Count != 4 || sum != 4 || h.Counts[len(h.Bounds)] != 1 || h.Sum < 60 {
		t.Errorf("%+v, want 4 in all, one of them above the last bound and a minute long", h)
	}
}

// A text is cut by bytes, and half a letter is no text for JSON.
func TestLastErrorsAreText(t *testing.T) {
	t.Parallel()
	var log errorLog
	for shift := range 4 {
		log.add(errors.New(strings.Repeat("x", shift) + strings.Repeat("é", maxErrorText)))
	}
	for _, e := range log.load() {
		if !utf8.ValidString(e.Text) || len(e.Text) > maxErrorText+len("…") {
			t.Errorf("%d bytes: %q", len(e.Text), e.Text)
		}
	}
}

// The status page shows these: the latest, and never without end.
func TestLastErrorsAreBounded(t *testing.T) {
	t.Parallel()
	var log errorLog
	for i := range 3 * maxErrors {
		log.add(fmt.Errorf("error %d", i))
	}
	log.add(errors.New(strings.Repeat("x", 10*maxErrorText)))
	all := log.load()
	if len(all) != maxErrors || all[len(all)-2].Text != fmt.Sprintf("error %d", 3*maxErrors-1) {
		t.Errorf("%d errors are kept, the last but one is %q", len(all), all[len(all)-2].Text)
	}
	if n := len(all[len(all)-1].Text); n > maxErrorText+len("…") {
		t.Errorf("a long error has %d bytes, want at most %d", n, maxErrorText)
	}
}
