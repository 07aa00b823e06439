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

func newCheck() *cobra.Command {
	var s settings
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Hold rules, database and Redis against each other",
		Long: `check holds the rules against the live catalogue, as the driver does at its first
connection, looks at the rights of the database's role, and judges Redis: what it evicts,
what a restart or a failover would lose, its version, its scripts, and what its user may
do. It changes nothing. It tells what is wrong, where, what can be lost by it, and what to
do.

Run it with the settings and the users of the program itself: the same DSN, environment
and role.

Exit codes: 0 no finding at error level; 1 there are some: a program would not start, or
would not cache; 2 it could not be looked at (wrong usage, settings that cannot be used, a
server that does not answer).`,
		Example: `  wtcache check --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
  WTCACHE_REDIS=redis://cache:6379 WTCACHE_RULES=./rules DATABASE_URL=postgres://db/shop wtcache check
  wtcache check --json | jq '.findings[] | select(.severity == "error")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			found, err := check(cmd.Context(), &s)
			if err != nil && found == nil && !asJSON {
				return err
			}
			show := printText
			if asJSON {
				show = printJSON
			}
			if perr := show(cmd, found, err); perr != nil {
				return perr
			}
			if err == nil && count(found, cachesync.Error) > 0 {
				return errFindings
			}
			return err
		},
	}
	s.addTo(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object: findings, errors, warnings, and error where something could not be looked at")
	return cmd
}

func check(ctx context.Context, s *settings) ([]cachesync.Finding, error) {
	base, cfg, err := s.open()
	if err != nil {
		return nil, err
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // all is in the findings
	redis.SetLogger(silent{})                  // and in the error
	found, err := wtcache.Check(ctx, base, cfg)
	slices.SortStableFunc(found, func(a, b cachesync.Finding) int { return int(b.Severity - a.Severity) })
	return found, err
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

func printText(cmd *cobra.Command, found []cachesync.Finding, err error) error {
	var b strings.Builder
	p := paintOf(cmd)
	for _, f := range found {
		fmt.Fprintf(&b, "%s: %s (%s)\n    %s\n", severity(p, f.Severity), p.bold(f.Subject), f.Where, f.Problem)
		if f.Loss != "" {
			fmt.Fprintf(&b, "    What can be lost: %s\n", f.Loss)
		}
		if f.Fix != "" {
			fmt.Fprintf(&b, "    What to do: %s\n", strings.ReplaceAll(strings.TrimSpace(f.Fix), "\n", "\n        "))
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "%s, %s, %s", several(count(found, cachesync.Error), "error"), several(count(found, cachesync.Warning), "warning"), several(count(found, cachesync.Info), "note"))
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
	Error    string              `json:"error,omitempty"` // why something could not be looked at
}

func printJSON(cmd *cobra.Command, found []cachesync.Finding, err error) error {
	r := report{Findings: found, Errors: count(found, cachesync.Error), Warnings: count(found, cachesync.Warning)}
	if r.Findings == nil {
		r.Findings = []cachesync.Finding{}
	}
	if err != nil {
		r.Error = err.Error()
	}
	return printJSONTo(cmd.OutOrStdout(), r)
}
