package wtcache_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// briefFences keeps the keys that a failure left fenced from being absent for half a
// minute. All else is as users have it.
func briefFences(c *wtcache.Config) { c.FenceLife = 2 * time.Second }

// failovers are the deployments in which another server takes a dead one's place. Each
// gives a URL, the master (of a key), and a wait for its successor.
var failovers = []struct {
	name string
	make func(t *testing.T) failover
}{
	{"Cluster", func(t *testing.T) failover {
		s := testenv.NewCluster(t)
		return failover{
			url: s.URL, master: s.Master, heir: s.AwaitPromotion,
			complete: s.AwaitComplete,
		}
	}},
	{"Sentinel", func(t *testing.T) failover {
		s := testenv.NewSentinel(t)
		return failover{
			url: s.URL, complete: s.AwaitComplete,
			master: func(string) *testenv.RedisServer { return s.Master() },
			heir:   func(dead *testenv.RedisServer, _ string) *testenv.RedisServer { return s.AwaitPromotion(dead) },
		}
	}},
}

type failover struct {
	url      string
	master   func(key string) *testenv.RedisServer
	heir     func(dead *testenv.RedisServer, key string) *testenv.RedisServer
	complete func()
}

// A master dies under traffic. No write may fail for it, no reader may get what is older
// than an acknowledged write, and when a replica has taken its place the cache has to work
// again, with nothing stale left in it: all that the replica never heard of is owed. The
// replica knows none of the scripts.
func TestFailoverUnderTraffic(t *testing.T) {
	for _, d := range failovers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			o := d.make(t)
			f := newFleet(t, o.url, "", briefFences)
			stop := f.traffic()
			defer stop()
			f.wantServed(1)
			dead := o.master(f.key(1))
			f.quietly(dead.Kill)
			eventually(t, "a write meets the dead server", func() bool { return f.stats().Unfenced > 0 })
			o.heir(dead, f.key(1))
			eventually(t, "writes reach the new server", func() bool {
				f.pace.Lock() // no write is under way
				defer f.pace.Unlock()
				n, there := f.entry(1)
				return there && n == f.acked[1].Load()
			})
			stop()
			f.settle()
			f.wantTrue()
			f.wantServed(1, 2, 3)
		})
	}
}

// A failover in the midst of writes can lose what the old master had acknowledged and not
// yet handed on: entries can be old then until their TTL. What is owed is settled all the
// same, and every later write is right.
func TestFailoverAmidWrites(t *testing.T) {
	for _, d := range failovers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			o := d.make(t)
			f := newFleet(t, o.url, "", briefFences)
			done := make(chan struct{})
			written := make(chan error, 1)
			go func() {
				for i := 0; ; i++ {
					select {
					case <-done:
						written <- nil
						return
					default:
					}
					if err := f.add(1+i%fleetRows, 1+(i+5)%fleetRows); err != nil {
						written <- err
						return
					}
				}
			}()
			eventually(t, "many writes are applied", func() bool { return f.stats().Redis.Stored > 100 })
			dead := o.master(f.key(1))
			dead.Kill()
			o.heir(dead, f.key(1))
			close(done)
			if err := await(t, "the writes", written); err != nil {
				t.Fatal(err)
			}
			f.settle()
			for id := 1; id <= fleetRows; id++ {
				f.wantServed(id)
			}
			f.wantTrue()
		})
	}
}

// A master that hangs is replaced, and wakes up without knowing. Calls must not wait for
// it, and nobody may be served what it still holds.
func TestFailoverOfAHungMaster(t *testing.T) {
	for _, d := range failovers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			o := d.make(t)
			f := newFleet(t, o.url, "", briefFences)
			f.wantServed(1, 2, 3)
			old := o.master(f.key(1))
			f.quietly(old.Pause)
			if err := f.add(1); err != nil { // while it hangs: the test ends else
				t.Fatal(err)
			}
			f.read(1)
			o.heir(old, f.key(1))
			f.wantServed(1)
			f.settle()
			old.Resume()
			for id := 1; id <= fleetRows; id++ {
				f.read(id)
				if err := f.add(id); err != nil {
					t.Error(err)
				}
				f.read(id)
			}
			o.complete() // it follows now
			f.settle()
			f.wantTrue()
			f.wantServed(1, 2, 3)
		})
	}
}

// Under `refuse`, an outage of one server refuses the writes of its keys, and no longer
// than it lasts.
func TestFailoverRefuses(t *testing.T) {
	for _, d := range failovers {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			o := d.make(t)
			f := newFleet(t, o.url, "redis_down: refuse\n", briefFences)
			f.wantServed(1)
			dead := o.master(f.key(1))
			f.quietly(dead.Kill)
			if err := f.add(1); !errors.Is(err, wtcache.ErrRefused) {
				t.Errorf("a write that cannot be fenced gave %v", err)
			}
			o.heir(dead, f.key(1))
			eventually(t, "writes are taken again", func() bool {
				err := f.add(1)
				if err != nil && !errors.Is(err, wtcache.ErrRefused) {
					t.Fatal(err)
				}
				return err == nil
			})
			f.wantServed(1)
			f.wantTrue()
			if n := f.stats().Unfenced; n != 0 {
				t.Errorf("%d writes were committed unfenced", n)
			}
		})
	}
}

