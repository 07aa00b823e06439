package wtcache

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"

	"github.com/wtcache/wtcache/internal/outbox"
	"github.com/wtcache/wtcache/rules"
)

// Tracer is told what wtcache does for a statement or a read, and how long it takes. Package wtcacheotel has one for
// OpenTelemetry. It must be safe for concurrent use. It is called only where a rule is concerned: never for a statement that
// touches none, nor for a hit.
type Tracer interface {
	// StartSpan begins a span as a child of the context's. The context that it gives is used for all that happens inside, the
	// database's part included. end is called once, on whatever goroutine, with the error that the span came to and
	// what is known only then. Background work has a context without a parent.
	StartSpan(ctx context.Context, name string, attrs ...slog.Attr) (_ context.Context, end func(err error, attrs ...slog.Attr))
}

// Names of spans.
const (
	SpanWrite = "wtcache.write" // an autocommit statement, or the COMMIT of a transaction that wrote ruled tables
	SpanFence = "wtcache.fence" // keys are barred before the commit
	SpanSweep = "wtcache.sweep" // every entry of some rules is made absent; inside SpanFence before a commit
	SpanQueue = "wtcache.queue" // Redis cannot be fenced: keys are written to the outbox
	SpanApply = "wtcache.apply" // committed: the keys get their values; with `apply: async` it ends after its SpanWrite
	SpanAbort = "wtcache.abort" // rolled back: the fences are given back
	SpanMiss  = "wtcache.miss"  // rows are read from the database and filled, under leases or without
	SpanDrain = "wtcache.drain" // what the outbox held is settled
)

// Keys of spans' attributes.
const (
	AttrRules   = "wtcache.rules"     // []string: tables whose rules are concerned, with their schemas
	AttrKeys    = "wtcache.keys"      // int: how many keys
	AttrCoarse  = "wtcache.coarse"    // int: rules of which every key is concerned
	AttrOutcome = "wtcache.outcome"   // string: committed, aborted, refused, in doubt
	AttrEntry   = "wtcache.entry"     // string: the name of the entry that is read, "by_id"
	AttrNames   = "wtcache.key_names" // slog.LogValuer to []string: the first 20 keys; they hold users' data
)

// maxNames bounds the keys that a span names.
const maxNames = 20

// span is one that has begun. The zero value, of an engine without a tracer, does nothing.
type span struct {
	end func(err error, attrs ...slog.Attr)
}

func (s span) done(err error) {
	if s.end != nil {
		s.end(err)
	}
}

// span begins a span about the keys of a commit. Its arguments are what is at hand anyhow: without a tracer nothing is made
// of them.
func (e *engine) span(ctx context.Context, name string, o *owed) (context.Context, span) {
	if e.cfg.Tracer == nil {
		return ctx, span{}
	}
	return e.begin(ctx, name, slog.Any(AttrRules, o.names()), slog.Int(AttrKeys, len(o.strict)+len(o.eventual)),
		slog.Int(AttrCoarse, len(o.coarse)), slog.Any(AttrNames, keyNames{o}))
}

func (e *engine) begin(ctx context.Context, name string, attrs ...slog.Attr) (context.Context, span) {
	ctx, end := e.cfg.Tracer.StartSpan(ctx, name, attrs...)
	return ctx, span{end}
}

// sweepSpan is around a walk of the keyspace for some rules, drainSpan around what the outbox has settled.
func (e *engine) sweepSpan(ctx context.Context, tables []*rules.Table) (context.Context, span) {
	if e.cfg.Tracer == nil {
		return ctx, span{}
	}
	return e.begin(ctx, SpanSweep, slog.Any(AttrRules, tableNames(tables)), slog.Int(AttrCoarse, len(tables)))
}

func (e *engine) drainSpan(ctx context.Context, d outbox.Debt) (context.Context, span) {
	if e.cfg.Tracer == nil {
		return ctx, span{}
	}
	return e.begin(ctx, SpanDrain, slog.Int(AttrKeys, len(d.Keys)), slog.Int(AttrCoarse, len(d.Sweeps)), slog.Any(AttrNames, names(d.Keys)))
}

// statementSpan is around a statement that commits by itself.
func (e *engine) statementSpan(ctx context.Context, st *step) (context.Context, span) {
	if e.cfg.Tracer == nil {
		return ctx, span{}
	}
	return e.begin(ctx, SpanWrite, slog.Any(AttrRules, tableNames(appendTables(slices.Clone(st.coarse), st.table))))
}

// missSpan is around the reads of a batch.
func (b *batch) missSpan() (context.Context, span) {
	e := b.cache.engine
	if e.cfg.Tracer == nil {
		return b.ctx, span{}
	}
	return e.begin(b.ctx, SpanMiss, slog.Any(AttrRules, []string{b.target.table.Name.String()}),
		slog.String(AttrEntry, b.target.entry.Name), slog.Int(AttrKeys, len(b.flights)), slog.Any(AttrNames, flightNames(b.flights)))
}

// failure is the first error that a batch's flights came to, once they have landed.
func (b *batch) failure() error {
	for _, f := range b.flights {
		if f.landing.err != nil {
			return f.landing.err
		}
	}
	return nil
}

// endWrite ends the span of a write with how it ended, which its connection still knows.
func (c *conn) endWrite(s span, err error) {
	if s.end == nil {
		return
	}
	oc := "aborted"
	switch {
	case err == nil:
		oc = "committed"
	case errors.Is(err, ErrRefused):
		oc = "refused"
	case c.tx.inDoubt:
		oc = "in doubt"
	}
	s.end(err, slog.String(AttrOutcome, oc))
}

// names gives the tables that are written.
func (o *owed) names() []string {
	names := slices.Clone(o.tables)
	for _, t := range o.coarse {
		if name := t.Name.String(); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

func tableNames(tables []*rules.Table) []string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name.String()
	}
	return names
}

// What follows gives keys only to a tracer that asks for them.
type (
	keyNames    struct{ o *owed } // of a commit
	flightNames []*flight
	names       []string
)

// LogValue implements slog.LogValuer.
func (k keyNames) LogValue() slog.Value {
	all := slices.AppendSeq(slices.Collect(maps.Keys(k.o.strict)), maps.Keys(k.o.eventual))
	slices.Sort(all)
	return names(all).LogValue()
}

// LogValue implements slog.LogValuer.
func (f flightNames) LogValue() slog.Value {
	var all names
	for _, one := range f[:min(len(f), maxNames)] {
		all = append(all, one.asked.key)
	}
	return all.LogValue()
}

// LogValue implements slog.LogValuer.
func (n names) LogValue() slog.Value { return slog.AnyValue([]string(n[:min(len(n), maxNames)])) }
