package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

var redisKinds = []kind{
	once(act("Redis paused", pauseRedis, resumeRedis)).on(Single).alsoByHand().lasting(beyondFences),
	once(act("Redis empty", restartEmpty, nil)).on(Single).alsoByHand().resting(quarantine),
	once(act("Redis rewound", rewind, nil)).on(Single).alsoByHand().resting(quarantine),
	once(act("Redis down and rewound", downAndRewound, nil)).on(Single).alsoByHand().resting(quarantine),
	once(act("memory full under noeviction", fillMemory("noeviction"), emptyMemory)).on(Single).alsoByHand(),
	once(act("memory full under volatile-lru", fillMemory("volatile-lru"), emptyMemory)).on(Single).alsoByHand(),
}

// quarantine is longer than the time for which a Redis that lost data is not filled, and what was in it not trusted: twice the
// life of a lease.
const quarantine = 7 * time.Second

func pauseRedis(_ context.Context, w *World) error { return w.Redis.Pause() }

// awake ends what another nemesis has just done to Redis, so that it can be talked to.
func (w *World) awake() error { return w.Redis.Resume() }

func resumeRedis(_ context.Context, w *World) error { return w.Redis.Resume() }

// restartEmpty is a Redis without persistence that crashes and comes back at once.
func restartEmpty(ctx context.Context, w *World) error {
	return errors.Join(w.Redis.Kill(ctx), w.forgetSnapshot(), w.Redis.Start(ctx))
}

func (w *World) forgetSnapshot() error {
	err := os.Remove(filepath.Join(w.Redis.Folder, "dump.rdb"))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// rewind is a Redis that comes back from a snapshot of a moment ago.
func rewind(ctx context.Context, w *World) error { return w.rewind(ctx, 0) }

// downAndRewound is one that was away for longer than fences live before.
func downAndRewound(ctx context.Context, w *World) error { return w.rewind(ctx, beyondFences) }

func (w *World) rewind(ctx context.Context, away time.Duration) error {
	if err := w.awake(); err != nil {
		return err
	}
	if _, err := w.Redis.Ask(ctx, "save"); err != nil {
		return err
	}
	if err := w.wait(ctx, 300*time.Millisecond, 700*time.Millisecond); err != nil {
		return err
	}
	err := w.Redis.Kill(ctx)
	err = errors.Join(err, sleep(ctx, away), w.Redis.Start(ctx))
	// The next one that dies comes back empty, unless it is saved again.
	return errors.Join(err, w.forgetSnapshot())
}

// Fillers are keys that take memory away. They have a life, so that every policy that evicts may take them.
const (
	fillers    = 2000
	fillerSize = 1000
	spare      = 256 << 10 // bytes that are left at first
)

func eachFiller(ctx context.Context, w *World, do func(pipe redis.Pipeliner, name string)) error {
	pipe := w.Eye.Pipeline()
	for i := range fillers {
		do(pipe, fmt.Sprintf("filler:%d", i))
	}
	_, err := pipe.Exec(ctx)
	return err
}

// fillMemory leaves Redis little more memory than it has in use, and pours keys into it.
func fillMemory(policy string) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		if err := w.awake(); err != nil {
			return err
		}
		used, err := w.Redis.Info(ctx, "memory", "used_memory")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(used)
		if err != nil {
			return fmt.Errorf("read Redis' used_memory: %w", err)
		}
		if _, err := w.Redis.Ask(ctx, "config", "set", "maxmemory-policy", policy, "maxmemory", n+spare); err != nil {
			return err
		}
		_ = eachFiller(ctx, w, func(pipe redis.Pipeliner, name string) {
			pipe.Set(ctx, name, make([]byte, fillerSize), time.Minute)
		}) // without eviction the last ones are refused, as they should be
		return nil
	}
}

func emptyMemory(ctx context.Context, w *World) error {
	if err := w.awake(); err != nil {
		return err
	}
	if _, err := w.Redis.Ask(ctx, "config", "set", "maxmemory", 0, "maxmemory-policy", "noeviction"); err != nil {
		return err
	}
	return eachFiller(ctx, w, func(pipe redis.Pipeliner, name string) { pipe.Unlink(ctx, name) })
}
