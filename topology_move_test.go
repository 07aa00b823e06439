package wtcache_test

import (
	"context"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// patientRedis lets a call wait as long as the test does.
func patientRedis(c *wtcache.Config) { c.RedisTimeout, c.FenceLife = patience, 4*patience }

// tryAgains counts the calls that a Cluster's servers refused because their keys were
// split by a slot on its way.
func tryAgains(t *testing.T, rdb redis.UniversalClient) (n int) {
	t.Helper()
	found := make(chan int, 6)
	err := eachServer(context.Background(), rdb, func(ctx context.Context, node redis.Cmdable) error {
		stats, err := node.Info(ctx, "errorstats").Result()
		found <- strings.Count(stats, "errorstat_TRYAGAIN:")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for len(found) > 0 {
		n += <-found
	}
	return n
}

func slotOf(t *testing.T, s *testenv.RedisCluster, key string) int {
	t.Helper()
	slot, err := s.Slot(key)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// another gives a master that does not serve the key.
func another(s *testenv.RedisCluster, key string) *testenv.RedisServer {
	if s.Master(key) != s.Nodes[0] {
		return s.Nodes[0]
	}
	return s.Nodes[1]
}

// While a slot is on its way its server refuses calls on a key whose parts are on both
// sides. A write waits for its end within its deadline rather than go on unfenced.
func TestSlotMovesUnderAWrite(t *testing.T) {
	s := testenv.NewCluster(t)
	f := newFleet(t, s.URL, "", patientRedis)
	f.wantServed(1)
	slot, to := slotOf(t, s, f.key(1)), another(s, f.key(1))
	from := s.StartMigration(slot, to)
	written := make(chan error, 1)
	go func() { written <- f.add(1) }()
	eventually(t, "the write is told to try again", func() bool { return tryAgains(t, f.rdb) > 0 })
	if !f.read(1) {
		t.Error("a reader whose key is whole was not served")
	}
	s.MoveKeys(slot, from, to)
	s.EndMigration(slot, from, to)
	if err := await(t, "the write", written); err != nil {
		t.Fatal(err)
	}
	if n, there := f.entry(1); !there || n != f.acked[1].Load() {
		t.Errorf("account 1 is cached as %d (there: %v), want %d", n, there, f.acked[1].Load())
	}
	if st := f.stats(); st.Unfenced != 0 || st.Redis.OwedTotal != 0 {
		t.Errorf("%d writes went unfenced, %d keys were owed", st.Unfenced, st.Redis.OwedTotal)
	}
}

// A fence that was taken on one server is given back on another, and bars readers there
// meanwhile.
func TestSlotMovesUnderAFence(t *testing.T) {
	s := testenv.NewCluster(t)
	f := newFleet(t, s.URL, "", patientRedis)
	f.wantServed(1)
	slot, to := slotOf(t, s, f.key(1)), another(s, f.key(1))
	wtcache.AtCrashPoint(t, func(point string) {
		if point != "fenced" || s.Master(f.key(1)) == to {
			return
		}
		from := s.StartMigration(slot, to)
		s.MoveKeys(slot, from, to)
		s.EndMigration(slot, from, to)
		f.read(1)
		if _, there := f.entry(1); there {
			t.Error("a reader filled a key whose fence has moved")
		}
	})
	if err := f.add(1); err != nil {
		t.Fatal(err)
	}
	if s.Master(f.key(1)) != to {
		t.Fatal("the slot did not move under the fence")
	}
	if n, there := f.entry(1); !there || n != f.acked[1].Load() {
		t.Errorf("account 1 is cached as %d (there: %v), want %d", n, there, f.acked[1].Load())
	}
}

// Slots move to and fro under traffic, as when a Cluster grows. No write fails, no reader
// gets what is older than an acknowledged write, and nothing stale is left.
func TestSlotsMoveUnderTraffic(t *testing.T) {
	s := testenv.NewCluster(t)
	f := newFleet(t, s.URL, "")
	stop := f.traffic()
	defer stop()
	for id := 1; id <= 3; id++ {
		slot := slotOf(t, s, f.key(id))
		for range 2 {
			before := f.stats().Redis.Fences
			to := another(s, f.key(id))
			from := s.StartMigration(slot, to)
			eventually(t, "writes go on", func() bool { return f.stats().Redis.Fences > before+10 })
			s.MoveKeys(slot, from, to)
			s.EndMigration(slot, from, to)
		}
	}
	stop()
	f.settle()
	f.wantTrue()
	f.wantServed(1, 2, 3, 4)
	wantNoCrossSlot(t, f.rdb)
}

// A write whose rows are not known makes every entry absent, on every server. Entries
// that change servers while it looks for them would be missed: then it is not done, and
// done again later.
func TestSweepOfACluster(t *testing.T) {
	s := testenv.NewCluster(t)
	f := newFleet(t, s.URL, "", patientRedis)
	warm := func() {
		for id := 1; id <= fleetRows; id++ {
			f.read(id)
			if _, there := f.entry(id); !there {
				t.Fatalf("account %d is not cached: nothing could go stale", id)
			}
		}
	}
	coarse := func() {
		t.Helper()
		if _, err := f.db.Exec("WITH w AS (UPDATE accounts SET n = n + 1000 RETURNING id) SELECT count(*) FROM w"); err != nil {
			t.Fatal(err)
		}
		for id := 1; id <= fleetRows; id++ {
			f.acked[id].Add(1000)
		}
	}
	warm()
	coarse()
	for id := 1; id <= fleetRows; id++ {
		if _, there := f.entry(id); there {
			t.Errorf("account %d is still cached", id)
		}
	}
	if n := f.stats().Redis.OwedTotal; n != 0 {
		t.Errorf("%d sweeps are owed", n)
	}

	warm()
	slot, to := slotOf(t, s, f.key(1)), another(s, f.key(1))
	from := s.StartMigration(slot, to)
	coarse()
	if n := f.stats().Redis.Owed; n == 0 {
		t.Error("a sweep was taken for done while a slot was on its way")
	}
	f.read(1) // from the database: what is owed is not trusted
	s.MoveKeys(slot, from, to)
	s.EndMigration(slot, from, to)
	f.settle()
	f.wantTrue()
}
