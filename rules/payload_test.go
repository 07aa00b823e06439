package rules

import (
	"fmt"
	"strings"
	"testing"
)

// capture writes through a statement and gives the captured cells of its rows.
func capture(s *server, table *Table, statement, ref string) [][]*string {
	s.d.t.Helper()
	return s.must(statement + " RETURNING " + strings.Join(table.Capture(s.d.here(ref), false, true), ", "))
}

// People and structs read payloads: a format that shifts breaks their decoders.
func TestPayloadForms(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE forms (id bigint PRIMARY KEY, at timestamptz, bin bytea, f float8, n numeric, note text,
		doc jsonb, tags text[], total numeric GENERATED ALWAYS AS (n * 2) STORED, gone int, secret text)`,
		"ALTER TABLE forms DROP COLUMN gone")
	set := d.mustBind(`
table: "@.forms"
entries:
  - key: "f:{id}"
    omit: [secret]
    rename: {at: createdAt, note: "the \"note\""}
  - name: short
    key: "s:{id}"
    columns: [note, id]
`)
	s := d.open("SET TimeZone = 'Asia/Tokyo'")
	for _, c := range []struct{ values, full, short string }{
		{`1, '2024-05-06 07:08:09.5+02', '\x` + strings.Repeat("ff", 60) + `', 'NaN', 1.50, E'a\tb', '{"b":1}', '{x}'`,
			`{"id":1,"createdAt":"2024-05-06T05:08:09.5Z","bin":"` + strings.Repeat("////", 20) + `","f":"NaN","n":1.50,"the \"note\"":"a\tb","doc":{"b": 1},"tags":["x"],"total":3.00}`,
			`{"note":"a\tb","id":1}`},
		{`2, 'infinity', '', '-Infinity', 'NaN', '', 'null', '{}'`,
			`{"id":2,"createdAt":"infinity","bin":"","f":"-Infinity","n":"NaN","the \"note\"":"","doc":null,"tags":[],"total":"NaN"}`,
			`{"note":"","id":2}`},
		{`3, '0044-03-15 00:00:00+00 BC', NULL, 0.1, NULL, NULL, NULL, NULL`,
			`{"id":3,"createdAt":"0044-03-15T00:00:00 BC","bin":null,"f":0.1,"n":null,"the \"note\"":null,"doc":null,"tags":null,"total":null}`,
			`{"note":null,"id":3}`},
	} {
		row := capture(s, set.Tables[0], "INSERT INTO forms (id, at, bin, f, n, note, doc, tags) VALUES ("+c.values+")", "forms")[0]
		if *row[3] != c.full || *row[4] != c.short {
			t.Errorf("captured\n%s\n%s, want\n%s\n%s", *row[3], *row[4], c.full, c.short)
		}
	}
}

// A name that means something to SQL, or that a statement uses too, must not change
// which value is stored.
func TestPayloadOfAwkwardNames(t *testing.T) {
	d := newDatabase(t, `CREATE TABLE "user" ("select" int PRIMARY KEY, q text, t text, r text, row_to_json text, "user" text, "Mixed Case" text,
		"a""b" text, "back\slash" text, "ключ" text, "where" boolean)`, `CREATE TABLE other ("select" int, q text, t text, "where" boolean, "user" text)`,
		`INSERT INTO other VALUES (1, 'wrong', 'wrong', false, 'wrong')`)
	set := d.mustBind(`
table: '@."user"'
key: 'u:{"select"}'
when: '"where" -- the row''s own'
`)
	table, s := set.Tables[0], d.open()
	s.exec(`INSERT INTO "user" VALUES (1, 'q1', 't1', 'r1', 'j1', 'u1', 'm1', 'ab1', 'bs1', 'k1', true)`)
	want := `{"select":1,"q":"q1","t":"t1","r":"r1","row_to_json":"j1","user":"u1","Mixed Case":"m1","a\"b":"ab1","back\\slash":"bs1","ключ":"k1","where":true}`
	for _, ref := range []string{`q`, `t`, `r`, `"user"`, `"Mixed Case"`, `other_name`} {
		alias := " AS " + ref
		for _, statement := range []string{
			`UPDATE "user"` + alias + ` SET q = ` + ref + `.q FROM other AS o WHERE o."select" = ` + ref + `."select"`,
			`UPDATE "user"` + alias + ` SET q = ` + ref + `.q FROM (SELECT 'wrong' AS q, 'wrong' AS row_to_json, 'wrong' AS "user", false AS "where") AS o`,
		} {
			rows := capture(s, table, statement, ref)
			if len(rows) != 1 || rows[0][3] == nil || *rows[0][3] != want {
				t.Fatalf("%s: %s", statement, show(rows[0]))
			}
		}
	}
	if read := s.must(table.Read(0), "1"); *read[0][1] != want {
		t.Errorf("read %s", show(read[0]))
	}
	if row := capture(s, table, `INSERT INTO @."user" ("select", "where") VALUES (1, true) ON CONFLICT ("select") DO UPDATE SET q = EXCLUDED."user"`, `@."user"`)[0]; row[3] == nil {
		t.Error("no payload for an upsert")
	}
}

// Tables wider than a function's argument list must be cached whole.
func TestPayloadOfWideTables(t *testing.T) {
	for _, width := range []int{51, 101, 700} {
		columns := make([]string, width)
		for i := range columns {
			columns[i] = fmt.Sprintf("c%d int DEFAULT %d", i, i)
		}
		d := newDatabase(t, "CREATE TABLE wide (id int PRIMARY KEY, "+strings.Join(columns, ", ")+")")
		set := d.mustBind("table: \"@.wide\"\nkey: \"w:{id}\"\nwhen: c0 = 0\n")
		row := capture(d.open(), set.Tables[0], "INSERT INTO wide (id) VALUES (1)", "wide")[0]
		if row[3] == nil || !strings.HasSuffix(*row[3], fmt.Sprintf(`,"c%d":%d}`, width-1, width-1)) {
			t.Errorf("%d columns: %s", width, show(row[3:]))
		}
	}
}

