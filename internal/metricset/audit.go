package metricset

import (
	"strconv"

	"github.com/wtcache/wtcache"
)

// audit are what the latest audit of the process has found: nothing before there was one, so that nobody takes "not looked
// at" for "none found".
var audit = []Metric{
	audited("wtcache.audit_keys", "{key}", "Keys that the latest audit has checked, by what was found", "result", func(r *wtcache.AuditReport) []Point {
		n := &r.Total
		return []Point{
			part("consistent", n.Consistent), part("stale", n.Stale), part("orphan", n.Orphan), part("damaged", n.Damaged), part("foreign", n.Foreign),
			part("other_schema", n.OtherSchema), part("fenced", n.Fenced), part("gone", n.Gone), part("unserved", n.Unserved),
			part("undecided", n.Undecided), part("unjudged", n.Unjudged),
		}
	}),
	audited("wtcache.audit_lifetime_faults", "{key}", "Keys of the latest audit that never expire, live longer than their rule says, or are ahead of the server", "fault", func(r *wtcache.AuditReport) []Point {
		return []Point{part("no_ttl", r.Total.NoTTL), part("over_ttl", r.Total.OverTTL), part("ahead", r.Total.Ahead)}
	}),
	audited("wtcache.audit_faulty_keys", "{key}", "Keys with any fault in the latest audit", "entry", func(r *wtcache.AuditReport) []Point {
		var points []Point
		for i := range r.Entries {
			points = append(points, part(r.Entries[i].Entry, r.Entries[i].Faulty))
		}
		return points
	}),
	audited("wtcache.audit_consistent", "1", "Of the writes at least so old at the latest audit, how many showed in the cache", "within", func(r *wtcache.AuditReport) []Point {
		var points []Point
		for _, w := range r.Within {
			if w.Share != nil {
				points = append(points, Point{strconv.FormatFloat(w.Seconds, 'f', -1, 64) + "s", *w.Share})
			}
		}
		return points
	}),
	audited("wtcache.audit_over_threshold", "", "1 where the latest audit has found more faults than its threshold", "", func(r *wtcache.AuditReport) []Point {
		if r.OverThreshold {
			return []Point{{Value: 1}}
		}
		return []Point{{Value: 0}}
	}),
	audited("wtcache.audit_repaired_keys", "{key}", "Faulty keys that the latest audit has made absent", "", func(r *wtcache.AuditReport) []Point {
		return []Point{part("", r.Total.Repaired)}
	}),
	audited("wtcache.audit_rows", "{row}", "Rows that the latest audit has taken from tables, by whether they have an entry; that one has none is never wrong", "result", func(r *wtcache.AuditReport) []Point {
		return []Point{part("cached", r.Total.Rows-r.Total.Absent), part("absent", r.Total.Absent)}
	}),
	audited("wtcache.audit_timestamp", "s", "When the latest audit began, in Unix time", "", func(r *wtcache.AuditReport) []Point {
		return []Point{{Value: float64(r.Started.UnixMilli()) / 1000}}
	}),
	audited("wtcache.audit_duration", "s", "How long the latest audit took", "", func(r *wtcache.AuditReport) []Point {
		return []Point{{Value: r.DurationSeconds}}
	}),
}

// audited makes a gauge that is there from the first audit on.
func audited(name, unit, help, label string, points func(*wtcache.AuditReport) []Point) Metric {
	return Metric{Name: name, Unit: unit, Kind: Gauge, Help: help, Label: label, points: func(s *wtcache.Stats) []Point {
		if s.Audit == nil {
			return nil
		}
		return points(s.Audit)
	}}
}
