package wtcache_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/wtcache/wtcache"
)

// A transaction at REPEATABLE READ goes on seeing the definitions of its start. When what
// it sees were taken for the present, a child that was made meanwhile would be written past
// the cache by everybody.
func TestOldSnapshotIsNotTakenForThePresent(t *testing.T) {
	for _, level := range []sql.IsolationLevel{sql.LevelRepeatableRead, sql.LevelSerializable} {
		for _, text := range []string{setOne, "SELECT 1; " + setOne, "SET LOCAL work_mem = '1MB'; " + setOne} {
			t.Run(level.String()+"/"+text, func(t *testing.T) {
				l := newLedger(t, ledgerSetup{})
				tx, err := l.db.BeginTx(context.Background(), &sql.TxOptions{Isolation: level})
				if err != nil {
					t.Fatal(err)
				}
				if err := tx.QueryRow("SELECT count(*) FROM unruled").Scan(new(int)); err != nil {
					t.Fatal(err)
				}
				l.exec("CREATE TABLE kid () INHERITS (accounts)")
				if _, err := tx.Exec(text); err != nil {
					t.Fatal(err)
				}
				if err := tx.Commit(); err != nil {
					t.Fatal(err)
				}
				if _, err := l.plain.Exec("INSERT INTO kid VALUES (50, 0)"); err != nil {
					t.Fatal(err)
				}
				l.warm(50)
				l.exec("UPDATE kid SET n = 8 WHERE id = 50")
				l.wantCached(50, 8)
				l.wantTrue()
			})
		}
	}
}

// shopFamily has two tables with rules and a view that a migration can hold.
func shopFamily(via string) *family {
	return &family{
		name: "migrations",
		ddl: `CREATE TABLE users (id int PRIMARY KEY, n int); CREATE TABLE orders (id int PRIMARY KEY, n int);
			INSERT INTO users VALUES (1, 0); INSERT INTO orders VALUES (1, 0); CREATE VIEW shown AS SELECT * FROM users`,
		rules: map[string]string{
			"users":  "table: {{S}}.users\n" + via + "key: \"{{P}}user:{id}\"\n",
			"orders": "table: {{S}}.orders\nkey: \"{{P}}order:{id}\"\n",
		},
	}
}

const viaShown = "via: [{{S}}.shown]\n"

// conn gives one connection of the world's pool.
func (w *world) conn(t *testing.T) *sql.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := w.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// payload gives the row that is cached under a key, nil for nothing.
func (w *world) payload(t *testing.T, key string) map[string]any {
	t.Helper()
	v, ok := w.cached(t, w.prefix+key, &entry{})
	if !ok {
		return nil
	}
	return v.(map[string]any)
}

// wantPayload holds a cached row against its JSON, "" for nothing.
func (w *world) wantPayload(t *testing.T, key, want string) {
	t.Helper()
	got := ""
	if row := w.payload(t, key); row != nil {
		text, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		got = string(text)
	}
	if got != want {
		t.Errorf("%s holds %q, want %q", key, got, want)
	}
}

// A migration is not there for others until it is committed. Were its half-made definitions
// taken over by other connections, their writes would be planned for columns that do not
// exist, or every write of the service would be coarse while the migration runs.
func TestUncommittedMigrationIsNobodyElses(t *testing.T) {
	for _, c := range []struct {
		ddl, write        string
		rolled, committed string // user 1 afterwards
	}{
		{"ALTER TABLE users ADD COLUMN x int DEFAULT 7", "UPDATE users SET n = 5, x = 6 WHERE id = 1", `{"id":1,"n":3}`, `{"id":1,"n":3,"x":6}`},
		{"ALTER TABLE users RENAME COLUMN id TO number", "UPDATE users SET n = 5 WHERE number = 1", `{"id":1,"n":3}`, ""},
		{"ALTER TABLE users RENAME COLUMN n TO m", "UPDATE users SET m = 5 WHERE id = 1", `{"id":1,"n":3}`, ""},
		{"DROP TABLE users CASCADE", "UPDATE orders SET n = n WHERE id = 9", `{"id":1,"n":3}`, ""},
	} {
		for _, end := range []string{"ROLLBACK", "COMMIT"} {
			t.Run(c.ddl+"/"+end, func(t *testing.T) { migrate(t, c.ddl, c.write, end, c.rolled, c.committed) })
		}
	}
}

func migrate(t *testing.T, ddl, write, end, rolled, committed string) {
	w := newWorld(t, shopFamily(""))
	migration, other := w.conn(t), w.conn(t)
	w.execAll(t, other, []string{"UPDATE users SET n = 1 WHERE id = 1"})
	w.execAll(t, migration, []string{"BEGIN", ddl, write})
	before := w.stats(t)
	w.execAll(t, other, []string{"UPDATE orders SET n = 2 WHERE id = 1"})
	w.wantPayload(t, "order:1", `{"id":1,"n":2}`)
	w.execAll(t, w.conn(t), []string{"UPDATE orders SET n = n + 1 WHERE abs(id) = 1"})
	w.wantPayload(t, "order:1", `{"id":1,"n":3}`)
	if s := w.stats(t); s.CoarseWrites != before.CoarseWrites || s.PreciseWrites != before.PreciseWrites+2 {
		t.Errorf("beside the migration %d coarse and %d precise writes, want 0 and 2", s.CoarseWrites-before.CoarseWrites, s.PreciseWrites-before.PreciseWrites)
	}
	w.execAll(t, migration, []string{end})
	want := rolled
	if end == "COMMIT" {
		want = committed
	}
	if want != "" {
		w.execAll(t, other, []string{"UPDATE users SET n = 3 WHERE id = 1"})
	}
	w.wantPayload(t, "user:1", want)
}

