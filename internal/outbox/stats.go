package outbox

import (
	"sync/atomic"
	"time"
)

// Stats counts since New, but for Depth and Oldest, which are as of the last look and of the whole outbox.
type Stats struct {
	Depth        int64         // rows; measured while an outage lasts, and after each round of draining
	Oldest       time.Duration // age of the oldest row
	Announced    int64         // outages
	Removed      int64         // outages of this process, once nothing needed them
	RemovedDead  int64         // outages of processes that had died
	Lost         int64         // outages of this process that others had removed
	Polls        int64
	PollFailures int64
	Handed       int64 // keys and sweeps
	Rows         int64 // drained
	Keys         int64 // settled, each once a batch
	Sweeps       int64 // settled
	DrainErrors  int64
	Skipped      int64 // times that a row was set aside since it could not be read or settled
	Collapsed    int64 // rows exchanged for sweeps
	TooDeep      int64 // times that the outbox was found deeper than MaxDepth
}

type counters struct {
	depth, oldestMillis                      atomic.Int64
	announced, removed, removedDead, lost    atomic.Int64
	polls, pollFailures, handed              atomic.Int64
	rows, keys, sweeps, drainErrors, skipped atomic.Int64
	collapsed, tooDeep                       atomic.Int64
}

// Stats asks nobody.
func (b *Box) Stats() Stats {
	c := &b.stats
	return Stats{
		Depth:        c.depth.Load(),
		Oldest:       time.Duration(c.oldestMillis.Load()) * time.Millisecond,
		Announced:    c.announced.Load(),
		Removed:      c.removed.Load(),
		RemovedDead:  c.removedDead.Load(),
		Lost:         c.lost.Load(),
		Polls:        c.polls.Load(),
		PollFailures: c.pollFailures.Load(),
		Handed:       c.handed.Load(),
		Rows:         c.rows.Load(),
		Keys:         c.keys.Load(),
		Sweeps:       c.sweeps.Load(),
		DrainErrors:  c.drainErrors.Load(),
		Skipped:      c.skipped.Load(),
		Collapsed:    c.collapsed.Load(),
		TooDeep:      c.tooDeep.Load(),
	}
}
