package wtcache_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
)

var namesSetup = shelfSetup{
	ddl: `CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE, name text);
		CREATE TABLE seats (tenant int, number text, holder text, PRIMARY KEY (tenant, number));
		CREATE TABLE items (id bigint PRIMARY KEY, title text);
		INSERT INTO users VALUES (1, 'a@x', 'ann'), (2, 'b@x', 'bob');
		INSERT INTO seats VALUES (1, 'A', 'ann'), (1, 'B', 'bob'), (2, 'A', 'cid');
		INSERT INTO items VALUES (7, 'seven')`,
	rules: map[string]string{
		"users": "table: {S}.users\nentries:\n  - {key: \"{P}user:{id}\"}\n  - {key: \"{P}email:{email}\"}\n",
		"seats": "table: {S}.seats\nkey: \"{P}seat:{tenant}:{number}\"\n",
		"items": "table: {S}.items\nkey: \"{P}item:{id}\"\n",
	},
}

// A name that is wrong must be found out by its own error, not by reading the rule files.
func TestReaderNamesThatAreWrong(t *testing.T) {
	h := newShelf(t, namesSetup)
	for name, want := range map[string][]string{
		"user.by_id":        {`did you mean "users.by_id"?`, "users.by_email", "seats.by_tenant_number", "items.by_id"},
		"users.by_emial":    {`did you mean "users.by_email"?`},
		"users":             {"users has several entries: say which", "users.by_email, users.by_id"},
		h.schema + ".users": {"has several entries: say which"},
		"itms":              {`did you mean "items"?`},
		"Items":             {`did you mean "items"?`},
		"orders":            {"the rules have items.by_id"},
		"":                  {"the rules have items.by_id"},
		"other.items":       {"the rules have items.by_id"},
	} {
		_, early := wtcache.ReaderOf[map[string]any](h.db, name)
		cache, err := wtcache.CacheOf(h.db)
		if err != nil {
			t.Fatal(err)
		}
		_, late := cache.Get(context.Background(), name, &map[string]any{}, 1)
		for _, err := range []error{early, late} {
			if !errors.Is(err, wtcache.ErrUnknownEntry) {
				t.Errorf("%q gave %v", name, err)
				continue
			}
			for _, part := range want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q gave the error\n%v\nwithout %q", name, err, part)
				}
			}
		}
	}
}

// A table may be named with its schema, and an entry of a rule of one with or without its own name.
func TestReaderNamesThatAreRight(t *testing.T) {
	h := newShelf(t, namesSetup)
	for _, name := range []string{"items", "items.by_id", h.schema + ".items", h.schema + ".items.by_id"} {
		if row := seen(t, readerOf[map[string]any](t, h.db, name), 7); row.Value["title"] != "seven" {
			t.Errorf("%s gave %v", name, row)
		}
	}
	for _, name := range []string{"users.by_email", h.schema + ".users.by_email"} {
		if row := seen(t, readerOf[map[string]any](t, h.db, name), "b@x"); row.Value["name"] != "bob" {
			t.Errorf("%s gave %v", name, row)
		}
	}
}

// Two tables of one name in two schemas are two tables: a bare name that takes one of them
// would give rows of the other tenant.
func TestReaderNameInTwoSchemas(t *testing.T) {
	h := newShelf(t, shelfSetup{
		ddl:   `CREATE TABLE items (id int PRIMARY KEY, title text); INSERT INTO items VALUES (1, 'mine')`,
		rules: map[string]string{"items": "table: {S}.items\nkey: \"{P}item:{id}\"\n"},
	})
	other := newShelf(t, shelfSetup{
		ddl:   `CREATE TABLE items (id int PRIMARY KEY, title text); INSERT INTO items VALUES (1, 'theirs')`,
		rules: map[string]string{"items": "table: {S}.items\nkey: \"{P}item:{id}\"\n"},
	})
	h.rules["other.yaml"] = other.rules["items.yaml"]
	db, _ := h.open(shelfSetup{})
	for _, name := range []string{"items", "items.by_id"} {
		_, err := wtcache.ReaderOf[map[string]any](db, name)
		if !errors.Is(err, wtcache.ErrUnknownEntry) || !strings.Contains(err.Error(), h.schema+".items") || !strings.Contains(err.Error(), other.schema+".items") {
			t.Errorf("%q, which is in two schemas, gave %v", name, err)
		}
	}
	for schema, want := range map[string]string{h.schema: "mine", other.schema: "theirs"} {
		if row := seen(t, readerOf[map[string]any](t, db, schema+".items"), 1); row.Value["title"] != want {
			t.Errorf("%s.items gave %v, want %s", schema, row.Value, want)
		}
	}
}

