package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
)

// checkFlags are those of check alone.
type checkFlags struct {
	settings
	json, noRedis bool
	dump          string
	failOn        choice
	ignore        []string
}

func newCheck() *cobra.Command {
	f := checkFlags{failOn: choice{value: "error", of: []string{"error", "warning"}}}
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Hold rules, database and Redis against each other, and find the blind spots",
		Long: `check holds the rules against the live catalogue, as the driver does at its first
connection, and looks for the blind spots: triggers, functions, procedures, foreign keys,
views, rewrite rules, partitions, subscriptions and jobs that write ruled tables, other
roles that may, and who is connected now. It looks at the rights of the database's role,
and judges Redis: what it evicts, what a restart or a failover would lose, its version, its
scripts, and what its user may do; and the replicas of both, where settings name them. It
changes nothing. It tells what is wrong, where, what can be lost by it, and what to do.

Run it with the settings and the users of the program itself: the same DSN, environment
and role.

With --dump it needs no live database: it makes a database of its own on the server of
--dsn (the role needs CREATEDB), loads the schema there (pg_dump -s), checks the rules
against that, and drops it, whatever happens. Redis is looked at where one is named.

An error is what keeps a program from starting or the cache from working. A warning is a
way in which readers can be given old rows, or a cost at every write. A note is worth
knowing, and nothing has to be done.

Exit codes: 0 no finding at the level of --fail-on (error by default); 1 there are some;
2 it could not be looked at (wrong usage, settings that cannot be used, a server that does
not answer, a dump that cannot be loaded).`,
		Example: `  wtcache check --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
  WTCACHE_REDIS=redis://cache:6379 WTCACHE_RULES=./rules DATABASE_URL=postgres://db/shop wtcache check
  wtcache check --fail-on warning --ignore connections,function:public.nightly_cleanup
  wtcache check --dsn postgres://localhost/postgres --rules ./rules --dump schema.sql --no-redis
  wtcache check --json | jq '.findings[] | select(.severity == "error")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd) },
	}
	f.addTo(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&f.json, "json", false, "print one JSON object: findings, errors, warnings, ignored, and error where something could not be looked at")
	flags.StringVar(&f.dump, "dump", "", "check against the schema in this file (pg_dump -s), in a scratch database on the server of --dsn")
	flags.BoolVar(&f.noRedis, "no-redis", false, "leave Redis out; no URL is needed")
	flags.Var(&f.failOn, "fail-on", "exit with 1 from this level on: warning or error")
	_ = cmd.RegisterFlagCompletionFunc("fail-on", cobra.FixedCompletions(f.failOn.of, cobra.ShellCompDirectiveNoFileComp))
	flags.StringSliceVar(&f.ignore, "ignore", nil, "leave out findings of these subjects; subject:text leaves out those whose object holds the text")
	return cmd
}

func (f *checkFlags) run(cmd *cobra.Command) error {
	var level cachesync.Severity
	if err := level.UnmarshalText([]byte(f.failOn.value)); err != nil {
		return err
	}
	found, err := f.check(cmd.Context())
	if err != nil && found == nil && !f.json {
		return err
	}
	slices.SortStableFunc(found, func(a, b cachesync.Finding) int { return int(b.Severity - a.Severity) })
	kept, ignored := f.sift(found)
	show := printText
	if f.json {
		show = printJSON
	}
	if perr := show(cmd, kept, ignored, err); perr != nil {
		return perr
	}
	if err == nil && slices.ContainsFunc(kept, func(k cachesync.Finding) bool { return k.Severity >= level }) {
		return errFindings
	}
	return err
}

func (f *checkFlags) check(ctx context.Context) ([]cachesync.Finding, error) {
	base, cfg, err := f.open()
	if err != nil {
		return nil, err
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // all is in the findings
	redis.SetLogger(silent{})                  // and in the error
	opts := wtcache.CheckOptions{NoRedis: f.noRedis || f.dump != "" && cfg.RedisURL == ""}
	if f.dump == "" {
		return wtcache.CheckWith(ctx, base, cfg, opts)
	}
	dsn, err := dsnOr(f.dsn)
	if err != nil {
		return nil, err
	}
	return checkDump(ctx, dsn, f.dump, cfg, opts)
}

// sift takes out what --ignore names.
func (f *checkFlags) sift(found []cachesync.Finding) (kept []cachesync.Finding, ignored int) {
	for _, x := range found {
		if slices.ContainsFunc(f.ignore, func(what string) bool { return ignores(what, x) }) {
			ignored++
			continue
		}
		kept = append(kept, x)
	}
	return kept, ignored
}

// ignores takes a hyphen in a subject for a space, which needs quotes in a shell.
func ignores(what string, f cachesync.Finding) bool {
	subject, object, narrowed := strings.Cut(what, ":")
	same := strings.ReplaceAll(subject, "-", " ") == strings.ReplaceAll(f.Subject, "-", " ")
	return same && (!narrowed || strings.Contains(f.Object, object))
}

// silent keeps go-redis from writing about lost connections beside the report.
type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func count(found []cachesync.Finding, severity cachesync.Severity) (n int) {
	for _, f := range found {
		if f.Severity == severity {
			n++
		}
	}
	return n
}

func printText(cmd *cobra.Command, found []cachesync.Finding, ignored int, err error) error {
	var b strings.Builder
	p := paintOf(cmd)
	for _, f := range found {
		about := ""
		if f.Object != "" {
			about = ": " + f.Object
		}
		fmt.Fprintf(&b, "%s: %s (%s)%s\n    %s\n", severity(p, f.Severity), p.bold(f.Subject), f.Where, about, f.Problem)
		if f.Loss != "" {
			fmt.Fprintf(&b, "    What can be lost: %s\n", f.Loss)
		}
		if f.Fix != "" {
			fmt.Fprintf(&b, "    What to do: %s\n", strings.ReplaceAll(strings.TrimSpace(f.Fix), "\n", "\n        "))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s, %s, %s", several(count(found, cachesync.Error), "error"), several(count(found, cachesync.Warning), "warning"), several(count(found, cachesync.Info), "note"))
	if ignored > 0 {
		fmt.Fprintf(&b, "; %d ignored (--ignore)", ignored)
	}
	if err != nil {
		b.WriteString("; not everything could be looked at")
	}
	b.WriteByte('\n')
	_, werr := io.WriteString(cmd.OutOrStdout(), b.String())
	return werr
}

func severity(p paint, s cachesync.Severity) string {
	switch s {
	case cachesync.Error:
		return p.bad(s.String())
	case cachesync.Warning:
		return p.warn(s.String())
	default:
		return p.note(s.String())
	}
}

// report is what --json prints.
type report struct {
	Findings []cachesync.Finding `json:"findings"`
	Errors   int                 `json:"errors"`
	Warnings int                 `json:"warnings"`
	Ignored  int                 `json:"ignored,omitempty"` // left out by --ignore, and in no other number
	Error    string              `json:"error,omitempty"`   // why something could not be looked at
}

func printJSON(cmd *cobra.Command, found []cachesync.Finding, ignored int, err error) error {
	r := report{Findings: found, Errors: count(found, cachesync.Error), Warnings: count(found, cachesync.Warning), Ignored: ignored}
	if r.Findings == nil {
		r.Findings = []cachesync.Finding{}
	}
	if err != nil {
		r.Error = err.Error()
	}
	return printJSONTo(cmd.OutOrStdout(), r)
}
