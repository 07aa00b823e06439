package main

import (
	"context"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// trips counts what a client sends to Redis: commands, and the round trips that they take.
type trips struct{ commands, round atomic.Int64 }

var _ redis.Hook = (*trips)(nil)

// DialHook changes nothing.
func (t *trips) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessHook counts one command in a round trip of its own.
func (t *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		t.commands.Add(1)
		t.round.Add(1)
		return next(ctx, cmd)
	}
}

// ProcessPipelineHook counts commands that share a round trip.
func (t *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		t.commands.Add(int64(len(cmds)))
		t.round.Add(1)
		return next(ctx, cmds)
	}
}
