package cachesync

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// errNotTrusted is the error of a read of a server that answers again while it is
// not known yet whether it holds what was committed meanwhile.
var errNotTrusted = errors.Join(ErrUnavailable, errors.New("it answers again, and what was written meanwhile may not have reached it yet"))

// errChanged is the error of a read whose answer may be that of a server that has lost
// data, and is not known yet.
var errChanged = errors.Join(ErrUnavailable, errors.New("it is not known yet who answers there, and what data it has lost"))

// mistrust is an error where what was answered may not be used.
func (c *Client) mistrust(start uint64, from answerer) error {
	switch {
	case from.known == nil:
		return errChanged
	case !c.trust.since(start, from.peer.name):
		return errNotTrusted
	}
	return nil
}

// trust says from which servers may be served. Without Options.Recovered from all.
// It is safe for concurrent use.
//
// A reader notes the time before it sends, and asks afterwards whether the server
// was trusted since then: an answer that was given in between may be old.
type trust struct {
	clock  atomic.Uint64 // counts regained trust
	shut   atomic.Int64  // the number of servers below that are not trusted
	mu     sync.Mutex    // guards servers
	server map[string]*trusted
}

type trusted struct {
	down   bool   // it does not answer
	lost   bool   // it may not be served from
	outage uint64 // how often it was lost
	since  uint64 // clock when trust was regained
	asking bool   // a goroutine asks whether it has recovered
}

func newTrust() *trust { return &trust{server: map[string]*trusted{}} }

func (t *trust) now() uint64 { return t.clock.Load() }

// since says whether what a server answered may be used.
func (t *trust) since(start uint64, server string) bool {
	if t.shut.Load() == 0 && t.clock.Load() == start {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.server[server]
	return s == nil || !s.lost && s.since <= start
}

func (t *trust) closed() int64 { return t.shut.Load() }

func (t *trust) lose(server string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.server[server]
	if s == nil {
		s = &trusted{}
		t.server[server] = s
	}
	if !s.lost {
		t.shut.Add(1)
	}
	s.lost, s.down = true, true
	s.outage++
}

// up notes that a server answers again, and says whether the caller is to find out
// whether it has recovered.
func (t *trust) up(server string) (ask bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.server[server]
	if s == nil || !s.lost {
		return false
	}
	s.down = false
	ask = !s.asking
	s.asking = true
	return ask
}

func (t *trust) outage(server string) uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.server[server].outage
}

// regain takes the answer to a question about an outage, and says whether there is
// nothing more to ask: trust is regained, or the server is down again.
func (t *trust) regain(server string, outage uint64, recovered bool) (done bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.server[server]
	switch {
	case s.down:
	case recovered && s.outage == outage:
		s.lost = false
		s.since = t.clock.Add(1)
		t.shut.Add(-1)
	default:
		return false
	}
	s.asking = false
	return true
}

// distrust ends the trust in a server, until Recovered was asked. It is called
// under the breaker's lock.
func (c *Client) distrust(server string) {
	if c.o.Recovered != nil {
		c.trust.lose(server)
	}
}

// Pauses between questions whether a server has recovered.
const (
	recoverPauseMin = 20 * time.Millisecond
	recoverPauseMax = time.Second
)

// regain has Recovered asked, until it agrees, the server fails again, or Close.
func (c *Client) regain(server string) {
	if !c.trust.up(server) || !c.begin() {
		return
	}
	go func() {
		defer c.background.Done()
		for pause := recoverPauseMin; c.ctx.Err() == nil; pause = min(2*pause, recoverPauseMax) {
			outage := c.trust.outage(server)
			if c.trust.regain(server, outage, c.o.Recovered(c.ctx) == nil) {
				return
			}
			select {
			case <-c.ctx.Done():
			case <-time.After(pause/2 + rand.N(pause)):
			}
		}
	}()
}
