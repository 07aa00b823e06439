package cachesync

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// replicasOf gives how many replicas must have what the calls do: the most that any asks for.
func replicasOf(calls []*call) (replicas int) {
	for _, k := range calls {
		replicas = max(replicas, k.replicas)
	}
	return replicas
}

// sendAndWait sends commands, and has so many replicas acknowledge them, by a WAIT behind
// them on the same connection. Where fewer do, all have failed.
func sendAndWait(ctx context.Context, rdb redis.UniversalClient, cmds []redis.Cmder, replicas int) []reply {
	if replicas == 0 {
		return send(ctx, rdb, cmds)
	}
	wait := once(ctx, "wait", replicas, waitMillis(ctx))
	replies := send(ctx, rdb, append(cmds[:len(cmds):len(cmds)], wait))
	replies, last := replies[:len(cmds)], replies[len(cmds)]
	err := last.err
	if have, ok := last.val.(int64); err == nil && (!ok || have < int64(replicas)) {
		err = fmt.Errorf("%w: %v of %d", ErrReplicas, last.val, replicas)
	}
	for i := range replies {
		if replies[i].err == nil && err != nil {
			replies[i] = reply{err: err}
		}
	}
	return replies
}

// waitMillis is half of what a call has left: its answer must come in time to say how many
// replicas have acknowledged, and WAIT with 0 would have no end.
func waitMillis(ctx context.Context) string {
	end, ok := ctx.Deadline()
	if !ok {
		return millis(DefaultDeadline)
	}
	return millis(time.Until(end) / 2)
}
