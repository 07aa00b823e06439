package wtcache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
)

// stampede is how many readers want an absent key at once.
const stampede = 500

// An entry that many want and that has just gone must not let them all loose on the
// database: in one process its row is read once.
func TestStampede(t *testing.T) {
	for _, format := range allFormats {
		for _, m := range []moment{{"lease", false}, {"select", true}} {
			t.Run(format+"/"+m.String(), func(t *testing.T) {
				a := newAirport(t, airportSetup{format: format})
				first := a.stop(t, m, "")
				all := crowd(a, stampede)
				first.await(t)
				a.seated(stampede - 1) // all the others
				first.open()
				if wrong := a.wrong(all); len(wrong) > 0 {
					t.Errorf("%d readers did not get the row, one got %+v", len(wrong), wrong[0])
				}
				a.wantReads(1)
				if s := a.stats(); s.Fills != a.before.Fills+1 {
					t.Errorf("%d fills", s.Fills-a.before.Fills)
				}
				a.wantCached(1, 1)
			})
		}
	}
}

// crowd has so many read account 1 in all ways, from one moment on.
func crowd(a *airport, n int) <-chan got {
	ways := []byWay{byCache, byGet, byRow, byMany}
	all, start := make(chan got, n), make(chan struct{})
	for i := range n {
		go func() {
			<-start
			all <- ways[i%len(ways)](context.Background(), a)
		}()
	}
	close(start)
	return all
}

// wrong gives what was not account 1's row.
func (a *airport) wrong(all <-chan got) (wrong []got) {
	a.t.Helper()
	for range cap(all) {
		if g := await(a.t, "a reader's row", all); g.err != nil || g.n != 1 {
			wrong = append(wrong, g)
		}
	}
	return wrong
}

// A service has many processes. While nobody writes, the lease keeps all but one of them
// from the database; a second read is what a lease costs that ends too early.
func TestStampedeOfProcesses(t *testing.T) {
	const processes = 4
	for _, format := range []string{"envelope", "plain", "hash", "versioned"} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/held %v", format, held), func(t *testing.T) {
				a := newAirport(t, airportSetup{format: format})
				if held {
					a.read(1) // binds the rules
					a.reset(t)
				}
				a.processes(processes, held)
				a.wantCached(1, 1)
			})
		}
	}
}

// crowdReport is what a process says at its end.
type crowdReport struct {
	Reads, Selects int64 // by Stats, and as the base driver has seen them
	Wrong          []string
}

// processes runs so many, each with its share of the readers. Held: another one has the
// lease until all readers wait.
func (a *airport) processes(n int, held bool) {
	a.t.Helper()
	c := child{Postgres: a.dsn, Redis: a.redis, Rules: a.ruleText(""), Readers: stampede / n, Held: held}
	lines := make([]func() string, n)
	starts := make([]io.Closer, n)
	for i := range n {
		cmd, in, out := c.start(a.t)
		a.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		starts[i] = in
		lines[i] = func() string {
			if !out.Scan() {
				a.t.Fatalf("process %d ended early: %v", i, out.Err())
			}
			return out.Text()
		}
	}
	a.wantLines(lines, "ready")
	release := func() {}
	if held {
		other := a.other()
		lease := a.lease(other, 1)
		release = func() { other.Release(context.Background(), lease) }
	}
	for _, in := range starts {
		_ = in.Close()
	}
	if held {
		a.wantLines(lines, "waiting")
	}
	release()
	var reads int64
	for i, line := range lines {
		var r crowdReport
		if err := json.Unmarshal([]byte(line()), &r); err != nil {
			a.t.Fatal(err)
		}
		if r.Reads != r.Selects || len(r.Wrong) > 0 {
			a.t.Errorf("process %d: %+v", i, r)
		}
		reads += r.Selects
	}
	if reads < 1 || reads > 2 {
		a.t.Errorf("%d reads of the database", reads)
	}
}

func (a *airport) wantLines(lines []func() string, want string) {
	a.t.Helper()
	for i, line := range lines {
		if got := line(); got != want {
			a.t.Fatalf("process %d says %q, want %q", i, got, want)
		}
	}
}

// crowd is a process of many readers.
func (c *child) crowd() error {
	a, err := c.land()
	if err != nil {
		return err
	}
	defer a.db.Close()
	fmt.Println("ready")
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	all := crowd(a, c.Readers)
	for c.Held && a.count().Shared-a.before.Shared < uint64(c.Readers-1) {
		time.Sleep(time.Millisecond)
	}
	if c.Held {
		fmt.Println("waiting")
	}
	r := crowdReport{Wrong: []string{}}
	for range c.Readers {
		if g := <-all; g.err != nil || g.n != 1 {
			r.Wrong = append(r.Wrong, fmt.Sprintf("%+v", g))
		}
	}
	r.Reads, r.Selects = int64(a.count().DatabaseReads-a.before.DatabaseReads), a.selects.Load()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// land is newAirport in a process without a test. Account 2 has been read.
func (c *child) land() (*airport, error) {
	names, err := scriptNames()
	if err != nil {
		return nil, err
	}
	base, err := pgx.ParseConfig(c.Postgres)
	if err != nil {
		return nil, err
	}
	o, err := crowdedOptions(c.Redis)
	if err != nil {
		return nil, err
	}
	a := &airport{ledger: &ledger{}, lookout: &lookout{scripts: scripts{names: names}}}
	cfg := wtcache.Config{
		Redis: redis.NewClient(o), Rules: fstest.MapFS{"accounts.yaml": {Data: []byte(c.Rules)}},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), FillWait: 10 * patience, Outbox: wtcache.OutboxOff,
	}
	patient(&cfg)
	cfg.Redis.AddHook(a.lookout)
	if a.db, err = wtcache.OpenDB(watched{stdlib.GetConnector(*base), a.lookout}, cfg); err != nil {
		return nil, err
	}
	if a.cache, err = wtcache.CacheOf(a.db); err != nil {
		return nil, err
	}
	if a.reader, err = wtcache.ReaderOf[account](a.db, "accounts"); err != nil {
		return nil, err
	}
	if _, err := a.reader.Get(context.Background(), 2); err != nil {
		return nil, err
	}
	a.selects.Store(0)
	a.before = a.count()
	return a, nil
}

