package wtcache_test

import (
	"context"
	"encoding/json"
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
	// holes: the rule is eventual, and a crash after COMMIT leaves the old entry.
	holes bool
	// alike: Redis is sent what Tx sends it, so that its points are all there is to see.
	alike bool
	// lost: the wire to Postgres loses the answer to COMMIT, or the COMMIT itself.
	lost bool
	// many: more keys are written than fit into one pipeline, and all of them are looked at.
	many bool
	// requests are the least that it sends to Redis: a kill comes before each of them.
	requests int
}

// Accounts of a path that writes many. A pipeline of cachesync takes 500 keys.
const manyAccounts = 600

// ids are the accounts that may have been written.
func (p path) ids() (ids []int) {
	n := 2
	if p.many {
		n = manyAccounts
	}
	for id := 1; id <= n; id++ {
		ids = append(ids, id)
	}
	return ids
}

// spread are those that readers ask for.
func (p path) spread() (ids []int) {
	for _, id := range p.ids() {
		if id <= 2 || id%60 == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

const (
	upToCommit = "settled,keys fenced,fenced"
	afterIt    = "committed,keys applied,applied"
	// The caller is at the last of these while the ones before it are still to come.
	asyncAfterIt = "committed,behind,keys applied,applied"
)

func points(lists ...string) []string { return strings.Split(strings.Join(lists, ","), ",") }

var paths = []path{
	{name: "Tx", requests: 2, child: child{Tx: true, Texts: []string{setOne}}, points: points(upToCommit, afterIt)},
	{name: "COMMIT as text", child: child{Texts: []string{"BEGIN", "SAVEPOINT a", setOne, "RELEASE a", "COMMIT"}}, alike: true, points: points(upToCommit, afterIt)},
	{name: "one text", child: child{Texts: []string{"BEGIN; " + setOne + "; COMMIT"}}, alike: true, points: points(upToCommit, afterIt)},
	{name: "implicit transaction", child: child{Texts: []string{setOne + "; UPDATE unruled SET n = 1"}}, alike: true, points: points(upToCommit, afterIt)},
	{name: "fence first", requests: 2, child: child{Texts: []string{setOne}}, points: points("keys fenced,fenced", afterIt)},
	{name: "lock first", requests: 2, child: child{Texts: []string{setOne + " AND n >= 0 OR id < 0"}}, points: points("written", upToCommit, afterIt)},
	{name: "many keys", requests: 4, child: child{Tx: true, Texts: []string{"UPDATE accounts SET n = 1"}, Fence: childFenceOfMany}, points: points(upToCommit, afterIt), many: true},
	{name: "coarse", requests: 7, child: child{Texts: []string{coarseOne}}, points: points("written,settled,keys fenced,barred,fenced", afterIt)},
	{name: "keys and coarse", requests: 10, child: child{Tx: true, Texts: []string{setOne, "WITH u AS (UPDATE accounts SET n = 1 WHERE id = 2) SELECT 1"}},
		points: points("settled,keys fenced,barred,fenced", afterIt)},
	{name: "eventual", requests: 1, child: child{Texts: []string{setOne}}, points: points("committed,keys applied,applied"), rule: "consistency: eventual\nttl: 3s\n", holes: true},
	{name: "eventual Tx", requests: 1, child: child{Tx: true, Texts: []string{setOne}}, points: points(upToCommit, afterIt), rule: "consistency: eventual\nttl: 3s\n", holes: true},
	{name: "async", requests: 2, child: child{Texts: []string{setOne}}, points: points("keys fenced,fenced", asyncAfterIt), rule: asyncRule},
	{name: "async Tx", requests: 2, child: child{Tx: true, Texts: []string{setOne}}, points: points(upToCommit, asyncAfterIt), rule: asyncRule},
	{name: "async eventual", requests: 1, child: child{Texts: []string{setOne}}, points: points(asyncAfterIt), rule: asyncRule + "consistency: eventual\nttl: 3s\n", holes: true},
	{name: "in doubt", requests: 2, child: child{Tx: true, Texts: []string{setOne}}, points: points(upToCommit, "committed,in doubt,asked,keys applied,resolved,applied"), lost: true},
}

// crashed is a case whose child is dead and whose fences may still live.
type crashed struct {
	name   string
	l      *ledger
	absent int // keys without an entry, at once
}

// A process can be killed at any point of a write. What readers get then must be what is in
// the database, at once and for good: the old row before the COMMIT, the new one after it,
// and never one that was not committed. And no key may stay out of use for longer than a
// dead writer's fence lives.
func TestCrashWindows(t *testing.T) {
	reached := map[string]bool{"queued": true} // without Redis, by TestQueueOfAKilledProcess
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
		if !p.alike && afterCommit(p, i) && point != "keys applied" && point != "behind" {
			// One whose COMMIT fails gives back what it fenced.
			all = append(all, crashAt(t, p, point, i, true))
		}
	}
	kills := 0
	for killed := !p.alike; killed; {
		var c crashed
		if c, killed = crashBefore(t, p, kills+1); killed {
			kills++
		}
		all = append(all, c)
	}
	if kills < p.requests || p.alike != (p.requests == 0) {
		t.Errorf("writers were killed before %d requests to Redis, and they send at least %d", kills, p.requests)
	}
	if between := func(c crashed) bool { return c.absent > 0 && c.absent < manyAccounts }; p.many && !slices.ContainsFunc(all, between) {
		t.Error("no writer was killed between two pipelines of fences")
	}
	for _, c := range all {
		t.Run(c.name+"/later", func(t *testing.T) {
			c.l.t = t
			c.l.wantInUse(p)
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
	l, absent := crashLedger(t, p), 0
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
		absent = l.wantTrueAtOnce(p)
		l.wantRow(1, want)
	})
	return crashed{name, l, absent}
}

// crashBefore kills a writer before one of its requests to Redis: between any two of the
// pipelines and walks that the points do not name.
func crashBefore(t *testing.T, p path, request int) (_ crashed, killed bool) {
	t.Helper()
	name := "before request " + strconv.Itoa(request)
	l, absent := crashLedger(t, p), 0
	t.Run(name, func(t *testing.T) {
		l.t = t
		c := l.child(p, false)
		c.Request = request
		killed = c.end(t)
		absent = l.wantTrueAtOnce(p)
		if !killed {
			l.wantRow(1, 1)
		}
	})
	return crashed{name, l, absent}, killed
}

// crashLedger is a warm ledger for one case. It holds no connections, since there are many.
func crashLedger(t *testing.T, p path) *ledger {
	t.Helper()
	l := newLedger(t, ledgerSetup{rule: p.rule})
	l.plain.SetMaxIdleConns(0)
	l.db.SetMaxIdleConns(0)
	if p.many { // by a writer, which is quicker than as many readers
		l.exec("INSERT INTO accounts SELECT i, 0 FROM generate_series(1, $1::int) i ON CONFLICT (id) DO UPDATE SET n = 0", manyAccounts)
		if n := len(l.entries(p.ids())); n != manyAccounts {
			t.Fatalf("%d accounts are cached", n)
		}
	} else {
		l.warm(1, 2)
	}
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
// is there must be what is, or stays, committed. It counts the keys that have no entry.
func (l *ledger) wantTrueAtOnce(p path) (absent int) {
	l.t.Helper()
	entries := l.entries(p.ids())
	eventually(l.t, "the writer's transaction is over", func() bool { return l.unlocked(1) && l.unlocked(2) })
	l.wantEntriesTrue(p, entries)
	if !p.holes {
		l.wantReadersTrue(p)
	}
	return len(p.ids()) - len(entries)
}

// wantEntriesTrue holds entries against the rows.
func (l *ledger) wantEntriesTrue(p path, entries map[int]int) {
	l.t.Helper()
	rows := l.rows()
	for id, entry := range entries {
		row, exists := rows[id]
		switch stale := !exists || entry != row; {
		case stale && p.holes && entry < row: // the old row, which such a rule allows
		case stale:
			l.t.Errorf("account %d was cached as %d and is %d in Postgres (there: %v)", id, entry, row, exists)
		}
	}
}

func (l *ledger) wantReadersTrue(p path) {
	l.t.Helper()
	for _, id := range p.spread() {
		row := l.row(id)
		if got := l.read(id); got != row {
			l.t.Errorf("a reader gets %d for account %d, which is %d in Postgres", got, id, row)
		}
	}
}

// entries looks at Redis itself, at many envelopes at a time.
func (l *ledger) entries(ids []int) map[int]int {
	l.t.Helper()
	keys := make([]string, len(ids))
	for i, id := range ids {
		keys[i] = l.key(id)
	}
	texts, err := l.rdb.MGet(context.Background(), keys...).Result()
	if err != nil {
		l.t.Fatal(err)
	}
	found := map[int]int{}
	for i, text := range texts {
		var envelope struct{ Data account }
		if text == nil {
			continue
		}
		if err := json.Unmarshal([]byte(text.(string)), &envelope); err != nil {
			l.t.Fatalf("look at account %d: %v", ids[i], err)
		}
		found[ids[i]] = envelope.Data.N
	}
	return found
}

// rows looks at Postgres itself.
func (l *ledger) rows() map[int]int {
	l.t.Helper()
	rows, err := l.plain.Query("SELECT id, n FROM accounts")
	if err != nil {
		l.t.Fatal(err)
	}
	defer rows.Close()
	all := map[int]int{}
	for rows.Next() {
		var id, n int
		if err := rows.Scan(&id, &n); err != nil {
			l.t.Fatal(err)
		}
		all[id] = n
	}
	if err := rows.Err(); err != nil {
		l.t.Fatal(err)
	}
	return all
}

// wantInUse waits until readers fill the keys again. Until then, and from then on, they get
// what is in the database.
func (l *ledger) wantInUse(p path) {
	l.t.Helper()
	for _, id := range p.spread() {
		row := l.row(id)
		eventually(l.t, fmt.Sprintf("account %d is cached as it is", id), func() bool {
			l.read(id)
			n, there := l.entry(id)
			return there && n == row && !l.fenced(id)
		})
	}
	l.wantReadersTrue(p)
	p.holes = false
	l.wantEntriesTrue(p, l.entries(p.ids()))
}
