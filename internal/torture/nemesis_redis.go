package torture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

var redisKinds = []kind{
	once(act("Redis paused", pauseRedis, resumeRedis)).on(Single).alsoByHand().lasting(beyondFences),
	once(act("Redis empty", restartEmpty, nil)).on(Single).alsoByHand(),
	once(act("Redis rewound", rewind, nil)).on(Single).alsoByHand(),
	once(act("Redis down and rewound", downAndRewound, nil)).on(Single).alsoByHand(),
	once(act("memory full, noeviction", fillMemory("noeviction"), emptyMemory)).on(Single).alsoByHand(),
	once(act("memory full, volatile-lru", fillMemory("volatile-lru"), emptyMemory)).on(Single).alsoByHand(),
}

func pauseRedis(_ context.Context, w *World) error { return w.Redis.Pause() }

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

// fillMemory leaves Redis little more memory than it has in use, and pours keys into it.
func fillMemory(policy string) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		used, err := w.Redis.Info(ctx, "memory", "used_memory")
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(used)
		if err != nil {
			return fmt.Errorf("read Redis' used_memory: %w", err)
		}
		if _, err := w.Redis.Ask(ctx, "config", "set", "maxmemory-policy", policy, "maxmemory", n+256<<10); err != nil {
			return err
		}
		pipe := w.Eye.Pipeline()
		for i := range 2000 {
			pipe.Set(ctx, fmt.Sprintf("filler:%d", i), make([]byte, 1000), time.Minute)
		}
		_, _ = pipe.Exec(ctx) // under noeviction the last ones are refused, as they should
		return nil
	}
}

func emptyMemory(ctx context.Context, w *World) error {
	if _, err := w.Redis.Ask(ctx, "config", "set", "maxmemory", 0, "maxmemory-policy", "noeviction"); err != nil {
		return err
	}
	words := []any{"del"}
	for i := range 2000 {
		words = append(words, fmt.Sprintf("filler:%d", i))
	}
	_, err := w.Redis.Ask(ctx, words...)
	return err
}
