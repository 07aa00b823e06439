package cachesync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
)

// platform stops each request of scripts before it is sent.
type platform struct{ at chan *train }

// train is a request that stands there, with so many commands.
type train struct {
	cmds   int
	values context.Context
	depart chan error // nil sends it; an error is what becomes of it instead
}

func (p platform) DialHook(next redis.DialHook) redis.DialHook { return next }

func (p platform) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if err := p.stop(ctx, cmd); err != nil {
			return err
		}
		return next(ctx, cmd)
	}
}

func (p platform) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := p.stop(ctx, cmds...); err != nil {
			return err
		}
		return next(ctx, cmds)
	}
}

func (p platform) stop(ctx context.Context, cmds ...redis.Cmder) error {
	if cmds[0].Name() != "evalsha" {
		return nil
	}
	t := &train{len(cmds), ctx, make(chan error, 1)}
	p.at <- t
	var err error
	select {
	case err = <-t.depart:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		for _, cmd := range cmds {
			cmd.SetErr(err)
		}
	}
	return err
}

// next waits for the next request.
func (p platform) next(t *testing.T) *train {
	t.Helper()
	select {
	case train := <-p.at:
		return train
	case <-time.After(patience):
		t.Fatal("no request comes")
		return nil
	}
}

// oneTrack makes a client whose callers go together while a single request is under way, and that
// knows its server; all its requests stop at the platform. Nobody loses patience in line.
func oneTrack(t *testing.T, o Options) (c *Client, p platform, prefix string) {
	t.Helper()
	rdb := dial(t, testenv.RealRedis(t))
	o.besides = 1
	if o.inLine == 0 {
		o.inLine = time.Hour
	}
	c = newTestClient(t, rdb, o)
	prefix = testenv.KeyPrefix(t)
	mustFence(t, c, prefix+"warm").Abort(t.Context())
	p = platform{make(chan *train)}
	rdb.AddHook(p)
	return c, p, prefix
}

// fencing is a writer who fences one key of its own.
type fencing struct {
	key   string
	ended chan struct{}
	fence *Fence
	err   error
}

func startFence(ctx context.Context, c *Client, key string) *fencing {
	f := &fencing{key: key, ended: make(chan struct{})}
	go func() {
		defer close(f.ended)
		f.fence, f.err = c.Fence(ctx, []string{key})
	}()
	return f
}

// inLine starts writers one after the other, each when the one before waits in line.
func inLine(t *testing.T, c *Client, prefix string, n int) (all []*fencing) {
	t.Helper()
	for i := range n {
		all = append(all, startFence(t.Context(), c, fmt.Sprint(prefix, i)))
		waitInLine(t, c, i+1)
	}
	return all
}

func waitInLine(t *testing.T, c *Client, n int) {
	t.Helper()
	line := &c.peers.of(c.server).together
	eventually(t, fmt.Sprint(n, " callers wait in line"), func() bool {
		line.mu.Lock()
		defer line.mu.Unlock()
		return len(line.waiting) == n
	})
}

func wantFenced(t *testing.T, c *Client, all ...*fencing) {
	t.Helper()
	for _, f := range all {
		<-f.ended
		if f.err != nil {
			t.Errorf("%s: %v", f.key, f.err)
			continue
		}
		if own := c.rdb.HGetAll(context.Background(), f.fence.held[0].names.control).Val(); own["t:"+f.fence.held[0].tokens.own] == "" {
			t.Errorf("%s holds %v, and not the token of who was told that it does", f.key, own)
		}
	}
}

// Writers who commit at the same time pay for one round trip to Redis; each must get the answer that
// is its own, or one writer stores its row on the strength of another's fence.
func TestCallersGoTogether(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{})
	first := startFence(t.Context(), c, prefix+"first")
	alone := p.next(t)
	others := inLine(t, c, prefix, 5)
	alone.depart <- nil
	company := p.next(t)
	company.depart <- nil
	if alone.cmds != 1 || company.cmds != 5 {
		t.Errorf("requests of %d and %d commands, want 1 and 5", alone.cmds, company.cmds)
	}
	wantFenced(t, c, append(others, first)...)
	eventually(t, "no request is under way", func() bool {
		line := &c.peers.of(c.server).together
		line.mu.Lock()
		defer line.mu.Unlock()
		return line.busy == 0
	})
}

// A caller who gives up while others' request keeps it waiting has asked Redis for nothing: a token
// that went out all the same would keep its key from readers for a fence's life.
func TestCallerGivesUpInLine(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{})
	first := startFence(t.Context(), c, prefix+"first")
	alone := p.next(t)
	before := inLine(t, c, prefix, 1)
	ctx, cancel := context.WithCancel(t.Context())
	gone := startFence(ctx, c, prefix+"gone")
	waitInLine(t, c, 2)
	after := startFence(t.Context(), c, prefix+"after")
	waitInLine(t, c, 3)
	cancel()
	<-gone.ended
	if !errors.Is(gone.err, context.Canceled) || errors.Is(gone.err, ErrUnavailable) {
		t.Errorf("got %v, want the caller's own error", gone.err)
	}
	alone.depart <- nil
	company := p.next(t)
	company.depart <- nil
	if company.cmds != 2 {
		t.Errorf("%d commands go, want 2", company.cmds)
	}
	wantFenced(t, c, append(before, first, after)...)
	if got := look(t, c.rdb, gone.key); got != "absent" {
		t.Errorf("the key of the caller who gave up is %s", got)
	}
}

