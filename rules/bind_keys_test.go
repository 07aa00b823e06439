package rules

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// keySamples are the types that a key may have, with a value and its one text.
var keySamples = []struct {
	sqlType, value, text string
	canon                Canon
	maxLen               int
	castType             string
}{
	{"int2", "7", "7", CanonInteger, 0, "pg_catalog.int2"},
	{"int4", "-7", "-7", CanonInteger, 0, "pg_catalog.int4"},
	{"bigint", "9223372036854775807", "9223372036854775807", CanonInteger, 0, "pg_catalog.int8"},
	{"@.positive", "7", "7", CanonInteger, 0, "pg_catalog.int4"},
	{"uuid", "'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", CanonUUID, 0, "pg_catalog.uuid"},
	{"text", "' x '", " x ", CanonText, 0, "pg_catalog.text"},
	{"varchar", "'x'", "x", CanonText, 0, "pg_catalog.varchar"},
	{"varchar(8)", "'x'", "x", CanonText, 8, "pg_catalog.varchar"},
	{"@.nick", "'x'", "x", CanonText, 5, "pg_catalog.varchar"},
	{`text COLLATE "@".loose`, "'x'", "x", CanonNone, 0, "pg_catalog.text"},
	{"char(5)", "'ab'", "ab", CanonNone, 0, "pg_catalog.bpchar"},
	{"bit(4)", "B'1010'", "1010", CanonNone, 0, "pg_catalog.bit"},
	{`"char"`, "'a'", "a", CanonNone, 0, "pg_catalog.char"},
	{"name", "'n'", "n", CanonNone, 0, "pg_catalog.name"},
	{"bool", "true", "true", CanonNone, 0, "pg_catalog.bool"},
	{"numeric", "1.50", "1.50", CanonNone, 0, "pg_catalog.numeric"},
	{"date", "'2024-02-29'", "2024-02-29", CanonNone, 0, "pg_catalog.date"},
	{"timestamp", "'2024-02-29 04:05:06.7'", "2024-02-29T04:05:06.7", CanonNone, 0, "pg_catalog.timestamp"},
	{"timestamptz", "'2024-02-29 04:05:06.7+02'", "2024-02-29T02:05:06.7Z", CanonNone, 0, "pg_catalog.timestamptz"},
	{"time", "'04:05:06'", "04:05:06", CanonNone, 0, "pg_catalog.time"},
	{"bytea", `'\x00ff'`, `\x00ff`, CanonNone, 0, "pg_catalog.bytea"},
	{"inet", "'10.0.0.1'", "10.0.0.1", CanonNone, 0, "pg_catalog.inet"},
	{"@.mood", "'it''s'", "it's", CanonNone, 0, `"@"."mood"`},
	{"@.ci", "'MiXed'", "MiXed", CanonNone, 0, `"@"."ci"`},
}

const keySamplesDDL = `
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN nick AS varchar(5);
CREATE TYPE mood AS ENUM ('it''s', 'x');
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE ci;
CREATE FUNCTION ci_in(cstring) RETURNS ci AS 'textin' LANGUAGE internal IMMUTABLE STRICT;
CREATE FUNCTION ci_out(ci) RETURNS cstring AS 'textout' LANGUAGE internal IMMUTABLE STRICT;
CREATE TYPE ci (INPUT = ci_in, OUTPUT = ci_out, LIKE = pg_catalog.text, CATEGORY = 'S');
CREATE CAST (ci AS text) WITHOUT FUNCTION AS IMPLICIT;
CREATE CAST (text AS ci) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE FUNCTION ci_eq(ci, ci) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT lower($1::text) = lower($2::text)';
CREATE OPERATOR = (LEFTARG = ci, RIGHTARG = ci, FUNCTION = ci_eq);`

// A key that is spelt in two ways is two keys: one of them is never made absent.
func TestKeyTextsAreTheSameInEverySession(t *testing.T) {
	d := newDatabase(t, keySamplesDDL)
	var files []string
	for i, k := range keySamples {
		d.exec(fmt.Sprintf("CREATE TABLE k%02d (k %s, n int); INSERT INTO k%02d VALUES (%s, 1), (NULL, 2)", i, k.sqlType, i, k.value))
		files = append(files, fmt.Sprintf("table: \"@.k%02d\"\nkey: \"k%02d:{k}\"\nstrategy: invalidate\ncolumns: [n]", i, i))
	}
	set := d.mustBind(files...)
	for _, kind := range sessionKinds[:10] {
		s := d.open(kind.settings...)
		for i, k := range keySamples {
			table := set.Tables[tableIndex(t, set, fmt.Sprintf("k%02d", i))]
			column := table.KeyColumns[0]
			if column.Canon != k.canon || column.MaxLen != k.maxLen || column.Type != d.here(k.castType) {
				t.Errorf("%s: %+v", k.sqlType, column)
			}
			ref := d.schema + "." + table.Name.Table
			row := s.must("UPDATE " + ref + " SET n = n WHERE n = 1 RETURNING " + strings.Join(append(table.Capture(ref, false, true), table.OldKeys(ref)), ", "))[0]
			if *row[2] != k.text {
				t.Errorf("%s, %s: %q, want %q", kind.name, k.sqlType, *row[2], k.text)
			}
			var old []string
			if err := json.Unmarshal([]byte(*row[3]), &old); err != nil || len(old) != 1 || old[0] != k.text {
				t.Errorf("%s, %s: old keys %s (%v)", kind.name, k.sqlType, *row[3], err)
			}
			read := s.must(table.Read(0), k.text)
			if len(read) != 1 || *read[0][0] != k.text || *read[0][1] != `{"n":1}` {
				t.Errorf("%s, %s: read %v", kind.name, k.sqlType, read)
			}
		}
	}
}

