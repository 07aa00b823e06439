package monitoring

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metricsql"
	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/metricset"
	"github.com/wtcache/wtcache/wtcacheprom"
)

var update = flag.Bool("update", false, "write the table of metrics of docs/OBSERVABILITY.md")

// exported are the labels of each series that the collector gives, with the values that a label can have; nil where they are not
// known before there is something to count.
type exported map[string]map[string][]string

// collected asks a real collector. What has no values yet (coarse writes by reason) is known by its description alone.
func collected(t *testing.T) exported {
	t.Helper()
	db, err := sql.Open(wtcache.DriverName, "postgres://localhost/none?wtcache_mode=off") // never connects: its counters are all there
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	c, err := wtcacheprom.NewCollector(db)
	if err != nil {
		t.Fatal(err)
	}
	all := exported{}
	for _, name := range described(c) {
		all[name[0]] = map[string][]string{"db": nil, "instance": nil, "job": nil}
		if name[1] != "" {
			all[name[0]][name[1]] = nil
		}
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() != "db" {
					all[f.GetName()][l.GetName()] = append(all[f.GetName()][l.GetName()], l.GetValue())
				}
			}
		}
		if f.GetType().String() == "HISTOGRAM" {
			labels := all[f.GetName()]
			delete(all, f.GetName())
			all[f.GetName()+"_sum"], all[f.GetName()+"_count"] = labels, labels
			all[f.GetName()+"_bucket"] = maps.Clone(labels)
			all[f.GetName()+"_bucket"]["le"] = nil
		}
	}
	for _, m := range metricset.All() { // what there is after an audit
		if labels := all[m.PrometheusName()]; m.Kind != metricset.Histogram && m.Label != "" && labels[m.Label] == nil {
			for _, p := range m.Points(&wtcache.Stats{Audit: &wtcache.AuditReport{}}) {
				labels[m.Label] = append(labels[m.Label], p.Label)
			}
		}
	}
	return all
}

var descParts = regexp.MustCompile(`fqName: "([^"]+)".*variableLabels: \{([^}]*)\}`)

// described gives the names of a collector's metrics, each with its label.
func described(c prometheus.Collector) (names [][2]string) {
	descs := make(chan *prometheus.Desc)
	go func() {
		c.Describe(descs)
		close(descs)
	}()
	for d := range descs {
		parts := descParts.FindStringSubmatch(d.String())
		names = append(names, [2]string{parts[1], parts[2]})
	}
	return names
}

// check parses a query and holds its names against what is exported.
func (x exported) check(query string) (metrics []string, err error) {
	e, err := metricsql.Parse(query)
	if err != nil {
		return nil, err
	}
	var problems []string
	metricsql.VisitAll(e, func(e metricsql.Expr) {
		switch e := e.(type) {
		case *metricsql.MetricExpr:
			for _, filters := range e.LabelFilterss {
				name := filters[0].Value
				metrics = append(metrics, name)
				problems = append(problems, x.misfits(name, filters[1:])...)
			}
		case *metricsql.AggrFuncExpr:
			problems = append(problems, x.misgrouped(e)...)
		}
	})
	if len(metrics) == 0 {
		problems = append(problems, "it asks for no metric")
	}
	if problems != nil {
		return metrics, fmt.Errorf("%s", strings.Join(problems, "; "))
	}
	return metrics, nil
}

// misgrouped says by which labels an aggregation groups that the metrics inside it do not have.
func (x exported) misgrouped(e *metricsql.AggrFuncExpr) (problems []string) {
	for _, arg := range e.Args {
		metricsql.VisitAll(labelled(arg), func(inner metricsql.Expr) {
			m, ok := inner.(*metricsql.MetricExpr)
			if !ok {
				return
			}
			for _, label := range e.Modifier.Args {
				name := m.LabelFilterss[0][0].Value
				if _, ok := x[name][label]; !ok {
					problems = append(problems, fmt.Sprintf("%s has no label %q to group by", name, label))
				}
			}
		})
	}
	return problems
}

// labelled gives the side of an "and" whose labels its result has.
func labelled(e metricsql.Expr) metricsql.Expr {
	if b, ok := e.(*metricsql.BinaryOpExpr); ok && b.Op == "and" {
		return labelled(b.Left)
	}
	return e
}

