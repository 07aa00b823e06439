package wtcache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"database/sql"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// audited is a table whose entries are in Redis, for an audit to look at.
type audited struct {
	*testing.T
	plain, db *sql.DB
	rdb       redis.UniversalClient
	prefix    string
	format    string
}

func newAudited(t *testing.T, redisURL, format, more string, rows int) *audited {
	t.Helper()
	return newAuditedIn(t, testenv.Postgres(t), redisURL, format, more, rows)
}

func newAuditedIn(t *testing.T, postgresURL, redisURL, format, more string, rows int) *audited {
	t.Helper()
	a := &audited{T: t, rdb: openClient(t, redisURL), prefix: testenv.KeyPrefix(t), format: format}
	dsn, schema := testenv.Schema(t, postgresURL)
	a.plain = openPlain(t, dsn)
	a.must(fmt.Sprintf("CREATE TABLE things (id int PRIMARY KEY, n int NOT NULL, name text, at timestamptz DEFAULT now(), days daterange DEFAULT '[2024-01-01,2024-02-01)');"+
		" INSERT INTO things SELECT i, 0, 'name ' || i FROM generate_series(1, %d) i; ANALYZE things", rows))
	rule := fmt.Sprintf("table: %s.things\nkey: %q\nformat: %s\nredis_down: refuse\n%s", schema, a.prefix+"t:{id}", format, more)
	db, err := wtcache.OpenDB(pgxConnector(t, dsn), wtcache.Config{
		Redis: openClient(t, redisURL), Rules: fstest.MapFS{"things.yaml": &fstest.MapFile{Data: []byte(rule)}},
		Logger: slog.New(slog.DiscardHandler), RedisTimeout: 5 * time.Second, Outbox: wtcache.OutboxOff,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	a.db = db
	return a
}

func (a *audited) must(text string) {
	a.Helper()
	if _, err := a.plain.Exec(text); err != nil {
		a.Fatalf("%s: %v", text, err)
	}
}

func (a *audited) key(id int) string { return fmt.Sprintf("%st:%d", a.prefix, id) }

func (a *audited) fill(from, to int) {
	a.Helper()
	c, err := wtcache.CacheOf(a.db)
	if err != nil {
		a.Fatal(err)
	}
	for id := from; id <= to; id++ {
		var payload []byte
		if _, err := c.Get(a.Context(), "things", &payload, id); err != nil {
			a.Fatal(err)
		}
	}
}

func (a *audited) audit(o wtcache.AuditOptions) *wtcache.AuditReport {
	a.Helper()
	r, err := wtcache.Audit(a.Context(), a.db, o)
	if err != nil {
		a.Fatal(err)
	}
	return r
}

// auditOf audits n keys. SCAN may give a key twice while Redis' table grows, as other tests' keys have it do: then it is asked again.
func (a *audited) auditOf(n int64, o wtcache.AuditOptions) *wtcache.AuditReport {
	a.Helper()
	for range 100 {
		if r := a.audit(o); r.Total.Checked <= n {
			return r
		}
	}
	a.Fatalf("more than %d keys are there", n)
	return nil
}

// place names where the payload is stored.
func (a *audited) place(id int) string {
	if a.format == "versioned" {
		return a.rdb.Get(a.Context(), pointerOf(a.key(id))).Val()
	}
	return a.key(id)
}

// corrupt changes the payload alone.
func (a *audited) corrupt(id int) {
	a.Helper()
	ctx, place := a.Context(), a.place(id)
	change := func(text string) string {
		changed := strings.Replace(text, `"n":0`, `"n":7`, 1)
		if changed == text {
			a.Fatalf("%s holds %q", place, text)
		}
		return changed
	}
	var err error
	if a.format == "hash" {
		err = a.rdb.HSet(ctx, place, "data", change(a.rdb.HGet(ctx, place, "data").Val())).Err()
	} else {
		err = a.rdb.Set(ctx, place, change(a.rdb.Get(ctx, place).Val()), redis.KeepTTL).Err()
	}
	if err != nil {
		a.Fatal(err)
	}
}

// older makes an entry look as if it had been stored an hour ago.
func (a *audited) older(id int) {
	a.Helper()
	at, text := a.key(id), fmt.Sprint(time.Now().Add(-time.Hour).UnixMilli())
	if a.format == "plain" || a.format == "versioned" {
		at = metaOf(at)
	}
	err := a.rdb.SetRange(a.Context(), at, writtenAt, text).Err()
	if a.format == "hash" {
		err = a.rdb.HSet(a.Context(), at, "written_at", text).Err()
	}
	if err != nil {
		a.Fatal(err)
	}
}

func (a *audited) persist(id int) {
	at := a.key(id)
	if a.format == "versioned" {
		at = pointerOf(at)
	}
	if err := a.rdb.Persist(a.Context(), at).Err(); err != nil {
		a.Fatal(err)
	}
}

// foreign puts something else where the entry is.
func (a *audited) foreign(id int) {
	at := a.key(id)
	if err := a.rdb.Del(a.Context(), at).Err(); err != nil {
		a.Fatal(err)
	}
	if err := a.rdb.RPush(a.Context(), at, "a list").Err(); err != nil {
		a.Fatal(err)
	}
}

// What an audit does not find, users find. Each way in which an entry can be wrong has to be
// told from the others, in each format, on one server and on a Cluster.
func TestAuditFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, format := range allFormats {
		for where, url := range map[string]func(testing.TB) string{"single": redisOfItsOwn, "cluster": testenv.Cluster} {
			t.Run(format+" "+where, func(t *testing.T) {
				t.Parallel()
				a := newAudited(t, url(t), format, "negative_ttl: 5m\n", 20)
				a.fill(1, 19)
				c, _ := wtcache.CacheOf(a.db)
				for _, id := range []int{30, 31} { // that there is no such row is cached, too
					if _, err := c.Get(t.Context(), "things", new([]byte), id); !isNoRows(err) {
						t.Fatal(err)
					}
				}
				if _, err := a.db.Exec("UPDATE things SET n = 0 WHERE id IN (18, 19)"); err != nil { // written through
					t.Fatal(err)
				}
				r := a.auditOf(21, wtcache.AuditOptions{})
				if r.Total.Checked != 21 || r.Total.Consistent != 21 || r.Total.Faulty != 0 || r.OverThreshold || r.Total.Rows != 20 || r.Total.Absent != 1 {
					t.Fatalf("of a cache where all is right it says %+v", r.Total)
				}
				a.must("UPDATE things SET n = 1 WHERE id = 1; DELETE FROM things WHERE id = 2; INSERT INTO things VALUES (30, 0)")
				a.corrupt(3)
				a.persist(4)
				a.older(5)
				a.foreign(6)
				a.rdb.Set(t.Context(), a.prefix+"t:settings", "another program's", time.Minute)
				a.rdb.Set(t.Context(), a.prefix+"t:99999999999", "also, and no int4", time.Minute)
				a.must("UPDATE things SET days = '[2024-01-01,2024-03-01)' WHERE id = 18")
				r = a.auditOf(21, wtcache.AuditOptions{Threshold: wtcache.AuditThreshold{Count: 7}})
				got := r.Total
				want := wtcache.AuditCounts{Checked: 21, Consistent: 15, Stale: 3, Orphan: 1, Damaged: 1, Foreign: 1, NoTTL: 1, OverTTL: 1, Faulty: 8, Skipped: 2, Rows: 20, Absent: 1}
				if format == "versioned" {
					// Of such an entry nothing is under the key itself, and the list is beside it: nobody reads it.
					want.Foreign, want.Faulty, want.Consistent = 0, 7, 16
				}
				if got != want {
					t.Fatalf("found %+v,\nwant  %+v\n%+v", got, want, r.Entries[0].Examples)
				}
				if r.OverThreshold != (want.Faulty > 7) {
					t.Errorf("%d faults, a threshold of 7, and over is %v", want.Faulty, r.OverThreshold)
				}
				text, err := json.Marshal(r)
				if err != nil || strings.Contains(string(text), "name 1") {
					t.Errorf("the report shows payloads (%v): %s", err, text)
				}
				r = a.audit(wtcache.AuditOptions{Repair: true})
				if r.Total.Repaired != want.Faulty {
					t.Errorf("%d of %d repaired", r.Total.Repaired, want.Faulty)
				}
				r = a.audit(wtcache.AuditOptions{})
				if r.Total.Faulty != 0 || r.Total.Checked != 21-want.Faulty {
					t.Errorf("after the repair: %+v", r.Total)
				}
				if n := a.rdb.Exists(t.Context(), a.prefix+"t:settings").Val(); n != 1 {
					t.Error("a repair has deleted another program's key")
				}
				if s, _ := wtcache.StatsOf(a.db); s.Audit != r {
					t.Error("the last report is not in Stats")
				}
			})
		}
	}
}

// The header of a plain or versioned entry is a key of its own, which Redis may evict before the payload. Nobody is served
// anything wrong then; under eviction an audit would ring all day.
func TestAuditPutsUpWithEvictedHeaders(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"plain", "versioned"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			a := newAudited(t, testenv.RealRedis(t), format, "", 3)
			a.fill(1, 3)
			for id := 1; id <= 2; id++ {
				if n := a.rdb.Del(t.Context(), metaOf(a.key(id))).Val(); n != 1 {
					t.Fatalf("there was no header of %d", id)
				}
			}
			a.must("UPDATE things SET n = 1 WHERE id = 2") // past wtcache: programs that read Redis themselves get the old row
			r := a.audit(wtcache.AuditOptions{})
			if c := r.Total; c.Checked != 3 || c.Consistent != 1 || c.OtherSchema != 1 || c.Faulty != 1 || c.Foreign+c.Damaged != 1 || r.Entries[0].Examples[0].Key != a.key(2) {
				t.Errorf("%+v %+v", c, r.Entries[0].Examples)
			}
			a.rdb.Del(t.Context(), a.place(3)) // the payload alone
			if c := a.audit(wtcache.AuditOptions{Rows: -1}).Total; c.Faulty != 1 || c.Consistent != 0 {
				t.Errorf("without the payload: %+v", c)
			}
			i, err := wtcache.Inspect(t.Context(), a.db, a.key(1), wtcache.InspectOptions{Compare: true})
			if err != nil || i.Served || !strings.Contains(i.WhyNot, "evicted") {
				t.Errorf("%+v, %v", i, err)
			}
		})
	}
}

