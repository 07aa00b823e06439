package wtcacheotel

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/wtcache/wtcache"
)

// TracerOption changes what Tracer makes.
type TracerOption func(*tracer)

// WithKeyNames adds the attribute wtcache.key_names, the first 20 keys of a span. Keys can hold users' data, such as an e-mail address.
func WithKeyNames() TracerOption { return func(t *tracer) { t.keyNames = true } }

// Tracer makes spans of what wtcache does: set it as wtcache.Config's Tracer. A nil provider is a mistake.
func Tracer(provider trace.TracerProvider, opts ...TracerOption) wtcache.Tracer {
	t := &tracer{tracer: provider.Tracer(Scope)}
	for _, set := range opts {
		set(t)
	}
	return t
}

type tracer struct {
	tracer   trace.Tracer
	keyNames bool
}

// StartSpan implements wtcache.Tracer.
func (t *tracer) StartSpan(parent context.Context, name string, attrs ...slog.Attr) (context.Context, func(error, ...slog.Attr)) {
	ctx, span := t.tracer.Start(parent, name)
	if !span.IsRecording() {
		return ctx, func(error, ...slog.Attr) { span.End() }
	}
	span.SetAttributes(t.convert(attrs)...)
	return ctx, func(err error, attrs ...slog.Attr) {
		span.SetAttributes(t.convert(attrs)...)
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

func (t *tracer) convert(attrs []slog.Attr) []attribute.KeyValue {
	converted := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		if a.Key == wtcache.AttrNames && !t.keyNames {
			continue
		}
		converted = append(converted, attribute.KeyValue{Key: attribute.Key(a.Key), Value: valueOf(a.Value.Resolve())})
	}
	return converted
}

func valueOf(v slog.Value) attribute.Value {
	switch v.Kind() {
	case slog.KindInt64:
		return attribute.Int64Value(v.Int64())
	case slog.KindBool:
		return attribute.BoolValue(v.Bool())
	case slog.KindAny:
		if list, ok := v.Any().([]string); ok {
			return attribute.StringSliceValue(list)
		}
	}
	return attribute.StringValue(v.String())
}