// Values that do not fit the key's columns are told from a row that is not there.
func TestReaderKeysThatAreWrong(t *testing.T) {
	h := newShelf(t, namesSetup)
	seats := readerOf[map[string]any](t, h.db, "seats")
	type key = wtcache.Key
	var noID *int64
	for _, c := range []struct {
		given []any
		want  string
	}{
		{nil, "takes 2 values (tenant, number); got 0"},
		{[]any{1}, "takes 2 values (tenant, number); got 1"},
		{[]any{1, "A", 2}, "got 3"},
		{[]any{wtcache.Values{1}}, "got 1"},
		{[]any{wtcache.Values{1, "A", "x"}}, "got 3"},
		{[]any{key{"tenant": 1}}, `needs the key column "number" too`},
		{[]any{key{}}, "needs the key column"},
		{[]any{key(nil)}, "needs the key column"},
		{[]any{key{"tenant": 1, "numbr": "A"}}, `did you mean "number"?`},
		{[]any{key{"tenant": 1, "number": "A", "holder": "x"}}, `has no key column "holder"`},
		{[]any{key{"tenant": 1, "number": "A", "zzz": 1}}, "has tenant, number"},
		{[]any{1, nil}, "column number of seats"},
		{[]any{noID, "A"}, "NULL in the key"},
		{[]any{1.5, "A"}, "a float64 cannot be a key value"},
		{[]any{[]int{1}, "A"}, "a []int cannot be a key value"},
		{[]any{1, struct{}{}}, "cannot be a key value"},
	} {
		rows := h.databaseReads(func() {
			_, err := seats.Row(context.Background(), c.given...)
			if !errors.Is(err, wtcache.ErrKey) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the key %v gave %v, want %q", c.given, err, c.want)
			}
		})
		if rows != 0 {
			t.Errorf("the key %v was sent to the database", c.given)
		}
	}
	_, err := seats.GetMany(context.Background(), wtcache.Values{1, "A"}, wtcache.Values{2})
	if !errors.Is(err, wtcache.ErrKey) || !strings.Contains(err.Error(), "key 2 of 2") {
		t.Errorf("GetMany with a short second key gave %v", err)
	}
	items := readerOf[map[string]any](t, h.db, "items")
	if _, err := items.GetMany(context.Background(), []int{1, 2}); !errors.Is(err, wtcache.ErrKey) || !strings.Contains(err.Error(), "wtcache.Keys") {
		t.Errorf("a slice given as one key gave %v, which does not say how to give it", err)
	}
}

// Each way to give a key of several columns means the same row.
func TestReaderKeysThatAreRight(t *testing.T) {
	h := newShelf(t, namesSetup)
	seats := readerOf[map[string]any](t, h.db, "seats")
	byName, byPlace := wtcache.Key{"number": "A", "tenant": 2}, wtcache.Values{2, "A"}
	for _, given := range [][]any{{2, "A"}, {byName}, {byPlace}} {
		if row := seen(t, seats, given...); row.Value["holder"] != "cid" {
			t.Errorf("%v gave %v", given, row.Value)
		}
	}
	rows, err := seats.GetMany(context.Background(), byPlace, wtcache.Values{9, "A"}, wtcache.Key{"tenant": 1, "number": "B"}, byName)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []any{"cid", nil, "bob", "cid"} {
		if rows[i].Found != (want != nil) || rows[i].Value["holder"] != want {
			t.Errorf("row %d is %+v, want %v", i, rows[i], want)
		}
	}
	users := readerOf[map[string]any](t, h.db, "users.by_id")
	many, err := users.GetMany(context.Background(), wtcache.Keys([]int64{2, 1})...)
	if err != nil || many[0].Value["name"] != "bob" || many[1].Value["name"] != "ann" {
		t.Errorf("Keys gave %v, %v", many, err)
	}
}

// A reader that was made before a key was misspelled has no row of another key in it.
func TestReaderErrorGivesNoRow(t *testing.T) {
	h := newShelf(t, namesSetup)
	items := readerOf[map[string]any](t, h.db, "items")
	value, err := items.Get(context.Background(), 99)
	if !isNoRows(err) || value != nil {
		t.Errorf("a row that is not there gave %v, %v", value, err)
	}
	if row := seen(t, items, 99); row.Found || row.Value != nil || row.FromCache {
		t.Errorf("a row that is not there gave %+v", row)
	}
}
