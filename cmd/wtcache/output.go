package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// printJSONTo prints what --json prints: one object, indented, with < > & as they are.
func printJSONTo(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

// printJSONLineTo prints one object of a stream of many: one a line.
func printJSONLineTo(w io.Writer, v any) error {
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	return out.Encode(v)
}

// addOutputFlags gives the root the flags that all commands have.
func addOutputFlags(root *cobra.Command) {
	color := &choice{value: "auto", of: []string{"auto", "always", "never"}}
	root.PersistentFlags().Var(color, "color", "colours: auto (on a terminal, unless NO_COLOR is set), always or never")
	_ = root.RegisterFlagCompletionFunc("color", cobra.FixedCompletions(color.of, cobra.ShellCompDirectiveNoFileComp))
	root.PersistentFlags().BoolP("quiet", "q", false, "no progress on stderr")
}

// choice is a flag that takes one of some words.
type choice struct {
	value string
	of    []string
}

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return "word" }

func (c *choice) Set(s string) error {
	if !slices.Contains(c.of, s) {
		return fmt.Errorf("it must be one of %s", strings.Join(c.of, ", "))
	}
	c.value = s
	return nil
}

// paint colours words, or leaves them as they are. The zero value leaves them.
type paint struct{ on bool }

// paintOf looks at --color, NO_COLOR (https://no-color.org) and where stdout goes.
func paintOf(cmd *cobra.Command) paint {
	switch flag := cmd.Flag("color"); {
	case flag != nil && flag.Value.String() != "auto":
		return paint{flag.Value.String() == "always"}
	default:
		return paint{os.Getenv("NO_COLOR") == "" && isTerminal(cmd.OutOrStdout())}
	}
}

func (p paint) bad(s string) string  { return p.with("31", s) } // red: an error
func (p paint) warn(s string) string { return p.with("33", s) } // yellow: a warning
func (p paint) good(s string) string { return p.with("32", s) } // green: all is well
func (p paint) note(s string) string { return p.with("36", s) } // cyan: a note, a name
func (p paint) bold(s string) string { return p.with("1", s) }
func (p paint) dim(s string) string  { return p.with("2", s) }

func (p paint) with(code, s string) string {
	if !p.on || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// isTerminal is whether a person looks at what is written there, on something that knows escape codes.
func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && os.Getenv("TERM") != "dumb" && term.IsTerminal(int(file.Fd()))
}

// several counts things in words: 1 row, 2 rows.
func several(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
