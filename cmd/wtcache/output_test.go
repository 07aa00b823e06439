package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestColour: a report that goes into a file or a pipe has no escape codes in it, unless they are asked for.
func TestColour(t *testing.T) {
	for _, c := range []struct {
		name, args, noColor string
		want                bool
	}{
		{"a pipe", "version", "", false},
		{"asked for", "version --color always", "1", true},
		{"refused", "version --color never", "", false},
	} {
		t.Setenv("NO_COLOR", c.noColor)
		root := newRoot()
		root.SetOut(io.Discard)
		cmd, rest, err := root.Find(strings.Fields(c.args))
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.ParseFlags(rest); err != nil {
			t.Fatal(err)
		}
		if got := paintOf(cmd).bad("x") != "x"; got != c.want {
			t.Errorf("%s: coloured is %v", c.name, got)
		}
	}
}

// TestProgressLines: a log of a long work has a line every ten seconds with rate and time left, and none with --quiet.
func TestProgressLines(t *testing.T) {
	for _, quiet := range []bool{false, true} {
		cmd := newVersion()
		var stderr bytes.Buffer
		cmd.SetErr(&stderr)
		cmd.Flags().Bool("quiet", quiet, "")
		now := time.Unix(0, 0)
		p := newProgress(cmd, 4800, "rows")
		p.now = func() time.Time { return now }
		p.start, p.spoken = now, now
		for range 24 { // a second each
			now = now.Add(time.Second)
			p.add(100)
		}
		p.close()
		want := "1000 of 4800 rows (20 %), 100 rows/s, 38s left\n2000 of 4800 rows (41 %), 100 rows/s, 28s left\n"
		if quiet {
			want = ""
		}
		if stderr.String() != want {
			t.Errorf("quiet %v: %q, want %q", quiet, stderr.String(), want)
		}
	}
}

// TestJSONEverywhere: what --json prints is JSON, also where no server is named.
func TestJSONEverywhere(t *testing.T) {
	for _, args := range []string{"version --json", "schema --json --grant-to shop"} {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &stdout, &stderr); code != exitFine {
			t.Errorf("%s: exit code %d: %s", args, code, stderr.String())
		}
		var object map[string]any
		if err := json.Unmarshal(stdout.Bytes(), &object); err != nil || len(object) < 3 {
			t.Errorf("%s: %v:\n%s", args, err, stdout.String())
		}
	}
}

// TestCompletion: names of entries are completed from the rule files, and a file that cannot be read breaks
// no shell.
func TestCompletion(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "users.yaml"), []byte("table: users\nkey: \"user:{id}\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &settings{dsn: "postgres://localhost/shop", rules: dir}
	if names, _ := entryNames(s)(nil, nil, ""); len(names) != 1 || names[0] != "users\tuser:{id}" {
		t.Errorf("the entries are %q", names)
	}
	if names, _ := entryNames(s)(nil, []string{"users"}, ""); len(names) != 0 {
		t.Errorf("the entries beside users are %q", names)
	}
	s.rules = filepath.Join(dir, "absent")
	if names, _ := entryNames(s)(nil, nil, ""); len(names) != 0 {
		t.Errorf("the entries of no file are %q", names)
	}
	var stdout bytes.Buffer
	if code := run(t.Context(), []string{"completion", "bash"}, &stdout, io.Discard); code != exitFine || !strings.Contains(stdout.String(), "__start_wtcache") {
		t.Errorf("exit code %d and no script", code)
	}
}