// A connection must come up while a migration holds a view over a ruled table: else one
// long migration stops a whole service that is being started.
func TestConnectingBesideAMigration(t *testing.T) {
	w := newWorld(t, shopFamily(""))
	w.db.SetMaxIdleConns(0)
	w.execPlain(t, "BEGIN; CREATE OR REPLACE VIEW shown AS SELECT id, n FROM users")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for name, db := range map[string]*sql.DB{"a connection": w.db, "a program": w.open(t)} {
		opened := make(chan error, 1)
		go func() { opened <- db.PingContext(ctx) }()
		if err := await(t, name+" beside a migration", opened); err != nil {
			t.Errorf("%s beside a migration: %v", name, err)
		}
	}
	w.execPlain(t, "ROLLBACK")
}

// Where a rule names the view in `via`, its definition has to be waited for. The wait ends
// with the caller's context, or a service could not even be stopped.
func TestWaitForAMigrationEndsWithTheContext(t *testing.T) {
	w := newWorld(t, shopFamily(viaShown))
	w.execPlain(t, "BEGIN; CREATE OR REPLACE VIEW shown AS SELECT id, n FROM users")
	first, second := w.open(t), w.open(t)
	for _, db := range []*sql.DB{first, second, first} {
		ctx, cancel := context.WithCancel(context.Background())
		opened := make(chan error, 1)
		go func() { opened <- db.PingContext(ctx) }()
		eventually(t, "somebody waits for the view", func() bool { return w.waiting(t) > 0 })
		cancel()
		if err := await(t, "the end of a wait whose context has ended", opened); err == nil {
			t.Error("a connection was opened although its view is locked: the test is worth nothing")
		}
		eventually(t, "nobody waits any more", func() bool { return w.waiting(t) == 0 })
	}
	w.execPlain(t, "ROLLBACK")
	if err := first.Ping(); err != nil {
		t.Errorf("after the migration: %v", err)
	}
}

// waiting counts who waits for a lock on the world's relations.
func (w *world) waiting(t *testing.T) (n int) {
	t.Helper()
	if err := w.plain.QueryRow(context.Background(), `SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
		JOIN pg_namespace s ON s.oid = c.relnamespace WHERE NOT l.granted AND s.nspname = $1`, w.schema).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A write may have to wait until the catalogue can be read, for a migration that holds a
// view; that migration itself writes ruled rows. If each waited for the other, neither
// Postgres nor a timeout of its would ever end it.
func TestCatalogueLoadDoesNotBlockAMigration(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w := newWorld(t, shopFamily(viaShown))
	migration, earlier, writer, hurried := w.conn(t), w.conn(t), w.conn(t), w.conn(t)
	w.execAll(t, earlier, []string{"BEGIN", "ALTER TABLE orders ADD COLUMN y int"})
	w.execAll(t, migration, []string{"BEGIN", "CREATE OR REPLACE VIEW shown AS SELECT id, n FROM users"})
	w.execAll(t, earlier, []string{"COMMIT"}) // from now on the catalogue has to be read again
	write := func(ctx context.Context, conn *sql.Conn) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := conn.ExecContext(ctx, "UPDATE orders SET n = n + 1 WHERE id = 1")
			done <- err
		}()
		return done
	}
	written := write(ctx, writer)
	eventually(t, "the writer waits for the view", func() bool { return w.waiting(t) > 0 })
	short, giveUp := context.WithCancel(ctx)
	gaveUp := write(short, hurried) // waits for the first one's look
	giveUp()
	if err := await(t, "the end of a write whose context has ended", gaveUp); err == nil {
		t.Error("a write went through while the catalogue could not be read")
	}
	moved := make(chan error, 1)
	go func() {
		_, err := migration.ExecContext(ctx, "UPDATE users SET n = 2 WHERE id = 1")
		moved <- err
	}()
	if err := await(t, "the migration's own write", moved); err != nil {
		t.Fatal(err)
	}
	w.execAll(t, migration, []string{"COMMIT"})
	if err := await(t, "the write that waited", written); err != nil {
		t.Errorf("the write that waited: %v", err)
	}
	w.wantPayload(t, "order:1", `{"id":1,"n":1,"y":null}`)
	if row := w.payload(t, "user:1"); row != nil && row["n"] != json.Number("2") {
		t.Errorf("user 1 is cached as %v", row)
	}
}

// Another program drops a column of a table with a rule. Readers must not get errors for a
// query that was made before, nor go on being served the column from the cache.
func TestReadersFollowAForeignMigration(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	l.warm(1)
	if _, err := l.plain.Exec("ALTER TABLE accounts DROP COLUMN owner; UPDATE accounts SET n = 4 WHERE id = 3"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		for _, id := range []int{2, 1, 3} { // 2 first: it is not cached, so that its reader meets the change
			var row map[string]any
			read, err := l.cache.Get(context.Background(), "accounts", &row, id)
			if err != nil {
				t.Fatalf("read account %d after the migration: %v", id, err)
			}
			if _, there := row["owner"]; there || row["n"] != json.Number(strconv.Itoa(l.row(id))) {
				t.Errorf("account %d is read as %v (from the cache: %v)", id, row, read.FromCache)
			}
		}
	}
	l.exec(setOne)
	l.wantCached(1, 1)
	if s, err := wtcache.StatsOf(l.db); err != nil || s.CoarseWrites != 0 {
		t.Errorf("%d coarse writes (%v): the rule still fits", s.CoarseWrites, err)
	}
}
