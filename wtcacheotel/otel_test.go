package wtcacheotel_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/metricset"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/wtcacheotel"
)

// open opens a test's own table, which has a rule and the row 1.
func open(t *testing.T, tracer wtcache.Tracer) (db *sql.DB, prefix string) {
	t.Helper()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	base := stdlib.GetConnector(*cfg)
	plain := sql.OpenDB(base)
	t.Cleanup(func() { _ = plain.Close() })
	if _, err := plain.Exec("CREATE TABLE users (id bigint PRIMARY KEY, name text); INSERT INTO users VALUES (1, 'Ada')"); err != nil {
		t.Fatal(err)
	}
	prefix = testenv.KeyPrefix(t)
	rule := fmt.Sprintf("table: %s.users\nkey: \"%suser:{id}\"\n", schema, prefix)
	db, err = wtcache.OpenDB(base, wtcache.Config{
		RedisURL: testenv.RealRedis(t), Rules: fstest.MapFS{"users.yaml": {Data: []byte(rule)}}, Outbox: wtcache.OutboxOff, Tracer: tracer,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, prefix
}

// collect gives all metrics by name.
func collect(t *testing.T, reader sdkmetric.Reader) map[string]metricdata.Metrics {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &rm); err != nil {
		t.Fatal(err)
	}
	got := map[string]metricdata.Metrics{}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			got[m.Name] = m
		}
	}
	return got
}

// valueOf gives a counter's or gauge's value for one set of attributes, -1 where it is not there.
func valueOf(m metricdata.Metrics, attrs ...attribute.KeyValue) int64 {
	var points []metricdata.DataPoint[int64]
	switch data := m.Data.(type) {
	case metricdata.Sum[int64]:
		points = data.DataPoints
	case metricdata.Gauge[int64]:
		points = data.DataPoints
	}
	want := attribute.NewSet(attrs...)
	for _, p := range points {
		if p.Attributes.Equals(&want) {
			return p.Value
		}
	}
	return -1
}

// Who watches with OpenTelemetry must see what the Prometheus collector shows, with its unit, and with the name of the database.
func TestInstrumentsShowWhatHappened(t *testing.T) {
	t.Parallel()
	db, _ := open(t, nil)
	histograms, err := wtcacheotel.Histograms(db, wtcacheotel.WithName("shop"))
	if err != nil {
		t.Fatal(err)
	}
	reader := sdkmetric.NewManualReader(sdkmetric.WithProducer(histograms))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	unregister, err := wtcacheotel.Register(db, provider, wtcacheotel.WithName("shop"), wtcacheotel.WithAttributes(attribute.String("region", "eu")))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"UPDATE users SET name = 'Ada L.' WHERE id = 1", "TRUNCATE users"} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := wtcache.Audit(context.Background(), db, wtcache.AuditOptions{}); err != nil {
		t.Fatal(err)
	}
	got := collect(t, reader)
	common := []attribute.KeyValue{wtcacheotel.NameKey.String("shop"), attribute.String("region", "eu")}
	if n := valueOf(got["wtcache.writes"], append(common, attribute.String("outcome", "committed"))...); n != 2 {
		t.Errorf("%d committed writes, want 2", n)
	}
	if n := valueOf(got["wtcache.coarse_invalidations"], append(common, attribute.String("reason", "TRUNCATE"))...); n != 1 {
		t.Errorf("%d coarse writes for TRUNCATE, want 1", n)
	}
	if n := valueOf(got["wtcache.breaker_open"], common...); n != 0 {
		t.Errorf("the breaker's gauge is %d, want 0", n)
	}
	times, ok := got["wtcache.write.duration"].Data.(metricdata.Histogram[float64])
	if !ok || times.DataPoints[0].Count != 2 || times.DataPoints[0].Sum <= 0 {
		t.Errorf("the write durations are %+v, want two", got["wtcache.write.duration"].Data)
	}
	for _, m := range metricset.All() {
		if m.Name == "wtcache.audit_consistent" {
			continue // there is no write yet that is old enough
		}
		if g, ok := got[m.Name]; !ok || g.Unit != m.Unit || g.Description != m.Help {
			t.Errorf("%s (there: %v) has unit %q and description %q", m.Name, ok, g.Unit, g.Description)
		}
	}
	if err := unregister(); err != nil {
		t.Fatal(err)
	}
	if left, ok := collect(t, reader)["wtcache.writes"]; ok {
		t.Errorf("after unregister there still is %v", left)
	}
}

