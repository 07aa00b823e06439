package wtcache

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/wtcache/wtcache/cachesync"
)

// AuditOptions say what an Audit looks at. The zero value looks at every entry in Redis of
// every rule, as fast as it can, and changes nothing.
type AuditOptions struct {
	// Entries are the entries to look at: "users.by_id", or "users" for all of a table.
	// None means all entries of all rules.
	Entries []string
	// Sample is about how many keys are looked at of each entry, from a place of Redis
	// drawn at random; 0 means all.
	Sample int
	// Rows is how many rows are taken from random pages of the table for each entry, to see how many of
	// them are cached; 0 means 1,000, and less than 0 none.
	Rows int
	// Rate bounds the keys that are looked at in a second; 0 means no bound.
	Rate float64
	// Repair makes keys with a fault absent. Nothing is ever stored.
	Repair bool
	// Threshold is what AuditReport.OverThreshold is judged by; the zero value allows no fault.
	Threshold AuditThreshold
	// Grace is how long an entry of an eventual rule must have stood beside another row
	// before it counts as stale; 0 means 5 s. Strict rules need none.
	Grace time.Duration
	// Progress, where set, is called now and then with the number of keys looked at so far, and about how
	// many there will be, 0 where that is not known. It must not block.
	Progress func(done, total int64)
}

// Defaults of AuditOptions.
const (
	defaultAuditRows  = 1000
	defaultAuditGrace = 5 * time.Second
)

// AuditThreshold is how many keys with a fault are put up with: a count, or a share of the
// keys that were looked at. Both are 0 for none.
type AuditThreshold struct {
	Count int64
	Share float64 // 0 to 1
}

// ParseAuditThreshold reads a count ("10") or a percentage ("0.01%").
func ParseAuditThreshold(text string) (AuditThreshold, error) {
	number, percent := strings.CutSuffix(strings.TrimSpace(text), "%")
	if percent {
		if share, err := strconv.ParseFloat(strings.TrimSpace(number), 64); err == nil && share >= 0 && share <= 100 {
			return AuditThreshold{Share: share / 100}, nil
		}
	} else if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 {
		return AuditThreshold{Count: n}, nil
	}
	return AuditThreshold{}, fmt.Errorf("wtcache: threshold %q is neither a number of keys, such as 10, nor a percentage, such as 0.01%%", text)
}

// over says whether so many faults are too many.
func (t AuditThreshold) over(c AuditCounts) bool {
	if t.Share > 0 {
		return float64(c.Faulty) > t.Share*float64(c.Checked)
	}
	return c.Faulty > t.Count
}

// AuditCounts are keys. Each key that was checked is counted once among Consistent, Stale,
// Orphan, Damaged, Foreign, OtherSchema, Fenced, Gone, Unserved, Undecided and Unjudged.
type AuditCounts struct {
	Checked    int64 `json:"checked"`
	Consistent int64 `json:"consistent"` // what the database has, byte for byte
	// Stale entries are older than a commit that was visible before the last look at them began.
	Stale int64 `json:"stale"`
	// Orphan entries show a row that there is not, or that the rule's `when` or its key leaves out.
	Orphan  int64 `json:"orphan"`
	Damaged int64 `json:"damaged"` // the checksum does not fit
	// Foreign is what stands under the key of a row and is no entry of any format.
	Foreign int64 `json:"foreign"`
	// OtherSchema are entries of another schema or format, of a release with other rules, or of format plain or versioned with
	// the payload that the row has and without a header, which Redis has evicted: absent for wtcache's readers.
	OtherSchema int64 `json:"other_schema"`
	Fenced      int64 `json:"fenced"` // a commit is under way, and there is no value
	Gone        int64 `json:"gone"`   // the value went before it was looked at
	// Unserved entries differ, and are not served: they are owed, Redis or Postgres has lost data since, or an outage is under way.
	Unserved int64 `json:"unserved"`
	// Undecided keys were written each time that they were looked at.
	Undecided int64 `json:"undecided"`
	// Unjudged keys could not be compared: row-level security hides rows from this role, the key is
	// not unique, or the session spells values in another way.
	Unjudged int64 `json:"unjudged"`

	NoTTL   int64 `json:"no_ttl"`   // entries that never expire
	OverTTL int64 `json:"over_ttl"` // entries that have outlived their rule's ttl, or are going to
	// Ahead are entries whose version, or time of writing, is ahead of the server's: it was reset.
	Ahead int64 `json:"ahead"`

	// Faulty keys are stale, orphans, damaged, foreign, or have one of the three faults above.
	Faulty   int64 `json:"faulty"`
	Repaired int64 `json:"repaired"` // of these, those that were made absent

	// Skipped keys match the pattern and belong to no entry, or hold none and there is no such row: they are another
	// program's. They are not counted as checked.
	Skipped int64 `json:"skipped"`

	// Rows were taken from the table; Absent of them have no entry, which is never wrong.
	Rows   int64 `json:"rows"`
	Absent int64 `json:"absent"`
}

