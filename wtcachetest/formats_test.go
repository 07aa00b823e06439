package wtcachetest_test

import (
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/wtcachetest"
)

// A rule's format is how its readers find the entry, and no business of the test's: what is
// written, seeded and read looks the same in each.
func TestEveryFormat(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"envelope", "plain", "hash", "versioned"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			db, mock, cache := wtcachetest.New(t, wtcachetest.Rules(usersRule+"format: "+format+"\n"), wtcachetest.Schema(usersDDL))
			cache.Put("users", row{"id": 7, "name": "Bob"})
			reader, err := wtcache.CacheOf(db)
			if err != nil {
				t.Fatal(err)
			}
			wantName(t, reader, 7, "Bob")
			mock.ExpectExec("UPDATE users").WithArgs("Ann", 7).WillReturnResult(one)
			exec(t, db, "UPDATE users SET name = $1 WHERE id = $2", "Ann", 7)
			cache.ExpectWritten("user:7", `{"id": 7, "name": "Ann"}`)
			wantName(t, reader, 7, "Ann")
			cache.Reset()
			mock.ExpectExec("DELETE FROM users").WithArgs(7).WillReturnResult(one)
			exec(t, db, "DELETE FROM users WHERE id = $1", 7)
			cache.ExpectAbsent("user:7")
			cache.Rows("users", row{"id": 8, "name": "Cid"})
			cache.Reset()
			wantName(t, reader, 8, "Cid")
			cache.ExpectOps("read user:8 from public.users", `fill user:8 {"id":8,"name":"Cid"}`)
			if payload, ok := cache.Payload("user:8"); !ok || payload != `{"id":8,"name":"Cid"}` {
				t.Errorf("user:8 holds %q, %v after a reader filled it", payload, ok)
			}
		})
	}
}

func wantName(t *testing.T, reader *wtcache.Cache, id int, want string) {
	t.Helper()
	var u struct{ Name string }
	if _, err := reader.Get(t.Context(), "users", &u, id); err != nil || u.Name != want {
		t.Errorf("a reader gets %q, %v for user %d, want %q", u.Name, err, id, want)
	}
}
