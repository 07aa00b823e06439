package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// Nemesis is something that goes wrong in production. Strike makes it go wrong and Heal ends it; in between the processes go
// on. Both may take a while; neither may leave anything that World.Revive does not heal.
type Nemesis interface {
	Name() string
	Strike(ctx context.Context, w *World) error
	Heal(ctx context.Context, w *World) error
}

// kind is a nemesis of the registry.
type kind struct {
	make func() Nemesis
	// where it can strike; nil: everywhere
	where []Topology
	// byHand: against a cache that is written by hand as well
	byHand bool
	// clock: only where the clock of Redis can be moved
	clock bool
	// alone: never together with another one that is alone
	alone bool
	// hold is how long it lasts; 0: a second
	hold time.Duration
	// rest is how long the cache is idle after it has healed, so that the window goes on until it is not
	rest time.Duration
}

// kinds are all nemeses, in the order in which they strike.
var kinds = slices.Concat(processKinds, linkKinds, redisKinds, clockKinds, fleetKinds, postgresKinds)

// calm does nothing: what goes wrong then goes wrong by itself.
var calm = act("calm", nil, nil)

// acts is a nemesis of two functions.
type acts struct {
	name         string
	strike, heal func(ctx context.Context, w *World) error
}

func act(name string, strike, heal func(ctx context.Context, w *World) error) acts {
	return acts{name, strike, heal}
}

func (a acts) Name() string { return a.name }

func (a acts) Strike(ctx context.Context, w *World) error {
	if a.strike == nil {
		return nil
	}
	return a.strike(ctx, w)
}

func (a acts) Heal(ctx context.Context, w *World) error {
	if a.heal == nil {
		return nil
	}
	return a.heal(ctx, w)
}

// once is the kind of a nemesis without a state.
func once(a acts) kind { return kind{make: func() Nemesis { return a }} }

func (k kind) on(where ...Topology) kind { k.where = where; return k }

func (k kind) alsoByHand() kind { k.byHand = true; return k }

func (k kind) lasting(d time.Duration) kind { k.hold = d; return k }

func (k kind) resting(d time.Duration) kind { k.rest = d; return k }

// Names are those of the nemeses that a World of these options knows.
func Names(o Options) (names []string) {
	for _, k := range kindsFor(o.withDefaults(), nil) {
		names = append(names, k.make().Name())
	}
	return names
}

// kindsFor are the kinds that can strike such a World, only those named where there are names.
func kindsFor(o Options, names []string) (found []kind) {
	for _, k := range kinds {
		if k.where != nil && !slices.Contains(k.where, o.Topology) || o.Mode != Through && !k.byHand {
			continue
		}
		if k.clock && testenv.MovesClocks() != nil {
			continue
		}
		if names == nil || slices.Contains(names, k.make().Name()) {
			found = append(found, k)
		}
	}
	return found
}

// checkNames is an error for a name that no nemesis of such a World has.
func checkNames(o Options, names []string) error {
	known := Names(o)
	for _, name := range names {
		if !slices.Contains(known, name) {
			return fmt.Errorf("torture: no nemesis %q strikes %s on %s; there are %s", name, o.Mode, o.Topology, strings.Join(known, ", "))
		}
	}
	return nil
}
