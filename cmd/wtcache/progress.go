package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"
)

// lineEvery is the time between two lines of progress where there is no terminal.
const lineEvery = 10 * time.Second

// progress tells on stderr how far a long work is: on a terminal a bar with rate and time left, elsewhere a line
// every ten seconds, with --quiet nothing. It is for one goroutine.
type progress struct {
	bar   *progressbar.ProgressBar // nil: lines
	lines io.Writer                // nil: nothing
	now   func() time.Time

	what          string
	done, total   int64
	start, spoken time.Time
}

// newProgress begins to tell. The total is what there is to do, as far as it is known (0 or less: not); what is its
// noun in the plural, "rows".
func newProgress(cmd *cobra.Command, total int64, what string) *progress {
	p := &progress{now: time.Now, what: what, total: total}
	stderr := cmd.ErrOrStderr()
	switch quiet, _ := cmd.Flags().GetBool("quiet"); {
	case quiet:
	case isTerminal(stderr):
		p.bar = newBar(stderr, total, what)
	default:
		p.lines = stderr
	}
	p.start = p.now()
	p.spoken = p.start
	return p
}

func newBar(stderr io.Writer, total int64, what string) *progressbar.ProgressBar {
	if total <= 0 {
		total = -1 // a spinner
	}
	return progressbar.NewOptions64(total,
		progressbar.OptionSetWriter(stderr),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString(what),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetElapsedTime(true),
		progressbar.OptionClearOnFinish(),
	)
}

// set tells how much is done in all, and of how much: a total that was estimated may become better known.
func (p *progress) set(done, total int64) {
	if total > 0 && done > total {
		total = done // an estimate that was too low
	}
	if p.bar != nil {
		if total > 0 && total != p.total {
			p.bar.ChangeMax64(total)
		}
		_ = p.bar.Set64(done) // a terminal that cannot be written to
	}
	p.done, p.total = done, total
	if now := p.now(); p.lines != nil && now.Sub(p.spoken) >= lineEvery {
		p.spoken = now
		fmt.Fprintln(p.lines, p.line(now))
	}
}

// add tells that n more are done.
func (p *progress) add(n int64) { p.set(p.done+n, p.total) }

// close ends the telling and clears the bar away; what follows on stdout says the result.
func (p *progress) close() {
	if p.bar != nil {
		_ = p.bar.Exit()
		_ = p.bar.Clear()
	}
}

// line is "1200 of 48000 rows (2 %), 120 rows/s, 6m30s left".
func (p *progress) line(now time.Time) string {
	var b strings.Builder
	rate := float64(p.done) / now.Sub(p.start).Seconds()
	if p.total > 0 {
		fmt.Fprintf(&b, "%d of %d %s (%d %%), %.0f %s/s", p.done, p.total, p.what, 100*p.done/p.total, rate, p.what)
	} else {
		fmt.Fprintf(&b, "%d %s, %.0f %s/s", p.done, p.what, rate, p.what)
	}
	if left := p.total - p.done; left > 0 && rate > 0 {
		fmt.Fprintf(&b, ", %v left", (time.Duration(float64(left) / rate * float64(time.Second))).Round(time.Second))
	}
	return b.String()
}
