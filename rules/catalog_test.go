package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// A name in a condition that is overlooked would be looked up in the user's statement
// instead of the row.
func TestScanWhenFindsNames(t *testing.T) {
	for text, want := range map[string]string{
		`Deleted_At IS NULL`:            "deleted_at is null",
		`"Mixed ""q""" > 1`:             `Mixed "q"`,
		`a/* b /* c */ d */=e--f`:       "a e",
		`x = 'a b' AND y = $t$ z $t$`:   "and x y",
		`x = E'\' z' || u&'y'`:          "u x",
		`ключ = 1e5`:                    "e5 ключ",
		`(a).b::"C d"`:                  "C d a b",
		`x$1 = $$ nothing $$`:           "x$1",
		`'it''s' = coalesce(a."B", '')`: "B a coalesce",
	} {
		w := scanWhen(text)
		var names []string
		for n := range w.names {
			names = append(names, n)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != want || w.fault != "" {
			t.Errorf("%s: %q (%s), want %q", text, got, w.fault, want)
		}
	}
	if !scanWhen(`U&"\0061" = 1`).unclear {
		t.Error("a name in escapes is taken for clear")
	}
}

func TestScanWhenRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"a = (SELECT 1)":  "reads a table",
		"a = (TABLE b)":   "reads a table",
		"a) OR (b":        "did not open",
		"(a":              "does not close",
		"a; DROP TABLE b": `";"`,
		"a = $1":          "parameter",
		"a = $":           "parameter",
		"a = 'b":          "not closed",
		`a = "b`:          "not closed",
		"a /* b":          "not closed",
		"a = $x$ b $y$":   "not closed",
		`a = U&"b`:        "not closed",
		`a = E'b\'`:       "not closed",
	} {
		if got := scanWhen(text).fault; !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// A rule file is untrusted text: it must be refused, not crash the program.
func FuzzScanWhen(f *testing.F) {
	for _, s := range []string{"a = 1", `U&"a`, "$x$ $x$", "E'\\", "/*/**/", "(", `"a""`, "--", "$1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		w := scanWhen(text)
		if w.fault == "" && strings.Count(text, "\"")%2 == 1 && !strings.ContainsAny(text, "'$-/") {
			t.Errorf("%q: an odd quote is taken for closed", text)
		}
	})
}

// A view whose columns are taken for others stores values under the wrong names.
func TestParseViewOrigin(t *testing.T) {
	const entry = `{TARGETENTRY :expr {VAR :varno 3} :resno %d :resname %s :ressortgroupref 0 :resorigtbl %d :resorigcol %d :resjunk false}`
	query := func(entries ...string) string {
		return `({QUERY :commandType 1 :cteList <> :rtable ({RANGETBLENTRY :eref {ALIAS :colnames (":targetList" "a\ \{b" "\\")} :relid 5}) ` +
			`:jointree {FROMEXPR :quals {SUBLINK :subselect {QUERY :targetList (` + fmt.Sprintf(entry, 1, "x", 99, 9) + `)}}} :targetList (` +
			strings.Join(entries, " ") + `) :override 0 :returningList <> :stmt_len 84})`
	}
	o, ok := parseViewOrigin(query(fmt.Sprintf(entry, 1, `a\ \}b`, 16388, 2), fmt.Sprintf(entry, 2, "n", 0, 0), fmt.Sprintf(entry, 3, ":resno", 16388, 1)))
	if !ok || o.base != 16388 || fmt.Sprint(o.columns) != "map[1:2 3:1]" {
		t.Errorf("%v %+v", ok, o)
	}
	for name, text := range map[string]string{
		"two tables": query(fmt.Sprintf(entry, 1, "a", 5, 2), fmt.Sprintf(entry, 2, "b", 6, 2)),
		"none":       query(fmt.Sprintf(entry, 1, "a", 0, 0)),
		"cut":        query(fmt.Sprintf(entry, 1, "a", 5, 2))[:300],
		"empty":      "",
		"escape":     `\`,
	} {
		if o, ok := parseViewOrigin(text); ok {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// A suggestion that is far off sends its reader to the wrong place.
func TestNearest(t *testing.T) {
	candidates := []string{"users", "user_roles", "orders", "email", "id"}
	for name, want := range map[string]string{"user": "users", "usres": "users", "Users": "users", "emial": "email", "idd": "id", "zzz": "", "": ""} {
		if got := strings.Join(nearest(name, candidates), " "); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	if got := strings.Join(nearest("usrs", []string{"USERS", "Users", "users"}), " "); got != "users Users USERS" {
		t.Errorf("of names that differ in case it suggests %s", got)
	}
}

// Quoting that breaks lets a name end the statement.
func TestQuoting(t *testing.T) {
	for in, want := range map[string]string{`a"b`: `"a""b"`, "select": `"select"`, `a\`: `"a\"`} {
		if got := sqlIdent(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	for in, want := range map[string]string{`it's`: `'it''s'`, `a\'b`: `E'a\\''b'`, "": `''`} {
		if got := sqlString(in); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
}
