package wtcache_test

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// These tests show what `apply: async` gives, what it gives up, and what it keeps. The README's table names them.

const asyncRule = "apply: async\n"

// turnstile holds requests to Redis that carry a script, before they are sent.
type turnstile struct {
	digest string
	came   chan struct{} // one for each
	open   chan struct{} // closed: nothing is held any more
	once   sync.Once
}

func newTurnstile(t *testing.T, script string) *turnstile {
	return &turnstile{digest: digestOf(t, script), came: make(chan struct{}, 1000), open: make(chan struct{})}
}

func (g *turnstile) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *turnstile) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		g.pass(cmd)
		return next(ctx, cmd)
	}
}

func (g *turnstile) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		g.pass(cmds...)
		return next(ctx, cmds)
	}
}

func (g *turnstile) pass(cmds ...redis.Cmder) {
	carries := func(cmd redis.Cmder) bool { return slices.Contains(cmd.Args(), any(g.digest)) }
	if slices.ContainsFunc(cmds, carries) {
		g.came <- struct{}{}
		<-g.open
	}
}

func (g *turnstile) letThrough() { g.once.Do(func() { close(g.open) }) }

// release lets everything through, and waits until all is applied.
func (g *turnstile) release(t *testing.T, l *ledger) {
	t.Helper()
	g.letThrough()
	eventually(t, "nothing is pending", func() bool { return l.stats().AppliesPending == 0 })
}

// newAsync is a ledger whose applies are held, and another process beside it whose are not.
func newAsync(t *testing.T, rule, script string) (l, other *ledger, g *turnstile) {
	t.Helper()
	g = newTurnstile(t, script)
	setup := ledgerSetup{rule: rule, config: patient, hook: g}
	l = newLedger(t, setup)
	t.Cleanup(g.letThrough) // before the ledger is closed
	setup.hook = nil
	return l, l.beside(setup), g
}

// asyncWays are those that commit account 1 on its own.
var asyncWays = []string{setOne, setOne + " AND n >= 0 OR id < 0", "BEGIN; " + setOne + "; COMMIT"}

// What the rule is for: the write returns when Postgres has it. What it must not cost: until Redis is told, every reader, in this
// process or another, gets the new row.
func TestAsyncReturnsBeforeTheApply(t *testing.T) {
	t.Parallel()
	for _, text := range asyncWays {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			l, other, g := newAsync(t, asyncRule, "apply")
			l.warm(1)
			l.exec(text)
			await(t, "the apply", g.came)
			if n, there := l.entry(1); there {
				t.Errorf("before the apply Redis holds %d", n)
			}
			for name, p := range map[string]*ledger{"the writer's own": l, "another": other} {
				if got := p.read(1); got != 1 {
					t.Errorf("%s process' reader gets %d after the write has returned", name, got)
				}
			}
			if _, there := l.entry(1); there {
				t.Error("a reader has filled the key under the fence")
			}
			if s := l.stats(); s.AppliesPending != 1 || s.AppliesBehind != 1 || s.AppliesInLine != 0 || s.ApplyTimes.Count != 0 {
				t.Errorf("counted are %d pending, %d behind, %d in line, %d times", s.AppliesPending, s.AppliesBehind, s.AppliesInLine, s.ApplyTimes.Count)
			}
			g.release(t, l)
			l.wantCached(1, 1)
			if s := l.stats(); s.Redis.Stored != 1 || s.ApplyTimes.Count != 1 {
				t.Errorf("afterwards %d payloads were stored and %d times taken, want one", s.Redis.Stored, s.ApplyTimes.Count)
			}
		})
	}
}

