package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"

	"github.com/wtcache/wtcache"
)

type item struct {
	ID    int64  `json:"id"`
	Title string `json:"title"`
}

// itemsSetup is a table with as many rows as a test needs.
func itemsSetup(rule string) shelfSetup {
	return shelfSetup{
		ddl: `CREATE TABLE items (id bigint PRIMARY KEY, title text);
			CREATE TABLE others (id bigint PRIMARY KEY);
			INSERT INTO items SELECT i, 'old' FROM generate_series(1, 9) i`,
		rules: map[string]string{"items": "table: {S}.items\nkey: \"{P}item:{id}\"\n" + rule},
	}
}

func begin(t testing.TB, db *sql.DB, o *sql.TxOptions) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() }) // it has ended where all went well
	return tx
}

func runOn(t testing.TB, on interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, text string, args ...any) {
	t.Helper()
	if _, err := on.ExecContext(context.Background(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// wrapped is how libraries hand a transaction on.
type wrapped struct{ *sql.Tx }

// A transaction that has written must see what it wrote, which Redis does not have yet, and
// Redis must not learn of it.
func TestReaderInATransactionThatHasWritten(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	for _, write := range []string{
		"UPDATE items SET title = 'new' WHERE id = 1",
		"INSERT INTO items VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET title = 'new'",
		"WITH w AS (UPDATE items SET title = 'new' WHERE id = 1 RETURNING 1) SELECT count(*) FROM w",
		"MERGE INTO items USING (SELECT 1) s ON id = 1 WHEN MATCHED THEN UPDATE SET title = 'new'",
	} {
		for name, wrap := range map[string]func(*sql.Tx) wtcache.Queryer{
			"*sql.Tx":           func(tx *sql.Tx) wtcache.Queryer { return tx },
			"a type around one": func(tx *sql.Tx) wtcache.Queryer { return wrapped{tx} },
		} {
			seen(t, items, 1)
			seen(t, items, 2)
			tx := begin(t, h.db, nil)
			runOn(t, tx, write)
			in := items.With(wtcache.In(wrap(tx)))
			sent := h.sent.during(func() {
				if row := seen(t, in, 1); row.Value.Title != "new" || row.FromCache {
					t.Errorf("%s, %s: the transaction reads %+v", write, name, row)
				}
				rows, err := in.GetMany(context.Background(), 2, 1, 99)
				if err != nil || rows[0].Value.Title != "old" || rows[1].Value.Title != "new" || rows[2].Found {
					t.Errorf("%s, %s: the transaction reads many as %+v, %v", write, name, rows, err)
				}
			})
			if len(sent) != 0 {
				t.Errorf("%s, %s: Redis was sent %v on behalf of a transaction that has written", write, name, sent)
			}
			if row := seen(t, items, 1); row.Value.Title != "old" {
				t.Errorf("%s, %s: others read %+v before COMMIT", write, name, row)
			}
			if err := tx.Rollback(); err != nil {
				t.Error(err)
			}
			if row := seen(t, items, 1); row.Value.Title != "old" {
				t.Errorf("%s, %s: after ROLLBACK: %+v", write, name, row)
			}
		}
	}
}

// A write that was undone to a savepoint is none.
func TestReaderInATransactionThatHasUndoneItsWrite(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	tx := begin(t, h.db, nil)
	for _, text := range []string{"SAVEPOINT s", "UPDATE items SET title = 'new' WHERE id = 1"} {
		runOn(t, tx, text)
	}
	in := items.With(wtcache.In(tx))
	if row := seen(t, in, 1); row.Value.Title != "new" {
		t.Errorf("before ROLLBACK TO: %+v", row)
	}
	runOn(t, tx, "ROLLBACK TO s")
	if row := seen(t, in, 1); row.Value.Title != "old" || !row.FromCache {
		t.Errorf("after ROLLBACK TO: %+v", row)
	}
}

// A transaction that has only read is served like anybody. What Redis does not have comes
// over its own connection, which may be the pool's only one, and is not stored: another
// transaction may have replaced it since its snapshot.
func TestReaderInATransactionThatHasOnlyRead(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	h.db.SetMaxOpenConns(1)
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	tx := begin(t, h.db, nil)
	in := items.With(wtcache.In(tx))
	if row := seen(t, in, 1); !row.FromCache {
		t.Errorf("a hit on behalf of a transaction: %+v", row)
	}
	for range 2 {
		if row := seen(t, in, 2); row.FromCache || row.Value.Title != "old" {
			t.Errorf("a miss on behalf of a transaction: %+v", row)
		}
	}
	rows, err := in.GetMany(context.Background(), 3, 1, 3, 99)
	if err != nil || !rows[0].Found || rows[0].FromCache || !rows[1].FromCache || !rows[2].Found || rows[3].Found {
		t.Errorf("many on behalf of a transaction: %+v, %v", rows, err)
	}
	if h.there("item:2") || h.there("item:3") || h.stats().Fills != 1 {
		t.Error("what a transaction read was stored")
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if row := seen(t, items, 2); row.Value.Title != "old" {
		t.Errorf("afterwards: %+v", row)
	}
}

// Above read committed a transaction has one snapshot: a row that is newer than it would
// contradict what it has read already.
func TestReaderInASnapshot(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	for _, level := range []sql.IsolationLevel{sql.LevelDefault, sql.LevelReadCommitted, sql.LevelRepeatableRead, sql.LevelSerializable} {
		h.exec("UPDATE items SET title = 'old' WHERE id = 1")
		tx := begin(t, h.db, &sql.TxOptions{Isolation: level})
		var title string
		if err := tx.QueryRow("SELECT title FROM items WHERE id = 1").Scan(&title); err != nil {
			t.Fatal(err)
		}
		h.exec("UPDATE items SET title = 'new' WHERE id = 1")
		snapshot := level > sql.LevelReadCommitted
		sent := h.sent.during(func() {
			row := seen(t, items.With(wtcache.In(tx)), 1)
			if want := map[bool]string{false: "new", true: "old"}[snapshot]; row.Value.Title != want || row.FromCache == snapshot {
				t.Errorf("%v: got %+v, want %s", level, row, want)
			}
		})
		if snapshot && len(sent) > 0 {
			t.Errorf("%v: Redis was sent %v", level, sent)
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
	}
}

// The level may as well be the default of the connection, the role or the database: a
// program that has set it there never names it.
func TestReaderInASnapshotByDefault(t *testing.T) {
	for level, snapshot := range map[string]bool{"read%20committed": false, "repeatable%20read": true, "serializable": true} {
		h := newShelf(t, itemsSetup(""))
		h.dsn += "&default_transaction_isolation=" + level
		db, _ := h.open(shelfSetup{})
		items := readerOf[item](t, db, "items")
		conn, err := db.Conn(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		runOn(t, conn, "BEGIN")
		for name, on := range map[string]wtcache.Queryer{"Tx": begin(t, db, nil), "BEGIN as text": conn} {
			h.exec("UPDATE items SET title = 'old' WHERE id = 1")
			rows, err := on.QueryContext(context.Background(), "SELECT FROM items")
			if err != nil {
				t.Fatal(err)
			}
			_ = rows.Close() // of no use
			h.exec("UPDATE items SET title = 'new' WHERE id = 1")
			if row := seen(t, items.With(wtcache.In(on)), 1); (row.Value.Title == "old") != snapshot || row.FromCache == snapshot {
				t.Errorf("%s, %s: got %+v", level, name, row)
			}
		}
	}
}

// A *sql.Conn is as good as a transaction, whether one is open on it or not.
func TestReaderInAConnection(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	conn, err := h.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := items.With(wtcache.In(conn))
	if row := seen(t, in, 1); !row.FromCache {
		t.Errorf("outside a transaction: %+v", row)
	}
	runOn(t, conn, "BEGIN")
	runOn(t, conn, "UPDATE items SET title = 'new' WHERE id = 1")
	if row := seen(t, in, 1); row.FromCache || row.Value.Title != "new" {
		t.Errorf("after a write: %+v", row)
	}
	runOn(t, conn, "COMMIT")
	if row := seen(t, in, 1); !row.FromCache || row.Value.Title != "new" {
		t.Errorf("after COMMIT: %+v", row)
	}
}

// What a transaction does around its reads is not disturbed by them.
func TestReaderLeavesATransactionAsItWas(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	tx := begin(t, h.db, nil)
	in := items.With(wtcache.In(tx))
	update, err := tx.Prepare("UPDATE items SET title = $1 WHERE id = $2 RETURNING title")
	if err != nil {
		t.Fatal(err)
	}
	query, err := tx.Prepare("SELECT title FROM items WHERE id = $1")
	if err != nil {
		t.Fatal(err)
	}
	for i, title := range []string{"a", "b", "c"} {
		seen(t, in, 1)
		var got string
		if err := update.QueryRow(title, 1).Scan(&got); err != nil || got != title {
			t.Errorf("%d: RETURNING gave %q, %v", i, got, err)
		}
		if row := seen(t, in, 1); row.Value.Title != title {
			t.Errorf("%d: the reader gave %+v", i, row)
		}
		if err := query.QueryRow(1).Scan(&got); err != nil || got != title {
			t.Errorf("%d: the prepared query gave %q, %v", i, got, err)
		}
		if err := tx.QueryRow("SELECT title FROM items WHERE id = 1").Scan(&got); err != nil || got != title {
			t.Errorf("%d: a query gave %q, %v", i, got, err)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if row := seen(t, items, 1); !row.FromCache || row.Value.Title != "c" {
		t.Errorf("after COMMIT: %+v", row)
	}
}

// A transaction that has failed can only say so.
func TestReaderInAFailedTransaction(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	for _, wrote := range []bool{false, true} {
		tx := begin(t, h.db, nil)
		if wrote {
			runOn(t, tx, "UPDATE items SET title = 'new' WHERE id = 1")
		}
		_, _ = tx.Exec("SELECT 1/0")
		if row, err := items.With(wtcache.In(tx)).Row(context.Background(), 1); sqlState(err) != "25P02" {
			t.Errorf("wrote: %v: got %+v, %v", wrote, row, err)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		if row, err := items.With(wtcache.In(tx)).Row(context.Background(), 1); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("after its end: %+v, %v", row, err)
		}
	}
	if row := seen(t, items, 1); row.Value.Title != "old" {
		t.Errorf("afterwards: %+v", row)
	}
}

// preparing is a transaction type that prepares what it is asked, as some libraries do.
type preparing struct{ *sql.Tx }

func (p preparing) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	stmt, err := p.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

// A library that prepares each query before it runs it must not lose the answer of the next one.
func TestReaderInATransactionThatPreparesItsQueries(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	tx := begin(t, h.db, nil)
	runOn(t, tx, "UPDATE items SET title = 'new' WHERE id = 1")
	for range 2 {
		row, err := items.With(wtcache.In(preparing{tx})).Row(context.Background(), 1)
		if err != nil || row.Value.Title != "new" {
			t.Errorf("the reader gave %+v, %v", row, err)
		}
		var title string
		if err := tx.QueryRow("SELECT title FROM items WHERE id = 2").Scan(&title); err != nil || title != "old" {
			t.Errorf("the next query gave %q, %v", title, err)
		}
	}
}

// A transaction that wtcache does not see cannot be asked whether it has written. One of another
// database would give the rows of that one.
func TestReaderInAForeignTransaction(t *testing.T) {
	h := newShelf(t, itemsSetup(""))
	other := newShelf(t, itemsSetup(""))
	items := readerOf[item](t, h.db, "items")
	for name, db := range map[string]*sql.DB{"plain pgx": h.plain, "another wtcache": other.db} {
		tx := begin(t, db, nil)
		row, err := items.With(wtcache.In(tx)).Row(context.Background(), 1)
		if err == nil || row.Found {
			t.Errorf("%s: got %+v, %v", name, row, err)
		}
		var n int
		if err := tx.QueryRow("SELECT count(*) FROM items").Scan(&n); err != nil || n != 9 {
			t.Errorf("%s: the transaction cannot be used afterwards: %d, %v", name, n, err)
		}
	}
	if row := seen(t, items.With(wtcache.In(h.db)), 1); row.Value.Title != "old" {
		t.Errorf("In of the *sql.DB itself gave %+v", row)
	}
}

// The catalogue may change under a transaction that holds the pool's only connection: its read
// gets the server's error instead of waiting for a connection that it holds itself.
func TestReaderInATransactionAfterAMigration(t *testing.T) {
	s := itemsSetup("")
	h := newShelf(t, s)
	h.db.SetMaxOpenConns(1)
	items := readerOf[item](t, h.db, "items")
	seen(t, items, 1)
	tx := begin(t, h.db, nil)
	h.must("ALTER TABLE items RENAME COLUMN title TO name")
	returned := make(chan error, 1)
	go func() {
		_, err := items.With(wtcache.In(tx)).Get(context.Background(), 5)
		returned <- err
	}()
	if err := await(t, "the read on behalf of the transaction", returned); sqlState(err) != "42703" {
		t.Errorf("got %v", err)
	}
	if err := tx.Rollback(); err != nil {
		t.Error(err)
	}
}
