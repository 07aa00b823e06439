package testenv

import (
	"net"
	"slices"
	"sync"
)

// link is one connection through a Proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	matcher        matcher // used by the requests' goroutine alone

	mu       sync.Mutex // guards awaiting
	awaiting *Trap      // catches the next reply
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		p.wg.Go(func() { p.serve(client) })
	}
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close()
	if !p.awaitResume() {
		return
	}
	server, err := net.Dial(p.network, p.target)
	if err != nil {
		return // the client sees what it would see of a dead server behind a load balancer
	}
	l := &link{proxy: p, client: client, server: server}
	if !p.add(l) {
		server.Close()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(Requests, client, server) })
	both.Go(func() { l.pump(Replies, server, client) })
	both.Wait()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// add returns false where the proxy closed in the meantime; it would not know of the link.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return false
	default:
		p.links[l] = struct{}{}
		return true
	}
}

func (l *link) close() {
	l.client.Close()
	l.server.Close()
}

// pump forwards one direction until either side ends; neither protocol closes halfway.
func (l *link) pump(d Direction, from, to net.Conn) {
	defer l.close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !l.forward(d, buf[:n], to) {
			return
		}
		if err != nil {
			return
		}
	}
}

// forward passes a chunk on, or returns false where the connection is to be cut.
func (l *link) forward(d Direction, chunk []byte, to net.Conn) bool {
	if !l.proxy.awaitResume() || !l.check(d, chunk) {
		return false
	}
	allowed, limit := l.proxy.allowance(d, len(chunk))
	if _, err := to.Write(chunk[:allowed]); err != nil {
		return false
	}
	if limit != nil {
		l.close()
		close(limit.reached)
		return false
	}
	return true
}

// check consults the traps. One for a reply is set before the request goes on, because the reply may be quick.
func (l *link) check(d Direction, chunk []byte) bool {
	trap := l.takeAwaited(d)
	if d == Requests {
		trap = l.proxy.takeTrap(&l.matcher, chunk)
		if trap != nil && trap.onReply {
			l.mu.Lock()
			l.awaiting = trap
			l.mu.Unlock()
			return true
		}
	}
	return trap == nil || trap.hold(l.proxy.closed)
}

func (l *link) takeAwaited(d Direction) *Trap {
	if d == Requests {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	trap := l.awaiting
	l.awaiting = nil
	return trap
}

// takeTrap removes and returns the trap that a request falls into.
func (p *Proxy) takeTrap(m *matcher, chunk []byte) *Trap {
	p.mu.Lock()
	defer p.mu.Unlock()
	trap := m.next(chunk, p.traps)
	if trap != nil {
		p.traps = slices.DeleteFunc(p.traps, func(t *Trap) bool { return t == trap })
	}
	return trap
}

// allowance returns how many of n bytes may pass, and the limit that forbids the others.
func (p *Proxy) allowance(d Direction, n int) (int, *limit) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.limits[d]
	if l == nil {
		return n, nil
	}
	if n <= l.left {
		l.left -= n
		return n, nil
	}
	p.limits[d] = nil
	return l.left, l
}

// awaitResume waits while the proxy is paused; it returns false when the proxy closes.
func (p *Proxy) awaitResume() bool {
	p.mu.Lock()
	paused := p.paused
	p.mu.Unlock()
	if paused == nil {
		return true
	}
	select {
	case <-paused:
		return true
	case <-p.closed:
		return false
	}
}