// Where Redis has lost the fence the old row can get there again, and other processes may be given it until the apply. Whoever
// has written it must not be: a program that cannot see its own writes is broken.
func TestAsyncReadsItsOwnWritesWithoutAFence(t *testing.T) {
	t.Parallel()
	l, other, g := newAsync(t, asyncRule, "apply")
	l.warm(1)
	old, err := l.rdb.Get(t.Context(), l.key(1)).Result()
	if err != nil {
		t.Fatal(err)
	}
	l.exec(setOne)
	await(t, "the apply", g.came)
	if err := l.rdb.Del(t.Context(), l.control(1)).Err(); err != nil {
		t.Fatal(err)
	}
	if err := l.rdb.Set(t.Context(), l.key(1), old, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := other.read(1); got != 0 {
		t.Fatalf("another process gets %d: the old row is not there, and nothing is shown", got)
	}
	r, err := wtcache.ReaderOf[account](l.db, "accounts")
	if err != nil {
		t.Fatal(err)
	}
	rows, err := r.GetMany(t.Context(), 1, 2)
	if err != nil || rows[0].Value.N != 1 {
		t.Errorf("GetMany gives %+v, %v", rows, err)
	}
	if got := l.read(1); got != 1 {
		t.Errorf("the writer's process reads %d after it has written 1", got)
	}
	g.release(t, l)
	l.wantAbsent(1)
	if s := l.stats(); s.Redis.Lost != 1 {
		t.Errorf("the lost fence was counted %d times", s.Redis.Lost)
	}
}

// Without a fence, too, the apply is what ends the old entry: other processes read it until then, and this one does not.
func TestAsyncEventual(t *testing.T) {
	t.Parallel()
	for _, text := range asyncWays {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			l, other, g := newAsync(t, asyncRule+eventualRule, "invalidate")
			l.warm(1)
			l.exec(text)
			await(t, "the second step", g.came)
			if got := other.read(1); got != 0 {
				t.Errorf("another process gets %d before the second step: there is no hole", got)
			}
			if got := l.read(1); got != 1 {
				t.Errorf("the writer's process reads %d after it has written 1", got)
			}
			g.release(t, l)
			l.wantAbsent(1)
			for _, p := range []*ledger{l, other} {
				if got := p.read(1); got != 1 {
					t.Errorf("after the second step a reader gets %d", got)
				}
			}
		})
	}
}

// A Redis that cannot follow slows the writers down. Were there no bound, what it has not been told would fill the memory.
func TestAsyncIsBounded(t *testing.T) {
	t.Parallel()
	l, _, g := newAsync(t, asyncRule, "apply")
	if _, err := l.plain.Exec("INSERT INTO accounts SELECT i, 0 FROM generate_series(100, 200) i"); err != nil {
		t.Fatal(err)
	}
	for i := range wtcache.MaxBehind {
		l.exec(setFenceFirst, 1, 100+i)
		await(t, "the apply", g.came)
	}
	var returned atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := l.db.Exec(setFenceFirst, 1, 200)
		returned.Store(true)
		if err != nil {
			t.Error(err)
		}
	}()
	await(t, "one more apply", g.came)
	if s := l.stats(); returned.Load() || s.AppliesInLine != 1 || s.AppliesPending != wtcache.MaxBehind {
		t.Errorf("one more write has returned (%v) while %d are pending, and %d were applied by their callers", returned.Load(), s.AppliesPending, s.AppliesInLine)
	}
	g.release(t, l)
	await(t, "the write", done)
	for _, id := range []int{100, 100 + wtcache.MaxBehind - 1, 200} {
		l.wantCached(id, 1)
	}
}

// Close must not lose the last writes' entries: strict ones would stay absent for a fence's life, eventual ones old until their TTL.
func TestAsyncCloseWaits(t *testing.T) {
	t.Parallel()
	for rule, script := range map[string]string{asyncRule: "apply", asyncRule + eventualRule: "invalidate"} {
		t.Run(script, func(t *testing.T) {
			t.Parallel()
			l, other, g := newAsync(t, rule, script)
			l.warm(1)
			l.exec(setOne)
			await(t, "the apply", g.came)
			var released atomic.Bool
			early := make(chan bool, 1)
			go func() {
				if err := l.db.Close(); err != nil {
					t.Error(err)
				}
				early <- !released.Load()
			}()
			eventually(t, "Close waits", func() bool { return wtcache.Closing(t, l.db) })
			released.Store(true)
			g.letThrough()
			if await(t, "Close", early) {
				t.Error("Close has returned before the last write was applied")
			}
			if n, there := l.entry(1); there && n != 1 || l.fenced(1) {
				t.Errorf("after Close there is %d (there: %v) under the key, fenced: %v", n, there, l.fenced(1))
			}
			if got := other.read(1); got != 1 {
				t.Errorf("after Close a reader gets %d", got)
			}
		})
	}
}

// What also writes a rule that is not async is applied before the call returns: that rule's promise is not to depend on
// what else was written. So is what is coarse.
func TestAsyncBesideOthersIsInLine(t *testing.T) {
	t.Parallel()
	setup := depotSetup("", "")
	setup.rules["crates"] += asyncRule
	setup.rules["loose"] += asyncRule
	h := newShelf(t, setup)
	for _, c := range []struct {
		name, text string
		behind     uint64
	}{
		{"async", "UPDATE crates SET n = n + 1 WHERE id = 1", 1},
		{"async, strict and eventual", "BEGIN; UPDATE crates SET n = n + 1 WHERE id = 1; UPDATE loose SET n = n + 1 WHERE id = 1; COMMIT", 1},
		{"async and sync", "BEGIN; UPDATE crates SET n = n + 1 WHERE id = 1; UPDATE goods SET n = n + 1 WHERE id = 1; COMMIT", 0},
		{"sync", "UPDATE goods SET n = n + 1 WHERE id = 1", 0},
		{"coarse", "WITH u AS (UPDATE crates SET n = n + 1 WHERE id = 1) SELECT 1", 0},
		{"async and coarse", "BEGIN; UPDATE loose SET n = n + 1 WHERE id = 1; TRUNCATE crates; COMMIT", 0},
		{"nothing written", "UPDATE crates SET n = n + 1 WHERE id = 99", 0},
	} {
		before := h.stats()
		if _, err := h.db.Exec(c.text); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		after := h.stats()
		if got := after.AppliesBehind - before.AppliesBehind; got != c.behind || after.AppliesInLine != 0 {
			t.Errorf("%s: %d were applied behind the caller, want %d", c.name, got, c.behind)
		}
	}
	if n := h.heard.told("return before Redis has them"); n != 2 {
		t.Errorf("that two rules are async was said %d times", n)
	}
	if n := h.heard.told("after their COMMIT alone"); n != 1 {
		t.Errorf("that one of them is eventual was said %d times", n)
	}
}

