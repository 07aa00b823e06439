package statuspage

import (
	"context"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
)

// Sample is what happened between two looks, and what was so at the second one. What could not be told (no write, no hit,
// no counters to read) is nil.
type Sample struct {
	Time            time.Time `json:"time"`
	WritesPerSecond *float64  `json:"writes_per_second"`
	ReadsPerSecond  *float64  `json:"reads_per_second"`
	// Quantiles are estimated within the buckets of the histograms.
	WriteP50 *float64 `json:"write_p50_seconds"`
	WriteP95 *float64 `json:"write_p95_seconds"`
	HitRatio *float64 `json:"hit_ratio"`
	AgeP50   *float64 `json:"served_age_p50_seconds"`
	AgeP95   *float64 `json:"served_age_p95_seconds"`

	OutboxRows   *float64 `json:"outbox_rows"`
	OutboxOldest *float64 `json:"outbox_oldest_seconds"`
}

// ring keeps the samples of the last Window, the newest last, and the counters that each was made of.
type ring struct {
	samples []Sample
	stats   []*wtcache.Stats // parallel to samples; nil where there were none
	size    int
}

func newRing(every time.Duration) ring { return ring{size: int(Window/every) + 1} }

func (r *ring) add(v view, now time.Time) {
	s := Sample{Time: now}
	switch {
	case v.stats != nil:
		s.OutboxRows, s.OutboxOldest = number(float64(v.stats.Outbox.Depth)), number(v.stats.Outbox.Oldest.Seconds())
		if last := len(r.samples) - 1; last >= 0 && r.stats[last] != nil {
			s.between(r.stats[last], v.stats, now.Sub(r.samples[last].Time))
		}
	case v.outside != nil && v.outside.Outbox.Error == "":
		s.OutboxRows, s.OutboxOldest = number(float64(v.outside.Outbox.Rows)), number(v.outside.Outbox.OldestSeconds)
	}
	if len(r.samples) == r.size {
		r.samples, r.stats = append(r.samples[:0], r.samples[1:]...), append(r.stats[:0], r.stats[1:]...)
	}
	r.samples, r.stats = append(r.samples, s), append(r.stats, v.stats)
}

// before gives the counters as they were at least as long ago, or the oldest there are; nil where there are none.
func (r *ring) before(now time.Time, ago time.Duration) *wtcache.Stats {
	for i := len(r.samples) - 1; i >= 0; i-- {
		if now.Sub(r.samples[i].Time) >= ago {
			return r.stats[i]
		}
	}
	if len(r.stats) > 0 {
		return r.stats[0]
	}
	return nil
}

func number(f float64) *float64 { return &f }

// between fills in what happened from one look to another.
func (s *Sample) between(from, to *wtcache.Stats, took time.Duration) {
	if took <= 0 {
		return
	}
	writes := float64(to.WriteTimes.Count) - float64(from.WriteTimes.Count)
	hits, misses := float64(to.Hits-from.Hits), float64(to.Misses-from.Misses)
	s.WritesPerSecond = number(max(writes, 0) / took.Seconds())
	s.ReadsPerSecond = number((hits + misses) / took.Seconds())
	if hits+misses > 0 {
		s.HitRatio = number(hits / (hits + misses))
	}
	write := since(from.WriteTimes, to.WriteTimes)
	s.WriteP50, s.WriteP95 = write.quantile(0.5), write.quantile(0.95)
	age := since(agesOf(from.Redis.Ages), agesOf(to.Redis.Ages))
	s.AgeP50, s.AgeP95 = age.quantile(0.5), age.quantile(0.95)
}

// buckets are the counts of a histogram between two looks.
type buckets struct {
	bounds []float64
	counts []float64 // one more than bounds
	total  float64
}

func since(from, to wtcache.Histogram) buckets {
	b := buckets{bounds: to.Bounds, counts: make([]float64, len(to.Counts))}
	for i := range to.Counts {
		n := float64(to.Counts[i])
		if i < len(from.Counts) {
			n -= float64(from.Counts[i])
		}
		b.counts[i] = max(n, 0) // the counters are read one by one
		b.total += b.counts[i]
	}
	return b
}

func agesOf(a cachesync.Ages) wtcache.Histogram {
	h := wtcache.Histogram{Sum: a.Sum.Seconds()}
	for _, bound := range cachesync.AgeBounds {
		h.Bounds = append(h.Bounds, bound.Seconds())
	}
	for _, n := range a.Counts {
		h.Counts = append(h.Counts, uint64(n))
		h.Count += uint64(n)
	}
	return h
}

// quantile estimates by a straight line within the bucket, as Prometheus' histogram_quantile does; above the last bound it is that
// bound. It is nil where nothing was counted.
func (b buckets) quantile(q float64) *float64 {
	if b.total == 0 {
		return nil
	}
	rank, seen := q*b.total, 0.0
	for i, n := range b.counts {
		if seen+n < rank || n == 0 {
			seen += n
			continue
		}
		if i == len(b.bounds) {
			break
		}
		low := 0.0
		if i > 0 {
			low = b.bounds[i-1]
		}
		return number(low + (b.bounds[i]-low)*(rank-seen)/n)
	}
	return number(b.bounds[len(b.bounds)-1])
}

// sample looks until the context ends.
func (p *Page) sample(ctx context.Context) {
	defer close(p.done)
	tick := time.NewTicker(p.opts.Every)
	defer tick.Stop()
	for {
		p.takeSample(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// takeSample leaves a gap in the plots where nothing can be seen. Why, the page says when it is asked for.
func (p *Page) takeSample(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	v, err := p.source.look(ctx)
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ring.add(v, time.Now())
}

// lookPatience bounds a look at servers.
const lookPatience = 15 * time.Second