// A `when` decides what may be in the cache: a condition that reads something else than
// the row leaves rows there that the rule forbids.
func TestPayloadWhen(t *testing.T) {
	for _, c := range []struct {
		when string
		want bool
	}{
		{"deleted IS NULL", true},
		{"w.deleted IS NULL AND n > 4", true},
		{"deleted IS NULL AND n > 5", false},
		{"n > 5 OR n < 3 /* a comment */ -- and another", false},
		{"NULL", false},
		{"w IS NOT NULL", false},
		{"U&\"n\" = 5", true},
		{"note = '(;$1 --'", true},
		{"note = $x$(;$1 --$x$", true},
		{"note LIKE E'(%\\'' OR n = 5", true},
		{`"N" = 5`, false},
	} {
		t.Run(c.when, func(t *testing.T) {
			d := newDatabase(t, `CREATE TABLE w (id int PRIMARY KEY, n int, "N" int, note text, deleted timestamptz, other text)`)
			set := d.mustBind(fmt.Sprintf("table: \"@.w\"\nkey: \"w:{id}\"\ncolumns: [id]\nwhen: %q\n", c.when))
			s := d.open()
			for _, ref := range []string{"w", "other_name"} {
				s.exec("DELETE FROM w")
				row := capture(s, set.Tables[0], "INSERT INTO w AS "+ref+" VALUES (1, 5, 6, '(;$1 --')", ref)[0]
				if (row[3] != nil) != c.want {
					t.Errorf("captured %s", show(row[3:]))
				}
			}
			if read := s.must(set.Tables[0].Read(0), "1"); len(read) != 1 || (*read[0][2] == "true") != c.want {
				t.Errorf("read %v", read)
			}
		})
	}
}

// A version that cannot be compared as text would let an old row win.
func TestParseVersion(t *testing.T) {
	for captured, want := range map[string]struct {
		version string
		xid     uint64
	}{
		"0000000116/B374D848":                   {"0000000100000016b374d848", 0},
		"000000010/0:3":                         {"000000010000000000000000", 3},
		"000000010/16B3748:9223372036854775807": {"0000000100000000016b3748", 1<<63 - 1},
		"FFFFFFFFFFFFFFFF/FFFFFFFF:4294967300":  {"ffffffffffffffffffffffff", 4294967300},
	} {
		if got, xid, err := ParseVersion(captured); got != want.version || xid != want.xid || err != nil {
			t.Errorf("%s: %s of %d, %v", captured, got, xid, err)
		}
	}
	for _, bad := range []string{
		"", "00000001", "0000000116B374D848", "0000000116/", "00000001/5", "0000000Z0/0", "000000010/123456789", "00000001+1/5", "000000011/2/3",
		"000000010/0:", "000000010/0:x", "000000010/0:-1", "000000010/0:1:2", "000000010/0:9223372036854775808", ":1", "00000001:1",
	} {
		if got, xid, err := ParseVersion(bad); err == nil {
			t.Errorf("%q: %s of %d", bad, got, xid)
		}
	}
}

// What is captured names the transaction that COMMIT will commit, also where a savepoint has
// given the row's own change another number: asked about that one, the server would answer
// for a part alone.
func TestCapturedTransaction(t *testing.T) {
	d := newDatabase(t, "CREATE TABLE x (id int PRIMARY KEY, n int)", "INSERT INTO x VALUES (1, 0)",
		"CREATE VIEW xv AS SELECT * FROM x")
	set := d.mustBind("table: \"@.x\"\nvia: [\"@.xv\"]\nkey: \"x:{id}\"\n")
	s := d.open()
	for _, around := range []struct{ before, after string }{
		{"BEGIN", "COMMIT"}, {"BEGIN; SAVEPOINT a", "COMMIT"}, {"BEGIN; SAVEPOINT a; UPDATE x SET n = 9; ROLLBACK TO a; SAVEPOINT b", "ROLLBACK"},
	} {
		for _, target := range []string{"x", "xv"} {
			for _, text := range strings.Split(around.before, ";") {
				s.exec(text)
			}
			row := s.must("UPDATE " + target + " SET n = n + 1 RETURNING " + strings.Join(set.Tables[0].Capture(target, target == "xv", true), ", "))[0]
			_, xid, err := ParseVersion(*row[0])
			want := *s.must("SELECT txid_current()::text")[0][0]
			if err != nil || fmt.Sprint(xid) != want {
				t.Errorf("%s, through %s: captured %d, %v; the transaction is %s", around.before, target, xid, err, want)
			}
			s.exec(around.after)
		}
	}
}

// Versions that did not rise with the row's changes would let an old row win.
func TestCapturedVersionsRise(t *testing.T) {
	d := newDatabase(t, "CREATE TABLE v (id int PRIMARY KEY, n int)", "INSERT INTO v VALUES (1, 0)")
	set := d.mustBind("table: \"@.v\"\nkey: \"v:{id}\"\n")
	s, last := d.open(), ""
	for range 20 {
		version, _, err := ParseVersion(*capture(s, set.Tables[0], "UPDATE v SET n = n + 1", "v")[0][0])
		if err != nil {
			t.Fatal(err)
		}
		if version <= last {
			t.Fatalf("%s after %s", version, last)
		}
		last = version
	}
}
