package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// Fresh is for those who do not trust what Redis holds, or must not load it: it is neither
// asked nor told.
func TestReaderFresh(t *testing.T) {
	for _, format := range allFormats {
		h := newShelf(t, itemsSetup("negative_ttl: 10s\nformat: "+format+"\n"))
		items := readerOf[item](t, h.db, "items")
		seen(t, items, 1)
		h.must("UPDATE items SET title = 'unseen' WHERE id = 1") // so that the two differ
		fresh := items.With(wtcache.Fresh())
		sent := h.sent.during(func() {
			if row := seen(t, fresh, 1); row.FromCache || row.Value.Title != "unseen" || row.Version != "" || row.Age != 0 || !row.WrittenAt.IsZero() {
				t.Errorf("%s: got %+v", format, row)
			}
			rows, err := fresh.GetMany(context.Background(), 1, 2, 99)
			if err != nil || rows[0].Value.Title != "unseen" || rows[0].FromCache || !rows[1].Found || rows[2].Found || rows[2].FromCache {
				t.Errorf("%s: GetMany gave %+v, %v", format, rows, err)
			}
		})
		if len(sent) > 0 {
			t.Errorf("%s: Redis was sent %v", format, sent)
		}
		if h.there("item:2") {
			t.Errorf("%s: a fresh read filled", format)
		}
		if row := seen(t, items, 1); !row.FromCache || row.Value.Title != "old" {
			t.Errorf("%s: a fresh read changed what others read: %+v", format, row)
		}
	}
}

// MaxAge bounds how old what is returned may be, and a reader with a bound leaves a younger
// entry behind for the others.
func TestReaderMaxAge(t *testing.T) {
	for _, format := range allFormats {
		h := newShelf(t, itemsSetup("format: "+format+"\n"))
		items := readerOf[item](t, h.db, "items")
		young := items.With(wtcache.MaxAge(time.Minute))
		read := map[string]func(r *wtcache.Reader[item], id int) wtcache.Row[item]{
			"Row": func(r *wtcache.Reader[item], id int) wtcache.Row[item] { return seen(t, r, id) },
			"GetMany": func(r *wtcache.Reader[item], id int) wtcache.Row[item] {
				rows, err := r.GetMany(context.Background(), id)
				if err != nil {
					t.Fatal(err)
				}
				return rows[0]
			},
		}
		id := 0
		for name, get := range read {
			id++
			seen(t, items, id)
			key := fmt.Sprintf("%sitem:%d", h.prefix, id)
			backdate(t, h.rdb, key, format, 2*time.Minute)
			if row := get(items, id); !row.FromCache || row.Age < 2*time.Minute || time.Since(row.WrittenAt) < 2*time.Minute {
				t.Errorf("%s, %s: without a bound got %+v", format, name, row)
			}
			if row := get(items.With(wtcache.MaxAge(3*time.Minute)), id); !row.FromCache {
				t.Errorf("%s, %s: an entry that is young enough was not taken: %+v", format, name, row)
			}
			if row := get(young, id); row.FromCache {
				t.Errorf("%s, %s: an entry of two minutes was taken for a minute's: %+v", format, name, row)
			}
			if row := get(young, id); !row.FromCache || row.Age > time.Minute {
				t.Errorf("%s, %s: the entry was not made new: %+v", format, name, row)
			}
			if row := get(items.With(wtcache.MaxAge(-time.Second)), id); row.FromCache {
				t.Errorf("%s, %s: a bound that has passed already, under 0, took an entry: %+v", format, name, row)
			}
		}
	}
}

// A rule's bound holds for all its readers, and a call may set another one, or none.
func TestReaderMaxAgeOfTheRule(t *testing.T) {
	h := newShelf(t, itemsSetup("read: {max_age: 1m}\n"))
	items := readerOf[item](t, h.db, "items")
	for id, c := range []struct {
		opts []wtcache.ReadOption
		want bool
	}{
		{nil, false},
		{[]wtcache.ReadOption{wtcache.MaxAge(0)}, true},
		{[]wtcache.ReadOption{wtcache.MaxAge(3 * time.Minute)}, true},
		{[]wtcache.ReadOption{wtcache.MaxAge(3 * time.Minute), wtcache.MaxAge(time.Second)}, false},
		{[]wtcache.ReadOption{wtcache.WaitForFill(0)}, false},
	} {
		id++
		seen(t, items, id)
		backdate(t, h.rdb, fmt.Sprintf("%sitem:%d", h.prefix, id), "", 2*time.Minute)
		if row := seen(t, items.With(c.opts...), id); row.FromCache != c.want {
			t.Errorf("case %d: got %+v, want it from the cache: %v", id, row, c.want)
		}
	}
}