func (x exported) misfits(name string, filters []metricsql.LabelFilter) (problems []string) {
	labels, ok := x[name]
	if !ok {
		return []string{fmt.Sprintf("the collector gives no %q", name)}
	}
	for _, f := range filters {
		values, ok := labels[f.Label]
		if !ok {
			problems = append(problems, fmt.Sprintf("%s has no label %q", name, f.Label))
		}
		if values == nil {
			continue
		}
		like, err := regexp.Compile("^(?:" + f.Value + ")$")
		if err != nil || !slices.ContainsFunc(values, like.MatchString) {
			problems = append(problems, fmt.Sprintf("no %s has %s=%q; it has %v", name, f.Label, f.Value, values))
		}
	}
	return problems
}

// The checks below are worth nothing if they let a typing error pass.
func TestCheckFindsWrongNames(t *testing.T) {
	t.Parallel()
	x := collected(t)
	for _, query := range []string{
		`wtcache_write_total`,
		`rate(wtcache_writes_total{outcom="committed"}[5m])`,
		`rate(wtcache_writes_total{outcome="comitted"}[5m])`,
		`sum by (result) (rate(wtcache_writes_total[5m]))`,
		`rate(wtcache_write_duration_seconds[5m])`,
		`sum(rate(wtcache_writes_total[5m])`,
		`1`,
	} {
		if _, err := x.check(query); err == nil {
			t.Errorf("%s was found to be fine", query)
		}
	}
	if _, err := x.check(`sum by (db, le) (rate(wtcache_write_duration_seconds_bucket{db="x"}[5m])) / wtcache_breaker_open`); err != nil {
		t.Error(err)
	}
}

