package cachesync

import (
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// A Redis that comes back with old data after its clock was set back would have entries that seem to have been written after it
// lost data: a user would be shown a row as it was before a commit that somebody else had been told of.
func TestEpochAfterTheClockWasSetBack(t *testing.T) {
	rdb := dial(t, testenv.NewRedis(t).URL)
	note := func(id, system, timeline string) (now, since, source int64) {
		t.Helper()
		texts, err := redis.NewScript(epochScript.source).Run(t.Context(), rdb, []string{Registry}, id, "", system, timeline, 0, 0).StringSlice()
		if err != nil {
			t.Fatal(err)
		}
		now, _ = strconv.ParseInt(texts[0], 10, 64)
		since, _ = strconv.ParseInt(texts[1], 10, 64)
		source, _ = strconv.ParseInt(texts[2], 10, 64)
		return now, since, source
	}
	now, _, _ := note("a", "7", "00000001")
	if latest, err := rdb.HGet(t.Context(), Registry, "clock").Int64(); err != nil || latest != now {
		t.Fatalf("%d is noted as the latest time, not %d: %v", latest, now, err)
	}
	// What the registry has when the clock was an hour ahead.
	ahead := now + time.Hour.Milliseconds()
	rdb.HSet(t.Context(), Registry, "clock", ahead)
	if _, since, source := note("b", "7", "00000002"); since < ahead || source < ahead {
		t.Errorf("a successor counts from %d and its database from %d: entries of up to %d are trusted", since, source, ahead)
	}
	if latest, _ := rdb.HGet(t.Context(), Registry, "clock").Int64(); latest != ahead {
		t.Errorf("the latest time has become %d: it never falls", latest)
	}
}

// A clock that is set back by hours must not keep everybody from the cache for hours, when all has been well before and nothing
// was lost.
func TestQuarantineAfterTheClockWasSetBack(t *testing.T) {
	const began, life = 1_000_000_000, 30 * time.Second
	p, s := new(peer), new(peers)
	tell := func(now int64) *incarnation {
		known := p.now.Load()
		s.settle(p, known, nil, epochs{now: now, since: began}, life)
		return p.now.Load()
	}
	p.now.Store(&incarnation{})
	if tell(began + life.Milliseconds()); p.now.Load().quarantined() {
		t.Error("quarantined, after its end")
	}
	if tell(began - time.Hour.Milliseconds()).quarantined() {
		t.Error("quarantined again by a clock alone")
	}
	p.now.Store(&incarnation{}) // a process that starts meanwhile
	if i := tell(began - time.Hour.Milliseconds()); !i.quarantined() || i.until > steady()+int64(life) {
		t.Errorf("a process that knows nothing is quarantined for %v", time.Duration(i.until-steady()))
	}
}
