package wtcacheprom_test

import (
	"database/sql"
	"log"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/wtcache/wtcache/wtcacheprom"
)

// The metrics of a database, beside the program's other ones.
func ExampleNewCollector() {
	db, err := sql.Open("wtcache", "postgres://localhost/shop")
	if err != nil {
		log.Fatal(err)
	}
	collector, err := wtcacheprom.NewCollector(db, wtcacheprom.WithName("shop"))
	if err != nil {
		log.Fatal(err)
	}
	prometheus.MustRegister(collector)
	http.Handle("/metrics", promhttp.Handler())
	log.Fatal(http.ListenAndServe(":9090", nil))
}
