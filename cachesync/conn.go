package cachesync

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// A pipeline is one call under one deadline, so it must not grow without end.
const (
	chunkCalls = 500
	chunkBytes = 4 << 20
)

var errNotSent = errors.New("not sent: an earlier part of the request failed")

// onceCmd is a command that go-redis must not repeat by itself: a repeated
// fence or lease that arrives late would break the protocol. NoRetry counts in
// pipelines too, where one such command keeps the whole pipeline from being
// sent again. What go-redis still does is to follow MOVED, ASK and READONLY:
// there the server has refused the command, so nothing of it is in flight.
type onceCmd struct{ *redis.Cmd }

// NoRetry makes every request go out once.
func (onceCmd) NoRetry() bool { return true }

// Clone keeps the copy a onceCmd.
func (o onceCmd) Clone() redis.Cmder {
	if cmd, ok := o.Cmd.Clone().(*redis.Cmd); ok {
		return onceCmd{cmd}
	}
	return o
}

func once(ctx context.Context, args ...any) redis.Cmder {
	return onceCmd{redis.NewCmd(ctx, args...)}
}

// reply is what came of one command of a request.
type reply struct {
	val any
	err error
	answerer
}

// answerer is who answered.
type answerer struct {
	peer *peer
	// known is nil where it changed meanwhile who answers, or is not known: then the answer
	// may be that of a server without a fence, or with old values.
	known *incarnation
}

// run issues the calls, in chunks, and leaves each one's outcome in it. A
// chunk that fails keeps the later ones from being sent. Errors are those of
// explain.
func (c *Client) run(ctx context.Context, calls ...*call) {
	for len(calls) > 0 {
		n := chunk(calls)
		healthy := c.runChunk(ctx, calls[:n])
		calls = calls[n:]
		if !healthy {
			for _, k := range calls {
				k.val, k.err = nil, explain(ctx, errNotSent)
			}
			return
		}
	}
}

// chunk says how many of the calls go into one pipeline.
func chunk(calls []*call) int {
	size := 0
	for i, k := range calls {
		size += k.size
		if i > 0 && (i >= chunkCalls || size > chunkBytes) {
			return i
		}
	}
	return len(calls)
}

func (c *Client) runChunk(ctx context.Context, calls []*call) (healthy bool) {
	start := time.Now()
	c.issue(ctx, calls, false)
	if unknown := again(calls, isNoScript); len(unknown) > 0 {
		c.issue(ctx, unknown, true)
	}
	c.outwait(ctx, calls, start.Add(c.o.Deadline))
	healthy = true
	for _, k := range calls {
		if k.err != nil {
			healthy = healthy && isReply(k.err)
			k.err = explain(ctx, k.err)
		}
	}
	return healthy
}

// again picks the calls that failed in a way after which they may be issued once
// more, each with a fresh token.
func again(calls []*call, failed func(error) bool) (some []*call) {
	for _, k := range calls {
		if failed(k.err) {
			some = append(some, k)
			if k.fresh != nil {
				k.fresh()
			}
		}
	}
	return some
}

// outwait issues calls again whose keys are split between two servers, because
// their slot is on its way: such a call is refused until all of the keys, or
// none, have moved, which takes milliseconds as a rule. Readers do not wait:
// they have the database.
func (c *Client) outwait(ctx context.Context, calls []*call, end time.Time) {
	if !slices.ContainsFunc(calls, func(k *call) bool { return isMoving(k.err) }) {
		return
	}
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	for pause := moveMin; ; pause = min(2*pause, moveMax) {
		split := again(slices.DeleteFunc(slices.Clone(calls), (*call).isReaders), isMoving)
		if len(split) == 0 || !time.Now().Add(pause).Before(end) {
			return
		}
		lookAround(c.rdb)
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		c.issue(ctx, split, true) // the new server may not know the script
	}
}

// Pauses between tries while a slot is on its way.
const (
	moveMin = 2 * time.Millisecond
	moveMax = 20 * time.Millisecond
)