// count is stats without a test.
func (a *airport) count() wtcache.Stats {
	s, _ := wtcache.StatsOf(a.db) // it was opened through wtcache
	return s
}

// While Redis is down the database has all the readers, and that is when it can bear the
// least: those who want the same row share its reads.
func TestStampedeWithoutRedis(t *testing.T) {
	const readers = 200
	server := ownRedis(t)
	a := newAirport(t, airportSetup{redis: server.URL})
	a.warm(1, 2)
	server.Kill()
	a.mark()
	for _, m := range []moment{{"select", false}, {"select", true}} {
		first := a.stop(t, m, "")
		all := crowd(a, readers)
		first.await(t)
		a.seated(readers - 1)
		first.open()
		if wrong := a.wrong(all); len(wrong) > 0 {
			t.Errorf("%d readers did not get the row, one got %+v", len(wrong), wrong[0])
		}
		// Those who came after the first read was sent share the second one.
		if n := a.selects.Load(); n < 1 || n > 2 || a.most.Load() > 2 {
			t.Errorf("%d reads of the database, %d at once", n, a.most.Load())
		}
		eventually(t, "no read is under way", func() bool { return !flying() })
		a.mark()
	}
}

// A transaction reads its rows itself where Redis cannot be asked.
func TestReadInTxWithoutRedis(t *testing.T) {
	server := ownRedis(t)
	a := newAirport(t, airportSetup{redis: server.URL})
	a.warm(1, 2)
	server.Kill()
	tx, err := a.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	for i, by := range []byWay{byCache, byTwo} {
		if g := by(context.Background(), a, wtcache.In(tx)); g.err != nil || !g.found || g.n != 1 {
			t.Errorf("way %d: a reader got %+v", i, g)
		}
	}
}

// One batch may meet a key in every state. Each row must be right and at its place, with
// one statement for those that may be filled and one for those that Redis must not be
// asked for.
func TestBatchOfEveryState(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			server := ownRedis(t)
			a := newAirport(t, airportSetup{format: format, redis: server.URL})
			if _, err := a.plain.Exec("UPDATE accounts SET n = 10 * id"); err != nil {
				t.Fatal(err)
			}
			a.owe(server.Kill, server.Restart, 5)
			a.read(3)
			other := a.other()
			a.lease(other, 4)
			fence, err := other.Fence(context.Background(), []string{a.key(2)})
			if err != nil {
				t.Fatal(err)
			}
			a.mark()
			keys := []any{3, 1, 5, 2, 4, 99, 1, 3, wtcache.Key{"id": 6}, wtcache.Values{5}, 98, 99}
			ids := []int{3, 1, 5, 2, 4, 99, 1, 3, 6, 5, 98, 99}
			rows, err := a.reader.With(wtcache.WaitForFill(0)).GetMany(context.Background(), keys...)
			if err != nil {
				t.Fatal(err)
			}
			for i, row := range rows {
				id := ids[i]
				if row.Found != (id < 10) || row.Found && (row.Value.ID != id || row.Value.N != a.row(id)) {
					t.Errorf("key %d of %d, account %d: %+v", i+1, len(keys), id, row)
				}
				if row.FromCache != (id == 3) {
					t.Errorf("account %d is from the cache: %v", id, row.FromCache)
				}
			}
			if len(rows) != len(keys) {
				t.Errorf("%d rows for %d keys", len(rows), len(keys))
			}
			a.wantReads(2)
			for _, id := range []int{2, 4} {
				a.wantAbsent(id)
			}
			a.wantCached(1, 10)
			a.wantCached(6, 60)
			fence.Abort(context.Background())
		})
	}
}

// owe has an account's key owed until the test ends: it was written while Redis was
// down, and the request that settles it stands. Redis still has the old row.
func (a *airport) owe(kill, restart func(), id int) {
	a.t.Helper()
	a.read(id)
	kill()
	a.exec("UPDATE accounts SET n = 555 WHERE id = $1", id)
	settles := make([]*stop, 0, 2)
	for _, request := range []string{"invalidate", "apply"} {
		settles = append(settles, a.stop(a.t, moment{request, false}, a.key(id)))
	}
	restart()
	eventually(a.t, "the debt is about to be settled", func() bool {
		for _, s := range settles {
			select {
			case <-s.arrived:
				return true
			default:
			}
		}
		return false
	})
	if n, there := a.entry(id); !there || n == 555 {
		a.t.Fatalf("account %d is cached as %d (there: %v), want the old row", id, n, there)
	}
	eventually(a.t, "Redis is used again", func() bool {
		a.read(9)
		_, there := a.entry(9)
		return there
	})
}
