package rules

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// "No such row" that a later INSERT cannot find would hide the row until the entry's end.
// It is cached only for keys with one text for each value, and its lack elsewhere is said.
func TestNegativeOfAnEntry(t *testing.T) {
	d := newDatabase(t, keySamplesDDL, `CREATE TABLE n (id bigint PRIMARY KEY, uid uuid UNIQUE, email text UNIQUE, nick nick UNIQUE, handle ci, amount numeric UNIQUE,
	code char(5) UNIQUE, day date UNIQUE, loose text COLLATE loose UNIQUE)`)
	const entries = `
table: "@.n"
entries:
  - key: "i:{id}"
  - key: "u:{uid}"
  - key: "e:{email}:{id}"
  - key: "n:{nick}"
  - {key: "h:{handle}", strategy: invalidate}
  - key: "a:{amount}"
  - key: "c:{id}:{code}"
  - key: "d:{day}:{amount}"
  - key: "l:{loose}"
`
	set, errs, warnings := d.bind(entries + "negative_ttl: 5s\n")
	if len(errs) > 0 {
		t.Fatal(joined(errs))
	}
	for i, want := range []time.Duration{5 * time.Second, 5 * time.Second, 5 * time.Second, 5 * time.Second, 0, 0, 0, 0, 0} {
		if e := set.Tables[0].Entries[i]; e.Negative != want {
			t.Errorf("%s: %s, want %s", e.Name, e.Negative, want)
		}
	}
	got := joined(warnings)
	for _, want := range []string{
		`rule0.yaml:13:15: no such row is not cached for entry "by_handle": a value of column "handle" (ci) can be written as several texts`,
		`for entry "by_amount": a value of column "amount" (numeric) can`,
		`for entry "by_id_code": a value of column "code" (bpchar) can`,
		`for entry "by_day_amount": a value of column "day" (date) and "amount" (numeric) can`,
		`for entry "by_loose": a value of column "loose" (text) can`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no warning %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "by_id\"") || strings.Contains(got, "by_uid") || strings.Contains(got, "by_email") || strings.Contains(got, "by_nick") {
		t.Errorf("warned of an entry that can have it:\n%s", got)
	}
	set, _, warnings = d.bind(entries)
	if strings.Contains(joined(warnings), "no such row") || set.Tables[0].Entries[0].Negative != 0 {
		t.Errorf("a rule without negative_ttl: %s, warnings\n%s", set.Tables[0].Entries[0].Negative, joined(warnings))
	}
}

// A reader decodes a payload's values by their types: bytes that are taken for text, or a
// time for a date, come out as other values than the row's.
func TestPayloadTypes(t *testing.T) {
	d := newDatabase(t, `CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN later AS moment; CREATE DOMAIN tags AS text[]; CREATE TYPE mood AS ENUM ('a');
CREATE TYPE pair AS (a int, b int);
CREATE TABLE p (id bigint PRIMARY KEY, gone int, at later, ts timestamp, day date, bin bytea, n numeric(9,2), doc jsonb, tags tags, list int[], m mood, two pair,
	"Name" varchar(5), code char(3), klass regclass, secret text)`, "ALTER TABLE p DROP COLUMN gone")
	set := d.mustBind("table: \"@.p\"\nentries:\n  - key: \"p:{id}\"\n    omit: [secret]\n    rename: {day: at, at: day, n: \"the n\"}\n  - {name: short, key: \"s:{id}\", columns: [list, id]}\n")
	e := set.Tables[0].Entries[0]
	want := []string{"id int8", "day timestamptz", "ts timestamp", "at date", "bin bytea", "the n numeric", "doc jsonb", "tags _text", "list _int4", "m mood", "two pair",
		"Name varchar", "code bpchar", "klass regclass"}
	var got []string
	for _, name := range e.PayloadNames() {
		typname, ok := e.PayloadType(name)
		if !ok {
			t.Errorf("%s has no type", name)
		}
		got = append(got, name+" "+typname)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, name := range []string{"secret", "n", "gone", "name", "NAME", ""} {
		if typname, ok := e.PayloadType(name); ok || typname != "" {
			t.Errorf("%q is no name of the payload, but has type %q", name, typname)
		}
	}
	if got := set.Tables[0].Entries[1].PayloadNames(); !slices.Equal(got, []string{"list", "id"}) {
		t.Errorf("short: %q", got)
	}
}
