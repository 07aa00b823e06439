package wtcache_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
)

// path is a way through the driver on which account 1 gets a 1.
type path struct {
	name   string
	child  child
	points []string // in order; after "fenced" comes what commits
	rule   string
	setup  string
	// holes: the rule is eventual, and a crash after COMMIT leaves the old entry.
	holes bool
	// alike: Redis is sent what Tx sends it, so that its points are all there is to see.
	alike bool
	// lost: the wire to Postgres loses the answer to COMMIT, or the COMMIT itself.
	lost bool
}

const (
	upToCommit = "settled,keys fenced,fenced"
	afterIt    = "committed,keys applied,applied"
)

func points(lists ...string) []string { return strings.Split(strings.Join(lists, ","), ",") }

var paths = []path{
	{name: "Tx", child: child{Tx: true, Texts: []string{setOne}}, points: points(upToCommit, afterIt)},
	{name: "COMMIT as text", child: child{Texts: []string{"BEGIN", "SAVEPOINT a", setOne, "RELEASE a", "COMMIT"}}, alike: true, points: points(upToCommit, afterIt)},
	{name: "one text", child: child{Texts: []string{"BEGIN; " + setOne + "; COMMIT"}}, alike: true, points: points(upToCommit, afterIt)},
	{name: "implicit transaction", child: child{Texts: []string{setOne + "; UPDATE unruled SET n = 1"}}, alike: true, points: points(upToCommit, afterIt)},
	{name: "fence first", child: child{Texts: []string{setOne}}, points: points("keys fenced,fenced", afterIt)},
	{name: "lock first", child: child{Texts: []string{setOne + " AND n >= 0 OR id < 0"}}, points: points("written", upToCommit, afterIt)},
	{name: "many keys", child: child{Tx: true, Texts: []string{"UPDATE accounts SET n = 1"}}, points: points(upToCommit, afterIt),
		setup: "INSERT INTO accounts SELECT i, 0 FROM generate_series(10, 600) i"},
	{name: "coarse", child: child{Texts: []string{coarseOne}}, points: points("written,settled,keys fenced,barred,fenced", afterIt)},
	{name: "keys and coarse", child: child{Tx: true, Texts: []string{setOne, "WITH u AS (UPDATE accounts SET n = 1 WHERE id = 2) SELECT 1"}},
		points: points("settled,keys fenced,barred,fenced", afterIt)},
	{name: "eventual", child: child{Texts: []string{setOne}}, points: points("committed,keys applied,applied"), rule: "consistency: eventual\nttl: 3s\n", holes: true},
	{name: "eventual Tx", child: child{Tx: true, Texts: []string{setOne}}, points: points(upToCommit, afterIt), rule: "consistency: eventual\nttl: 3s\n", holes: true},
	{name: "in doubt", child: child{Tx: true, Texts: []string{setOne}}, points: points(upToCommit, "committed,in doubt,asked,keys applied,resolved,applied"), lost: true},
}

// crashed is a case whose child is dead and whose fences may still live.
type crashed struct {
	name string
	l    *ledger
}

// A process can be killed at any point of a write. What readers get then must be what is in
// the database, at once and for good: the old row before the COMMIT, the new one after it,
// and never one that was not committed. And no key may stay out of use for longer than a
// dead writer's fence lives.
func TestCrashWindows(t *testing.T) {
	reached := map[string]bool{}
	for _, p := range paths {
		for _, point := range p.points {
			reached[point] = true
		}
		t.Run(p.name, func(t *testing.T) {
			t.Parallel() // the children kill themselves, not each other
			p.crashEverywhere(t)
		})
	}
	if got, want := slices.Sorted(maps.Keys(reached)), namedPoints(t); !slices.Equal(got, want) {
		t.Errorf("crash.go and the driver name the points\n%q, and tested are\n%q", want, got)
	}
}

// crashEverywhere kills writers on one path. What they fenced expires while others are killed.
func (p path) crashEverywhere(t *testing.T) {
	var all []crashed
	for i, point := range p.points {
		all = append(all, crashAt(t, p, point, i, false))
		if !p.alike && afterCommit(p, i) && point != "keys applied" {
			// One whose COMMIT fails gives back what it fenced.
			all = append(all, crashAt(t, p, point, i, true))
		}
	}
	for request, killed := 1, !p.alike; killed; request++ {
		var c crashed
		c, killed = crashBefore(t, p, request)
		all = append(all, c)
	}
	for _, c := range all {
		t.Run(c.name+"/later", func(t *testing.T) {
			c.l.t = t
			c.l.wantInUse()
		})
	}
}

func afterCommit(p path, i int) bool {
	return slices.Index(p.points, "committed") >= 0 && i >= slices.Index(p.points, "committed")
}