// An alarm over entries that are only being written is one that nobody heeds the next time.
func TestAuditRaisesNoFalseAlarm(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", "consistency: eventual\n"} {
		t.Run(more, func(t *testing.T) {
			t.Parallel()
			const keys = 6
			a := newAudited(t, testenv.RealRedis(t), "envelope", more, keys)
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer stop()
			c, _ := wtcache.CacheOf(a.db)
			writers := 3
			if more != "" {
				writers = 1
			}
			for w := range writers {
				wg.Go(func() {
					for n := w; ctx.Err() == nil; n++ {
						id := n%keys + 1
						switch n % 7 {
						case 0:
							_, _ = a.db.ExecContext(ctx, "DELETE FROM things WHERE id = $1", id)
						case 1:
							_, _ = a.db.ExecContext(ctx, "INSERT INTO things (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n", id, n)
						default:
							_, _ = a.db.ExecContext(ctx, "UPDATE things SET n = n + 1 WHERE id = $1", id)
						}
						if more != "" { // such a write ends every fill: without a read behind it few entries were ever there
							_, _ = c.Get(ctx, "things", new([]byte), id)
						}
					}
				})
			}
			for r := range 2 {
				wg.Go(func() {
					for n := 3 * r; ctx.Err() == nil; n++ {
						_, _ = c.Get(ctx, "things", new([]byte), n%keys+1)
					}
				})
			}
			var all wtcache.AuditCounts
			for n := 0; n < 30 || all.Consistent < 30; n++ {
				if n > 300 {
					t.Fatalf("too little was compared: %+v", all)
				}
				r := a.audit(wtcache.AuditOptions{Rows: -1, Grace: time.Second})
				if r.Total.Faulty > 0 {
					t.Fatalf("audit %d: %+v %+v", n, r.Total, r.Entries[0].Examples)
				}
				all.Checked += r.Total.Checked
				all.Consistent += r.Total.Consistent
			}
		})
	}
}

