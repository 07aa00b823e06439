package cachesync

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// peers are the servers that a client has met, each by its name. It is safe for
// concurrent use.
type peers struct {
	byServer sync.Map // string to *peer
	floor    atomic.Int64
	origin   atomic.Pointer[origin]
	closed   atomic.Bool
	met      atomic.Bool // some server is known
	off      bool        // nothing is noticed, everything is trusted
}

// peer is what is known of one server.
type peer struct {
	clock
	name string

	// now is who answers, as far as is known; nil until it was asked.
	now     atomic.Pointer[incarnation]
	checked atomic.Int64  // when the latest question who answers was sent, by steady
	looking atomic.Bool   // somebody asks, beside the readers
	turn    chan struct{} // holds a token: one at a time asks

	mu   sync.Mutex    // guards node
	node *redis.Client // of a Cluster: the one that is watched
}

func newPeer(name string) *peer {
	p := &peer{name: name, turn: make(chan struct{}, 1)}
	p.turn <- struct{}{}
	return p
}

func (s *peers) of(server string) *peer {
	if p, ok := s.byServer.Load(server); ok {
		return p.(*peer)
	}
	p, _ := s.byServer.LoadOrStore(server, newPeer(server))
	return p.(*peer)
}

// watch has the connections of a client looked at as they are opened.
func (s *peers) watch(rdb redis.UniversalClient) {
	if s.off {
		return
	}
	switch r := rdb.(type) {
	case *redis.ClusterClient:
		r.OnNewNode(func(node *redis.Client) { s.watchNode(s.of(node.Options().Addr), node) })
	default:
		r.AddHook(doorkeeper{s, s.of(serverOf(rdb)), false})
	}
}

// watchNode is for a Cluster's node. One that the client had before it was handed to New
// is met here when it is first used.
func (s *peers) watchNode(p *peer, node *redis.Client) {
	if s.off || node == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.node != node {
		p.node = node
		node.AddHook(doorkeeper{s, p, true})
	}
}

// client is that of a Cluster's node.
func (p *peer) client() *redis.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// detours notes which commands were answered by another server of a Cluster than they were
// sent to: a client follows redirects by itself.
type detours struct {
	sentTo *peer
	mu     sync.Mutex // guards by
	by     map[redis.Cmder]*peer
}

type detoursKey struct{}

func withDetours(ctx context.Context, sentTo *peer) (context.Context, *detours) {
	d := &detours{sentTo: sentTo}
	return context.WithValue(ctx, detoursKey{}, d), d
}

// sees notes that a command is about to be sent to a peer. Only those are noted that have been elsewhere.
func sees(ctx context.Context, p *peer, cmd redis.Cmder) {
	d, _ := ctx.Value(detoursKey{}).(*detours)
	if d == nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if p == d.sentTo {
		delete(d.by, cmd)
		return
	}
	if d.by == nil {
		d.by = map[redis.Cmder]*peer{}
	}
	d.by[cmd] = p
}

// answeredBy gives the server that had the last word on a command.
func (d *detours) answeredBy(cmd redis.Cmder) *peer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if p := d.by[cmd]; p != nil {
		return p
	}
	return d.sentTo
}
