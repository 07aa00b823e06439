package wtcachetest_test

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/wtcache/wtcache/wtcachetest"
)

const (
	usersRule  = "table: public.users\nkey: \"user:{id}\"\n"
	usersDDL   = "CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL)"
	ordersRule = "table: public.orders\nentries:\n  - key: \"order:{id}\"\n  - key: \"number:{number}\"\ninvalidate: [\"orders:{user_id}\"]\n"
	ordersDDL  = "CREATE TABLE orders (id bigserial PRIMARY KEY, number text NOT NULL UNIQUE, user_id bigint NOT NULL, total bigint NOT NULL DEFAULT 0)"
)

type row = wtcachetest.Row

var one = sqlmock.NewResult(0, 1)

// shop is the database of most tests.
func shop(t testing.TB, more ...wtcachetest.Option) (*sql.DB, sqlmock.Sqlmock, *wtcachetest.Cache) {
	t.Helper()
	return wtcachetest.New(t, append([]wtcachetest.Option{
		wtcachetest.Rules(usersRule, ordersRule), wtcachetest.Schema(usersDDL, ordersDDL),
	}, more...)...)
}

type execer interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}

func exec(t testing.TB, db execer, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(context.Background(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func begin(t testing.TB, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	return tx
}

// fakeTB stands for the user's test, which is to fail. It is safe for concurrent use.
type fakeTB struct {
	testing.TB

	mu       sync.Mutex // guards all below
	errors   []string
	cleanups []func()
}

func (f *fakeTB) Helper()             {}
func (f *fakeTB) Logf(string, ...any) {}
func (f *fakeTB) Failed() bool        { return len(f.said()) > 0 }

func (f *fakeTB) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *fakeTB) Cleanup(fn func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cleanups = append(f.cleanups, fn)
}

func (f *fakeTB) said() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.errors...)
}

// failure runs a user's test to its end, cleanups included, and gives what it said.
func failure(t *testing.T, test func(t testing.TB)) string {
	t.Helper()
	f := &fakeTB{TB: t}
	run := func(fn func()) {
		done := make(chan struct{})
		go func() {
			defer close(done)
			fn()
		}()
		<-done
	}
	run(func() { test(f) })
	for i := len(f.cleanups) - 1; i >= 0; i-- {
		run(f.cleanups[i])
	}
	return strings.Join(f.said(), "\n")
}

// mentions fails the test unless the text holds every word.
func mentions(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("the message does not hold %q:\n%s", word, text)
		}
	}
}