// An eventual commit is visible before its entry is absent. That is what was agreed to, and no fault.
func TestAuditWaitsForAnEventualApply(t *testing.T) {
	t.Parallel()
	a := newAudited(t, testenv.RealRedis(t), "envelope", "consistency: eventual\n", 2)
	a.fill(1, 2)
	a.must("UPDATE things SET n = 1 WHERE id = 1") // stands for a commit whose writer has not applied yet
	applied := make(chan error, 1)
	time.AfterFunc(300*time.Millisecond, func() { applied <- a.rdb.Del(context.Background(), a.key(1)).Err() })
	r := a.audit(wtcache.AuditOptions{Rows: -1, Grace: 4 * time.Second})
	if err := <-applied; err != nil || r.Total.Faulty != 0 {
		t.Errorf("%v: %+v", err, r.Total)
	}
	a.fill(1, 1)
	a.must("UPDATE things SET n = 2 WHERE id = 1")
	if r = a.audit(wtcache.AuditOptions{Rows: -1, Grace: 50 * time.Millisecond}); r.Total.Stale != 1 {
		t.Errorf("an apply that never came: %+v", r.Total)
	}
}

// A sample that is all from one server, or all of the cache, is none.
func TestAuditSample(t *testing.T) {
	t.Parallel()
	a := newAudited(t, testenv.Cluster(t), "plain", "", 300)
	a.fill(1, 300)
	r := a.audit(wtcache.AuditOptions{Sample: 60, Rows: 10, Entries: []string{"things"}})
	if r.Total.Checked < 60 || r.Total.Checked > 70 || r.Total.Consistent != r.Total.Checked || r.Total.Rows == 0 {
		t.Errorf("a sample of 60 is %+v", r.Total)
	}
	a.must("UPDATE things SET n = 1")
	r = a.audit(wtcache.AuditOptions{Sample: 60, Rows: -1})
	if r.Total.Stale != 60 || len(r.Entries[0].Examples) != 10 {
		t.Errorf("of 60 stale entries it finds %+v", r.Total)
	}
	slots := map[int64]bool{}
	for _, x := range r.Entries[0].Examples {
		slots[a.rdb.ClusterKeySlot(t.Context(), x.Key).Val()] = true
	}
	if len(slots) < 2 {
		t.Errorf("all of %+v are in one slot", r.Entries[0].Examples)
	}
	if _, err := wtcache.Audit(t.Context(), a.db, wtcache.AuditOptions{Entries: []string{"thing"}}); err == nil || !strings.Contains(err.Error(), "things") {
		t.Errorf("an entry that is not there: %v", err)
	}
}