func (k *call) isReaders() bool {
	switch k.script {
	case leaseScript, fillScript, releaseScript, barrierScript, followScript, examineScript:
		return true
	}
	return false
}

func (c *Client) issue(ctx context.Context, calls []*call, full bool) {
	cmds := make([]redis.Cmder, len(calls))
	for i, k := range calls {
		cmds[i] = once(ctx, k.command(full)...)
	}
	limit := c.o.Deadline
	if calls[0].isReaders() {
		limit = c.patience(ctx)
	}
	for i, r := range c.doWithin(ctx, limit, c.rdb, cmds, replicasOf(calls)) {
		calls[i].val, calls[i].err, calls[i].answerer = r.val, r.err, r.answerer
		if r.err == nil && r.val == nil {
			calls[i].err = errors.New("decode script answer: got nothing")
		}
	}
}

// do sends commands as one request to each server that they belong to, side by
// side, under the deadline and the servers' breakers. Its errors are raw.
func (c *Client) do(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder) []reply {
	return c.doWithin(ctx, c.o.Deadline, rdb, cmds, 0)
}

// read is do for a reader: it ends at half of what the caller has left, so that one who turns
// to the database then still can.
func (c *Client) read(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder) []reply {
	return c.doWithin(ctx, c.patience(ctx), rdb, cmds, 0)
}

// patience is how long a reader waits for Redis.
func (c *Client) patience(ctx context.Context) time.Duration {
	if end, ok := ctx.Deadline(); ok {
		return min(c.o.Deadline, time.Until(end)/2)
	}
	return c.o.Deadline
}

// doWithin also has as many replicas of each server acknowledge what it has done.
func (c *Client) doWithin(ctx context.Context, limit time.Duration, rdb redis.UniversalClient, cmds []redis.Cmder, replicas int) []reply {
	callCtx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	parts := partsOf(callCtx, rdb, cmds)
	if rdb == c.o.Replica {
		for i := range parts {
			parts[i].server = replicaOf + parts[i].server
		}
	}
	if len(parts) == 1 {
		return c.doPart(ctx, callCtx, rdb, parts[0], replicas)
	}
	replies := make([]reply, len(cmds))
	var wg sync.WaitGroup
	for _, p := range parts {
		wg.Go(func() {
			for i, r := range c.doPart(ctx, callCtx, rdb, p, replicas) {
				replies[p.at[i]] = r
			}
		})
	}
	wg.Wait()
	return replies
}

// blameless is the time that a server must have had to be blamed for its silence.
const blameless = 20 * time.Millisecond

// doPart sends the commands of one server. The caller's context tells whose
// fault a failure is.
func (c *Client) doPart(caller, ctx context.Context, rdb redis.UniversalClient, p part, replicas int) []reply {
	var replies []reply
	began := time.Now()
	_, err := c.breakers.of(p.server).Execute(func() (struct{}, error) {
		replies = c.identified(ctx, rdb, p, replicas)
		for _, r := range replies {
			if isOutage(r.err) {
				lookAround(c.rdb) // rdb may be one server of the Cluster
				if rdb == c.o.Replica {
					lookAround(rdb)
				}
				if callerGone(caller) != nil || ctx.Err() != nil && time.Since(began) < min(blameless, c.o.Deadline) {
					return struct{}{}, errCallerGone
				}
				return struct{}{}, r.err
			}
		}
		return struct{}{}, nil
	})
	if replies == nil {
		replies = repeat(fmt.Errorf("%w: %w", ErrUnavailable, err), len(p.cmds))
	}
	return replies
}

