package cachesync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// scanCount is the work of one SCAN call, not the number of its results.
const scanCount = 500

// Sweep makes every key absent that matches one of the globs (as for Redis'
// SCAN): values and leases end, live fences become dirty, also where a key has
// control state and no value. It walks the keyspace twice for each glob, on
// every master of a Cluster: a lease that is older than the barrier may be
// filled behind the first walk, and no lease is left to fill behind the
// second. The caller holds a Fence on the rule's barrier key meanwhile.
//
// It returns how many keys it met with anything to end, those met by both
// walks twice. On error some keys may be untouched. The context bounds the
// whole; each call has its own deadline. A walk can miss keys that change
// servers, or whose server does: where slots move, or a server failed over or
// began anew meanwhile, Sweep returns an error that wraps ErrUnavailable.
func (c *Client) Sweep(ctx context.Context, globs []string) (touched int, err error) {
	return c.SweepReplicated(ctx, globs, 0)
}

// SweepReplicated is Sweep, and fails where fewer than so many replicas of a server have
// acknowledged what it has done: a failover to one of them keeps it.
func (c *Client) SweepReplicated(ctx context.Context, globs []string, replicas int) (touched int, err error) {
	if len(globs) == 0 {
		return 0, nil
	}
	before, err := c.layout(ctx)
	if err != nil {
		return 0, err
	}
	for walk := range 2 {
		n, err := c.walk(ctx, globs, replicas)
		touched += n
		if err != nil {
			return touched, err
		}
		if walk == 0 {
			c.hooks.swept.run()
		}
	}
	if after, err := c.layout(ctx); err != nil || after != before {
		return touched, explain(ctx, cmp.Or(err, errMoved))
	}
	c.stats.Sweeps.Add(1)
	c.stats.SweptKeys.Add(int64(touched))
	return touched, nil
}

func (c *Client) walk(ctx context.Context, globs []string, replicas int) (int, error) {
	var touched atomic.Int64
	err := c.eachMaster(ctx, func(ctx context.Context, node redis.UniversalClient) error {
		for _, glob := range globs {
			n, err := c.walkNode(ctx, node, glob, replicas)
			touched.Add(int64(n))
			if err != nil {
				return fmt.Errorf("sweep %q: %w", glob, err)
			}
		}
		return nil
	})
	return int(touched.Load()), err
}

// eachMaster calls fn for every server that holds keys, side by side in a
// Cluster.
func (c *Client) eachMaster(ctx context.Context, fn func(context.Context, redis.UniversalClient) error) error {
	cluster, ok := c.rdb.(*redis.ClusterClient)
	if !ok {
		return fn(ctx, c.rdb)
	}
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		return fn(ctx, node)
	})
	if err != nil {
		return explain(ctx, err)
	}
	return err
}

func (c *Client) walkNode(ctx context.Context, node redis.UniversalClient, glob string, replicas int) (touched int, err error) {
	cursor := "0"
	for {
		names, next, err := c.scan(ctx, node, cursor, glob)
		if err != nil {
			return touched, err
		}
		if keys := owned(names, glob); len(keys) > 0 {
			n, err := c.invalidate(ctx, keys, "", replicas)
			touched += n
			if err != nil {
				return touched, err
			}
		}
		if next == "0" {
			return touched, nil
		}
		cursor = next
	}
}

// scan asks for one page of names that hold the glob anywhere, which finds the
// siblings too: their names are built around the key's.
func (c *Client) scan(ctx context.Context, node redis.UniversalClient, cursor, glob string) (names []string, next string, err error) {
	cmd := onceCmd{redis.NewCmd(ctx, "scan", cursor, "match", "*"+glob+"*", "count", scanCount)}
	r := c.do(ctx, node, []redis.Cmder{cmd})[0]
	if r.err != nil {
		return nil, "", explain(ctx, r.err)
	}
	page, ok := r.val.([]any)
	if !ok || len(page) != 2 {
		return nil, "", errors.New("decode SCAN: not a cursor and a list")
	}
	next, ok = page[0].(string)
	list, ok2 := page[1].([]any)
	if !ok || !ok2 {
		return nil, "", errors.New("decode SCAN: not a cursor and a list")
	}
	for _, item := range list {
		if name, ok := item.(string); ok {
			names = append(names, name)
		}
	}
	return names, next, nil
}

// owned gives the keys behind the names found, once each, that the glob really
// matches.
func owned(names []string, glob string) []string {
	var keys []string
	for _, name := range names {
		for _, key := range owners(name) {
			s, ok := siblingsOf(key)
			if ok && (name == s.key || name == s.control || name == s.meta || name == s.pointer) && matchGlob(glob, key) {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
