package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// cachedAbsent looks that a row which is not there is cached as such.
func (h *shelf) cachedAbsent(r *wtcache.Reader[item], id any) {
	h.t.Helper()
	seen(h.t, r, id)
	reads := h.databaseReads(func() {
		if row := seen(h.t, r, id); row.Found || !row.FromCache || row.WrittenAt.IsZero() {
			h.t.Errorf("the second read of a row that is not there gave %+v", row)
		}
	})
	if reads != 0 {
		h.t.Errorf("that there is no row %v was asked of the database again", id)
	}
}

// With negative_ttl a row that is not there costs one query, not one a read; and the first
// write that makes it must end that at once, in whatever form it comes.
func TestReaderNegative(t *testing.T) {
	ctx := context.Background()
	for _, format := range allFormats {
		h := newShelf(t, itemsSetup("negative_ttl: 1h\nformat: "+format+"\n"))
		h.must("INSERT INTO others VALUES (1)")
		items := readerOf[item](t, h.db, "items")
		other, _ := h.open(shelfSetup{}) // another process
		id := 100
		for _, w := range []struct {
			name, text string
			found      bool
		}{
			{"INSERT", "INSERT INTO items VALUES (%d, 'new')", true},
			{"INSERT of several", "INSERT INTO items VALUES (%[1]d, 'new'), (%[1]d + 1000, 'x')", true},
			{"INSERT SELECT", "INSERT INTO items SELECT %d, 'new' FROM others", true},
			{"upsert", "INSERT INTO items VALUES (%d, 'new') ON CONFLICT (id) DO UPDATE SET title = 'conflict'", true},
			{"UPDATE of the key", "UPDATE items SET id = %d, title = 'new' WHERE id = (SELECT min(id) FROM items)", true},
			{"MERGE", "MERGE INTO items USING (SELECT %[1]d AS id) s ON items.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'new')", true},
			{"coarse", "WITH w AS (INSERT INTO items VALUES (%d, 'new') RETURNING 1) SELECT count(*) FROM w", true},
			{"rolled back", "BEGIN; INSERT INTO items VALUES (%d, 'new'); ROLLBACK", false},
			{"rolled back to a savepoint", "BEGIN; SAVEPOINT s; INSERT INTO items VALUES (%d, 'new'); ROLLBACK TO s; COMMIT", false},
			{"inserted and deleted", "BEGIN; INSERT INTO items VALUES (%[1]d, 'new'); DELETE FROM items WHERE id = %[1]d; COMMIT", false},
		} {
			for by, db := range map[string]*sql.DB{"this process": h.db, "another process": other} {
				id++
				h.cachedAbsent(items, id)
				if _, err := db.Exec(fmt.Sprintf(w.text, id)); err != nil {
					t.Fatalf("%s: %v", w.name, err)
				}
				for range 2 {
					if row := seen(t, items, id); row.Found != w.found || w.found && row.Value.Title != "new" {
						t.Errorf("%s: %s by %s: a reader gets %+v, want it found: %v", format, w.name, by, row, w.found)
					}
				}
			}
		}
		h.exec("DELETE FROM items WHERE id = 101")
		h.cachedAbsent(items, 101)
		if _, err := items.Get(ctx, 101); !isNoRows(err) {
			t.Errorf("%s: a row that is cached as absent gave %v", format, err)
		}
		rows, err := items.GetMany(ctx, 101, 102, 101)
		if err != nil || rows[0].Found || !rows[0].FromCache || !rows[1].Found || rows[2].Found {
			t.Errorf("%s: GetMany gave %+v, %v", format, rows, err)
		}
	}
}

// Rows that are not there are kept for negative_ttl, not for ttl, and not all to one moment;
// without negative_ttl not at all.
func TestReaderNegativeLife(t *testing.T) {
	ctx := context.Background()
	for _, format := range allFormats {
		h := newShelf(t, itemsSetup("ttl: 1h\nnegative_ttl: 100s\njitter: 50%\nformat: "+format+"\n"))
		items := readerOf[item](t, h.db, "items")
		keys := make([]any, 40)
		for i := range keys {
			keys[i] = 100 + i
		}
		if _, err := items.GetMany(ctx, keys...); err != nil {
			t.Fatal(err)
		}
		lives := map[time.Duration]bool{}
		for _, key := range keys {
			name := fmt.Sprintf("%sitem:%d", h.prefix, key)
			if format == "versioned" {
				name = pointerOf(name)
			}
			life, err := h.rdb.PTTL(ctx, name).Result()
			if err != nil || life <= 10*time.Second || life > 100*time.Second {
				t.Fatalf("%s: %s lives for %v, %v", format, name, life, err)
			}
			lives[life.Round(time.Second)] = true
		}
		if len(lives) < 5 {
			t.Errorf("%s: 40 keys end in %d different seconds", format, len(lives))
		}
	}
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	for range 2 {
		if row := seen(t, items, 99); row.Found || row.FromCache {
			t.Errorf("without negative_ttl: %+v", row)
		}
	}
	if h.there("item:99") {
		t.Error("without negative_ttl it is stored that there is no row")
	}
}

