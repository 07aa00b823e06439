package parser

import (
	"fmt"
	"strings"
	"testing"
)

// A write that is missed in a function's body is a blind spot that nobody is told of; one that is read into a comment or into
// FOR UPDATE is a false alarm.
func TestReadBody(t *testing.T) {
	for body, want := range map[string]string{
		"BEGIN\n INSERT INTO s.\"T a\" VALUES (1) RETURNING id INTO v; END":                 "2 INSERT s.T a",
		"UPDATE ONLY t AS x SET a = f(1, 2), b = 2 FROM u WHERE x.id = u.id":                "1 UPDATE t(a,b)",
		"UPDATE t SET (a, b) = (1, 2)":                                                      "1 UPDATE t",
		"INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET n = 1":                     "1 INSERT t(n) upsert",
		"DELETE FROM ONLY T USING u; MERGE INTO m USING u ON true WHEN MATCHED THEN DELETE": "1 DELETE t, 1 MERGE m mixed",
		"TRUNCATE TABLE a, s.b CASCADE; DROP TABLE IF EXISTS c":                             "1 TRUNCATE a, 1 TRUNCATE s.b, 1 DROP c",
		"ALTER TABLE t DETACH PARTITION p; ALTER TABLE u ADD x int":                         "1 ALTER t",
		"SELECT 1 FROM t FOR UPDATE; PERFORM 1 FROM t FOR NO KEY UPDATE OF t":               "",
		"-- DELETE FROM t\n/* UPDATE t SET x = 1 */ v := 'DELETE FROM t';":                  "",
		"EXECUTE 'UPDATE t SET x = ' || v":                                                  "1 UPDATE t dynamic",
		"EXECUTE $q$\nDELETE FROM t$q$":                                                     "2 DELETE t dynamic",
		"EXECUTE format('DELETE FROM %I', v)":                                               "unknown",
		"EXECUTE 'INSERT INTO ' || v || ' VALUES (1)'":                                      "unknown",
		"EXECUTE v":                 "unknown",
		"EXECUTE 'SELECT 1 FROM t'": "",
		"CREATE TRIGGER x BEFORE UPDATE ON t EXECUTE FUNCTION f(); GRANT EXECUTE ON FUNCTION f() TO u": "",
		"COPY t (a, b) FROM '/tmp/x'; COPY t TO STDOUT":                                                "1 COPY t",
		"'": "",
	} {
		if got := shown(ReadBody(body, false)); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", body, got, want)
		}
	}
	for body, want := range map[string]string{
		"SELECT 1;\n-- x\nWITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d": "3 DELETE t mixed",
		"BEGIN ATOMIC\n UPDATE s.t SET a = 1;\nEND":                              "2 UPDATE s.t(a)",
		"RETURN (SELECT max(update) FROM t)":                                     "",
		"MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE RETURNING *":      "1 MERGE t mixed",
	} {
		if got := shown(ReadSQLBody(body)); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", body, got, want)
		}
	}
}

func shown(b *Body) string {
	var all []string
	for _, w := range b.Writes {
		text := fmt.Sprintf("%d %s ", w.Line, w.Verb)
		if w.Relation.Schema != "" {
			text += w.Relation.Schema + "."
		}
		text += w.Relation.Name
		if len(w.Assigned) > 0 {
			text += "(" + strings.Join(w.Assigned, ",") + ")"
		}
		for word, is := range map[string]bool{" dynamic": w.Dynamic, " upsert": w.Upsert, " mixed": w.Mixed} {
			if is {
				text += word
			}
		}
		all = append(all, text)
	}
	if b.Unknown {
		all = append(all, "unknown")
	}
	return strings.Join(all, ", ")
}

// What is cut wrongly out of a dump stops the check with an error that its user cannot mend.
func TestSplitScript(t *testing.T) {
	script := "-- c\n\\restrict x\nSET a = 1;\nCREATE FUNCTION f() RETURNS int AS $$\n\\connect; x\n$$ LANGUAGE sql;\n" +
		"COPY t (a,\n b) FROM stdin;\n1\t'; \\N\n\\.\n\nCREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END;\nSELECT 1"
	var got []string
	for _, s := range SplitScript(script) {
		got = append(got, fmt.Sprintf("%d %s copy=%v", s.Line, strings.Join(strings.Fields(s.Text), " "), s.Copy))
	}
	want := []string{
		"3 SET a = 1 copy=false", "4 CREATE FUNCTION f() RETURNS int AS $$ \\connect; x $$ LANGUAGE sql copy=false",
		"7 COPY t (a, b) FROM stdin copy=true", "12 CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END copy=false", "13 SELECT 1 copy=false",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// A body is whatever somebody has stored in a database: none may stop the check.
func FuzzReadBody(f *testing.F) {
	f.Add("BEGIN EXECUTE $a$UPDATE t SET $$x$$ = '$a$; END")
	f.Add("BEGIN ATOMIC END")
	f.Add("\"")
	f.Fuzz(func(_ *testing.T, text string) {
		ReadBody(text, true)
		ReadSQLBody(text)
		SplitScript(text)
	})
}
