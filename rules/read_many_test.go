package rules

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
)

// line is one line of ReadMany.
type line struct {
	cells    []*string // as Read gives them
	negative bool
}

// readMany reads keys, each a list of texts, and gives the lines of each.
func readMany(s *server, table *Table, entry int, keys ...[]string) [][]line {
	s.d.t.Helper()
	return readArrays(s, table, entry, len(keys), arrays(keys)...)
}

// arrays gives the parameters for some keys.
func arrays(keys [][]string) []any {
	args := make([]any, len(keys[0]))
	for column := range args {
		texts := make([]string, len(keys))
		for i, key := range keys {
			texts[i] = key[column]
		}
		args[column] = ArrayLiteral(texts)
	}
	return args
}

func readArrays(s *server, table *Table, entry, keys int, args ...any) [][]line {
	s.d.t.Helper()
	out := make([][]line, keys)
	for _, row := range s.must(table.ReadMany(entry), args...) {
		place, err := strconv.Atoi(*row[0])
		last := len(row) - 1
		if err != nil || place < 1 || place > keys || row[last-1] == nil || row[last] == nil {
			s.d.t.Fatalf("row %s of %d keys", show(row), keys)
		}
		out[place-1] = append(out[place-1], line{row[1:last], *row[last] == "true"})
	}
	return out
}

// outcome gives a key's lines in short: "row STORABLE", "none" or "none, may be stored".
func outcome(lines []line) string {
	var out []string
	for _, l := range lines {
		storable, standby := l.cells[len(l.cells)-2], l.cells[len(l.cells)-1]
		switch isNull := func(c *string) bool { return c == nil }; {
		case standby == nil:
			out = append(out, "standby unknown")
		case storable != nil && !l.negative:
			out = append(out, "row "+*storable)
		case slices.IndexFunc(l.cells, isNull) != 0 || slices.ContainsFunc(l.cells[:len(l.cells)-1], func(c *string) bool { return !isNull(c) }):
			out = append(out, "mixed "+show(l.cells))
		case l.negative:
			out = append(out, "none, may be stored")
		default:
			out = append(out, "none")
		}
	}
	return strings.Join(out, "; ")
}

func sameLine(l line, read []*string) bool { return show(l.cells) == show(read) && !l.negative }

// A key that is found by one read and not by the other, or with other bytes, would be
// cached differently by Get and by GetMany.
func TestReadManyGivesWhatReadGives(t *testing.T) {
	d := newDatabase(t, keySamplesDDL)
	var files []string
	for i, k := range keySamples {
		d.exec(fmt.Sprintf("CREATE TABLE k%02d (k %s, n int); INSERT INTO k%02d VALUES (%s, 1), (NULL, 2)", i, k.sqlType, i, k.value))
		d.exec(fmt.Sprintf("CREATE TABLE e%02d (LIKE k%02d)", i, i))
		for _, name := range []string{"k", "e"} {
			files = append(files, fmt.Sprintf("table: \"@.%s%02d\"\nkey: \"%s%02d:{k}\"\nstrategy: invalidate\ncolumns: [n]", name, i, name, i))
		}
	}
	set := d.mustBind(files...)
	for _, kind := range sessionKinds {
		s := d.open(kind.settings...)
		for i, k := range keySamples {
			full := set.Tables[tableIndex(t, set, fmt.Sprintf("k%02d", i))]
			read := s.must(full.Read(0), k.text)
			lines := readMany(s, full, 0, []string{k.text}, []string{k.text})
			if len(read) != 1 || len(lines[0]) != 1 || len(lines[1]) != 1 || !sameLine(lines[0][0], read[0]) || !sameLine(lines[1][0], read[0]) {
				t.Errorf("%s, %s: lines %v, read %v", kind.name, k.sqlType, lines, read)
			}
			empty := set.Tables[tableIndex(t, set, fmt.Sprintf("e%02d", i))]
			if got := outcome(readMany(s, empty, 0, []string{k.text})[0]); got != "none, may be stored" {
				t.Errorf("%s, %s without a row: %s", kind.name, k.sqlType, got)
			}
		}
	}
}