// Ten processes that audit at once are ten times the load; none that audits is no audit.
func TestAuditEvery(t *testing.T) {
	t.Parallel()
	a := newAudited(t, testenv.RealRedis(t), "envelope", "", 5)
	a.fill(1, 5)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reports := 0
	wtcache.AuditEvery(ctx, a.db, 50*time.Millisecond, wtcache.AuditOptions{}, func(r *wtcache.AuditReport, err error) {
		if err != nil || r.Total.Checked != 5 {
			t.Errorf("%+v, %v", r, err)
		}
		if reports++; reports == 3 {
			stop()
		}
	})
	if reports != 3 {
		t.Errorf("%d reports", reports)
	}
}

// The figure that says how soon writes are right is the one that is watched; of entries that are old it must count the
// wrong ones.
func TestAuditWithin(t *testing.T) {
	t.Parallel()
	for basis, setting := range map[string]string{"commit timestamps": "on", "written_at": "off"} {
		t.Run(basis, func(t *testing.T) {
			t.Parallel()
			server := testenv.Postgres(t)
			if setting == "on" {
				server = testenv.NewPostgres(t, testenv.PostgresOptions{Settings: map[string]string{"track_commit_timestamp": setting}}).URL
			}
			a := newAuditedIn(t, server, testenv.RealRedis(t), "envelope", "", 4)
			a.fill(1, 4)
			a.must("UPDATE things SET n = 1 WHERE id = 1")
			var r *wtcache.AuditReport
			for r == nil || r.Within[0].Changes < 4 { // until all that happened is a second ago
				if t.Context().Err() != nil {
					t.Fatal(t.Context().Err())
				}
				time.Sleep(20 * time.Millisecond)
				r = a.audit(wtcache.AuditOptions{Rows: -1})
			}
			if w := r.Within[0]; r.WithinBasis != basis || w.Changes != 4 || w.Right != 3 || w.Share == nil || *w.Share != .75 || r.Within[5].Share != nil {
				t.Errorf("by %s: %+v", r.WithinBasis, r.Within)
			}
			x := r.Entries[0].Examples[0]
			if known := x.StaleSeconds >= 1; known != (setting == "on") || x.StaleSeconds > x.AgeSeconds {
				t.Errorf("by %s it has been stale for %v s, and is %v s old", basis, x.StaleSeconds, x.AgeSeconds)
			}
		})
	}
}

