package statuspage

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
)

// The quantiles are what people compare with their dashboards: the same estimate as Prometheus', or nobody trusts either.
func TestQuantile(t *testing.T) {
	t.Parallel()
	bounds := []float64{1, 2, 4}
	for _, c := range []struct {
		from, to []uint64
		q        float64
		want     float64 // under 0: nothing
	}{
		{nil, []uint64{0, 0, 0, 0}, 0.5, -1},
		{nil, []uint64{10, 0, 0, 0}, 0.5, 0.5},
		{nil, []uint64{0, 10, 0, 0}, 0.5, 1.5},
		{nil, []uint64{5, 0, 5, 0}, 0.95, 3.8},
		{nil, []uint64{0, 0, 0, 3}, 0.5, 4},
		{[]uint64{10, 0, 0, 0}, []uint64{10, 0, 10, 0}, 0.5, 3}, // what was before does not count
		{[]uint64{10, 0, 0, 0}, []uint64{10, 0, 0, 0}, 0.5, -1},
		{[]uint64{10, 0, 0, 0}, []uint64{9, 1, 0, 0}, 0.5, 1.5}, // read while it was counted
	} {
		got := since(wtcache.Histogram{Bounds: bounds, Counts: c.from}, wtcache.Histogram{Bounds: bounds, Counts: c.to}).quantile(c.q)
		switch {
		case got == nil && c.want >= 0, got != nil && c.want < 0:
			t.Errorf("%v to %v: %v, want %v", c.from, c.to, got, c.want)
		case got != nil && math.Abs(*got-c.want) > 1e-9:
			t.Errorf("%v to %v: the %v quantile is %v, want %v", c.from, c.to, c.q, *got, c.want)
		}
	}
}

// A page that runs for weeks must not grow, and its plots must show the latest minutes.
func TestRingIsBounded(t *testing.T) {
	t.Parallel()
	r := newRing(time.Minute)
	start := time.Now()
	for i := range 100 {
		r.add(view{stats: &wtcache.Stats{Hits: uint64(60 * i), Misses: uint64(20 * i)}}, start.Add(time.Duration(i)*time.Minute))
	}
	if len(r.samples) != 16 || len(r.stats) != 16 {
		t.Fatalf("%d samples, %d looks, want 16", len(r.samples), len(r.stats))
	}
	last := r.samples[15]
	if !last.Time.Equal(start.Add(99*time.Minute)) || *last.HitRatio != 0.75 || *last.ReadsPerSecond != 80.0/60 || last.WriteP50 != nil {
		t.Errorf("the last sample is %+v", last)
	}
	if got := r.before(start.Add(99*time.Minute), 5*time.Minute); got.Hits != 94*60 {
		t.Errorf("five minutes ago there were %d hits, want %d", got.Hits, 94*60)
	}
}