// heldLease makes a key look as if another process were about to fill it.
func heldLease(t *testing.T, h *shelf, key string) {
	t.Helper()
	if err := h.rdb.Set(context.Background(), "{"+h.prefix+key+"}:wt", "another's", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
}

// A reader who may not wait for another process' fill asks once and reads the database; one
// who may asks again. Whoever says so, the call, the rule or the Config, in this order.
func TestReaderWaitForFill(t *testing.T) {
	const long = patience
	for _, c := range []struct {
		name  string
		rule  string
		fill  time.Duration
		opts  []wtcache.ReadOption
		waits bool
	}{
		{"Config, none", "", -1, nil, false},
		{"Config", "", long, nil, true},
		{"rule, none", "read: {wait: 0s}\n", long, nil, false},
		{"rule", "read: {wait: 30s}\n", -1, nil, true},
		{"call, none", "read: {wait: 30s}\n", long, []wtcache.ReadOption{wtcache.WaitForFill(0)}, false},
		{"call, under none", "read: {wait: 30s}\n", long, []wtcache.ReadOption{wtcache.WaitForFill(-time.Second)}, false},
		{"call", "read: {wait: 0s}\n", -1, []wtcache.ReadOption{wtcache.WaitForFill(long)}, true},
	} {
		s := itemsSetup(c.rule)
		s.config = func(cfg *wtcache.Config) { cfg.FillWait = c.fill }
		h := newShelf(t, s)
		items := readerOf[item](t, h.db, "items", c.opts...)
		seen(t, items, 1) // so that the scripts are loaded
		heldLease(t, h, "item:2")
		done := make(chan struct{})
		var row wtcache.Row[item]
		var sent []string
		go func() {
			defer close(done)
			sent = h.sent.during(func() { row = seen(t, items, 2) })
		}()
		if c.waits {
			eventually(t, c.name+": the reader asks again", func() bool { return h.stats().Redis.LeasesBypassed >= 3 })
			select {
			case <-done:
				t.Errorf("%s: the reader did not wait", c.name)
			default:
			}
			if err := h.rdb.Set(context.Background(), "{"+h.prefix+"item:2}:wt", "x", time.Millisecond).Err(); err != nil {
				t.Fatal(err)
			}
		}
		await(t, c.name+": the read", done)
		if leases := len(slices.DeleteFunc(sent, func(name string) bool { return name != "evalsha" })); !c.waits && leases != 1 {
			t.Errorf("%s: a reader who may not wait asked %d times", c.name, leases)
		}
		if row.FromCache || !row.Found || h.there("item:2") != c.waits {
			t.Errorf("%s: got %+v; filled: %v", c.name, row, h.there("item:2"))
		}
	}
}

// The DSN's wtcache_fill_wait is the Config's, and 0 is no wait at all.
func TestReaderWaitOfTheDSN(t *testing.T) {
	for setting, waits := range map[string]bool{"0": false, "0s": false, "30s": true} {
		h := newShelf(t, itemsSetup(""))
		folder := t.TempDir()
		for name, file := range h.rules {
			if err := os.WriteFile(filepath.Join(folder, name), file.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		db, err := sql.Open("wtcache", h.dsn+"&wtcache_redis="+url.QueryEscape(testenv.RealRedis(t))+"&wtcache_rules="+folder+"&wtcache_redis_timeout=5s&wtcache_fill_wait="+setting)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		h.db = db
		heldLease(t, h, "item:2")
		done := make(chan wtcache.Row[item], 1)
		go func() { done <- seen(t, readerOf[item](t, db, "items"), 2) }()
		if waits {
			eventually(t, setting+": the reader asks again", func() bool { return h.stats().Redis.LeasesBypassed >= 3 })
			if err := h.rdb.Del(context.Background(), "{"+h.prefix+"item:2}:wt").Err(); err != nil {
				t.Fatal(err)
			}
		}
		row := await(t, setting+": the read", done)
		if asked := h.stats().Redis.LeasesBypassed; row.Value.Title != "old" || !waits && asked != 1 {
			t.Errorf("%s: got %+v after %d questions", setting, row, asked)
		}
	}
}

// With is for one call: what it is called on goes on as before, and may be in use meanwhile.
func TestReaderWith(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	cache, err := wtcache.CacheOf(h.db)
	if err != nil {
		t.Fatal(err)
	}
	seen(t, items, 1)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if row := seen(t, items.With(wtcache.Fresh()), 1); row.FromCache {
					t.Errorf("fresh: %+v", row)
				}
				if row := seen(t, items.With(wtcache.MaxAge(time.Hour)), 1); !row.FromCache {
					t.Errorf("of an hour: %+v", row)
				}
				if row := seen(t, items, 1); !row.FromCache {
					t.Errorf("without options: %+v", row)
				}
				if r, err := cache.With(wtcache.Fresh()).Get(context.Background(), "items", &item{}, 1); err != nil || r.FromCache {
					t.Errorf("Cache.With(Fresh): %+v, %v", r, err)
				}
				if r, err := cache.Get(context.Background(), "items", &item{}, 1); err != nil || !r.FromCache {
					t.Errorf("Cache: %+v, %v", r, err)
				}
			}
		})
	}
	wg.Wait()
}

// What is said of a row has to be right: programs decide by it whether to read again.
func TestReaderMetadata(t *testing.T) {
	for _, format := range allFormats {
		h := newShelf(t, itemsSetup("format: "+format+"\n"))
		items := readerOf[item](t, h.db, "items")
		if row := seen(t, items, 1); row.Read != (wtcache.Read{}) || !row.Found {
			t.Errorf("%s: from the database: %+v", format, row)
		}
		filled := seen(t, items, 1)
		h.exec("UPDATE items SET title = 'a' WHERE id = 1")
		first := seen(t, items, 1)
		h.exec("UPDATE items SET title = 'b' WHERE id = 1")
		second := seen(t, items, 1)
		for i, row := range []wtcache.Row[item]{filled, first, second} {
			if off := time.Since(row.WrittenAt) - row.Age; !row.FromCache || row.FromReplica || row.Age < 0 || off < -time.Minute || off > time.Minute || len(row.Version) != 24 {
				t.Errorf("%s, row %d: %+v", format, i, row)
			}
		}
		if filled.Version != strings.Repeat("0", 24) || first.Version <= filled.Version || second.Version <= first.Version || second.WrittenAt.Before(first.WrittenAt) {
			t.Errorf("%s: the versions are %q, %q, %q", format, filled.Version, first.Version, second.Version)
		}
	}
}
