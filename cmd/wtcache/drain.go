package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
)

func newDrain() *cobra.Command {
	var s settings
	var asJSON bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "drain",
		Short: "Settle with Redis what the outbox holds",
		Long: `drain makes every key absent in Redis that the outbox says is owed, and takes it out of
the outbox once Redis has acknowledged. Programs do so by themselves; drain is for when
none of them runs, or to see that it can be done. It may run beside them.

Exit codes: 0 nothing is left; 1 rows are left that cannot be read or settled; 2 it could
not be done (wrong usage, settings that cannot be used, no outbox, a server that does not
answer).`,
		Example: `  wtcache drain --dsn postgres://localhost/shop --rules ./rules --redis redis://localhost:6379
  wtcache drain --json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			done, err := drain(ctx, &s)
			if err != nil && !errors.Is(err, wtcache.ErrNotDrained) {
				return err
			}
			if werr := printDrained(cmd, asJSON, done); werr != nil {
				return werr
			}
			if err == nil || errors.Is(err, wtcache.ErrUnavailable) {
				return err
			}
			complain(cmd.ErrOrStderr(), err)
			return errFindings
		},
	}
	s.addTo(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object: rows, keys, sweeps, left")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Minute, "give up after this time")
	return cmd
}

func drain(ctx context.Context, s *settings) (wtcache.Drained, error) {
	base, cfg, err := s.open()
	if err != nil {
		return wtcache.Drained{}, err
	}
	cfg.Logger = slog.New(slog.DiscardHandler) // what matters is in the error
	redis.SetLogger(silent{})
	return wtcache.Drain(ctx, base, cfg)
}

func printDrained(cmd *cobra.Command, asJSON bool, d wtcache.Drained) error {
	if !asJSON {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s drained: %s and %s made absent, %d left\n",
			several(int(d.Rows), "row"), several(int(d.Keys), "key"), several(int(d.Sweeps), "rule"), d.Left)
		return err
	}
	return printJSONTo(cmd.OutOrStdout(), map[string]int64{"rows": d.Rows, "keys": d.Keys, "sweeps": d.Sweeps, "left": d.Left})
}
