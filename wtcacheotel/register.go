// Package wtcacheotel shows what wtcache counts as OpenTelemetry metrics, and what it does as spans. The metrics are those of
// wtcacheprom, under OpenTelemetry's conventions; docs/OBSERVABILITY.md lists them.
package wtcacheotel

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/metricset"
)

// Scope is the name of the instrumentation: of the meter, and of the tracer.
const Scope = "github.com/wtcache/wtcache"

// NameKey is the attribute that tells databases apart.
const NameKey = attribute.Key("wtcache.db")

// DefaultName is its value where WithName says nothing else.
const DefaultName = "default"

// Option changes what Register and Histograms make.
type Option func(*options)

type options struct {
	name  string
	attrs []attribute.KeyValue
}

// WithName sets the attribute wtcache.db, which every metric has. Several databases in one program need a name each.
func WithName(name string) Option { return func(o *options) { o.name = name } }

// WithAttributes sets further attributes that every metric has.
func WithAttributes(attrs ...attribute.KeyValue) Option {
	return func(o *options) { o.attrs = append(o.attrs, attrs...) }
}

// attributes gives what every metric has.
func attributes(opts []Option) []attribute.KeyValue {
	o := options{name: DefaultName}
	for _, set := range opts {
		set(&o)
	}
	return append([]attribute.KeyValue{NameKey.String(o.name)}, o.attrs...)
}

// Register makes observable instruments of a *sql.DB that was opened through wtcache: its counters and gauges. They are read from memory
// when the provider collects; neither Postgres nor Redis is asked. OpenTelemetry has no observable histograms: those come from
// Histograms. Call unregister when the *sql.DB is closed. The error wraps wtcache.ErrConfig, or is the provider's.
func Register(db *sql.DB, provider metric.MeterProvider, opts ...Option) (unregister func() error, err error) {
	if _, err := wtcache.StatsOf(db); err != nil {
		return nil, err
	}
	r := &registration{db: db, common: attributes(opts)}
	meter := provider.Meter(Scope)
	var all []metric.Observable
	for _, m := range metricset.All() {
		if m.Kind == metricset.Histogram {
			continue
		}
		i, err := newInstrument(meter, m)
		if err != nil {
			return nil, err
		}
		r.instruments = append(r.instruments, i)
		all = append(all, i.observable)
	}
	registered, err := meter.RegisterCallback(r.observe, all...)
	if err != nil {
		return nil, err
	}
	return registered.Unregister, nil
}

type registration struct {
	db          *sql.DB
	common      []attribute.KeyValue
	instruments []*instrument
}

// instrument is a metric as the meter knows it: integers, but for what is measured in seconds.
type instrument struct {
	metric     metricset.Metric
	observable metric.Observable
	observe    func(o metric.Observer, value float64, opts ...metric.ObserveOption)
}

func newInstrument(meter metric.Meter, m metricset.Metric) (*instrument, error) {
	i := &instrument{metric: m}
	description, unit := metric.WithDescription(m.Help), metric.WithUnit(m.Unit)
	if m.Unit == "s" || m.Unit == "1" {
		gauge, err := meter.Float64ObservableGauge(m.Name, description, unit)
		i.observable, i.observe = gauge, func(o metric.Observer, v float64, opts ...metric.ObserveOption) { o.ObserveFloat64(gauge, v, opts...) }
		return i, err
	}
	var whole metric.Int64Observable
	var err error
	if m.Kind == metricset.Counter {
		whole, err = meter.Int64ObservableCounter(m.Name, description, unit)
	} else {
		whole, err = meter.Int64ObservableGauge(m.Name, description, unit)
	}
	i.observable, i.observe = whole, func(o metric.Observer, v float64, opts ...metric.ObserveOption) {
		o.ObserveInt64(whole, int64(v), opts...)
	}
	return i, err
}

func (r *registration) observe(_ context.Context, o metric.Observer) error {
	s, err := wtcache.StatsOf(r.db)
	if err != nil {
		return err
	}
	for _, i := range r.instruments {
		for _, p := range i.metric.Points(&s) {
			i.observe(o, p.Value, metric.WithAttributeSet(withLabel(r.common, i.metric.Label, p.Label)))
		}
	}
	return nil
}

func withLabel(common []attribute.KeyValue, label, value string) attribute.Set {
	if label == "" {
		return attribute.NewSet(common...)
	}
	return attribute.NewSet(append(slices.Clone(common), attribute.String(label, value))...)
}

// Histograms makes a producer of the histograms of a *sql.DB: write, fence and apply durations and the ages of what was served. Give it to
// the reader of the SDK with sdkmetric.WithProducer. It is safe for concurrent use. The error wraps wtcache.ErrConfig.
func Histograms(db *sql.DB, opts ...Option) (sdkmetric.Producer, error) {
	if _, err := wtcache.StatsOf(db); err != nil {
		return nil, err
	}
	return &producer{db: db, attrs: attribute.NewSet(attributes(opts)...), start: time.Now()}, nil
}

type producer struct {
	db    *sql.DB
	attrs attribute.Set
	start time.Time
}

// Produce implements sdkmetric.Producer.
func (p *producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	s, err := wtcache.StatsOf(p.db)
	if err != nil {
		return nil, err
	}
	scope := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: Scope}}
	now := time.Now()
	for _, m := range metricset.All() {
		if m.Kind != metricset.Histogram {
			continue
		}
		h := m.Times(&s)
		if len(h.Counts) != len(h.Bounds)+1 {
			return nil, errors.New("wtcacheotel: histogram " + m.Name + " has no buckets")
		}
		scope.Metrics = append(scope.Metrics, metricdata.Metrics{Name: m.Name, Description: m.Help, Unit: m.Unit, Data: metricdata.Histogram[float64]{
			Temporality: metricdata.CumulativeTemporality,
			DataPoints: []metricdata.HistogramDataPoint[float64]{{
				Attributes: p.attrs, StartTime: p.start, Time: now, Count: h.Count, Sum: h.Sum, Bounds: h.Bounds, BucketCounts: h.Counts,
			}},
		}})
	}
	return []metricdata.ScopeMetrics{scope}, nil
}
