package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// explain runs the command without any Redis.
func (s *shop) explain(t *testing.T, more ...string) outcome {
	t.Helper()
	return run(t, nil, append([]string{"explain", "--dsn", s.dsn, "--rules", s.rules}, more...)...)
}

// explainOutput is the output of explain --json.
type explainOutput struct {
	Statements []struct {
		Source, Class, Sent, Why string
		Position                 struct{ Line, Column int }
		Tables                   []struct {
			Entries []struct{ Keys []string }
		}
		SyntaxError *struct {
			Position struct{ Line, Column int }
		} `json:"syntax_error"`
	}
	Summary struct {
		Statements   int
		ByClass      map[string]int `json:"by_class"`
		SyntaxErrors int            `json:"syntax_errors"`
		Failed       int
	}
}

func (o outcome) explained(t *testing.T) (e explainOutput) {
	t.Helper()
	if err := json.Unmarshal([]byte(o.stdout), &e); err != nil {
		t.Fatalf("no JSON: %v\n%s%s", err, o.stdout, o.stderr)
	}
	return e
}

// What a user asks first: a statement or two, as arguments.
func TestExplainArguments(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	o := s.explain(t, "UPDATE users SET name = $1 WHERE id = $2", "TRUNCATE users")
	o.want(t, 0, "1:1  UPDATE  precise", "user:{id=$2} written", "fence first", "RETURNING", "redis_down: refuse",
		"1:1  TRUNCATE  coarse", "every user:{id} absent", "2 statements: 1 precise, 1 coarse")
	if strings.Contains(o.stdout, "\x1b") {
		t.Error("there are escape codes where there is no terminal")
	}
	for line := range strings.Lines(o.stdout) {
		if len([]rune(line)) > 110 && strings.Contains(line[14:], " ") && !strings.Contains(line, "pg_catalog") {
			t.Errorf("a line of %d characters: %s", len([]rune(line)), line)
		}
	}
	s.explain(t, "--arg", "Ann", "--arg", "42", "UPDATE users SET name = $1 WHERE id = $2").want(t, 0, "user:42 written")
	s.explain(t, "--brief", "DELETE FROM users; SELECT 1").want(t, 0, "1:1: precise: DELETE: ", "1:20: unruled: SELECT: ")
	s.explain(t, "--color", "always", "TRUNCATE users").want(t, 0, "\x1b[33mcoarse\x1b[0m")
}

// "No statement of ours is coarse" has to hold a build up, and nothing else may.
func TestExplainFailOn(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	s.explain(t, "--fail-on", "coarse,not-captured", "UPDATE users SET name = ''").want(t, 0)
	s.explain(t, "--fail-on", "coarse,not-captured", "TRUNCATE users").want(t, 1)
	s.explain(t, "--fail-on", "not-captured", "TRUNCATE users").want(t, 0)
	s.explain(t, "--fail-on", "not-captured", "CREATE INDEX CONCURRENTLY i ON users (name)").want(t, 1)
	s.explain(t, "--fail-on", "course", "SELECT 1").want(t, 2, "there is no such class", "coarse")
	s.explain(t, "--arg", "1", "SELECT $1; SELECT 2").want(t, 2, "one statement")
	s.explain(t, "--file", "nosuch.sql").want(t, 2, "nosuch.sql")
	run(t, nil, "explain", "--dsn", s.dsn, "SELECT 1").want(t, 2, "no rules are named")
	run(t, nil, "explain", "--dsn", "postgres:///d?host="+t.TempDir(), "--rules", s.rules, "SELECT 1").want(t, 2, "connect to Postgres")
}

// A file of statements, as it comes: what does not parse is said with its place, and the others are explained.
func TestExplainFiles(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for name, c := range map[string]struct {
		text, want string
		code       int
	}{
		"statements": {"-- a query\nUPDATE users\n   SET name = 'a;b';\n\n  SELEKT 1;\nDELETE FROM users -- all\n", "2:1 precise, 5:3 unruled fault 5:3, 6:1 precise", 1},
		"one a line": {"UPDATE users SET name = ''\n\n  TRUNCATE users\nSELECT 'a;b'; SELECT 2\nSELEKT 1\nDELETE FROM users\n", "1:1 precise, 3:3 coarse, 4:1 unruled, 4:15 unruled, 5:1 unruled fault 5:1, 6:1 precise", 1},
		"log": {"2026-11-26 21:00:00.1 UTC [12] ann@shop LOG:  statement: UPDATE users SET name = ''\n2026-11-26 21:00:01 UTC [12] ann@shop DETAIL:  parameters: $1 = '1'\n" +
			"2026-11-26 21:00:02.1 UTC [12] LOG:  duration: 0.123 ms  execute <unnamed>: SELECT *\n\tFROM users\n\tWHERE id = $1\n2026-11-26 ERROR:  boom\n", "1:58 precise, 3:77 read", 0},
		"broken":   {"UPDATE users\nSET = 1\nWHERE id = 1", "1:1 coarse fault 2:5", 1},
		"marked":   {"\ufeffTRUNCATE users;\r\nSELECT 1;\r\n", "1:1 coarse, 2:1 unruled", 0}, // as editors of Windows write it
		"an empty": {"\n -- nothing\n", "", 0},
	} {
		file := filepath.Join(t.TempDir(), "statements.sql")
		if err := os.WriteFile(file, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		o := s.explain(t, "--json", "--file", file)
		o.want(t, c.code)
		e := o.explained(t)
		if got := e.places(); got != c.want {
			t.Errorf("%s: got %s\nwant %s", name, got, c.want)
		}
		if e.Summary.Statements != len(e.Statements) || len(e.Statements) > 0 && e.Statements[0].Source != file {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

func (e explainOutput) places() string {
	var all []string
	for _, s := range e.Statements {
		one := place(s.Position.Line, s.Position.Column) + " " + s.Class
		if s.SyntaxError != nil {
			one += " fault " + place(s.SyntaxError.Position.Line, s.SyntaxError.Position.Column)
		}
		all = append(all, one)
	}
	return strings.Join(all, ", ")
}

func place(line, column int) string {
	b, _ := json.Marshal([]int{line, column})
	return strings.NewReplacer("[", "", "]", "", ",", ":").Replace(string(b))
}

// Statements can be piped in, named or not.
func TestExplainStdin(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"-"}, {}} {
		cmd := exec.CommandContext(t.Context(), path, append([]string{"explain", "--brief", "--dsn", s.dsn, "--rules", s.rules}, args...)...)
		cmd.Stdin = bytes.NewBufferString("DELETE FROM users;\nSELECT 1;")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "-:1:1: precise: DELETE") || !strings.Contains(string(out), "-:2:1: unruled") {
			t.Errorf("%v: %v\n%s", args, err, out)
		}
	}
}

// Who types "explain -" by mistake, or pipes in a log that goes on, must get the shell back by Ctrl-C.
func TestExplainInterrupted(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, "explain", "--dsn", s.dsn, "--rules", s.rules)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds: when it is written the command reads, and its signals are its own.
	if _, err := in.Write(bytes.Repeat([]byte("SELECT 1;\n"), 1<<15)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 2 {
		t.Errorf("it ended with %v", err)
	}
}

// A variable that is unset must not pass for statements that are all fine.
func TestExplainOfNothing(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	for _, text := range []string{"", " -- nothing\n;"} {
		s.explain(t, text).want(t, 2, "no statement")
	}
}