func traced(t *testing.T, opts ...wtcacheotel.TracerOption) (*tracetest.InMemoryExporter, *sdktrace.TracerProvider, *sql.DB, string) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(exporter))
	db, prefix := open(t, wtcacheotel.Tracer(provider, opts...))
	return exporter, provider, db, prefix
}

// spansOf gives the spans by name once there are as many.
func spansOf(t *testing.T, exporter *tracetest.InMemoryExporter, n int) map[string]tracetest.SpanStub {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); len(exporter.GetSpans()) < n && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	byName := map[string]tracetest.SpanStub{}
	for _, s := range exporter.GetSpans() {
		byName[s.Name] = s
	}
	if len(exporter.GetSpans()) != n || len(byName) != n {
		t.Fatalf("there are the spans %v, want %d", byName, n)
	}
	return byName
}

func attrOf(s tracetest.SpanStub, key string) string {
	for _, a := range s.Attributes {
		if string(a.Key) == key {
			return a.Value.String()
		}
	}
	return "(none)"
}

// A slow request's trace has to show the fence and the apply under the caller's own span, and no user's data.
func TestSpansAreTheCallersChildren(t *testing.T) {
	t.Parallel()
	exporter, provider, db, _ := traced(t)
	ctx, request := provider.Tracer("test").Start(context.Background(), "request")
	if _, err := db.ExecContext(ctx, "UPDATE users SET name = 'x' WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	users, err := wtcache.ReaderOf[map[string]any](db, "users")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := users.Get(ctx, 2); !errors.Is(err, sql.ErrNoRows) {
		t.Fatal(err)
	}
	request.End()
	spans := spansOf(t, exporter, 5)
	for child, parent := range map[string]string{
		wtcache.SpanWrite: "request", wtcache.SpanMiss: "request", wtcache.SpanFence: wtcache.SpanWrite, wtcache.SpanApply: wtcache.SpanWrite,
	} {
		if got, want := spans[child].Parent.SpanID(), spans[parent].SpanContext.SpanID(); got != want {
			t.Errorf("%s is a child of %v, want of %s (%v)", child, got, parent, want)
		}
		if names := attrOf(spans[child], wtcache.AttrNames); names != "(none)" {
			t.Errorf("%s names the keys %s, which nobody asked for", child, names)
		}
	}
	if got := attrOf(spans[wtcache.SpanWrite], wtcache.AttrOutcome); got != "committed" {
		t.Errorf("the write's outcome is %s", got)
	}
	if got := attrOf(spans[wtcache.SpanFence], wtcache.AttrKeys); got != "1" {
		t.Errorf("the fence has %s keys, want 1", got)
	}
	if got := attrOf(spans[wtcache.SpanMiss], wtcache.AttrEntry); got == "(none)" {
		t.Error("the miss does not say of which entry")
	}
}

// A write that failed is what one looks for in traces.
func TestSpanOfAFailedWriteHasItsError(t *testing.T) {
	t.Parallel()
	exporter, _, db, prefix := traced(t, wtcacheotel.WithKeyNames())
	_, err := db.Exec("INSERT INTO users (id) VALUES (1)")
	if err == nil {
		t.Fatal("a duplicate key was taken")
	}
	spans := spansOf(t, exporter, 3)
	write := spans[wtcache.SpanWrite]
	if write.Status.Code != codes.Error || write.Status.Description != err.Error() || len(write.Events) != 1 {
		t.Errorf("the write's span has the status %+v and %d events, want the error %v", write.Status, len(write.Events), err)
	}
	if got := attrOf(write, wtcache.AttrOutcome); got != "aborted" {
		t.Errorf("its outcome is %s, want aborted", got)
	}
	if got, want := attrOf(spans[wtcache.SpanAbort], wtcache.AttrNames), fmt.Sprintf("[%q]", prefix+"user:1"); got != want {
		t.Errorf("where keys are asked for the abort names %s, want %s", got, want)
	}
}

func TestRegisterOfAnotherDriver(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("pgx", "postgres://localhost/d")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := wtcacheotel.Register(db, sdkmetric.NewMeterProvider()); !errors.Is(err, wtcache.ErrConfig) {
		t.Errorf("Register gave %v, want an error that wraps ErrConfig", err)
	}
	if _, err := wtcacheotel.Histograms(db); !errors.Is(err, wtcache.ErrConfig) {
		t.Errorf("Histograms gave %v, want an error that wraps ErrConfig", err)
	}
}
