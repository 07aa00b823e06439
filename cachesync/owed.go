package cachesync

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// Tries to settle what is owed come at random between half and one and a half
// times a pause that doubles from the first to the second of these.
const (
	owedPauseMin = 50 * time.Millisecond
	owedPauseMax = 5 * time.Second
)

// owed is what must be made absent as soon as Redis answers. It is in memory
// alone, until it is handed over.
type owed struct {
	mu       sync.Mutex // guards all below; nothing is sent under it
	keys     map[string]*debt
	sweeps   map[string]*sweepDebt
	seq      uint64        // of the newest debt
	draining bool          // a goroutine is at work
	idle     chan struct{} // closed while nothing is owed

	wake   chan struct{} // Redis answers again
	warned sync.Once
}

// debt is a key to be made absent, and tokens to be released with it. seq
// tells a debt from an older one of the same key that was sent meanwhile.
type debt struct {
	names  siblings
	tokens []string
	seq    uint64
}

// sweepDebt is a rule whose keys must all be made absent.
type sweepDebt struct {
	barrier string
	globs   []string
	seq     uint64
}

func newOwed() *owed {
	o := &owed{
		keys:   make(map[string]*debt),
		sweeps: make(map[string]*sweepDebt),
		idle:   make(chan struct{}),
		wake:   make(chan struct{}, 1),
	}
	close(o.idle)
	return o
}

// nudge ends a pause of the goroutine at work. It never blocks.
func (o *owed) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Owe makes keys absent as soon as Redis answers. It is for a commit that
// could not be fenced, and must be called after that commit: a debt settled
// before it would let the old row be filled again. The debts are in memory, and
// without Options.HandOver they do not survive the process, which is logged once.
func (c *Client) Owe(keys []string) {
	for _, key := range keys {
		if names, ok := siblingsOf(key); ok {
			c.owe(names, tokens{})
		}
	}
}

// OweSweep owes a Sweep of the globs under the barrier (which may be empty),
// with the same conditions as Owe.
func (c *Client) OweSweep(barrier string, globs []string) {
	if len(globs) == 0 {
		return
	}
	c.owed.mu.Lock()
	c.owed.addSweep(barrier, globs)
	c.owed.mu.Unlock()
	c.owedMore()
}

// owe adds one key. Its tokens are released with it: an apply without payload
// does both in one step.
func (c *Client) owe(names siblings, t tokens) {
	o := c.owed
	o.mu.Lock()
	if _, known := o.keys[names.key]; !known && len(o.keys) >= c.o.OwedMax && c.degrade(names.key) {
		o.mu.Unlock()
		c.owedMore()
		return
	}
	o.addKey(names, t)
	o.mu.Unlock()
	c.owedMore()
}

// degrade exchanges the debts that share a glob with the key for one sweep,
// under owed.mu. It reports false where no glob matches. Tokens of these debts
// expire by themselves.
func (c *Client) degrade(key string) bool {
	at := slices.IndexFunc(c.o.Globs, func(glob string) bool { return matchGlob(glob, key) })
	if at < 0 {
		return false
	}
	glob := c.o.Globs[at]
	c.owed.addSweep("", []string{glob}) // first: the list must not look settled in between
	exchanged := int64(1)
	for other := range c.owed.keys {
		if matchGlob(glob, other) {
			delete(c.owed.keys, other)
			exchanged++
		}
	}
	c.stats.OwedDegraded.Add(exchanged)
	return true
}

func (o *owed) addKey(names siblings, t tokens) {
	o.begun()
	d := o.keys[names.key]
	if d == nil {
		d = &debt{names: names}
		o.keys[names.key] = d
	}
	d.seq = o.seq
	if t.own != "" {
		d.tokens = append(append(d.tokens, t.own), t.earlier...)
	}
}

func (o *owed) addSweep(barrier string, globs []string) {
	o.begun()
	globs = slices.Sorted(slices.Values(globs))
	o.sweeps[sweepID(barrier, globs)] = &sweepDebt{barrier: barrier, globs: globs, seq: o.seq}
}

// sweepID names a sweep of sorted globs.
func sweepID(barrier string, globs []string) string {
	return strings.Join(append([]string{barrier}, globs...), "\x00")
}

// begun notes that one more thing is about to be owed.
func (o *owed) begun() {
	if len(o.keys)+len(o.sweeps) == 0 {
		o.idle = make(chan struct{})
	}
	o.seq++
}

