package metricset

import (
	"maps"
	"slices"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
)

type stats = *wtcache.Stats

// All are the metrics, in the order in which the documentation lists them.
func All() []Metric { return slices.Concat(writes, reads, protocol, outbox, audit) }

// LeftOut are the fields of wtcache.Stats that are no metric, and why.
var LeftOut = map[string]string{
	"Fills":      "the same as Redis.Fills",
	"LastErrors": "texts, not numbers: BackgroundErrors counts them, the log and the status page show them",

	"Audit.Sample":        "how the audit was asked, not what it has found",
	"Audit.Total.Checked": "the sum of wtcache_audit_keys",
	"Audit.Total.Faulty":  "the sum of wtcache_audit_faulty_keys",
	"Audit.Total.Skipped": "keys of other programs",
	"Audit.WithinBasis":   "a text",
	"Audit.Notes":         "texts",
	"Audit.Unfinished":    "a text, and none in Stats: an audit that did not end is not shown",
}

var writes = []Metric{
	split("wtcache.writes", "{transaction}", "Transactions and autocommit statements that wrote ruled tables, by how they ended", "outcome", func(s stats) []Point {
		return []Point{part("committed", s.Committed), part("rolled_back", s.RolledBack), part("in_doubt", s.InDoubt), part("refused", s.Refused)}
	}),
	split("wtcache.statements", "{statement}", "Statements that write ruled tables, by how their rows were captured", "capture", func(s stats) []Point {
		return []Point{part("precise", s.PreciseWrites), part("pinned", s.PinnedWrites), part("coarse", s.CoarseWrites), part("uncaptured", s.Uncaptured)}
	}),
	split("wtcache.coarse_invalidations", "{write}", "Writes that made every entry of a rule absent, by why their rows were not known", "reason", func(s stats) []Point {
		var points []Point
		for _, reason := range slices.Sorted(maps.Keys(s.CoarseReasons)) {
			points = append(points, part(reason, s.CoarseReasons[reason]))
		}
		return points
	}),
	histogram("wtcache.write.duration", "How long callers waited for autocommit writes and COMMITs of ruled tables", func(s stats) wtcache.Histogram { return s.WriteTimes }),
	histogram("wtcache.fence.duration", "How much of that went into fencing before the commit", func(s stats) wtcache.Histogram { return s.FenceTimes }),
	histogram("wtcache.apply.duration", "How much of that went into applying after the commit; for rules with apply: async, how long that took behind the callers", func(s stats) wtcache.Histogram { return s.ApplyTimes }),
	split("wtcache.async_applies", "{transaction}", "Commits of rules with apply: async that were applied behind their callers, or by the callers because too many were pending", "by", func(s stats) []Point {
		return []Point{part("behind", s.AppliesBehind), part("caller", s.AppliesInLine)}
	}),
	gauge("wtcache.pending_applies", "{transaction}", "Commits of rules with apply: async that are being applied behind their callers", func(s stats) int64 { return s.AppliesPending }),
	split("wtcache.autocommits", "{statement}", "Autocommit writes by whether their keys were fenced before they ran, or they ran in a transaction of wtcache's own", "order", func(s stats) []Point {
		return []Point{part("fence_first", s.FenceFirst), part("lock_first", s.LockFirst)}
	}),
	counter("wtcache.unfenced_commits", "{transaction}", "Transactions that were committed while Redis could not be fenced", func(s stats) uint64 { return s.Unfenced }),
	counter("wtcache.queued_commits", "{transaction}", "Transactions whose keys were written to the outbox", func(s stats) uint64 { return s.Queued }),
	split("wtcache.doubts", "{transaction}", "Commits in doubt by what became of them", "outcome", func(s stats) []Point {
		return []Point{part("committed", s.DoubtCommitted), part("aborted", s.DoubtAborted), part("finished", s.DoubtFinished), part("expired", s.DoubtExpired)}
	}),
	counter("wtcache.captured_rows", "{row}", "Written rows that were captured", func(s stats) uint64 { return s.CapturedRows }),
	split("wtcache.mismatches", "{row}", "Captured rows with another key, or of another table, than was expected, made absent", "kind", func(s stats) []Point {
		return []Point{part("key", s.KeyMismatches), part("table", s.TableMismatches)}
	}),
	counter("wtcache.plans", "{statement}", "Statement texts that were parsed", func(s stats) uint64 { return s.PlansMade }),
	counter("wtcache.sizes_asked", "{statement}", "Statements of which the planner was asked how many rows they write, before they ran", func(s stats) uint64 { return s.SizesAsked }),
	counter("wtcache.session_probes", "{probe}", "Looks at what a database session makes of the rules", func(s stats) uint64 { return s.SessionProbes }),
	counter("wtcache.background_errors", "{error}", "Errors after COMMIT or in the background, which no caller was given", func(s stats) uint64 { return s.BackgroundErrors }),
}

