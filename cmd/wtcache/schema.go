package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/outbox"
)

func newSchema() *cobra.Command {
	var schema, dsn string
	var grantTo []string
	var apply, asJSON bool
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Print the outbox's tables as SQL, or make them",
		Long: `schema prints the SQL that makes the tables of the outbox, in which a write keeps what it
owes to Redis while Redis does not answer (redis_down: queue). It may be run again. With
--apply it is run in the database of --dsn. The role needs CREATE on the database; the
roles of the programs need what --grant-to gives them.

Exit codes: 0 done; 2 wrong usage, or the database refused.`,
		Example: `  wtcache schema | psql "$DATABASE_URL"
  wtcache schema --grant-to shop > migrations/0042_wtcache.sql
  wtcache schema --apply --dsn postgres://owner@localhost/shop --grant-to shop`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dsn != "" && !apply {
				return errors.New("--dsn does nothing without --apply")
			}
			schema, err := outboxSchema(schema, dsn)
			if err != nil {
				return err
			}
			text := outbox.Schema(schema)
			for _, role := range grantTo {
				text += "\n" + outbox.Grants(schema, role)
			}
			if apply {
				if err := execute(cmd, dsn, text); err != nil {
					return err
				}
			}
			switch stdout := cmd.OutOrStdout(); {
			case asJSON:
				return printJSONTo(stdout, map[string]any{"schema": schema, "sql": text, "applied": apply})
			case apply:
				_, err := fmt.Fprintf(stdout, "the outbox is in schema %s\n", schema)
				return err
			default:
				_, err := io.WriteString(stdout, text)
				return err
			}
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&schema, "schema", "", "schema of the tables (default wtcache_outbox of the DSN, else $WTCACHE_OUTBOX, else wtcache)")
	flags.StringArrayVar(&grantTo, "grant-to", nil, "role that may write to the outbox and drain it; may be repeated")
	flags.BoolVar(&apply, "apply", false, "run it instead of printing it")
	flags.StringVar(&dsn, "dsn", "", "DSN of Postgres, with --apply (default $WTCACHE_DSN, else $DATABASE_URL)")
	flags.BoolVar(&asJSON, "json", false, "print one JSON object: schema, sql, applied")
	return cmd
}

// outboxSchema gives the flag's schema, else the one in which the programs with these settings look for the outbox.
func outboxSchema(flag, dsn string) (string, error) {
	if flag != "" {
		return flag, nil
	}
	dsn, _ = dsnOr(dsn) // printing needs no database
	_, cfg, err := wtcache.ParseDSN(dsn)
	if err != nil {
		return "", err
	}
	if cfg.Outbox == wtcache.OutboxOff {
		return "", errors.New("the outbox is off (wtcache_outbox of the DSN, or $WTCACHE_OUTBOX), so that no tables are needed; to make them all the same name their schema with --schema")
	}
	return cmp.Or(cfg.Outbox, outbox.DefaultSchema), nil
}

func execute(cmd *cobra.Command, dsn, text string) error {
	dsn, err := dsnOr(dsn)
	if err != nil {
		return err
	}
	base, _, err := wtcache.ParseDSN(dsn)
	if err != nil {
		return err
	}
	conn, err := pgx.Connect(cmd.Context(), base)
	if err != nil {
		return err
	}
	defer conn.Close(cmd.Context()) //nolint:errcheck // all was acknowledged, or failed before
	if _, err := conn.PgConn().Exec(cmd.Context(), text).ReadAll(); err != nil {
		return fmt.Errorf("make the outbox: %w", err)
	}
	return nil
}
