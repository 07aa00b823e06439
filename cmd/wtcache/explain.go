package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
)

// explainOptions are the flags of explain.
type explainOptions struct {
	settings      settings
	files         []string
	args          []string
	failOn        []string
	asJSON, brief bool
}

func newExplain() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain [SQL …]",
		Short: "Say what the driver does with a statement, without running it",
		Long: `explain plans statements with the driver's own planner and says of each: which rules it
touches and how, whether it is precise or coarse and why, the text that Postgres gets, the
keys as far as the statement shows them, what is fenced when, and how it can be made
precise. Postgres is asked for its catalogue and the role's rights, and never gets the
statement; Redis is not asked.

Statements come as arguments, from --file, or from stdin ("-", or no argument where stdin
is no terminal). A text may hold several, with semicolons between them. A file may also
hold one statement a line, or be a log of Postgres (log_statement, or
log_min_duration_statement). Each statement is explained as if it was sent alone; one that
does not parse is reported with its line and column, and the others are explained.

The classes:
  unruled       goes by: it concerns no rule
  read          names a ruled table and changes none of its rows
  transaction   BEGIN, COMMIT, SAVEPOINT, …: followed
  session       changes what later statements mean: followed
  precise       the very rows are written through, or made absent
  pinned        the keys that the statement names become absent (row-level security)
  coarse        every entry of a rule becomes absent: two walks of the keyspace
  refused       the driver returns an error and sends nothing
  not-captured  may change ruled rows, and is not followed

Exit codes: 0 all was explained; 1 a statement does not parse, or is of a class that
--fail-on names; 2 nothing could be explained (wrong usage, settings or rules that cannot
be used, a server that does not answer).`,
		Example: `  wtcache explain --dsn postgres://localhost/shop --rules ./rules "UPDATE users SET name = $1 WHERE id = $2"
  wtcache explain --arg Ann --arg 42 "UPDATE users SET name = $1 WHERE id = $2"
  wtcache explain --file queries.sql --fail-on coarse,not-captured --brief
  psql -XAtc "SELECT query FROM pg_stat_statements" | wtcache explain --json | jq .summary`,
		RunE: func(cmd *cobra.Command, texts []string) error { return o.run(cmd, texts) },
	}
	o.settings.addTo(cmd)
	flags := cmd.Flags()
	flags.StringArrayVar(&o.files, "file", nil, "explain the statements of this file (several times for several)")
	flags.StringArrayVar(&o.args, "arg", nil, "an argument of the one statement, in the order of $1, $2, …: keys are shown with it")
	flags.StringSliceVar(&o.failOn, "fail-on", nil, "exit with 1 where a statement is of one of these classes, such as coarse,not-captured")
	flags.BoolVar(&o.brief, "brief", false, "one line a statement")
	flags.BoolVar(&o.asJSON, "json", false, "print one JSON object: statements, and a summary with the number of each class")
	_ = cmd.MarkFlagFilename("file", "sql", "log", "txt")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions(classNames(), cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("arg", cobra.NoFileCompletions)
	return cmd
}

// classes are those of Explanation, the worst last.
var classes = []wtcache.Class{
	wtcache.ClassUnruled, wtcache.ClassRead, wtcache.ClassTransaction, wtcache.ClassSession, wtcache.ClassPrecise,
	wtcache.ClassPinned, wtcache.ClassCoarse, wtcache.ClassRefused, wtcache.ClassNotCaptured,
}

func classNames() []string {
	names := make([]string, len(classes))
	for i, c := range classes {
		names[i] = string(c)
	}
	return names
}

func (o *explainOptions) run(cmd *cobra.Command, texts []string) error {
	for _, class := range o.failOn {
		if !slices.Contains(classNames(), class) {
			return fmt.Errorf("--fail-on %s: there is no such class; the classes are %s", class, strings.Join(classNames(), ", "))
		}
	}
	sources, err := orInterrupted(cmd.Context(), func() ([]explainSource, error) { return o.sources(cmd.InOrStdin(), texts) })
	if err != nil {
		return err
	}
	explained, err := orInterrupted(cmd.Context(), func() ([]explainedStatement, error) { return o.explain(cmd.Context(), sources) })
	if err != nil {
		return err
	}
	if len(explained) == 0 && len(o.files) == 0 {
		return errors.New("there is no statement in what was given; is a variable unset?") // in CI that is no pass
	}
	sum := summarise(explained, o.failOn)
	if o.asJSON {
		err = printJSONTo(cmd.OutOrStdout(), struct {
			Statements []explainedStatement `json:"statements"`
			Summary    explainSummary       `json:"summary"`
		}{explained, sum})
	} else {
		p := explainPrinter{paint: paintOf(cmd), width: widthOf(cmd.OutOrStdout()), brief: o.brief}
		_, err = io.WriteString(cmd.OutOrStdout(), p.print(explained, sum))
	}
	if err == nil && sum.Failed > 0 {
		return errFindings
	}
	return err
}

// explainedStatement is a statement and where it is from.
type explainedStatement struct {
	Source string `json:"source"` // the file's name, "-" for stdin, "" for an argument
	wtcache.Explanation
}

// explainSummary counts.
type explainSummary struct {
	Statements   int                   `json:"statements"`
	ByClass      map[wtcache.Class]int `json:"by_class"`
	SyntaxErrors int                   `json:"syntax_errors"`
	Failed       int                   `json:"failed"` // that make the exit code 1
}

func summarise(all []explainedStatement, failOn []string) explainSummary {
	s := explainSummary{Statements: len(all), ByClass: map[wtcache.Class]int{}}
	for _, e := range all {
		s.ByClass[e.Class]++
		if e.SyntaxError != nil {
			s.SyntaxErrors++
		}
		if e.SyntaxError != nil || slices.Contains(failOn, string(e.Class)) {
			s.Failed++
		}
	}
	return s
}

// explainSource is a text with its name.
type explainSource struct {
	name, text string
	loose      bool // it may be a log, or hold one statement a line
}

func (o *explainOptions) sources(stdin io.Reader, texts []string) ([]explainSource, error) {
	var all []explainSource
	if len(texts) == 0 && len(o.files) == 0 {
		if isTerminalIn(stdin) {
			return nil, errors.New("there is no statement; give one as an argument, --file queries.sql, or statements on stdin")
		}
		texts = []string{"-"}
	}
	for _, text := range texts {
		if text != "-" {
			all = append(all, explainSource{text: text})
			continue
		}
		read, err := io.ReadAll(stdin)
		if err != nil {
			return nil, fmt.Errorf("read stdin: %w", err)
		}
		all = append(all, explainSource{name: "-", text: string(read), loose: true})
	}
	for _, name := range o.files {
		read, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		all = append(all, explainSource{name: name, text: strings.TrimPrefix(string(read), "\ufeff"), loose: true})
	}
	return all, nil
}

func (o *explainOptions) explain(ctx context.Context, sources []explainSource) ([]explainedStatement, error) {
	if len(o.args) > 0 && len(sources) != 1 {
		return nil, errors.New("--arg goes with one statement; give that alone")
	}
	base, cfg, err := o.settings.open()
	if err != nil {
		return nil, err
	}
	x, err := wtcache.NewExplainer(ctx, base, cfg)
	if err != nil {
		return nil, err
	}
	args := make([]any, len(o.args))
	for i, arg := range o.args {
		args[i] = arg
	}
	all := []explainedStatement{}
	for _, source := range sources {
		found, err := explainText(x, source, args)
		if err != nil {
			return nil, err
		}
		for _, e := range found {
			all = append(all, explainedStatement{source.name, e})
		}
	}
	return all, nil
}
