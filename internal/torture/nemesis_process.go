package torture

import (
	"context"
	"errors"
	"os"
	"time"
)

var processKinds = []kind{
	once(calm).alsoByHand(),
	once(act("kill writer", killWriters, reviveAll)).alsoByHand(),
	once(act("kill at points", killAtPoints, reviveAll)),
	once(act("pause writer", stop((*World).Writer), reviveAll)).alsoByHand().lasting(beyondFences),
	once(act("pause reader", stop((*World).Reader), reviveAll)).alsoByHand().lasting(beyondFences),
}

// beyondFences is longer than fences live.
const beyondFences = 3 * time.Second

func reviveAll(ctx context.Context, w *World) error { return w.Revive(ctx) }

// killWriters kills writing processes at moments that nobody chose.
func killWriters(ctx context.Context, w *World) error {
	for range 3 {
		if err := w.wait(ctx, 50*time.Millisecond, 300*time.Millisecond); err != nil {
			return err
		}
		k := w.Writer()
		if err := k.Kill(); err != nil { // stopped or not
			return err
		}
		if err := k.Revive(); err != nil {
			return err
		}
	}
	return nil
}

// killAtPoints has a writing process kill itself at each named point of a write.
func killAtPoints(ctx context.Context, w *World) error {
	for _, point := range crashPoints {
		k := w.Writer()
		if err := k.Continue(); err != nil { // another nemesis may have stopped it
			return err
		}
		if err := k.DieAt(point); err != nil {
			return err
		}
		select {
		case <-k.Ended():
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(comesBy):
			w.note("no write of %s has come to the point %q; it is killed where it is", k.Name, point)
		}
		if err := k.Revive(); err != nil {
			return err
		}
	}
	return nil
}

// comesBy is how long a write may take to come to a point, where another nemesis does not keep it from it.
const comesBy = 5 * time.Second

// stop stops a process, with its connections open.
func stop(which func(*World) *Worker) func(context.Context, *World) error {
	return func(_ context.Context, w *World) error {
		if err := which(w).Stop(); !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return nil // another nemesis has killed it
	}
}

// wait waits for a time between two others.
func (w *World) wait(ctx context.Context, least, most time.Duration) error {
	return sleep(ctx, least+time.Duration(w.Rand.Int64N(int64(most-least))))
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
