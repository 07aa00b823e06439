// Package monitoring holds what is loaded into other programs: grafana-dashboard.json for Grafana, alerts.yml for Prometheus. Its
// tests hold both, and docs/OBSERVABILITY.md, against the metrics that package wtcacheprom gives.
package monitoring