// A caller's deadline is its own, also where its commands are in a request that takes longer. The
// others' answers, and what Redis did, are theirs.
func TestCallerGivesUpOnTheWay(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{})
	first := startFence(t.Context(), c, prefix+"first")
	alone := p.next(t)
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), tripKey{}, "of the first"))
	gone := startFence(ctx, c, prefix+"gone")
	waitInLine(t, c, 1)
	other := startFence(t.Context(), c, prefix+"other")
	waitInLine(t, c, 2)
	alone.depart <- nil
	company := p.next(t)
	cancel()
	<-gone.ended
	if !errors.Is(gone.err, context.Canceled) {
		t.Errorf("got %v, want the caller's own error", gone.err)
	}
	if got := company.values.Value(tripKey{}); got != "of the first" || company.values.Err() != nil {
		t.Errorf("the request has value %v and error %v: it lost its trace, or ended with one caller", got, company.values.Err())
	}
	company.depart <- nil
	wantFenced(t, c, first, other)
	failed, ok := errors.AsType[*FenceError](gone.err)
	if !ok {
		t.Fatalf("got a %T", gone.err)
	}
	departAll(t, p, func() { failed.Abort(context.Background()) })
	if got := look(t, c.rdb, gone.key); got != "absent" {
		t.Errorf("the token of the caller who gave up was not released: %s", got)
	}
}

type tripKey struct{}

// departAll lets every request go while f runs.
func departAll(t *testing.T, p platform, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	for {
		select {
		case train := <-p.at:
			train.depart <- nil
		case <-done:
			return
		}
	}
}

// A connection that breaks takes everybody's commands with it. All try once more under new tokens,
// and nobody's write fails. It is one failure, not one for each caller: else a single connection that
// a proxy drops would have all writes of the process take Redis for down.
func TestBrokenRequestIsOneFailure(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{Breaker: BreakerOptions{Failures: 2, OpenFor: time.Hour}})
	first := startFence(t.Context(), c, prefix+"first")
	alone := p.next(t)
	others := inLine(t, c, prefix, 6)
	alone.depart <- nil
	p.next(t).depart <- io.EOF
	departAll(t, p, func() { wantFenced(t, c, append(others, first)...) })
	for _, f := range others {
		if len(f.fence.held[0].tokens.earlier) != 1 {
			t.Errorf("%s was fenced under %+v: a token goes out once", f.key, f.fence.held[0].tokens)
		}
	}
	if n := c.breakers.of(c.server).Counts().TotalFailures; n != 1 {
		t.Errorf("the breaker heard of %d failures, want 1", n)
	}
	if s := c.Stats(); s.BreakerOpens != 0 || s.FenceFailures != 0 {
		t.Errorf("breaker opened %d times, %d keys not fenced", s.BreakerOpens, s.FenceFailures)
	}
}

// A server that is down must be noticed though all go together: else each write waits for it anew.
func TestBrokenRequestsOpenTheBreaker(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{Breaker: BreakerOptions{Failures: 2, OpenFor: time.Hour}})
	first := startFence(t.Context(), c, prefix+"first")
	alone := p.next(t)
	others := inLine(t, c, prefix, 6)
	alone.depart <- nil
	done := make(chan struct{})
	go func() {
		for _, f := range append(others, first) {
			<-f.ended
		}
		close(done)
	}()
	for down := false; !down; {
		select {
		case train := <-p.at:
			train.depart <- io.EOF
		case <-done:
			down = true
		}
	}
	if c.Stats().BreakerOpens != 1 {
		t.Errorf("the breaker opened %d times", c.Stats().BreakerOpens)
	}
	for _, f := range others {
		if !errors.Is(f.err, ErrUnavailable) {
			t.Errorf("%s: got %v", f.key, f.err)
		}
	}
}

// A connection that hangs keeps the callers who wait for it no longer than a moment: they go by
// themselves.
func TestNobodyWaitsForAHangingRequest(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{inLine: time.Millisecond})
	hangs := startFence(t.Context(), c, prefix+"hangs")
	hanging := p.next(t)
	for i := range 3 {
		f := startFence(t.Context(), c, fmt.Sprint(prefix, i))
		p.next(t).depart <- nil
		wantFenced(t, c, f)
	}
	hanging.depart <- nil
	wantFenced(t, c, hangs)
}

