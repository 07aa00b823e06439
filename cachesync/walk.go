package cachesync

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Walk calls fn with the keys that match the glob, a page at a time, on every master of a
// Cluster, one after the other. A key counts that has a value or a fence; each is met at least once if it
// is there all the time, and seldom twice. With random, each server's keys are walked from a place drawn
// at random, and may be met twice. fn ends a server's walk by returning
// false. server counts the servers, of which there are servers, from 0. An error wraps ErrUnavailable or the context's error.
func (c *Client) Walk(ctx context.Context, glob string, random bool, fn func(keys []string, server, servers int) (more bool, err error)) error {
	nodes, err := c.masters(ctx)
	if err != nil {
		return err
	}
	for i, node := range nodes {
		page := func(keys []string) (bool, error) { return fn(keys, i, len(nodes)) }
		if err := c.walkThrough(ctx, node, glob, random, page); err != nil {
			return fmt.Errorf("walk %q: %w", glob, err)
		}
	}
	return nil
}

func (c *Client) masters(ctx context.Context) ([]redis.UniversalClient, error) {
	var mu sync.Mutex // guards nodes
	var nodes []redis.UniversalClient
	err := c.eachMaster(ctx, func(_ context.Context, node redis.UniversalClient) error {
		mu.Lock()
		defer mu.Unlock()
		nodes = append(nodes, node)
		return nil
	})
	return nodes, err
}

// walkThrough begins at a cursor drawn at random, and then from the start. Redis takes any
// number for a cursor.
// Source: https://redis.io/docs/latest/commands/scan/#calling-scan-with-a-corrupted-cursor
func (c *Client) walkThrough(ctx context.Context, node redis.UniversalClient, glob string, random bool, fn func([]string) (bool, error)) error {
	starts := []string{"0"}
	if random {
		starts = []string{strconv.FormatUint(uint64(rand.Uint32())+1, 10), "0"}
	}
	for _, cursor := range starts {
		for {
			names, next, err := c.scan(ctx, node, cursor, glob)
			if err != nil {
				return err
			}
			if keys := audited(names, glob); len(keys) > 0 {
				if more, err := fn(keys); err != nil || !more {
					return err
				}
			}
			if next == "0" {
				break
			}
			cursor = next
		}
	}
	return nil
}

// audited gives the keys behind the names that have a value or are fenced: a header alone
// stands for nothing.
func audited(names []string, glob string) []string {
	var keys []string
	for _, name := range names {
		for _, key := range owners(name) {
			s, ok := siblingsOf(key)
			if ok && (name == s.key || name == s.control || name == s.pointer) && matchGlob(glob, key) {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// Turn takes a name in Redis for so long that one process alone does a work of which once in that
// time is enough. It is false where another has it. Errors are those of other requests.
func (c *Client) Turn(ctx context.Context, name string, life time.Duration) (bool, error) {
	r := c.do(ctx, c.rdb, []redis.Cmder{once(ctx, "set", name, newToken(), "nx", "px", millis(life))})[0]
	switch r.err {
	case nil:
		return true, nil
	case redis.Nil:
		return false, nil
	}
	return false, explain(ctx, r.err)
}

// Prolong gives a turn a new life. It is of use only to who has it.
func (c *Client) Prolong(ctx context.Context, name string, life time.Duration) error {
	r := c.do(ctx, c.rdb, []redis.Cmder{once(ctx, "pexpire", name, millis(life))})[0]
	if r.err != nil {
		return explain(ctx, r.err)
	}
	return nil
}
