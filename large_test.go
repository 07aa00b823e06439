package wtcache_test

import (
	"context"
	"testing"

	"github.com/wtcache/wtcache"
)

// crowdSetup bounds what a transaction keeps to so few rows that a handful is too many.
func crowdSetup() shelfSetup {
	return shelfSetup{
		ddl:    `CREATE TABLE crowd (id int PRIMARY KEY, n int); INSERT INTO crowd SELECT i, 0 FROM generate_series(1, 9) i`,
		rules:  map[string]string{"crowd": "table: {S}.crowd\nkey: \"{P}c:{id}\"\n"},
		config: func(c *wtcache.Config) { c.MaxCapturedRows = 3 },
	}
}

type crowdRow struct{ N int }

// wantCrowd reads every row through the cache, twice: as it is found, and as it was filled.
func wantCrowd(t *testing.T, h *shelf, want int) {
	t.Helper()
	r := readerOf[crowdRow](t, h.db, "crowd.by_id")
	for range 2 {
		for id := 1; id <= 9; id++ {
			if got := seen(t, r, id); got.Value.N != want {
				t.Errorf("row %d: the cache gives %d, the table has %d", id, got.Value.N, want)
			}
		}
	}
}

// A program that updates all rows every night pays for their payloads once, and neither run leaves an old row in the cache.
func TestLargeWriteIsCapturedOnce(t *testing.T) {
	t.Parallel()
	h := newShelf(t, crowdSetup())
	const text = "UPDATE crowd SET n = n + 1 WHERE id <= $1"
	captured := func(want uint64, args ...any) {
		t.Helper()
		before := h.stats().CapturedRows
		h.exec(text, args...)
		if got := h.stats().CapturedRows - before; got != want {
			t.Errorf("%d rows were captured, want %d", got, want)
		}
	}
	wantCrowd(t, h, 0)
	captured(9, 9)
	wantCrowd(t, h, 1)
	captured(0, 9)
	wantCrowd(t, h, 2)
	if why := h.stats().CoarseReasons["too many rows when it ran last"]; why != 1 {
		t.Errorf("the second run is not counted as coarse: %v", h.stats().CoarseReasons)
	}

	// Few rows again: seen after a run that is still coarse, and written through from the next one on.
	captured(0, 1)
	if h.there("c:1") {
		t.Error("a run that captured nothing left an entry")
	}
	captured(1, 1)
	if !h.there("c:1") {
		t.Error("a small run is not written through")
	}
	h.exec("UPDATE crowd SET n = 4 WHERE id <= 9")
	wantCrowd(t, h, 4)
}

// The same inside a transaction that goes on, is cut back and is rolled back: what is committed is what the cache gives.
func TestLargeWriteInATransaction(t *testing.T) {
	t.Parallel()
	h := newShelf(t, crowdSetup())
	const text = "UPDATE crowd SET n = n + 1 WHERE id <= $1"
	h.exec(text, 9)
	h.exec(text, 9)
	wantCrowd(t, h, 2)
	tx, err := h.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"SAVEPOINT s", "UPDATE crowd SET n = n + 1 WHERE id <= 9", "ROLLBACK TO s"} {
		if _, err := tx.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	if res, err := tx.Exec(text, 9); err != nil {
		t.Fatal(err)
	} else if n, _ := res.RowsAffected(); n != 9 {
		t.Errorf("%d rows affected, want 9", n)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	wantCrowd(t, h, 3)
	if tx, err = h.db.Begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(text, 9); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	wantCrowd(t, h, 3)
}

// A transaction in which one rule goes coarse keeps the other's rows precise.
func TestLargeWriteLeavesOtherRulesPrecise(t *testing.T) {
	t.Parallel()
	setup := crowdSetup()
	setup.ddl += `; CREATE TABLE few (id int PRIMARY KEY, n int); INSERT INTO few VALUES (1, 0)`
	setup.rules["few"] = "table: {S}.few\nkey: \"{P}few:{id}\"\n"
	h := newShelf(t, setup)
	tx, err := h.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"UPDATE few SET n = 1", "UPDATE crowd SET n = 1"} {
		if _, err := tx.Exec(s); err != nil {
			t.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if !h.there("few:1") {
		t.Error("a rule of which one row was written went coarse with the other")
	}
	wantCrowd(t, h, 1)
}

// A name may mean another ruled table than it did when the text was found to be large, and no captured row tells: a
// function has set the search_path, which no text shows.
func TestLargeWriteOfAnotherTable(t *testing.T) {
	t.Parallel()
	other, h := newShelf(t, crowdSetup()), newShelf(t, crowdSetup())
	h.rules["other.yaml"] = other.rules["crowd.yaml"]
	h.db, _ = h.open(crowdSetup())
	h.must(`CREATE FUNCTION elsewhere() RETURNS text LANGUAGE sql AS 'SELECT set_config(''search_path'', ''` + other.schema + `'', false)'`)
	const text = "UPDATE crowd SET n = n + 1 WHERE id <= $1"
	h.exec(text, 9)
	reader := readerOf[crowdRow](t, h.db, other.schema+".crowd.by_id")
	if got := seen(t, reader, 5); got.Value.N != 0 {
		t.Fatalf("n = %d, want 0", got.Value.N)
	}
	conn, err := h.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	var path string
	if err := conn.QueryRowContext(context.Background(), "SELECT elsewhere()").Scan(&path); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(context.Background(), text, 9); err != nil {
		t.Fatal(err)
	}
	if got := seen(t, reader, 5); got.Value.N != 1 {
		t.Errorf("the cache gives %d, the other table has 1", got.Value.N)
	}
}
