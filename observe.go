package wtcache

import (
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Histogram counts durations in seconds by fixed buckets. Its parts are read one by one, so they need not add up while
// work is going on.
type Histogram struct {
	// Bounds are the buckets' upper bounds, inclusive, rising. They are shared: do not change them.
	Bounds []float64
	// Counts are those of each bucket alone (not cumulative), and one more of what is above the last bound.
	Counts []uint64
	Sum    float64
	Count  uint64
}

// timeBounds are the buckets of everything that a writer waits for, in seconds: from a round trip on the same machine to a
// request that somebody has given up on.
var timeBounds = []float64{.00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// times is a Histogram while it is counted. It is safe for concurrent use; the zero value is ready.
type times struct {
	counts [16]atomic.Uint64 // of timeBounds, and of what is above
	nanos  atomic.Int64
}

func (t *times) since(start time.Time) {
	took := time.Since(start)
	i, _ := slices.BinarySearch(timeBounds, took.Seconds())
	t.counts[i].Add(1)
	t.nanos.Add(int64(took))
}

func (t *times) load() Histogram {
	h := Histogram{Bounds: timeBounds, Counts: make([]uint64, len(t.counts)), Sum: time.Duration(t.nanos.Load()).Seconds()}
	for i := range t.counts {
		h.Counts[i] = t.counts[i].Load()
		h.Count += h.Counts[i]
	}
	return h
}

// Reasons for coarse writes that show only when the rows come back, or that are no statement's fault.
const (
	coarseForeignKey = "foreign key action"
	coarseOverflow   = "too many rows in one transaction"
	coarseLarge      = "too many rows when it ran last"
	coarseExpected   = "the planner expects too many rows"
	coarseUnreadable = "captured row cannot be read"
	coarseOtherTable = "row of another table than expected"
	coarseUnpinned   = "key not known from the statement"
	coarseOwed       = "everything is owed to redis"
	coarseUnseen     = "rows not read to their end"
	coarseRefused    = "the server refused the captured columns"

	// maxReasons bounds the reasons that are told apart, and with them the time series of a metrics system. There are
	// about thirty, all of them this package's own words; the rest would be counted as coarseOther.
	maxReasons  = 64
	coarseOther = "other"
)

// tally counts by reason. It is safe for concurrent use; the zero value is ready.
type tally struct {
	byReason sync.Map // string to *atomic.Uint64
	size     atomic.Int64
}

func (t *tally) add(reason string) {
	n, ok := t.byReason.Load(reason)
	if !ok {
		if t.size.Load() >= maxReasons {
			reason = coarseOther
		}
		var there bool
		if n, there = t.byReason.LoadOrStore(reason, new(atomic.Uint64)); !there {
			t.size.Add(1)
		}
	}
	n.(*atomic.Uint64).Add(1)
}

// load gives nil where nothing was counted.
func (t *tally) load() map[string]uint64 {
	var all map[string]uint64
	t.byReason.Range(func(reason, n any) bool {
		if all == nil {
			all = make(map[string]uint64)
		}
		all[reason.(string)] = n.(*atomic.Uint64).Load()
		return true
	})
	return all
}

// ErrorRecord is an error that no caller was given: it arose after COMMIT or in the background.
type ErrorRecord struct {
	Time time.Time
	Text string // at most some 500 bytes; may name keys and tables, holds no payload
}

const (
	maxErrors    = 20
	maxErrorText = 500
)

// errorLog keeps the latest errors. It is safe for concurrent use; the zero value is ready.
type errorLog struct {
	mu   sync.Mutex // guards last
	last []ErrorRecord
}

func (l *errorLog) add(err error) {
	text := err.Error()
	if len(text) > maxErrorText {
		text = strings.ToValidUTF8(text[:maxErrorText], "") + "…" // which may have cut a letter
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == maxErrors {
		l.last = slices.Delete(l.last, 0, 1)
	}
	l.last = append(l.last, ErrorRecord{Time: time.Now(), Text: text})
}

func (l *errorLog) load() []ErrorRecord {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.last)
}