func (c *AuditCounts) add(o AuditCounts) {
	for _, n := range []struct{ sum, more *int64 }{
		{&c.Checked, &o.Checked}, {&c.Consistent, &o.Consistent}, {&c.Stale, &o.Stale}, {&c.Orphan, &o.Orphan},
		{&c.Damaged, &o.Damaged}, {&c.Foreign, &o.Foreign}, {&c.OtherSchema, &o.OtherSchema}, {&c.Fenced, &o.Fenced},
		{&c.Gone, &o.Gone}, {&c.Unserved, &o.Unserved}, {&c.Undecided, &o.Undecided}, {&c.Unjudged, &o.Unjudged},
		{&c.NoTTL, &o.NoTTL}, {&c.OverTTL, &o.OverTTL}, {&c.Ahead, &o.Ahead}, {&c.Faulty, &o.Faulty},
		{&c.Repaired, &o.Repaired}, {&c.Skipped, &o.Skipped}, {&c.Rows, &o.Rows}, {&c.Absent, &o.Absent},
	} {
		*n.sum += *n.more
	}
}

// AuditReport is what an audit has found. It holds keys, and never payloads. It is not changed
// once Audit has returned it.
type AuditReport struct {
	Started         time.Time    `json:"started"`
	DurationSeconds float64      `json:"duration_seconds"`
	Sample          int          `json:"sample"` // as in AuditOptions; 0: all
	Total           AuditCounts  `json:"total"`
	Entries         []AuditEntry `json:"entries"`
	// Within is Polaris' figure, for 1, 5, 10, 60, 300 and 3,600 seconds.
	Within []AuditWithin `json:"consistent_within"`
	// WithinBasis is "commit timestamps" where Postgres keeps them (track_commit_timestamp),
	// else "written_at".
	WithinBasis   string `json:"consistent_within_basis"`
	OverThreshold bool   `json:"over_threshold"`
	// Unfinished says what has ended the audit before it was through, "" for nothing: what was found is not all then.
	Unfinished string `json:"unfinished,omitempty"`
	// Notes say what was left out, and why.
	Notes []string `json:"notes,omitempty"`
}

// AuditEntry is what was found of one entry of a rule.
type AuditEntry struct {
	Entry string `json:"entry"` // "public.users.by_id"
	AuditCounts
	Ages AuditAges `json:"ages"` // of the good entries
	// Examples are at most 10 keys with a fault.
	Examples []AuditExample `json:"examples,omitempty"`
}

// AuditExample is a key with a fault.
type AuditExample struct {
	Key   string `json:"key"`
	Fault string `json:"fault"` // "stale", "orphan", "damaged", "foreign", "no_ttl", "over_ttl" or "ahead"
	// AgeSeconds is since the entry was stored. Where it is stale, it has been so for at most that long.
	AgeSeconds float64 `json:"age_seconds,omitempty"`
	// StaleSeconds is for how long it has been stale at the least: since the row's latest commit
	// where Postgres keeps its time, else since the audit noticed.
	StaleSeconds float64 `json:"stale_seconds,omitempty"`
	Repaired     bool    `json:"repaired,omitempty"`
}

// maxExamples bounds AuditEntry.Examples.
const maxExamples = 10

