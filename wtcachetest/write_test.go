package wtcachetest_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/wtcachetest"
)

// The user's statement, arguments and kind of call are all that an expectation is about.
func TestExpectationsAreOfTheUsersOwnText(t *testing.T) {
	t.Parallel()
	equal := wtcachetest.Over(sqlmock.New(sqlmock.QueryMatcherOption(sqlmock.QueryMatcherEqual)))
	db, mock, cache := shop(t, equal)
	mock.ExpectExec("UPDATE users SET name = $1 WHERE id = $2 -- by hand").WithArgs("Ann", 7).WillReturnResult(one)
	mock.ExpectQuery("DELETE FROM users WHERE id = $1 RETURNING name").WithArgs(8).
		WillReturnRows(sqlmock.NewRows([]string{"name"}).AddRow("Bob"))

	result, err := db.Exec("UPDATE users SET name = $1 WHERE id = $2 -- by hand", "Ann", 7)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := result.RowsAffected(); n != 1 || err != nil {
		t.Errorf("%d rows affected, error %v", n, err)
	}
	rows, err := db.Query("DELETE FROM users WHERE id = $1 RETURNING name", 8)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	if columns, err := rows.Columns(); err != nil || len(columns) != 1 {
		t.Errorf("the user sees columns %q, error %v", columns, err)
	}
	var name string
	if !rows.Next() || rows.Scan(&name) != nil || name != "Bob" || rows.Next() {
		t.Errorf("the user's own row is not what the expectation gave: %q, %v", name, rows.Err())
	}
	prepared := mock.ExpectPrepare("DELETE FROM users WHERE id = $1").WillBeClosed()
	prepared.ExpectExec().WithArgs(9).WillReturnResult(one)
	stmt, err := db.Prepare("DELETE FROM users WHERE id = $1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stmt.Exec(9); err != nil {
		t.Error(err)
	}
	if err := stmt.Close(); err != nil {
		t.Error(err)
	}
	cache.ExpectOps(
		"fence user:7", "UPDATE users SET name = $1 WHERE id = $2 -- by hand", `apply user:7 {"id":7,"name":"Ann"}`,
		"fence user:8", "DELETE FROM users WHERE id = $1 RETURNING name", "apply user:8: absent",
		"fence user:9", "DELETE FROM users WHERE id = $1", "apply user:9: absent",
	)
}

// Transactions that the driver makes of single statements are no business of the user's.
func TestOwnTransactionsAreNotExpected(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	cache.Rows("orders", row{"id": 1, "number": "A", "user_id": 5, "total": 3})
	mock.ExpectExec("UPDATE orders").WillReturnResult(one)
	mock.ExpectExec("TRUNCATE users").WillReturnResult(sqlmock.NewResult(0, 0))
	cache.Put("users", row{"id": 7, "name": "Ann"})

	exec(t, db, "UPDATE orders SET total = 4 WHERE id = 1")
	cache.ExpectFencedBeforeCommit("order:1", "number:A", "orders:5")
	cache.ExpectWritten("order:1", `{"id":1,"number":"A","user_id":5,"total":4}`)
	cache.ExpectInvalidated("orders:5")
	cache.ExpectUntouched("user:7")
	exec(t, db, "TRUNCATE users")
	cache.ExpectSwept("users")
	cache.ExpectInvalidated("user:7")
}

