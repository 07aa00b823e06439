package metricset

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
)

// shown is everything that the metrics say of some Stats.
func shown(s *wtcache.Stats) string {
	var b strings.Builder
	for _, m := range All() {
		if m.Kind == Histogram {
			fmt.Fprintln(&b, m.Name, m.Times(s))
			continue
		}
		fmt.Fprintln(&b, m.Name, m.Points(s))
	}
	return b.String()
}

// A counter that somebody adds to Stats and forgets here is one that nobody ever sees in production. Each field is set by
// itself, and some metric has to show it.
func TestEveryFieldOfStatsIsAMetricOrLeftOut(t *testing.T) {
	t.Parallel()
	fresh := func() *wtcache.Stats { return &wtcache.Stats{Audit: &wtcache.AuditReport{}} }
	none := shown(fresh())
	var visit func(path string, index []int, typ reflect.Type)
	visit = func(path string, index []int, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, at := strings.TrimPrefix(path+"."+f.Name, "."), append(append([]int(nil), index...), i)
			if f.Anonymous {
				name = path
			}
			if f.Type.Kind() == reflect.Pointer {
				f.Type = f.Type.Elem()
			}
			if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[time.Time]() {
				visit(name, at, f.Type)
				continue
			}
			s := fresh()
			set(t, name, reflect.ValueOf(s).Elem().FieldByIndex(at))
			_, leftOut := LeftOut[name]
			switch metric := shown(s) != none; {
			case !metric && !leftOut:
				t.Errorf("Stats.%s is in no metric: add it to the table, or to LeftOut with the reason", name)
			case metric && leftOut:
				t.Errorf("Stats.%s is in a metric and in LeftOut", name)
			}
		}
	}
	visit("", nil, reflect.TypeFor[wtcache.Stats]())
}

// set gives a field some value that is not zero.
func set(t *testing.T, name string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Int64:
		v.SetInt(7)
	case reflect.Int:
		v.SetInt(7)
	case reflect.String:
		v.SetString("a text")
	case reflect.Float64:
		v.SetFloat(7)
	case reflect.Array:
		set(t, name, v.Index(0))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		if k := v.Index(0).Kind(); k != reflect.Struct {
			set(t, name, v.Index(0))
		}
		if within, ok := v.Addr().Interface().(*[]wtcache.AuditWithin); ok {
			(*within)[0].Share = new(float64) // else there is none to show
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		set(t, name, value)
		v.SetMapIndex(reflect.ValueOf("a reason"), value)
	case reflect.Struct:
		v.Set(reflect.ValueOf(time.Unix(7, 0)))
	default:
		t.Fatalf("Stats.%s is a %s: teach this test to set one", name, v.Type())
	}
}

// Dashboards are written against these names, and two metrics of one name fail a scrape.
func TestNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, m := range All() {
		if seen[m.PrometheusName()] {
			t.Errorf("two metrics are called %s", m.PrometheusName())
		}
		seen[m.PrometheusName()] = true
		if m.Help == "" || strings.HasSuffix(m.Help, ".") {
			t.Errorf("%s: help %q, want a sentence without its full stop", m.Name, m.Help)
		}
		if m.Kind != Gauge && m.Unit == "" {
			t.Errorf("%s has no unit", m.Name)
		}
		if m.Kind != Histogram {
			for _, p := range m.Points(&wtcache.Stats{Audit: &wtcache.AuditReport{}}) {
				if (p.Label == "") != (m.Label == "") {
					t.Errorf("%s has the label %q and a point %q", m.Name, m.Label, p.Label)
				}
			}
		}
	}
}
