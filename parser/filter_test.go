package parser

import (
	"slices"
	"strings"
	"testing"
)

// Without it every SELECT of the program would be parsed.
func TestMayTouchLetsReadsPass(t *testing.T) {
	f := NewFilter([]string{"users", "Odd Name", "größe"})
	for _, sql := range []string{
		"",
		" ; ",
		"SELECT 1",
		"SELECT * FROM orders WHERE id = $1",
		"SELECT * FROM orders WHERE id = $1 ;\n",
		"  /* trace /* nested */ */ -- line\n ((SELECT a FROM b))",
		"WITH x AS (SELECT 1) SELECT * FROM x",
		"UPDATE orders SET user_id = 1 WHERE users_count = 2",
		"INSERT INTO superusers (id) VALUES (1)",
		`SELECT "odd" "Odd Named" FROM userss`,
		"SELECT * FROM user$users",
		"SELECT U & V",
		"VALUES (1)", "TABLE orders", "SHOW search_path", "FETCH c", "COPY orders FROM STDIN",
		"SELECT grösse",
	} {
		if f.MayTouch(sql) {
			t.Errorf("parses without need: %s", sql)
		}
	}
}

// Without it a write of a ruled table, or the end of a transaction, passes unseen.
func TestMayTouchStopsAtEveryReason(t *testing.T) {
	long := strings.Repeat("x", 63)
	f := NewFilter([]string{"users", "Users", "Odd Name", `quo"ted`, "größe", "2fa", "a$b", long, "MiXed"})
	for _, sql := range []string{
		"UPDATE users SET a = 1",
		"update USERS set a = 1",
		`UPDATE "users" SET a = 1`,
		"UPDATE public.users SET a = 1",
		"DELETE FROM ONLY(users)",
		`UPDATE"Users"SET a = 1`,
		`DELETE FROM "Odd Name"`,
		`DELETE FROM s."Odd Name"`,
		`DELETE FROM "quo""ted"`,
		`SELECT 5 AS "in "" ches", '6"'; DELETE FROM "Odd Name"`,
		`UPDATE x SET y = '5"' FROM z WHERE "Odd Name".a = 1`,
		"DELETE FROM größe", "DELETE FROM GRÖßE",
		`DELETE FROM "2fa"`, "DELETE FROM a$b", `DELETE FROM "MiXed"`,
		"DELETE FROM " + long + "yyy",
		`DELETE FROM "` + long + `yyy"`,
		`DELETE FROM U&"\0075sers"`,
		`delete from u&"!0075sers" uescape '!'`,
		"WITH x AS (DELETE FROM users) SELECT 1",
		"SELECT 1; COMMIT",
		"SELECT 1 -- ;\n;DELETE FROM x",
		"BEGIN", " /* c */ commit", "--\nROLLBACK", "END", "ABORT", "START TRANSACTION", "SAVEPOINT a", "RELEASE a",
		"PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE ALL", "SET x = 1", "RESET ALL", "DISCARD ALL",
		"TRUNCATE x", "DROP TABLE x", "DO $$ $$", "CALL p()", "CREATE TABLE x ()", "ALTER TABLE x RENAME TO y",
		"EXPLAIN ANALYZE EXECUTE p", "IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c", "REASSIGN OWNED BY a TO b", "REFRESH MATERIALIZED VIEW x",
		"SELECT set_config('role', 'x', false)", `SELECT pg_catalog."set_config"('a.b', 'c', true)`, "SELECT SET_CONFIG('a.b', 'c', true)",
		"\ufeffSELECT 1", "/* unterminated SELECT 1", "?", "SELECT 1\x00", "ROLLBACK/**/", "(((COMMIT", "FROBNICATE users",
	} {
		if !f.MayTouch(sql) {
			t.Errorf("passes: %q", sql)
		}
	}
}

// Without it an unparsable text, or a DO block, would leave stale entries of a
// table that it names in an unusual way.
func TestMentions(t *testing.T) {
	f := NewFilter([]string{"users", "orders", "Odd Name", "users"})
	for sql, want := range map[string][]string{
		"MERGE INTO users USING orders … RETURNING *": {"users", "orders"},
		`frob "Odd Name", USERS`:                      {"users", "Odd Name"},
		"BEGIN EXECUTE 'delete from orders'; END":     {"orders"},
		`frob U&"x"`:           {"users", "orders", "Odd Name"},
		"frob 12users":         {"users"},
		"nothing here; userss": nil,
	} {
		if got := f.Mentions(sql); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

// Without it the scan before each query would feed the garbage collector.
func TestMayTouchDoesNotAllocate(t *testing.T) {
	f := NewFilter([]string{"users", "Odd Name", "größe"})
	if n := testing.AllocsPerRun(100, func() { f.MayTouch(query200) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