// Two rows that share a key must show, so that neither is filled as if it were the only one.
func TestReadShowsASecondRow(t *testing.T) {
	d := newDatabase(t, keySamplesDDL, "CREATE TABLE twice (k ci, n int); INSERT INTO twice VALUES ('a', 1), ('A', 2), ('a', 3)")
	set := d.mustBind("table: \"@.twice\"\nkey: \"t:{k}\"\nstrategy: invalidate")
	if rows := d.open().must(set.Tables[0].Read(0), "a"); len(rows) != 2 || *rows[0][2] != "true" {
		t.Errorf("rows %v", rows)
	}
}

// A key that a row does not have must not be fenced as if it had, nor a shared one be left out.
func TestKeysOfARow(t *testing.T) {
	d := newDatabase(t, "CREATE TABLE u (id int PRIMARY KEY, email text UNIQUE, org int, team text)")
	set := d.mustBind(`
table: "@.u"
entries:
  - key: "u:{id}"
  - key: "e:{email}"
  - key: "p:{id}:{email}"
invalidate: ["o:{org}:u", "t:{team}:{org}"]
`)
	table := set.Tables[0]
	var names []string
	for _, k := range table.KeyColumns {
		names = append(names, k.Name)
	}
	if got := strings.Join(names, " "); got != "id email org team" {
		t.Fatalf("key columns %s", got)
	}
	text := func(s string) *string { return &s }
	for _, c := range []struct {
		values []*string
		want   string
	}{
		{[]*string{text("1"), text("a@b"), text("2"), text("x")}, "[u:1 e:a@b p:1:a@b] [o:2:u t:x:2]"},
		{[]*string{text("1"), nil, text("2"), nil}, "[u:1  ] [o:2:u]"},
		{[]*string{text("1"), text(""), nil, text("x")}, "[u:1 e:%00 p:1:%00] []"},
		{[]*string{text("1")}, "[u:1  ] []"},
	} {
		entries, shared := table.Keys(c.values)
		if got := fmt.Sprint(entries, shared); got != c.want {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
	if got, ok := table.ColumnType("team"); got != "pg_catalog.text" || !ok {
		t.Error(got, ok)
	}
	if _, ok := table.ColumnType("none"); ok {
		t.Error("a type for no column")
	}
}

// A reader of other columns, or of a changed table, must not take the entry for its own.
func TestSchemaOfAnEntry(t *testing.T) {
	d := newDatabase(t, "CREATE TYPE mood AS ENUM ('a', 'b'); CREATE DOMAIN m AS mood; CREATE TABLE u (id int PRIMARY KEY, m m, n numeric(9,2), other int)")
	schema := func(file string) string {
		return d.mustBind("table: \"@.u\"\nkey: \"u:{id}\"\n" + file).Tables[0].Entries[0].Schema
	}
	seen := map[string]string{}
	distinct := func(what, got string) {
		t.Helper()
		if len(got) != 8 || seen[got] != "" {
			t.Errorf("%s: schema %q, also of %s", what, got, seen[got])
		}
		seen[got] = what
	}
	kept := "columns: [id, m, n]"
	first := schema(kept)
	distinct("first", first)
	distinct("order", schema("columns: [m, id, n]"))
	distinct("rename", schema(kept+"\nrename: {m: mood}"))
	distinct("format", schema(kept+"\nformat: plain"))
	distinct("when", schema(kept+"\nwhen: n > 1"))
	d.exec("ALTER TABLE u ALTER other TYPE text")
	if schema(kept+"\nttl: 5m") != first {
		t.Error("a column that is not in the payload changes it, or the TTL does")
	}
	d.exec("ALTER TABLE u ALTER n TYPE numeric(9,3)")
	distinct("type", schema(kept))
	d.exec("ALTER TYPE mood RENAME VALUE 'b' TO 'c'")
	distinct("label", schema(kept))
}
