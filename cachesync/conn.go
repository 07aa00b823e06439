package cachesync

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
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

// reply is what came of one command of a request.
type reply struct {
	val any
	err error
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
	c.issue(ctx, calls, false)
	var unknown []*call
	for _, k := range calls {
		if isNoScript(k.err) {
			unknown = append(unknown, k)
			if k.fresh != nil {
				k.fresh()
			}
		}
	}
	if len(unknown) > 0 {
		c.issue(ctx, unknown, true)
	}
	healthy = true
	for _, k := range calls {
		if k.err != nil {
			healthy = healthy && isReply(k.err)
			k.err = explain(ctx, k.err)
		}
	}
	return healthy
}

func (c *Client) issue(ctx context.Context, calls []*call, full bool) {
	cmds := make([]redis.Cmder, len(calls))
	for i, k := range calls {
		cmds[i] = onceCmd{redis.NewCmd(ctx, k.command(full)...)}
	}
	for i, r := range c.do(ctx, c.rdb, cmds) {
		calls[i].val, calls[i].err = r.val, r.err
		if r.err == nil && r.val == nil {
			calls[i].err = errors.New("decode script answer: got nothing")
		}
	}
}

// do sends commands as one request, under the deadline and the breaker. Its
// errors are raw.
func (c *Client) do(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder) []reply {
	var replies []reply
	_, err := c.breaker.Execute(func() (struct{}, error) {
		callCtx, cancel := context.WithTimeout(ctx, c.o.Deadline)
		defer cancel()
		replies = c.exchange(callCtx, rdb, cmds)
		for _, r := range replies {
			if isOutage(r.err) {
				if callerGone(ctx) != nil {
					return struct{}{}, errCallerGone
				}
				return struct{}{}, r.err
			}
		}
		return struct{}{}, nil
	})
	if replies == nil {
		return repeat(fmt.Errorf("%w: %w", ErrUnavailable, err), len(cmds))
	}
	return replies
}

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
func (c *Client) exchange(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder) []reply {
	if c.honoursContext || !c.begin() {
		return send(ctx, rdb, cmds)
	}
	done := make(chan []reply, 1)
	go func() {
		defer c.background.Done()
		done <- send(ctx, rdb, cmds)
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
// by the context's deadline.
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

// accept refuses clients whose reads may be older than their writes.
func accept(rdb redis.UniversalClient) error {
	switch r := rdb.(type) {
	case nil:
		return errors.New("wtcache: no redis client was given")
	case *redis.Ring:
		return errors.New("wtcache: a redis.Ring is not supported: it moves keys to other servers when one fails and finds old values when it returns; use a Cluster, Sentinel or single server")
	case *redis.ClusterClient:
		if o := r.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return errors.New("wtcache: a cluster client that reads from replicas can read what is already replaced; leave ReadOnly, RouteByLatency and RouteRandomly off")
		}
	}
	return nil
}

func (c *Client) newBreaker() *gobreaker.CircuitBreaker[struct{}] {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:    "redis",
		Timeout: c.o.Breaker.OpenFor,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.ConsecutiveFailures >= uint32(c.o.Breaker.Failures)
		},
		IsExcluded:    func(err error) bool { return errors.Is(err, errCallerGone) },
		OnStateChange: func(_ string, from, to gobreaker.State) { c.breakerChanged(from, to) },
	})
}

// breakerChanged runs under the breaker's lock: it must not call the breaker.
func (c *Client) breakerChanged(from, to gobreaker.State) {
	switch to {
	case gobreaker.StateOpen:
		c.stats.BreakerOpens.Add(1)
		if from == gobreaker.StateClosed {
			c.o.Logger.Warn("redis does not answer: calls are refused for a while", "for", c.o.Breaker.OpenFor)
		}
	case gobreaker.StateClosed:
		c.o.Logger.Info("redis answers again")
		c.owed.nudge()
	}
}