// A Sentinel that was cut off names a server that is a replica by now. It would refuse
// every write and go on serving old rows to readers.
func TestFailoverLeavesAMisledSentinel(t *testing.T) {
	s := testenv.NewSentinel(t)
	master := s.Master()
	replica := s.Nodes[1]
	if replica == master {
		replica = s.Nodes[0]
	}
	f := newFleet(t, s.Misled(replica), "")
	f.rdb = openClient(t, s.URL)
	// What the replica holds is whole, and old.
	good := newFleet(t, s.URL, "")
	good.wantServed(1)
	text := good.rdb.Get(context.Background(), good.key(1)).Val()
	if err := f.rdb.Set(context.Background(), f.key(1), text, time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	there := openClient(t, replica.URL)
	eventually(t, "the replica has it", func() bool { return there.Exists(context.Background(), f.key(1)).Val() == 1 })
	if f.read(1) {
		t.Error("a reader was served by a replica")
	}
	if err := f.add(1); err != nil {
		t.Error(err)
	}
	f.read(1)
	if s := f.stats(); s.Unfenced != 1 {
		t.Errorf("%d writes were committed unfenced, want 1", s.Unfenced)
	}
}

// One dead server of a Cluster, with nobody to take its place, must not take the cache
// from the keys of the others, however often its own keys are asked for.
func TestOneDeadShard(t *testing.T) {
	for _, rule := range []string{"redis_down: queue\n", "redis_down: refuse\n"} {
		t.Run(rule[len("redis_down: "):len(rule)-1], func(t *testing.T) {
			t.Parallel()
			s := testenv.NewCluster(t)
			f := newFleet(t, s.URL, rule, briefFences)
			var dead, alive []int
			// Where the rule's barrier cannot be asked for, readers do not fill.
			victim := s.Nodes[0]
			if victim == s.Master(f.barrier) {
				victim = s.Nodes[1]
			}
			for id := 1; id <= fleetRows; id++ {
				if s.Master(f.key(id)) == victim {
					dead = append(dead, id)
				} else {
					alive = append(alive, id)
				}
			}
			f.wantServed(dead[0], dead[1], alive[0], alive[1])
			s.Replica(victim).Kill()
			victim.Kill()

			refused := 0
			for i := range 20 { // more than opens a breaker
				f.read(dead[i%len(dead)])
				switch err := f.add(dead[i%len(dead)]); {
				case errors.Is(err, wtcache.ErrRefused):
					refused++
				case err != nil:
					t.Error(err)
				}
			}
			if want := map[bool]int{true: 20}[rule == "redis_down: refuse\n"]; refused != want {
				t.Errorf("%d writes of keys of the dead server were refused, want %d", refused, want)
			}
			if f.stats().Redis.BreakerOpens == 0 {
				t.Fatal("the breaker of the dead server did not open: nothing was shown")
			}
			for _, id := range alive {
				if err := f.add(id); err != nil {
					t.Fatal(err)
				}
				if n, there := f.entry(id); !there || n != f.acked[id].Load() {
					t.Errorf("account %d, on a server that lives, is cached as %d (there: %v), want %d", id, n, there, f.acked[id].Load())
				}
				if !f.read(id) {
					t.Errorf("account %d, on a server that lives, was read from the database", id)
				}
			}
			f.acrossShards(dead[0], alive[0], refused > 0)
			victim.Restart()
			f.wantServed(dead[0], alive[0])
			f.settle()
			f.wantTrue()
		})
	}
}

// acrossShards writes a row of a dead server and one of a server that lives together.
func (f *fleet) acrossShards(dead, alive int, refuses bool) {
	f.t.Helper()
	before := f.acked[alive].Load()
	err := f.add(dead, alive)
	if errors.Is(err, wtcache.ErrRefused) != refuses || !refuses && err != nil {
		f.t.Fatalf("a write over two servers gave %v", err)
	}
	if n, there := f.entry(alive); there && n != f.acked[alive].Load() {
		f.t.Errorf("account %d is cached as %d after a write that gave %v", alive, n, err)
	}
	if !refuses {
		return
	}
	if f.acked[alive].Load() != before {
		f.t.Error("a refused write was acknowledged")
	}
	// The fence that had got through is taken back at once, not left to expire.
	f.read(alive)
	if !f.read(alive) {
		f.t.Errorf("account %d stays out of the cache after a refused write", alive)
	}
}
