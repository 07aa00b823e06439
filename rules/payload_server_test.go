package rules

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// sessionKinds are sessions whose settings change the text of some type.
var sessionKinds = []struct {
	name     string
	settings []string
}{
	{"defaults", []string{"SET TimeZone = 'UTC'"}},
	{"zone", []string{"SET TimeZone = 'Asia/Kathmandu'"}},
	{"dates", []string{"SET DateStyle = 'German, DMY'", "SET TimeZone = 'America/New_York'"}},
	{"sql dates", []string{"SET DateStyle = 'SQL, MDY'"}},
	{"intervals", []string{"SET IntervalStyle = 'iso_8601'"}},
	{"floats", []string{"SET extra_float_digits = -3"}},
	{"bytes", []string{"SET bytea_output = 'escape'"}},
	{"strings", []string{"SET standard_conforming_strings = off"}},
	{"quotes", []string{"SET quote_all_identifiers = on", "SET xmlbinary = hex"}},
	{"no path", []string{"SET search_path = ''"}},
	{"shadowed", []string{"CREATE FUNCTION @.row_to_json(record) RETURNS json LANGUAGE plpgsql AS 'BEGIN RETURN ''{}''; END'",
		"CREATE FUNCTION @.btrim(text, text) RETURNS text LANGUAGE sql AS 'SELECT ''x''::text'", "CREATE DOMAIN @.text AS pg_catalog.text DEFAULT 'x'",
		"SET search_path = @, pg_catalog"}},
}

// sampleTypes are columns of every common type. settled means that the text is the same
// in every session; otherwise some sessions have no payload.
var sampleTypes = []struct {
	sqlType string
	values  []string // SQL expressions
	settled bool
}{
	{"bool", []string{"true"}, true},
	{"int2", []string{"-32768"}, true},
	{"int8", []string{"9223372036854775807"}, true},
	{"numeric", []string{"12345678901234567890.123450", "'NaN'", "'Infinity'"}, true},
	{"numeric(10,2)", []string{"1.5"}, true},
	{"text", []string{`E'a"b\\c\n\u00e9\u2028 ''x'''`, "''"}, true},
	{"varchar(20)", []string{"'x'"}, true},
	{"char(5)", []string{"'ab'"}, true},
	{`"char"`, []string{"'a'"}, true},
	{"name", []string{"'n'"}, true},
	{"uuid", []string{"'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'"}, true},
	{"bytea", []string{`decode(repeat('00ff', 60), 'hex')`, "''"}, true},
	{"date", []string{"'2024-02-29'", "'infinity'", "'0044-03-15 BC'"}, true},
	{"time", []string{"'04:05:06.789'"}, true},
	{"timetz", []string{"'04:05:06.789+05:45'"}, true},
	{"timestamp", []string{"'2024-02-29 04:05:06.7'", "'-infinity'", "'12024-01-01'"}, true},
	{"timestamptz", []string{"'2024-02-29 04:05:06.789012+02'", "'infinity'", "'-infinity'", "'0044-03-15 12:00:00+00 BC'",
		"'12024-01-01 00:00:00+00'", "'0001-01-01 00:00:00+00'", "'9999-12-31 23:59:59.999999+00'", "'10000-01-01 00:00:00+00'"}, true},
	{"json", []string{`'{"b": 1,  "a": "\u0000", "a": 2}'`}, true},
	{"jsonb", []string{`'{"b": 1, "a": [null, 1e3]}'`, "'null'"}, true},
	{"xml", []string{"'<a b=\"1\"/>'"}, true},
	{"inet", []string{"'10.0.0.1'", "'fe80::1/64'"}, true},
	{"cidr", []string{"'10.0.0.0/8'"}, true},
	{"macaddr", []string{"'08:00:2b:01:02:03'"}, true},
	{"bit(3)", []string{"B'101'"}, true},
	{"varbit", []string{"B'1011'"}, true},
	{"oid", []string{"4294967295"}, true},
	{"regclass", []string{"'pg_catalog.pg_class'"}, true},
	{"pg_lsn", []string{"'16/B374D848'"}, true},
	{"tsvector", []string{"'a:1 b:2'"}, true},
	{"int4[]", []string{"'{1,NULL,3}'", "'{{1,2},{3,4}}'", "'{}'"}, true},
	{"text[]", []string{`ARRAY['a,b', 'c"d', NULL]`}, true},
	{"date[]", []string{"'{2024-02-29}'"}, true},
	{"timestamp[]", []string{"'{2024-02-29 01:02:03}'"}, true},
	{"int4range", []string{"'[1,5)'"}, true},
	{"numrange", []string{"'(1.50,)'"}, true},
	{"int8multirange", []string{"'{[1,5),[7,9)}'"}, true},
	{"@.mood", []string{"'happy'"}, true},
	{"@.positive", []string{"7"}, true},
	{"@.moment", []string{"'2024-02-29 04:05:06+02'"}, true},
	{"@.pair", []string{"ROW(1, '2024-02-29')::@.pair"}, true},
	{"@.pair[]", []string{"ARRAY[ROW(1, '2024-02-29')::@.pair]"}, true},

	{"float4", []string{"3.4028235e38", "0.1"}, false},
	{"float8", []string{"0.1::float8 + 0.2::float8", "'NaN'", "'-Infinity'"}, false},
	{"float8[]", []string{"ARRAY[0.1::float8 + 0.2::float8]"}, false},
	{"point", []string{"point(0.1::float8 + 0.2::float8, 1)"}, false},
	{"interval", []string{"'1 year 2 days 03:04:05'"}, false},
	{"interval[]", []string{"'{1 year 2 days}'"}, false},
	{"timestamptz[]", []string{"'{2024-02-29 04:05:06+02}'"}, false},
	{"tsrange", []string{"'[2024-02-29 04:05:06,)'"}, false},
	{"tstzrange", []string{"'[2024-02-29 04:05:06+02,)'"}, false},
	{"tstzmultirange", []string{"'{[2024-02-29 04:05:06+02,)}'"}, false},
	{"daterange", []string{"'[2024-02-29,2024-03-05)'"}, false},
	{"daterange[]", []string{`'{"[2024-02-29,2024-03-05)"}'`}, false},
	{"bytea[]", []string{`ARRAY['\xff00'::bytea]`}, false},
	{"@.blob", []string{`ROW('\xff00', '2024-02-29 04:05:06+02', 0.1::float8 + 0.2::float8)::@.blob`}, false},
}

