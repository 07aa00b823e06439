package cachesync

import (
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// Who asks whether a server is down goes by the breaker that the calls go by, and the server is looked after by us: else every write of an
// outage tries Redis first, what is queued is taken for drainable all along, and Redis' return is noticed by nobody who only asks.
func TestDownFollowsTheServersBreaker(t *testing.T) {
	server := testenv.NewRedis(t)
	c := newTestClient(t, dial(t, server.URL), Options{Breaker: BreakerOptions{Failures: 2, OpenFor: 20 * time.Millisecond}})
	mustFence(t, c, "k").Abort(t.Context())
	if c.Down() || !c.Reachable() {
		t.Fatalf("beside a server that answers: down %v, reachable %v", c.Down(), c.Reachable())
	}
	server.Kill()
	for c.Stats().BreakerOpens == 0 {
		if _, err := c.Fence(t.Context(), []string{"k"}); err == nil {
			t.Fatal("a dead server took a fence")
		}
	}
	if !c.Down() || c.Reachable() {
		t.Errorf("beside a dead server: down %v, reachable %v", c.Down(), c.Reachable())
	}
	server.Restart()
	eventually(t, "that it answers again is noticed, though nobody calls it", func() bool { return !c.Down() && c.Reachable() })
}
