package wtcache

import (
	"database/sql"
	"sync/atomic"
	"time"

	"github.com/wtcache/wtcache/cachesync"
)

// Stats are counters since the *sql.DB was opened. Each is read by itself, so
// they need not add up while work is going on.
type Stats struct {
	// Statements.
	PreciseWrites   uint64 // statements whose rows were captured
	CoarseWrites    uint64 // statements of which no row was captured, and that made every entry of a rule absent
	PinnedWrites    uint64 // statements under row-level security whose keys were all pinned
	Uncaptured      uint64 // statements that name a ruled table and could not be followed (README, "What is not captured")
	FenceFirst      uint64 // autocommit writes that were fenced before they ran
	LockFirst       uint64 // autocommit writes that ran in a transaction of ours
	CapturedRows    uint64
	PlansMade       uint64 // texts that were parsed
	SizesAsked      uint64 // statements of which the planner was asked how many rows they write, before they ran
	SessionProbes   uint64 // looks at what a session makes of the rules
	KeyMismatches   uint64 // fence-first writes whose row had another key than was fenced; made absent
	TableMismatches uint64 // captured rows of another table than the plan's; handled as a coarse write

	// Transactions that had captured something.
	Committed  uint64
	RolledBack uint64
	InDoubt    uint64 // the COMMIT got no answer; the keys stay fenced until one of the next four is counted
	Refused    uint64 // rolled back because Redis was down and a rule says redis_down: refuse
	Unfenced   uint64 // committed while Redis was down (redis_down: queue); the keys are owed
	Queued     uint64 // of these, transactions whose keys were written to the outbox

	// What became of those in doubt: the server said that they were committed, or rolled
	// back; they are over, but how is not certain, so that the keys became absent; they
	// could not be asked for, so that the fences were left to expire.
	DoubtCommitted, DoubtAborted, DoubtFinished, DoubtExpired uint64

	// BackgroundErrors were given to the logger and to Config.OnError.
	BackgroundErrors uint64
	// LastErrors are the latest 20 of them, the newest last.
	LastErrors []ErrorRecord

	// CoarseReasons are the coarse writes by why they were coarse, nil where there were none. The reasons are this package's own
	// words, never a statement's, and bounded in number. Precise writes whose rows could not be followed after
	// all are among them (too many rows, a foreign key's action), so that they add up to more than CoarseWrites.
	CoarseReasons map[string]uint64

	// Commits of rules with `apply: async`: AppliesBehind were applied behind their callers, AppliesInLine by the callers
	// themselves, since too many were pending. AppliesPending are those behind their callers just now.
	AppliesBehind, AppliesInLine uint64
	AppliesPending               int64

	// WriteTimes are how long callers waited, in seconds, for ruled statements that commit by themselves and for the COMMITs of
	// transactions that had captured something, however they ended. FenceTimes and ApplyTimes are what of that went into
	// fencing before the commit, with sweeps, and into applying after it. None has what was settled later, behind the caller, but
	// ApplyTimes has the applies of `apply: async`, for which no caller waited.
	WriteTimes, FenceTimes, ApplyTimes Histogram

	// BreakerOpen: calls to Redis (of a Cluster, to one of its primaries) are refused just now, since it does not answer.
	BreakerOpen bool

	// Rows read through Cache and Reader. Hits came from Redis, ReplicaHits of them from
	// a replica of it. Bypasses were read from the database without the right to fill.
	// Shared rode along with a read that was under way for another reader of this process.
	Hits, ReplicaHits, Misses, Fills, Bypasses, Shared uint64
	// DatabaseReads are statements that the readers sent.
	DatabaseReads uint64
	// How it went with the read replica (Config.ReadReplica): it was read; it had not
	// replayed enough in time; it could not be asked, or must not be used.
	ReplicaReads, ReplicaBehind, ReplicaUnavailable uint64

	// Unwatched are rows that were read from the database because another process may have
	// been writing past Redis, or because the database could not be asked whether one was.
	Unwatched uint64

	// Redis holds the counters of the protocol itself, Outbox those of the outbox.
	Redis  cachesync.Stats
	Outbox OutboxStats

	// Audit is what the latest audit of this process has found, nil before there was one.
	Audit *AuditReport
}