// Who looks at a request must see that the apply belongs to it, and that it did not wait for it.
func TestAsyncSpan(t *testing.T) {
	t.Parallel()
	spans, g := &seenSpans{}, newTurnstile(t, "apply")
	l := newLedger(t, ledgerSetup{rule: asyncRule, hook: g, config: func(c *wtcache.Config) { patient(c); c.Tracer = spans }})
	t.Cleanup(g.letThrough)
	l.exec(setOne)
	await(t, "the apply", g.came)
	ended := map[string]int{}
	spans.mu.Lock()
	for _, s := range spans.all {
		ended[s.name] += s.ended
	}
	spans.mu.Unlock()
	if ended[wtcache.SpanWrite] != 1 || ended[wtcache.SpanApply] != 0 {
		t.Errorf("when the write has returned, ended are %v", ended)
	}
	g.release(t, l)
	got, _ := spans.take(t)
	if want := []string{">wtcache.write", "wtcache.write>wtcache.fence", "wtcache.write>wtcache.apply"}; !slices.Equal(got, want) {
		t.Errorf("the spans are %q, want %q", got, want)
	}
}

// Redis is away: the keys are owed before the write returns, as without the option, so that this process' readers know.
func TestAsyncWithoutRedis(t *testing.T) {
	t.Parallel()
	link := testenv.ProxyURL(t, testenv.RealRedis(t))
	l := newLedger(t, ledgerSetup{rule: asyncRule, redis: link.URL, config: func(c *wtcache.Config) {
		c.RedisTimeout, c.FenceLife = 200*time.Millisecond, 3*time.Second
	}})
	l.rdb = redisClient(t, testenv.RealRedis(t))
	l.warm(1)
	link.Pause()
	link.Cut()
	l.exec(setOne)
	if s := l.stats(); s.AppliesBehind != 0 || s.Unfenced != 1 || s.Redis.Owed == 0 {
		t.Errorf("%d were applied behind the caller, %d committed unfenced, %d are owed", s.AppliesBehind, s.Unfenced, s.Redis.Owed)
	}
	if got := l.read(1); got != 1 {
		t.Errorf("a reader gets %d", got)
	}
	link.Resume()
	eventually(t, "nothing is owed", func() bool { return l.stats().Redis.Owed == 0 })
	l.wantTrue()
}

// A row that is written again at once must stay cached: were the next fence put down beside the one that waits for its apply,
// neither write could store anything, and a busy row's readers would never find it.
func TestAsyncStoresEachOfManyWrites(t *testing.T) {
	t.Parallel()
	const writes = 50
	l := newLedger(t, ledgerSetup{rule: asyncRule, config: patient})
	for n := range writes {
		l.exec(setFenceFirst, n+1, 1)
	}
	eventually(t, "nothing is pending", func() bool { return l.stats().AppliesPending == 0 })
	l.wantCached(1, writes)
	if s := l.stats(); s.Redis.Stored != writes || s.AppliesBehind != writes {
		t.Errorf("of %d writes %d were applied behind the caller, and %d stored", writes, s.AppliesBehind, s.Redis.Stored)
	}
}

// Whoever has no time left for a write must not be kept by another's apply, which may take as long as Redis likes.
func TestAsyncWriteDoesNotOutwaitItsContext(t *testing.T) {
	t.Parallel()
	l, _, g := newAsync(t, asyncRule, "apply")
	l.exec(setFenceFirst, 1, 1)
	await(t, "the apply", g.came)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := l.db.ExecContext(ctx, setFenceFirst, 2, 1)
		done <- err
	}()
	eventually(t, "the write is under way", func() bool { return l.stats().FenceFirst == 2 })
	cancel()
	if err := await(t, "the write", done); err == nil {
		t.Error("a write whose context was cancelled while it waited has gone through")
	}
	g.release(t, l)
	l.wantTrue()
}
