// Package wtcacheprom shows what wtcache counts as Prometheus metrics. The metrics are listed in docs/OBSERVABILITY.md; with them come
// a dashboard and alerting rules (folder monitoring).
package wtcacheprom

import (
	"database/sql"
	"maps"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/metricset"
)

// DefaultName is the value of the label db where WithName says nothing else.
const DefaultName = "default"

// Option changes what NewCollector makes.
type Option func(*options)

type options struct {
	labels prometheus.Labels
}

// WithName sets the label db, which every metric has. Several databases in one registry need a name each.
func WithName(name string) Option { return WithLabels(prometheus.Labels{"db": name}) }

// WithLabels sets further labels that every metric has, with the same values for ever.
func WithLabels(labels prometheus.Labels) Option {
	return func(o *options) { maps.Copy(o.labels, labels) }
}

// collector reads the counters of one database at each scrape. It keeps nothing between scrapes and is safe for concurrent use.
type collector struct {
	stats   func() (wtcache.Stats, error)
	metrics []metricset.Metric
	descs   []*prometheus.Desc
}

// NewCollector makes a collector of a *sql.DB that was opened through wtcache: register it with a prometheus.Registerer. A scrape reads counters in
// memory; it asks neither Postgres nor Redis. Unregister it when the *sql.DB is closed. The error wraps wtcache.ErrConfig.
func NewCollector(db *sql.DB, opts ...Option) (prometheus.Collector, error) {
	if _, err := wtcache.StatsOf(db); err != nil {
		return nil, err
	}
	o := options{labels: prometheus.Labels{"db": DefaultName}}
	for _, set := range opts {
		set(&o)
	}
	c := &collector{stats: func() (wtcache.Stats, error) { return wtcache.StatsOf(db) }, metrics: metricset.All()}
	for _, m := range c.metrics {
		var variable []string
		if m.Label != "" {
			variable = []string{m.Label}
		}
		c.descs = append(c.descs, prometheus.NewDesc(m.PrometheusName(), m.Help+".", variable, o.labels))
	}
	return c, nil
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	s, err := c.stats()
	if err != nil {
		to <- prometheus.NewInvalidMetric(c.descs[0], err)
		return
	}
	for i := range c.metrics {
		c.collect(to, &c.metrics[i], c.descs[i], &s)
	}
}

func (c *collector) collect(to chan<- prometheus.Metric, m *metricset.Metric, desc *prometheus.Desc, s *wtcache.Stats) {
	kind := prometheus.CounterValue
	switch m.Kind {
	case metricset.Histogram:
		h := m.Times(s)
		to <- prometheus.MustNewConstHistogram(desc, h.Count, h.Sum, cumulative(h))
		return
	case metricset.Gauge:
		kind = prometheus.GaugeValue
	}
	for _, p := range m.Points(s) {
		if m.Label == "" {
			to <- prometheus.MustNewConstMetric(desc, kind, p.Value)
		} else {
			to <- prometheus.MustNewConstMetric(desc, kind, p.Value, p.Label)
		}
	}
}

// cumulative gives the buckets as Prometheus counts them, the last one (+Inf) left out.
func cumulative(h wtcache.Histogram) map[float64]uint64 {
	buckets := make(map[float64]uint64, len(h.Bounds))
	var sum uint64
	for i, bound := range h.Bounds {
		sum += h.Counts[i]
		buckets[bound] = sum
	}
	return buckets
}
