package cachesync

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// What may go together with other callers' commands. More of one caller's is a pipeline already, and
// would keep the others waiting.
const (
	togetherCmds  = 8
	togetherBytes = 16 << 10
)

const (
	// defaultBesides is how many requests to one server are under way before callers go together: with one, a
	// slow answer keeps everybody waiting; with more, fewer go together.
	defaultBesides = 2
	// companyMax is how many callers share a request.
	companyMax = 64
)

// together sends the commands of many callers in fewer requests. Who comes while few requests are
// under way goes out at once, alone. Who comes later waits until one of these has ended, and goes out
// with all who wait. There is a together for each server. It is safe for concurrent use.
//
// Every caller keeps what is its own: its deadline, its view of who answered, its mark with the
// breaker, and its error, which is that of the request that it went with.
type together struct {
	mu      sync.Mutex // guards all below; nothing is sent under it
	busy    int        // requests under way
	waiting []*errand
	usual   int // bytes of a caller's answer, as they have been of late
}

// errand is what one caller has to send.
type errand struct {
	ctx context.Context
	part
	failure *failure
	reply   sent
	done    chan struct{} // holds a token when reply is there
}

// failure is that of a request, of which the breaker hears once, however many callers went with it:
// a connection that breaks must not count for many.
type failure struct{ told atomic.Bool }

// first says whether it is the caller who has to tell. Nil is the failure of a caller alone.
func (f *failure) first() bool { return f == nil || f.told.CompareAndSwap(false, true) }

// sent is what came of a caller's commands.
type sent struct {
	replies []reply
	away    *detours // of a Cluster
}

// deliver sends the commands of one server, where it may together with those of others. Of a Cluster
// it tells who may have answered in its place.
func (c *Client) deliver(ctx context.Context, rdb redis.UniversalClient, p part, peer *peer, replicas int) ([]reply, *detours) {
	if c.goesTogether(rdb, p, replicas) {
		s := peer.together.exchange(ctx, c, peer, p)
		return s.replies, s.away
	}
	ctx, away := detour(ctx, rdb, p, peer)
	return c.exchange(ctx, rdb, p.cmds, replicas), away
}

// goesTogether says whether commands are few and small, and that the client bounds a request by its
// context: else one that hangs would keep a place for as long as it likes.
func (c *Client) goesTogether(rdb redis.UniversalClient, p part, replicas int) bool {
	return rdb == c.rdb && c.primaryHonours && (c.single || p.node != nil) &&
		replicas == 0 && len(p.cmds) <= togetherCmds && smallerThan(togetherBytes, p.cmds)
}

// smallerThan looks at payloads and keys alone.
func smallerThan(limit int, cmds []redis.Cmder) bool {
	for _, cmd := range cmds {
		for _, arg := range cmd.Args() {
			switch a := arg.(type) {
			case string:
				limit -= len(a)
			case []byte:
				limit -= len(a)
			}
		}
	}
	return limit > 0
}

// defaultInLine is how long a caller waits for others' requests to end before it goes out by itself:
// their connections may be dead, or the answers long.
func defaultInLine(deadline time.Duration) time.Duration { return min(blameless, deadline/4) }

// exchange sends a caller's commands, alone or with others'. It returns by the end of ctx.
func (t *together) exchange(ctx context.Context, c *Client, peer *peer, p part) (s sent) {
	e := t.join(ctx, p, c.o.besides)
	if e == nil {
		defer func() { t.next(c, peer, bytesOf(s.replies)) }() // whatever a caller's hook does
		return c.alone(ctx, peer, p)
	}
	timer := time.NewTimer(c.o.inLine)
	defer timer.Stop()
	select {
	case <-e.done:
		return e.with(e.reply)
	case <-ctx.Done():
	case <-timer.C:
		if t.leave(e) {
			return c.alone(ctx, peer, p)
		}
		select {
		case <-e.done:
			return e.with(e.reply)
		case <-ctx.Done():
		}
	}
	t.leave(e)
	select {
	case <-e.done:
		return e.with(e.reply)
	default:
	}
	// Commands that have gone out are the request's: they must not be read.
	return e.with(sent{replies: repeat(ctx.Err(), len(p.cmds))})
}

// with notes whose failure it would be. The errand is not among those who wait any more.
func (e *errand) with(s sent) sent {
	for i := range s.replies {
		s.replies[i].failure = e.failure
	}
	return s
}

// join gives the caller a place of its own (nil), which ends with next, or one among those who wait.
// Nobody waits where answers are long: all would wait for the last byte of everybody's.
func (t *together) join(ctx context.Context, p part, besides int) *errand {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.busy < besides || t.usual > togetherBytes {
		t.busy++
		return nil
	}
	e := &errand{ctx: ctx, part: p, done: make(chan struct{}, 1)}
	t.waiting = append(t.waiting, e)
	return e
}

// leave reports whether the errand was still waiting: then it goes out with nobody.
func (t *together) leave(e *errand) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := slices.Index(t.waiting, e)
	if at < 0 {
		return false
	}
	t.waiting = slices.Delete(t.waiting, at, at+1)
	return true
}

// take gives those who go next, after a caller was answered so many bytes. Without any, a place among
// the requests under way is given up.
func (t *together) take(answered int) []*errand {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.usual += (answered - t.usual) / 8
	n := min(len(t.waiting), companyMax)
	if n == 0 {
		t.busy--
		return nil
	}
	company := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	if n > 1 {
		f := new(failure)
		for _, e := range company {
			e.failure = f
		}
	}
	return company
}

// next hands a caller's place on to those who wait, so that the caller need not stay for them.
func (t *together) next(c *Client, peer *peer, answered int) {
	company := t.take(answered)
	switch {
	case company == nil:
	case c.begin():
		go func() {
			defer c.background.Done()
			t.carryAll(c, peer, company)
		}()
	default:
		t.carryAll(c, peer, company) // closed: nobody would wait for a goroutine
	}
}

// carryAll keeps the place until nobody waits.
func (t *together) carryAll(c *Client, peer *peer, company []*errand) {
	for company != nil {
		company = t.take(c.carry(peer, company) / len(company))
	}
}

// alone sends one caller's commands, or those of a company as if they were one caller's.
func (c *Client) alone(ctx context.Context, peer *peer, p part) sent {
	ctx, away := detour(ctx, c.rdb, p, peer)
	return sent{send(ctx, c.rdb, p.cmds), away}
}

// carry sends the commands of all in one request, which ends with the last one's deadline. It gives
// the bytes of their answers.
func (c *Client) carry(peer *peer, company []*errand) (answered int) {
	var end time.Time
	all := part{server: company[0].server, node: company[0].node}
	for _, e := range company {
		all.cmds = append(all.cmds, e.cmds...)
		if at, ok := e.ctx.Deadline(); ok && at.After(end) {
			end = at
		}
	}
	// Of values, such as a trace's, one caller's stand for all.
	ctx, cancel := context.WithDeadline(context.WithoutCancel(company[0].ctx), end)
	defer cancel()
	got := c.alone(ctx, peer, all)
	answered = bytesOf(got.replies)
	for _, e := range company {
		n := len(e.cmds)
		e.reply = sent{got.replies[:n:n], got.away}
		got.replies = got.replies[n:]
		e.done <- struct{}{}
	}
	return answered
}

// bytesOf looks at texts alone, and at those in a script's list.
func bytesOf(replies []reply) (n int) {
	for _, r := range replies {
		switch v := r.val.(type) {
		case string:
			n += len(v)
		case []any:
			for _, item := range v {
				text, _ := item.(string)
				n += len(text)
			}
		}
	}
	return n
}
