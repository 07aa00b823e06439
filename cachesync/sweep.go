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

// SweepAhead begins to delete values of keys that match the globs, in one walk, and does not wait for it: done is
// closed when it has ended. A key with a lease, a fence or an entry in format Versioned is left where that shows in
// the page that shows its value. It promises nothing: it is for a caller who is about to Sweep, and has to wait for
// something else first. It ends with the context, with Close, or with the first call that fails; what it has sent by
// then may arrive later, and costs a miss.
func (c *Client) SweepAhead(ctx context.Context, globs []string) (done <-chan struct{}) {
	ended := make(chan struct{})
	if !c.begin() {
		close(ended)
		return ended
	}
	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(c.ctx, cancel)
	go func() {
		defer c.background.Done()
		defer close(ended)
		defer cancel()
		defer unhook()
		_ = c.eachMaster(ctx, func(ctx context.Context, node redis.UniversalClient) error { // Sweep will meet it, too
			return c.walkAhead(ctx, node, globs)
		})
	}()
	return ended
}

func (c *Client) walkAhead(ctx context.Context, node redis.UniversalClient, globs []string) error {
	for _, glob := range globs {
		if err := c.walkPages(ctx, node, glob, func(names []string) error {
			// A header goes with its value.
			values, _ := owned(slices.DeleteFunc(names, isHeader), glob)
			if len(values) > 0 && ctx.Err() == nil {
				n, _ := c.deleteValues(ctx, node, values)
				c.stats.SweptKeys.Add(int64(n))
			}
			return ctx.Err()
		}); err != nil {
			return err
		}
	}
	return nil
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
	err = c.walkPages(ctx, node, glob, func(names []string) error {
		n, err := c.sweepPage(ctx, node, names, glob, replicas)
		touched += n
		return err
	})
	return touched, err
}

// walkPages calls fn with each page of names that hold the glob.
func (c *Client) walkPages(ctx context.Context, node redis.UniversalClient, glob string, fn func(names []string) error) error {
	for cursor := "0"; ; {
		names, next, err := c.scan(ctx, node, cursor, glob)
		if err == nil {
			err = fn(names)
		}
		if err != nil || next == "0" {
			return err
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

// sweepPage makes the keys behind a page of names absent. Of most keys there is a value and nothing else, and
// to delete that takes no script, which would cost ten times as much: what is met under a key's own name is
// deleted, and what is met under a sibling's is for the script. SCAN gives all names that are there all the
// time, so a lease or a fence is met under its own name, too. Where replicas are waited for all is for the
// script, which is sent once: tried again it would find nothing to delete, and since Redis 7.2 a connection
// that has changed nothing has nothing to WAIT for.
func (c *Client) sweepPage(ctx context.Context, node redis.UniversalClient, names []string, glob string, replicas int) (touched int, err error) {
	values, siblings := owned(names, glob)
	switch {
	case replicas > 0:
		siblings = append(siblings, values...)
	case len(values) > 0:
		var left []string
		touched, left = c.deleteValues(ctx, node, values)
		siblings = append(siblings, left...)
	}
	if len(siblings) == 0 {
		return touched, nil
	}
	n, err := c.invalidate(ctx, siblings, "", replicas)
	return touched + n, err
}

// deleteValues deletes values and their headers, and gives the keys of which that is not known: those
// are for the script, which waits for slots that move and says what is wrong.
func (c *Client) deleteValues(ctx context.Context, node redis.UniversalClient, keys []string) (deleted int, left []string) {
	var cmds []redis.Cmder
	each := len(keys) // a command's keys
	if !c.single {
		each = 1 // they lie in different slots
	}
	for some := range slices.Chunk(keys, each) {
		args := make([]any, 1, 1+2*len(some))
		args[0] = "del"
		for _, key := range some {
			args = append(args, key)
			if s, ok := siblingsOf(key); ok {
				args = append(args, s.meta)
			}
		}
		cmds = append(cmds, once(ctx, args...))
	}
	for i, r := range c.do(ctx, node, cmds) {
		n, ok := r.val.(int64)
		if r.err != nil || !ok {
			left = append(left, keys[i*each:min((i+1)*each, len(keys))]...)
			continue
		}
		deleted += int(min(n, int64(each))) // a value and its header are one
	}
	c.stats.Invalidations.Add(int64(len(keys) - len(left)))
	return deleted, left
}

// owned gives the keys behind the names found, once each, that the glob really
// matches: those of which only the own name was found, and the others.
func owned(names []string, glob string) (values, siblings []string) {
	for _, name := range names {
		for _, key := range owners(name) {
			s, ok := siblingsOf(key)
			switch {
			case !ok || !matchGlob(glob, key):
			case name == s.key:
				values = append(values, key)
			case name == s.control || name == s.meta || name == s.pointer:
				siblings = append(siblings, key)
			}
		}
	}
	slices.Sort(siblings)
	siblings = slices.Compact(siblings)
	values = slices.DeleteFunc(values, func(key string) bool {
		_, there := slices.BinarySearch(siblings, key)
		return there
	})
	slices.Sort(values)
	return slices.Compact(values), siblings
}

// SweptKeys gives the keys whose values a command of a sweep deletes, for those who watch a client's commands;
// ok is false for any other command.
func SweptKeys(args []any) (keys []string, ok bool) {
	if len(args) < 2 || args[0] != "del" {
		return nil, false
	}
	var header string // of the key before
	for _, arg := range args[1:] {
		name, isText := arg.(string)
		if !isText {
			return nil, false
		}
		if name == header {
			continue
		}
		keys = append(keys, name)
		if s, ok := siblingsOf(name); ok {
			header = s.meta
		}
	}
	return keys, true
}
