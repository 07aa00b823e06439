package wtcache

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// xact names a transaction so that another connection can ask what became of it.
type xact struct {
	id       uint64 // 0: not known
	timeline string // of the server that it ran on, 8 hex digits in lower case
	server   string // its incarnation; "" where not known
}

// seeXact notes the transaction that wrote a captured row. Where a log holds rows of two
// (one ended in a way that no text showed) none is known.
func (c *conn) seeXact(xid uint64, version string) {
	if xid == 0 || c.pgx == nil || len(version) < 8 || c.tx.mixed {
		return
	}
	if c.tx.xact.id != 0 && c.tx.xact.id != xid {
		c.tx.xact, c.tx.mixed = xact{}, true
		return
	}
	c.tx.xact = xact{id: xid, timeline: version[:8], server: c.server}
}

// answer is what a server says of a transaction's number.
type answer struct {
	status   string // "committed", "aborted", "in progress", "forgotten"
	timeline string // "" on a standby
	server   string
}

// verdict is what an answer means.
type verdict uint8

const (
	verdictUnknown   verdict = iota // this server cannot tell
	verdictPending                  // it is still under way
	verdictCommitted                // and visible to every new snapshot
	verdictAborted
	verdictFinished // it is over, and which of the two it was is not certain
)

var verdictNames = [...]string{"unknown", "in progress", "committed", "aborted", "finished"}

// judge says what an answer means for x. A standby, and a server on another timeline, may
// have another transaction under that number, and know nothing of x. A server that has
// crashed since has ended x for certain, but may have lost it, and given its number to
// another: that one's end is waited for, and proves no payload.
func (x xact) judge(a answer) verdict {
	if a.timeline != x.timeline {
		return verdictUnknown
	}
	proven := a.server != "" && a.server == x.server
	switch {
	case a.status == "in progress" && !proven && a.server != "" && x.server != "":
		return verdictUnknown // perhaps a number that no transaction has yet
	case a.status == "in progress":
		return verdictPending
	case a.status == "committed" && proven:
		return verdictCommitted
	case a.status == "aborted" && proven:
		return verdictAborted
	case a.status == "committed", a.status == "aborted", a.status == "forgotten":
		return verdictFinished
	}
	return verdictUnknown
}

const (
	// maxDoubts bounds the outcomes that are asked for at a time.
	maxDoubts = 1000
	// doubtPatience is for how many lives of a fence an outcome is kept that no server
	// could tell, before its fences are left to expire.
	doubtPatience = 4
	askTimeout    = 5 * time.Second // of a question, with its connection
)

// Questions come at random between half and one and a half times a pause that doubles from
// the first to the second of these.
const (
	askPauseMin = 10 * time.Millisecond
	askPauseMax = time.Second
)

// doubts settles outcomes in doubt by asking the server, all of them in one question, on a
// connection that is open only while there are any. Until then their fences renew
// themselves. It is safe for concurrent use.
type doubts struct {
	engine  *engine
	connect func(context.Context) (driver.Conn, error) // of the base connector; set before use

	ctx  context.Context // ends with close
	stop context.CancelFunc
	more chan struct{} // a doubt was added: no reason to pause

	mu      sync.Mutex // guards the rest; nothing is sent under it
	waiting []*doubt
	asking  bool
	closed  bool
	done    sync.WaitGroup
}

// doubt is one commit whose outcome is not known.
type doubt struct {
	held  *fences
	since time.Time
	// heard is when a server last said that it is under way; at first: since.
	heard time.Time
}

func newDoubts(e *engine) *doubts {
	d := &doubts{engine: e, more: make(chan struct{}, 1)}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d
}

// add takes over what a commit holds. Where it cannot be asked for, the fences are left.
func (d *doubts) add(h *fences) {
	if reason := d.accept(h); reason != "" {
		d.giveUp(h, reason)
	}
	crashPoint("in doubt")
}

func (d *doubts) accept(h *fences) (refusal string) {
	if h.owed.xact.id == 0 {
		return "its transaction's number is not known"
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closed:
		return "closed"
	case len(d.waiting) >= maxDoubts:
		return "too many are in doubt"
	}
	now := time.Now()
	d.waiting = append(d.waiting, &doubt{held: h, since: now, heard: now})
	if !d.asking {
		d.asking = true
		d.done.Add(1)
		go d.run()
	}
	select {
	case d.more <- struct{}{}:
	default:
	}
	return ""
}

