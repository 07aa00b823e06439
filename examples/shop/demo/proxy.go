package main

import (
	"io"
	"net"
	"sync"
)

// proxy stands between one shop and one server. It listens on TCP, whatever network the server is on. Safe for concurrent use.
type proxy struct {
	listener        net.Listener
	network, target string
	forward         func(client, server net.Conn) // returns when one of the two has ended
	closed          chan struct{}

	mu    sync.Mutex // guards conns and the closing of closed; not held while bytes are moved
	conns map[net.Conn]struct{}
	wg    sync.WaitGroup
}

func newProxy(network, target string, forward func(client, server net.Conn)) (*proxy, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{
		listener: listener, network: network, target: target, forward: forward,
		closed: make(chan struct{}), conns: map[net.Conn]struct{}{},
	}
	return p, nil
}

func (p *proxy) start() { p.wg.Go(p.accept) }

func (p *proxy) addr() *net.TCPAddr { return p.listener.Addr().(*net.TCPAddr) }

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return // closed
		}
		server, err := net.Dial(p.network, p.target)
		if err != nil {
			client.Close() // the shop sees a server that is not there, which is true
			continue
		}
		p.wg.Go(func() { p.serve(client, server) })
	}
}

func (p *proxy) serve(client, server net.Conn) {
	ends := [2]net.Conn{client, server}
	if p.register(ends) {
		p.forward(client, server)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range ends {
		c.Close()
		delete(p.conns, c)
	}
}

// register has close end the connections; false says that it has already been called.
func (p *proxy) register(ends [2]net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return false
	default:
	}
	for _, c := range ends {
		p.conns[c] = struct{}{}
	}
	return true
}

// close ends the proxy and every connection through it.
func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	close(p.closed)
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// both runs the two directions of a connection and closes it when either ends.
func both(client, server net.Conn, requests, replies func() error) {
	var wg sync.WaitGroup
	for _, direction := range []func() error{requests, replies} {
		wg.Go(func() {
			_ = direction() // why a connection ended does not matter here: the shop will say
			client.Close()
			server.Close()
		})
	}
	wg.Wait()
}

func copyTo(dst io.Writer, src io.Reader) func() error {
	return func() error {
		_, err := io.Copy(dst, src)
		return err
	}
}
