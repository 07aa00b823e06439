package cachesync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Options.
const (
	DefaultFenceLife       = 30 * time.Second
	DefaultLeaseLife       = 3 * time.Second
	DefaultDeadline        = 250 * time.Millisecond
	DefaultBreakerFailures = 5
	DefaultBreakerOpenFor  = time.Second
	DefaultOwedMax         = 100_000
	DefaultHandOverAfter   = 2 * time.Second
)

// Options sets a Client up. The zero value of each field is its default.
type Options struct {
	// FenceLife is how long a fence outlives an owner that died; a live owner
	// renews it. It must be at least four times Deadline.
	FenceLife time.Duration
	// LeaseLife is how long a reader may take to fill.
	LeaseLife time.Duration
	// Deadline bounds every Redis call; a pipeline of up to 500 keys is one.
	Deadline time.Duration
	// Breaker refuses calls while Redis does not answer; of a Cluster, those to
	// the server that does not.
	Breaker BreakerOptions
	// OwedMax bounds the list of owed keys. Past it a key is exchanged for a
	// sweep over those of Globs that match it; a key that none matches is kept
	// all the same, since a debt that is forgotten is a stale entry.
	OwedMax int
	// Globs are the patterns of all keys in use, as for Redis' SCAN.
	Globs []string
	// NoHeaders says that no entry of theirs is Plain or Versioned. A sweep then does not ask for a header to each value,
	// which is half of its work, until it has met one.
	NoHeaders bool
	// Replica is a client that reads from replicas, for LookReplica alone; nil for
	// none. It is not closed by Close.
	Replica redis.UniversalClient
	// Recovered, where set, is asked after an outage, when Redis answers again:
	// until it has returned nil, nothing that Redis holds is served, since what
	// others wrote meanwhile may not have reached it. It is asked again at growing
	// pauses, on a goroutine of its own; the context ends with Close.
	Recovered func(ctx context.Context) error
	// HandOver, where set, takes over what is owed once it has been tried in vain for
	// HandOverAfter (what fills the list before is exchanged for sweeps): it returns nil when somewhere durable has it, and
	// then it is owed here no more. It is called on a goroutine of the client's, again
	// and again until it succeeds; the context ends with Close, or a moment after.
	HandOver      func(ctx context.Context, keys []string, sweeps []OwedSweep) error
	HandOverAfter time.Duration
	// Logger and OnError hear of what happens after COMMIT, which is returned
	// to nobody. OnError is called from several goroutines, sometimes on a
	// caller's path, and must not block. Default: slog.Default(), nothing.
	Logger  *slog.Logger
	OnError func(error)

	// unnoticed is for tests that exchange what Redis holds: it is not asked who it is.
	unnoticed bool
}

// BreakerOptions says when calls are refused without trying.
type BreakerOptions struct {
	// Failures is the number of consecutive failed calls that opens it.
	Failures int
	// OpenFor is how long it stays open before one call may try again.
	OpenFor time.Duration
}

func (o Options) withDefaults() Options {
	orDuration := func(d *time.Duration, otherwise time.Duration) {
		if *d == 0 {
			*d = otherwise
		}
	}
	orInt := func(n *int, otherwise int) {
		if *n == 0 {
			*n = otherwise
		}
	}
	orDuration(&o.FenceLife, DefaultFenceLife)
	orDuration(&o.LeaseLife, DefaultLeaseLife)
	orDuration(&o.Deadline, DefaultDeadline)
	orDuration(&o.Breaker.OpenFor, DefaultBreakerOpenFor)
	orDuration(&o.HandOverAfter, DefaultHandOverAfter)
	orInt(&o.Breaker.Failures, DefaultBreakerFailures)
	orInt(&o.OwedMax, DefaultOwedMax)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

func (o Options) check() error {
	for name, d := range map[string]time.Duration{
		"FenceLife": o.FenceLife, "LeaseLife": o.LeaseLife,
		"Deadline": o.Deadline, "Breaker.OpenFor": o.Breaker.OpenFor,
	} {
		if d < time.Millisecond {
			return fmt.Errorf("wtcache: %s %v is under a millisecond", name, d)
		}
	}
	switch {
	case o.FenceLife < 4*o.Deadline:
		return fmt.Errorf("wtcache: FenceLife %v is under four times Deadline %v: a fence could not be renewed in time", o.FenceLife, o.Deadline)
	case o.Breaker.Failures < 1:
		return errors.New("wtcache: Breaker.Failures is under 1")
	case o.OwedMax < 1:
		return errors.New("wtcache: OwedMax is under 1")
	}
	return nil
}

// Client speaks the protocol to one Redis. It is safe for concurrent use.
type Client struct {
	rdb   redis.UniversalClient
	o     Options
	owed  *owed
	stats counters
	hooks hooks

	breakers *breakers
	single   bool   // the client is of one server, not of a Cluster
	server   string // its name among the breakers, where it is
	trust    *trust
	peers    *peers
	// ClocksJump was called.
	clocksJump atomic.Bool
	deafSeen   sync.Once // that a server does not say who it is is said once
	// Whether the clients bound their reads and writes by the context.
	primaryHonours, replicaHonours bool

	foreignSeen sync.Once // the first foreign key is reported, all are counted
	unfit       [unfits]sayings

	ctx  context.Context // ends with Close; background work runs under it
	stop context.CancelFunc

	mu         sync.Mutex // guards closed, and background.Add against Close's Wait
	closed     bool
	background sync.WaitGroup
}

// hooks are places where tests step in. All are nil in production.
type hooks struct {
	swept hook // between the two walks of a sweep
}

type hook func()

func (h hook) run() {
	if h != nil {
		h()
	}
}

// New makes a client. It does not dial. It refuses clients whose reads may be
// older than their writes: a redis.Ring, or a cluster client that reads from
// replicas. Of settings that only make failures longer it warns.
func New(rdb redis.UniversalClient, o Options) (*Client, error) {
	if err := accept(rdb); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	if err := o.check(); err != nil {
		return nil, err
	}
	c := &Client{rdb: rdb, o: o, primaryHonours: honoursContext(rdb), replicaHonours: honoursContext(o.Replica)}
	_, cluster := rdb.(*redis.ClusterClient)
	c.single, c.server = !cluster, serverOf(rdb)
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.trust = newTrust()
	c.owed = newOwed()
	c.peers = &peers{off: o.unnoticed}
	c.peers.watch(rdb)
	c.breakers = newBreakers(o.Breaker, c.breakerChanged)
	for _, text := range doubts(rdb) {
		o.Logger.Warn(text)
	}
	return c, nil
}

// Close stops renewals and the work on owed keys, and waits for both. It does
// not close the Redis client. Fences that are still held expire by themselves.
// Where invalidations are still owed it returns an error that wraps
// ErrDebtsLost.
func (c *Client) Close() error {
	c.mu.Lock()
	already := c.closed
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.peers.closed.Store(true)
	c.background.Wait()
	c.handOverLast()
	if n := c.Owed(); n > 0 && !already {
		err := fmt.Errorf("%w: %d", ErrDebtsLost, n)
		c.report("closed while invalidations were owed", err)
		return err
	}
	return nil
}

// begin joins the background work that Close waits for. It reports false after
// Close; else the caller owes a background.Done.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.background.Add(1)
	return true
}

// report tells of an error that nobody is left to be returned to.
func (c *Client) report(msg string, err error) {
	c.o.Logger.Warn(msg, "error", err)
	if c.o.OnError != nil {
		c.o.OnError(err)
	}
}