// OutboxStats count what the outbox has done in this process. Depth and Oldest are those of the whole outbox, as of the
// last look at it.
type OutboxStats struct {
	Depth        int64         // rows that wait
	Oldest       time.Duration // how long the oldest has waited
	Announced    int64         // outages of this process: it could not fence and has queued
	Removed      int64         // of these, those that are over
	RemovedDead  int64         // outages of processes that had died, removed by this one
	Lost         int64         // outages of this process that others took for those of a dead one
	Polls        int64         // looks whether anybody writes past Redis, on behalf of readers
	PollFailures int64
	Handed       int64 // keys and sweeps that could not be settled after their commit
	Rows         int64 // drained
	Keys         int64 // made absent by that
	Sweeps       int64 // rules of which every entry was
	DrainErrors  int64
	Skipped      int64 // times that a row was left for later since it could not be read or settled
	Full         int64 // outages that have queued so much that everything is owed
	Collapsed    int64 // rows that were exchanged for sweeps, since there were too many
	TooDeep      int64 // times that there were
}

// counters are Stats while they are being counted.
type counters struct {
	preciseWrites, coarseWrites, pinnedWrites, uncaptured atomic.Uint64
	fenceFirst, lockFirst, capturedRows, plansMade        atomic.Uint64
	sizesAsked                                            atomic.Uint64
	sessionProbes, keyMismatches, tableMismatches         atomic.Uint64
	committed, rolledBack, inDoubt, refused, unfenced     atomic.Uint64
	doubtCommitted, doubtAborted                          atomic.Uint64
	doubtFinished, doubtExpired                           atomic.Uint64
	backgroundErrors                                      atomic.Uint64
	hits, replicaHits, misses, fills, bypasses, shared    atomic.Uint64
	databaseReads, queued, unwatched                      atomic.Uint64
	behind, inLine                                        atomic.Uint64
	coarseReasons                                         tally
	writeTimes, fenceTimes, applyTimes                    times
	lastErrors                                            errorLog
}

// StatsOf reads the counters of a *sql.DB that was opened through wtcache.
func StatsOf(db *sql.DB) (Stats, error) {
	e, err := engineOf(db)
	if err != nil {
		return Stats{}, err
	}
	return e.snapshot(), nil
}

func (e *engine) snapshot() Stats {
	c := &e.stats
	s := Stats{
		PreciseWrites: c.preciseWrites.Load(), CoarseWrites: c.coarseWrites.Load(),
		PinnedWrites: c.pinnedWrites.Load(), Uncaptured: c.uncaptured.Load(),
		FenceFirst: c.fenceFirst.Load(), LockFirst: c.lockFirst.Load(),
		CapturedRows: c.capturedRows.Load(), PlansMade: c.plansMade.Load(),
		SizesAsked:    c.sizesAsked.Load(),
		SessionProbes: c.sessionProbes.Load(), KeyMismatches: c.keyMismatches.Load(),
		TableMismatches: c.tableMismatches.Load(),
		Committed:       c.committed.Load(), RolledBack: c.rolledBack.Load(), InDoubt: c.inDoubt.Load(),
		Refused: c.refused.Load(), Unfenced: c.unfenced.Load(),
		DoubtCommitted: c.doubtCommitted.Load(), DoubtAborted: c.doubtAborted.Load(),
		DoubtFinished: c.doubtFinished.Load(), DoubtExpired: c.doubtExpired.Load(),
		BackgroundErrors: c.backgroundErrors.Load(),
		Hits:             c.hits.Load(), ReplicaHits: c.replicaHits.Load(), Misses: c.misses.Load(),
		Fills: c.fills.Load(), Bypasses: c.bypasses.Load(), Shared: c.shared.Load(),
		DatabaseReads: c.databaseReads.Load(),
		Queued:        c.queued.Load(), Unwatched: c.unwatched.Load(),
		AppliesBehind: c.behind.Load(), AppliesInLine: c.inLine.Load(), AppliesPending: e.behind.pending.Load(),
		LastErrors: c.lastErrors.load(), CoarseReasons: c.coarseReasons.load(),
		WriteTimes: c.writeTimes.load(), FenceTimes: c.fenceTimes.load(), ApplyTimes: c.applyTimes.load(),
	}
	s.ReplicaReads, s.ReplicaBehind, s.ReplicaUnavailable = e.standby.counts()
	s.Audit = e.lastAudit.Load()
	if e.sync != nil {
		s.Redis = e.sync.Stats()
		s.BreakerOpen = e.sync.BreakerOpen()
	}
	if e.outbox != nil {
		s.Outbox = OutboxStats(e.outbox.Stats())
	}
	return s
}