func TestTransaction(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	cache.Put("users", row{"id": 7, "name": "old"})
	mock.ExpectBegin()
	mock.ExpectExec("UPDATE users").WithArgs("Ann", 7).WillReturnResult(one)
	mock.ExpectRollback()
	tx := begin(t, db)
	exec(t, tx, "UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	cache.ExpectUntouched()
	if held, _ := cache.Payload("user:7"); held != `{"id":7,"name":"old"}` {
		t.Errorf("after a rollback the key holds %s", held)
	}

	mock.ExpectBegin()
	mock.ExpectExec("UPDATE users").WithArgs("Ann", 7).WillReturnResult(one)
	mock.ExpectCommit()
	cache.Reset()
	tx = begin(t, db)
	exec(t, tx, "UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	cache.ExpectUntouched("user:7")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	cache.ExpectOps("BEGIN", "UPDATE users SET name = $1 WHERE id = $2", "fence user:7", "COMMIT", `apply user:7 {"id":7,"name":"Ann"}`)
}

// The table's content follows what is committed, and nothing else.
func TestContentFollowsCommits(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	cache.Rows("orders", row{"id": 1, "number": "A", "user_id": 5, "total": 3})
	ok := sqlmock.NewResult(0, 0)
	mock.ExpectBegin()
	mock.ExpectExec("UPDATE").WillReturnResult(one)
	mock.ExpectExec("SAVEPOINT").WillReturnResult(ok)
	mock.ExpectExec("UPDATE").WillReturnResult(one)
	mock.ExpectExec("ROLLBACK TO").WillReturnResult(ok)
	mock.ExpectExec("UPDATE").WillReturnResult(one)
	mock.ExpectCommit()
	mock.ExpectExec("BEGIN").WillReturnResult(ok)
	mock.ExpectExec("DELETE").WillReturnResult(one)
	mock.ExpectExec("ROLLBACK").WillReturnResult(ok)
	mock.ExpectExec("UPDATE").WillReturnResult(one)

	tx := begin(t, db)
	exec(t, tx, "UPDATE orders SET total = 10 WHERE id = 1")
	exec(t, tx, "SAVEPOINT s")
	exec(t, tx, "UPDATE orders SET number = 'Z' WHERE id = 1")
	exec(t, tx, "ROLLBACK TO s")
	exec(t, tx, "UPDATE orders SET user_id = 6 WHERE id = 1")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	cache.ExpectWritten("order:1", `{"id":1,"number":"A","user_id":6,"total":10}`)
	cache.ExpectInvalidated("orders:5", "orders:6")
	conn, err := db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	exec(t, conn, "BEGIN")
	exec(t, conn, "DELETE FROM orders WHERE id = 1")
	exec(t, conn, "ROLLBACK")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	exec(t, db, "UPDATE orders SET number = 'B' WHERE id = 1")
	cache.ExpectWritten("number:B", `{"id":1,"number":"B","user_id":6,"total":10}`)
	cache.ExpectInvalidated("number:A")
}

// After a write that nobody can follow the test has to say anew what there is: what it
// said before is no longer so.
func TestContentIsForgotten(t *testing.T) {
	t.Parallel()
	const ddl = `CREATE TABLE groups (id bigint PRIMARY KEY);
CREATE TABLE users (id bigint PRIMARY KEY, name text, group_id bigint REFERENCES groups ON DELETE CASCADE)`
	for _, statement := range []string{
		"TRUNCATE users", "WITH d AS (DELETE FROM public.users RETURNING id) SELECT id FROM d", "DELETE FROM groups WHERE id = 1", "DROP SCHEMA x CASCADE",
	} {
		said := failure(t, func(t testing.TB) {
			db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(usersRule), wtcachetest.Schema(ddl))
			cache.Rows("users", row{"id": 1, "name": "Ann", "group_id": 1})
			reader, err := wtcache.CacheOf(db)
			if err != nil {
				t.Fatalf("%v", err)
			}
			var u row
			mock.ExpectBegin()
			mock.ExpectExec(".").WillReturnResult(one)
			mock.ExpectRollback()
			tx := begin(t, db)
			exec(t, tx, statement)
			if err := tx.Rollback(); err != nil {
				t.Errorf("%v", err)
			}
			if _, err := reader.Get(context.Background(), "users", &u, 1); err != nil {
				t.Errorf("after a rollback: %v", err)
			}
			mock.ExpectExec(".").WillReturnResult(one)
			exec(t, db, statement)
			if _, err := reader.Get(context.Background(), "users", &u, 1); err == nil {
				t.Errorf("%s: the reader still finds %v", statement, u)
			}
		})
		mentions(t, said, "a reader takes user:1 from public.users, since the cache does not have it")
		if strings.Contains(said, "after a rollback") || strings.Contains(said, "still finds") {
			t.Error(said)
		}
	}
}

// Code that closes its database is tested as with sqlmock alone.
func TestClose(t *testing.T) {
	t.Parallel()
	db, mock, _ := shop(t)
	mock.ExpectClose()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// What a sequence gave is known by the user's own RETURNING.
func TestReturning(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	for _, returning := range []string{"id", "*", "id, upper(number) AS number", "orders.id AS n"} {
		columns, values := []string{"id"}, []any{41}
		switch returning {
		case "*":
			columns, values = []string{"id", "number", "user_id", "total"}, []any{41, "N", 5, 0}
		case "id, upper(number) AS number":
			columns, values = []string{"id", "number"}, []any{41, "WRONG"}
		case "orders.id AS n":
			columns = []string{"n"}
		}
		rows := sqlmock.NewRows(columns)
		switch len(values) {
		case 1:
			rows.AddRow(values[0])
		case 2:
			rows.AddRow(values[0], values[1])
		default:
			rows.AddRow(values[0], values[1], values[2], values[3])
		}
		mock.ExpectQuery("INSERT INTO orders").WithArgs("N", 5).WillReturnRows(rows)
		found, err := db.Query("INSERT INTO orders (number, user_id) VALUES ($1, $2) RETURNING "+returning, "N", 5)
		if err != nil {
			t.Fatal(err)
		}
		if err := found.Close(); err != nil {
			t.Fatal(err)
		}
		cache.ExpectWritten("order:41", `{"id":41,"number":"N","user_id":5,"total":0}`)
		cache.Reset()
	}
}

func TestUpsertWithoutKnownRows(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	mock.ExpectExec("INSERT INTO users").WillReturnResult(one)
	exec(t, db, "INSERT INTO users (id, name) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name", 1, "Ann")
	cache.ExpectWritten("user:1", `{"id":1,"name":"Ann"}`)
}

// An outcome is judged by the error as in production.
func TestCommitErrors(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	cache.Rows("users", row{"id": 7, "name": "Bob"})
	failing := func(err error) {
		t.Helper()
		mock.ExpectBegin()
		mock.ExpectExec("UPDATE users").WillReturnResult(one)
		mock.ExpectCommit().WillReturnError(err)
		tx := begin(t, db)
		exec(t, tx, "UPDATE users SET name = 'Ann' WHERE id = 7")
		if got := tx.Commit(); !errors.Is(got, err) {
			t.Errorf("Commit gave %v, want %v", got, err)
		}
	}
	cacheOf, err := wtcache.CacheOf(db)
	if err != nil {
		t.Fatal(err)
	}
	read := func() (u struct{ Name string }) {
		t.Helper()
		if _, err := cacheOf.Get(context.Background(), "users", &u, 7); err != nil {
			t.Fatal(err)
		}
		return u
	}

	failing(&pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "could not serialize access"})
	if u := read(); u.Name != "Bob" {
		t.Errorf("after a refused COMMIT the reader finds %q", u.Name)
	}
	cache.ExpectFilled("user:7", row{"id": 7, "name": "Bob"})

	cache.Reset()
	failing(io.ErrUnexpectedEOF)
	read()
	cache.ExpectAbsent("user:7") // fenced: nobody fills it
	cache.Advance(wtcache.DefaultFenceLife)
	read()
	cache.ExpectFilled("user:7", row{"id": 7, "name": "Bob"})
}

// The server's refusal comes through as it is, and the statement is not tried again.
func TestStatementErrors(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	refused := &pgconn.PgError{Severity: "ERROR", Code: "42703", Message: "column does not exist", Position: 8}
	mock.ExpectExec("UPDATE users").WillReturnError(refused)
	mock.ExpectExec("UPDATE orders").WillReturnError(refused)
	for _, query := range []string{"UPDATE users SET name = $1 WHERE id = 7", "UPDATE orders SET number = $1"} {
		if _, err := db.Exec(query, "x"); !errors.Is(err, refused) {
			t.Errorf("%s gave %v", query, err)
		}
	}
	cache.ExpectAbsent("user:7")
	cache.ExpectUntouched("order:1")
}

func TestRedisDown(t *testing.T) {
	t.Parallel()
	refusing := "table: public.carts\nkey: \"cart:{id}\"\nredis_down: refuse\n"
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(usersRule, refusing),
		wtcachetest.Schema(usersDDL, "CREATE TABLE carts (id bigint PRIMARY KEY)"))
	cache.Put("users", row{"id": 7, "name": "Bob"})
	mock.ExpectExec("UPDATE users").WillReturnResult(one)
	cache.Down()
	if _, err := db.Exec("INSERT INTO carts (id) VALUES (1)"); !errors.Is(err, wtcache.ErrRefused) {
		t.Errorf("a refusing rule's write gave %v while Redis was down", err)
	}
	exec(t, db, "UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	mock.ExpectBegin()
	mock.ExpectExec("INSERT INTO carts").WillReturnResult(one)
	tx := begin(t, db)
	exec(t, tx, "INSERT INTO carts (id) VALUES (2)")
	if err := tx.Commit(); !errors.Is(err, wtcache.ErrRefused) {
		t.Errorf("a refusing rule's COMMIT gave %v while Redis was down", err)
	}
	for range 10 { // enough for the driver to stop trying
		_, _ = db.Exec("INSERT INTO carts (id) VALUES (1)")
	}
	cache.Up()
	cache.ExpectAbsent("user:7")
	mock.ExpectExec("INSERT INTO carts").WillReturnResult(one)
	exec(t, db, "INSERT INTO carts (id) VALUES (1)")
	cache.ExpectWritten("cart:1", row{"id": 1})
}

func TestConditionInGo(t *testing.T) {
	t.Parallel()
	rule := "table: public.users\nentries:\n  - key: \"user:{id}\"\n    when: \"length(name) > 2\"\n"
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(usersDDL),
		wtcachetest.When("users.by_id", func(r row) bool { return len(r["name"].(string)) > 2 }))
	mock.ExpectExec("INSERT").WillReturnResult(sqlmock.NewResult(0, 2))
	exec(t, db, "INSERT INTO users VALUES (1, 'Ann'), (2, 'Al')")
	cache.ExpectWritten("user:1", row{"id": 1, "name": "Ann"})
	cache.ExpectInvalidated("user:2")
}

