package torture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Result is what was found under one nemesis, or several at once.
type Result struct {
	Nemesis string        `json:"nemesis"`
	Windows int           `json:"windows"`
	Took    time.Duration `json:"nanoseconds"`

	// Row writes: committed, or without a row to write; rolled back on purpose; refused or failed for certain; of unknown outcome.
	Done       int `json:"done"`
	RolledBack int `json:"rolledBack"`
	Failed     int `json:"failed"`
	Unknown    int `json:"unknown"`
	// Reads that returned, those of them that Redis served, and those that failed.
	Reads       int `json:"reads"`
	Cached      int `json:"cached"`
	FailedReads int `json:"failedReads"`
	// Stale are reads that returned what had been replaced by a commit that was acknowledged before they began; Oldest is how
	// long before, for the worst of them.
	Stale  int           `json:"stale"`
	Oldest time.Duration `json:"oldestNanoseconds"`
	// Keys that did not hold their row when all was quiet.
	Differing int `json:"differing"`
	// Keys whose history has no order, in how many windows; and windows that Porcupine could not decide in time.
	NotLinearizable int `json:"notLinearizable"`
	Undecided       int `json:"undecided"`
	// Unsettled says what was still owed when a window's patience was over.
	Unsettled []string `json:"unsettled,omitempty"`
}

// Wrong says whether a promise was broken.
func (r Result) Wrong() bool {
	return r.Stale > 0 || r.Differing > 0 || r.NotLinearizable > 0 || len(r.Unsettled) > 0
}

func (r *Result) add(s Result) {
	r.Windows += s.Windows
	r.Took += s.Took
	r.Done, r.RolledBack, r.Failed, r.Unknown = r.Done+s.Done, r.RolledBack+s.RolledBack, r.Failed+s.Failed, r.Unknown+s.Unknown
	r.Reads, r.Cached, r.FailedReads = r.Reads+s.Reads, r.Cached+s.Cached, r.FailedReads+s.FailedReads
	r.Stale, r.Oldest = r.Stale+s.Stale, max(r.Oldest, s.Oldest)
	r.Differing += s.Differing
	r.NotLinearizable, r.Undecided = r.NotLinearizable+s.NotLinearizable, r.Undecided+s.Undecided
	r.Unsettled = append(r.Unsettled, s.Unsettled...)
}

func (r *Result) take(f findings, q quiet) {
	r.Done, r.RolledBack, r.Failed, r.Unknown = f.done, f.refused, f.failed, f.unknown
	r.Reads, r.Cached, r.FailedReads = f.reads, f.cached, f.failedReads
	r.Stale, r.Differing = len(f.stale), len(q.differing)
	for _, s := range f.stale {
		r.Oldest = max(r.Oldest, s.Age)
	}
	r.NotLinearizable = len(f.verdict.Broken)
	if f.verdict.Result == porcupine.Unknown {
		r.Undecided++
	}
	if q.unsettled != "" {
		r.Unsettled = append(r.Unsettled, q.unsettled)
	}
}

const heading = "nemesis                              seconds  writes ok  failed  unknown     reads  cache %  stale  worst age  differ  broken"

func (r Result) String() string {
	cached := 0.0
	if r.Reads > 0 {
		cached = 100 * float64(r.Cached) / float64(r.Reads)
	}
	age := "-"
	if r.Stale > 0 {
		age = r.Oldest.Round(time.Millisecond).String()
	}
	text := fmt.Sprintf("%-36s %7.1f %10d %7d %8d %9d %8.1f %6d %10s %7d %7d", r.Nemesis, r.Took.Seconds(), r.Done, r.Failed, r.Unknown,
		r.Reads, cached, r.Stale, age, r.Differing, r.NotLinearizable)
	if r.Undecided > 0 {
		text += fmt.Sprintf("  (%d windows not decided)", r.Undecided)
	}
	if len(r.Unsettled) > 0 {
		text += "  NOT SETTLED: " + strings.Join(r.Unsettled, "; ")
	}
	return text
}

// Report is what a run has found.
type Report struct {
	Topology Topology `json:"topology"`
	Mode     Mode     `json:"mode"`
	Seed     uint64   `json:"seed"`
	Results  []Result `json:"results"`
	Total    Result   `json:"total"`
	// Kept is the folder of the histories around what was wrong; "" where nothing was.
	Kept string `json:"kept,omitempty"`
}

// Wrong says whether a promise was broken.
func (r Report) Wrong() bool { return r.Total.Wrong() }

// WriteJSON writes the report as one JSON object.
func (r Report) WriteJSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Play makes a World, runs the plan, prints a line for each window and then one for each nemesis and the total, and ends the
// World.
func Play(ctx context.Context, o Options, plan Plan) (report Report, err error) {
	w, err := NewWorld(ctx, o)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	out := w.opts.Out
	fmt.Fprintf(out, "%s on %s, -seed %d; %d writing and %d reading processes of %d clients\nleft out: %s\n%s\n",
		w.opts.Mode, w.opts.Topology, w.opts.Seed, w.opts.Writers, w.opts.Readers, w.opts.Clients, leftOut(w.opts.Topology), heading)
	each := plan.Each
	plan.Each = func(r Result) {
		fmt.Fprintln(out, r)
		if each != nil {
			each(r)
		}
	}
	report, err = Run(ctx, w, plan)
	fmt.Fprintf(out, "\n%s\n", heading)
	for _, r := range report.Results {
		if r.Windows > 1 || len(report.Results) > 1 {
			fmt.Fprintln(out, r)
		}
	}
	fmt.Fprintln(out, report.Total)
	if report.Kept != "" {
		fmt.Fprintf(out, "kept in %s\n", report.Kept)
	}
	return report, err
}
