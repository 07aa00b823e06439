package parser

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	pg "github.com/pganalyze/pg_query_go/v5"
)

var ruled = []string{
	"users", "orders", "Users", "a;b", "größe", `Weird "Table"`, "set",
	"a_table_name_that_is_much_longer_than_sixty_three_bytes_and_is_",
}

// Without it some text kills the program, or a write is taken for a read and its
// keys stay stale in the cache.
func FuzzParse(f *testing.F) {
	for _, text := range corpusTexts(f) {
		f.Add(text)
	}
	for _, shape := range shapes {
		f.Add(shape(3))
	}
	filter := NewFilter(ruled)
	f.Fuzz(func(t *testing.T, sql string) {
		stmts := Parse(sql)
		checkSpans(t, sql, stmts)
		checkFilter(t, sql, stmts, filter)
		checkWritten(t, sql, stmts)
		for _, s := range stmts {
			checkSplice(t, sql, s)
		}
	})
}

func checkSpans(t *testing.T, sql string, stmts []*Statement) {
	from := 0
	for _, s := range stmts {
		if s.Span.Start < from || s.Span.End <= s.Span.Start && sql != "" || s.Span.End > len(sql) {
			t.Fatalf("%q: span %v after %d", sql, s.Span, from)
		}
		from = s.Span.End
	}
}

func checkFilter(t *testing.T, sql string, stmts []*Statement, filter *Filter) {
	mentioned := filter.Mentions(sql)
	touches := filter.MayTouch(sql)
	for _, s := range stmts {
		for _, r := range s.Written {
			if !slices.Contains(ruled, r.Name) {
				continue
			}
			if !touches {
				t.Fatalf("%q writes %s but MayTouch is false", sql, r.Name)
			}
			if !slices.Contains(mentioned, r.Name) {
				t.Fatalf("%q writes %s, which Mentions leaves out", sql, r.Name)
			}
		}
		switch s.Kind {
		case KindOther, KindInsert, KindUpdate, KindDelete, KindMerge, KindCopyFrom, KindUnparsable:
		case KindDDL: // SELECT … INTO of a relation that no rule names
			if !touches && !strings.Contains(strings.ToLower(sql), "into") {
				t.Fatalf("%q is DDL but MayTouch is false", sql)
			}
		default:
			if !touches {
				t.Fatalf("%q is of kind %d but MayTouch is false", sql, s.Kind)
			}
		}
		if !touches && (s.SetConfig || s.All || len(stmts) > 1) {
			t.Fatalf("%q: MayTouch is false of %+v", sql, s)
		}
	}
}

// checkWritten compares with a walk over the grammar's JSON, which shares no
// code with the walk over its protobuf.
func checkWritten(t *testing.T, sql string, stmts []*Statement) {
	var written []string
	for _, s := range stmts {
		if s.Kind == KindUnparsable {
			return
		}
		for _, r := range s.Written {
			written = append(written, r.Name)
		}
	}
	if depthOf(sql) > directNesting {
		return
	}
	text, err := pg.ParseToJSON(sql)
	if err != nil {
		return
	}
	var tree any
	if err := json.Unmarshal([]byte(text), &tree); err != nil {
		return
	}
	for _, name := range writesInJSON(tree) {
		if !slices.Contains(written, name) {
			t.Fatalf("%q writes %q; Written has %q", sql, name, written)
		}
	}
}

func writesInJSON(v any) (names []string) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			names = append(names, writesInJSON(e)...)
		}
	case map[string]any:
		for key, e := range v {
			switch key {
			case "InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt":
				rel, _ := e.(map[string]any)["relation"].(map[string]any)
				name, _ := rel["relname"].(string)
				names = append(names, name)
			case "ViewStmt", "RuleStmt", "CreateFunctionStmt", "CreateSchemaStmt":
				continue
			case "ExplainStmt":
				if options, _ := json.Marshal(e.(map[string]any)["options"]); !strings.Contains(strings.ToLower(string(options)), "analyze") || strings.Contains(string(options), "arg") {
					continue
				}
			}
			names = append(names, writesInJSON(e)...)
		}
	}
	return names
}

func checkSplice(t *testing.T, sql string, s *Statement) {
	switch s.Kind {
	case KindInsert, KindUpdate, KindDelete:
	default:
		return
	}
	text, err := s.SpliceReturning(sql, []string{s.Ref() + ".tableoid", "1"})
	if err != nil {
		t.Fatalf("%q: %v", sql[s.Span.Start:s.Span.End], err)
	}
	if !strings.HasPrefix(text, sql[s.Span.Start:s.Span.End]) {
		t.Fatalf("%q became %q", sql, text)
	}
	if text, _, err := s.SpliceOldKeys(sql, nil, "'x'", nil); err == nil && len(Parse(text)) != 1 {
		t.Fatalf("%q became %q", sql, text)
	}
}

// Without it a text could be cut at other places than the server cuts it, and a
// splice could land inside a literal.
func FuzzLex(f *testing.F) {
	for _, text := range corpusTexts(f) {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		if strings.ContainsAny(sql, "\x00\v") { // \v is white space from 17 on, and no token before
			return
		}
		ours := lexAll(sql)
		theirs, err := pg.Scan(sql)
		if err != nil {
			return // the grammar refuses it too
		}
		for i, want := range theirs.GetTokens() {
			if i >= len(ours) || ours[i].start != int(want.GetStart()) {
				t.Fatalf("%q: token %d starts at %d, ours %v", sql, i, want.GetStart(), ours)
			}
			text := ours[i].text(sql)
			if (ours[i].kind == tokString || ours[i].kind == tokBroken) && strings.Contains(text, "--") && strings.ContainsAny(text, "\r\n") {
				return // pg_query, unlike the server, lets a comment end a continued string
			}
			// pg_query reports the ends of U& tokens wrongly.
			if ours[i].end != int(want.GetEnd()) && !strings.HasPrefix(strings.ToLower(text), "u&") {
				t.Fatalf("%q: token %d ends at %d, ours %v", sql, i, want.GetEnd(), ours)
			}
		}
		if len(ours) > len(theirs.GetTokens()) {
			t.Fatalf("%q: %d tokens, want %d", sql, len(ours), len(theirs.GetTokens()))
		}
	})
}