// Close waits for requests that carry others' commands, and strands nobody who waits in line.
func TestCloseWithCallersInLine(t *testing.T) {
	for _, closed := range []string{"while they wait", "while they are on the way"} {
		t.Run(closed, func(t *testing.T) {
			c, p, prefix := oneTrack(t, Options{})
			first := startFence(t.Context(), c, prefix+"first")
			alone := p.next(t)
			others := inLine(t, c, prefix, 3)
			ended := make(chan error, 1)
			end := func() {
				go func() { ended <- c.Close() }()
				<-c.ctx.Done()
			}
			if closed == "while they wait" {
				end()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
			alone.depart <- nil
			company := p.next(t)
			if closed != "while they wait" {
				end()
				select {
				case <-ended:
					t.Error("closed while a request was under way")
				default:
				}
			}
			company.depart <- nil
			wantFenced(t, c, append(others, first)...)
			if closed != "while they wait" {
				if err := <-ended; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// What is large goes alone, and keeps nobody waiting; what waits for replicas goes alone, since WAIT
// is about its own connection.
func TestWhatGoesAlone(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{})
	first := startFence(t.Context(), c, prefix+"first")
	alone := p.next(t)
	keys, _ := manyKeys(prefix, togetherCmds+1, Envelope)
	large := entry(Envelope, string(make([]byte, togetherBytes)), 5)
	for name, call := range map[string]func() error{
		"many keys": func() error { return c.Invalidate(t.Context(), keys, "") },
		"a large payload": func() error {
			c.ApplyCAS(t.Context(), map[string]Entry{prefix + "large": large})
			return nil
		},
		"replicas": func() error {
			_, err := c.FenceReplicated(t.Context(), []string{prefix + "safe"}, 1)
			if errors.Is(err, ErrReplicas) {
				return nil // there are none, which has been asked
			}
			return err
		},
	} {
		departAll(t, p, func() {
			if err := call(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	alone.depart <- nil
	wantFenced(t, c, first)
}

// Readers of large entries would all wait for the last byte of everybody's entry.
func TestLongAnswersGoAlone(t *testing.T) {
	c, p, prefix := oneTrack(t, Options{})
	lease := func(key string) {
		if _, err := c.Lease(t.Context(), key, Envelope, testSchema); err != nil {
			t.Error(err)
		}
	}
	large := prefix + "large"
	departAll(t, p, func() {
		store(t, c, large, entry(Envelope, string(slices.Repeat([]byte("1"), 4*togetherBytes)), 5))
		for range 4 {
			lease(large)
		}
	})
	first := startFence(t.Context(), c, prefix+"first")
	alone := p.next(t)
	departAll(t, p, func() { lease(large) })
	alone.depart <- nil
	wantFenced(t, c, first)

	departAll(t, p, func() {
		for range 30 {
			lease(prefix + "absent")
		}
	})
	first = startFence(t.Context(), c, prefix+"second")
	alone = p.next(t)
	others := inLine(t, c, prefix, 2) // answers are short again
	alone.depart <- nil
	p.next(t).depart <- nil
	wantFenced(t, c, append(others, first)...)
}

// Many writers and readers of few keys at once, on one server and on a Cluster: what one of them is
// answered must never be another's answer.
func TestTogetherKeepsAnswersApart(t *testing.T) {
	for name, rdb := range map[string]redis.UniversalClient{
		"single":  dial(t, testenv.RealRedis(t)),
		"cluster": dialCluster(t, testenv.Cluster(t)),
	} {
		t.Run(name, func(t *testing.T) {
			c := newTestClient(t, rdb, Options{besides: 1})
			prefix := testenv.KeyPrefix(t)
			var wg sync.WaitGroup
			for w := range 16 {
				key := fmt.Sprint(prefix, w)
				wg.Go(func() { writeAndRead(t, c, key, allFormats[w%len(allFormats)]) })
			}
			wg.Wait()
		})
	}
}

// writeAndRead is one who has a key for itself, and finds there what it has left.
func writeAndRead(t *testing.T, c *Client, key string, format Format) {
	for n := range 20 {
		payload := fmt.Sprintf(`{"key":%q,"n":%d}`, key, n)
		f, err := c.Fence(t.Context(), []string{key})
		if err != nil {
			t.Error(err)
			return
		}
		if lease, err := c.Lease(t.Context(), key, format, testSchema); err != nil || lease.State != LeaseBypass {
			t.Errorf("%s, under a fence: %+v, %v", key, lease, err)
		}
		if r := f.Apply(t.Context(), map[string]Entry{key: entry(format, payload, n)}); r.Stored != 1 {
			t.Errorf("%s: %+v", key, r)
		}
		lease, err := c.Lease(t.Context(), key, format, testSchema)
		if err != nil || string(lease.Value.Payload) != payload {
			t.Errorf("%s holds %q (%v), want %q", key, lease.Value.Payload, err, payload)
		}
	}
}

// take must not keep what it has given away alive, nor give more than a request carries.
func TestTakeIsBounded(t *testing.T) {
	line := &together{}
	for range 2*companyMax + 1 {
		line.join(t.Context(), part{}, 1)
	}
	var sizes []int
	for company := line.take(0); company != nil; company = line.take(0) {
		sizes = append(sizes, len(company))
	}
	if !slices.Equal(sizes, []int{companyMax, companyMax}) || line.busy != 0 {
		t.Errorf("companies of %v, %d requests under way", sizes, line.busy)
	}
}
