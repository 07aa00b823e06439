package wtcachetest

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// memoryRedis is a Redis in this process that no network reaches. Its clock stands still
// but for advance. It is safe for concurrent use.
type memoryRedis struct {
	server *miniredis.Miniredis

	mu    sync.Mutex // guards all below
	now   time.Time
	down  bool
	conns map[*pipeConn]bool
}

func newMemoryRedis() *memoryRedis {
	m := &memoryRedis{server: miniredis.NewMiniRedis(), now: time.Now(), conns: map[*pipeConn]bool{}}
	m.server.SetTime(m.now)
	m.server.ClockTTL(true)
	return m
}

var errDown = errors.New("wtcachetest: Redis is down")

// client makes a client that sends each request once and, while Redis is down, fails at once.
// Unless it watches from outside it is cut off by setDown.
func (m *memoryRedis) client(outside bool) *redis.Client {
	return redis.NewClient(&redis.Options{
		// Nobody dials the address; but a name in its place would be looked up in the DNS.
		Addr: "127.0.0.1:6379", Protocol: 2, DisableIdentity: true, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		MaxRetries:               -1, DialerRetries: 1,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return m.dial(outside) },
	})
}

func (m *memoryRedis) dial(outside bool) (net.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.down && !outside {
		// A dead connection rather than a failure to dial, which go-redis would log.
		client, server := net.Pipe()
		conn := newPipeConn(client)
		conn.end(errDown)
		return conn, server.Close()
	}
	pipe, err := m.server.Dial()
	if err != nil {
		return nil, err
	}
	conn := newPipeConn(pipe)
	if !outside {
		m.conns[conn] = true
	}
	return conn, nil
}

// setDown cuts the connections and refuses new ones, or ends that.
func (m *memoryRedis) setDown(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down = down
	if down {
		for conn := range m.conns {
			_ = conn.Close() // it has nobody to tell
		}
		clear(m.conns)
	}
}

// advance moves the clock on, so that what has a life may end.
func (m *memoryRedis) advance(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = m.now.Add(d)
	m.server.SetTime(m.now)
}

// pipeConn lets a client write without waiting for its reader, as a socket does: over a
// bare net.Pipe a pipeline of commands and the replies to its first would wait for each other.
type pipeConn struct {
	net.Conn

	mu     sync.Mutex // guards all below
	filled *sync.Cond
	buffer []byte
	err    error // of the pump, or of Close
}

func newPipeConn(pipe net.Conn) *pipeConn {
	c := &pipeConn{Conn: pipe}
	c.filled = sync.NewCond(&c.mu)
	go c.pump()
	return c
}

func (c *pipeConn) pump() {
	for {
		c.mu.Lock()
		for len(c.buffer) == 0 && c.err == nil {
			c.filled.Wait()
		}
		if c.err != nil {
			c.mu.Unlock()
			return
		}
		chunk := c.buffer
		c.buffer = nil
		c.mu.Unlock()
		if _, err := c.Conn.Write(chunk); err != nil {
			c.end(err)
		}
	}
}

func (c *pipeConn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
	c.filled.Signal()
}

func (c *pipeConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return 0, c.err
	}
	c.buffer = append(c.buffer, b...)
	c.filled.Signal()
	return len(b), nil
}

func (c *pipeConn) Close() error {
	c.end(net.ErrClosed)
	return c.Conn.Close()
}

// A write never waits, so only reads have a deadline.
func (c *pipeConn) SetDeadline(t time.Time) error    { return c.SetReadDeadline(t) }
func (c *pipeConn) SetWriteDeadline(time.Time) error { return nil }
