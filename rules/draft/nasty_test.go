package draft_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"database/sql/driver"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
	"github.com/wtcache/wtcache/rules/draft"
)

// nasty are tables of names and types that a draft has to spell right, each with rows that
// are written through the driver. "@" is filled by long names.
var nasty = []struct{ table, ddl, values string }{
	{`"Odd Schema"."Mixed Case"`, `("Id" int PRIMARY KEY, "e-Mail" text UNIQUE, "quo""te" text UNIQUE, "bra}{ce" int UNIQUE, "back\slash" text UNIQUE,
		"per%cent" int UNIQUE, U&"line\000Abreak" text UNIQUE, "it's" int UNIQUE, U&"soft\00ADhyphen" int UNIQUE, "two  spaces" int, " " int UNIQUE, "a:b" int, "#c" int)`,
		`(1, 'a@b', 'q"', 2, 'b\', 3, E'l\nb', 4, 5, 6, 7, 8, 9), (2, NULL, '', NULL, 'x', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)`},
	{`"select"`, `("from" int, "where" text NOT NULL, "order" text, "table" text, "when" text, "null" int UNIQUE, "true" text UNIQUE, "y" text, PRIMARY KEY ("from", "where"))`,
		`(1, 'x:y', 'o', 't', 'w', 1, 'tr', 'why')`},
	{`"yes"`, `("no" int PRIMARY KEY, "~" int UNIQUE, "1e5" int UNIQUE, "*a" int UNIQUE, "&a" int UNIQUE, "!t" int UNIQUE, "- x" int UNIQUE, "a b" int UNIQUE, a_b int UNIQUE, password text)`,
		`(1, 2, 3, 4, 5, 6, 7, 8, 9, 'geheim')`},
	{`"Ünïcödé ✓"`, `("größe" int PRIMARY KEY, "имя" text UNIQUE, "名前" text, "mot_de_passe_password" text)`, `(1, 'иван', '太郎', 'x')`},
	{`"user"`, `(id int PRIMARY KEY, name text UNIQUE)`, `(1, 'public')`},
	{`"Odd Schema"."user"`, `(id int PRIMARY KEY, name text UNIQUE)`, `(1, 'odd')`},
	{`sales."user"`, `(id int PRIMARY KEY, name text UNIQUE)`, `(1, 'sales')`},
	{`"User"`, `(id int PRIMARY KEY, name text UNIQUE)`, `(1, 'upper')`},
	{`"a b"`, `(id int PRIMARY KEY)`, `(1)`},
	{`a_b`, `(id int PRIMARY KEY)`, `(1)`},
	{`"a:b"`, `(id text PRIMARY KEY)`, `('b:1')`},
	{`a`, `(id text PRIMARY KEY, b text UNIQUE)`, `('b:1', '1'), ('b', '1:b')`},
	{`wtcache`, `(id int PRIMARY KEY)`, `(1)`},
	{`"*"`, `(id int PRIMARY KEY)`, `(1)`},
	{`"-"`, `("-" int PRIMARY KEY)`, `(1)`},
	{`"@t"`, `("@a" int, "@b" text, "@c" text UNIQUE, PRIMARY KEY ("@a", "@b"))`, `(1, 'x', 'y')`},
	{`wide`, `(id bigint PRIMARY KEY, ` + wideColumns() + `)`, `(9007199254740993)`},
	{`many_types`, `(id uuid PRIMARY KEY, ` + typedColumns() + `)`, `('00000000-0000-0000-0000-00000000000a')`},
	{`many_keys`, `(a numeric(10,2) PRIMARY KEY, b float8 UNIQUE, c interval UNIQUE, d money UNIQUE, e text[] UNIQUE, f date UNIQUE, g timestamptz UNIQUE, h timestamp UNIQUE,
		i time UNIQUE, j bytea UNIQUE, k inet UNIQUE, l char(5) UNIQUE, m bool UNIQUE, n mood UNIQUE, o positive UNIQUE, p jsonb UNIQUE, q varchar(9) UNIQUE, r bit(3) UNIQUE, s oid UNIQUE,
		t int4range UNIQUE, u name UNIQUE, v int GENERATED ALWAYS AS (id + 1) STORED UNIQUE, id int, w text COLLATE folding UNIQUE)`,
		`(1.50, 2.5, '1 day', 3, '{a}', '2026-02-03', '2026-02-03 04:05:06.5+00', '2026-02-03 04:05', '04:05', '\x00ff', '10.0.0.1', 'abc', true, 'happy', 7, '{}', 'q', B'101', 12, '[1,2)', 'n', DEFAULT, 41, 'MiXed')`},
	{`no_primary`, `(a int, b int NOT NULL UNIQUE, c int UNIQUE, d int, UNIQUE (a, d), UNIQUE (b, c))`, `(1, 2, 3, 4)`},
	{`stamped`, `(id int PRIMARY KEY, deleted_at timestamptz, updated_at timestamptz)`, `(1)`},
}

func long(text string) string {
	for _, letter := range []string{"a", "b", "c", "t"} {
		text = strings.ReplaceAll(text, `"@`+letter+`"`, `"`+strings.Repeat("x", 62)+letter+`"`)
	}
	return text
}

func wideColumns() string {
	var columns []string
	for i := range 60 {
		columns = append(columns, fmt.Sprintf("column_%d text DEFAULT 'value %d'", i, i))
	}
	return strings.Join(columns, ", ")
}

