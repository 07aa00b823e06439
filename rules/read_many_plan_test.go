package rules

import (
	"fmt"
	"strings"
	"testing"
)

// largeDDL makes tables of 100,000 rows with keys of the types whose comparison with a
// text parameter could keep an index from being used.
const largeDDL = `
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN nick AS varchar(40);
CREATE TABLE large (id bigint PRIMARY KEY, email text UNIQUE, nick nick UNIQUE, code char(8) UNIQUE, uid uuid UNIQUE, amount numeric(12,2) UNIQUE,
	at timestamptz UNIQUE, bin bytea UNIQUE, ip inet UNIQUE, day date, mood mood, shared int, UNIQUE (day, mood));
INSERT INTO large SELECT i, 'u' || i || '@example.com', 'n' || i, 'c' || i, md5(i::text)::uuid, i / 100.0, 'epoch'::timestamptz + i * interval '1 second',
	decode(md5(i::text), 'hex'), '10.0.0.0'::inet + i, '2000-01-01'::date + i / 2, CASE WHEN i % 2 = 0 THEN 'sad'::mood ELSE 'happy' END, i / 5
FROM generate_series(1, 100000) i;
CREATE INDEX ON large (shared);
CREATE TABLE parted (id int, region int, note text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES IN (2);
INSERT INTO parted SELECT i, i % 2 + 1, 'n' FROM generate_series(1, 100000) i;`

// A read of 100 keys that walks the table once for each key takes a minute instead of a
// millisecond, and only once the table has grown.
func TestReadManyUsesTheIndexForEachKey(t *testing.T) {
	d := newDatabase(t, largeDDL)
	var rule strings.Builder
	rule.WriteString("table: \"@.large\"\nentries:\n")
	large := [][]string{{"id"}, {"email"}, {"nick"}, {"code"}, {"uid"}, {"amount"}, {"at"}, {"bin"}, {"ip"}, {"mood", "day"}, {"shared"}}
	for _, columns := range large {
		fmt.Fprintf(&rule, "  - {key: \"%s:{%s}\", strategy: invalidate, columns: [id, email, at], when: \"email <> ''\"}\n", strings.Join(columns, "_"), strings.Join(columns, "}:{"))
	}
	set := d.mustBind(rule.String(), "table: \"@.parted\"\nkey: \"p:{id}:{region}\"")
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			d.exec("ANALYZE large")
			d.exec("ANALYZE parted")
		}
		for _, mode := range []string{"auto", "force_custom_plan", "force_generic_plan"} {
			s := d.open("SET plan_cache_mode = " + mode)
			for i, columns := range append(large, []string{"id", "region"}) {
				table, entry := set.Tables[0], i
				if i == len(large) {
					table, entry = set.Tables[1], 0
				}
				checkPlan(t, s, table, entry, fmt.Sprintf("%s, analyzed %v, key %v", mode, analyzed, columns), sampleKeys(s, table, entry, columns))
			}
		}
	}
}

// sampleKeys gives the key texts of 100 rows, as the parameters of ReadMany.
func sampleKeys(s *server, table *Table, entry int, columns []string) []any {
	s.d.t.Helper()
	keys := make([][]string, 0, 100)
	texts := make([]string, len(columns))
	for i, c := range columns {
		texts[i] = keyText(*table.keyColumn(c), "t")
	}
	for _, row := range s.must("SELECT " + strings.Join(texts, ", ") + " FROM " + sqlName(table.Name) + " AS t ORDER BY id LIMIT 100 OFFSET 50000") {
		key := make([]string, len(row))
		for i, c := range row {
			key[i] = *c
		}
		keys = append(keys, key)
	}
	return arrays(keys)
}

func checkPlan(t *testing.T, s *server, table *Table, entry int, what string, args []any) {
	t.Helper()
	s.exec("PREPARE many AS " + table.ReadMany(entry))
	literals := make([]string, len(args))
	for i, a := range args {
		literals[i] = sqlString(a.(string))
	}
	var plan []string
	for _, row := range s.must("EXPLAIN (COSTS OFF) EXECUTE many(" + strings.Join(literals, ", ") + ")") {
		plan = append(plan, *row[0])
	}
	s.exec("DEALLOCATE many")
	text := strings.Join(plan, "\n")
	if strings.Contains(text, "Seq Scan") || !strings.Contains(text, "Index Cond: ") {
		t.Errorf("%s:\n%s", what, text)
	}
	lines := s.must(table.ReadMany(entry), args...)
	if len(lines) < 100 {
		t.Errorf("%s: %d lines for 100 keys", what, len(lines))
	}
	for _, row := range lines {
		if row[1] == nil {
			t.Errorf("%s: no row for key %s", what, *row[0])
		}
	}
}