// What is on top of the page decides whether somebody looks further.
func TestHealth(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, c := range map[string]struct {
		before, stats *wtcache.Stats
		level         Level
		title         string
	}{
		"nothing":        {nil, &wtcache.Stats{}, Healthy, "Healthy"},
		"breaker":        {nil, &wtcache.Stats{BreakerOpen: true, Outbox: wtcache.OutboxStats{Depth: 1}}, Unhealthy, "Redis is away"},
		"outbox, young":  {nil, &wtcache.Stats{Outbox: wtcache.OutboxStats{Depth: 1, Oldest: time.Second}}, Warning, "The outbox is not empty"},
		"outbox, old":    {nil, &wtcache.Stats{Outbox: wtcache.OutboxStats{Depth: 1, Oldest: time.Minute}}, Unhealthy, "The outbox is not empty"},
		"in doubt":       {nil, &wtcache.Stats{InDoubt: 2, DoubtAborted: 1}, Warning, "A commit is in doubt"},
		"doubt settled":  {nil, &wtcache.Stats{InDoubt: 2, DoubtAborted: 1, DoubtExpired: 1}, Healthy, "Healthy"},
		"uncaptured":     {&wtcache.Stats{Uncaptured: 1}, &wtcache.Stats{Uncaptured: 2}, Warning, "Writes that could not be followed"},
		"long ago":       {&wtcache.Stats{Uncaptured: 2}, &wtcache.Stats{Uncaptured: 2}, Healthy, "Healthy"},
		"error":          {nil, &wtcache.Stats{LastErrors: []wtcache.ErrorRecord{{Time: now.Add(-time.Minute)}}}, Warning, "Errors in the background"},
		"old error":      {nil, &wtcache.Stats{LastErrors: []wtcache.ErrorRecord{{Time: now.Add(-time.Hour)}}}, Healthy, "Healthy"},
		"audit":          {nil, &wtcache.Stats{Audit: &wtcache.AuditReport{Total: wtcache.AuditCounts{Checked: 9, Stale: 1, Faulty: 1}}}, Unhealthy, "The audit found wrong entries"},
		"audit repaired": {nil, &wtcache.Stats{Audit: &wtcache.AuditReport{Total: wtcache.AuditCounts{Checked: 9, Faulty: 1, Repaired: 1}}}, Warning, "The audit found wrong entries and repaired them"},
	} {
		h := healthOf(signsOf(view{stats: c.stats}, c.before, now))
		if h.Level != c.level || h.Title != c.title {
			t.Errorf("%s: %s, %q, want %s, %q", name, h.Level, h.Title, c.level, c.title)
		}
	}
}

// Errors and audits name keys, and rules hold SQL: none of it may become markup or a script of the page.
func TestEverythingIsEscaped(t *testing.T) {
	t.Parallel()
	const evil = `"><img src=x onerror=alert(1)><script>alert(2)</script>`
	s := &wtcache.Stats{
		LastErrors: []wtcache.ErrorRecord{{Time: time.Now(), Text: evil}}, CoarseReasons: map[string]uint64{evil: 1},
		Audit: &wtcache.AuditReport{Total: wtcache.AuditCounts{Checked: 1, Faulty: 1}, Notes: []string{evil},
			Entries: []wtcache.AuditEntry{{Entry: evil, Examples: []wtcache.AuditExample{{Key: evil, Fault: evil}}}}},
	}
	rule := wtcache.RuleInfo{Table: evil, File: evil, Capture: "coarse", CaptureReason: evil, Invalidate: []string{evil},
		Entries: []wtcache.EntryInfo{{Name: evil, Key: evil, When: evil}}}
	r := &Report{Name: evil, Time: time.Now()}
	v := view{rules: []wtcache.RuleInfo{rule}, stats: s}
	r.fill(v)
	r.Health = healthOf(signsOf(v, nil, r.Time))
	p := &Page{done: make(chan struct{})}
	all := shown{Report: r, Box: true, Answer: explained{Asked: true, Text: evil, Error: evil, All: []wtcache.Explanation{{Kind: evil, Why: evil, Sent: evil, Warnings: []string{evil}}}}}
	all.fill(p)
	var b strings.Builder
	if err := pages.ExecuteTemplate(&b, "page.html", all); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if strings.Contains(text, "<img src=x") || strings.Contains(text, "<script>") {
		t.Errorf("text became markup in\n%s", text)
	}
	if n := strings.Count(text, "onerror=alert(1)&gt;"); n < 15 {
		t.Errorf("only %d of the texts are shown at all", n)
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for seconds, want := range map[float64]string{0: "0 s", 0.00025: "250 µs", 0.0012: "1.2 ms", 45: "45 s", 600: "10 min", 3600: "1 h", 5400: "1.5 h", 604800: "7 d"} {
		if got := shortDuration(seconds); got != want {
			t.Errorf("%v s is shown as %q, want %q", seconds, got, want)
		}
	}
	if got := percent(0.9999); got != "99.9 %" {
		t.Errorf("0.9999 is shown as %q: 100 %% is for all", got)
	}
	if got := snake("TTLMissing") + snake("PollFailures") + snake("WriteTimes"); got != "ttl_missingpoll_failureswrite_times" {
		t.Errorf("names are %q", got)
	}
}