const sampleTypesDDL = `
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN moment AS timestamptz NOT NULL;
CREATE TYPE pair AS (a int, b date);
CREATE TYPE blob AS (b bytea, t timestamptz, f float8);`

// A session with unusual settings would write other bytes than a reader fills, and two
// services would see different rows under one key.
func TestPayloadIsTheSameBytesInEverySession(t *testing.T) {
	d := newDatabase(t, sampleTypesDDL)
	var files []string
	for i, s := range sampleTypes {
		d.exec(fmt.Sprintf("CREATE TABLE s%d (id int PRIMARY KEY, v %s)", i, s.sqlType))
		for j, v := range append(s.values, "NULL") {
			if v != "NULL" || !strings.Contains(s.sqlType, "moment") {
				d.exec(fmt.Sprintf("INSERT INTO s%d VALUES (%d, %s)", i, j, v))
			}
		}
		files = append(files, fmt.Sprintf("table: \"@.s%d\"\nkey: \"s%d:{id}\"\n", i, i))
	}
	set := d.mustBind(files...)
	want := make([]map[string]string, len(sampleTypes))
	for i := range want {
		want[i] = map[string]string{}
	}
	for _, kind := range sessionKinds {
		s := d.open(kind.settings...)
		for i, sample := range sampleTypes {
			table := set.Tables[tableIndex(t, set, fmt.Sprintf("s%d", i))]
			captured := s.must("UPDATE @." + table.Name.Table + " SET id = id RETURNING " + strings.Join(table.Capture(d.schema+"."+table.Name.Table, false, true), ", "))
			for _, row := range captured {
				id, payload := *row[2], row[3]
				read := s.must(table.Read(0), id)
				if len(read) == 1 && *read[0][2] != "true" {
					read[0][1] = nil // not to be stored
				}
				if len(read) != 1 || show(read[0][:2]) != show(row[2:]) {
					t.Fatalf("%s, %s: captured %s, read %v", kind.name, sample.sqlType, show(row[2:]), read)
				}
				switch {
				case payload == nil && (sample.settled || kind.name == "defaults"):
					t.Errorf("%s, %s: no payload", kind.name, sample.sqlType)
				case payload == nil:
					want[i]["absent"] = "yes"
				case want[i][id] == "":
					want[i][id] = *payload
				case want[i][id] != *payload:
					t.Errorf("%s, %s: %s, elsewhere %s", kind.name, sample.sqlType, *payload, want[i][id])
				}
				if payload != nil && !json.Valid([]byte(*payload)) {
					t.Errorf("%s, %s: no JSON: %s", kind.name, sample.sqlType, *payload)
				}
			}
		}
	}
	for i, sample := range sampleTypes {
		if !sample.settled && want[i]["absent"] == "" {
			t.Errorf("%s: no session's settings matter: it could be settled", sample.sqlType)
		}
	}
}

func tableIndex(t *testing.T, set *Set, name string) int {
	t.Helper()
	for i, table := range set.Tables {
		if table.Name.Table == name {
			return i
		}
	}
	t.Fatalf("no table %s", name)
	return 0
}
