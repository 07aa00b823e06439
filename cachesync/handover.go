package cachesync

import (
	"context"
	"time"
)

// OwedSweep is a rule whose keys must all be made absent: a Sweep of the globs behind the
// barrier, which may be empty.
type OwedSweep struct {
	Barrier string
	Globs   []string
}

// handOverLimit bounds a hand-over, and handOverKeys the keys in one.
const (
	handOverLimit = 5 * time.Second
	handOverKeys  = 10_000
)

// handOver gives what is owed to Options.HandOver, and says whether anything has been taken.
// Tokens that are released with a debt are left to expire.
func (c *Client) handOver(ctx context.Context) bool {
	if c.o.HandOver == nil {
		return false
	}
	keys, sweeps, seq := c.owed.some(handOverKeys)
	if len(keys)+len(sweeps) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, handOverLimit)
	defer cancel()
	if err := c.o.HandOver(ctx, keys, sweeps); err != nil {
		c.report("what is owed to redis could not be handed over; it stays in memory and is tried again", err)
		return false
	}
	c.stats.OwedHandedOver.Add(int64(len(keys) + len(sweeps)))
	c.owed.taken(keys, sweeps, seq)
	return true
}

// handOverLast is for a client that is being closed: its context has ended.
func (c *Client) handOverLast() {
	for c.handOver(context.WithoutCancel(c.ctx)) {
	}
}

// some lists what is owed, at most so many keys, and the newest debt's number.
func (o *owed) some(limit int) (keys []string, sweeps []OwedSweep, seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.keys {
		if len(keys) == limit {
			break
		}
		keys = append(keys, key)
	}
	for _, s := range o.sweeps {
		sweeps = append(sweeps, OwedSweep{s.barrier, s.globs})
	}
	return keys, sweeps, o.seq
}

// taken strikes off what somebody else has taken over, but for what was owed anew after seq.
func (o *owed) taken(keys []string, sweeps []OwedSweep, seq uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		if d := o.keys[key]; d != nil && d.seq <= seq {
			delete(o.keys, key)
		}
	}
	for _, s := range sweeps {
		id := sweepID(s.Barrier, s.Globs)
		if d := o.sweeps[id]; d != nil && d.seq <= seq {
			delete(o.sweeps, id)
		}
	}
	o.settled()
}
