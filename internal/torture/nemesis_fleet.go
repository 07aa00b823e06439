package torture

import (
	"context"
	"errors"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

var fleetKinds = []kind{
	{make: func() Nemesis { return &failover{name: "failover"} }, where: fleets, alone: true, rest: quarantine},
	{make: func() Nemesis { return &failover{name: "failover to a replica behind", lag: true} }, where: fleets, alone: true, rest: quarantine},
	{make: func() Nemesis { return &failover{name: "failover of a hung master", hang: true} }, where: fleets, alone: true, rest: quarantine},
}

var fleets = []Topology{Sentinel, Cluster}

// failover ends the master of some keys, and waits until a replica has taken its place.
type failover struct {
	name string
	lag  bool // the replicas have missed the master's last moments
	hang bool // the master is stopped, and wakes up as what it was

	dead   *testenv.OwnRedis
	paused []*testenv.OwnRedis
}

func (f *failover) Name() string { return f.name }

func (f *failover) Strike(ctx context.Context, w *World) (err error) {
	if f.dead, err = w.Fleet.Master(ctx, w.Key()); err != nil {
		return err
	}
	if f.lag {
		if err := f.holdReplicas(ctx, w); err != nil {
			return err
		}
	}
	if f.hang {
		err = f.dead.Pause()
	} else {
		err = f.dead.Kill(ctx)
	}
	if err = errors.Join(err, f.resumeReplicas()); err != nil {
		return err
	}
	_, err = w.Fleet.AwaitPromotion(ctx, f.dead, w.Key())
	return err
}

// holdReplicas has the master write for a moment what no replica gets: they are stopped, and their connections closed by the
// master, since what is in the buffers of an open one arrives in spite of all.
func (f *failover) holdReplicas(ctx context.Context, w *World) error {
	replicas, err := w.Fleet.Replicas(ctx, f.dead)
	if err != nil {
		return err
	}
	for _, r := range replicas {
		if err := r.Pause(); err != nil {
			return err
		}
		f.paused = append(f.paused, r)
	}
	if _, err := f.dead.Count(ctx, "client", "kill", "type", "replica"); err != nil {
		return err
	}
	return w.wait(ctx, 300*time.Millisecond, 700*time.Millisecond)
}

func (f *failover) resumeReplicas() error {
	var errs []error
	for _, r := range f.paused {
		errs = append(errs, r.Resume())
	}
	f.paused = nil
	return errors.Join(errs...)
}

func (f *failover) Heal(ctx context.Context, w *World) (err error) {
	if f.hang {
		err = f.dead.Resume()
	} else {
		err = f.dead.Start(ctx)
	}
	return errors.Join(err, w.Fleet.AwaitComplete(ctx))
}
