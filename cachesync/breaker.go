package cachesync

import (
	"errors"
	"sync"

	"github.com/sony/gobreaker/v2"
)

type breaker = gobreaker.CircuitBreaker[struct{}]

// maxBreakers bounds the breakers of servers that have long left a Cluster.
const maxBreakers = 256

// breakers are the circuit breakers of the servers, each by the server's
// address, so that one that is dead does not keep calls from the others. Safe
// for concurrent use.
type breakers struct {
	o       BreakerOptions
	changed func(server string, from, to gobreaker.State)

	mu       sync.RWMutex // guards byServer; no breaker is called under it
	byServer map[string]*breaker
}

func newBreakers(o BreakerOptions, changed func(server string, from, to gobreaker.State)) *breakers {
	return &breakers{o: o, changed: changed, byServer: make(map[string]*breaker)}
}

func (b *breakers) of(server string) *breaker {
	b.mu.RLock()
	one := b.byServer[server]
	b.mu.RUnlock()
	if one != nil {
		return one
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if one = b.byServer[server]; one == nil {
		if len(b.byServer) >= maxBreakers {
			clear(b.byServer) // those of dead servers open again after a few calls
		}
		one = b.make(server)
		b.byServer[server] = one
	}
	return one
}

func (b *breakers) make(server string) *breaker {
	return gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		Name:    server,
		Timeout: b.o.OpenFor,
		ReadyToTrip: func(n gobreaker.Counts) bool {
			return n.ConsecutiveFailures >= uint32(b.o.Failures)
		},
		IsExcluded:    func(err error) bool { return errors.Is(err, errCallerGone) },
		OnStateChange: b.changed,
	})
}

// breakerChanged runs under the breaker's lock: it must not call the breaker.
func (c *Client) breakerChanged(server string, from, to gobreaker.State) {
	log := c.o.Logger
	if server != "" {
		log = log.With("server", server)
	}
	switch to {
	case gobreaker.StateOpen:
		c.stats.BreakerOpens.Add(1)
		c.distrust(server)
		if from == gobreaker.StateClosed {
			log.Warn("redis does not answer: calls are refused for a while", "for", c.o.Breaker.OpenFor)
		}
	case gobreaker.StateClosed:
		log.Info("redis answers again")
		c.owed.nudge()
		c.peers.of(server).measured.Store(0) // it may be another machine now
		c.regain(server)
	}
}