// Where no schema is given the rule's own columns have to do.
func TestWithoutSchema(t *testing.T) {
	t.Parallel()
	rule := "table: public.users\nentries:\n  - key: \"user:{id}\"\n    columns: [id, name, active]\n"
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule))
	mock.ExpectExec("INSERT INTO users").WillReturnResult(one)
	mock.ExpectQuery("UPDATE users").WillReturnRows(sqlmock.NewRows([]string{"id", "name", "active", "other"}).AddRow(1, "Al", false, 2))
	exec(t, db, "INSERT INTO users (id, name, active, other) VALUES ($1, $2, $3, 4)", 1, "Ann", true)
	cache.ExpectWritten("user:1", `{"id":1,"name":"Ann","active":true}`)
	rows, err := db.Query("UPDATE users SET name = lower(name) WHERE id = $1 RETURNING *", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := rows.Close(); err != nil {
		t.Fatal(err)
	}
	cache.ExpectWritten("user:1", `{"id":1,"name":"Al","active":false}`)
}

func TestReads(t *testing.T) {
	t.Parallel()
	db, _, cache := shop(t)
	reader, err := wtcache.CacheOf(db)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	var u struct {
		ID   int64
		Name string
	}
	cache.Put("users", row{"id": 1, "name": "Ann"})
	if read, err := reader.Get(ctx, "users", &u, 1); err != nil || !read.FromCache || u.Name != "Ann" {
		t.Errorf("a key that was put is not hit: %+v %+v %v", read, u, err)
	}
	cache.ExpectUntouched()
	cache.Rows("users", row{"id": 2, "name": "Bob"})
	if read, err := reader.Get(ctx, "users", &u, 2); err != nil || read.FromCache || u.Name != "Bob" {
		t.Errorf("a row of the table is not found: %+v %+v %v", read, u, err)
	}
	cache.ExpectFilled("user:2", row{"id": 2, "name": "Bob"})
	if _, err := reader.Get(ctx, "users", &u, 3); !errors.Is(err, sql.ErrNoRows) {
		t.Errorf("a row that is nowhere gave %v", err)
	}
	cache.Advance(time.Hour)
	cache.ExpectAbsent("user:1", "user:2")
}

// Up waits for a driver that has given Redis up for a while, also where it owes nothing.
func TestUpWaitsForTheDriver(t *testing.T) {
	t.Parallel()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules("table: public.carts\nkey: \"cart:{id}\"\nredis_down: refuse\n"),
		wtcachetest.Schema("CREATE TABLE carts (id bigint PRIMARY KEY)"))
	cache.Down()
	for range 10 { // enough for the driver to stop trying
		if _, err := db.Exec("INSERT INTO carts (id) VALUES (1)"); !errors.Is(err, wtcache.ErrRefused) {
			t.Errorf("a refusing rule's write gave %v while Redis was down", err)
		}
	}
	cache.Up()
	mock.ExpectExec("INSERT INTO carts").WillReturnResult(one)
	exec(t, db, "INSERT INTO carts (id) VALUES (1)")
	cache.ExpectWritten("cart:1", row{"id": 1})
}