// "No such row" that is stored under another spelling of a key stays when an INSERT makes
// the key itself absent: readers would miss a row that is there.
func TestNoRowIsOnlyStoredUnderTheKeyOfAnInsert(t *testing.T) {
	d := newDatabase(t, keySamplesDDL)
	var files []string
	spellings := []struct{ sqlType, right, wrong string }{
		{"int2", "42", "042"}, {"int4", "-42", "-042"}, {"bigint", "42", " 42"}, {"int4", "42", "+42"}, {"@.positive", "42", "42 "},
		{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11"},
		{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}"},
		{"char(5)", "ab", "ab   "}, {"numeric", "1.5", "01.5"}, {"bool", "true", "t"}, {"bytea", `\x0aff`, `\x0AFF`}, {"inet", "10.0.0.1", "10.0.0.1/32"},
		{"date", "2024-02-29", "20240229"}, {"timestamp", "2024-02-29T04:05:06", "2024-02-29 04:05:06"},
		{"timestamptz", "2024-02-29T02:05:06Z", "2024-02-29T04:05:06+02"}, {`"char"`, "a", "ab"}, {"name", strings.Repeat("n", 63), strings.Repeat("n", 64)},
	}
	for i, s := range spellings {
		d.exec(fmt.Sprintf("CREATE TABLE k%02d (k %s)", i, s.sqlType))
		files = append(files, fmt.Sprintf("table: \"@.k%02d\"\nkey: \"k%02d:{k}\"\nstrategy: invalidate", i, i))
	}
	set, s := d.mustBind(files...), d.open()
	for i, c := range spellings {
		table := set.Tables[tableIndex(t, set, fmt.Sprintf("k%02d", i))]
		lines := readMany(s, table, 0, []string{c.wrong}, []string{c.right})
		if outcome(lines[0]) != "none" || outcome(lines[1]) != "none, may be stored" {
			t.Errorf("%s: %q is %s, %q is %s", c.sqlType, c.wrong, outcome(lines[0]), c.right, outcome(lines[1]))
		}
	}
}

// A row that a policy hides is there for others: they must not read that it does not exist.
func TestNoRowIsNotStoredUnderRowSecurity(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE secured (id int PRIMARY KEY); INSERT INTO secured VALUES (1);
CREATE POLICY nobody ON secured USING (false);
ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
CREATE ROLE "@"; GRANT USAGE ON SCHEMA @ TO "@"; GRANT SELECT ON secured TO "@"`)
	t.Cleanup(func() { d.exec(`DROP OWNED BY "@"; DROP ROLE "@"`) })
	table := d.mustBind("table: \"@.secured\"\nkey: \"s:{id}\"").Tables[0]
	s := d.open()
	for _, c := range []struct{ before, first, second string }{
		{"RESET ROLE", "row true", "none, may be stored"},
		{`SET ROLE "@"`, "none", "none"},
		{"SET row_security = off; RESET ROLE", "row true", "none, may be stored"},
	} {
		s.exec(c.before)
		lines := readMany(s, table, 0, []string{"1"}, []string{"2"})
		if outcome(lines[0]) != c.first || outcome(lines[1]) != c.second {
			t.Errorf("%s: %s, %s", c.before, outcome(lines[0]), outcome(lines[1]))
		}
	}
}

// A row that exists but must not be stored is neither a value for others nor the absence
// of a row, and a key that two rows share has to show here as it does in Read.
func TestReadManyTellsRowsApart(t *testing.T) {
	d := newDatabase(t, keySamplesDDL, "CREATE TABLE w (k ci, n int); INSERT INTO w VALUES ('a', 1), ('A', 1), ('a', 1), ('b', 1), ('c', 0), (NULL, 1)")
	table := d.mustBind("table: \"@.w\"\nkey: \"w:{k}\"\nstrategy: invalidate\nwhen: n > 0").Tables[0]
	s := d.open()
	lines := readMany(s, table, 0, []string{"c"}, []string{"a"}, []string{"d"}, []string{"B"}, []string{"NULL"}, []string{""})
	for i, want := range []string{"row false", "row true; row true", "none, may be stored", "row true", "none, may be stored", "none, may be stored"} {
		if got := outcome(lines[i]); got != want {
			t.Errorf("key %d: %s, want %s", i+1, got, want)
		}
	}
	if got := *lines[3][0].cells[0]; got != "b" {
		t.Errorf("B is a row of %q: the key would be filled with another one's row", got)
	}
	// ArrayLiteral makes no NULLs, but a caller may: they are keys of no row.
	for i, got := range readArrays(s, table, 0, 2, "{NULL,b}") {
		if want := []string{"none", "row true"}[i]; outcome(got) != want {
			t.Errorf("key %d with NULL: %s, want %s", i+1, outcome(got), want)
		}
	}
	if lines := s.must(table.ReadMany(0), ArrayLiteral(nil)); len(lines) != 0 {
		t.Errorf("no keys: %v", lines)
	}
}

// Keys of several columns are pairs of texts: one that is made of two other keys' parts
// is no key, and names that need quotes or mean something to the query are names.
func TestReadManyOfSeveralColumns(t *testing.T) {
	d := newDatabase(t, keySamplesDDL, `
CREATE TABLE "k" ("n" int, "Gr""oup" @.mood, "r" varchar(20), "k1" text, "found" int, "t" text, PRIMARY KEY ("n", "Gr""oup", "r")) PARTITION BY LIST ("n");
CREATE TABLE part1 PARTITION OF "k" FOR VALUES IN (1);
CREATE TABLE part2 PARTITION OF "k" FOR VALUES IN (2) PARTITION BY RANGE ("r");
CREATE TABLE part2a PARTITION OF part2 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
INSERT INTO "k" VALUES (1, 'it''s', 'a"\,{}', 'k1', 7, 't'), (2, 'x', 'b', NULL, NULL, NULL)`)
	table := d.mustBind(`
table: '@."k"'
key: 'k:{"r"}:{n}:{"Gr""oup"}'
when: 'k.n > 0 AND (found > 0 OR k1 IS NULL) AND "r" IS NOT NULL'
`).Tables[0]
	for _, first := range [][]string{nil, {"SET search_path = ''"}, {"SET plan_cache_mode = force_generic_plan"}} {
		s := d.open(first...)
		lines := readMany(s, table, 0, []string{`a"\,{}`, "1", "it's"}, []string{"b", "1", "it's"}, []string{"b", "2", "x"}, []string{"b", "3", "x"}, []string{"b", "02", "x"})
		for i, want := range []string{"row true", "none, may be stored", "row true", "none, may be stored", "row true"} {
			if got := outcome(lines[i]); got != want {
				t.Errorf("%v, key %d: %s, want %s", first, i+1, got, want)
			}
		}
		want := `a"\,{} | 1 | it's | {"n":1,"Gr\"oup":"it's","r":"a\"\\,{}","k1":"k1","found":7,"t":"t"} | true | false`
		if got := show(lines[0][0].cells); got != want {
			t.Errorf("%v: %s, want %s", first, got, want)
		}
	}
}

