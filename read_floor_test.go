package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
)

// childKey makes a context that is another one and holds what its parent does.
type childKey struct{}

// ReadYourWrites is for a request that writes and then reads: under it a replica that lags
// must not give back what the request has replaced.
func TestReaderReadYourWrites(t *testing.T) {
	const one = "UPDATE items SET title = 'new' WHERE id = $1"
	inTx := func(end string, texts ...string) func(context.Context, *sql.DB, int) error {
		return func(ctx context.Context, db *sql.DB, id int) error {
			tx, err := db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			for _, text := range texts {
				if _, err := tx.Exec(text, id); err != nil {
					return errors.Join(err, tx.Rollback())
				}
			}
			if end == "ROLLBACK" {
				return tx.Rollback()
			}
			return tx.Commit()
		}
	}
	byStatement := func(ctx context.Context, db *sql.DB, id int) error { // only the statement knows the request
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, one, id); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		return tx.Commit()
	}
	auto := func(text string) func(context.Context, *sql.DB, int) error {
		return func(ctx context.Context, db *sql.DB, id int) error {
			_, err := db.ExecContext(ctx, text, id)
			return err
		}
	}
	byWords := func(ctx context.Context, db *sql.DB, id int) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, text := range []string{"BEGIN", strings.Replace(one, "$1", fmt.Sprint(id), 1), "COMMIT"} {
			if _, err := conn.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}
	prepared := func(ctx context.Context, db *sql.DB, id int) error {
		stmt, err := db.PrepareContext(context.Background(), one)
		if err != nil {
			return err
		}
		defer stmt.Close()
		_, err = stmt.ExecContext(ctx, id)
		return err
	}
	returning := func(ctx context.Context, db *sql.DB, id int) error {
		return db.QueryRowContext(ctx, one+" RETURNING id", id).Scan(new(int))
	}
	for _, consistency := range []string{"strict", "eventual"} {
		m := newMirrored(t, "consistency: "+consistency+"\n")
		m.must("INSERT INTO items SELECT i, 'old' FROM generate_series(10, 30) i")
		for id := 1; id <= 20; id++ {
			seen(t, m.items, id)
		}
		m.lag()
		id := 0
		for _, w := range []struct {
			name  string
			do    func(context.Context, *sql.DB, int) error
			title string // "": there is no row
		}{
			{"fence first", auto(one), "new"},
			{"lock first", auto("UPDATE items SET title = 'new' WHERE abs(id) = $1"), "new"},
			{"RETURNING", returning, "new"},
			{"prepared", prepared, "new"},
			{"Tx", inTx("COMMIT", one), "new"},
			{"Tx of a statement's context", byStatement, "new"},
			{"Tx of two writes", inTx("COMMIT", "UPDATE items SET title = 'x' WHERE id = $1", one), "new"},
			{"COMMIT as text", byWords, "new"},
			{"upsert", auto("INSERT INTO items VALUES ($1, 'x') ON CONFLICT (id) DO UPDATE SET title = 'new'"), "new"},
			{"DELETE", auto("DELETE FROM items WHERE id = $1"), ""},
			{"Tx with DELETE", inTx("COMMIT", "DELETE FROM items WHERE id = $1"), ""},
			{"key change", auto("UPDATE items SET id = id + 1000 WHERE id = $1"), ""},
			{"rolled back", inTx("ROLLBACK", one), "old"},
			{"no row written", auto("UPDATE items SET title = 'new' WHERE id = $1 AND title = 'other'"), "old"},
			{"coarse", auto("WITH w AS (UPDATE items SET title = 'new' WHERE id = $1 RETURNING 1) SELECT count(*) FROM w"), "new"},
		} {
			id++
			ctx := wtcache.ReadYourWrites(context.Background())
			if wtcache.ReadYourWrites(ctx) != ctx {
				t.Error("a context that has the property got it twice, and what was written under it is forgotten")
			}
			if err := w.do(ctx, m.db, id); err != nil {
				t.Fatalf("%s: %v", w.name, err)
			}
			if row := seen(t, m.allowed, id); row.Value.Title != "old" || !row.FromReplica {
				t.Errorf("%s, %s: without the context got %+v: the replica does not lag", consistency, w.name, row)
			}
			for _, child := range []context.Context{ctx, context.WithValue(ctx, childKey{}, 1)} {
				row, err := m.allowed.Row(child, id)
				if err != nil || row.Value.Title != w.title || row.FromReplica != (w.title == "old") {
					t.Errorf("%s, %s: got %+v, %v, want %q", consistency, w.name, row, err, w.title)
				}
				rows, err := m.allowed.GetMany(child, id, 20)
				if err != nil || rows[0].Value.Title != w.title {
					t.Errorf("%s, %s: GetMany gave %+v, %v, want %q", consistency, w.name, rows, err, w.title)
				}
				if w.name != "coarse" && !rows[1].FromReplica {
					t.Errorf("%s, %s: a key that was not written went past the replica: %+v", consistency, w.name, rows[1])
				}
			}
		}
	}
}

