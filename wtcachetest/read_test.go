package wtcachetest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/wtcachetest"
)

type user struct {
	ID   int64
	Name string
}

func users(t testing.TB, db *sql.DB, opts ...wtcache.ReadOption) *wtcache.Reader[user] {
	t.Helper()
	reader, err := wtcache.ReaderOf[user](db, "users", opts...)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return reader
}

// wantUser reads a user, "" for one that is not there, and wants it from the cache or not.
func wantUser(t testing.TB, reader *wtcache.Reader[user], id any, name string, fromCache bool) {
	t.Helper()
	got, err := reader.Row(context.Background(), id)
	if err != nil || got.Value.Name != name || got.Found != (name != "") || got.FromCache != fromCache {
		t.Errorf("user %v is %+v, %v; want %q, from the cache: %t", id, got, err, name, fromCache)
	}
}

// Code that reads a page of rows is tested for its one statement: a loop of reads would pass
// any test of its results alone.
func TestReadOfMany(t *testing.T) {
	t.Parallel()
	db, _, cache := shop(t)
	cache.Rows("users", row{"id": 1, "name": "Ann"}, row{"id": 2, "name": "Bob"}, row{"id": 3, "name": "Cid"})
	cache.Put("users", row{"id": 1, "name": "Ann"})

	got, err := users(t, db).GetMany(t.Context(), 3, 1, 9, 2)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []user{{3, "Cid"}, {1, "Ann"}, {}, {2, "Bob"}} {
		if got[i].Value != want || got[i].Found != (want.ID > 0) || got[i].FromCache != (want.ID == 1) {
			t.Errorf("row %d is %+v, want %+v", i, got[i], want)
		}
	}
	cache.ExpectOps("read user:3, user:9, user:2 from public.users", `fill user:2 {"id":2,"name":"Bob"}`, `fill user:3 {"id":3,"name":"Cid"}`)
	cache.ExpectRead("user:2", "user:3", "user:9")
	cache.ExpectUntouched("user:1", "user:9")
	cache.Reset()
	if _, err := users(t, db).GetMany(t.Context(), 1, 2, 3); err != nil {
		t.Error(err)
	}
	cache.ExpectRead()
}

// A user that is looked for and not there costs one query under negative_ttl, and is there once
// it was inserted.
func TestReadOfNoRow(t *testing.T) {
	t.Parallel()
	db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(usersRule+"negative_ttl: 30s\n"), wtcachetest.Schema(usersDDL))
	cache.Rows("users")
	reader := users(t, db)

	wantUser(t, reader, 7, "", false)
	wantUser(t, reader, 7, "", true)
	cache.ExpectRead("user:7")
	cache.ExpectFilled("user:7", "null")
	wantUser(t, reader, "08", "", false) // no INSERT would find this key again
	cache.ExpectAbsent("user:08")

	mock.ExpectExec("INSERT INTO users").WillReturnResult(one)
	exec(t, db, "INSERT INTO users VALUES ($1, $2)", 7, "Ann")
	wantUser(t, reader, 7, "Ann", true)

	cache.Reset()
	wantUser(t, reader, 9, "", false)
	cache.Advance(time.Minute)
	wantUser(t, reader, 9, "", false)
	cache.ExpectRead("user:9", "user:9")
}

// How old an entry is goes by the clock that the test moves.
func TestReadByAge(t *testing.T) {
	t.Parallel()
	db, _, cache := shop(t)
	cache.Put("users", row{"id": 7, "name": "Bob"})
	cache.Rows("users", row{"id": 7, "name": "Ann"})
	reader := users(t, db)
	fresh := reader.With(wtcache.MaxAge(time.Minute))

	wantUser(t, fresh, 7, "Bob", true)
	cache.Advance(2 * time.Minute)
	got, err := reader.Row(t.Context(), 7)
	if err != nil || got.Age < 2*time.Minute || got.Value.Name != "Bob" {
		t.Errorf("after two minutes the entry is %+v, %v", got, err)
	}
	wantUser(t, fresh, 7, "Ann", false)
	cache.ExpectFilled("user:7", row{"id": 7, "name": "Ann"})
	wantUser(t, fresh, 7, "Ann", true)
	cache.Reset()
	wantUser(t, reader.With(wtcache.Fresh()), 7, "Ann", false)
	cache.ExpectOps("read user:7 from public.users")
}

