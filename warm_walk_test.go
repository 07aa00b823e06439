package wtcache_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/wtcache/wtcache"
)

// kindValues make values of a key's type from i, in an order of their own.
var kindValues = map[string]string{
	"int2": "i", "int4": "-i", "int8": "i * 10000000000", "text": "'k\"\\ ' || i", "varchar": "chr(i + 64)", "bool": "i = 1",
	"uuid": "md5(i::text)::uuid", "bytea": "decode(md5(i::text), 'hex')", "date": "CASE i WHEN 1 THEN 'infinity' ELSE date '0044-03-15 BC' + i * 1000 END",
	"timestamp":   "CASE i WHEN 1 THEN '-infinity' ELSE timestamp '2020-01-01' + i * interval '1 microsecond' END",
	"timestamptz": "timestamptz '2020-01-01 00:00:00+00' + i * interval '1 microsecond'",
	"numeric":     "CASE i WHEN 1 THEN 'NaN' ELSE i / 3.0 END", "inet": "inet '10.0.0.0/8' + i", "char": "chr(i + 64)",
}

// A walk goes from key to key whatever the keys are: one that read a key back as another value would skip rows, or turn in a
// circle for ever.
func TestWarmWalksKeysOfEachKind(t *testing.T) {
	t.Parallel()
	setup := kindsSetup()
	for _, typ := range kindTypes {
		setup.ddl += fmt.Sprintf("INSERT INTO k_%s SELECT %s, 'b' FROM generate_series(1, %d) i;\n", typ, kindValues[typ], kindRows(typ))
	}
	h := newShelf(t, setup)
	for _, typ := range kindTypes {
		want := int64(kindRows(typ))
		got := warm(t, h, wtcache.WarmOptions{Entries: []string{"k_" + typ}, Batch: 2})
		if got.Filled != want || got.Rows != want {
			t.Errorf("of %d rows with a key of type %s it has filled %d and seen %d", want, typ, got.Filled, got.Rows)
		}
		if got := warm(t, h, wtcache.WarmOptions{Entries: []string{"k_" + typ}, Batch: 1}); got.Cached != want {
			t.Errorf("of %d rows with a key of type %s it then found %d", want, typ, got.Cached)
		}
	}
}

func kindRows(typ string) int {
	if typ == "bool" {
		return 2
	}
	return 7
}

// Partitions are gone through as one table, in the order of an index that has its columns in another order than the key; a
// column of a type that is an enum or comes from an extension is compared as its index does.
func TestWarmWalksPartitions(t *testing.T) {
	t.Parallel()
	h := newShelf(t, shelfSetup{
		ddl: `CREATE TYPE size AS ENUM ('small', 'middling', 'big');
			CREATE TABLE parts (a int, s size, b text, body text, PRIMARY KEY (s, b, a)) PARTITION BY RANGE (a);
			CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (5);
			CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (5) TO (100);
			INSERT INTO parts SELECT i, s::size, chr(64 + i), 'b' FROM generate_series(1, 9) i, unnest(ARRAY['big', 'small', 'middling']) s`,
		rules: map[string]string{"parts": "table: {S}.parts\nkey: \"{P}part:{a}:{b}:{s}\"\nredis_down: refuse\n"},
	})
	got := warm(t, h, wtcache.WarmOptions{Batch: 4, Count: true})
	if columns := strings.Join(got.Entries[0].Columns, " "); columns != "s b a" {
		t.Errorf("it went by %s", columns)
	}
	h.wantCounts(got.WarmCounts, wtcache.WarmCounts{Rows: 27, Filled: 27}, "partitions")
	got = warm(t, h, wtcache.WarmOptions{Refresh: true, From: []any{"middling", "C"}, To: []any{"big"}})
	h.wantCounts(got.WarmCounts, wtcache.WarmCounts{Rows: 7, Filled: 7}, "the middling ones from C")
}

// An entry whose rows share keys has nothing to be gone along, and says so instead of filling one row of several.
func TestWarmNeedsAUniqueIndex(t *testing.T) {
	t.Parallel()
	h := newShelf(t, shelfSetup{
		ddl: "CREATE TABLE pages (id int PRIMARY KEY, site int NOT NULL, body text)",
		rules: map[string]string{"pages": `
table: {S}.pages
redis_down: refuse
entries:
  - {name: by_id, key: "{P}page:{id}"}
  - {name: by_site, key: "{P}site:{site}", strategy: invalidate}
`},
	})
	_, err := wtcache.Warm(t.Context(), h.db, wtcache.WarmOptions{Entries: []string{"pages.by_site"}})
	if !errors.Is(err, wtcache.ErrConfig) || !strings.Contains(err.Error(), "unique index") {
		t.Errorf("%v", err)
	}
}

// A row that is deleted between the look for keys and the read is cached as absent, as a reader would: its payload would be a
// row that nobody has any more.
func TestWarmOfRowsThatGo(t *testing.T) {
	setup := shelfSetup{
		ddl:   "CREATE TABLE gone (id int PRIMARY KEY, body text); INSERT INTO gone SELECT i, 'b' FROM generate_series(1, 10) i",
		rules: map[string]string{"gone": "table: {S}.gone\nkey: \"{P}gone:{id}\"\nredis_down: refuse\nnegative_ttl: 1m\n"},
	}
	h := newShelf(t, setup)
	var once sync.Once
	wtcache.WatchWarm(t, func(int) { once.Do(func() { h.exec("DELETE FROM gone WHERE id = 3") }) })
	h.wantCounts(warm(t, h, wtcache.WarmOptions{}).WarmCounts, wtcache.WarmCounts{Rows: 10, Filled: 9, Gone: 1}, "one goes")
	gone := readerOf[struct{ Body string }](t, h.db, "gone")
	if reads := h.databaseReads(func() {
		if seen(t, gone, 3).Found {
			t.Error("a reader gets the row that is gone")
		}
	}); reads != 0 {
		t.Error("that there is no such row was not cached")
	}
	h.exec("INSERT INTO gone VALUES (3, 'again')")
	if row := seen(t, gone, 3); row.Value.Body != "again" {
		t.Errorf("after its insert a reader gets %+v", row)
	}
}
