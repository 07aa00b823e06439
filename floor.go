package wtcache

import (
	"context"
	"slices"
	"sync"

	"github.com/wtcache/wtcache/rules"
)

// ReadYourWrites gives a context under which reads from replicas (ReplicaAllowed) never
// return less than what was written under it: by statements that were given it, or one
// derived from it, and by transactions that were begun with it or hold such a statement. An
// entry that a replica has from before is read from the primary instead. Make one a
// request; it grows by the keys that are written, up to 1,000, after which all its reads go
// to the primary.
//
// Reads that do not ask for a replica need none: they see every commit that was
// acknowledged, whoever made it.
func ReadYourWrites(ctx context.Context) context.Context {
	if floorOf(ctx) != nil {
		return ctx
	}
	return context.WithValue(ctx, floorKey{}, &floor{})
}

type floorKey struct{}

func floorOf(ctx context.Context) *floor {
	f, _ := ctx.Value(floorKey{}).(*floor)
	return f
}

// floorKeys bounds the keys that a floor remembers.
const floorKeys = 1000

// floor is the least version that a reader may be given, by key. A nil floor is none.
type floor struct {
	mu     sync.Mutex        // guards the rest
	byKey  map[string]string // "": whatever a replica has may be too old
	tables []*rules.Table    // of which every entry may be too old
	full   bool              // every entry may be
}

// allows says whether an entry that a replica has is new enough.
func (f *floor) allows(table *rules.Table, key, version string) bool {
	if f == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	least, written := f.byKey[key]
	switch {
	case f.full || slices.ContainsFunc(f.tables, func(t *rules.Table) bool { return t.Barrier == table.Barrier }):
		return false
	case !written:
		return true
	}
	return least != "" && version >= least
}

// raiseFloors notes what was written under the context that a commit came with, and under
// those of its statements.
func (o *owed) raiseFloors(ctx context.Context, committed bool) {
	own := floorOf(ctx)
	own.raise(o, committed)
	for _, f := range o.floors {
		if f != own {
			f.raise(o, committed)
		}
	}
}

// underFloor notes the floor of the context that a statement came with.
func (t *txState) underFloor(f *floor) {
	if !slices.Contains(t.floors, f) {
		t.floors = append(t.floors, f)
	}
}

// raise notes what a transaction that is committed, or may be, has written.
func (f *floor) raise(o *owed, committed bool) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.tables = appendTables(f.tables, o.coarse...)
	for key, e := range o.strict {
		f.raiseKey(key, e.Version, committed && len(e.Payload) > 0)
	}
	for key := range o.eventual {
		f.raiseKey(key, "", false)
	}
}

// raiseKey is under mu. A key without a payload is absent where it is up to date, and a fill
// has no version that could be compared.
func (f *floor) raiseKey(key, version string, stored bool) {
	if _, known := f.byKey[key]; !known && len(f.byKey) >= floorKeys {
		f.byKey, f.full = nil, true
	}
	if f.full {
		return
	}
	if !stored {
		version = ""
	}
	if f.byKey == nil {
		f.byKey = map[string]string{}
	}
	if least, known := f.byKey[key]; !known || version == "" || least != "" && version > least {
		f.byKey[key] = version
	}
}
