package parser

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden parts of testdata/corpus")

// A corpus file is a list of cases parted by lines "====": the text, a line
// "----", and what Parse and the splices make of it.
const (
	caseLine   = "\n====\n"
	goldenLine = "\n----\n"
)

type corpusCase struct{ sql, golden string }

func readCorpus(t testing.TB) map[string][]corpusCase {
	t.Helper()
	files, err := filepath.Glob("testdata/corpus/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	corpus := make(map[string][]corpusCase)
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range strings.Split(strings.TrimSuffix(string(content), "\n"), caseLine) {
			sql, golden, _ := strings.Cut(block, goldenLine)
			corpus[file] = append(corpus[file], corpusCase{sql, golden})
		}
	}
	return corpus
}

func corpusTexts(t testing.TB) []string {
	var texts []string
	for _, cases := range readCorpus(t) {
		for _, c := range cases {
			texts = append(texts, c.sql)
		}
	}
	return texts
}

// Without it a statement's meaning could change unseen: each kind, relation, pin
// and spliced text decides what is stored, and under which key.
func TestCorpus(t *testing.T) {
	total := 0
	for file, cases := range readCorpus(t) {
		var b strings.Builder
		for i, c := range cases {
			total++
			got := describe(c.sql)
			if got != c.golden && !*update {
				t.Errorf("%s, case %d:\n%s\n got:\n%s\nwant:\n%s", file, i+1, c.sql, got, c.golden)
			}
			if i > 0 {
				b.WriteString(caseLine[1:])
			}
			fmt.Fprintf(&b, "%s%s%s\n", c.sql, goldenLine, got)
		}
		if *update {
			if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if total < 300 {
		t.Errorf("%d cases, want at least 300", total)
	}
}

var kindNames = [...]string{
	"OTHER", "INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "COPY FROM", "EXPLAIN", "DDL", "BEGIN", "COMMIT",
	"ROLLBACK", "SAVEPOINT", "RELEASE", "ROLLBACK TO", "PREPARE TRANSACTION", "COMMIT PREPARED", "ROLLBACK PREPARED",
	"SESSION", "PREPARE", "EXECUTE", "DEALLOCATE", "DO", "CALL", "UNPARSABLE",
}

// describe writes everything that Parse found, and the splices.
func describe(sql string) string {
	stmts := Parse(sql)
	if len(stmts) == 0 {
		return "nothing"
	}
	var lines []string
	for _, s := range stmts {
		lines = append(lines, describeStatement(sql, s)...)
	}
	return strings.Join(lines, "\n")
}

func describeStatement(sql string, s *Statement) []string {
	head := kindNames[s.Kind]
	if s.Target.Name != "" {
		head += " " + showRelation(s.Target)
	}
	for _, f := range []struct {
		name string
		on   bool
	}{
		{"nested", s.Nested}, {"all", s.All}, {"returning", s.Returning}, {"from", s.From}, {"sublink", s.Sublink},
		{"current-of", s.CurrentOf}, {"chain", s.Chain}, {"temporary", s.TemporaryRelation},
		{"concurrently", s.Concurrently}, {"set-config", s.SetConfig},
	} {
		if f.on {
			head += " +" + f.name
		}
	}
	lines := []string{head}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf("  "+format, args...)) }
	if text := sql[s.Span.Start:s.Span.End]; text != sql {
		add("span %q", text)
	}
	if len(s.Written) > 1 || len(s.Written) == 1 && s.Written[0] != s.Target {
		for _, r := range s.Written {
			add("writes %s", showRelation(r))
		}
	}
	if s.Name != "" {
		add("name %q", s.Name)
	}
	if s.Body != "" {
		add("body %q", s.Body)
	}
	lines = append(lines, describeValues(s)...)
	return append(lines, describeSplices(sql, s)...)
}

func describeValues(s *Statement) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf("  "+format, args...)) }
	if s.Columns != nil {
		add("columns %s", strings.Join(s.Columns, ", "))
	}
	if s.Listed != len(s.Rows) {
		add("lists %d rows", s.Listed)
	}
	for _, row := range s.Rows {
		add("row (%s)", showValues(row))
	}
	if c := s.Conflict; c != nil {
		add("conflict update=%t columns=%q constraint=%q", c.Update, c.Columns, c.Constraint)
	}
	if len(s.Assigned) > 0 {
		add("assigns %s", strings.Join(s.Assigned, ", "))
	}
	for _, p := range s.Pins {
		add("pin %s = %s", p.Column, showValues([]Value{p.Value}))
	}
	if len(s.Repeated) > 0 {
		add("repeats $%s", strings.Trim(strings.ReplaceAll(fmt.Sprint(s.Repeated), " ", ", $"), "[]"))
	}
	return lines
}

func describeSplices(sql string, s *Statement) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf("  "+format, args...)) }
	switch s.Kind {
	case KindInsert, KindUpdate, KindDelete:
		if text, err := s.SpliceReturning(sql, []string{s.Ref() + ".id", "1"}); err != nil {
			add("returning: %v", err)
		} else {
			add("returning: %s", text)
		}
	}
	if s.Kind == KindUpdate || s.Conflict != nil && s.Conflict.Update {
		cast := func(column string) (string, bool) { return "int8", column != "name" }
		if text, _, err := s.SpliceOldKeys(sql, nil, s.Ref()+".id", cast); err != nil {
			add("old keys: %v", err)
		} else {
			text = strings.ReplaceAll(text, "pg_catalog.set_config('wtcache.old', "+s.Ref()+".id, true) IS NOT NULL", "«capture»")
			add("old keys: %s", strings.TrimSuffix(text, takeOld)+"«old»")
		}
	}
	return lines
}

func showRelation(r Relation) string {
	name := r.Name
	if r.Schema != "" {
		name = r.Schema + "|" + name
	}
	if r.Alias != "" {
		name += " as " + r.Alias
	}
	if r.Only {
		name = "only " + name
	}
	return name
}

func showValues(row []Value) string {
	shown := make([]string, len(row))
	for i, v := range row {
		switch v.Kind {
		case ValueOther:
			shown[i] = "?"
		case ValueParam:
			shown[i] = fmt.Sprintf("$%d", v.Param)
		case ValueInteger, ValueDecimal, ValueBool:
			shown[i] = v.Text
		case ValueString:
			shown[i] = fmt.Sprintf("%q", v.Text)
		case ValueNull:
			shown[i] = "NULL"
		case ValueDefault:
			shown[i] = "DEFAULT"
		}
		if v.Cast != "" {
			shown[i] += "::" + v.Cast
		}
	}
	return strings.Join(shown, ", ")
}
