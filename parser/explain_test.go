package parser_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/parser"
)

// What people are shown of a statement has to be the statement's own.
func TestFirstWord(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"/* a */ -- b\n  select 1": "SELECT", "create or replace temp view v": "CREATE VIEW", "ALTER TABLE users": "ALTER TABLE",
		"DROP MATERIALIZED VIEW v": "DROP VIEW", "create unique index i": "CREATE INDEX", "(SELECT 1)": "SELECT", "": "", "-- only": "",
		"COMMIT": "COMMIT", "create": "CREATE",
	} {
		at, got := parser.FirstWord(text)
		if got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
		if rest := strings.ToUpper(strings.TrimLeft(text[at:], "(")); want != "" && !strings.HasPrefix(rest, strings.Fields(want)[0]) {
			t.Errorf("%q: begins at %d", text, at)
		}
	}
}

// A function that is called and not found is a write that nobody is told of.
func TestCalls(t *testing.T) {
	t.Parallel()
	got := parser.Calls(`SELECT Touch(1), s."My ""F"""/* c */ (2), 'not_this(' FROM g ((SELECT touch(3)))`)
	if want := []string{"touch", `My "F"`, "g"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A fault has to be found where it is; a text without one has none.
func TestSyntaxError(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"SELECT 'ö' FROM FROM": len("SELECT 'ö' FROM "), "SELECT 'ab": len("SELECT "), "SELECT \x00": len("SELECT "), "SELECT (1": len("SELECT (1"),
		"SELECT 1": -1, "": -1, "SELECT 1" + strings.Repeat("+(1", 200) + strings.Repeat(")", 200): -1, strings.Repeat("(", 100000): 0,
	} {
		problem, at, ok := parser.SyntaxError(text)
		if ok != (want >= 0) || ok && (at != want || problem == "") {
			t.Errorf("%.40q: %q at %d, %v; want it at %d", text, problem, at, ok, want)
		}
	}
}