// A trigger may give the row another key than the statement shows. That one was written, too.
func TestReaderReadYourWritesOfAnotherKey(t *testing.T) {
	m := newMirrored(t, "negative_ttl: 1h\n")
	m.must(`CREATE FUNCTION shift() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := NEW.id + 1; RETURN NEW; END $$;
		CREATE TRIGGER shift BEFORE INSERT ON items FOR EACH ROW EXECUTE FUNCTION shift()`)
	m.cachedAbsent(m.items, 101)
	m.cachedAbsent(m.items, 201)
	m.lag()
	for _, id := range []int{100, 200} {
		ctx := wtcache.ReadYourWrites(context.Background())
		if _, err := m.db.ExecContext(ctx, "INSERT INTO items VALUES ($1, 'new')", id); err != nil {
			t.Fatal(err)
		}
		if row, err := m.allowed.Row(ctx, id+1); err != nil || row.Value.Title != "new" {
			t.Errorf("the row that INSERT of %d made: %+v, %v", id, row, err)
		}
	}
}

// The same, when the replica has caught up: then it may serve again, and it is not the
// primary that pays for every read of a request that has written.
func TestReaderReadYourWritesOfAReplicaInSync(t *testing.T) {
	m := newMirrored(t, "")
	ctx := wtcache.ReadYourWrites(context.Background())
	if _, err := m.db.ExecContext(ctx, "UPDATE items SET title = 'new' WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	m.inSync()
	if row, err := m.allowed.Row(ctx, 1); err != nil || !row.FromReplica || row.Value.Title != "new" {
		t.Errorf("got %+v, %v", row, err)
	}
}

// A request that writes very many keys is remembered as one that has written all.
func TestReaderReadYourWritesOfManyKeys(t *testing.T) {
	m := newMirrored(t, "")
	m.must("INSERT INTO items SELECT i, 'old' FROM generate_series(10, 2000) i")
	for _, id := range []int{1, 500, 1999} {
		seen(t, m.items, id)
	}
	m.lag()
	ctx := wtcache.ReadYourWrites(context.Background())
	for _, ids := range []string{"id BETWEEN 1 AND 900", "id BETWEEN 800 AND 1500"} {
		if _, err := m.db.ExecContext(ctx, "UPDATE items SET title = 'new' WHERE "+ids); err != nil {
			t.Fatal(err)
		}
	}
	for id, want := range map[int]string{1: "new", 500: "new", 1999: "old"} {
		if row, err := m.allowed.Row(ctx, id); err != nil || row.Value.Title != want || row.FromReplica {
			t.Errorf("row %d: %+v, %v, want %s of the primary", id, row, err, want)
		}
	}
	if row := seen(t, m.allowed, 1999); !row.FromReplica {
		t.Errorf("others: %+v", row)
	}
}
