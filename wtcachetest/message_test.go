package wtcachetest_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/wtcachetest"
)

// A row that does not follow from the test fails it, with what to add: a guessed payload
// would make a test pass that proves nothing.
func TestUnknownRowsFailTheTest(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		query string
		args  []any
		n     int64
		words []string
	}{
		{"UPDATE users SET name = name || $1 WHERE id = $2", []any{"!", 7}, 1, []string{`name is stored by entry "user:{id}"`, `cache.Rows("users", wtcachetest.Row{"id": …, "name": …})`, `cache.WillCapture("users", wtcachetest.Row{"name": …})`}},
		{"UPDATE users SET name = upper('x') WHERE id = 1", nil, 1, []string{"name is stored"}},
		{"UPDATE users SET name = 'x'", nil, 2, []string{"id is part of a key"}},
		{"UPDATE orders SET total = 1 WHERE id = 1", nil, 1, []string{"number is part of a key", "user_id is part of a key"}},
		{"UPDATE orders SET number = 'x' WHERE id = 1", nil, 1, []string{"which is part of a key, and the test does not say what the row had before", `cache.Rows("orders", …)`}},
		{"INSERT INTO orders (number, user_id) VALUES ('a', 1)", nil, 1, []string{"id is part of a key", "INSERT INTO orders (number, user_id) VALUES ('a', 1)", `leaves behind:
	cache.WillCapture("orders", wtcachetest.Row{"id": …})`}},
		{"INSERT INTO users SELECT 1, 'x'", nil, 1, []string{"id is part of a key", "name is stored"}},
		{"INSERT INTO users VALUES (1, 'x')", nil, 3, []string{"it inserts 1 rows, but by the expectation it affects 3"}},
		{"INSERT INTO orders (id, number, user_id) VALUES (1, 'x', 2) ON CONFLICT (id) DO UPDATE SET number = 'y'", nil, 1, []string{"which is part of a key"}},
		{"INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'", nil, 1, []string{"name is stored"}},
		{"DELETE FROM users WHERE name = 'x'", nil, 1, []string{"id is part of a key", `wtcachetest.Row{"id": …})`}},
	} {
		said := failure(t, func(t testing.TB) {
			db, mock, cache := shop(t)
			mock.ExpectExec(".").WillReturnResult(sqlmock.NewResult(0, test.n))
			if _, err := db.Exec(test.query, test.args...); err == nil {
				t.Errorf("the code under test went on")
			}
			for _, key := range []string{"user:1", "user:7", "order:1"} {
				if held, ok := cache.Payload(key); ok {
					t.Errorf("a payload was guessed: %s", held)
				}
			}
		})
		mentions(t, said, test.words...)
		if strings.HasPrefix(test.query, "INSERT") && !strings.Contains(test.query, "CONFLICT") && strings.Contains(said, "cache.Rows") {
			t.Errorf("Rows is advised, which says nothing of a new row: %s", said)
		}
		if strings.Contains(said, "guessed") || strings.Contains(said, "went on") {
			t.Errorf("%s: %s", test.query, said)
		}
	}
}

// Postgres pads, rounds and respells what it stores: such values do not follow from the
// statement either.
func TestRespelledValuesFailTheTest(t *testing.T) {
	t.Parallel()
	const ddl = `CREATE DOMAIN cents AS numeric(10,2);
CREATE TABLE users (id bigint PRIMARY KEY, price numeric(10,2), half cents, code char(4), span interval, at timestamptz, uid uuid, tags text[],
	name text, low text GENERATED ALWAYS AS (lower(name)) STORED, ip inet)`
	known := row{"id": 1, "price": nil, "half": nil, "code": nil, "span": nil, "at": nil, "uid": nil, "tags": []string{"a"}, "name": "x", "low": "x", "ip": nil}
	for column, value := range map[string]string{
		"price": "$1", "half": "1.5", "code": "'ab'", "span": "'60 minutes'", "at": "'2024-01-01'", "uid": "'0E37DF36-F698-11E6-8DD4-CB9CED3DF976'",
		"tags": "'{b}'", "ip": "'10.0.0.1/32'", "low": "DEFAULT", "name": "'x '::bpchar",
	} {
		var args []any
		if value == "$1" {
			args = []any{"1.5"}
		}
		said := failure(t, func(t testing.TB) {
			db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(usersRule), wtcachetest.Schema(ddl))
			cache.Rows("users", known)
			mock.ExpectExec("UPDATE").WillReturnResult(one)
			_, _ = db.Exec("UPDATE users SET "+column+" = "+value+" WHERE id = 1", args...)
		})
		mentions(t, said, column+" is stored by entry")
	}
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(usersRule), wtcachetest.Schema(ddl))
	cache.Rows("users", known)
	cache.WillCapture("users", row{"price": "1.50", "low": "x"})
	mock.ExpectExec("UPDATE").WillReturnResult(one)
	exec(t, db, "UPDATE users SET price = $1 WHERE id = 1", "1.5")
	cache.ExpectWritten("user:1", `{"id":1,"price":1.50,"half":null,"code":null,"span":null,"at":null,"uid":null,"tags":["a"],"name":"x","low":"x","ip":null}`)
}

