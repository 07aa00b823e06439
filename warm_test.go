package wtcache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// Whoever warms before the readers come finds every row in Redis, and nothing that a reader would not have put there.
func TestWarmFillsWhatReadersWould(t *testing.T) {
	t.Parallel()
	h := newShelf(t, shopFloor)
	report := warm(t, h, wtcache.WarmOptions{Batch: 7, Count: true})
	if len(report.Entries) != 2 {
		t.Fatalf("%d entries were warmed, want 2: %+v", len(report.Entries), report)
	}
	h.wantCounts(report.Entries[0].WarmCounts, wtcache.WarmCounts{Rows: 100, Filled: 100}, "by_place")
	// 20 have NULL in the key and are no rows of the entry, 20 are hidden.
	h.wantCounts(report.Entries[1].WarmCounts, wtcache.WarmCounts{Rows: 80, Filled: 60, Unstorable: 20}, "by_code")
	for ord := 1; ord <= 20; ord++ {
		for pos := 1; pos <= 5; pos++ {
			want := fmt.Sprintf("%d/%d", ord, pos)
			if body, _ := cachedBody(t, h.rdb, fmt.Sprintf("%sline:%d:%d", h.prefix, pos, ord)); body != want {
				t.Errorf("line %s is cached as %q", want, body)
			}
			if _, there := cachedBody(t, h.rdb, fmt.Sprintf("%scode:%d-%d", h.prefix, ord, pos)); there != (pos > 1 && pos < 5) {
				t.Errorf("code %d-%d is cached: %v", ord, pos, there)
			}
		}
	}
	lines := readerOf[struct{ Body string }](t, h.db, "lines.by_place")
	if reads := h.databaseReads(func() { seen(t, lines, 3, 4) }); reads != 0 {
		t.Error("a reader of a warmed row asked the database")
	}
}

// What is there already is left as it is, or is read anew where that is asked for: after a write behind the cache's back, say.
func TestWarmRefreshes(t *testing.T) {
	t.Parallel()
	h := newShelf(t, shopFloor)
	of := []string{"lines.by_place"}
	warm(t, h, wtcache.WarmOptions{Entries: of})
	h.must("UPDATE lines SET body = 'behind' WHERE ord = 2")
	h.wantCounts(warm(t, h, wtcache.WarmOptions{Entries: of}).WarmCounts, wtcache.WarmCounts{Rows: 100, Cached: 100}, "again")
	key := h.prefix + "line:1:2"
	if body, _ := cachedBody(t, h.rdb, key); body != "2/1" {
		t.Errorf("what was there was exchanged for %q", body)
	}
	h.wantCounts(warm(t, h, wtcache.WarmOptions{Entries: of, Refresh: true, Parallel: 3, Batch: 9}).WarmCounts, wtcache.WarmCounts{Rows: 100, Filled: 100}, "refresh")
	if body, _ := cachedBody(t, h.rdb, key); body != "behind" {
		t.Errorf("a refresh has left %q", body)
	}
}

// A range of keys is the range: whoever splits a table among machines fills every row once.
func TestWarmRange(t *testing.T) {
	t.Parallel()
	h := newShelf(t, shopFloor)
	of := []string{"lines.by_place"}
	for _, c := range []struct {
		from, to []any
		want     int64
	}{
		{nil, []any{3}, 10},
		{[]any{3}, []any{5, 2}, 11},
		{[]any{"5", 2}, []any{20}, 74},
		{[]any{20}, nil, 5},
	} {
		for _, exact := range []bool{true, false} {
			var total int64
			got := warm(t, h, wtcache.WarmOptions{Entries: of, From: c.from, To: c.to, Batch: 4, Count: exact, Progress: func(p wtcache.WarmProgress) { total = p.Total }})
			if exact {
				h.wantCounts(got.WarmCounts, wtcache.WarmCounts{Rows: c.want, Filled: c.want}, fmt.Sprint(c.from, " to ", c.to))
			}
			if exact && total != c.want || total <= 0 {
				t.Errorf("%v to %v: the total is said to be %d of %d (exact: %v)", c.from, c.to, total, c.want, exact)
			}
		}
	}
	for _, opts := range []wtcache.WarmOptions{
		{From: []any{1}}, // of which entry?
		{Entries: of, From: []any{1, 2, 3}},
		{Entries: of, From: []any{"x"}},
		{Entries: []string{"lines.by_cod"}},
		{Entries: of, Rate: -1},
	} {
		if report, err := wtcache.Warm(t.Context(), h.db, opts); err == nil {
			t.Errorf("%+v was taken: %+v", opts, report)
		}
	}
}

