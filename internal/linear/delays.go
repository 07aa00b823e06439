package linear

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Delays holds up, at random, what a client sends and what it is sent, so that its steps meet others' in many orders. On the
// wire that is before and after every step there is: each script, each statement, each COMMIT. It is safe for concurrent use.
type Delays struct {
	longest time.Duration
	one     int // message in so many is held up
	cutOne  int // COMMIT in so many is lost; 0: none
	on      atomic.Bool

	mu sync.Mutex // guards r
	r  *rand.Rand
}

// NewDelays holds up one message in so many, on average, for up to so long, once it is begun.
func NewDelays(seed uint64, one int, longest time.Duration) *Delays {
	return &Delays{longest: longest, one: one, r: rand.New(rand.NewPCG(seed, 0))}
}

// CutCommits has one COMMIT in so many lost on its way, or its answer on the way back, and the connection with it. It is to be
// called before Begin.
func (d *Delays) CutCommits(one int) { d.cutOne = one }

// Begin ends the peace in which connections can be opened and looked at.
func (d *Delays) Begin() { d.on.Store(true) }

// ErrCut is wrapped by the error of a connection that was cut.
var ErrCut = errors.New("the test has cut the connection")

// seldom: one pause in so many is a long one, the others are at most this part of it. Most orders take one step that is much
// slower than the others' steps.
const seldom = 10

// Pause sleeps for a while, or not at all.
func (d *Delays) Pause() {
	if d.on.Load() {
		time.Sleep(d.draw())
	}
}

func (d *Delays) draw() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.r.IntN(d.one) > 0 {
		return 0
	}
	longest := int64(d.longest)
	if d.r.IntN(seldom) > 0 {
		longest /= seldom
	}
	return time.Duration(d.r.Int64N(longest + 1))
}

// fate says what becomes of a message.
func (d *Delays) fate(b []byte) (lost, answerLost bool) {
	if d.cutOne == 0 || !d.on.Load() || !bytes.Contains(bytes.ToLower(b), []byte("commit\x00")) { // a query's text ends with a zero
		return false, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.r.IntN(2 * d.cutOne)
	return n == 0, n == 1
}

// Dialer is how pgx and go-redis open connections.
type Dialer = func(ctx context.Context, network, addr string) (net.Conn, error)

// Dial gives a dialer whose connections are held up.
func (d *Delays) Dial(dial Dialer) Dialer {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &delayedConn{Conn: conn, delays: d}, nil
	}
}

// Hook holds up the connections of a Redis client.
func (d *Delays) Hook() redis.Hook { return delayedDials{d} }

type delayedDials struct{ delays *Delays }

func (h delayedDials) DialHook(next redis.DialHook) redis.DialHook { return h.delays.Dial(next) }

func (delayedDials) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (delayedDials) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

type delayedConn struct {
	net.Conn
	delays *Delays
	cut    atomic.Bool
}

func (c *delayedConn) Write(b []byte) (int, error) {
	c.delays.Pause()
	lost, answerLost := c.delays.fate(b)
	if lost {
		return 0, c.end()
	}
	n, err := c.Conn.Write(b)
	if err == nil && answerLost {
		_ = c.end()
	}
	return n, c.explain(err)
}

func (c *delayedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.delays.Pause()
	return n, c.explain(err)
}

// end cuts the connection. What was sent the server still gets.
func (c *delayedConn) end() error {
	c.cut.Store(true)
	return errors.Join(ErrCut, c.Conn.Close())
}

func (c *delayedConn) explain(err error) error {
	if err != nil && c.cut.Load() {
		return ErrCut
	}
	return err
}