func TestContradictionsFailTheTest(t *testing.T) {
	t.Parallel()
	mentions(t, failure(t, func(t testing.TB) {
		db, mock, cache := shop(t)
		cache.Rows("users", row{"id": 1, "name": "x"})
		mock.ExpectExec("UPDATE").WillReturnResult(one)
		_, _ = db.Exec("UPDATE users SET name = 'y' WHERE id = 2")
	}), "affects 1 rows", "by Rows its WHERE finds 0")
	mentions(t, failure(t, func(t testing.TB) {
		db, mock, cache := shop(t)
		cache.WillCapture("users", row{"id": 1, "name": "x"})
		mock.ExpectExec("UPDATE").WillReturnResult(sqlmock.NewResult(0, 2))
		_, _ = db.Exec("UPDATE users SET name = 'y'")
	}), "affects 2 rows, but WillCapture declared 1")
	mentions(t, failure(t, func(t testing.TB) {
		_, _, cache := shop(t)
		cache.WillCapture("users", row{"id": 1, "name": "x"})
	}), "WillCapture declared rows of public.users that no statement wrote", "nothing happened")
	mentions(t, failure(t, func(t testing.TB) {
		_, _, cache := shop(t)
		cache.Rows("users", row{"id": 1, "nmae": "x"})
	}), `public.users has no column "nmae"; it has id, name`)
	mentions(t, failure(t, func(t testing.TB) {
		_, _, cache := shop(t)
		cache.Put("usres", row{})
	}), `no rule is for a table "usres"`, "public.users")
	mentions(t, failure(t, func(t testing.TB) {
		db, mock, cache := shop(t)
		cache.WillCapture("users", row{"id": "seven", "name": "x"})
		mock.ExpectExec("UPDATE").WillReturnResult(one)
		_, _ = db.Exec("UPDATE users SET name = lower('X')")
	}), "column id: got string seven, want an integer")
	mentions(t, failure(t, func(t testing.TB) {
		db, _, _ := shop(t)
		reader, err := wtcache.CacheOf(db)
		if err != nil {
			t.Fatalf("%v", err)
		}
		var u row
		_, _ = reader.Get(context.Background(), "users", &u, 9)
	}), "user:9 is read from public.users, since it is not in the cache", `cache.Rows("users", …)`)
}

