package wtcache_test

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/wtcache/wtcache"
)

// A row comes as what the program asks for, the same from the database and from Redis, and
// is the caller's own: what he does to it is nobody else's row.
func TestReaderTypes(t *testing.T) {
	h := newShelf(t, namesSetup)
	same(t, h, func(v struct {
		ID   int64
		Name string
	}) bool {
		return v.ID == 1 && v.Name == "ann"
	})
	same(t, h, func(v *struct{ Name string }) bool { return v != nil && v.Name == "ann" })
	same(t, h, func(v map[string]any) bool { ok := v["name"] == "ann"; v["name"] = "x"; return ok })
	same(t, h, func(v any) bool { m, ok := v.(map[string]any); return ok && m["name"] == "ann" })
	const text = `{"id":1,"email":"a@x","name":"ann"}`
	same(t, h, func(v []byte) bool { ok := string(v) == text; clear(v); return ok })
	same(t, h, func(v json.RawMessage) bool { ok := string(v) == text; clear(v); return ok })
	same(t, h, func(v string) bool { return v == text })
}

func same[T any](t *testing.T, h *shelf, right func(T) bool) {
	t.Helper()
	ctx := context.Background()
	r := readerOf[T](t, h.db, "users.by_id")
	if err := h.rdb.Del(ctx, h.prefix+"user:1").Err(); err != nil {
		t.Fatal(err)
	}
	for i, cached := range []bool{false, true, true} {
		if row := seen(t, r, 1); row.FromCache != cached || !right(row.Value) {
			t.Errorf("%T, read %d: %+v", row.Value, i, row)
		}
		rows, err := r.GetMany(ctx, 1, 1)
		if err != nil || !right(rows[0].Value) || !right(rows[1].Value) {
			t.Errorf("%T, read %d: GetMany gave %+v, %v", rows, i, rows, err)
		}
	}
	if value, err := r.Get(ctx, 1); err != nil || !right(value) {
		t.Errorf("Get gave %+v, %v", value, err)
	}
	if _, err := r.Get(ctx, 99); !isNoRows(err) {
		t.Errorf("%T: a row that is not there gave %v", *new(T), err)
	}
}

// GetMany gives a row for each key in the keys' order, however often one is named, in one
// statement for all that Redis does not have.
func TestReaderGetMany(t *testing.T) {
	ctx := context.Background()
	const many = 3000
	for _, format := range allFormats {
		h := newShelf(t, itemsSetup("format: "+format+"\n"))
		h.must("INSERT INTO items SELECT i, 'row ' || i FROM generate_series(10, $1) i WHERE i % 3 <> 0", many)
		items := readerOf[item](t, h.db, "items")
		if rows, err := items.GetMany(ctx); err != nil || len(rows) != 0 {
			t.Errorf("%s: no keys gave %v, %v", format, rows, err)
		}
		var ids []int64
		for id := int64(many); id >= 10; id-- {
			ids = append(ids, id)
			if id%500 == 0 {
				ids = append(ids, many)
			}
		}
		for _, warm := range []bool{false, true} {
			var rows []wtcache.Row[item]
			reads := h.databaseReads(func() {
				var err error
				if rows, err = items.GetMany(ctx, wtcache.Keys(ids)...); err != nil || len(rows) != len(ids) {
					t.Fatalf("%s: got %d rows for %d keys, %v", format, len(rows), len(ids), err)
				}
			})
			if reads != 1 { // those that are not there are asked for again
				t.Errorf("%s, warm %v: %d statements", format, warm, reads)
			}
			for i, row := range rows {
				if row.Found != (ids[i]%3 != 0) || row.Found && row.Value.ID != ids[i] || row.Found && row.FromCache != warm {
					t.Fatalf("%s, warm %v: key %d gave %+v", format, warm, ids[i], row)
				}
			}
		}
		if s := h.stats(); s.Redis.FillRefusals != 0 {
			t.Errorf("%s: %d fills were refused", format, s.Redis.FillRefusals)
		}
	}
}

// Entries of one rule are read by their own keys, and a write keeps all of them true.
func TestReaderOfSeveralEntries(t *testing.T) {
	h := newShelf(t, namesSetup)
	type user struct {
		ID          int64
		Email, Name string
	}
	byID, byEmail := readerOf[user](t, h.db, "users.by_id"), readerOf[user](t, h.db, "users.by_email")
	rows, err := byEmail.GetMany(context.Background(), "b@x", "none@x", "a@x", "b@x")
	if err != nil || rows[0].Value.ID != 2 || rows[1].Found || rows[2].Value.ID != 1 || rows[3].Value.ID != 2 {
		t.Fatalf("by email: %+v, %v", rows, err)
	}
	seen(t, byID, 2)
	h.exec("UPDATE users SET email = 'c@x' WHERE id = 2")
	if row := seen(t, byEmail, "b@x"); row.Found {
		t.Errorf("the old address still finds %+v", row)
	}
	for _, row := range []wtcache.Row[user]{seen(t, byEmail, "c@x"), seen(t, byID, 2)} {
		if row.Value != (user{2, "c@x", "bob"}) || !row.FromCache {
			t.Errorf("after the write: %+v", row)
		}
	}
}

// One caller's key that the server refuses must not fail the read of another caller who
// happens to ask for one of the other keys at the same time.
func TestReaderSharesNoErrors(t *testing.T) {
	ctx := context.Background()
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 9)
	tx := begin(t, h.plain, nil)
	runOn(t, tx, "LOCK TABLE items IN ACCESS EXCLUSIVE MODE") // holds up reads of the database
	faulty := make(chan error, 1)
	go func() {
		_, err := items.GetMany(ctx, 1, 2, "not a number")
		faulty <- err
	}()
	eventually(t, "the first reader is under way", func() bool { return h.stats().DatabaseReads == 2 })
	type result struct {
		row wtcache.Row[item]
		err error
	}
	right := make(chan result, 1)
	go func() {
		row, err := items.Row(ctx, 1)
		right <- result{row, err}
	}()
	eventually(t, "the second reader rides along", func() bool { return h.stats().Shared == 1 })
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := await(t, "the faulty read", faulty); sqlState(err) != "22P02" {
		t.Errorf("the faulty key gave %v", err)
	}
	if r := await(t, "the other read", right); r.err != nil || r.row.Value.Title != "old" {
		t.Errorf("somebody else's key gave another reader %+v, %v", r.row, r.err)
	}
}
