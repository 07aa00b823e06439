package wtcache

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
)

// A job that runs for hours in one transaction must not fill the memory with what it need
// not remember: that all entries of a rule go is said once, however often it is so.
func TestLogOfALongTransactionIsBounded(t *testing.T) {
	tables := []*rules.Table{{}, {}}
	const long = 50_000
	for name, step := range map[string]func(*txState, int){
		"coarse": func(tx *txState, i int) { tx.coarse(tables[i%2 : i%2+1]) },
		"blur":   func(tx *txState, i int) { tx.blur(tables) },
		"both":   func(tx *txState, i int) { tx.coarse(tables); tx.blur(tables) },
		"savepoints released": func(tx *txState, i int) {
			tx.savepoint("s")
			tx.coarse(tables)
			tx.blur(tables)
			tx.release("s")
		},
		"savepoints rolled back": func(tx *txState, i int) {
			tx.savepoint("s")
			tx.coarse(tables)
			tx.blur(tables)
			tx.rollbackTo("s")
			tx.release("s")
		},
	} {
		var tx txState
		tx.begin()
		for i := range long {
			step(&tx, i)
		}
		if n := len(tx.log); n > 2*len(tables) {
			t.Errorf("%s: %d statements left %d records", name, long, n)
		}
	}
}

// What is not repeated must not be lost either: a ROLLBACK TO takes only what came after
// its savepoint.
func TestMarksOutliveSavepoints(t *testing.T) {
	first, second := &rules.Table{}, &rules.Table{}
	var tx txState
	tx.begin()
	tx.savepoint("a")
	tx.coarse([]*rules.Table{first})
	tx.blur([]*rules.Table{first})
	tx.savepoint("b")
	tx.coarse([]*rules.Table{first, second})
	tx.blur([]*rules.Table{first, second})
	count := func() (n int) {
		for _, table := range []*rules.Table{first, second} {
			for _, ch := range tx.log {
				if ch.table == table {
					n++
				}
			}
		}
		return n
	}
	for _, c := range []struct {
		to   string
		want int
	}{{"", 4}, {"b", 2}, {"a", 0}} {
		if c.to != "" {
			tx.rollbackTo(c.to)
		}
		if got := count(); got != c.want {
			t.Errorf("after ROLLBACK TO %q there are %d marks, want %d", c.to, got, c.want)
		}
	}
	tx.coarse([]*rules.Table{first})
	if count() != 1 {
		t.Error("a mark that was cut off is not set again")
	}
}

// The same for whole statements of each kind on a server: captured rows, and keys that are
// pinned, are bounded by Config.MaxCapturedRows.
func TestLogOfALongTransactionOnAServer(t *testing.T) {
	const most, rounds = 20, 60
	db, role := openBounded(t, most)
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	say := func(text string, args ...any) {
		t.Helper()
		if _, err := conn.ExecContext(context.Background(), text, args...); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	say("BEGIN")
	say("SET LOCAL ROLE " + role)
	for i := range rounds {
		say("SAVEPOINT s")
		say("WITH u AS (UPDATE users SET n = n + 1 WHERE id = 1) SELECT 1") // coarse
		say("INSERT INTO visits VALUES (1)")                                // blurs
		say("UPDATE orders SET n = n + 1 WHERE id = $1", i%2+1)             // captured
		say("DELETE FROM teams WHERE id = $1", 1000+i)                      // acts on orders
		say("UPDATE notes SET n = n + 1 WHERE id = $1", i)                  // pinned
		say("RELEASE s")
	}
	if err := conn.Raw(func(dc any) error {
		c := dc.(resettableConn)
		if n := len(c.tx.log); n == 0 || n > most+4 {
			return fmt.Errorf("%d rounds left %d records, want at most %d rows and a few marks", rounds, n, most)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	say("COMMIT")
}

// openBounded gives a database with a role that row-level security binds on one table.
func openBounded(t *testing.T, most int) (db *sql.DB, role string) {
	t.Helper()
	dsn, schema := testenv.Schema(t, testenv.Postgres(t))
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	role = "role_" + schema
	plain := sql.OpenDB(stdlib.GetConnector(*cfg))
	t.Cleanup(func() {
		if _, err := plain.Exec(strings.ReplaceAll("DROP OWNED BY $; DROP ROLE $", "$", role)); err != nil {
			t.Error(err)
		}
		_ = plain.Close()
	})
	if _, err := plain.Exec(`CREATE TABLE users (id int PRIMARY KEY, n int); CREATE TABLE teams (id int PRIMARY KEY);
		CREATE TABLE orders (id int PRIMARY KEY, n int, team int REFERENCES teams ON DELETE CASCADE);
		INSERT INTO users VALUES (1, 0); INSERT INTO orders VALUES (1, 0), (2, 0); CREATE TABLE visits (id int);
		CREATE FUNCTION count_visit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE users SET n = n + 1 WHERE id = NEW.id; RETURN NULL; END';
		CREATE TRIGGER a AFTER INSERT ON visits FOR EACH ROW EXECUTE FUNCTION count_visit();
		CREATE TABLE notes (id int PRIMARY KEY, n int); ALTER TABLE notes ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON notes USING (true);
		CREATE ROLE ` + role + `; GRANT USAGE ON SCHEMA ` + schema + ` TO ` + role + `; GRANT ALL ON ALL TABLES IN SCHEMA ` + schema + ` TO ` + role); err != nil {
		t.Fatal(err)
	}
	opt, err := redis.ParseURL(testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	rdb, prefix := redis.NewClient(opt), testenv.KeyPrefix(t)
	t.Cleanup(func() { _ = rdb.Close() })
	files := fstest.MapFS{}
	for _, table := range []string{"users", "orders", "notes"} {
		files[table+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "table: %s.%s\nkey: %q\n", schema, table, prefix+table+":{id}")}
	}
	db, err = OpenDB(stdlib.GetConnector(*cfg), Config{
		Redis: rdb, Rules: files, MaxCapturedRows: most, RedisTimeout: 5 * time.Second,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db, role
}