// Whoever stops a long warming goes on where it was, and does not skip rows; a token of something else is refused rather than
// leave rows out.
func TestWarmResumes(t *testing.T) {
	t.Parallel()
	h := newShelf(t, shopFloor)
	opts := wtcache.WarmOptions{Batch: 10, Parallel: 3}
	var calls int
	for ; ; calls++ {
		ctx, stop := context.WithCancel(t.Context())
		before := calls
		batches := 0
		opts.Progress = func(p wtcache.WarmProgress) {
			if batches++; batches == 2 {
				stop()
			}
			opts.Resume = p.Resume
		}
		report, err := wtcache.Warm(ctx, h.db, opts)
		stop()
		if err == nil {
			sum := report.WarmCounts
			if sum.Rows != 180 || sum.Filled+sum.Cached+sum.Refused != 160 || sum.Unstorable != 20 {
				t.Errorf("in all %d calls have counted %+v", calls+1, sum)
			}
			break
		}
		if !errors.Is(err, context.Canceled) || report.Done || report.Resume == "" || before > 30 {
			t.Fatalf("call %d: %v, %+v", calls, err, report)
		}
	}
	if calls < 2 {
		t.Errorf("it was stopped %d times only", calls)
	}
	for ord := 1; ord <= 20; ord++ {
		for pos := 1; pos <= 5; pos++ {
			if !h.there(fmt.Sprintf("line:%d:%d", pos, ord)) {
				t.Errorf("line %d/%d was left out", ord, pos)
			}
		}
	}
	for _, other := range []wtcache.WarmOptions{
		{Entries: []string{"lines.by_place"}, Resume: opts.Resume},
		{Resume: "nonsense"},
		{Resume: opts.Resume[:len(opts.Resume)/2]},
	} {
		if _, err := wtcache.Warm(t.Context(), h.db, other); !errors.Is(err, wtcache.ErrWarmResume) {
			t.Errorf("%+v: %v", other, err)
		}
	}
	h.must("ALTER TABLE lines ADD COLUMN more text")
	wtcache.CatalogueChanged(h.db)
	if _, err := wtcache.Warm(t.Context(), h.db, wtcache.WarmOptions{Resume: opts.Resume}); !errors.Is(err, wtcache.ErrWarmResume) {
		t.Errorf("the table has another column, so that what was filled is of no use: %v", err)
	}
}

// However long the table is, what is held is a batch more than are under way: else a table of ten million rows would not fit.
func TestWarmHoldsFewRows(t *testing.T) {
	h := newShelf(t, shopFloor)
	h.must("INSERT INTO lines SELECT o, p, 'x', NULL, false FROM generate_series(100, 199) o, generate_series(1, 20) p")
	var held, most atomic.Int64
	wtcache.WatchWarm(t, func(rows int) {
		now := held.Add(int64(rows))
		for old := most.Load(); now > old && !most.CompareAndSwap(old, now); old = most.Load() {
		}
	})
	got := warm(t, h, wtcache.WarmOptions{Entries: []string{"lines.by_place"}, Batch: 50, Parallel: 2})
	if got.Filled != 2100 || held.Load() != 0 || most.Load() > 3*50 || most.Load() < 50 {
		t.Errorf("of %d rows %d were held at a time and %d at the end; want at most 150 and 0", got.Filled, most.Load(), held.Load())
	}
}

