package testenv

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
)

// Direction is one of the two ways through a Proxy.
type Direction int

const (
	Requests Direction = iota // from the client to the server
	Replies                   // from the server to the client
)

// Proxy forwards connections to a server and disturbs them at chosen points. Safe for concurrent use.
type Proxy struct {
	// Addr is what clients dial: a socket's path, or host and port.
	Addr string
	// URL is the server's URL with the proxy in its place; only ProxyURL sets it.
	URL string

	t               testing.TB
	network, target string
	listener        net.Listener
	closed          chan struct{}
	wg              sync.WaitGroup

	mu     sync.Mutex // guards the rest; not held while bytes are read or written
	links  map[*link]struct{}
	traps  []*Trap
	limits [2]*limit
	paused chan struct{} // closed by Resume; nil while not paused
}

// limit lets so many more bytes pass in one direction.
type limit struct {
	left    int
	reached chan struct{}
}

// NewProxy starts a proxy to target on network, "unix" or "tcp"; it listens on the same network. It ends with the test.
func NewProxy(t testing.TB, network, target string) *Proxy {
	t.Helper()
	addr, err := listenAddress(network)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		Addr:     listener.Addr().String(),
		t:        t,
		network:  network,
		target:   target,
		listener: listener,
		closed:   make(chan struct{}),
		links:    map[*link]struct{}{},
	}
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// ProxyURL is NewProxy for a server named by a URL, as Postgres and Redis return it; the proxy's URL reaches the same
// database. TLS is not supported.
func ProxyURL(t testing.TB, serverURL string) *Proxy {
	t.Helper()
	if scheme, _, _ := strings.Cut(serverURL, ":"); scheme == "redis" || scheme == "unix" {
		return redisProxy(t, serverURL)
	}
	cfg, err := pgconn.ParseConfig(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	network, address := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	p := NewProxy(t, network, address)
	host, port := filepath.Dir(p.Addr), "5432"
	if p.network == "tcp" {
		if host, port, err = net.SplitHostPort(p.Addr); err != nil {
			t.Fatal(err)
		}
	}
	p.URL = withParameter(withParameter(serverURL, "host", host), "port", port)
	return p
}

func redisProxy(t testing.TB, serverURL string) *Proxy {
	t.Helper()
	opts, err := redis.ParseURL(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(serverURL)
	if err != nil {
		t.Fatal(err)
	}
	p := NewProxy(t, opts.Network, opts.Addr)
	if p.network == "unix" {
		u.Path = p.Addr
	} else {
		u.Host = p.Addr
	}
	p.URL = u.String()
	return p
}

// listenAddress names a unix socket as Postgres does, so that pgx finds it in its folder.
func listenAddress(network string) (string, error) {
	if network != "unix" {
		return "127.0.0.1:0", nil
	}
	h, err := shared.get()
	if err != nil {
		return "", err
	}
	dir, err := h.room("proxy")
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, ".s.PGSQL.5432"), nil
}

// Pause holds back all bytes in both directions until Resume; connections stay open and new ones are accepted.
func (p *Proxy) Pause() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused == nil {
		p.paused = make(chan struct{})
	}
}

// Resume ends a Pause; what was held back goes on.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.paused != nil {
		close(p.paused)
		p.paused = nil
	}
}

// Cut closes all connections; new ones are accepted.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.close()
	}
}

// CutAfterBytes lets n more bytes pass in a direction, counted over all connections, and then closes the connection that
// has more to send. The returned channel is closed when that has happened.
func (p *Proxy) CutAfterBytes(d Direction, n int) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &limit{left: n, reached: make(chan struct{})}
	p.limits[d] = l
	return l.reached
}

// HoldRequest catches the next request that contains match, whatever its letters' case, before the server sees it. Only its
// own connection waits.
func (p *Proxy) HoldRequest(match string) *Trap { return p.set(newTrap(match, false)) }

// HoldReply lets the next request that contains match reach the server and catches what the server says next: the
// request has taken effect and the client does not know. It takes a connection with one request under way at a time, else
// an earlier request's reply may be caught.
func (p *Proxy) HoldReply(match string) *Trap { return p.set(newTrap(match, true)) }

// CutRequest closes the connection instead of forwarding the next request that contains match. The returned channel is
// closed when that has happened.
func (p *Proxy) CutRequest(match string) <-chan struct{} {
	t := newTrap(match, false)
	t.Cut()
	return p.set(t).Reached()
}

// CutReply forwards the next request that contains match and closes the connection instead of forwarding the reply. The
// returned channel is closed when the server has answered.
func (p *Proxy) CutReply(match string) <-chan struct{} {
	t := newTrap(match, true)
	t.Cut()
	return p.set(t).Reached()
}

func (p *Proxy) set(trap *Trap) *Trap {
	p.t.Helper()
	if n := len(trap.match); n == 0 || n > longestMatch {
		p.t.Fatalf("testenv: a proxy matches 1 to %d bytes, not %d", longestMatch, n)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.traps = append(p.traps, trap)
	return trap
}

func (p *Proxy) close() {
	close(p.closed)
	p.listener.Close()
	p.Cut()
	p.wg.Wait()
	if p.network == "unix" {
		if err := os.RemoveAll(filepath.Dir(p.Addr)); err != nil {
			p.t.Error(err)
		}
	}
}