// A row that is inserted between the reader's look at the table and its fill must not be
// covered by what the reader saw.
func TestReaderNegativeAgainstAnInsert(t *testing.T) {
	for _, coarse := range []bool{false, true} {
		h := newShelf(t, itemsSetup("negative_ttl: 1h\n"))
		proxy := testenv.ProxyURL(t, testenv.RealRedis(t))
		slow, _ := h.open(shelfSetup{redis: proxy.URL, config: patient})
		items := readerOf[item](t, slow, "items")
		seen(t, items, 98) // so that the script is loaded
		held := proxy.HoldRequest(digestOf(t, "fill"))
		done := make(chan wtcache.Row[item], 1)
		go func() { done <- seen(t, items, 99) }()
		await(t, "the reader's fill", held.Reached())
		if coarse {
			h.exec("WITH w AS (INSERT INTO items VALUES (99, 'new') RETURNING 1) SELECT count(*) FROM w")
		} else {
			h.exec("INSERT INTO items VALUES (99, 'new')")
		}
		held.Release()
		if row := await(t, "the read", done); row.Found {
			t.Errorf("coarse %v: the reader that looked before the INSERT got %+v", coarse, row)
		}
		for range 2 {
			if row := seen(t, items, 99); row.Value.Title != "new" {
				t.Errorf("coarse %v: after an acknowledged INSERT a reader gets %+v", coarse, row)
			}
		}
	}
}

// A text that is not how Postgres prints the value stands for the row, but no writer would
// find what were stored under it.
func TestReaderNegativeOfAnotherSpelling(t *testing.T) {
	s := itemsSetup("negative_ttl: 1h\n")
	s.ddl += `; CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE tags (tag text COLLATE blind PRIMARY KEY, title text);
		CREATE TABLE codes (code char(5) PRIMARY KEY, title text);
		CREATE TABLE prices (price numeric PRIMARY KEY, title text);
		CREATE TABLE days (day date PRIMARY KEY, title text);
		CREATE TABLE ids (id uuid PRIMARY KEY, title text)`
	for table, column := range map[string]string{"tags": "tag", "codes": "code", "prices": "price", "days": "day", "ids": "id"} {
		s.rules[table] = fmt.Sprintf("table: {S}.%s\nkey: \"{P}%s:{%s}\"\nnegative_ttl: 1h\n", table, table, column)
	}
	h := newShelf(t, s)
	for _, c := range []struct{ table, asked, inserted string }{
		{"items", "042", "42"}, {"items", "+43", "43"}, {"items", " 44", "44"},
		{"tags", "ABC", "abc"}, {"codes", "ab   ", "ab"}, {"codes", "cd", "cd"}, {"prices", "1.0", "1.00"}, {"prices", "2", "2.0"},
		{"days", "29 Feb 2024", "2024-02-29"},
		{"ids", "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{"ids", "6ba7b8119dad11d180b400c04fd430c8", "6ba7b811-9dad-11d1-80b4-00c04fd430c8"},
	} {
		r := readerOf[struct{ Title string }](t, h.db, c.table)
		for range 2 {
			if row := seen(t, r, c.asked); row.Found {
				t.Fatalf("%s %q is there already", c.table, c.asked)
			}
		}
		h.exec("INSERT INTO "+c.table+" VALUES ($1, 'new')", c.inserted)
		if row := seen(t, r, c.asked); row.Value.Title != "new" {
			t.Errorf("%s: after INSERT of %q, %q gives %+v", c.table, c.inserted, c.asked, row)
		}
	}
}

// What a role may not see is there all the same, for others.
func TestReaderNegativeUnderRowSecurity(t *testing.T) {
	h := newShelf(t, itemsSetup("negative_ttl: 1h\n"))
	role := "wt_reader_" + h.schema[max(0, len(h.schema)-40):]
	h.must(fmt.Sprintf(`CREATE ROLE %[1]s; GRANT USAGE ON SCHEMA %[2]s TO %[1]s; GRANT SELECT ON ALL TABLES IN SCHEMA %[2]s TO %[1]s;
		CREATE POLICY few ON items FOR SELECT TO %[1]s USING (id < 5); ALTER TABLE items ENABLE ROW LEVEL SECURITY`, role, h.schema))
	t.Cleanup(func() {
		h.must(fmt.Sprintf("ALTER TABLE items DISABLE ROW LEVEL SECURITY; DROP OWNED BY %[1]s; DROP ROLE %[1]s", role))
	})
	restricted := *h
	restricted.dsn += "&role=" + role
	db, _ := restricted.open(shelfSetup{})
	theirs, ours := readerOf[item](t, db, "items"), readerOf[item](t, h.db, "items")
	for range 2 {
		if row := seen(t, theirs, 7); row.Found || row.FromCache {
			t.Errorf("the role that may not see the row gets %+v", row)
		}
	}
	if row := seen(t, ours, 7); !row.Found {
		t.Errorf("a row is lost to its owner: %+v", row)
	}
}

// A row that `when` keeps out of the cache is there.
func TestReaderNegativeIsNotWhen(t *testing.T) {
	h := newShelf(t, itemsSetup("negative_ttl: 1h\nwhen: \"title <> 'secret'\"\n"))
	h.must("UPDATE items SET title = 'secret' WHERE id = 1")
	items := readerOf[item](t, h.db, "items")
	h.cachedAbsent(items, 99)
	h.exec("INSERT INTO items VALUES (99, 'secret')")
	for range 2 {
		for _, id := range []int{1, 99} {
			if row := seen(t, items, id); row.Value.Title != "secret" || row.FromCache {
				t.Errorf("row %d: %+v", id, row)
			}
		}
	}
}

// A bound on the age holds for rows that are not there, too.
func TestReaderNegativeMaxAge(t *testing.T) {
	h := newShelf(t, itemsSetup("negative_ttl: 1h\n"))
	items := readerOf[item](t, h.db, "items")
	h.cachedAbsent(items, 99)
	backdate(t, h.rdb, h.prefix+"item:99", "", 2*time.Minute)
	if row := seen(t, items.With(wtcache.MaxAge(time.Minute)), 99); row.FromCache {
		t.Errorf("two minutes old: %+v", row)
	}
	if row := seen(t, items.With(wtcache.MaxAge(time.Minute)), 99); !row.FromCache {
		t.Errorf("made new: %+v", row)
	}
}