func (d *doubts) giveUp(h *fences, reason string) {
	d.engine.stats.doubtExpired.Add(1)
	d.engine.log.Warn("wtcache: a commit is in doubt and cannot be asked for; its keys stay absent until the fence expires",
		"reason", reason, "keys", h.size(), "coarse_rules", len(h.owed.coarse))
	h.expire()
}

// size counts the keys that a commit writes.
func (h *fences) size() int { return h.owed.size() }

// run asks until nothing is in doubt, or close.
func (d *doubts) run() {
	defer d.done.Done()
	var a *asker
	defer func() {
		if a != nil {
			a.close()
		}
	}()
	pause := askPauseMin
	for {
		waiting := d.current()
		if len(waiting) == 0 {
			return
		}
		var settled int
		if a, settled = d.round(a, waiting); settled > 0 {
			pause = askPauseMin
			continue
		}
		timer := time.NewTimer(pause/2 + rand.N(pause))
		select {
		case <-timer.C:
			pause = min(2*pause, askPauseMax)
		case <-d.more:
		case <-d.ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// current gives what is in doubt. With nothing, the goroutine at work is done.
func (d *doubts) current() []*doubt {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking = len(d.waiting) > 0
	return slices.Clone(d.waiting)
}

// round asks once and settles what was answered. It gives the connection for the next one.
func (d *doubts) round(a *asker, waiting []*doubt) (_ *asker, settled int) {
	a, answers, err := d.ask(a, waiting)
	for _, w := range waiting {
		if d.ctx.Err() != nil {
			return a, settled
		}
		said, ok := answers[w.held.owed.xact.id]
		v := verdictUnknown
		if ok {
			v = w.held.owed.xact.judge(said)
		}
		if v == verdictPending {
			w.heard = time.Now()
		}
		if d.settle(w, v, err) {
			d.forget(w)
			settled++
		}
	}
	return a, settled
}

func (d *doubts) ask(a *asker, waiting []*doubt) (_ *asker, answers map[uint64]answer, err error) {
	ctx, cancel := context.WithTimeout(d.ctx, askTimeout)
	defer cancel()
	if a == nil {
		if a, err = newAsker(ctx, d.connect); err != nil {
			return nil, nil, err
		}
	}
	ids := make([]uint64, len(waiting))
	for i, w := range waiting {
		ids[i] = w.held.owed.xact.id
	}
	if answers, err = a.ask(ctx, ids); err != nil {
		a.close()
		return nil, nil, err
	}
	return a, answers, nil
}

// settle carries a verdict out and says whether the doubt is over.
func (d *doubts) settle(w *doubt, v verdict, asked error) bool {
	e, h := d.engine, w.held
	switch v {
	case verdictPending:
		return false
	case verdictUnknown:
		if time.Since(w.heard) < doubtPatience*e.cfg.FenceLife {
			return false
		}
		reason := "the server that is reached now may not be the one that it ran on"
		if asked != nil {
			reason = fmt.Sprintf("the server cannot be asked: %v", asked)
		}
		d.giveUp(h, reason)
		return true
	}
	crashPoint("asked")
	switch v {
	case verdictCommitted:
		h.apply(d.ctx)
		e.stats.doubtCommitted.Add(1)
	case verdictAborted:
		h.release(d.ctx)
		e.stats.doubtAborted.Add(1)
	case verdictFinished:
		h.finish(d.ctx)
		e.stats.doubtFinished.Add(1)
	}
	e.log.Warn("wtcache: a commit was in doubt and is no longer", "outcome", verdictNames[v],
		"keys", h.size(), "coarse_rules", len(h.owed.coarse), "after", time.Since(w.since))
	crashPoint("resolved")
	return true
}

func (d *doubts) forget(w *doubt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waiting = slices.DeleteFunc(d.waiting, func(other *doubt) bool { return other == w })
}

// close stops the asking, waits for it, and leaves what is in doubt: those fences expire.
func (d *doubts) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	d.done.Wait()
	d.mu.Lock()
	left := d.waiting
	d.waiting = nil
	d.mu.Unlock()
	for _, w := range left {
		d.engine.stats.doubtExpired.Add(1)
		w.held.leave()
	}
	if len(left) > 0 {
		d.engine.log.Warn("wtcache: closed while commits were in doubt; their keys stay absent until their fences expire", "commits", len(left))
	}
}