var reads = []Metric{
	split("wtcache.reads", "{row}", "Rows asked for: found in Redis, not found there, or read from the database without the right to fill (a miss without a lease is both)", "result", func(s stats) []Point {
		return []Point{part("hit", s.Hits), part("miss", s.Misses), part("bypass", s.Bypasses)}
	}),
	{Name: "wtcache.served_age", Unit: "s", Kind: Histogram, Help: "Ages of the values that were served from Redis", times: servedAges},
	float("wtcache.served_age_max", "s", "Age of the oldest value that was ever served from Redis", func(s stats) float64 { return s.Redis.Ages.Max.Seconds() }),
	counter("wtcache.shared_reads", "{row}", "Rows that came with a read that was under way for another reader", func(s stats) uint64 { return s.Shared }),
	counter("wtcache.replica_hits", "{row}", "Hits that came from a replica of Redis", func(s stats) uint64 { return s.ReplicaHits }),
	counter("wtcache.database_reads", "{statement}", "Statements that readers sent to the database", func(s stats) uint64 { return s.DatabaseReads }),
	counter("wtcache.unwatched_reads", "{row}", "Rows read from the database because some process may be writing past Redis", func(s stats) uint64 { return s.Unwatched }),
	split("wtcache.standby_reads", "{read}", "Misses for which the read replica of the database was tried", "result", func(s stats) []Point {
		return []Point{part("used", s.ReplicaReads), part("behind", s.ReplicaBehind), part("unavailable", s.ReplicaUnavailable)}
	}),
}

// servedAges turns the bounds, which are durations, into seconds.
func servedAges(s stats) wtcache.Histogram {
	ages := &s.Redis.Ages
	h := wtcache.Histogram{Sum: ages.Sum.Seconds()}
	for _, b := range cachesync.AgeBounds {
		h.Bounds = append(h.Bounds, b.Seconds())
	}
	for _, n := range ages.Counts {
		h.Counts = append(h.Counts, uint64(n))
		h.Count += uint64(n)
	}
	return h
}

var protocol = []Metric{
	split("wtcache.fences", "{key}", "Keys that were barred before a commit, acknowledged by Redis or not", "result", func(s stats) []Point {
		return []Point{part("acknowledged", s.Redis.Fences), part("failed", s.Redis.FenceFailures)}
	}),
	split("wtcache.applies", "{key}", "Fenced keys after their commit: stored, held by other writers, dropped without a value, or the fence was lost", "result", func(s stats) []Point {
		return []Point{part("stored", s.Redis.Stored), part("held", s.Redis.Held), part("dropped", s.Redis.Dropped), part("lost", s.Redis.Lost)}
	}),
	split("wtcache.stale_writes_skipped", "{key}", "Values that were not stored because a newer one may be on its way or there: of readers and of strict writers", "writer", func(s stats) []Point {
		return []Point{part("reader", s.Redis.FillRefusals), part("strict", s.Redis.Held+s.Redis.Lost)}
	}),
	split("wtcache.aborts", "{key}", "Fences given back after a rollback, or left to expire because Redis could not be told", "result", func(s stats) []Point {
		return []Point{part("released", s.Redis.Aborts), part("left", s.Redis.AbortFailures)}
	}),
	split("wtcache.renewals", "{key}", "Fences of long commits that were extended, or found gone and put up again", "result", func(s stats) []Point {
		return []Point{part("extended", s.Redis.Renewals), part("replaced", s.Redis.Refenced)}
	}),
	split("wtcache.lookups", "{key}", "Keys that Redis was asked for, with those that are looked at twice in one read", "result", func(s stats) []Point {
		return []Point{part("hit", s.Redis.Hits), part("miss", s.Redis.Misses)}
	}),
	split("wtcache.leases", "{key}", "Rights to fill that readers asked for", "result", func(s stats) []Point {
		return []Point{part("granted", s.Redis.LeasesGranted), part("refused", s.Redis.LeasesBypassed), part("quarantined", s.Redis.Quarantined), part("foreign_key", s.Redis.ForeignKeys)}
	}),
	split("wtcache.fills", "{key}", "Rows that readers put into Redis, or that came too late", "result", func(s stats) []Point {
		return []Point{part("stored", s.Redis.Fills), part("refused", s.Redis.FillRefusals)}
	}),
	split("wtcache.rejected_values", "{key}", "Values found in Redis and treated as absent, by what was wrong", "reason", func(s stats) []Point {
		return []Point{part("schema", s.Redis.SchemaMismatches), part("checksum", s.Redis.ChecksumMismatches), part("outlived", s.Redis.Outlived),
			part("too_old", s.Redis.TooOld), part("distrusted", s.Redis.Distrusted)}
	}),
	gauge("wtcache.breaker_open", "", "1 while calls to Redis are refused because it does not answer", func(s stats) uint64 {
		if s.BreakerOpen {
			return 1
		}
		return 0
	}),
	counter("wtcache.breaker_opens", "{time}", "Times that Redis was found not to answer", func(s stats) int64 { return s.Redis.BreakerOpens }),
	gauge("wtcache.untrusted_servers", "{server}", "Redis servers that answer again and may not be served from yet", func(s stats) int64 { return s.Redis.Untrusted }),
	gauge("wtcache.owed_keys", "{key}", "Keys and sweeps that Redis could not be told of and that wait in memory", func(s stats) int64 { return s.Redis.Owed }),
	counter("wtcache.owed", "{key}", "Keys and sweeps that ever came to be owed in memory", func(s stats) int64 { return s.Redis.OwedTotal }),
	counter("wtcache.owed_retries", "{try}", "Tries to settle what is owed in memory", func(s stats) int64 { return s.Redis.Retries }),
	counter("wtcache.owed_degraded", "{key}", "Owed keys that were exchanged for a sweep, since there were too many", func(s stats) int64 { return s.Redis.OwedDegraded }),
	counter("wtcache.owed_handed_over", "{key}", "Owed keys and sweeps that the outbox has taken", func(s stats) int64 { return s.Redis.OwedHandedOver }),
	counter("wtcache.invalidations", "{key}", "Keys that were made absent without a fence: by eventual writes, sweeps, audits and the outbox", func(s stats) int64 { return s.Redis.Invalidations }),
	counter("wtcache.sweeps", "{sweep}", "Walks of the keyspace that made every entry of a rule absent", func(s stats) int64 { return s.Redis.Sweeps }),
	counter("wtcache.swept_keys", "{key}", "Keys that sweeps met", func(s stats) int64 { return s.Redis.SweptKeys }),
	counter("wtcache.uncacheable_keys", "{key}", "Keys that cannot be cached because of their braces", func(s stats) int64 { return s.Redis.Uncacheable }),
	counter("wtcache.invalid_entries", "{key}", "Entries that could not be encoded and were made absent", func(s stats) int64 { return s.Redis.InvalidEntries }),
	counter("wtcache.unfenced_applies", "{key}", "Entries to apply whose key had not been fenced: a fault of wtcache", func(s stats) int64 { return s.Redis.UnfencedApplies }),
}

