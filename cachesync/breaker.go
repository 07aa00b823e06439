package cachesync

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
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

// primaries gives the breakers of servers that are no replicas.
func (b *breakers) primaries() []*breaker {
	b.mu.RLock()
	defer b.mu.RUnlock()
	var primaries []*breaker
	for server, one := range b.byServer {
		if !strings.HasPrefix(server, replicaOf) {
			primaries = append(primaries, one)
		}
	}
	return primaries
}

// anyTries says that some primary answers, as far as is known, or may be asked whether it does again.
func (b *breakers) anyTries() bool {
	primaries := b.primaries()
	return len(primaries) == 0 || slices.ContainsFunc(primaries, func(one *breaker) bool { return one.State() != gobreaker.StateOpen })
}

// anyOpen says that some primary is known not to answer.
func (b *breakers) anyOpen() bool {
	return slices.ContainsFunc(b.primaries(), func(one *breaker) bool { return one.State() != gobreaker.StateClosed })
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
			c.probe(server)
			log.Warn("redis does not answer: calls are refused for a while", "for", c.o.Breaker.OpenFor)
		}
	case gobreaker.StateClosed:
		log.Info("redis answers again")
		c.owed.nudge()
		c.peers.of(server).measured.Store(0) // it may be another machine now
		c.regain(server)
	}
}

// Reachable says that a call is worth a try: the server answers, or of a Cluster one does, as far as is
// known, or may be asked whether it does again. Nobody else asks a Cluster's servers.
func (c *Client) Reachable() bool {
	if c.single {
		return !c.Down()
	}
	return c.breakers.anyTries()
}

// BreakerOpen says that the server, or of a Cluster one of its primaries, is known not to answer, so that calls to it are refused.
func (c *Client) BreakerOpen() bool { return c.breakers.anyOpen() }

// Down says that the one server there is does not answer, so that a call is not worth a
// try: somebody looks after it until it does. Of a Cluster, some servers may.
func (c *Client) Down() bool {
	return c.single && c.breakers.of(c.server).State() != gobreaker.StateClosed
}

// probe asks a server that does not answer whether it is there again, so that no writer
// has to wait for it. Of a Cluster, and of replicas, the calls themselves find out.
func (c *Client) probe(server string) {
	if !c.single || server != c.server || !c.begin() {
		return
	}
	go func() {
		defer c.background.Done()
		for {
			select {
			case <-c.ctx.Done():
				return
			case <-time.After(c.o.Breaker.OpenFor):
			}
			c.do(c.ctx, c.rdb, []redis.Cmder{once(c.ctx, "ping")})
			if c.breakers.of(server).State() == gobreaker.StateClosed {
				return
			}
		}
	}()
}