// Whoever may create objects in some schema of the search_path must not decide which rows
// others read.
func TestReadManyIsNotMisledBySearchPath(t *testing.T) {
	d := newDatabase(t, keySamplesDDL, `CREATE TABLE p (id int, name text, m @.mood, at timestamptz, u uuid, PRIMARY KEY (id, name, m, at, u));
INSERT INTO p VALUES (1, 'a', 'x', '2024-02-29 04:05:06Z', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11')`,
		`CREATE SCHEMA "@_evil"`,
		`CREATE FUNCTION "@_evil".no(int, int) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false'`,
		`CREATE FUNCTION "@_evil".no(text, text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false'`,
		`CREATE FUNCTION "@_evil".no(timestamptz, timestamptz) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT false'`,
		`CREATE OPERATOR "@_evil".= (LEFTARG = int, RIGHTARG = int, FUNCTION = "@_evil".no)`,
		`CREATE OPERATOR "@_evil".= (LEFTARG = text, RIGHTARG = text, FUNCTION = "@_evil".no)`,
		`CREATE OPERATOR "@_evil".= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = "@_evil".no)`,
		`CREATE FUNCTION "@_evil".unnest(text[]) RETURNS SETOF text LANGUAGE sql AS 'SELECT ''9''::text'`,
		`CREATE FUNCTION "@_evil".row_security_active(text) RETURNS bool LANGUAGE sql AS 'SELECT true'`,
		`CREATE FUNCTION "@_evil".pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT true'`,
		`CREATE DOMAIN "@_evil".text AS pg_catalog.int4`, `CREATE DOMAIN "@_evil".mood AS pg_catalog.int4`,
		`CREATE COLLATION "@_evil"."C" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`)
	t.Cleanup(func() { d.exec(`DROP SCHEMA "@_evil" CASCADE`) })
	table := d.mustBind("table: \"@.p\"\nkey: \"p:{id}:{name}:{m}:{at}:{u}\"").Tables[0]
	s := d.open(`SET search_path = "@_evil", @, pg_catalog`)
	const at, uid = "2024-02-29T04:05:06Z", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
	lines := readMany(s, table, 0, []string{"1", "a", "x", at, uid}, []string{"2", "a", "x", at, uid}, []string{"2", "a", "x", at, strings.ToUpper(uid)})
	for i, want := range []string{"row true", "none, may be stored", "none"} {
		if got := outcome(lines[i]); got != want || *lines[i][0].cells[7] != "false" {
			t.Errorf("key %d: %s, want %s; cells %s", i+1, got, want, show(lines[i][0].cells))
		}
	}
}