// Whoever gives an audit or a warming a deadline asks the error for it, also where the rate alone would break it.
func TestRateMeetsDeadline(t *testing.T) {
	t.Parallel()
	a := newAudited(t, testenv.RealRedis(t), "envelope", "", 250) // more than the first burst
	a.fill(1, 250)
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	if _, err := wtcache.Audit(ctx, a.db, wtcache.AuditOptions{Rate: .001}); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an audit: %v", err)
	}
	if _, err := wtcache.Warm(ctx, a.db, wtcache.WarmOptions{Rate: .001}); err == nil || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a warming: %v", err)
	}
}

// What somebody types must not be taken for a laxer bound than it is.
func TestParseAuditThreshold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]wtcache.AuditThreshold{"0": {}, "10": {Count: 10}, "50%": {Share: .5}, " 1 %": {Share: .01}, "0%": {}} {
		if got, err := wtcache.ParseAuditThreshold(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "-1", "1.5", "101%", "%", "x", "NaN%"} {
		if got, err := wtcache.ParseAuditThreshold(text); err == nil {
			t.Errorf("%q is taken for %+v", text, got)
		}
	}
}

// Whoever looks at one key wants to know whether it is right, and may not be shown what it holds.
func TestInspect(t *testing.T) {
	t.Parallel()
	for _, format := range allFormats {
		a := newAudited(t, testenv.RealRedis(t), format, "", 5)
		a.fill(1, 4)
		look := func(id int, o wtcache.InspectOptions) *wtcache.Inspection {
			t.Helper()
			key, err := wtcache.KeyOf(t.Context(), a.db, "things", id)
			if err != nil || key != a.key(id) {
				t.Fatalf("the key is %q, %v", key, err)
			}
			i, err := wtcache.Inspect(t.Context(), a.db, key, o)
			if err != nil {
				t.Fatal(err)
			}
			return i
		}
		i := look(1, wtcache.InspectOptions{Compare: true})
		if i.State != "good" || !i.Served || i.Row != "same" || i.Format != format || !i.ChecksumOK || !i.SchemaOK || !i.EpochTrusted ||
			i.TTLSeconds == nil || i.WrittenAt == nil || i.Values["id"] != "1" || i.Payload != nil || i.SizeBytes == 0 {
			t.Errorf("%s: a good entry: %+v", format, i)
		}
		a.must("UPDATE things SET n = 1, name = 'x' WHERE id = 2")
		if i = look(2, wtcache.InspectOptions{Compare: true, Payload: true}); i.Row != "stale" || strings.Join(i.Differs, " ") != "n name" || !strings.Contains(string(i.Payload), `"n":0`) {
			t.Errorf("%s: a stale entry: %+v", format, i)
		}
		a.corrupt(3)
		if i = look(3, wtcache.InspectOptions{}); i.State != "damaged" || i.Served || i.ChecksumOK || i.WhyNot == "" {
			t.Errorf("%s: a damaged entry: %+v", format, i)
		}
		if i = look(5, wtcache.InspectOptions{Compare: true}); i.State != "absent" || i.Served || i.Row != "row" {
			t.Errorf("%s: an absent entry: %+v", format, i)
		}
		if i, err := wtcache.Inspect(t.Context(), a.db, "elsewhere", wtcache.InspectOptions{}); err != nil || i.Entry != "" || i.WhyNot == "" {
			t.Errorf("a key of no rule: %+v, %v", i, err)
		}
		control := strings.TrimSuffix(metaOf(a.key(5)), ":wtm") + ":wt"
		for dirty, put := range []func(){
			func() { a.rdb.Set(t.Context(), control, "f:TOKEN", 20*time.Second) }, // the short form
			func() {
				a.rdb.Del(t.Context(), control)
				a.rdb.HSet(t.Context(), control, "t:TOKEN", time.Now().Add(20*time.Second).UnixMilli(), "t:OLD", 1, "dirty", 1)
				a.rdb.PExpire(t.Context(), control, 20*time.Second)
			},
		} {
			put()
			if i = look(5, wtcache.InspectOptions{}); len(i.FenceSeconds) != 1 || i.FenceDirty != (dirty == 1) || i.Served || i.FenceSeconds[0] < 1 {
				t.Errorf("%s: a fenced key: %+v", format, i)
			}
			if r := a.audit(wtcache.AuditOptions{Rows: -1}); r.Total.Fenced != 1 {
				t.Errorf("%s: an audit of a fenced key: %+v", format, r.Total)
			}
		}
	}
}

// redisOfItsOwn is a server without other tests' keys, whose table does not grow while it is walked.
func redisOfItsOwn(t testing.TB) string { return testenv.NewRedis(t).URL }