// Code that reads inside its own transaction is given what that has written, and nobody
// else is.
func TestReadInTransaction(t *testing.T) {
	t.Parallel()
	db, mock, cache := shop(t)
	cache.Rows("users", row{"id": 7, "name": "Bob"}, row{"id": 8, "name": "Cid"})
	cache.Put("users", row{"id": 7, "name": "Bob"})
	mock.ExpectBegin()
	mock.ExpectExec("UPDATE users").WillReturnResult(one)
	mock.ExpectRollback()

	tx := begin(t, db)
	inside := users(t, db, wtcache.In(tx))
	wantUser(t, inside, 7, "Bob", true)
	wantUser(t, inside, 8, "Cid", false)
	exec(t, tx, "UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
	wantUser(t, inside, 7, "Ann", false)
	wantUser(t, users(t, db), 7, "Bob", true)
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	cache.ExpectOps("BEGIN", "read user:8 from public.users in the transaction", "UPDATE users SET name = $1 WHERE id = $2",
		"read user:7 from public.users in the transaction", "ROLLBACK")
	cache.ExpectUntouched()
}

// Keys of several columns, and of texts that an array literal has to quote, find their rows.
func TestReadByOddKeys(t *testing.T) {
	t.Parallel()
	db, _, cache := wtcachetest.New(t,
		wtcachetest.Rules("table: public.members\nkey: \"member:{org}/{name}\"\n"),
		wtcachetest.Schema("CREATE TABLE members (org bigint, name text, role text, PRIMARY KEY (org, name))"))
	odd := []string{`NULL`, `a"b`, `a\`, `a,b`, `{}`, `"`, ` `, `é`}
	var rows []wtcachetest.Row
	keys := []any{wtcache.Key{"name": odd[0], "org": 0}}
	for i, name := range odd {
		rows = append(rows, row{"org": i, "name": name, "role": fmt.Sprint("role", i)})
		if i > 0 {
			keys = append(keys, wtcache.Values{i, name})
		}
	}
	cache.Rows("members", rows...)
	reader, err := wtcache.ReaderOf[struct{ Role string }](db, "members")
	if err != nil {
		t.Fatal(err)
	}
	got, err := reader.GetMany(t.Context(), append(keys, wtcache.Values{1, "NULL"})...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range odd {
		if got[i].Value.Role != fmt.Sprint("role", i) {
			t.Errorf("the member %q is %+v", odd[i], got[i])
		}
	}
	if got[len(odd)].Found {
		t.Errorf("a member of another organisation was found: %+v", got[len(odd)])
	}
}

// What Postgres refuses is the code's to handle, and no fault of the test.
func TestReadByWhatIsNoKey(t *testing.T) {
	t.Parallel()
	db, _, cache := shop(t)
	cache.Rows("users", row{"id": 7, "name": "Ann"})
	_, err := users(t, db).Get(t.Context(), "seven")
	if refused := new(pgconn.PgError); !errors.As(err, &refused) || refused.Code != "22P02" {
		t.Errorf("a key that is no number gives %v", err)
	}
	wantUser(t, users(t, db), "007", "Ann", false)
	cache.ExpectAbsent("user:007")
}

// Reads that the test has not prepared fail it with what to add, however many there are and
// on whatever goroutine.
func TestReadsThatFailTheTest(t *testing.T) {
	t.Parallel()
	mentions(t, failure(t, func(t testing.TB) {
		db, _, cache := shop(t)
		cache.Put("users", row{"id": 8, "name": "Bob"})
		if _, err := users(t, db).GetMany(context.Background(), 7, 8, 9); err == nil {
			t.Errorf("the code under test went on")
		}
	}), "wtcachetest: user:7, user:9 is read from public.users", `cache.Rows("users", …)`)
	mentions(t, failure(t, func(t testing.TB) {
		db, _, cache := shop(t)
		cache.Rows("users", row{"id": 7})
		_, _ = users(t, db).Get(context.Background(), 7)
	}), `a row that the test gave public.users by Rows: entry "user:{id}" stores name, which is not there`)
	mentions(t, failure(t, func(t testing.TB) {
		db, _, cache := shop(t)
		cache.Rows("users", row{"name": "Ann"})
		_, _ = users(t, db).Get(context.Background(), 7)
	}), "a row that the test gave public.users by Rows has no id, which is part of a key")
	mentions(t, failure(t, func(t testing.TB) {
		db, _, cache := shop(t)
		cache.Rows("users", row{"id": 7, "name": "Ann"})
		_, _ = users(t, db).Get(context.Background(), 7)
		cache.ExpectRead("user:8", "user:7")
		cache.ExpectRead()
	}), "were to take from the database user:7, user:8, but took user:7", "were to take from the database nothing, but took user:7", "what happened:\n\tread user:7 from public.users\n\tfill user:7")
	mentions(t, failure(t, func(t testing.TB) {
		db, _, _ := shop(t)
		reader := users(t, db)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() { _, _ = reader.Get(context.Background(), i%3) })
		}
		all.Wait()
	}), "user:0 is read from public.users", "user:1 is read", "user:2 is read")
}

// A read that goes on when its caller does not wait any longer must not reach a test that has
// ended: that would be a panic in some other test. Not parallel, see TestNothingIsLeftRunning.
func TestReadThatOutlivesItsTest(t *testing.T) {
	before := runtime.NumGoroutine()
	entered, leave := make(chan struct{}), make(chan struct{})
	ended := &fakeTB{TB: t}
	t.Run("test", func(t *testing.T) {
		rule := "table: public.users\nentries:\n  - key: \"user:{id}\"\n    when: \"length(name) > 2\"\n"
		db, _, cache := wtcachetest.New(ended, wtcachetest.Rules(rule), wtcachetest.Schema(usersDDL),
			wtcachetest.When("users", func(wtcachetest.Row) bool {
				close(entered)
				<-leave
				return true
			}))
		cache.Rows("users", row{"id": 7, "name": "Ann"}, row{"id": 8})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			cancel()
		}()
		if _, err := users(t, db).GetMany(ctx, 7, 8); !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that was cancelled gets %v", err)
		}
		for i := len(ended.cleanups) - 1; i >= 0; i-- {
			ended.cleanups[i]()
		}
	})
	close(leave)
	noMoreThan(t, before)
	if said := ended.said(); len(said) > 0 {
		t.Errorf("after the test's end it was told %q", said)
	}
}
