package wtcachetest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/cachesync"
)

// operation is one thing that happened: a statement, or a step of the protocol on a key.
type operation struct {
	verb    string   // fence, apply, …; or a statement's text
	key     string   // "" for a statement
	note    string   // what came of it, where that is not the usual
	payload string   // what was stored
	commits bool     // the statement committed what was written before it, or itself
	read    []string // keys whose rows a reader took from the database
}

// String is how the operation is listed.
func (o operation) String() string {
	text := o.verb
	if o.key != "" {
		text += " " + o.key
	}
	if o.payload != "" {
		text += " " + o.payload
	}
	if o.note != "" {
		text += ": " + o.note
	}
	return text
}

// onCache says that the operation is one on a key.
func (o operation) onCache() bool { return o.key != "" }

// log is what happened, in order. It is safe for concurrent use.
type log struct {
	// inspect reads what a key holds.
	inspect func(key string) (payload string, ok bool)

	mu  sync.Mutex // guards all
	ops []operation
}

func (l *log) add(ops ...operation) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = append(l.ops, ops...)
}

// sql adds a statement.
func (l *log) sql(text string) { l.add(operation{verb: oneLine(text)}) }

func (l *log) failed(text string, err error) {
	l.add(operation{verb: text, note: strings.SplitN(err.Error(), "\n", 2)[0]})
}

func (l *log) list() []operation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ops)
}

func (l *log) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops = nil
}

// watcher is a redis.Hook that lists the scripts which a client runs.
type watcher struct{ log *log }

var _ redis.Hook = watcher{}

func (w watcher) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (w watcher) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if !redis.HasErrorPrefix(err, "NOSCRIPT") { // the command itself does not hold it yet
			w.note([]redis.Cmder{cmd}, err)
		}
		return err
	}
}

func (w watcher) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		w.note(cmds, nil)
		return err
	}
}

// note lists the commands of one request in the order of their keys: the order in which they
// were sent means nothing. What Redis did not know as a script is sent again.
func (w watcher) note(cmds []redis.Cmder, single error) {
	var ops []operation
	for _, cmd := range cmds {
		err := cmd.Err()
		if err == nil {
			err = single
		}
		if keys, swept := cachesync.SweptKeys(cmd.Args()); swept {
			ops = append(ops, invalidated(keys, err)...)
		} else if o, ok := w.operation(cmd, err); ok && !redis.HasErrorPrefix(err, "NOSCRIPT") {
			ops = append(ops, o)
		}
	}
	slices.SortStableFunc(ops, func(a, b operation) int { return strings.Compare(a.key, b.key) })
	w.log.add(ops...)
}

// invalidated is what a sweep does to values, which takes no script.
func invalidated(keys []string, err error) (ops []operation) {
	for _, key := range keys {
		o := operation{verb: "invalidate", key: key}
		if err != nil {
			o.note = "Redis did not answer"
		}
		ops = append(ops, o)
	}
	return ops
}

// barrierPrefix begins the key of every rule's barrier.
const barrierPrefix = "wtcache:barrier:"

func (w watcher) operation(cmd redis.Cmder, err error) (o operation, ok bool) {
	name, ok := cachesync.ScriptName(cmd.Args())
	if !ok {
		return operation{}, false
	}
	o = operation{verb: name, key: fmt.Sprint(cmd.Args()[3])}
	if table, barrier := strings.CutPrefix(o.key, barrierPrefix); barrier {
		o.verb, o.key = "sweep", table
		return o, name == "fence"
	}
	if err != nil {
		o.note = "Redis did not answer"
		return o, listed[name]
	}
	if c, isCmd := cmd.(interface{ Val() any }); isCmd {
		w.outcome(&o, fmt.Sprint(c.Val()))
	}
	return o, listed[name]
}

// listed are the scripts that change what readers see.
var listed = map[string]bool{"fence": true, "apply": true, "abort": true, "invalidate": true, "fill": true}

// outcome adds what a script answered.
func (w watcher) outcome(o *operation, answer string) {
	switch {
	case o.verb == "apply" && answer == "stored", o.verb == "fill" && answer == "1":
		o.payload, _ = w.log.inspect(o.key)
	case o.verb == "apply" && answer == "dropped":
		o.note = "absent"
	case o.verb == "fill":
		o.note = "refused"
	case o.verb == "apply", o.verb == "invalidate" && answer != "deleted":
		o.note = answer
	}
}

// stores says that the operation put a value under its key.
func (o operation) stores() bool { return o.payload != "" }

// writes says that the operation is one of a writer, not of a reader.
func (o operation) writes() bool { return o.onCache() && o.verb != "fill" }
