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
		w := walker{c: c, node: node, glob: glob, headers: !c.o.NoHeaders, ahead: true}
		err := w.walk(ctx)
		c.stats.SweptKeys.Add(int64(w.touched))
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) walk(ctx context.Context, globs []string, replicas int) (int, error) {
	var touched atomic.Int64
	err := c.eachMaster(ctx, func(ctx context.Context, node redis.UniversalClient) error {
		for _, glob := range globs {
			w := walker{c: c, node: node, glob: glob, headers: !c.o.NoHeaders, replicas: replicas}
			err := w.walk(ctx)
			touched.Add(int64(w.touched))
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

// scan asks for one page of names that hold the glob anywhere, which finds the
// siblings too: their names are built around the key's.
func (c *Client) scan(ctx context.Context, node redis.UniversalClient, cursor, glob string) (names []string, next string, err error) {
	return decodeScan(ctx, c.do(ctx, node, []redis.Cmder{scanCmd(ctx, cursor, glob)})[0])
}

func scanCmd(ctx context.Context, cursor, glob string) redis.Cmder {
	return once(ctx, "scan", cursor, "match", "*"+glob+"*", "count", scanCount)
}

func decodeScan(ctx context.Context, r reply) (names []string, next string, err error) {
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
	names = make([]string, 0, len(list))
	for _, item := range list {
		if name, ok := item.(string); ok {
			names = append(names, name)
		}
	}
	return names, next, nil
}

// walker makes the keys behind the names of one server absent that a glob matches. Of most keys there is a value and
// nothing else, and to delete that takes no script, which would cost ten times as much: what is met under a key's own
// name is deleted, and what is met under a sibling's is for the script. SCAN gives all names that are there all the
// time, so a lease or a fence is met under its own name, too. What one page asks for goes out with the request for
// the next.
//
// Where replicas are waited for all is for the script, which is sent once: tried again it would find nothing to
// delete, and since Redis 7.2 a connection that has changed nothing has nothing to WAIT for.
type walker struct {
	c        *Client
	node     redis.UniversalClient
	glob     string
	replicas int
	ahead    bool // values alone, and what fails is left
	// headers says that a value's header is deleted with it. A header without a value is served to nobody, but takes up room,
	// and a script in each walk, until it expires.
	headers bool
	touched int
}

func (w *walker) walk(ctx context.Context) error {
	var values []string // of the page before
	for cursor := "0"; ; {
		names, next, err := w.turn(ctx, values, cursor)
		if err != nil {
			return err
		}
		var siblings []string
		values, siblings = w.page(names)
		if err := w.end(ctx, siblings); err != nil {
			return err
		}
		if w.ahead && ctx.Err() != nil {
			return ctx.Err()
		}
		if next == "0" {
			_, _, err := w.turn(ctx, values, "")
			return err
		}
		cursor = next
	}
}

// turn deletes values and asks for the page at a cursor, where one is given, in one round trip.
func (w *walker) turn(ctx context.Context, values []string, cursor string) (names []string, next string, err error) {
	cmds := w.deletions(ctx, values)
	n := len(cmds)
	if cursor != "" {
		cmds = append(cmds, scanCmd(ctx, cursor, w.glob))
	}
	if len(cmds) == 0 {
		return nil, "", nil
	}
	replies := w.c.do(ctx, w.node, cmds)
	if err := w.end(ctx, w.deleted(replies[:n], values)); err != nil || cursor == "" {
		return nil, "", err
	}
	if replies[n].err != nil && n > 0 && !w.ahead {
		return w.turn(ctx, nil, cursor) // the connection was lost, and the script has come through since
	}
	return decodeScan(ctx, replies[n])
}

// end makes keys absent by the script.
func (w *walker) end(ctx context.Context, keys []string) error {
	if len(keys) == 0 || w.ahead {
		return nil
	}
	n, err := w.c.invalidate(ctx, keys, "", w.replicas)
	w.touched += n
	return err
}

// page gives the keys behind a page of names of which the value is to be deleted, and those that are for the script.
func (w *walker) page(names []string) (values, siblings []string) {
	w.headers = w.headers || slices.ContainsFunc(names, isHeader)
	if w.ahead {
		names = slices.DeleteFunc(names, isHeader) // one that is met before its value goes with it
	}
	values, siblings = owned(names, w.glob)
	if w.replicas > 0 {
		slices.Sort(values)
		return nil, append(siblings, slices.Compact(values)...)
	}
	return values, siblings
}

// deletions are commands that delete values, and headers where there are any.
func (w *walker) deletions(ctx context.Context, keys []string) (cmds []redis.Cmder) {
	for some := range slices.Chunk(keys, w.together(keys)) {
		args := make([]any, 1, 1+2*len(some))
		args[0] = "del"
		for _, key := range some {
			args = append(args, key)
			if w.headers {
				s, _ := siblingsOf(key) // owned has seen that it may have some
				args = append(args, s.meta)
			}
		}
		cmds = append(cmds, once(ctx, args...))
	}
	return cmds
}

// together is how many keys a command may delete, at least one: in a Cluster they lie in different slots.
func (w *walker) together(keys []string) int {
	if w.c.single {
		return max(1, len(keys))
	}
	return 1
}

// deleted counts what has been deleted, and gives the keys of which that is not known: those
// are for the script, which waits for slots that move and says what is wrong.
func (w *walker) deleted(replies []reply, keys []string) (left []string) {
	each := w.together(keys)
	for i, r := range replies {
		some := keys[i*each : min((i+1)*each, len(keys))]
		n, ok := r.val.(int64)
		if r.err != nil || !ok {
			left = append(left, some...)
			continue
		}
		w.touched += int(min(n, int64(len(some)))) // a value and its header are one
	}
	w.c.stats.Invalidations.Add(int64(len(keys) - len(left)))
	return left
}

// owned gives the keys behind the names found that the glob really matches: those of which only the own
// name was found, as often as it was, and the others, once each.
func owned(names []string, glob string) (values, siblings []string) {
	values = make([]string, 0, len(names))
	for _, name := range names {
		if _, ok := mayHaveSiblings(name); ok && matchGlob(glob, name) {
			values = append(values, name)
		}
		for _, key := range siblingOf(name) {
			s, ok := siblingsOf(key)
			if ok && matchGlob(glob, key) && (name == s.control || name == s.meta || name == s.pointer) {
				siblings = append(siblings, key)
			}
		}
	}
	if len(siblings) == 0 {
		return values, nil
	}
	slices.Sort(siblings)
	siblings = slices.Compact(siblings)
	values = slices.DeleteFunc(values, func(key string) bool {
		_, there := slices.BinarySearch(siblings, key)
		return there
	})
	return values, siblings
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
