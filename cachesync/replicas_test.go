package cachesync

import (
	"errors"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// A user of wait_replicas must not commit when too few replicas have the fence: a failover
// would bring readers the old row.
func TestFenceWaitsForReplicas(t *testing.T) {
	s := testenv.NewSentinel(t)
	master := s.Master()
	rdb, key := dial(t, master.URL), testenv.KeyPrefix(t)+"1"
	c := newTestClient(t, rdb, Options{Deadline: 2 * time.Second})
	f, err := c.FenceReplicated(t.Context(), []string{key, key + "b"}, 2)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes {
		if got := look(t, dial(t, n.URL), key); got != "fence 1" {
			t.Errorf("%s has %s", n.URL, got)
		}
	}
	f.Abort(t.Context())
	var stopped []*testenv.RedisServer
	for _, n := range s.Nodes {
		if n != master && len(stopped) == 0 {
			n.Pause()
			t.Cleanup(n.Resume)
			stopped = append(stopped, n)
		}
	}
	_, err = c.FenceReplicated(t.Context(), []string{key}, 2)
	if !errors.Is(err, ErrReplicas) || !errors.Is(err, ErrUnavailable) {
		t.Fatalf("with one of two replicas: %v", err)
	}
	var failed *FenceError
	if errors.As(err, &failed) {
		failed.Abort(t.Context())
	}
	if c.Stats().BreakerOpens != 0 {
		t.Error("a lagging replica opened the breaker")
	}
	if _, err := c.SweepReplicated(t.Context(), []string{key + "*"}, 2); err != nil {
		t.Errorf("a walk that met nothing: %v", err)
	}
	mustFence(t, c, key)
	if _, err := c.SweepReplicated(t.Context(), []string{key + "*"}, 2); !errors.Is(err, ErrReplicas) {
		t.Errorf("a walk that one of two replicas has: %v", err)
	}
	f, err = c.FenceReplicated(t.Context(), []string{key + "c"}, 1)
	if err != nil {
		t.Fatal(err)
	}
	f.replicas = 2
	if err := f.extend(); !errors.Is(err, ErrReplicas) {
		t.Errorf("a renewal that one of two replicas has: %v", err)
	}
}
