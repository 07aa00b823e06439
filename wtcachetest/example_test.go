package wtcachetest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/wtcachetest"
)

// exampleT stands for the *testing.T of a test: what it is told it prints.
type exampleT struct {
	testing.TB
	cleanups []func()
}

func (t *exampleT) Helper()                      {}
func (t *exampleT) Logf(string, ...any)          {}
func (t *exampleT) Cleanup(fn func())            { t.cleanups = append(t.cleanups, fn) }
func (t *exampleT) Errorf(text string, a ...any) { fmt.Printf(text+"\n", a...) }
func (t *exampleT) Fatalf(text string, a ...any) { t.Errorf(text, a...); runtime.Goexit() }
func (t *exampleT) end() {
	for _, fn := range t.cleanups {
		fn()
	}
}

const rule = `
table: public.users
key: "user:{id}"
`

const schema = `CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL)`

func check(err error) {
	if err != nil {
		fmt.Println(err)
	}
}

// A statement by itself: the expectation has the code's own text, and the cache holds the
// row that follows from it.
func ExampleNew() {
	t := new(exampleT) // in a test: its *testing.T
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	mock.ExpectExec("UPDATE users SET name").WithArgs("Ann", 7).WillReturnResult(sqlmock.NewResult(0, 1))

	_, err := db.Exec("UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	check(err)

	cache.ExpectFencedBeforeCommit("user:7")
	cache.ExpectWritten("user:7", wtcachetest.Row{"id": 7, "name": "Ann"})
	fmt.Println(strings.Join(cache.Ops(), "\n"))
	// Output:
	// fence user:7
	// UPDATE users SET name = $1 WHERE id = $2
	// apply user:7 {"id":7,"name":"Ann"}
}

// What is rolled back never reaches the cache.
func ExampleCache_ExpectUntouched() {
	t := new(exampleT)
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	mock.ExpectBegin()
	mock.ExpectExec("DELETE FROM users").WithArgs(7).WillReturnResult(sqlmock.NewResult(0, 1))
	mock.ExpectRollback()

	tx, err := db.Begin()
	check(err)
	_, err = tx.Exec("DELETE FROM users WHERE id = $1", 7)
	check(err)
	check(tx.Rollback())

	cache.ExpectUntouched()
	fmt.Println(strings.Join(cache.Ops(), "\n"))
	// Output:
	// BEGIN
	// DELETE FROM users WHERE id = $1
	// ROLLBACK
}

// An INSERT whose own RETURNING gives the number that a sequence made.
func ExampleCache_ExpectWritten_returning() {
	t := new(exampleT)
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	mock.ExpectQuery("INSERT INTO users").WithArgs("Ann").WillReturnRows(sqlmock.NewRows([]string{"id"}).AddRow(41))

	var id int64
	check(db.QueryRow("INSERT INTO users (name) VALUES ($1) RETURNING id", "Ann").Scan(&id))

	cache.ExpectWritten("user:41", `{"id": 41, "name": "Ann"}`)
	fmt.Println(id)
	// Output:
	// 41
}

// A write whose rows nobody can know makes every entry of the rule absent.
func ExampleCache_ExpectSwept() {
	t := new(exampleT)
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	cache.Put("users", wtcachetest.Row{"id": 7, "name": "Ann"})
	mock.ExpectExec("TRUNCATE users").WillReturnResult(sqlmock.NewResult(0, 0))

	_, err := db.Exec("TRUNCATE users")
	check(err)

	cache.ExpectSwept("users")
	cache.ExpectAbsent("user:7")
	fmt.Println(strings.Join(cache.Ops(), "\n"))
	// Output:
	// BEGIN
	// TRUNCATE users
	// sweep public.users
	// invalidate user:7
	// COMMIT
}

// Without Redis a write of a rule with `redis_down: queue` succeeds, and its keys are made
// absent when Redis is back.
func ExampleCache_Down() {
	t := new(exampleT)
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	cache.Put("users", wtcachetest.Row{"id": 7, "name": "old"})
	mock.ExpectExec("UPDATE users").WillReturnResult(sqlmock.NewResult(0, 1))

	cache.Down()
	_, err := db.Exec("UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	fmt.Println("error:", err)
	cache.Up()

	cache.ExpectAbsent("user:7")
	// Output:
	// error: <nil>
}

// What the statement gives the row does not follow from its text here, so the test says it.
func ExampleCache_WillCapture() {
	t := new(exampleT)
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	cache.WillCapture("users", wtcachetest.Row{"name": "ann"}) // id follows from the WHERE
	mock.ExpectExec("UPDATE users").WillReturnResult(sqlmock.NewResult(0, 1))

	_, err := db.Exec("UPDATE users SET name = lower(name) WHERE id = $1", 7)
	check(err)

	cache.ExpectWritten("user:7", wtcachetest.Row{"id": 7, "name": "ann"})
	// Output:
}

// A reader who misses finds the rows that the test gave the table, and fills the cache.
func ExampleCache_Rows() {
	t := new(exampleT)
	defer t.end()
	db, _, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	cache.Rows("users", wtcachetest.Row{"id": 7, "name": "Ann"})

	reader, err := wtcache.CacheOf(db)
	check(err)
	var user struct{ Name string }
	for range 2 {
		read, err := reader.Get(context.Background(), "users", &user, 7)
		check(err)
		fmt.Println(user.Name, read.FromCache)
	}
	cache.ExpectFilled("user:7", wtcachetest.Row{"id": 7, "name": "Ann"})
	// Output:
	// Ann false
	// Ann true
}

// Names is code under test: it reads a page of users.
func Names(ctx context.Context, users *wtcache.Reader[User], ids []int64) ([]string, error) {
	rows, err := users.GetMany(ctx, wtcache.Keys(ids)...)
	var names []string
	for _, row := range rows {
		if row.Found {
			names = append(names, row.Value.Name)
		}
	}
	return names, err
}

// User is a row of the table users.
type User struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
}

// Code that reads through a Reader: what is in the cache is not asked for, and the rest by one
// statement.
func ExampleCache_ExpectRead() {
	t := new(exampleT)
	defer t.end()
	db, _, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	cache.Put("users", wtcachetest.Row{"id": 7, "name": "Ann"})
	cache.Rows("users", wtcachetest.Row{"id": 7, "name": "Ann"}, wtcachetest.Row{"id": 8, "name": "Bob"})

	users, err := wtcache.ReaderOf[User](db, "users")
	check(err)
	names, err := Names(context.Background(), users, []int64{7, 8, 9})
	check(err)
	fmt.Println(names)

	cache.ExpectRead("user:8", "user:9")
	fmt.Println(strings.Join(cache.Ops(), "\n"))
	// Output:
	// [Ann Bob]
	// read user:8, user:9 from public.users
	// fill user:8 {"id":8,"name":"Bob"}
}

// A COMMIT that the server refuses is a rollback; the fences are given back.
func ExampleCache_Ops_commitError() {
	t := new(exampleT)
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	mock.ExpectBegin()
	mock.ExpectExec("UPDATE users").WillReturnResult(sqlmock.NewResult(0, 1))
	mock.ExpectCommit().WillReturnError(&pgconn.PgError{Severity: "ERROR", Code: "40001", Message: "could not serialize access"})

	tx, err := db.Begin()
	check(err)
	_, err = tx.Exec("UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	check(err)
	if refused := new(pgconn.PgError); errors.As(tx.Commit(), &refused) {
		fmt.Println("refused:", refused.Code)
	}
	cache.ExpectAbsent("user:7")
	fmt.Println(strings.Join(cache.Ops(), "\n"))
	// Output:
	// refused: 40001
	// BEGIN
	// UPDATE users SET name = $1 WHERE id = $2
	// fence user:7
	// COMMIT: ERROR: could not serialize access (SQLSTATE 40001)
	// abort user:7
}

// A failed expectation says what happened instead.
func ExampleCache_ExpectWritten_failure() {
	t := new(exampleT)
	defer t.end()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(rule), wtcachetest.Schema(schema))
	mock.ExpectExec("UPDATE users").WillReturnResult(sqlmock.NewResult(0, 1))

	_, err := db.Exec("UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	check(err)

	cache.ExpectWritten("user:7", wtcachetest.Row{"id": 7, "name": "Bob"})
	// Output:
	// wtcachetest: user:7 was to hold
	// 	{"id":7,"name":"Bob"}
	// but holds
	// 	{"id":7,"name":"Ann"}
	// what happened:
	// 	fence user:7
	// 	UPDATE users SET name = $1 WHERE id = $2
	// 	apply user:7 {"id":7,"name":"Ann"}
}