// typedColumns has a column, NULL by default, of each type that this server has.
func typedColumns() string {
	var columns []string
	for i, name := range strings.Fields(`int2 int4 int8 float4 float8 numeric money bool text varchar(3) char(3) name "char" bytea date time timetz timestamp timestamptz interval uuid
		inet cidr macaddr macaddr8 bit(3) varbit json jsonb jsonpath xml tsvector tsquery oid xid8 pg_lsn pg_snapshot point line lseg box path polygon circle
		int4range tstzrange int8multirange regclass regproc regtype regclass[] regtype[] text[] int[] mood mood[] positive place place[] oidvector int2vector refcursor hstore txid_snapshot tid xid cid`) {
		columns = append(columns, fmt.Sprintf("c%d %s", i, name))
	}
	return strings.Join(columns, ", ")
}

const nastyTypes = `CREATE SCHEMA "Odd Schema"; CREATE SCHEMA sales; CREATE EXTENSION hstore; CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE TYPE place AS (name text, at point, kind regclass); CREATE COLLATION folding (provider = icu, locale = 'und-u-ks-level2', deterministic = false);`

// TestNasty drafts, loads and binds rules for names and types that a careless draft would
// spell wrong, writes a row of each table through the driver, and finds it under each
// drafted key. Who meets such a name otherwise has a program that does not start, or keys that miss.
func TestNasty(t *testing.T) {
	t.Parallel()
	ddl := nastyTypes
	for _, n := range nasty {
		ddl += "CREATE TABLE " + long(n.table) + " " + long(n.ddl) + ";\n"
	}
	d := newDatabase(t, ddl)
	drafted := d.draft(draft.Options{})
	folder := write(t, drafted)
	if len(drafted.Files) != len(nasty) {
		t.Errorf("%d of %d tables have a rule; the others: %v", len(drafted.Files), len(nasty), drafted.Skipped)
	}
	set := d.bind(folder)
	db, cache := openCached(t, d.dsn, folder)
	for _, n := range nasty {
		if _, err := db.ExecContext(t.Context(), long("INSERT INTO "+n.table+" VALUES "+n.values)); err != nil {
			t.Errorf("write %s: %v", n.table, err)
		}
	}
	keys := map[string]string{}
	for _, table := range set.Tables {
		found := d.eachKey(table, func(entry *rules.BoundEntry, key string) {
			if other, taken := keys[key]; taken {
				t.Errorf("%s and %s share the key %s", other, table.Name, key)
			}
			keys[key] = table.Name.String()
			payload, err := cache.Get(t.Context(), key).Result()
			if err != nil || strings.Contains(payload, "geheim") {
				t.Errorf("%s, entry %s: %q holds %q: %v", table.Name, entry.Name, key, payload, err)
			}
		})
		if found == 0 {
			t.Errorf("no row of %s has a key", table.Name)
		}
	}
	readsEach(t, d, db, set)
}

// openCached opens a database through wtcache, with a Redis of its own: drafted keys have no prefix that
// would keep tests apart.
func openCached(t *testing.T, dsn, folder string) (*sql.DB, *redis.Client) {
	t.Helper()
	options, err := redis.ParseURL(testenv.NewRedis(t).URL)
	if err != nil {
		t.Fatal(err)
	}
	cache := redis.NewClient(options)
	t.Cleanup(func() { cache.Close() })
	base, err := stdlib.GetDefaultDriver().(driver.DriverContext).OpenConnector(dsn)
	if err != nil {
		t.Fatal(err)
	}
	db, err := wtcache.OpenDB(base, wtcache.Config{Redis: cache, RulesPath: folder, RedisTimeout: 7 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db, cache
}

// eachKey calls f with the keys of a table's rows and gives how many there were.
func (d *database) eachKey(table *rules.Table, f func(entry *rules.BoundEntry, key string)) (n int) {
	d.t.Helper()
	for _, values := range d.keyTexts(table) {
		keys, _ := table.Keys(values)
		for i, key := range keys {
			if key != "" {
				f(table.Entries[i], key)
				n++
			}
		}
	}
	return n
}

// keyTexts gives the texts of a table's key columns, a row each.
func (d *database) keyTexts(table *rules.Table) (out [][]*string) {
	d.t.Helper()
	name := `"` + strings.ReplaceAll(table.Name.Schema, `"`, `""`) + `"."` + strings.ReplaceAll(table.Name.Table, `"`, `""`) + `"`
	rows, err := d.query(d.t.Context(), "SELECT "+table.OldKeys("t")+" FROM "+name+" t")
	if err != nil {
		d.t.Fatal(err)
	}
	for _, row := range rows {
		var values []*string
		if err := json.Unmarshal([]byte(*row[0]), &values); err != nil {
			d.t.Fatal(err)
		}
		out = append(out, values)
	}
	return out
}

// readsEach reads every row through wtcache's own reader, by each of its keys.
func readsEach(t *testing.T, d *database, db *sql.DB, set *rules.Set) {
	t.Helper()
	for _, table := range set.Tables {
		for _, entry := range table.Entries {
			name := table.Name.String() + "." + entry.Name
			reader, err := wtcache.ReaderOf[map[string]any](db, name)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for _, values := range d.keyTexts(table) {
				key, whole := wtcache.Key{}, true
				for i, k := range table.KeyColumns {
					if contains(entry.Key.Columns(), k.Name) {
						whole = whole && values[i] != nil
						key[k.Name] = deref(values[i])
					}
				}
				if !whole {
					continue
				}
				if row, err := reader.Row(t.Context(), key); err != nil || !row.Found || !row.FromCache {
					t.Errorf("read %s by %v: found %v, from the cache %v: %v", name, key, row.Found, row.FromCache, err)
				}
			}
		}
	}
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
