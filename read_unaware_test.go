package wtcache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// unaware is code from before wtcache: a GET, a json decode, and on a miss a SELECT and a SET.
type unaware struct{ *shelf }

func (u unaware) key(id int) string { return fmt.Sprintf("%sitem:%d", u.prefix, id) }

func (u unaware) get(id int) (title string, there bool) {
	u.t.Helper()
	text, err := u.rdb.Get(context.Background(), u.key(id)).Bytes()
	if errors.Is(err, redis.Nil) {
		return "", false
	}
	var got item
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		u.t.Fatalf("decode %q: %v", text, err)
	}
	return got.Title, true
}

// look is the first half of its fill, and store the second one.
func (u unaware) look(id int) string {
	u.t.Helper()
	var row string
	if err := u.plain.QueryRow("SELECT row_to_json(items) FROM items WHERE id = $1", id).Scan(&row); err != nil {
		u.t.Fatal(err)
	}
	return row
}

func (u unaware) store(id int, row string) {
	u.t.Helper()
	if err := u.rdb.Set(context.Background(), u.key(id), row, time.Minute).Err(); err != nil {
		u.t.Fatal(err)
	}
}

// Code that knows nothing of wtcache may read entries of format plain; if it fills keys by
// itself it can store a row that was replaced meanwhile. It then reads that old row until
// the next write or the end of the life that it gave. This is what the README warns of; were
// it not so, the warning would be idle.
func TestUnawareFillIsStale(t *testing.T) {
	h := newShelf(t, itemsSetup("format: plain\n"))
	u := unaware{h}
	items := readerOf[item](t, h.db, "items")
	for _, write := range []string{"UPDATE items SET title = 'new' WHERE id = $1", "DELETE FROM items WHERE id = $1"} {
		id := len(write) % 9
		row := u.look(id)
		h.exec(write, id)
		u.store(id, row)
		if title, there := u.get(id); title != "old" || !there {
			t.Errorf("%s: unaware code reads %q (%v): the warning is idle", write, title, there)
		}
		// wtcache's own reader does not take it for an entry, and makes room for one.
		if got := seen(t, items, id); got.Value.Title == "old" || got.FromCache {
			t.Errorf("%s: wtcache's reader was given what unaware code stored: %+v", write, got)
		}
		if title, there := u.get(id); title == "old" {
			t.Errorf("%s: after a read through wtcache unaware code still reads %q (%v)", write, title, there)
		}
	}
	// A write ends it, too.
	row := u.look(3)
	h.exec("UPDATE items SET title = 'new' WHERE id = 3")
	u.store(3, row)
	h.exec("UPDATE items SET title = 'newer' WHERE id = 3")
	if title, there := u.get(3); title != "newer" || !there {
		t.Errorf("after a write unaware code reads %q (%v)", title, there)
	}
}

// A fill by unaware code while a writer's fence lies on the key is gone when the write returns.
func TestUnawareFillUnderAFence(t *testing.T) {
	h := newShelf(t, itemsSetup("format: plain\n"))
	u := unaware{h}
	items := readerOf[item](t, h.db, "items")
	for point, id := range map[string]int{"fenced": 1, "committed": 2} {
		t.Run(point, func(t *testing.T) {
			row := u.look(id)
			h.hookOnce(t, point, func() {
				u.store(id, row)
				if got := seen(t, items, id); got.FromCache {
					t.Errorf("wtcache's reader was given what unaware code stored: %+v", got)
				}
				u.store(id, row)
			})
			h.exec("UPDATE items SET title = 'new' WHERE id = $1", id)
			if title, there := u.get(id); title != "new" || !there {
				t.Errorf("after the write unaware code reads %q (%v)", title, there)
			}
		})
	}
}

// In the other formats what unaware code stores under the key is no entry at all: readers
// of wtcache make room, and code that reads the entries' own form sees it as foreign.
func TestUnawareFillInOtherFormats(t *testing.T) {
	for _, format := range allFormats {
		h := newShelf(t, itemsSetup("format: "+format+"\n"))
		u := unaware{h}
		items := readerOf[item](t, h.db, "items")
		for _, warm := range []bool{false, true} {
			id := map[bool]int{false: 1, true: 2}[warm]
			row := u.look(id)
			if warm {
				seen(t, items, id)
			}
			h.exec("UPDATE items SET title = 'new' WHERE id = $1", id)
			u.store(id, row)
			for i := range 3 {
				if got := seen(t, items, id); got.Value.Title != "new" {
					t.Errorf("%s, warm %v, read %d: %+v", format, warm, i, got)
				}
			}
			payload, there, err := readUnaware(context.Background(), h.rdb, u.key(id), format)
			var stored item
			if err == nil {
				err = json.Unmarshal(payload, &stored)
			}
			if err != nil || !there || stored.Title != "new" {
				t.Errorf("%s, warm %v: afterwards Redis has %q (%v), %v", format, warm, payload, there, err)
			}
		}
	}
}
