package statuspage

import (
	"context"
	"slices"
	"time"

	"github.com/wtcache/wtcache"
)

// Report is what the page shows and what stats.json holds.
type Report struct {
	Name         string             `json:"name"` // of the program: Options.Name
	Time         time.Time          `json:"time"`
	Since        time.Time          `json:"since"` // when the page was made
	EverySeconds float64            `json:"every_seconds"`
	Health       Health             `json:"health"`
	Rules        []wtcache.RuleInfo `json:"rules"`
	// Counters are all numbers of wtcache.Stats since the *sql.DB was opened, in snake case. Absent where the page is of no program.
	Counters map[string]any `json:"counters,omitempty"`
	// Samples are of the last minutes, the oldest first.
	Samples []Sample `json:"samples"`
	Errors  []Error  `json:"errors"` // the newest first
	// Audit is the last one of this process; null before there was one.
	Audit *wtcache.AuditReport `json:"audit"`
	// Servers is what can be seen from outside, in the page of `wtcache status`.
	Servers *wtcache.StatusReport `json:"servers,omitempty"`

	stats        *wtcache.Stats
	minuteBefore *wtcache.Stats
}

// Error is one that no caller was given.
type Error struct {
	Time time.Time `json:"time"`
	Text string    `json:"text"`
}

// Report looks now. The error is for what cannot be looked at; the report says what it can all the same.
func (p *Page) Report(ctx context.Context) (*Report, error) {
	now := time.Now()
	r := &Report{Name: p.opts.Name, Time: now, Since: p.since, EverySeconds: p.opts.Every.Seconds(), Rules: []wtcache.RuleInfo{}, Errors: []Error{}}
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	v, err := p.source.look(ctx)
	if err != nil {
		r.Health = healthOf([]Sign{{Unhealthy, "The set-up cannot be looked at", err.Error()}})
		return r, err
	}
	p.mu.Lock()
	r.Samples = slices.Clone(p.ring.samples)
	before := p.ring.before(now, recent)
	r.minuteBefore = p.ring.before(now, time.Minute)
	p.mu.Unlock()
	r.fill(v)
	r.Health = healthOf(signsOf(v, before, now))
	return r, nil
}

func (r *Report) fill(v view) {
	if v.rules != nil {
		r.Rules = v.rules
	}
	if r.Samples == nil {
		r.Samples = []Sample{}
	}
	r.Servers, r.stats = v.outside, v.stats
	if v.stats == nil {
		return
	}
	r.Counters, r.Audit = countersOf(v.stats), v.stats.Audit
	if redis, ok := r.Counters["redis"].(map[string]any); ok {
		ages := histogramCounters(agesOf(v.stats.Redis.Ages))
		ages["max_seconds"] = v.stats.Redis.Ages.Max.Seconds()
		redis["ages"] = ages
	}
	for _, e := range slices.Backward(v.stats.LastErrors) {
		r.Errors = append(r.Errors, Error{e.Time, e.Text})
	}
}
