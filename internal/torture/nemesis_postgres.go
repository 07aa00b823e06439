package torture

import (
	"context"
	"database/sql"
	"errors"
	"syscall"
	"time"
)

var postgresKinds = []kind{
	once(act("Postgres restarted", restartPostgres, nil)).alsoByHand(),
	once(act("Postgres crashed", crashPostgres, nil)).alsoByHand(),
	once(act("backend paused", stopBackend, resumeBackends)).alsoByHand().lasting(beyondFences),
	once(act("backend ended before COMMIT", endInCommit(false), nil)).alsoByHand(),
	once(act("backend ended after COMMIT", endInCommit(true), nil)).alsoByHand(),
	once(act("COMMIT held", holdCommit, healLinks)).alsoByHand().lasting(beyondFences),
}

// restartPostgres is a fast shutdown, which waits for every session, and a start.
func restartPostgres(ctx context.Context, w *World) error {
	return errors.Join(resumeBackends(ctx, w), w.Postgres.Stop(ctx), w.Postgres.Start(ctx))
}

// crashPostgres kills all of its processes at once.
func crashPostgres(ctx context.Context, w *World) error {
	return errors.Join(w.Postgres.Kill(ctx), w.Postgres.Start(ctx))
}

// backend draws a session of a process, one that is at work if there is one.
func (w *World) backend(ctx context.Context, k *Worker) (pid int, err error) {
	err = w.Admin.QueryRowContext(ctx, "SELECT pid FROM pg_stat_activity WHERE application_name = $1 ORDER BY state = 'idle', random() LIMIT 1",
		k.application()).Scan(&pid)
	if errors.Is(err, sql.ErrNoRows) {
		err = nil // the process has just been killed
	}
	return pid, err
}

// stopBackend has a session hang in whatever it is doing, with its locks.
func stopBackend(ctx context.Context, w *World) error {
	pid, err := w.backend(ctx, w.Writer())
	if err != nil || pid == 0 {
		return err
	}
	w.paused = append(w.paused, pid)
	return ignoreGone(syscall.Kill(pid, syscall.SIGSTOP))
}

func resumeBackends(_ context.Context, w *World) error {
	var errs []error
	for _, pid := range w.paused {
		errs = append(errs, ignoreGone(syscall.Kill(pid, syscall.SIGCONT)))
	}
	w.paused = nil
	return errors.Join(errs...)
}

func ignoreGone(err error) error {
	if errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// endInCommit ends sessions by pg_terminate_backend while their COMMIT is on its way, or when it was carried out and the
// answer is on its way back.
func endInCommit(carriedOut bool) func(context.Context, *World) error {
	return func(ctx context.Context, w *World) error {
		for range 4 {
			k := w.Writer()
			s := k.Postgres.Catch("commit\x00", carriedOut)
			if !caught(ctx, s) {
				w.note("%s has sent no COMMIT", k.Name)
				continue
			}
			_, err := w.Admin.ExecContext(ctx, "SELECT pg_terminate_backend($1)", s.Session())
			s.Release(!carriedOut)
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// holdCommit holds a COMMIT back for longer than fences live.
func holdCommit(ctx context.Context, w *World) error {
	if k := w.Writer(); !caught(ctx, k.Postgres.Catch("commit\x00", w.Rand.IntN(2) == 0)) {
		w.note("%s has sent no COMMIT", k.Name)
	}
	return nil
}

func caught(ctx context.Context, s *Snare) bool {
	select {
	case <-s.Caught():
		return true
	case <-ctx.Done():
	case <-time.After(2 * time.Second):
	}
	return false
}