// namedPoints are those that crash.go lists, which must be those that the code has.
func namedPoints(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("crash.go")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, m := range regexp.MustCompile(`(?m)^//\t([a-z ]+?)  +`).FindAllStringSubmatch(string(text), -1) {
		listed = append(listed, m[1])
	}
	slices.Sort(listed)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	called := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		for _, m := range regexp.MustCompile(`crashPoint\("([^"]+)"\)`).FindAllStringSubmatch(string(text), -1) {
			called[m[1]] = true
		}
	}
	if got := slices.Sorted(maps.Keys(called)); !slices.Equal(got, listed) {
		t.Errorf("crash.go lists %q, and the code has %q", listed, got)
	}
	return listed
}

// crashAt kills a writer at a named point, and looks at what is left at once.
func crashAt(t *testing.T, p path, point string, i int, refused bool) crashed {
	t.Helper()
	name := point
	if refused {
		name += "/COMMIT fails"
	}
	l := crashLedger(t, p)
	t.Run(name, func(t *testing.T) {
		l.t = t
		c := l.child(p, refused)
		c.Point = point
		if !c.end(t) {
			t.Fatal("the child did not come to that point")
		}
		want := 0
		if afterCommit(p, i) && !refused {
			want = 1
		}
		l.wantTrueAtOnce(p)
		l.wantRow(1, want)
	})
	return crashed{name, l}
}

// crashBefore kills a writer before one of its requests to Redis: between any two of the
// pipelines and walks that the points do not name.
func crashBefore(t *testing.T, p path, request int) (_ crashed, killed bool) {
	t.Helper()
	name := "before request " + strconv.Itoa(request)
	l := crashLedger(t, p)
	t.Run(name, func(t *testing.T) {
		l.t = t
		c := l.child(p, false)
		c.Request = request
		killed = c.end(t)
		l.wantTrueAtOnce(p)
		if !killed {
			l.wantRow(1, 1)
		}
	})
	return crashed{name, l}, killed
}

// crashLedger is a warm ledger for one case. It holds no connections, since there are many.
func crashLedger(t *testing.T, p path) *ledger {
	t.Helper()
	l := newLedger(t, ledgerSetup{rule: p.rule})
	l.plain.SetMaxIdleConns(0)
	l.db.SetMaxIdleConns(0)
	if p.setup != "" {
		l.must(p.setup)
	}
	l.warm(1, 2)
	return l
}

// child makes the path's process. Where its COMMIT is to fail, it breaks a deferred foreign key.
func (l *ledger) child(p path, refused bool) child {
	l.t.Helper()
	c := p.child
	c.Postgres, c.Redis, c.Rules = l.dsn, testenv.RealRedis(l.t), l.ruleText(p.rule)
	if p.lost {
		proxy := testenv.ProxyURL(l.t, testenv.Postgres(l.t))
		c.Postgres = withSearchPath(l.t, proxy.URL, l.schema)
		if refused {
			proxy.CutRequest("commit")
		} else {
			proxy.CutReply("commit")
		}
		return c
	}
	c.Texts = slices.Clone(c.Texts)
	if refused {
		for i := range c.Texts {
			c.Texts[i] = strings.Replace(c.Texts[i], "n = 1", "n = 1, owner = 99", 1)
		}
	}
	return c
}

// wantTrueAtOnce looks at Redis before the server may have seen that the writer is dead: what
// is there must be what is, or stays, committed.
func (l *ledger) wantTrueAtOnce(p path) {
	l.t.Helper()
	var entries [3]int
	var there [3]bool
	for id := 1; id <= 2; id++ {
		entries[id], there[id] = l.entry(id)
	}
	eventually(l.t, "the writer's transaction is over", func() bool { return l.unlocked(1) && l.unlocked(2) })
	for id := 1; id <= 2; id++ {
		row := l.row(id)
		switch stale := there[id] && entries[id] != row; {
		case stale && p.holes && entries[id] < row: // the old row, which such a rule allows
		case stale:
			l.t.Errorf("account %d was cached as %d and is %d in Postgres", id, entries[id], row)
		}
		if p.holes {
			continue
		}
		if got := l.read(id); got != row {
			l.t.Errorf("a reader gets %d for account %d, which is %d in Postgres", got, id, row)
		}
	}
}

// wantInUse waits until readers fill the keys again. Until then, and from then on, they get
// what is in the database.
func (l *ledger) wantInUse() {
	l.t.Helper()
	for id := 1; id <= 2; id++ {
		row := l.row(id)
		eventually(l.t, fmt.Sprintf("account %d is cached as it is", id), func() bool {
			l.read(id)
			n, there := l.entry(id)
			return there && n == row && !l.fenced(id)
		})
		if got := l.read(id); got != row {
			l.t.Errorf("a reader gets %d for account %d, which is %d in Postgres", got, id, row)
		}
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
	l.wantInUse()
	l.wantTrue()
}
