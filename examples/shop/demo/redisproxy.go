package main

import (
	"bytes"
	"net"
	"strconv"
	"strings"
	"sync"
)

// redisProxy stands between a shop and Redis and can keep requests from reaching it.
type redisProxy struct {
	*proxy

	mu   sync.Mutex    // guards what follows; not held while bytes are moved
	gate chan struct{} // closed to let requests pass again; nil while they pass
	held chan string   // gets the first request that waits at the gate
}

func newRedisProxy(network, target string) (*redisProxy, error) {
	p := &redisProxy{}
	var err error
	p.proxy, err = newProxy(network, target, func(client, server net.Conn) {
		both(client, server, func() error { return p.copyRequests(server, client) }, copyTo(client, server))
	})
	if err != nil {
		return nil, err
	}
	p.start()
	return p, nil
}

// hold keeps back every request from now on. The channel gets a description of the first one that waits.
func (p *redisProxy) hold() (first <-chan string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate, p.held = make(chan struct{}), make(chan string, 1)
	return p.held
}

// release lets pass what waits, and what follows.
func (p *redisProxy) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gate != nil {
		close(p.gate)
		p.gate = nil
	}
}

func (p *redisProxy) copyRequests(server, client net.Conn) error {
	chunk := make([]byte, 32<<10)
	for {
		n, err := client.Read(chunk)
		if err != nil {
			return err
		}
		if !p.pass(chunk[:n]) {
			return errCut
		}
		if _, err := server.Write(chunk[:n]); err != nil {
			return err
		}
	}
}

// pass waits until the gate is open; false says that the proxy has ended.
func (p *redisProxy) pass(chunk []byte) bool {
	p.mu.Lock()
	gate, held := p.gate, p.held
	p.mu.Unlock()
	if gate == nil {
		return true
	}
	select {
	case held <- describe(chunk):
	default: // not the first
	}
	select {
	case <-gate:
		return true
	case <-p.closed:
		return false
	}
}

// describe gives the command at the head of a request and the key that it concerns.
// Source: https://redis.io/docs/latest/develop/reference/protocol-spec/ (arrays of bulk strings)
func describe(request []byte) string {
	words := firstWords(request, 4)
	if len(words) == 0 {
		return "a request"
	}
	name := strings.ToUpper(words[0])
	switch {
	case (name == "EVAL" || name == "EVALSHA") && len(words) == 4:
		return name + " on " + words[3] // name, script, number of keys, key
	case len(words) > 1:
		return name + " " + words[1]
	}
	return name
}

// firstWords reads up to n words of a request's array.
func firstWords(request []byte, n int) (words []string) {
	if len(request) == 0 || request[0] != '*' {
		return nil
	}
	_, rest, _ := bytes.Cut(request, []byte("\r\n"))
	for len(words) < n && len(rest) > 0 && rest[0] == '$' {
		length, body, _ := bytes.Cut(rest[1:], []byte("\r\n"))
		size, err := strconv.Atoi(string(length))
		if err != nil || size < 0 || size+2 > len(body) {
			return words
		}
		words = append(words, string(body[:size]))
		rest = body[size+2:]
	}
	return words
}
