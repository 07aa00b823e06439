package statuspage

import (
	"fmt"
	"time"

	"github.com/wtcache/wtcache"
)

// auditView is the last audit of this process, for the template.
type auditView struct {
	*wtcache.AuditReport
	Ended    time.Time
	Took     string
	Examples []auditExample
}

// auditExample names a key. What stands there is not shown.
type auditExample struct {
	Entry string
	wtcache.AuditExample
}

func auditOf(s *wtcache.Stats) *auditView {
	if s.Audit == nil {
		return nil
	}
	v := &auditView{AuditReport: s.Audit, Took: shortDuration(s.Audit.DurationSeconds), Ended: auditEnd(s.Audit)}
	for _, e := range s.Audit.Entries {
		for _, x := range e.Examples {
			v.Examples = append(v.Examples, auditExample{e.Entry, x})
		}
	}
	return v
}

func auditEnd(r *wtcache.AuditReport) time.Time {
	return r.Started.Add(time.Duration(r.DurationSeconds * float64(time.Second)))
}

// auditSigns judges the last audit of this process.
func auditSigns(s *wtcache.Stats) []Sign {
	if s.Audit == nil || s.Audit.Total.Faulty == 0 {
		return nil
	}
	t := s.Audit.Total
	text := fmt.Sprintf("%d of %d entries were wrong, %d of them older than their row; %d were repaired. See below which; wtcache audit --repair makes them absent.", t.Faulty, t.Checked, t.Stale, t.Repaired)
	if t.Faulty == t.Repaired {
		return []Sign{{Warning, "The audit found wrong entries and repaired them", text}}
	}
	return []Sign{{Unhealthy, "The audit found wrong entries", text}}
}
