package parser

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// Without it a broken or hostile expression could change what the caller's
// statement does instead of being refused.
func TestSpliceRefusesWhatChangesTheStatement(t *testing.T) {
	const sql = "UPDATE users SET name = 'x' WHERE id = 1"
	s := Parse(sql)[0]
	for _, exprs := range [][]string{
		{"1; DELETE FROM users"}, {"1, 2"}, {"1 FROM x"}, {""}, {"'"}, {"(1"}, {"1 --"}, {"1 /*"}, {"1", "2, 3"}, {"1)"}, {"\x00"},
	} {
		text, err := s.SpliceReturning(sql, exprs)
		if err == nil && len(exprs) == 1 && exprs[0] == "1 --" {
			continue // a comment at the very end is harmless
		}
		if !errors.Is(err, ErrCannotSplice) {
			t.Errorf("%q: %q, %v", exprs, text, err)
		}
	}
	for _, old := range []string{"1) OR (true", "'x', true) IS NULL OR set_config('a', 'b'", "'", "1 --", ""} {
		if text, _, err := s.SpliceOldKeys(sql, nil, old, nil); !errors.Is(err, ErrCannotSplice) {
			t.Errorf("%q: %q, %v", old, text, err)
		}
	}
}

// Without it a statement that cannot be captured would be sent as if it were.
func TestSpliceRefusesStatementsWithoutAPlace(t *testing.T) {
	for _, sql := range []string{"SELECT 1", "MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", "TRUNCATE a", "frob", "BEGIN"} {
		s := Parse(sql)[0]
		if text, err := s.SpliceReturning(sql, []string{"1"}); !errors.Is(err, ErrCannotSplice) {
			t.Errorf("%s: %q, %v", sql, text, err)
		}
	}
	for _, sql := range []string{
		"INSERT INTO a VALUES (1)", "INSERT INTO a VALUES (1) ON CONFLICT DO NOTHING", "DELETE FROM a",
		"UPDATE a SET b = 1 WHERE CURRENT OF c", "UPDATE a SET (b, c) = (SELECT 1, 2) FROM d", "UPDATE a SET b = DEFAULT FROM d",
	} {
		s := Parse(sql)[0]
		if text, _, err := s.SpliceOldKeys(sql, []string{"1"}, "'x'", nil); !errors.Is(err, ErrCannotSplice) {
			t.Errorf("%s: %q, %v", sql, text, err)
		}
	}
}

// A parameter's type would be text inside a CASE, so without a known column type
// the statement must be refused, not changed.
func TestSpliceNeedsTheTypeOfABareValue(t *testing.T) {
	for _, value := range []string{"$1", "'5'", "NULL", "($1)", "(1, 2)"} {
		sql := "UPDATE a SET b = " + value + " FROM c WHERE a.d = c.d"
		s := Parse(sql)[0]
		for _, cast := range []func(string) (string, bool){nil, func(string) (string, bool) { return "int4", false }, func(string) (string, bool) { return "", true }} {
			if text, _, err := s.SpliceOldKeys(sql, nil, "'x'", cast); !errors.Is(err, ErrCannotSplice) {
				t.Errorf("%s: %q, %v", sql, text, err)
			}
		}
		text, _, err := s.SpliceOldKeys(sql, nil, "'x'", func(column string) (string, bool) { return "numeric(5, 2)", column == "b" })
		if err != nil || !strings.Contains(text, "THEN ("+value+")::numeric(5, 2) END") {
			t.Errorf("%s: %q, %v", sql, text, err)
		}
	}
}

// Without it a splice would write into the caller's slice, or fail on a text of
// several statements.
func TestSpliceLeavesItsArgumentsAlone(t *testing.T) {
	const sql = "SELECT 1; UPDATE users SET name = 'x' -- c\n; SELECT 2"
	s := Parse(sql)[1]
	exprs := append(make([]string, 0, 5), "1", "2")
	if text, _, err := s.SpliceOldKeys(sql, exprs, "'k'", nil); err != nil || !strings.HasPrefix(text, "UPDATE users SET name = 'x' WHERE ") {
		t.Errorf("%q, %v", text, err)
	}
	if !slices.Equal(exprs[:3], []string{"1", "2", ""}) {
		t.Errorf("exprs became %q", exprs[:3])
	}
	if _, err := s.SpliceReturning("another text", exprs); !errors.Is(err, ErrCannotSplice) {
		t.Errorf("foreign text: %v", err)
	}
}

// Without it a table with an unusual name could not be captured, or another one would be.
func TestRefQuotes(t *testing.T) {
	for sql, want := range map[string]string{
		"DELETE FROM users":               `"users"`,
		"DELETE FROM S.users":             `"s"."users"`,
		`DELETE FROM s.users AS "a""B"`:   `"a""B"`,
		`INSERT INTO "S"."T t" VALUES(1)`: `"S"."T t"`,
	} {
		if got := Parse(sql)[0].Ref(); got != want {
			t.Errorf("%s: %s, want %s", sql, got, want)
		}
	}
}

// Without it a NUL byte would hide what follows it.
func TestParseRefusesNUL(t *testing.T) {
	got := Parse("SELECT 1\x00; DELETE FROM users")
	if len(got) != 1 || got[0].Kind != KindUnparsable || got[0].Span.End != 28 {
		t.Errorf("%+v", got)
	}
}

// Without it bulk loads would cost the user the whole cache of a rule.
func TestParseBulkInsert(t *testing.T) {
	s := Parse("INSERT INTO users (id, name) VALUES (0, 'x')" + strings.Repeat(", (1, $1)", 10_000))
	if len(s) != 1 || s[0].Kind != KindInsert || s[0].Rows != nil {
		t.Errorf("%d statements, kind %d", len(s), s[0].Kind)
	}
}

// Without it a text of hundreds of megabytes would end the program: its tree does
// not fit into what the parser may allocate.
func TestParseRefusesHugeTexts(t *testing.T) {
	row := ", (1, 2)"
	sql := "BEGIN; INSERT INTO users VALUES (0, 0)" + strings.Repeat(row, maxParsed/len(row)+1) + "; COMMIT"
	var kinds []Kind
	for _, s := range Parse(sql) {
		kinds = append(kinds, s.Kind)
	}
	if !slices.Equal(kinds, []Kind{KindBegin, KindUnparsable, KindCommit}) {
		t.Errorf("kinds %v", kinds)
	}
}
