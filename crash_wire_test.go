package wtcache_test

import (
	"strconv"
	"syscall"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
)

// wirePaths are the ways to commit, and what the message that commits holds.
var wirePaths = []struct {
	path
	match string
}{
	{path{name: "Tx", child: child{Tx: true, Texts: []string{setOne}}}, "commit"},
	{path{name: "fence first", child: child{Texts: []string{setOne}}}, "update accounts"},
	{path{name: "lock first", child: child{Texts: []string{setOne + " AND n >= 0 OR id < 0"}}}, "commit"},
	{path{name: "coarse", child: child{Texts: []string{coarseOne}}}, "commit"},
}

// wireDeaths are what becomes of that message when its sender is killed before it has an answer.
var wireDeaths = []struct {
	name    string
	trap    func(*testenv.Proxy, string) *testenv.Trap
	arrives bool
}{
	{"never arrives", (*testenv.Proxy).HoldRequest, false},
	{"arrives from the dead", (*testenv.Proxy).HoldRequest, true},
	{"is carried out for the dead", (*testenv.Proxy).HoldReply, true},
}

// A process can be killed when all that it could do is done and the rest is the server's, which may commit although nobody
// waits for it any more. Whoever fills the old row until then keeps it for good.
func TestCrashOnTheWire(t *testing.T) {
	for _, w := range wirePaths {
		for _, d := range wireDeaths {
			t.Run(w.name+"/"+d.name, func(t *testing.T) {
				t.Parallel()
				l := crashLedger(t, w.path)
				proxy := testenv.ProxyURL(t, testenv.Postgres(t))
				trap := d.trap(proxy, w.match)
				c := w.child
				c.Postgres, c.Redis, c.Rules = withSearchPath(t, proxy.URL, l.schema), testenv.RealRedis(t), l.ruleText("")
				c.kill(t, trap)
				// Nobody may read while the message is on its way to come: a dead writer's fence bars readers for its own
				// life alone, and how long this test takes is no part of the promise.
				l.wantAbsent(1)
				want := 0
				if d.arrives {
					trap.Release()
					eventually(t, "the server commits for the dead", func() bool { return l.row(1) == 1 })
					want = 1
				} else {
					l.wantReadersTrue(w.path)
					trap.Cut()
				}
				l.wantTrueAtOnce(w.path)
				l.wantRow(1, want)
				l.wantInUse(w.path)
				l.wantRow(1, want)
			})
		}
	}
}

// kill ends a child once the trap holds its message.
func (c child) kill(t *testing.T, trap *testenv.Trap) {
	t.Helper()
	cmd, _, _ := c.start(t)
	await(t, "the message that commits", trap.Reached())
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its state says more
	if status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed but ended: %v", cmd.ProcessState)
	}
}

// One service can be killed while another writes the same row: what the living one was told
// is committed must never be taken back in the cache by what the dead one left.
func TestCrashBesideAnotherWriter(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	const fenceFirst, lockFirst = "UPDATE accounts SET n = n + 1 WHERE id = 1", "UPDATE accounts SET n = n + 1 WHERE abs(id) = 1"
	living := child{
		Postgres: l.dsn, Redis: testenv.RealRedis(t), Rules: l.ruleText(""), Loop: true,
		Texts: []string{fenceFirst + " RETURNING n", lockFirst + " RETURNING n"},
	}
	cmd, in, out := living.start(t)
	checked := make(chan int)
	go func() { // the reader, who hears of every COMMIT
		reads := 0
		for out.Scan() {
			acknowledged, err := strconv.Atoi(out.Text())
			if err != nil {
				t.Errorf("the living writer said %q", out.Text())
				break
			}
			var a account
			if _, err := l.cache.Get(t.Context(), "accounts", &a, 1); err != nil || a.N < acknowledged {
				t.Errorf("a reader gets %d, %v after %d was acknowledged", a.N, err, acknowledged)
			}
			reads++
		}
		checked <- reads
	}()
	for _, text := range []string{fenceFirst, lockFirst} {
		for _, point := range points(upToCommit, afterIt) {
			if text == fenceFirst && point == "settled" {
				continue // it has no such point
			}
			dying := child{Postgres: l.dsn, Redis: living.Redis, Rules: living.Rules, Texts: []string{text}, Point: point}
			if !dying.end(t) {
				t.Errorf("%s: the child did not come to %q", text, point)
			}
		}
	}
	_ = in.Close()
	if reads := await(t, "the living writer's end", checked); reads == 0 {
		t.Error("the living writer committed nothing")
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the living writer: %v", err)
	}
	l.wantInUse(path{})
	l.wantTrue()
}