// A failed expectation shows what happened instead.
func TestFailedExpectations(t *testing.T) {
	t.Parallel()
	const happened = "what happened:\n\tfence user:7\n\tUPDATE users SET name = $1 WHERE id = 7\n\tapply user:7 {\"id\":7,\"name\":\"Ann\"}"
	for name, test := range map[string]struct {
		expect func(*wtcachetest.Cache)
		words  []string
	}{
		"other payload": {func(c *wtcachetest.Cache) { c.ExpectWritten("user:7", row{"id": 7, "name": "Bob"}) }, []string{"user:7 was to hold\n\t{\"id\":7,\"name\":\"Bob\"}\nbut holds\n\t{\"id\":7,\"name\":\"Ann\"}", happened}},
		"another key":   {func(c *wtcachetest.Cache) { c.ExpectWritten("user:8", `{}`) }, []string{"user:8 was to hold what a write stored", "but is absent", happened}},
		"a reader's":    {func(c *wtcachetest.Cache) { c.ExpectFilled("user:7", row{"id": 7, "name": "Ann"}) }, []string{"was to be stored by a reader, but was by apply", happened}},
		"absent":        {func(c *wtcachetest.Cache) { c.ExpectAbsent("user:1", "user:7") }, []string{"user:7 was to be absent, but holds", happened}},
		"invalidated":   {func(c *wtcachetest.Cache) { c.ExpectInvalidated("user:7") }, []string{"user:7 was to be made absent, but holds", happened}},
		"by nobody":     {func(c *wtcachetest.Cache) { c.ExpectInvalidated("user:8") }, []string{"user:8 is absent, but no write has made it so", happened}},
		"untouched":     {func(c *wtcachetest.Cache) { c.ExpectUntouched() }, []string{"user:7 was to be left alone", happened}},
		"untouched key": {func(c *wtcachetest.Cache) { c.ExpectUntouched("user:8", "user:7") }, []string{"user:7 was to be left alone", happened}},
		"swept":         {func(c *wtcachetest.Cache) { c.ExpectSwept("users") }, []string{"every entry of public.users was to be made absent", happened}},
		"fenced":        {func(c *wtcachetest.Cache) { c.ExpectFencedBeforeCommit("user:7", "user:8") }, []string{"user:8 was to be fenced before the COMMIT", happened}},
		"ops":           {func(c *wtcachetest.Cache) { c.ExpectOps("fence user:7") }, []string{"expected was:\n\tfence user:7", happened}},
		"had it before": {func(c *wtcachetest.Cache) { c.Reset(); c.ExpectWritten("user:7", row{"id": 7, "name": "Ann"}) }, []string{"nothing has stored it since"}},
		"no JSON":       {func(c *wtcachetest.Cache) { c.ExpectWritten("user:7", "{") }, []string{"expected under user:7 is no JSON"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mentions(t, failure(t, func(t testing.TB) {
				db, mock, cache := shop(t)
				mock.ExpectExec("UPDATE").WillReturnResult(one)
				exec(t, db, "UPDATE users SET name = $1 WHERE id = 7", "Ann")
				test.expect(cache)
			}), test.words...)
		})
	}
}

// A fence that comes after the COMMIT, or none, is what the strict promise rules out; a rule
// that is eventual has none.
func TestEventualIsNotFenced(t *testing.T) {
	t.Parallel()
	mentions(t, failure(t, func(t testing.TB) {
		db, mock, cache := shop(t, wtcachetest.Configure(func(c *wtcache.Config) { c.Mode = wtcache.ModeEventual }))
		cache.Put("users", row{"id": 7, "name": "Zed"})
		mock.ExpectExec("UPDATE").WillReturnResult(one)
		exec(t, db, "UPDATE users SET name = $1 WHERE id = 7", "Ann")
		cache.ExpectFencedBeforeCommit("user:7")
	}), "user:7 was to be fenced before the COMMIT")
}

func TestUnmetExpectationsFailTheTest(t *testing.T) {
	t.Parallel()
	said := failure(t, func(t testing.TB) {
		db, mock, _ := shop(t)
		mock.ExpectExec("UPDATE users").WillReturnResult(one)
		if _, err := db.Exec("UPDATE orders SET total = 1"); err == nil {
			t.Errorf("an unexpected statement went through")
		}
	})
	mentions(t, said, "remaining expectation", "UPDATE users", "what happened:\n\tBEGIN\n\tUPDATE orders SET total = 1: ", "ROLLBACK")
}