// AuditAges is a histogram of ages. Counts has one bucket for each bound, of what is no older
// and older than the bound before, and one more for the rest; they are not cumulative.
type AuditAges struct {
	BoundsSeconds []float64 `json:"bounds_seconds"`
	Counts        []int64   `json:"counts"`
}

func newAuditAges() AuditAges {
	a := AuditAges{Counts: make([]int64, len(cachesync.AgeBounds)+1)}
	for _, b := range cachesync.AgeBounds {
		a.BoundsSeconds = append(a.BoundsSeconds, b.Seconds())
	}
	return a
}

func (a *AuditAges) add(age time.Duration) {
	i := 0
	for i < len(a.BoundsSeconds) && age.Seconds() > a.BoundsSeconds[i] {
		i++
	}
	a.Counts[i]++
}

// AuditWithin says how many writes were consistent within so many seconds: of the entries
// whose row was last changed at least that long before they were looked at, Right showed
// the change, or were otherwise as the row is. What is absent, or younger, does not count.
//
// With commit timestamps the time of the change is known. Without, a right entry counts as
// changed when it was stored, which is later than its change, and a stale one as changed right after it was
// stored, which is earlier: the figure is then never better than the truth for the stale ones.
type AuditWithin struct {
	Seconds float64 `json:"seconds"`
	Changes int64   `json:"changes"`
	Right   int64   `json:"right"`
	// Share is Right of Changes, nil where there are none.
	Share *float64 `json:"share"`
}

var auditWithinSeconds = [...]float64{1, 5, 10, 60, 300, 3600}

func (r *AuditReport) noteChange(ago time.Duration, right bool) {
	for i := range r.Within {
		if w := &r.Within[i]; ago.Seconds() >= w.Seconds {
			w.Changes++
			if right {
				w.Right++
			}
		}
	}
}

// Audit compares entries in Redis with their rows in Postgres, and says what it has found.
// It raises no false alarm over writes that go on meanwhile: what differs is looked at
// again until it is certain (see auditor.settle). It needs one connection of the pool at a
// time, for the time of a query, and memory for some hundred keys, however many there are.
// What this process finds last is in Stats.Audit.
//
// On error the report holds what was found until then. Errors wrap ErrUnknownEntry,
// ErrConfig, ErrUnavailable for a Redis that does not answer, or the context's error.
func Audit(ctx context.Context, db *sql.DB, opts AuditOptions) (*AuditReport, error) {
	c, err := CacheOf(db)
	if err != nil {
		return nil, err
	}
	a := newAuditor(c, opts)
	targets, err := a.targets(ctx)
	if err != nil {
		return nil, err
	}
	err = a.run(ctx, targets)
	a.finish()
	if err != nil {
		a.report.Unfinished = err.Error()
		return a.report, err
	}
	c.engine.lastAudit.Store(a.report)
	return a.report, nil
}

func newAuditor(c *Cache, opts AuditOptions) *auditor {
	if opts.Grace <= 0 {
		opts.Grace = defaultAuditGrace
	}
	if opts.Rows == 0 {
		opts.Rows = defaultAuditRows
	}
	a := &auditor{cache: c, opts: opts, limit: rate.NewLimiter(rate.Inf, 0)}
	if opts.Rate > 0 {
		a.limit = rate.NewLimiter(rate.Limit(opts.Rate), auditBatch)
	}
	a.report = &AuditReport{Started: time.Now(), Sample: opts.Sample, WithinBasis: "written_at"}
	for _, s := range auditWithinSeconds {
		a.report.Within = append(a.report.Within, AuditWithin{Seconds: s})
	}
	return a
}

// finish sums up.
func (a *auditor) finish() {
	r := a.report
	for i := range r.Entries {
		r.Total.add(r.Entries[i].AuditCounts)
	}
	for i := range r.Within {
		if w := &r.Within[i]; w.Changes > 0 {
			share := float64(w.Right) / float64(w.Changes)
			w.Share = &share
		}
	}
	r.DurationSeconds = time.Since(r.Started).Seconds()
	r.OverThreshold = a.opts.Threshold.over(r.Total)
}
