package cachesync

import "sync/atomic"

// Stats counts what a Client has done since it was made. All are numbers of
// keys unless they say otherwise.
type Stats struct {
	Fences        int64 // fenced and acknowledged
	FenceFailures int64 // not acknowledged
	Uncacheable   int64 // skipped: the key cannot have siblings in its slot

	// Applies by answer.
	Stored  int64 // the payload is in Redis
	Held    int64 // other writers' tokens live: the last of them ends the fence
	Dropped int64 // the fence ended without a value
	Lost    int64 // the fence had gone before the apply

	Aborts        int64
	AbortFailures int64 // tokens left to expire
	Renewals      int64 // tokens extended
	Refenced      int64 // tokens found gone by a renewal and replaced

	Hits               int64
	Misses             int64
	LeasesGranted      int64
	LeasesBypassed     int64
	Fills              int64
	FillRefusals       int64 // the lease was gone
	SchemaMismatches   int64 // values of another schema or format, read as absent
	ChecksumMismatches int64 // damaged values, read as absent
	Outlived           int64 // values older than any is ever meant to get, read as absent
	TooOld             int64 // values older than their reader took, read as absent
	Distrusted         int64 // values of before a loss of Redis or the database, read as absent
	Quarantined        int64 // leases not asked for, or not used, since the server is young
	Untrusted          int64 // servers that answer again and may not be served from yet, now
	Ages               Ages  // of the values that were served
	ForeignKeys        int64 // leases refused: the key holds another Redis type that is not ours
	Invalidations      int64 // made absent without a fence: by eventual writes, sweeps, audits and the outbox
	Sweeps             int64 // sweeps, both passes done
	SweptKeys          int64
	Owed               int64 // keys and sweeps owed now
	OwedTotal          int64 // keys and sweeps that ever came to be owed
	Retries            int64 // tries to settle an owed key or sweep
	BreakerOpens       int64 // times
	InvalidEntries     int64 // entries that could not be encoded: made absent
	UnfencedApplies    int64 // entries given to Apply whose key was not fenced
	OwedDegraded       int64 // owed keys that were exchanged for a sweep
	OwedHandedOver     int64 // owed keys and sweeps that Options.HandOver has taken
}

// counters are the Stats while they are counted.
type counters struct {
	Fences, FenceFailures, Uncacheable   atomic.Int64
	Stored, Held, Dropped, Lost          atomic.Int64
	Aborts, AbortFailures                atomic.Int64
	Renewals, Refenced                   atomic.Int64
	Hits, Misses                         atomic.Int64
	LeasesGranted, LeasesBypassed        atomic.Int64
	Fills, FillRefusals                  atomic.Int64
	SchemaMismatches, ChecksumMismatches atomic.Int64
	Invalidations, Sweeps, SweptKeys     atomic.Int64
	OwedTotal, Retries, BreakerOpens     atomic.Int64
	InvalidEntries, UnfencedApplies      atomic.Int64
	OwedDegraded, ForeignKeys            atomic.Int64
	OwedHandedOver                       atomic.Int64
	Outlived, TooOld                     atomic.Int64
	Distrusted, Quarantined              atomic.Int64
	Ages                                 ageCounters
}

// Stats reads the counters, each by itself: together they are no snapshot.
func (c *Client) Stats() Stats {
	s := &c.stats
	return Stats{
		Fences: s.Fences.Load(), FenceFailures: s.FenceFailures.Load(), Uncacheable: s.Uncacheable.Load(),
		Stored: s.Stored.Load(), Held: s.Held.Load(), Dropped: s.Dropped.Load(), Lost: s.Lost.Load(),
		Aborts: s.Aborts.Load(), AbortFailures: s.AbortFailures.Load(),
		Renewals: s.Renewals.Load(), Refenced: s.Refenced.Load(),
		Hits: s.Hits.Load(), Misses: s.Misses.Load(),
		LeasesGranted: s.LeasesGranted.Load(), LeasesBypassed: s.LeasesBypassed.Load(),
		Fills: s.Fills.Load(), FillRefusals: s.FillRefusals.Load(),
		SchemaMismatches: s.SchemaMismatches.Load(), ChecksumMismatches: s.ChecksumMismatches.Load(),
		Invalidations: s.Invalidations.Load(), Sweeps: s.Sweeps.Load(), SweptKeys: s.SweptKeys.Load(),
		Owed: int64(c.Owed()), OwedTotal: s.OwedTotal.Load(), Retries: s.Retries.Load(),
		BreakerOpens: s.BreakerOpens.Load(), InvalidEntries: s.InvalidEntries.Load(),
		UnfencedApplies: s.UnfencedApplies.Load(), OwedDegraded: s.OwedDegraded.Load(),
		OwedHandedOver: s.OwedHandedOver.Load(),
		ForeignKeys:    s.ForeignKeys.Load(), Outlived: s.Outlived.Load(), TooOld: s.TooOld.Load(),
		Distrusted: s.Distrusted.Load(), Quarantined: s.Quarantined.Load(),
		Untrusted: c.trust.closed(), Ages: s.Ages.load(),
	}
}
