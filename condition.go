package wtcache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// UnfitError says that Redis is set up so that it takes fences away, and that strict rules therefore do not
// start on it. It wraps ErrConfig.
type UnfitError struct {
	Findings []cachesync.Finding // those that refuse
}

func (e *UnfitError) Error() string {
	lines := make([]string, len(e.Findings))
	for i, f := range e.Findings {
		lines[i] = fmt.Sprintf("the Redis at %s: %s. What can be lost: %s. To mend it: %s", f.Where, f.Problem, f.Loss, f.Fix)
	}
	return fmt.Sprintf("%v: %s", ErrConfig, strings.Join(lines, "\n"))
}

// Unwrap lets errors.Is find ErrConfig.
func (e *UnfitError) Unwrap() error { return ErrConfig }

const (
	// judgePatience bounds one look at Redis, which goes on behind the connection that waited for it.
	judgePatience = 5 * time.Second
	// Pauses between looks at a Redis that does not answer, and the shortest between two that were refused.
	judgePauseMin = time.Second
	judgePauseMax = 30 * time.Second
)

// condition judges Redis once in the life of an engine: the first connection to Postgres waits for it, for no longer
// than the Redis timeout. A Redis that does not answer by then keeps nobody from starting; it is
// looked at again until it does, and what is wrong with it is reported then. It is safe for concurrent use.
type condition struct {
	engine *engine
	rdb    redis.UniversalClient

	settled atomic.Bool // connections need not ask any more

	ctx  context.Context // ends with close
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex    // guards what follows; not held while Redis is asked
	running bool          // a look is under way
	ended   time.Time     // the latest look
	waited  chan struct{} // closed when nobody needs to wait any longer for the latest look
	refusal error         // of the latest look that had an answer before anybody was let through
	closed  bool
}

func newCondition(e *engine) *condition {
	c := &condition{engine: e, waited: make(chan struct{})}
	close(c.waited)
	c.ctx, c.stop = context.WithCancel(context.Background())
	return c
}

func (c *condition) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	c.done.Wait()
}

// fit is nil where Redis was judged fit for the rules, or did not answer in time. Its error wraps ErrConfig, or is the
// context's. After a refusal it looks again, so that a Redis that was mended is taken.
func (c *condition) fit(ctx context.Context, set *rules.Set) error {
	if c.settled.Load() {
		return nil
	}
	select {
	case <-c.look(set):
	case <-ctx.Done():
		return ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refusal
}

// look begins a look where none is under way, and gives what its callers wait for.
func (c *condition) look(set *rules.Set) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.running || c.closed || c.settled.Load() || !c.ended.IsZero() && time.Since(c.ended) < judgePauseMin {
		return c.waited
	}
	c.running, c.waited = true, make(chan struct{})
	needs, waited := c.engine.needs(set), c.waited
	c.done.Go(func() { c.run(needs, waited) })
	return c.waited
}

// run looks until Redis has answered. Nobody waits for it longer than the Redis timeout.
func (c *condition) run(needs cachesync.Needs, waited chan struct{}) {
	release := sync.OnceFunc(func() { c.release(waited) })
	defer release()
	timer := time.AfterFunc(c.engine.cfg.RedisTimeout, release)
	defer timer.Stop()
	for pause := judgePauseMin; c.ctx.Err() == nil; pause = min(2*pause, judgePauseMax) {
		found, err := c.inspect(needs)
		if err == nil {
			c.conclude(found)
			return
		}
		release()
		select {
		case <-c.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// release lets those through who waited, unless Redis was refused before.
func (c *condition) release(waited chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settled.Store(c.refusal == nil)
	close(waited)
}

// inspect returns after judgePatience, also with a client that heeds no context.
func (c *condition) inspect(needs cachesync.Needs) ([]cachesync.Finding, error) {
	ctx, cancel := context.WithTimeout(c.ctx, judgePatience)
	defer cancel()
	type answer struct {
		found []cachesync.Finding
		err   error
	}
	answers := make(chan answer, 1)
	c.done.Go(func() {
		cond, err := cachesync.Inspect(ctx, c.rdb, needs)
		if err != nil {
			answers <- answer{err: err}
			return
		}
		answers <- answer{found: cond.Judge(needs)}
	})
	select {
	case a := <-answers:
		return a.found, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// conclude says what was found, once, and refuses those who wait. Whoever was let through because Redis did not answer
// works on: a service that runs is not taken down for it.
func (c *condition) conclude(found []cachesync.Finding) {
	var unfit []cachesync.Finding
	for _, f := range found {
		switch {
		case f.Refused:
			unfit = append(unfit, f)
		case f.Severity == cachesync.Error:
			c.engine.report(fmt.Sprintf("the Redis at %s: %s", f.Where, f.Subject), errors.New(f.String()))
		case f.Severity == cachesync.Warning:
			c.engine.once("condition "+f.Where+f.Problem, f.Problem, "redis", f.Where, "loss", f.Loss, "fix", f.Fix)
		}
	}
	c.mu.Lock()
	late := c.settled.Load()
	c.refusal = nil
	if unfit != nil && !late {
		c.refusal = &UnfitError{unfit}
	}
	if c.refusal == nil {
		c.settled.Store(true)
	}
	c.running, c.ended = false, time.Now()
	c.mu.Unlock()
	if unfit != nil && late {
		c.engine.report("Redis answers now, and strict rules would not have started on it", &UnfitError{unfit})
	}
}

// needs is what the rules ask of Redis, as the mode has them. set may be nil where the rules fit no catalogue.
func (e *engine) needs(set *rules.Set) cachesync.Needs {
	n := cachesync.Needs{AcceptEviction: e.cfg.AcceptEviction, FenceLife: e.cfg.FenceLife, Globs: ruleGlobs(e.rules)}
	for _, r := range e.rules {
		strict := r.Consistency == rules.Strict && e.cfg.Mode == ModeStrict
		n.Strict = n.Strict || strict
		n.Queue = n.Queue || strict && r.RedisDown == rules.Queue
		n.Refuse = n.Refuse || strict && r.RedisDown == rules.Refuse
		if strict {
			n.WaitReplicas = max(n.WaitReplicas, r.WaitReplicas)
		}
		for _, entry := range r.Entries {
			n.Versioned = n.Versioned || entry.Format == rules.FormatVersioned
		}
	}
	if set == nil {
		return n
	}
	for _, t := range set.Tables {
		n.Keys = append(n.Keys, t.Barrier)
	}
	return n
}
