package cachesync

import (
	"context"
	"errors"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// clockLife is how long a comparison of a server's clock with ours holds. Clocks
// drift by some milliseconds in that time.
const clockLife = 30 * time.Second

// clock is what is known of one server's clock. Ages are by the clock that wrote the
// entry: those of two machines can differ by minutes. Safe for concurrent use.
type clock struct {
	ahead    atomic.Int64 // of ours, in nanoseconds; ours runs steadily, whatever is done to the machine's
	measured atomic.Int64 // our clock's time of the comparison, 0 for never
	busy     atomic.Bool  // somebody compares
}

// started is where our steady clock begins.
var started = time.Now()

// steady is our own clock: never set, always forward.
func steady() int64 { return int64(time.Since(started)) + 1 }

// ClocksJump says that the servers' clocks are set while the client runs, as those of tests
// are: they are compared anew for every age, which costs a round trip.
func (c *Client) ClocksJump() { c.clocksJump.Store(true) }

// age is how long ago a server wrote something, by its own clock. The first
// question to a server costs a round trip; later comparisons are made beside the
// readers. Where the server does not tell the time, it is this machine's clock.
func (c *Client) age(ctx context.Context, k *clock, key string, written time.Time) time.Duration {
	switch measured := k.measured.Load(); {
	case measured == 0 || c.clocksJump.Load():
		if c.compare(ctx, k, key); k.measured.Load() == 0 {
			return max(time.Since(written), 0)
		}
	case steady()-measured > int64(clockLife) && k.busy.CompareAndSwap(false, true):
		if !c.begin() {
			break
		}
		go func() {
			defer c.background.Done()
			defer k.busy.Store(false)
			c.compare(c.ctx, k, key)
		}()
	}
	return max(time.Duration(steady()+k.ahead.Load()-written.UnixNano()), 0)
}

// compare asks the server that the key is written at for its time: for a replica's, the
// primary.
func (c *Client) compare(ctx context.Context, k *clock, key string) {
	rdb := c.rdb
	if cluster, ok := rdb.(*redis.ClusterClient); ok {
		node, err := cluster.MasterForKey(ctx, key)
		if err != nil {
			return
		}
		rdb = node
	}
	sent := steady()
	r := c.read(ctx, rdb, []redis.Cmder{once(ctx, "time")})[0]
	got := steady()
	now, err := serverTime(r)
	if err != nil {
		return
	}
	k.ahead.Store(now - (sent+got)/2)
	k.measured.Store(got)
}

// serverTime reads TIME: seconds, and the microseconds in the current one.
func serverTime(r reply) (nanoseconds int64, err error) {
	if r.err != nil {
		return 0, r.err
	}
	list, _ := r.val.([]any)
	var parts [2]int64
	if len(list) != len(parts) {
		return 0, errors.New("decode TIME: got no pair")
	}
	for i, item := range list {
		text, _ := item.(string)
		if parts[i], err = strconv.ParseInt(text, 10, 64); err != nil {
			return 0, err
		}
	}
	return parts[0]*int64(time.Second) + parts[1]*int64(time.Microsecond), nil
}

// AgeBounds are the upper bounds of the buckets of Ages; the last bucket has none.
var AgeBounds = [...]time.Duration{
	time.Millisecond, 10 * time.Millisecond, 100 * time.Millisecond, time.Second, 10 * time.Second,
	time.Minute, 10 * time.Minute, time.Hour, 24 * time.Hour,
}

// Ages is a histogram of the ages of values.
type Ages struct {
	// Counts has one bucket for each of AgeBounds and one for what is older.
	Counts [len(AgeBounds) + 1]int64
	Sum    time.Duration
	Max    time.Duration
}

type ageCounters struct {
	counts   [len(AgeBounds) + 1]atomic.Int64
	sum, max atomic.Int64
}

func (a *ageCounters) add(age time.Duration) {
	i := 0
	for i < len(AgeBounds) && age > AgeBounds[i] {
		i++
	}
	a.counts[i].Add(1)
	if sum := a.sum.Add(int64(age)); sum < 0 {
		a.sum.Store(math.MaxInt64)
	}
	for old := a.max.Load(); int64(age) > old && !a.max.CompareAndSwap(old, int64(age)); {
		old = a.max.Load()
	}
}

func (a *ageCounters) load() (ages Ages) {
	for i := range a.counts {
		ages.Counts[i] = a.counts[i].Load()
	}
	ages.Sum, ages.Max = time.Duration(a.sum.Load()), time.Duration(a.max.Load())
	return ages
}