// owedMore counts a new debt and sees to it that somebody works on it.
func (c *Client) owedMore() {
	c.stats.OwedTotal.Add(1)
	c.owed.warned.Do(func() {
		if c.o.HandOver != nil {
			return
		}
		c.o.Logger.Warn("invalidations are owed to redis: they are kept in memory, not durably, and retried until redis answers")
	})
	c.owed.mu.Lock()
	defer c.owed.mu.Unlock()
	if !c.owed.draining && c.begin() {
		c.owed.draining = true
		go c.drain()
	}
}

// Owed says how many keys and sweeps are owed now.
func (c *Client) Owed() int {
	c.owed.mu.Lock()
	defer c.owed.mu.Unlock()
	return len(c.owed.keys) + len(c.owed.sweeps)
}

// Owes says whether anything is owed that concerns a key: until it is settled,
// what Redis holds for the key may be older than the database.
func (c *Client) Owes(key string) bool {
	o := c.owed
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, owed := o.keys[key]; owed {
		return true
	}
	for _, s := range o.sweeps {
		if MatchesAny(s.globs, key) {
			return true
		}
	}
	return false
}

// WaitOwed waits until nothing is owed. It returns the context's error, or
// ErrClosed when the client was closed first.
func (c *Client) WaitOwed(ctx context.Context) error {
	c.owed.mu.Lock()
	idle := c.owed.idle
	c.owed.mu.Unlock()
	select {
	case <-idle:
		return nil
	default:
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for owed invalidations: %w", ctx.Err())
	case <-c.ctx.Done():
		return ErrClosed
	}
}

// drain works until nothing is owed, or Close.
func (c *Client) drain() {
	defer c.background.Done()
	pause, failing := owedPauseMin, time.Time{}
	for {
		debts, sweep, more := c.owed.next()
		if !more {
			return
		}
		if c.settleKeys(debts) && c.settleSweep(sweep) {
			pause, failing = owedPauseMin, time.Time{}
			continue
		}
		if failing.IsZero() {
			failing = time.Now()
		}
		if time.Since(failing) >= c.o.HandOverAfter && c.handOver(c.ctx) {
			continue
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
		case <-c.owed.wake:
		case <-c.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
		pause = min(2*pause, owedPauseMax)
	}
}

// next takes copies of some debts. They stay owed until settled. With nothing
// owed it reports false, and the goroutine at work is done.
func (o *owed) next() (debts []debt, sweep *sweepDebt, more bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, d := range o.keys {
		debts = append(debts, debt{d.names, slices.Clone(d.tokens), d.seq})
		if len(debts) == chunkCalls {
			break
		}
	}
	for _, s := range o.sweeps {
		sweep = s
		break
	}
	o.draining = len(debts) > 0 || sweep != nil
	return debts, sweep, o.draining
}

func (c *Client) settleKeys(debts []debt) (all bool) {
	calls := make([]*call, len(debts))
	for i, d := range debts {
		if len(d.tokens) == 0 {
			calls[i] = invalidateCall(d.names, "")
		} else {
			calls[i] = applyCall(d.names, &tokens{d.tokens[0], d.tokens[1:]}, none)
		}
	}
	c.run(c.ctx, calls...)
	all = true
	c.owed.mu.Lock()
	defer c.owed.mu.Unlock()
	c.stats.Retries.Add(int64(len(debts)))
	for i, d := range debts {
		if _, err := calls[i].answer(); err != nil {
			all = false
		} else if now := c.owed.keys[d.names.key]; now != nil && now.seq == d.seq {
			delete(c.owed.keys, d.names.key)
		}
	}
	c.owed.settled()
	return all
}

func (c *Client) settleSweep(s *sweepDebt) bool {
	if s == nil {
		return true
	}
	c.stats.Retries.Add(1)
	if c.SweepBehind(c.ctx, s.barrier, s.globs) != nil {
		return false
	}
	c.owed.mu.Lock()
	defer c.owed.mu.Unlock()
	for id, now := range c.owed.sweeps {
		if now.seq == s.seq {
			delete(c.owed.sweeps, id)
		}
	}
	c.owed.settled()
	return true
}

// SweepBehind is Sweep behind a barrier (which may be empty): with a token on it, so that no reader
// fills in the meantime. It is for a commit that is over.
func (c *Client) SweepBehind(ctx context.Context, barrier string, globs []string) error {
	if barrier != "" {
		fence, err := c.Fence(ctx, []string{barrier})
		if err != nil {
			return err
		}
		defer fence.Abort(ctx) // it holds no value: ending it is all
	}
	_, err := c.Sweep(ctx, globs)
	return err
}

// settled wakes those who wait for nothing to be owed, under mu.
func (o *owed) settled() {
	if len(o.keys)+len(o.sweeps) > 0 {
		return
	}
	select {
	case <-o.idle:
	default:
		close(o.idle)
	}
}
