package wtcache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"testing/fstest"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// These tests show what `consistency: eventual` gives up, and what it keeps. The README's
// tables name them.

const eventualRule = "consistency: eventual\n"

// eventualWays commit account 1 with the texts of setOne and its like.
var eventualWays = []way{ways[0], ways[2]}

// eventualLedger is a ledger whose writes reach Redis through a proxy.
type eventualLedger struct {
	*ledger
	proxy *testenv.Proxy
	step  string // the digest of the script that is a write's second step
}

func newEventual(t *testing.T, format string, config func(*wtcache.Config)) *eventualLedger {
	t.Helper()
	proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
	rule := eventualRule
	if config == nil {
		config = patient
	} else {
		rule = ""
	}
	l := newLedger(t, ledgerSetup{redis: proxy.URL, rule: rule, format: format, config: config})
	l.rdb = redisClient(t, testenv.RealRedis(t)) // looks past the proxy
	return &eventualLedger{l, proxy, digestOf(t, "invalidate")}
}

// patient is for writes that a test holds up.
func patient(c *wtcache.Config) { c.RedisTimeout, c.FenceLife = patience, 4*patience }

// digestOf is what Redis is sent of a script.
func digestOf(t *testing.T, script string) string {
	t.Helper()
	for digest, name := range newScripts(t, &timeline{}).names {
		if name == script {
			return digest
		}
	}
	t.Fatalf("there is no script %q", script)
	return ""
}

// begin runs a write of account 1 in the background, up to its second step.
func (l *eventualLedger) begin(w way, text string) (*testenv.Trap, <-chan error) {
	l.t.Helper()
	trap := l.proxy.HoldRequest(l.step)
	commit := w.set(context.Background(), l.t, l.ledger, text)
	returned := make(chan error, 1)
	go func() { returned <- commit() }()
	await(l.t, "the write's second step", trap.Reached())
	return trap, returned
}

func (l *eventualLedger) end(trap *testenv.Trap, returned <-chan error) {
	l.t.Helper()
	trap.Release()
	if err := await(l.t, "the write's end", returned); err != nil {
		l.t.Errorf("the write: %v", err)
	}
}

// eachFormat runs a test for eventual rules of each format, and once for a strict rule in
// the mode that makes it eventual.
func eachFormat(t *testing.T, test func(*testing.T, *eventualLedger)) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) { test(t, newEventual(t, format, nil)) })
	}
	t.Run("wtcache_mode=eventual", func(t *testing.T) {
		test(t, newEventual(t, "", func(c *wtcache.Config) { patient(c); c.Mode = wtcache.ModeEventual }))
	})
}

// The first hole: a commit is visible, and readers get the old row, until the write's
// second step has arrived. With a fence they would read the database.
func TestEventualReadsTheOldRowUntilTheSecondStep(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *eventualLedger) {
		for _, w := range eventualWays {
			l.reset(t)
			l.warm(1)
			trap, returned := l.begin(w, setOne)
			l.wantRow(1, 1)
			if got := l.read(1); got != 0 {
				t.Errorf("%s: a reader gets %d before the second step: there is no hole", w.name, got)
			}
			l.wantCached(1, 0)
			l.end(trap, returned)
			l.wantAbsent(1)
			l.wantTrue()
			l.wantCached(1, 1)
		}
	})
}

// childEnv makes the test binary a writer that another test kills.
const childEnv = "WTCACHE_TEST_EVENTUAL_CHILD"

type childSetup struct{ DSN, Redis, Rule, Text string }