// arrayModes are the two ways in which a parameter's text reaches the server.
var arrayModes = map[string][]any{"a parameter of its own": nil, "a literal in the text": {pgx.QueryExecModeSimpleProtocol}}

// A text that comes out of the array as another one is another row's key.
func FuzzArrayLiteral(f *testing.F) {
	for _, text := range []string{"", "a", `"`, `\`, `\"`, `{}`, "NULL", " ", "\t\n\r\v\f", ",", "a,b", `{"a"}`, "'", "ключ", "\u00a0", "$1", "--", "/*", `\x00`, "\x00", "a\x00b", "\xff", "\xed\xa0\x80"} {
		f.Add(text, "b", uint8(2))
		f.Add("NULL", text, uint8(3))
		f.Add(text, text, uint8(1))
	}
	s := fuzzServer(f)
	f.Fuzz(func(t *testing.T, a, b string, count uint8) {
		texts := []string{a, b, b + a}[:count%4]
		for mode, first := range arrayModes {
			rows, err := s.ask("SELECT x FROM pg_catalog.unnest($1::pg_catalog.text::pg_catalog.text[]) WITH ORDINALITY AS u(x, n) ORDER BY n", append(slices.Clone(first), ArrayLiteral(texts))...)
			if !slices.ContainsFunc(texts, unstorable) {
				got := make([]string, len(rows))
				for i, row := range rows {
					got[i] = show(row)
				}
				if err != nil || !slices.Equal(got, texts) {
					t.Errorf("%s: %q is read as %q (%v)", mode, texts, got, err)
				}
				continue
			}
			if err == nil {
				t.Errorf("%s: %q is taken for %v", mode, texts, rows)
			}
		}
	})
}

// unstorable says that no Postgres text can be the string.
func unstorable(text string) bool { return !utf8.ValidString(text) || strings.Contains(text, "\x00") }

func fuzzServer(f *testing.F) *server {
	db, err := sql.Open("pgx", testenv.Postgres(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { db.Close() })
	conn, err := db.Conn(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { conn.Close() })
	return &server{conn: conn}
}
