package torture

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// Link is a small TCP proxy: the way of one process to one server. It is safe for concurrent use.
type Link struct {
	// Addr is what the process dials, host and port.
	Addr string

	network, target string
	listener        net.Listener
	closed          chan struct{}
	wg              sync.WaitGroup

	mu      sync.Mutex // guards the rest; not held while bytes are moved
	conns   map[net.Conn]struct{}
	gate    chan struct{} // closed by Heal; nil: bytes pass
	refuses bool
	slow    time.Duration
	lossy   int
	snare   *Snare
	held    []*Snare // what they hold is for Heal to let go, if nobody else does
	pids    map[net.Conn]int
}

// NewLink listens on a free port of 127.0.0.1 until Close.
func NewLink(network, target string) (*Link, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &Link{
		Addr: listener.Addr().String(), network: network, target: target, listener: listener,
		closed: make(chan struct{}), conns: map[net.Conn]struct{}{}, pids: map[net.Conn]int{},
	}
	l.wg.Go(l.accept)
	return l, nil
}

// Hold is a partition: nothing passes, connections stay open and new ones are taken. What was sent meanwhile arrives after Heal.
func (l *Link) Hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate == nil {
		l.gate = make(chan struct{})
	}
}

// Refuse cuts all connections and refuses new ones.
func (l *Link) Refuse() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refuses = true
	l.cut()
}

// Slow delays every piece by up to so long.
func (l *Link) Slow(longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow = longest
}

// Lossy cuts the connection in the middle of one piece in so many.
func (l *Link) Lossy(one int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lossy = one
}

// Heal ends all that was done to the link.
func (l *Link) Heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gate != nil {
		close(l.gate)
	}
	l.gate, l.refuses, l.slow, l.lossy = nil, false, 0, 0
	for _, s := range l.held {
		s.Release(true)
	}
	l.snare, l.held = nil, nil
}

// Snare holds one request, or the answer to it, back.
type Snare struct {
	match   []byte
	reply   bool
	sprung  bool          // guarded by the link's mu: the request has passed, and its answer is awaited
	client  net.Conn      // whose answer it is; guarded like sprung
	pid     int           // of the Postgres session on that connection; set before caught is closed
	caught  chan struct{} // closed when something is held
	verdict chan bool
	once    sync.Once
}

// Catch holds the next request that contains match back, or the answer that follows it.
func (l *Link) Catch(match string, reply bool) *Snare {
	s := &Snare{match: []byte(match), reply: reply, caught: make(chan struct{}), verdict: make(chan bool, 1)}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.snare = s
	return s
}

// Caught is closed when something is held.
func (s *Snare) Caught() <-chan struct{} { return s.caught }

// Session is the process id of the Postgres session whose request is held; it may be asked for once something is.
func (s *Snare) Session() int { return s.pid }

// Release lets pass what is held, or will be, or cuts its connection. The first call counts.
func (s *Snare) Release(pass bool) { s.once.Do(func() { s.verdict <- pass }) }

// Close ends the link and all of its connections.
func (l *Link) Close() {
	close(l.closed)
	l.listener.Close()
	l.mu.Lock()
	l.cut()
	l.mu.Unlock()
	l.wg.Wait()
}

// cut is called with mu held.
func (l *Link) cut() {
	for c := range l.conns {
		c.Close()
	}
}

func (l *Link) accept() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return // closed
		}
		l.wg.Go(func() { l.serve(client) })
	}
}

func (l *Link) serve(client net.Conn) {
	defer client.Close()
	if !l.register(client) || !l.pass() {
		return
	}
	defer l.forget(client)
	server, err := net.Dial(l.network, l.target)
	if err != nil {
		return // the process sees what it sees of a dead server behind a load balancer
	}
	defer server.Close()
	if !l.register(server) {
		return
	}
	defer l.forget(server)
	var both sync.WaitGroup
	both.Go(func() { l.pump(client, client, server, false) })
	both.Go(func() { l.pump(client, server, client, true) })
	both.Wait()
}

// register is false where the connection must not be.
func (l *Link) register(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.closed:
		return false
	default:
	}
	if l.refuses {
		return false
	}
	l.conns[c] = struct{}{}
	return true
}

func (l *Link) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	delete(l.pids, c)
}

// pump moves one direction until either side ends. What was taken from one side is still sent to the other: a request may
// arrive when its sender has gone.
func (l *Link) pump(client, from, to net.Conn, reply bool) {
	defer from.Close()
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !l.forward(client, to, buf[:n], reply) {
			return
		}
		if err != nil {
			return
		}
	}
}

func (l *Link) forward(client, to net.Conn, piece []byte, reply bool) bool {
	if !l.ensnare(client, piece, reply) || !l.pass() {
		return false
	}
	l.mu.Lock()
	slow, lossy := l.slow, l.lossy
	l.mu.Unlock()
	if slow > 0 {
		time.Sleep(rand.N(slow))
	}
	if lossy > 0 && rand.IntN(lossy) == 0 {
		_, _ = to.Write(piece[:rand.IntN(len(piece))])
		return false
	}
	_, err := to.Write(piece)
	return err == nil
}

// pass waits while the link is held; it is false when the link has closed.
func (l *Link) pass() bool {
	l.mu.Lock()
	gate := l.gate
	l.mu.Unlock()
	if gate == nil {
		return true
	}
	select {
	case <-gate:
		return true
	case <-l.closed:
		return false
	}
}

// ensnare holds a piece that the snare is set for; it is false where the connection is to be cut.
func (l *Link) ensnare(client net.Conn, piece []byte, reply bool) bool {
	s := l.springs(client, piece, reply)
	if s == nil {
		return true
	}
	close(s.caught)
	select {
	case pass := <-s.verdict:
		return pass
	case <-l.closed:
		return false
	}
}

func (l *Link) springs(client net.Conn, piece []byte, reply bool) *Snare {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.learn(client, piece, reply)
	s := l.snare
	switch {
	case s == nil:
		return nil
	case reply:
		if !s.sprung || s.client != client {
			return nil
		}
	case s.sprung || !bytes.Contains(bytes.ToLower(piece), s.match):
		return nil
	case s.reply:
		s.sprung, s.client = true, client
		return nil
	}
	l.snare, l.held = nil, append(l.held, s)
	s.pid = l.pids[client]
	return s
}

// backendKeyData is how Postgres' message with the process id of a new session begins.
// Source: https://www.postgresql.org/docs/current/protocol-message-formats.html#PROTOCOL-MESSAGE-FORMATS-BACKENDKEYDATA
var backendKeyData = []byte("K\x00\x00\x00\x0c")

// learn takes down which session a connection leads to. It is called with mu held.
func (l *Link) learn(client net.Conn, piece []byte, reply bool) {
	if !reply || l.pids[client] != 0 {
		return
	}
	if at := bytes.Index(piece, backendKeyData); at >= 0 && len(piece) >= at+9 {
		l.pids[client] = int(binary.BigEndian.Uint32(piece[at+5:]))
	}
}
