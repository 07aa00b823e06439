package wtcacheprom_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/wtcacheprom"
)

// open opens a test's own table, which has a rule.
func open(t *testing.T) *sql.DB {
	t.Helper()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	base := stdlib.GetConnector(*cfg)
	plain := sql.OpenDB(base)
	t.Cleanup(func() { _ = plain.Close() })
	if _, err := plain.Exec("CREATE TABLE users (id bigint PRIMARY KEY, name text)"); err != nil {
		t.Fatal(err)
	}
	rule := fmt.Sprintf("table: %s.users\nkey: \"%suser:{id}\"\n", schema, testenv.KeyPrefix(t))
	db, err := wtcache.OpenDB(base, wtcache.Config{
		RedisURL: testenv.RealRedis(t), Rules: fstest.MapFS{"users.yaml": {Data: []byte(rule)}}, Outbox: wtcache.OutboxOff,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// work is 3 committed writes, a rollback, a coarse write, a miss and two hits.
func work(t *testing.T, db *sql.DB) {
	t.Helper()
	for _, text := range []string{
		"TRUNCATE users",
		"INSERT INTO users (id, name) VALUES (1, 'Ada')",
		"UPDATE users SET name = 'Ada L.' WHERE id = 1",
	} {
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("UPDATE users SET name = 'x' WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	users, err := wtcache.ReaderOf[map[string]any](db, "users")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []int{1, 1, 7} {
		if _, err := users.Get(context.Background(), id); err != nil && !errors.Is(err, sql.ErrNoRows) {
			t.Fatal(err)
		}
	}
}

// A dashboard that shows another number than the one that was counted is worse than none. The values are those of a real
// workload, looked at through a registry.
func TestCollectorShowsWhatHappened(t *testing.T) {
	t.Parallel()
	db := open(t)
	work(t, db)
	registry := prometheus.NewPedanticRegistry()
	register(t, registry, db, wtcacheprom.WithName("shop"), wtcacheprom.WithLabels(prometheus.Labels{"region": "eu"}))
	got := gather(t, registry)
	for series, want := range map[string]float64{
		`wtcache_writes_total{outcome="committed"}`:             3,
		`wtcache_writes_total{outcome="rolled_back"}`:           1,
		`wtcache_writes_total{outcome="in_doubt"}`:              0,
		`wtcache_statements_total{capture="precise"}`:           3,
		`wtcache_statements_total{capture="coarse"}`:            1,
		`wtcache_coarse_invalidations_total{reason="TRUNCATE"}`: 1,
		`wtcache_fences_total{result="acknowledged"}`:           3, // the barrier of the coarse write is one
		`wtcache_applies_total{result="stored"}`:                2,
		`wtcache_reads_total{result="hit"}`:                     2,
		`wtcache_reads_total{result="miss"}`:                    1,
		`wtcache_served_age_seconds_count`:                      2,
		`wtcache_write_duration_seconds_count`:                  3,
		`wtcache_fence_duration_seconds_count`:                  3,
		`wtcache_apply_duration_seconds_count`:                  3,
		`wtcache_breaker_open`:                                  0,
		`wtcache_owed_keys`:                                     0,
		`wtcache_outbox_depth`:                                  0,
		`wtcache_stale_writes_skipped_total{writer="reader"}`:   0,
		`wtcache_rejected_values_total{reason="outlived"}`:      0,
		`wtcache_autocommits_total{order="lock_first"}`:         1,
		`wtcache_sweeps_total`:                                  1,
		`wtcache_database_reads_total`:                          1,
		`wtcache_background_errors_total`:                       0,
		`wtcache_outbox_oldest_age_seconds`:                     0,
	} {
		if n, ok := got[series]; !ok || n != want {
			t.Errorf("%s is %v (there: %v), want %v", series, n, ok, want)
		}
	}
}

func register(t *testing.T, to prometheus.Registerer, db *sql.DB, opts ...wtcacheprom.Option) {
	t.Helper()
	c, err := wtcacheprom.NewCollector(db, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Register(c); err != nil {
		t.Fatal(err)
	}
}

// gather gives the values of series by name and the labels that differ within a metric.
func gather(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			var labels []string
			constant := 0
			for _, l := range m.GetLabel() {
				if l.GetName() == "db" && l.GetValue() == "shop" || l.GetName() == "region" && l.GetValue() == "eu" {
					constant++
					continue
				}
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			if constant != 2 {
				t.Errorf("%s lacks a constant label: %v", f.GetName(), m.GetLabel())
			}
			value(got, f, m, strings.Join(labels, ","))
		}
	}
	return got
}

func value(got map[string]float64, f *dto.MetricFamily, m *dto.Metric, labels string) {
	name := f.GetName()
	if labels != "" {
		labels = "{" + labels + "}"
	}
	switch f.GetType() {
	case dto.MetricType_COUNTER:
		got[name+labels] = m.GetCounter().GetValue()
	case dto.MetricType_GAUGE:
		got[name+labels] = m.GetGauge().GetValue()
	case dto.MetricType_HISTOGRAM:
		got[name+"_count"+labels] = float64(m.GetHistogram().GetSampleCount())
	}
}

// Names that break Prometheus' conventions break the tools that rely on them.
func TestCollectorKeepsTheConventions(t *testing.T) {
	t.Parallel()
	db := open(t)
	work(t, db)
	c, err := wtcacheprom.NewCollector(db)
	if err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if n := testutil.CollectAndCount(c); n < 50 {
		t.Errorf("the collector gives %d series, want all", n)
	}
}

// An audit's finding is what an alert on staleness rests on. Before an audit there is nothing, which is not the same as 0.
func TestCollectorShowsTheLatestAudit(t *testing.T) {
	t.Parallel()
	db := open(t)
	work(t, db)
	registry := prometheus.NewPedanticRegistry()
	register(t, registry, db, wtcacheprom.WithName("shop"), wtcacheprom.WithLabels(prometheus.Labels{"region": "eu"}))
	if n, ok := gather(t, registry)["wtcache_audit_over_threshold"]; ok {
		t.Errorf("before any audit the threshold's gauge is %v", n)
	}
	if err := behind(db, "UPDATE users SET name = 'Grace'"); err != nil {
		t.Fatal(err)
	}
	report, err := wtcache.Audit(context.Background(), db, wtcache.AuditOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got := gather(t, registry)
	for series, want := range map[string]float64{
		`wtcache_audit_keys{result="stale"}`:                                        1,
		`wtcache_audit_keys{result="consistent"}`:                                   0,
		`wtcache_audit_over_threshold`:                                              1,
		`wtcache_audit_repaired_keys`:                                               0,
		`wtcache_audit_rows{result="cached"}`:                                       1,
		`wtcache_audit_duration_seconds`:                                            report.DurationSeconds,
		fmt.Sprintf("wtcache_audit_faulty_keys{entry=%q}", report.Entries[0].Entry): 1,
	} {
		if n, ok := got[series]; !ok || n != want {
			t.Errorf("%s is %v (there: %v), want %v", series, n, ok, want)
		}
	}
	if at := got["wtcache_audit_timestamp_seconds"]; math.Abs(at-float64(report.Started.UnixMilli())/1000) > .001 {
		t.Errorf("the audit is said to be of %v, it was of %v", at, report.Started)
	}
	c, err := wtcacheprom.NewCollector(db)
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := testutil.CollectAndLint(c); err != nil || len(problems) > 0 {
		t.Errorf("after an audit promlint says %v, %v", problems, err)
	}
}

// behind runs a text past wtcache, as another program would.
func behind(db *sql.DB, text string) error {
	conn, err := db.Conn(context.Background())
	if err != nil {
		return err
	}
	defer conn.Close()
	return conn.Raw(func(c any) error {
		base, ok := wtcache.PgxConn(c)
		if !ok {
			return errors.New("PgxConn gave nothing")
		}
		_, err := base.Exec(context.Background(), text)
		return err
	})
}

// A service with two databases needs both in its one registry.
func TestTwoDatabasesInOneRegistry(t *testing.T) {
	t.Parallel()
	a, b := open(t), open(t)
	registry := prometheus.NewPedanticRegistry()
	register(t, registry, a, wtcacheprom.WithName("a"))
	register(t, registry, b, wtcacheprom.WithName("b"))
	if _, err := a.Exec("INSERT INTO users (id) VALUES (5)"); err != nil {
		t.Fatal(err)
	}
	want := `# HELP wtcache_captured_rows_total Written rows that were captured.
# TYPE wtcache_captured_rows_total counter
wtcache_captured_rows_total{db="a"} 1
wtcache_captured_rows_total{db="b"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "wtcache_captured_rows_total"); err != nil {
		t.Error(err)
	}
	c, err := wtcacheprom.NewCollector(b, wtcacheprom.WithName("a"))
	if err != nil {
		t.Fatal(err)
	}
	if registry.Register(c) == nil {
		t.Error("two databases of one name were registered: their metrics would be mixed up")
	}
}

func TestCollectorOfAnotherDriver(t *testing.T) {
	t.Parallel()
	db, err := sql.Open("pgx", "postgres://localhost/d")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := wtcacheprom.NewCollector(db); !errors.Is(err, wtcache.ErrConfig) {
		t.Errorf("a *sql.DB of pgx gave %v, want an error that wraps ErrConfig", err)
	}
}
