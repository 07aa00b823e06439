package testenv

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

func clusterClient(t *testing.T, url string) *redis.ClusterClient {
	t.Helper()
	o, err := redis.ParseClusterURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { client.Close() })
	return client
}

func failoverClient(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseFailoverURL(url)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewFailoverClient(o)
	t.Cleanup(func() { client.Close() })
	return client
}

// The tests of failovers believe that a Cluster really loses a master and gets another one, with the data that was
// replicated, and that a slot can move.
func TestClusterFailsOverAndMoves(t *testing.T) {
	s := NewCluster(t)
	ctx := t.Context()
	client := clusterClient(t, s.URL)
	for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
		if err := client.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	old := s.Master("a")
	heir := s.Replica(old)
	eventually(t, "the replica holds the key", func() bool { return redisClient(t, heir.URL).DBSize(ctx).Val() > 0 })
	dead, promoted := s.Failover("a")
	if dead != old || promoted != heir {
		t.Errorf("%s was killed and %s promoted, want %s and its replica %s", dead.URL, promoted.URL, old.URL, heir.URL)
	}
	eventually(t, "a client finds the key again", func() bool {
		client.ReloadState(ctx)
		return client.Get(ctx, "a").Val() == "v"
	})
	dead.Restart()
	s.AwaitComplete()

	slot, err := s.Slot("b")
	if err != nil {
		t.Fatal(err)
	}
	to := s.Master("a")
	if to == s.Master("b") {
		t.Fatal("a and b have one master: this test needs two")
	}
	from := s.StartMigration(slot, to)
	s.MoveKeys(slot, from, to)
	s.EndMigration(slot, from, to)
	if got := client.Get(ctx, "b").Val(); got != "v" {
		t.Errorf("the key that moved is %q", got)
	}
}

func TestSentinelFailsOver(t *testing.T) {
	s := NewSentinel(t)
	ctx := t.Context()
	client := failoverClient(t, s.URL)
	if err := client.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if n := client.Wait(ctx, 2, startLimit).Val(); n != 2 {
		t.Fatalf("%d replicas hold the key", n)
	}
	dead, promoted := s.Failover()
	if promoted == dead || s.Master() != promoted {
		t.Errorf("%s follows %s, and %s is the master", promoted.URL, dead.URL, s.Master().URL)
	}
	eventually(t, "a client finds the key again", func() bool { return client.Get(ctx, "k").Val() == "v" })
	dead.Restart()
	s.AwaitComplete()
}

// Tests that share these must find them usable at once.
func TestSharedTopologies(t *testing.T) {
	key := KeyPrefix(t) + "k"
	if err := clusterClient(t, Cluster(t)).Set(t.Context(), key, "v", 0).Err(); err != nil {
		t.Error(err)
	}
	if err := failoverClient(t, Sentinel(t)).Set(t.Context(), key, "v", 0).Err(); err != nil {
		t.Error(err)
	}
}