// identified sends the commands of one server, to whom is known before and afterwards.
func (c *Client) identified(ctx context.Context, rdb redis.UniversalClient, p part, replicas int) []reply {
	peer := c.peers.of(p.server)
	if rdb == c.o.Replica {
		known := c.copied(ctx, p)
		replies := c.exchange(ctx, rdb, p.cmds, 0)
		for i := range replies {
			replies[i].answerer = answerer{peer, known}
		}
		return replies
	}
	to := rdb
	if p.node != nil {
		c.peers.watchNode(peer, p.node)
		to = p.node
	}
	before, err := c.know(ctx, to, peer)
	if err != nil {
		return repeat(err, len(p.cmds))
	}
	if replicas > 0 {
		rdb = to // WAIT is about what came over its own connection
	}
	var away *detours
	if p.node != nil && rdb != to {
		ctx, away = withDetours(ctx, peer)
	}
	began := steady()
	replies := c.exchange(ctx, rdb, p.cmds, replicas)
	known := c.peers.still(peer, before)
	for i := range replies {
		replies[i].answerer = answerer{peer, known}
		if away == nil {
			continue
		}
		if by := away.answeredBy(p.cmds[i]); by != peer {
			_, _ = c.know(ctx, by.client(), by) // without an answer it is not usable
			replies[i].answerer = answerer{by, c.peers.since(by, began)}
		}
	}
	return replies
}

// since gives who answered at a server that was not expected to, if there was nobody else
// since the request began.
func (s *peers) since(p *peer, began int64) *incarnation {
	if s.off {
		return anybody
	}
	if now := p.now.Load(); s.usable(now) && (now.first || now.met < began) {
		return now
	}
	return nil
}

// copied is who answers at a replica, as far as that matters: what is not trusted at a
// primary is not trusted at its replica, either.
func (c *Client) copied(ctx context.Context, p part) *incarnation {
	for _, at := range partsOf(ctx, c.rdb, p.cmds[:1]) {
		var to redis.UniversalClient = c.rdb
		if at.node != nil {
			to = at.node
		}
		primary := c.peers.of(at.server)
		if now := primary.now.Load(); c.peers.usable(now) || c.peers.off {
			continue
		}
		if _, err := c.know(ctx, to, primary); err != nil || !c.peers.usable(primary.now.Load()) {
			return nil
		}
	}
	return &incarnation{noted: true, origin: c.peers.origin.Load(), floor: c.peers.floor.Load()}
}

// replicaOf goes before the name of a server whose replica is meant: it has a
// breaker of its own.
const replicaOf = "replica "

// errCallerGone tells the breaker that a failure says nothing about Redis.
var errCallerGone = errors.New("the caller's context ended")

func repeat(err error, n int) []reply {
	replies := make([]reply, n)
	for i := range replies {
		replies[i].err = err
	}
	return replies
}

// exchange returns by the end of ctx, whatever the client does. go-redis
// bounds its socket reads by the context only if it was told to; for other
// clients the request runs on and its outcome stays unknown, as with any
// request that timed out.
func (c *Client) exchange(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder, replicas int) []reply {
	if c.honoursContext(rdb) || !c.begin() {
		return sendAndWait(ctx, rdb, cmds, replicas)
	}
	done := make(chan []reply, 1)
	go func() {
		defer c.background.Done()
		done <- sendAndWait(ctx, rdb, cmds, replicas)
	}()
	select {
	case replies := <-done:
		return replies
	case <-ctx.Done():
		// The commands belong to the goroutine now: they must not be read.
		return repeat(ctx.Err(), len(cmds))
	}
}

func send(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder) []reply {
	if len(cmds) == 1 {
		_ = rdb.Process(ctx, cmds[0]) // the command holds its error
	} else {
		pipe := rdb.Pipeline()
		_ = pipe.BatchProcess(ctx, cmds...)
		_, _ = pipe.Exec(ctx)
	}
	replies := make([]reply, len(cmds))
	for i, cmd := range cmds {
		replies[i].val, replies[i].err = cmd.(onceCmd).Result()
	}
	return replies
}

// honoursContext says whether a client is known to bound its reads and writes
// by the context's deadline. That of a Cluster's one server is as the Cluster's.
func (c *Client) honoursContext(rdb redis.UniversalClient) bool {
	if rdb == c.o.Replica {
		return c.replicaHonours
	}
	return c.primaryHonours
}

func honoursContext(rdb redis.UniversalClient) bool {
	switch r := rdb.(type) {
	case *redis.Client:
		return r.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return r.Options().ContextTimeoutEnabled
	default:
		return false
	}
}