// What cannot work is said by New.
func TestNewRefuses(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "u.yaml"), []byte(usersRule), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		options []wtcachetest.Option
		words   []string
	}{
		"no rules":       {nil, []string{"no rules are given", "RulesFrom"}},
		"two ways":       {[]wtcachetest.Option{wtcachetest.RulesFrom(folder), wtcachetest.Rules(usersRule)}, []string{"several ways"}},
		"faulty rule":    {[]wtcachetest.Option{wtcachetest.Rules("tabel: users\n")}, []string{"rule1.yaml:1:1", "table"}},
		"no columns":     {[]wtcachetest.Option{wtcachetest.RulesFS(os.DirFS(folder))}, []string{"u.yaml:1:8", "the columns of public.users are not known", "wtcachetest.Schema("}},
		"other table":    {[]wtcachetest.Option{wtcachetest.RulesFrom(folder), wtcachetest.Schema("CREATE TABLE usres (id int)")}, []string{"table public.users does not exist", "did you mean public.usres?"}},
		"other column":   {[]wtcachetest.Option{wtcachetest.RulesFrom(folder), wtcachetest.Schema("CREATE TABLE users (uid int PRIMARY KEY)")}, []string{`no column "id"`}},
		"no unique key":  {[]wtcachetest.Option{wtcachetest.RulesFrom(folder), wtcachetest.Schema("CREATE TABLE users (id int)")}, []string{"unique constraint"}},
		"faulty schema":  {[]wtcachetest.Option{wtcachetest.RulesFrom(folder), wtcachetest.Schema("CREATE TABEL users (id int)")}, []string{"line 1", "does not parse"}},
		"no schema file": {[]wtcachetest.Option{wtcachetest.RulesFrom(folder), wtcachetest.SchemaFrom(folder + "/*.sql")}, []string{"/*.sql"}},
		"a view":         {[]wtcachetest.Option{wtcachetest.Rules(usersRule + "via: [public.v]\n"), wtcachetest.Schema(usersDDL)}, []string{"via", "does not know"}},
		"no mock":        {[]wtcachetest.Option{wtcachetest.Rules(usersRule), wtcachetest.Over(nil, nil, errors.New("broken mock"))}, []string{"broken mock"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			mentions(t, failure(t, func(t testing.TB) { wtcachetest.New(t, test.options...) }), test.words...)
		})
	}
}

func TestConditionThatIsNotSaid(t *testing.T) {
	t.Parallel()
	rule := wtcachetest.Rules("table: public.users\nentries:\n  - key: \"user:{id}\"\n    when: \"length(name) > 2\"\n")
	mentions(t, failure(t, func(t testing.TB) {
		db, mock, _ := wtcachetest.New(t, rule, wtcachetest.Schema(usersDDL))
		mock.ExpectExec("INSERT").WillReturnResult(one)
		_, _ = db.Exec("INSERT INTO users VALUES (1, 'Ann')")
	}), "length(name) > 2", `wtcachetest.When("users.by_id", func(row wtcachetest.Row) bool`)
}

func TestFilesOfRulesAndSchema(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	for name, text := range map[string]string{
		"users.yaml": usersRule, "1_users.up.sql": usersDDL, "2_more.up.sql": "ALTER TABLE users ADD COLUMN age int DEFAULT 3", "2_more.down.sql": "ALTER TABLE users DROP COLUMN age",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db, mock, cache := wtcachetest.New(t, wtcachetest.RulesFrom(folder), wtcachetest.SchemaFrom(folder+"/*.sql"))
	mock.ExpectExec("INSERT").WillReturnResult(one)
	exec(t, db, "INSERT INTO users (id, name) VALUES (1, 'Ann')")
	cache.ExpectWritten("user:1", row{"id": 1, "name": "Ann", "age": 3})
}

// One database is used by many goroutines, as a pool is.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	const writers = 8
	mock.MatchExpectationsInOrder(false)
	for i := range writers {
		mock.ExpectExec("UPDATE users").WithArgs("Ann", i).WillReturnResult(one)
	}
	var all sync.WaitGroup
	for i := range writers {
		all.Add(1)
		go func() {
			defer all.Done()
			if _, err := db.Exec("UPDATE users SET name = $1 WHERE id = $2", "Ann", i); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	for i := range writers {
		cache.ExpectWritten(fmt.Sprintf("user:%d", i), row{"id": i, "name": "Ann"})
	}
}

// Nothing of a test is left when it has ended: a suite has thousands. Not parallel, so that
// no other test's goroutines are counted.
func TestNothingIsLeftRunning(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("test", func(t *testing.T) {
		db, mock, cache := shop(t)
		cache.Rows("users", row{"id": 7, "name": "Bob"})
		if _, err := users(t, db).GetMany(t.Context(), 7, 8); err != nil {
			t.Error(err)
		}
		mock.ExpectExec("UPDATE").WillReturnResult(one)
		exec(t, db, "UPDATE users SET name = $1 WHERE id = 7", "Ann")
		cache.ExpectWritten("user:7", row{"id": 7, "name": "Ann"})
		cache.Down()
		cache.Up()
	})
	noMoreThan(t, before)
}

// noMoreThan waits until there are no more goroutines than there were.
func noMoreThan(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines are left, there were %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(time.Millisecond)
	}
}
