package main

import (
	"bytes"
	"flag"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
	"mvdan.cc/sh/v3/expand"
	"mvdan.cc/sh/v3/syntax"
)

var update = flag.Bool("update", false, "write docs/CLI.md again")

const docsFile = "../../docs/CLI.md"

// eachCommand gives the commands that are ours; completion and help are cobra's.
func eachCommand(root *cobra.Command) (all []*cobra.Command) {
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" && cmd.Name() != "help" && cmd.IsAvailableCommand() {
			all = append(all, cmd)
			all = append(all, eachCommand(cmd)...)
		}
	}
	return all
}

// TestDocs: docs/CLI.md says what --help says, so that a reader of the one is not misled about the other.
func TestDocs(t *testing.T) {
	want := cliDocs(t)
	if *update {
		if err := os.WriteFile(docsFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(docsFile)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("docs/CLI.md is not what the commands say (%v); write it again: go generate ./cmd/wtcache", err)
	}
}

func cliDocs(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString("<!-- Written by go generate ./cmd/wtcache; do not edit. -->\n\n# The command wtcache\n\n" +
		"Shell completion: `wtcache completion bash|zsh|fish|powershell` prints a script; `wtcache completion bash --help` says\n" +
		"where to put it. It completes commands, flags, and the names of entries from the rule files.\n\n")
	root := newRoot()
	for _, cmd := range append([]*cobra.Command{root}, eachCommand(root)...) {
		cmd.DisableAutoGenTag = true
		if err := doc.GenMarkdownCustom(cmd, &b, anchor); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// anchor makes wtcache_check.md into #wtcache-check: all commands are on one page.
func anchor(file string) string {
	return "#" + strings.ReplaceAll(strings.TrimSuffix(file, ".md"), "_", "-")
}

// TestCommandsAreDocumented: whoever asks a command for help learns what it does, what its exit codes mean to a script,
// and examples that it takes; and every command can be asked for JSON.
func TestCommandsAreDocumented(t *testing.T) {
	root := newRoot()
	for _, cmd := range eachCommand(root) {
		t.Run(strings.ReplaceAll(cmd.CommandPath(), " ", "_"), func(t *testing.T) {
			if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
				t.Errorf("Short is %q; want a few words without a full stop", cmd.Short)
			}
			if !cmd.Runnable() {
				return // a parent of commands
			}
			if !strings.Contains(cmd.Long, "Exit codes: ") {
				t.Error("Long has no paragraph that begins with \"Exit codes: \"")
			}
			if cmd.Flags().Lookup("json") == nil {
				t.Error("there is no --json")
			}
			if cmd.Parent() == root && !grouped(cmd.Name()) {
				t.Error("it is in none of the groups of main.go")
			}
		})
	}
}

func grouped(name string) bool {
	for _, group := range groups {
		for _, c := range group.commands {
			if c == name {
				return true
			}
		}
	}
	return false
}

// TestExamples: an example that somebody copies from the help is one that the command takes.
func TestExamples(t *testing.T) {
	for _, cmd := range append(eachCommand(newRoot()), newRoot()) {
		calls := callsIn(t, cmd.CommandPath(), cmd.Example)
		if len(calls) == 0 && (cmd.Runnable() || !cmd.HasParent()) {
			t.Errorf("%s has no example that calls wtcache", cmd.CommandPath())
		}
		for _, args := range calls {
			if err := parses(args); err != nil {
				t.Errorf("the example of %s, wtcache %s: %v", cmd.CommandPath(), strings.Join(args, " "), err)
			}
		}
	}
}

// callsIn gives the arguments of each call of wtcache in a shell text.
func callsIn(t *testing.T, where, text string) (calls [][]string) {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(text), where)
	if err != nil {
		t.Errorf("the example of %s is not what a shell reads: %v", where, err)
		return nil
	}
	env := &expand.Config{Env: expand.FuncEnviron(func(string) string { return "postgres://localhost/shop" })}
	syntax.Walk(file, func(node syntax.Node) bool {
		if call, ok := node.(*syntax.CallExpr); ok && len(call.Args) > 0 && call.Args[0].Lit() == "wtcache" {
			args, err := expand.Fields(env, call.Args[1:]...)
			if err != nil {
				t.Errorf("the example of %s: %v", where, err)
			}
			calls = append(calls, args)
		}
		return true
	})
	return calls
}

// parses is whether a command takes the arguments, without running it.
func parses(args []string) error {
	root := newRoot()
	root.InitDefaultCompletionCmd(args...)
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	if err := cmd.ValidateFlagGroups(); err != nil {
		return err
	}
	return cmd.ValidateArgs(cmd.Flags().Args())
}

// TestMisspelled: whoever misspells a command or a flag is told which one was meant, and a script sees exit code 2.
func TestMisspelled(t *testing.T) {
	for args, want := range map[string]string{
		"chekc":           "check",
		"schema --aplly":  "did you mean --apply?",
		"drain --colour":  "did you mean --color?",
		"check --xyzzy":   "wtcache check --help",
		"drain --color=x": "one of auto, always, never",
	} {
		var stderr bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), io.Discard, &stderr); code != exitTrouble || !strings.Contains(stderr.String(), want) {
			t.Errorf("wtcache %s: exit code %d and %q; want %d and %q", args, code, stderr.String(), exitTrouble, want)
		}
	}
}

// TestHelp: the first help that a user sees groups the commands, says what exit codes mean and how to get completion.
func TestHelp(t *testing.T) {
	var stdout bytes.Buffer
	if code := run(t.Context(), []string{"--help"}, &stdout, io.Discard); code != exitFine {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{"Set up:", "Do:", "Other:", "Exit codes: 0", "completion", "--color"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("%q is not said:\n%s", want, stdout.String())
		}
	}
}

// TestFlagsHaveUsage: every flag says what it is for.
func TestFlagsHaveUsage(t *testing.T) {
	for _, cmd := range eachCommand(newRoot()) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing", cmd.CommandPath(), f.Name)
			}
		})
	}
}
