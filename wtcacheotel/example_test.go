package wtcacheotel_test

import (
	"database/sql"
	"log"

	"go.opentelemetry.io/otel"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/wtcacheotel"
)

// Metrics: counters and gauges through the meter provider, histograms through its reader.
func ExampleRegister() {
	db, err := sql.Open("wtcache", "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	histograms, err := wtcacheotel.Histograms(db, wtcacheotel.WithName("shop"))
	if err != nil {
		log.Fatal(err)
	}
	var exporter sdkmetric.Exporter // of the program
	reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(histograms))
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	unregister, err := wtcacheotel.Register(db, provider, wtcacheotel.WithName("shop"))
	if err != nil {
		log.Fatal(err)
	}
	defer unregister()
}

// Spans: a driver of its own name, whose connections are traced.
func ExampleTracer() {
	tracer := wtcacheotel.Tracer(otel.GetTracerProvider())
	wtcache.Register("wtcache-traced", stdlib.GetDefaultDriver(), wtcache.Config{Tracer: tracer})
	db, err := sql.Open("wtcache-traced", "postgres://localhost/shop?wtcache_rules=./rules")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}
