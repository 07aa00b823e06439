package wtcache

import (
	"context"
	"slices"
)

// journey is the reading of several rows of an entry.
type journey struct {
	cache   *Cache
	target  target
	asks    []asked
	o       *readOptions
	first   first
	got     []reading
	pending []int        // places of those that are not known yet
	around  map[int]bool // places of those for which Redis is left alone
}

// round looks at Redis, and boards flights for what is not there. late ends the waiting
// for others' fills.
func (j *journey) round(ctx context.Context, late <-chan struct{}) error {
	around, absent := j.split(ctx)
	if !j.first.looked && len(absent) > 0 {
		absent = j.look(ctx, absent, &around)
	}
	if j.first.down {
		around, absent = append(around, absent...), nil
	}
	j.first = first{}
	j.cache.engine.stats.misses.Add(uint64(len(absent)))
	riders := append(j.board(ctx, absent, false), j.board(ctx, around, true)...)
	return j.ride(ctx, append(absent, around...), riders, len(absent), late)
}

// split takes out those for which Redis cannot be used: what this process has committed
// while Redis could not be reached may still be there as it was before, and so may what
// others have.
func (j *journey) split(ctx context.Context) (around, absent []int) {
	behind := !j.o.fresh && !j.cache.engine.watched(ctx, j.target.table, len(j.pending))
	for _, i := range j.pending {
		if j.o.fresh || j.around[i] || behind || j.cache.engine.owes(j.asks[i].key) {
			around = append(around, i)
		} else {
			absent = append(absent, i)
		}
	}
	return around, absent
}

// look takes out what Redis has, and adds to around what it cannot be asked for.
func (j *journey) look(ctx context.Context, places []int, around *[]int) (absent []int) {
	for n, f := range j.cache.engine.sync.LookMany(ctx, j.keys(places), j.target.wanted(j.o.maxAge)) {
		i := places[n]
		switch {
		case f.Hit:
			j.cache.engine.stats.hits.Add(1)
			j.got[i] = cached(f.Value, f.Age, false)
		case f.Err != nil:
			*around = append(*around, i)
		default:
			absent = append(absent, i)
		}
	}
	return absent
}

// lookAtReplica takes out what a replica has and the caller may be given. The rest is
// looked for at the primary.
func (j *journey) lookAtReplica(ctx context.Context) {
	around, absent := j.split(ctx)
	sync := j.cache.engine.sync
	if len(absent) == 0 || !sync.Replica(j.target.format()) {
		return
	}
	floor := floorOf(ctx)
	j.pending = around
	for n, f := range sync.LookReplica(ctx, j.keys(absent), j.target.wanted(j.o.maxAge)) {
		i := absent[n]
		if f.Hit && floor.allows(j.target.table, j.asks[i].key, f.Value.Version) {
			j.cache.engine.stats.hits.Add(1)
			j.cache.engine.stats.replicaHits.Add(1)
			j.got[i] = cached(f.Value, f.Age, true)
			continue
		}
		j.pending = append(j.pending, i)
	}
	slices.Sort(j.pending)
}

func (j *journey) keys(places []int) []string {
	keys := make([]string, len(places))
	for n, i := range places {
		keys[n] = j.asks[i].key
	}
	return keys
}

func (j *journey) board(ctx context.Context, places []int, bypass bool) []*rider {
	if len(places) == 0 {
		return nil
	}
	asks := make([]asked, len(places))
	for n, i := range places {
		asks[n] = j.asks[i]
	}
	return j.cache.board(ctx, j.target, asks, j.o, bypass)
}

// ride waits for the flights, of which the first ones may fill. Those whose flight brings
// them nothing are pending again.
func (j *journey) ride(ctx context.Context, places []int, riders []*rider, filling int, late <-chan struct{}) error {
	fl := &j.cache.engine.flights
	j.pending = j.pending[:0]
	for n, r := range riders {
		if n == filling {
			late = nil
		}
		l, mine, err := fl.wait(ctx, r, late)
		if err == nil && mine {
			err = l.err
		}
		if err != nil {
			for _, other := range riders[n+1:] {
				fl.leave(other)
			}
			return err
		}
		i := places[n]
		switch {
		case mine:
			j.got[i] = l.reading // others may have it, too: its payload is only read
		case l == nil: // it has waited long enough
			j.goAround(i)
			fallthrough
		default:
			j.pending = append(j.pending, i)
		}
	}
	return nil
}

func (j *journey) goAround(i int) {
	if j.around == nil {
		j.around = map[int]bool{}
	}
	j.around[i] = true
}
