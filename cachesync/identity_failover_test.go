package cachesync

import (
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// unknownTo does something that the replicas do not get to know: they are stopped, and what
// the master would send them has nowhere to go.
func unknownTo(t *testing.T, master *testenv.RedisServer, replicas []*testenv.RedisServer, do func()) {
	t.Helper()
	for _, r := range replicas {
		r.Pause()
	}
	if n := dial(t, master.URL).ClientKillByFilter(t.Context(), "type", "replica").Val(); n != int64(len(replicas)) {
		t.Fatalf("the master had %d replicas, want %d", n, len(replicas))
	}
	do()
	for _, r := range replicas {
		r.Resume()
	}
}

// A replica that lags becomes the master, and has the rows from before the last commits. It
// was always there: no connection need be a new one.
func TestSentinelFailoverToALaggingReplica(t *testing.T) {
	s := testenv.NewSentinel(t)
	master := s.Master()
	rdb, key := dialSentinel(t, s.URL), testenv.KeyPrefix(t)+"1"
	c := newTestClient(t, rdb, youngOptions)
	store(t, c, key, entry(Envelope, "1", 5))
	var replicas []*testenv.RedisServer
	for _, n := range s.Nodes {
		if n != master {
			replicas = append(replicas, n)
			direct := dial(t, n.URL)
			eventually(t, "the replica has the old row", func() bool { return direct.Exists(t.Context(), key).Val() == 1 })
		}
	}
	unknownTo(t, master, replicas, func() {
		store(t, c, key, entry(Envelope, "2", 6))
		mustHit(t, c, key, "2")
		master.Kill()
	})
	s.AwaitPromotion(master)
	eventually(t, "the promoted replica is asked", func() bool {
		f := c.Look(t.Context(), key, wanted)
		if f.Hit && string(f.Value.Payload) == "1" {
			t.Fatal("a row from before a commit was served")
		}
		return f.Err == nil
	})
	later := newTestClient(t, dialSentinel(t, s.URL), youngOptions)
	if f := later.Look(t.Context(), key, wanted); f.Hit {
		t.Errorf("a process that starts afterwards was served: %+v", f)
	}
	if c.Stats().Distrusted == 0 {
		t.Error("the old row was not there: nothing was tested")
	}
	awaitTrusting(t, c, key+"b")
	store(t, c, key, entry(Envelope, "3", 7))
	mustHit(t, c, key, "3")
}

// In a Cluster a client may have talked to a replica before it becomes a master, and follows
// redirects by itself.
func TestClusterFailoverToALaggingReplica(t *testing.T) {
	s := testenv.NewCluster(t)
	rdb := dialCluster(t, s.URL)
	o := youngOptions
	o.Deadline, o.FenceLife = 500*time.Millisecond, 2*time.Second
	c := newTestClient(t, rdb, o)
	keys := byServer(t, s, 24)
	key, elsewhere := keys[s.Nodes[0]][0], keys[s.Nodes[1]][0]
	store(t, c, key, entry(Envelope, "1", 5))
	store(t, c, elsewhere, entry(Envelope, "1", 5))
	master, replica := s.Nodes[0], s.Replica(s.Nodes[0])
	old := dial(t, replica.URL)
	eventually(t, "the replica has the old row", func() bool {
		return old.DBSize(t.Context()).Val() > 0 && strings.Contains(strings.Join(old.Keys(t.Context(), "*").Val(), " "), key)
	})
	unknownTo(t, master, []*testenv.RedisServer{replica}, func() {
		store(t, c, key, entry(Envelope, "2", 6))
		mustHit(t, c, key, "2")
		master.Kill()
	})
	s.AwaitPromotion(master, key)
	eventually(t, "the promoted replica is asked", func() bool {
		f := c.Look(t.Context(), key, wanted)
		if f.Hit && string(f.Value.Payload) == "1" {
			t.Fatal("a row from before a commit was served")
		}
		return f.Err == nil
	})
	later := newTestClient(t, dialCluster(t, s.URL), o)
	if f := later.Look(t.Context(), key, wanted); f.Hit {
		t.Errorf("a process that starts afterwards was served: %+v", f)
	}
	if c.Stats().Distrusted == 0 {
		t.Error("the old row was not there: nothing was tested")
	}
	mustHit(t, c, elsewhere, "1") // the other servers have lost nothing
	awaitTrusting(t, c, key)
	store(t, c, key, entry(Envelope, "3", 7))
	mustHit(t, c, key, "3")
}

func dialSentinel(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseFailoverURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled, o.DialerRetries = true, 1
	rdb := redis.NewFailoverClient(o)
	t.Cleanup(func() { rdb.Close() })
	return rdb
}
