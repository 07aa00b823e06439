package cachesync

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// askedAgain answers the first WAIT with no replica, and each later one with one: what a server does whose
// replica lags, and who is asked again on a connection that has written nothing (since Redis 7.2 a
// connection's WAIT is about its own writes alone).
type askedAgain struct{ waits int }

func (l *askedAgain) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (l *askedAgain) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (l *askedAgain) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		last, ok := cmds[len(cmds)-1].(onceCmd)
		if !ok || last.Name() != "wait" {
			return next(ctx, cmds)
		}
		err := next(ctx, cmds[:len(cmds)-1])
		last.SetVal(int64(min(l.waits, 1)))
		l.waits++
		return err
	}
}

// A failover to a replica that does not have a sweep's deletions brings the old rows back, and the
// caller commits on what the sweep says.
func TestSweepIsNotDoneWithoutItsReplicas(t *testing.T) {
	rdb := dial(t, testenv.RealRedis(t))
	c := newTestClient(t, rdb, Options{})
	key := testenv.KeyPrefix(t) + "1"
	store(t, c, key, entry(Envelope, "1", 5))
	rdb.AddHook(&askedAgain{})
	if _, err := c.SweepReplicated(t.Context(), []string{key}, 1); !errors.Is(err, ErrReplicas) {
		t.Errorf("no replica has the deletion, and the sweep says %v", err)
	}
}