// A Redis without room says so, and what was filled stays: a warming that evicted what readers use would do harm.
func TestWarmStopsWhereRedisIsFull(t *testing.T) {
	t.Parallel()
	s := testenv.NewRedis(t, "--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
	setup := shopFloor
	setup.redis = s.URL
	h := newShelf(t, setup)
	h.must("INSERT INTO lines SELECT o, p, repeat(md5(o::text || p), 100), NULL, false FROM generate_series(100, 299) o, generate_series(1, 20) p")
	of := []string{"lines.by_place"}
	report, err := wtcache.Warm(t.Context(), h.db, wtcache.WarmOptions{Entries: of, MaxRedisMemory: 0.01})
	if !errors.Is(err, wtcache.ErrRedisFull) || report.Filled != 0 || !strings.Contains(err.Error(), "1 %") {
		t.Errorf("a bound of 1 %%: %v, %+v", err, report)
	}
	report, err = wtcache.Warm(t.Context(), h.db, wtcache.WarmOptions{Entries: of, Batch: 100})
	if !errors.Is(err, wtcache.ErrRedisFull) || report.Filled == 0 || report.Done || report.Resume == "" {
		t.Errorf("no room: %v, %+v", err, report)
	}
	if err := h.rdb.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if report := warm(t, h, wtcache.WarmOptions{Entries: of, Resume: report.Resume}); report.Rows != 4100 || report.Gone+report.Unstorable != 0 {
		t.Errorf("with room again: %+v", report)
	}
}

// Many warm a cache because it is new, or was restarted: a Redis that takes no fills yet is waited for, else the warming would
// end with nothing filled. So is one that does not answer for a while.
func TestWarmWaitsForRedis(t *testing.T) {
	t.Parallel()
	s := testenv.NewRedis(t)
	setup := shopFloor
	setup.redis = s.URL
	setup.config = func(c *wtcache.Config) { c.RedisTimeout, c.FenceLife = 300*time.Millisecond, 1200*time.Millisecond }
	h := newShelf(t, setup)
	if err := h.rdb.Del(t.Context(), testenv.Registry).Err(); err != nil { // nobody has met it
		t.Fatal(err)
	}
	of := []string{"lines.by_place"}
	h.wantCounts(warm(t, h, wtcache.WarmOptions{Entries: of}).WarmCounts, wtcache.WarmCounts{Rows: 100, Filled: 100}, "a new Redis")
	if h.stats().Redis.Quarantined == 0 {
		t.Error("the Redis was not new: nothing was put to the test")
	}
	var once sync.Once
	var asked atomic.Bool
	got := warm(t, h, wtcache.WarmOptions{Entries: of, Refresh: true, Batch: 20, Progress: func(wtcache.WarmProgress) {
		once.Do(func() {
			sent := h.sent.count()
			s.Pause()
			go func() {
				defer s.Resume()
				requests := 0 // a batch, or who Redis is: none is answered
				for end := time.Now().Add(patience / 2); requests < 2 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
					if now := h.sent.count(); now > sent {
						requests, sent = requests+1, now
					}
				}
				asked.Store(requests == 2)
			}()
		})
	}})
	if got.Rows != 100 || got.Filled < 80 { // a lease whose answer was lost is in the way until it ends
		t.Errorf("with a pause of Redis: %+v", got.WarmCounts)
	}
	if !asked.Load() {
		t.Error("it has not asked again: nothing was put to the test")
	}
}

