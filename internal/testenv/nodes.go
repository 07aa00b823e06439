package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const loopback = "127.0.0.1"

// Ports of servers that have to listen on one lie below those that systems give to outgoing connections, so that a
// killed server finds its own free when it comes back. A Cluster's nodes talk to each other on a second one.
const (
	firstPort   = 11000
	lastPort    = 21999
	busDistance = 10000
)

// pickPort returns a port that is free now, as is the one a bus' distance above it.
func pickPort() (int, error) {
	for range 1000 {
		port := firstPort + rand.IntN(lastPort-firstPort)
		if free(port) && free(port+busDistance) {
			return port, nil
		}
	}
	return 0, errors.New("testenv: no free port")
}

func free(port int) bool {
	l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", loopback, port))
	if err != nil {
		return false
	}
	l.Close()
	return true
}

// redisNode starts a Redis that listens on a port. Another process may take the port just before: then with the next one.
func (s *site) redisNode(ctx context.Context, args ...string) (*redisServer, error) {
	return s.listening(ctx, func(h *home, bin, dir string, port int) (*redisServer, error) {
		return &redisServer{home: h, bin: bin, dir: dir, port: port, args: args}, nil
	})
}

func (s *site) listening(ctx context.Context, prepare func(h *home, bin, dir string, port int) (*redisServer, error)) (*redisServer, error) {
	h, bin, err := s.forRedis()
	if err != nil {
		return nil, err
	}
	for range 5 {
		var r *redisServer
		if r, err = startListening(ctx, h, bin, prepare); err == nil {
			return r, nil
		}
		if ctx.Err() != nil || !strings.Contains(err.Error(), "in use") {
			break
		}
	}
	return nil, err
}

func startListening(ctx context.Context, h *home, bin string, prepare func(h *home, bin, dir string, port int) (*redisServer, error)) (*redisServer, error) {
	port, err := pickPort()
	if err != nil {
		return nil, err
	}
	dir, err := h.room("redis")
	if err != nil {
		return nil, err
	}
	r, err := prepare(h, bin, dir, port)
	if err != nil {
		return nil, err
	}
	return r, r.start(ctx)
}

// startAll runs start n times side by side.
func startAll(n int, start func(i int) (*redisServer, error)) ([]*redisServer, error) {
	servers, errs := make([]*redisServer, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { servers[i], errs[i] = start(i) })
	}
	wg.Wait()
	return servers, errors.Join(errs...)
}

// admin is a client of one server alone, over its socket: it reaches a server whatever its cluster thinks of it.
func (r *redisServer) admin() *redis.Client {
	return redis.NewClient(&redis.Options{
		Network: "unix", Addr: r.socket(), PoolSize: 1, MaxRetries: -1, DialerRetries: 1,
		ContextTimeoutEnabled: true, DisableIdentity: true, Protocol: 2,
		// A server that is paused takes the connection and answers nothing.
		ReadTimeout: time.Second, WriteTimeout: time.Second,
	})
}

// ask sends one command and gives the answer as text, "" where there is none.
func (r *redisServer) ask(ctx context.Context, words ...any) (string, error) {
	c := r.admin()
	defer c.Close()
	text, err := c.Do(ctx, words...).Text()
	if err != nil {
		return "", fmt.Errorf("%v on %s: %w", words, r.addr(), err)
	}
	return text, nil
}

// field is a line `name:value` of what INFO and CLUSTER INFO say.
func field(info, name string) string {
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), name+":"); ok {
			return value
		}
	}
	return ""
}

// awaitTrue asks until there is no error: what is waited for is said by the error.
func awaitTrue(ctx context.Context, what string, ask func() error) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func removeAll(servers []*redisServer) error {
	var errs []error
	for _, r := range servers {
		if r != nil {
			errs = append(errs, r.kill(context.Background()), os.RemoveAll(r.dir))
		}
	}
	return errors.Join(errs...)
}
