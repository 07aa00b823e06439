package torture

import (
	"context"
	"errors"
	"os"
	"strconv"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// The clock of Redis jumps, and jumps again when it is set right. Forward, fences expire whose owners are alive, and a long
// way, everything does. Backward, what is there lives longer than it should, and what is written is older than it is.
var clockKinds = []kind{
	clockJump("Redis' clock 5 s ahead", beyondFencesByClock),
	clockJump("Redis' clock 25 h ahead", beyondEverything),
	clockJump("Redis' clock 5 s behind", -beyondFencesByClock),
	clockJump("Redis' clock 25 h behind", -beyondEverything),
	once(act("Redis' clock jumps about", jumpAbout, healClock)).on(Single).alsoByHand().needsClock(),
}

const (
	beyondFencesByClock = 5 * time.Second // of 2 s, and leases of 3 s
	beyondEverything    = 25 * time.Hour
)

func (k kind) needsClock() kind { k.clock = true; return k }

func clockJump(name string, by time.Duration) kind {
	return once(act(name, func(_ context.Context, w *World) error { return w.Redis.MoveClock(by) }, healClock)).
		on(Single).alsoByHand().needsClock()
}

// jumpAbout moves the clock again and again, to at most 10 s from the true time: fences expire, or outlive their owners.
func jumpAbout(ctx context.Context, w *World) error {
	for range 20 {
		by := time.Duration(w.Rand.Int64N(int64(4*beyondFencesByClock))) - 2*beyondFencesByClock
		if err := w.Redis.MoveClock(by); err != nil {
			return err
		}
		if err := w.wait(ctx, 20*time.Millisecond, 150*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// healClock sets the clock right.
func healClock(_ context.Context, w *World) error { return w.Redis.MoveClock(0) }

// startRedis starts the single Redis, with a clock that can be moved where that can be had.
func (w *World) startRedis(ctx context.Context, args ...string) (*testenv.OwnRedis, error) {
	r, err := w.env.NewRedisWithClock(ctx, args...)
	if !errors.Is(err, testenv.ErrNoClock) || os.Getenv("WTCACHE_TEST_REQUIRE") == "1" {
		return r, err
	}
	w.note("the nemeses of Redis' clock are left out: %v", err)
	return w.env.NewRedis(ctx, args...)
}

// leftOut says which faults this harness does not make, and why.
func leftOut(t Topology) string {
	const processes = "jumps of Postgres' and of the processes' clocks: one decides on nothing but which outages are those of dead processes, the others are monotonic"
	switch {
	case t != Single:
		return "jumps of Redis' clock: they are made on a single Redis; " + processes
	case testenv.MovesClocks() != nil:
		return "JUMPS OF REDIS' CLOCK (" + testenv.MovesClocks().Error() + "); " + processes
	}
	return processes
}

// forgetJump takes away what a clock that was ahead has left for the time until the true one is there, all being quiet: fences
// and leases of processes that were killed, whose keys would not be cached until then, and entries that are dated then, and
// the registry's note of that time, since of which a Redis that loses data would be distrusted. The next nemeses would
// strike a cache that nobody uses.
func (w *World) forgetJump(ctx context.Context) error {
	if w.opts.Topology != Single || w.opts.Mode != Through || testenv.MovesClocks() != nil {
		return nil
	}
	if err := w.forgetControls(ctx); err != nil {
		return err
	}
	times, err := w.Eye.HGetAll(ctx, testenv.Registry).Result()
	if err != nil {
		return err
	}
	noted, began := false, false
	for field, text := range times {
		if ms, err := strconv.ParseInt(text, 10, 64); err != nil {
			return err
		} else if ms > time.Now().Add(time.Minute).UnixMilli() {
			noted, began = true, began || field != "clock"
		}
	}
	switch {
	case began:
		w.note("Redis is restarted: it began when its clock was ahead, and would not be used until then")
		return errors.Join(restartEmpty(ctx, w), w.Redis.Vouch(ctx))
	case noted:
		return errors.Join(w.forgetEntries(ctx), w.Eye.HDel(ctx, testenv.Registry, "clock").Err())
	}
	return nil
}

func (w *World) forgetControls(ctx context.Context) error {
	controls, err := w.Eye.Keys(ctx, "*:wt").Result()
	if err != nil {
		return err
	}
	for _, name := range controls {
		left, err := w.Eye.PTTL(ctx, name).Result()
		if err == nil && left > time.Minute {
			err = w.Eye.Del(ctx, name).Err()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *World) forgetEntries(ctx context.Context) error {
	for _, p := range places() {
		if err := w.Eye.Del(ctx, p.names()...).Err(); err != nil {
			return err
		}
	}
	return nil
}
