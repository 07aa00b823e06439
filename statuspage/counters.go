package statuspage

import (
	"reflect"
	"strings"
	"time"
	"unicode"

	"github.com/wtcache/wtcache"
)

// countersOf gives every number of Stats by its name in snake case; durations are in seconds and end in _seconds. What is shown by itself
// (the last errors, the last audit) is left out.
func countersOf(s *wtcache.Stats) map[string]any {
	return structCounters(reflect.ValueOf(s).Elem())
}

var durationType = reflect.TypeFor[time.Duration]()

func structCounters(v reflect.Value) map[string]any {
	all := make(map[string]any, v.NumField())
	for i := range v.NumField() {
		name, f := snake(v.Type().Field(i).Name), v.Field(i)
		switch {
		case f.Type() == durationType:
			all[name+"_seconds"] = time.Duration(f.Int()).Seconds()
		case f.Type() == reflect.TypeFor[wtcache.Histogram]():
			all[name] = histogramCounters(f.Interface().(wtcache.Histogram))
		case name == "ages":
			continue // with the bounds, by stats
		case f.Kind() == reflect.Struct:
			all[name] = structCounters(f)
		case f.Kind() == reflect.Map && f.Type().Elem().Kind() == reflect.Uint64:
			all[name] = f.Interface()
		case f.CanUint(), f.CanInt(), f.Kind() == reflect.Bool:
			all[name] = f.Interface()
		}
	}
	return all
}

func histogramCounters(h wtcache.Histogram) map[string]any {
	return map[string]any{"bounds_seconds": h.Bounds, "counts": h.Counts, "sum_seconds": h.Sum, "count": h.Count}
}

// snake turns "PollFailures" into "poll_failures" and "TTLMissing" into "ttl_missing".
func snake(name string) string {
	var b strings.Builder
	letters := []rune(name)
	for i, c := range letters {
		if i > 0 && unicode.IsUpper(c) && (unicode.IsLower(letters[i-1]) || i+1 < len(letters) && unicode.IsLower(letters[i+1])) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// counter is a line of the page's table.
type counter struct {
	Name, Meaning string
	Value         uint64
	Recent        uint64 // in the last minute
	Bad           bool   // it should stand still
}

// group is some of them.
type group struct {
	Name     string
	Counters []counter
}

type pick struct {
	name, meaning string
	of            func(s *wtcache.Stats) uint64
	bad           bool
}

func i64(n int64) uint64 { return uint64(max(n, 0)) }

var picks = []struct {
	name  string
	picks []pick
}{
	{"Writes", []pick{
		{"precise", "statements whose rows were captured", func(s *wtcache.Stats) uint64 { return s.PreciseWrites }, false},
		{"coarse", "statements that made every entry of a rule absent", func(s *wtcache.Stats) uint64 { return s.CoarseWrites }, false},
		{"pinned", "statements under row-level security whose keys were all known", func(s *wtcache.Stats) uint64 { return s.PinnedWrites }, false},
		{"not followed", "statements that name a ruled table and could not be followed", func(s *wtcache.Stats) uint64 { return s.Uncaptured }, true},
		{"rows captured", "rows that those statements wrote", func(s *wtcache.Stats) uint64 { return s.CapturedRows }, false},
	}},
	{"Transactions", []pick{
		{"committed", "with ruled writes, acknowledged by Postgres", func(s *wtcache.Stats) uint64 { return s.Committed }, false},
		{"rolled back", "nothing of them is in Redis", func(s *wtcache.Stats) uint64 { return s.RolledBack }, false},
		{"in doubt", "the COMMIT got no answer; the outcome is asked for", func(s *wtcache.Stats) uint64 { return s.InDoubt }, true},
		{"refused", "rolled back since Redis was down (redis_down: refuse)", func(s *wtcache.Stats) uint64 { return s.Refused }, true},
		{"queued", "committed while Redis was down, keys written to the outbox (redis_down: queue)", func(s *wtcache.Stats) uint64 { return s.Queued }, true},
	}},
	{"Reads", []pick{
		{"hits", "rows served from Redis", func(s *wtcache.Stats) uint64 { return s.Hits }, false},
		{"misses", "rows that Redis did not have", func(s *wtcache.Stats) uint64 { return s.Misses }, false},
		{"fills", "rows that readers stored", func(s *wtcache.Stats) uint64 { return s.Fills }, false},
		{"bypasses", "read from the database without the right to fill: a write or another reader was at the key", func(s *wtcache.Stats) uint64 { return s.Bypasses }, false},
		{"shared", "rode along with another reader's query", func(s *wtcache.Stats) uint64 { return s.Shared }, false},
		{"unwatched", "read from the database since some process may have been writing past Redis", func(s *wtcache.Stats) uint64 { return s.Unwatched }, true},
	}},
	{"Redis", []pick{
		{"fences", "keys barred before a COMMIT", func(s *wtcache.Stats) uint64 { return i64(s.Redis.Fences) }, false},
		{"fence failures", "keys that Redis did not bar in time", func(s *wtcache.Stats) uint64 { return i64(s.Redis.FenceFailures) }, true},
		{"stored", "values written through after their COMMIT", func(s *wtcache.Stats) uint64 { return i64(s.Redis.Stored) }, false},
		{"dropped", "keys left absent: several writers at once, or the rule invalidates", func(s *wtcache.Stats) uint64 { return i64(s.Redis.Dropped) }, false},
		{"lost fences", "fences that had gone before their apply: evicted, or expired", func(s *wtcache.Stats) uint64 { return i64(s.Redis.Lost) }, true},
		{"outages", "times that calls were refused for a while, since Redis did not answer", func(s *wtcache.Stats) uint64 { return i64(s.Redis.BreakerOpens) }, true},
		{"damaged", "values whose checksum did not fit, read as absent", func(s *wtcache.Stats) uint64 { return i64(s.Redis.ChecksumMismatches) }, true},
	}},
}

// groupsOf gives what the page shows; before is a look of a minute ago, nil where there is none.
func groupsOf(before, now *wtcache.Stats) []group {
	groups := make([]group, len(picks))
	for i, g := range picks {
		groups[i].Name = g.name
		for _, p := range g.picks {
			c := counter{Name: p.name, Meaning: p.meaning, Value: p.of(now), Bad: p.bad}
			if before != nil {
				c.Recent = c.Value - min(c.Value, p.of(before))
			}
			c.Bad = c.Bad && c.Value > 0
			groups[i].Counters = append(groups[i].Counters, c)
		}
	}
	return groups
}