// alert is one rule of alerts.yml, strictly: a field that is spelled wrongly is one that Prometheus refuses.
type alert struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct {
		Groups []struct {
			Name  string  `yaml:"name"`
			Rules []alert `yaml:"rules"`
		} `yaml:"groups"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(read(t, "alerts.yml")), yaml.Strict()).Decode(&file); err != nil {
		t.Fatal(err)
	}
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("there are %d alerts", len(all))
	}
	return all
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// An alert over a metric that does not exist never fires, and nobody notices until it is needed.
func TestAlerts(t *testing.T) {
	t.Parallel()
	x := collected(t)
	doc := string(read(t, "../docs/OBSERVABILITY.md"))
	for _, a := range alerts(t) {
		if _, err := x.check(a.Expr); err != nil {
			t.Errorf("%s: %v", a.Alert, err)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.Labels["severity"] == "" {
			t.Errorf("%s lacks a summary, a description or a severity", a.Alert)
		}
		if !strings.Contains(doc, "`"+a.Alert+"`") {
			t.Errorf("%s is not explained in docs/OBSERVABILITY.md", a.Alert)
		}
		const site = "https://github.com/wtcache/wtcache/blob/main/"
		path, anchor, _ := strings.Cut(strings.TrimPrefix(a.Annotations["runbook_url"], site), "#")
		if !slices.Contains(anchors(t, "../"+path), anchor) {
			t.Errorf("%s leads to %q, and %s has no such heading", a.Alert, anchor, path)
		}
	}
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors gives the anchors of a file's headings as GitHub makes them.
func anchors(t *testing.T, path string) (all []string) {
	t.Helper()
	for line := range strings.Lines(string(read(t, path))) {
		if heading := strings.TrimLeft(line, "#"); heading != line {
			text := notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), "")
			all = append(all, strings.ReplaceAll(text, " ", "-"))
		}
	}
	return all
}

// panel is what is looked at of a Grafana panel.
type panel struct {
	Title, Type, Description string
	GridPos                  struct{ H, W, X, Y int }
	Targets                  []struct{ Expr, LegendFormat string }
}

// Grafana fills these in.
var grafanaVariables = strings.NewReplacer("$__rate_interval", "5m", "$db", ".*", "$instance", ".*")

var legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)

// A panel over a metric that does not exist shows "No data", which looks like peace.
func TestDashboard(t *testing.T) {
	t.Parallel()
	x := collected(t)
	var board struct {
		UID, Title string
		Panels     []panel
		Templating struct {
			List []struct{ Name, Type string }
		}
	}
	if err := json.Unmarshal(read(t, "grafana-dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	if board.UID == "" || board.Title == "" || len(board.Panels) < 20 || len(board.Templating.List) != 3 {
		t.Fatalf("dashboard %q of %d panels and %d variables is not whole", board.Title, len(board.Panels), len(board.Templating.List))
	}
	taken := map[[2]int]string{}
	for _, p := range board.Panels {
		for dx := range p.GridPos.W {
			for dy := range p.GridPos.H {
				at := [2]int{p.GridPos.X + dx, p.GridPos.Y + dy}
				if other, ok := taken[at]; ok {
					t.Fatalf("panels %q and %q lie over each other", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Description == "" || len(p.Targets) == 0 {
			t.Errorf("panel %q lacks a description or a query", p.Title)
		}
		for _, target := range p.Targets {
			metrics, err := x.check(grafanaVariables.Replace(target.Expr))
			if err != nil {
				t.Errorf("panel %q: %v", p.Title, err)
				continue
			}
			for _, label := range legendLabel.FindAllStringSubmatch(target.LegendFormat, -1) {
				if _, ok := x[metrics[0]][label[1]]; !ok {
					t.Errorf("panel %q: its legend shows %q, which %s does not have", p.Title, label[1], metrics[0])
				}
			}
		}
	}
}

// Of the processes that audit in turns each keeps its last report. One that found faults which are long mended must not ring
// until its process has a turn again, nor be added to that of another.
func TestOnlyTheNewestAuditCounts(t *testing.T) {
	t.Parallel()
	queries := map[string]string{}
	for _, a := range alerts(t) {
		queries[a.Alert] = a.Expr
	}
	var board struct{ Panels []panel }
	if err := json.Unmarshal(read(t, "grafana-dashboard.json"), &board); err != nil {
		t.Fatal(err)
	}
	for _, p := range board.Panels {
		for i, target := range p.Targets {
			queries[fmt.Sprint(p.Title, " ", i)] = target.Expr
		}
	}
	findings := regexp.MustCompile(`wtcache_audit_(keys|lifetime_faults|faulty_keys|consistent_ratio|over_threshold|rows)\b`)
	newest := regexp.MustCompile(`and on \(db, job, instance\)\s+\(wtcache_audit_timestamp_seconds(\{[^}]*\})? == on \(db\) group_left \(\) max by \(db\) \(wtcache_audit_timestamp_seconds`)
	asked := 0
	for name, query := range queries {
		if !findings.MatchString(query) {
			continue
		}
		if asked++; !newest.MatchString(query) {
			t.Errorf("%s takes the reports of all processes, old ones too: %s", name, query)
		}
	}
	if asked < 5 {
		t.Errorf("only %d queries ask for what audits have found", asked)
	}
}

const (
	tableBegin = "<!-- metrics: go test ./monitoring -update -->\n"
	tableEnd   = "<!-- end of metrics -->\n"
)

// The documentation lists each metric under both of its names, as the collectors give it.
func TestDocumentedMetrics(t *testing.T) {
	const path = "../docs/OBSERVABILITY.md"
	x := collected(t)
	var table strings.Builder
	table.WriteString("| Prometheus | OpenTelemetry | kind | unit | label | what |\n|---|---|---|---|---|---|\n")
	for _, m := range metricset.All() {
		label := ""
		if m.Label != "" {
			label = "`" + m.Label + "`"
			name := m.PrometheusName()
			if values := x[name][m.Label]; values != nil {
				label += ": " + strings.Join(values, ", ")
			}
		}
		fmt.Fprintf(&table, "| `%s` | `%s` | %s | %s | %s | %s |\n", m.PrometheusName(), m.Name, m.Kind, strings.Trim(m.Unit, "{}"), label, m.Help)
	}
	doc := string(read(t, path))
	before, rest, ok := strings.Cut(doc, tableBegin)
	old, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", path)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+tableBegin+table.String()+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if old != table.String() {
		t.Errorf("the table of metrics in %s is not that of the collectors; run: go test ./monitoring -update", path)
	}
}
