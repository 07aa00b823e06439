package main

import (
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache/rules/draft"
)

// initReport is what init --json prints.
type initReport struct {
	Folder  string          `json:"folder"`
	Files   []initFile      `json:"files"`
	Skipped []draft.Skipped `json:"skipped"`
	Error   string          `json:"error,omitempty"` // why not all files were seen to

	named int    // how many tables --only names
	check string // the command that comes next
}

// initFile is a drafted file and what became of it.
type initFile struct {
	*draft.File
	Action draft.Action `json:"action"`
}

// atFault says that somebody has to look: a file was kept, or somebody's table has no rule.
func (r *initReport) atFault() bool {
	return len(r.Files) == 0 || r.named > len(r.Files) || r.count(draft.Kept) > 0
}

func (r *initReport) count(action draft.Action) (n int) {
	for _, f := range r.Files {
		if f.Action == action {
			n++
		}
	}
	return n
}

func (r *initReport) print(cmd *cobra.Command, f *initFlags) error {
	if f.asJSON {
		return printJSONTo(cmd.OutOrStdout(), r)
	}
	var b strings.Builder
	p := paintOf(cmd)
	if f.dryRun {
		r.texts(&b, p)
	} else {
		r.table(&b, p)
	}
	if r.Error == "" {
		r.skipped(&b, p)
		r.summary(&b)
	}
	_, err := io.WriteString(cmd.OutOrStdout(), b.String())
	return err
}

func (r *initReport) texts(b *strings.Builder, p paint) {
	for _, f := range r.Files {
		fmt.Fprintf(b, "%s\n%s\n", p.bold("--- "+filepath.Join(r.Folder, f.Name)), f.Text)
	}
}

// table gives a line a file.
func (r *initReport) table(b *strings.Builder, p paint) {
	w := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	for _, f := range r.Files {
		var keys []string
		for _, e := range f.Entries {
			keys = append(keys, e.Key)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", f.Action, filepath.Join(r.Folder, f.Name), strings.Join(keys, "  "))
	}
	_ = w.Flush()
	if slices.ContainsFunc(r.Files, func(f initFile) bool { return len(f.Omitted) > 0 }) {
		b.WriteByte('\n')
	}
	for _, f := range r.Files {
		if len(f.Omitted) == 0 {
			continue
		}
		var columns []string
		for _, o := range f.Omitted {
			columns = append(columns, o.Column)
		}
		fmt.Fprintf(b, "%s leaves out %s\n", p.note(f.Name), strings.Join(columns, ", "))
	}
}

// skipped groups what has no rule by the reason.
func (r *initReport) skipped(b *strings.Builder, p paint) {
	if len(r.Skipped) == 0 {
		return
	}
	b.WriteString("\nNo rule:\n")
	var reasons []string
	for _, s := range r.Skipped {
		if !slices.Contains(reasons, s.Reason) {
			reasons = append(reasons, s.Reason)
		}
	}
	for _, reason := range reasons {
		var names []string
		for _, s := range r.Skipped {
			if s.Reason == reason {
				names = append(names, p.note(s.Name))
			}
		}
		fmt.Fprintf(b, "  %s\n    %s\n", strings.Join(names, ", "), reason)
	}
}

func (r *initReport) summary(b *strings.Builder) {
	b.WriteByte('\n')
	var parts []string
	for _, a := range []draft.Action{draft.Drafted, draft.Written, draft.Replaced, draft.Unchanged, draft.Kept} {
		if n := r.count(a); n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", several(n, "file"), a))
		}
	}
	switch {
	case len(r.Files) == 0:
		b.WriteString("There is no table that a rule could be drafted for.\n")
		return
	default:
		fmt.Fprintf(b, "%s.", strings.Join(parts, ", "))
	}
	if n := r.count(draft.Kept); n > 0 {
		b.WriteString(" Kept files differ from their drafts: --dry-run shows the drafts, --force overwrites.")
	}
	b.WriteString("\nNext: look through the files, make the outbox with \"wtcache schema\", and run \"" + r.check + "\".\n")
}