// A row whose write is under way is its writer's: what is read beside it may be gone in a moment.
func TestWarmLeavesFencedKeysAlone(t *testing.T) {
	h := newShelf(t, shopFloor)
	of := []string{"lines.by_place"}
	var got wtcache.WarmReport
	h.hookOnce(t, "fenced", func() {
		got = warm(t, h, wtcache.WarmOptions{Entries: of})
	})
	h.exec("UPDATE lines SET body = 'written' WHERE ord = 1")
	h.wantCounts(got.WarmCounts, wtcache.WarmCounts{Rows: 100, Filled: 95, Refused: 5}, "under a write of five rows")
	if body, _ := cachedBody(t, h.rdb, h.prefix+"line:1:1"); body != "written" {
		t.Errorf("after the write the entry holds %q", body)
	}
}

// While a coarse write bars a rule nothing of it may be filled, however little of it the write touches.
func TestWarmLeavesBarredRulesAlone(t *testing.T) {
	h := newShelf(t, shopFloor)
	var got wtcache.WarmReport
	h.hookOnce(t, "barred", func() {
		got = warm(t, h, wtcache.WarmOptions{Entries: []string{"lines.by_place"}, Refresh: true})
	})
	h.exec("WITH w AS (UPDATE lines SET body = 'coarse' RETURNING 1) SELECT count(*) FROM w")
	h.wantCounts(got.WarmCounts, wtcache.WarmCounts{Rows: 100, Refused: 100}, "under a coarse write")
}

// Warming beside writers leaves every entry equal to its row or absent, on one server and on a Cluster; no reader sees less
// than was acknowledged.
func TestWarmUnderWriters(t *testing.T) {
	for name, d := range map[string]deployment{"single": single, "cluster": cluster} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFleet(t, d.url(t), "redis_down: refuse\n", patientRedis)
			stop := f.traffic()
			defer stop()
			var sum wtcache.WarmCounts
			for i := range 60 {
				if i%6 == 5 { // makes entries absent, so that there is something to fill
					if _, err := f.db.Exec("WITH w AS (UPDATE accounts SET n = n + 1 WHERE id = 1 RETURNING 1) SELECT count(*) FROM w"); err != nil {
						t.Fatal(err)
					}
				}
				report, err := wtcache.Warm(t.Context(), f.db, wtcache.WarmOptions{Batch: 5 + i%20, Parallel: 1 + i%3, Refresh: i%2 == 0})
				if err != nil {
					t.Fatal(err)
				}
				sum.Rows += report.Rows
				sum.Filled += report.Filled
			}
			stop()
			f.settle()
			f.wantTrue()
			if sum.Rows != 60*fleetRows || sum.Filled == 0 {
				t.Errorf("nothing was put to the test: %+v", sum)
			}
			if name == "cluster" {
				wantNoCrossSlot(t, f.rdb)
			}
		})
	}
}

// Whoever names a table means all that is cached of it, and one key that cannot be gone through keeps nobody from warming the others.
func TestWarmOfATable(t *testing.T) {
	t.Parallel()
	setup := shopFloor
	setup.rules = map[string]string{"lines": strings.TrimRight(shopFloor.rules["lines"], "\n") + `
  - {name: by_body, key: "{P}body:{body}", strategy: invalidate}
`}
	h := newShelf(t, setup)
	report := warm(t, h, wtcache.WarmOptions{Entries: []string{"lines", "lines.by_code"}})
	if len(report.Entries) != 2 || !slices.Equal(report.Left, []string{"lines.by_body"}) {
		t.Errorf("warmed %+v, left %q", report.Entries, report.Left)
	}
	_, err := wtcache.Warm(t.Context(), h.db, wtcache.WarmOptions{Entries: []string{"lines.by_body"}})
	if !errors.Is(err, wtcache.ErrConfig) || !strings.Contains(err.Error(), "no unique index") {
		t.Errorf("an entry that was named, and cannot be warmed: %v", err)
	}
	if _, err = wtcache.Warm(t.Context(), h.db, wtcache.WarmOptions{Entries: []string{"line"}}); !errors.Is(err, wtcache.ErrUnknownEntry) {
		t.Errorf("a name that there is not: %v", err)
	}
}