var outbox = []Metric{
	gauge("wtcache.outbox_depth", "{row}", "Rows that wait in the outbox, as of the last look", func(s stats) int64 { return s.Outbox.Depth }),
	float("wtcache.outbox_oldest_age", "s", "How long the oldest row of the outbox has waited, as of the last look", func(s stats) float64 { return s.Outbox.Oldest.Seconds() }),
	split("wtcache.outbox_outages", "{outage}", "Announcements that this process writes past Redis: made, over, removed for a dead process, or lost to others", "event", func(s stats) []Point {
		return []Point{part("announced", s.Outbox.Announced), part("removed", s.Outbox.Removed), part("removed_dead", s.Outbox.RemovedDead), part("lost", s.Outbox.Lost)}
	}),
	counter("wtcache.outbox_polls", "{poll}", "Looks at the outbox whether anybody writes past Redis", func(s stats) int64 { return s.Outbox.Polls }),
	counter("wtcache.outbox_poll_failures", "{poll}", "Looks at the outbox that failed", func(s stats) int64 { return s.Outbox.PollFailures }),
	counter("wtcache.outbox_handed", "{key}", "Keys and sweeps handed to the outbox after their commit", func(s stats) int64 { return s.Outbox.Handed }),
	counter("wtcache.outbox_drained_rows", "{row}", "Rows that this process has drained from the outbox", func(s stats) int64 { return s.Outbox.Rows }),
	counter("wtcache.outbox_drained_keys", "{key}", "Keys made absent by draining the outbox", func(s stats) int64 { return s.Outbox.Keys }),
	counter("wtcache.outbox_drained_sweeps", "{sweep}", "Rules of which every entry was made absent by draining the outbox", func(s stats) int64 { return s.Outbox.Sweeps }),
	counter("wtcache.outbox_drain_errors", "{error}", "Batches of the outbox that could not be settled", func(s stats) int64 { return s.Outbox.DrainErrors }),
	counter("wtcache.outbox_skipped_rows", "{row}", "Times that a row of the outbox was left for later because it could not be read or settled", func(s stats) int64 { return s.Outbox.Skipped }),
	counter("wtcache.outbox_full", "{outage}", "Outages that have queued so much that everything is owed", func(s stats) int64 { return s.Outbox.Full }),
	counter("wtcache.outbox_collapsed_rows", "{row}", "Rows of the outbox that were exchanged for sweeps", func(s stats) int64 { return s.Outbox.Collapsed }),
	counter("wtcache.outbox_too_deep", "{time}", "Times that the outbox was found too deep", func(s stats) int64 { return s.Outbox.TooDeep }),
}
