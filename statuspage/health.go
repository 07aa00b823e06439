package statuspage

import (
	"fmt"
	"slices"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
)

// Level says how bad a Sign is.
type Level string

// The levels, from the best to the worst.
const (
	Healthy   Level = "healthy"
	Warning   Level = "warning"
	Unhealthy Level = "unhealthy"
)

var levels = []Level{Healthy, Warning, Unhealthy}

// Sign is one thing that is not as it should be.
type Sign struct {
	Level Level  `json:"level"`
	Title string `json:"title"` // a few words
	Text  string `json:"text"`  // what it means, and what to do
}

// Health is the worst of all signs.
type Health struct {
	Level Level  `json:"level"`
	Title string `json:"title"`
	Signs []Sign `json:"signs"` // the worst first; empty where all is well
}

// healthOf judges. errorsSince counts the errors that are young enough to matter.
func healthOf(signs []Sign) Health {
	slices.SortStableFunc(signs, func(a, b Sign) int {
		return slices.Index(levels, b.Level) - slices.Index(levels, a.Level)
	})
	h := Health{Level: Healthy, Title: "Healthy", Signs: signs}
	if len(signs) > 0 {
		h.Level, h.Title = signs[0].Level, signs[0].Title
	} else {
		h.Signs = []Sign{}
	}
	return h
}

const (
	// recent is for how long something that is over is still shown as a sign.
	recent = 5 * time.Minute
	// oldDebt is the age of an outbox' oldest row at which nobody seems to drain it.
	oldDebt = 30 * time.Second
)

// signsOf judges one look; before is the counters of about five minutes ago, nil where there are none.
func signsOf(v view, before *wtcache.Stats, now time.Time) []Sign {
	var signs []Sign
	for _, r := range v.rules {
		if r.Capture == wtcache.CaptureCoarse {
			signs = append(signs, Sign{Warning, "A rule is coarse", fmt.Sprintf("Every write of %s makes all of its entries absent: %s.", r.Table, r.CaptureReason)})
		}
	}
	if v.stats != nil {
		signs = append(signs, statsSigns(v.stats, now)...)
		signs = append(signs, growth(before, v.stats)...)
	}
	if v.outside != nil {
		signs = append(signs, outsideSigns(v.outside)...)
	}
	return signs
}

func statsSigns(s *wtcache.Stats, now time.Time) []Sign {
	var signs []Sign
	if s.BreakerOpen {
		signs = append(signs, Sign{Unhealthy, "Redis is away", "Calls are refused at once until it answers. Reads come from the database; writes do what each rule's redis_down says."})
	}
	signs = append(signs, outboxSigns(s.Outbox.Depth, s.Outbox.Oldest)...)
	if n := s.Redis.Owed; n > 0 {
		signs = append(signs, Sign{Warning, "Keys are owed to Redis", fmt.Sprintf("%s could not be settled after a commit and will be tried again.", several(n, "key or sweep", "keys or sweeps"))})
	}
	if n := s.InDoubt - min(s.InDoubt, s.DoubtCommitted+s.DoubtAborted+s.DoubtFinished+s.DoubtExpired); n > 0 {
		signs = append(signs, Sign{Warning, "A commit is in doubt", fmt.Sprintf("%s got no answer; their keys stay fenced until the server says what became of them.", several(int64(n), "COMMIT", "COMMITs"))})
	}
	if s.Redis.Untrusted > 0 {
		signs = append(signs, Sign{Warning, "Redis is not trusted yet", "It answers again, and what it holds may be older than the database. Reads come from the database until that is over."})
	}
	young := 0
	for _, e := range s.LastErrors {
		if now.Sub(e.Time) < recent {
			young++
		}
	}
	if young > 0 {
		signs = append(signs, Sign{Warning, "Errors in the background", fmt.Sprintf("%s in the last five minutes; see below.", several(int64(young), "error", "errors"))})
	}
	return append(signs, auditSigns(s)...)
}

func outboxSigns(rows int64, oldest time.Duration) []Sign {
	switch {
	case rows == 0:
		return nil
	case oldest >= oldDebt:
		return []Sign{{Unhealthy, "The outbox is not empty", fmt.Sprintf("%s, the oldest for %s. Redis does not answer, or nobody drains: see docs/FAULTS.md, or run wtcache drain.", several(rows, "row waits", "rows wait"), shortDuration(oldest.Seconds()))}}
	}
	return []Sign{{Warning, "The outbox is not empty", fmt.Sprintf("%s and should be gone in a moment.", several(rows, "row waits", "rows wait"))}}
}

// growth are counters that should stand still.
func growth(before, now *wtcache.Stats) []Sign {
	if before == nil {
		return nil
	}
	var signs []Sign
	for _, c := range []struct {
		from, to    uint64
		title, text string
	}{
		{before.Uncaptured, now.Uncaptured, "Writes that could not be followed", "in the last minutes: their entries may be stale until their TTL ends. See the log, and \"What is not captured\" in the README."},
		{before.KeyMismatches, now.KeyMismatches, "Keys did not match", "writes had another key than was fenced. The entries were made absent; please report it."},
		{before.DoubtExpired, now.DoubtExpired, "Fences were left to expire", "commits in doubt could not be asked for."},
		{before.Refused, now.Refused, "Writes are refused", "transactions were rolled back since Redis did not answer and a rule says redis_down: refuse."},
		{before.Unfenced, now.Unfenced, "Writes went past Redis", "transactions were committed while Redis did not take fences; their keys went to the outbox."},
	} {
		if c.to > c.from {
			signs = append(signs, Sign{Warning, c.title, fmt.Sprintf("%d %s", c.to-c.from, c.text)})
		}
	}
	return signs
}

func outsideSigns(r *wtcache.StatusReport) []Sign {
	var signs []Sign
	if r.PostgresError != "" {
		signs = append(signs, Sign{Unhealthy, "Postgres cannot be asked", r.PostgresError})
	}
	if r.Redis.Error != "" {
		signs = append(signs, Sign{Unhealthy, "Redis is away", r.Redis.Error})
	}
	if o := r.Outbox; o.Needed {
		if o.Error != "" && r.PostgresError == "" {
			signs = append(signs, Sign{Unhealthy, "The outbox cannot be read", o.Error})
		}
		signs = append(signs, outboxSigns(o.Rows, time.Duration(o.OldestSeconds*float64(time.Second)))...)
		if n := len(o.Outages); n > 0 {
			signs = append(signs, Sign{Unhealthy, "An outage is announced", fmt.Sprintf("%s past Redis: until that is over, tables whose rule queues are read from the database.", several(int64(n), "process writes", "processes write"))})
		}
	}
	for _, f := range r.Findings {
		if f.Severity == cachesync.Error {
			signs = append(signs, Sign{Unhealthy, "check finds an error", fmt.Sprintf("%s (%s): %s", f.Subject, f.Where, f.Problem)})
		}
	}
	return signs
}

func several(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// HealthOf judges a look from outside.
func HealthOf(r *wtcache.StatusReport) Health {
	return healthOf(signsOf(view{rules: r.Rules, outside: r}, nil, r.Time))
}