// TestEventualChild is not a test but the writer of the tests that kill one.
func TestEventualChild(t *testing.T) {
	text := os.Getenv(childEnv)
	if text == "" {
		return
	}
	var s childSetup
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	db, err := wtcache.OpenDB(pgxConnector(t, s.DSN), wtcache.Config{
		Redis: redisClient(t, s.Redis), Rules: fstest.MapFS{"accounts.yaml": {Data: []byte(s.Rule)}},
		RedisTimeout: patience, FenceLife: 4 * patience, Outbox: wtcache.OutboxOff,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = db.Exec(s.Text)
	t.Fatalf("the write ended before its process was killed: %v", err)
}

// killAtSecondStep has another process write account 1, and kills it between COMMIT and
// its second step, after which in between has run.
func (l *eventualLedger) killAtSecondStep(inBetween func()) {
	l.t.Helper()
	setup, err := json.Marshal(childSetup{l.dsn, l.proxy.URL, string(l.rules(eventualRule)["accounts.yaml"].Data), setOne})
	if err != nil {
		l.t.Fatal(err)
	}
	trap := l.proxy.HoldRequest(l.step)
	child := exec.Command(os.Args[0], "-test.run=^TestEventualChild$")
	child.Env = append(os.Environ(), childEnv+"="+string(setup))
	var out bytes.Buffer
	child.Stdout, child.Stderr = &out, &out
	if err := child.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- child.Wait() }()
	select {
	case <-trap.Reached():
	case err := <-ended:
		l.t.Fatalf("the writer: %v: %s", err, out.String())
	case <-time.After(patience):
		_ = child.Process.Kill()
		l.t.Fatalf("the writer never came to its second step: %s", out.String())
	}
	inBetween()
	if err := child.Process.Kill(); err != nil {
		l.t.Fatal(err)
	}
	<-ended
	trap.Cut()
}

// wantOldUntilTTL: the row is 1 and the entry 0, for readers too, until the entry's TTL has
// passed, which no reader puts off.
func (l *eventualLedger) wantOldUntilTTL() {
	l.t.Helper()
	ctx := context.Background()
	l.wantRow(1, 1)
	if got := l.read(1); got != 0 {
		l.t.Errorf("a reader gets %d: there is no hole", got)
	}
	names := []string{l.key(1), pointerOf(l.key(1)), "{" + l.key(1) + "}:wtm"}
	lives := 0
	for _, name := range names {
		life := l.rdb.PTTL(ctx, name).Val()
		if life > 10*time.Minute || life == -1 {
			l.t.Errorf("%s lives %v, its TTL is ten minutes", name, life)
		}
		if life > 0 {
			lives++
		}
		l.rdb.PExpire(ctx, name, time.Millisecond) // the TTL's end
	}
	if lives == 0 {
		l.t.Error("nothing of the entry has a TTL")
	}
	eventually(l.t, "the entry expires", func() bool {
		_, there := l.entry(1)
		return !there
	})
	l.wantTrue()
	l.wantCached(1, 1)
}

// The second hole: a process that dies between COMMIT and the second step leaves the old
// entry behind, until its TTL. With a fence the key would have been absent.
func TestEventualCrashLeavesTheOldEntry(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			l := newEventual(t, format, nil)
			l.warm(1)
			l.killAtSecondStep(func() {})
			l.wantOldUntilTTL()
		})
	}
}

// The third hole: a reader that has read the row before COMMIT puts it into Redis after
// it, where nothing was cached before. The second step takes it away; where that never
// comes it stays until the TTL. A fence would have ended the reader's lease.
func TestEventualFillInBetween(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			l := newEventual(t, format, nil)
			g := newGatedCache(l.ledger)
			snapshot := func() *gatedReader {
				l.reset(t)
				r := g.start(t)
				for range stepFill {
					r.step()
				}
				l.wantAbsent(1)
				return r
			}
			r := snapshot()
			trap, returned := l.begin(ways[0], setOne)
			r.finish()
			l.wantRow(1, 1)
			l.wantCached(1, 0)
			l.end(trap, returned)
			l.wantAbsent(1)
			l.wantTrue()

			r = snapshot()
			l.killAtSecondStep(r.finish)
			l.wantCached(1, 0)
			l.wantOldUntilTTL()
		})
	}
}

// The fourth hole: Redis cannot be reached after COMMIT. The write has succeeded, and what
// is owed is in this process's memory: its own readers know and read the database, those
// of other processes get the old row. With a fence the key would be out of use.
func TestEventualOutageAfterCommit(t *testing.T) {
	for _, format := range allFormats {
		for _, ends := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/the process ends: %v", format, ends), func(t *testing.T) {
				t.Parallel()
				l := newEventual(t, format, nil)
				writer := &eventualLedger{l.beside(ledgerSetup{redis: l.proxy.URL, rule: eventualRule, format: format}), l.proxy, l.step}
				l.cache = l.beside(ledgerSetup{rule: eventualRule, format: format}).cache // past the proxy: another process
				l.warm(1)
				trap, returned := writer.begin(ways[0], setOne)
				l.proxy.Pause()
				trap.Cut()
				l.proxy.Cut()
				if err := await(t, "the write's end", returned); err != nil {
					t.Errorf("a committed write gave %v", err)
				}
				if n := writer.stats().Redis.Owed; n == 0 {
					t.Error("nothing is owed")
				}
				if got := writer.read(1); got != 1 {
					t.Errorf("the writer's own reader gets %d", got)
				}
				if got := l.read(1); got != 0 {
					t.Errorf("another process's reader gets %d: there is no hole", got)
				}
				if ends {
					if err := writer.db.Close(); !errors.Is(err, cachesync.ErrDebtsLost) {
						t.Errorf("the process ended with %v", err)
					}
					l.proxy.Resume()
					l.wantOldUntilTTL()
					return
				}
				l.proxy.Resume()
				eventually(t, "nothing is owed", func() bool { return writer.stats().Redis.Owed == 0 })
				l.wantAbsent(1)
				l.wantTrue()
			})
		}
	}
}
