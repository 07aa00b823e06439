// Package metricset says which metrics there are of a *sql.DB of wtcache: one table, from which wtcacheprom and
// wtcacheotel make theirs, so that the two cannot drift apart.
package metricset

import (
	"strings"

	"github.com/wtcache/wtcache"
)

// Kind is what a metric's values mean.
type Kind uint8

// The kinds.
const (
	Counter Kind = iota // only rises while the program runs
	Gauge
	Histogram
)

// String is the kind as Prometheus calls it.
func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// Metric is one row of the table. Everything about it is fixed, but for the values of a label like a coarse write's reason,
// which come with the Stats.
type Metric struct {
	Name  string // as OpenTelemetry writes it: "wtcache.writes"
	Unit  string // in UCUM, as OpenTelemetry writes it: "s", "{key}"
	Kind  Kind
	Help  string // a sentence without its full stop
	Label string // what its points differ by; "" where there is one

	// points are the values of a counter or a gauge, times those of a histogram.
	points func(*wtcache.Stats) []Point
	times  func(*wtcache.Stats) wtcache.Histogram
}

// Point is one value of a metric.
type Point struct {
	Label string // value of the metric's Label
	Value float64
}

// Points gives the values of a counter or a gauge.
func (m *Metric) Points(s *wtcache.Stats) []Point { return m.points(s) }

// Times gives the values of a histogram.
func (m *Metric) Times(s *wtcache.Stats) wtcache.Histogram { return m.times(s) }

// PrometheusName is the name by Prometheus' conventions: the unit is part of it, and "_total" that of a counter.
func (m *Metric) PrometheusName() string {
	name := strings.ReplaceAll(m.Name, ".", "_")
	if m.Unit == "s" {
		name += "_seconds"
	}
	if m.Unit == "1" {
		name += "_ratio"
	}
	if m.Kind == Counter {
		name += "_total"
	}
	return name
}

type number interface{ ~int64 | ~uint64 }

// part is a value with its label.
func part[N number](label string, n N) Point { return Point{label, float64(n)} }

// one makes a metric of one value.
func one[N number](kind Kind, name, unit, help string, value func(*wtcache.Stats) N) Metric {
	return Metric{Name: name, Unit: unit, Kind: kind, Help: help, points: func(s *wtcache.Stats) []Point { return []Point{part("", value(s))} }}
}

func counter[N number](name, unit, help string, value func(*wtcache.Stats) N) Metric {
	return one(Counter, name, unit, help, value)
}

func gauge[N number](name, unit, help string, value func(*wtcache.Stats) N) Metric {
	return one(Gauge, name, unit, help, value)
}

// split makes a counter of several values.
func split(name, unit, help, label string, points func(*wtcache.Stats) []Point) Metric {
	return Metric{Name: name, Unit: unit, Kind: Counter, Help: help, Label: label, points: points}
}

// float makes a gauge of a value that is no whole number.
func float(name, unit, help string, value func(*wtcache.Stats) float64) Metric {
	return Metric{Name: name, Unit: unit, Kind: Gauge, Help: help, points: func(s *wtcache.Stats) []Point { return []Point{{Value: value(s)}} }}
}

func histogram(name, help string, times func(*wtcache.Stats) wtcache.Histogram) Metric {
	return Metric{Name: name, Unit: "s", Kind: Histogram, Help: help, times: times}
}
