package main

import (
	"database/sql/driver"
	"errors"
	"os"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/spf13/cobra"

	"github.com/wtcache/wtcache"
)

// settings are the flags that say where everything is. They win over the DSN's own keys, which win over the environment.
type settings struct {
	dsn, redis, rules, mode, outbox string
	acceptEviction                  bool
	redisTimeout                    time.Duration
}

func (s *settings) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.dsn, "dsn", "", "DSN of Postgres, as the program has it, wtcache_ keys and all (default $WTCACHE_DSN, else $DATABASE_URL)")
	flags.StringVar(&s.redis, "redis", "", "URL of Redis (default wtcache_redis of the DSN, else $WTCACHE_REDIS)")
	flags.StringVar(&s.rules, "rules", "", "folder, file or glob of rule files (default wtcache_rules of the DSN, else $WTCACHE_RULES)")
	flags.StringVar(&s.mode, "mode", "", "strict, eventual or off (default wtcache_mode of the DSN, else $WTCACHE_MODE, else strict)")
	flags.StringVar(&s.outbox, "outbox", "", "schema of the outbox, or off (default wtcache_outbox of the DSN, else $WTCACHE_OUTBOX, else wtcache)")
	flags.BoolVar(&s.acceptEviction, "accept-eviction", false, "as wtcache_eviction=accept: Redis may evict fences")
	flags.DurationVar(&s.redisTimeout, "redis-timeout", 0, "deadline of a call to Redis (default wtcache_redis_timeout of the DSN, else $WTCACHE_REDIS_TIMEOUT)")
	_ = cmd.RegisterFlagCompletionFunc("mode", cobra.FixedCompletions([]string{"strict", "eventual", "off"}, cobra.ShellCompDirectiveNoFileComp))
	for _, name := range []string{"dsn", "redis", "outbox"} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.NoFileCompletions)
	}
}

// open gives what the driver would work with. Nothing is dialled.
func (s *settings) open() (driver.Connector, wtcache.Config, error) {
	dsn, err := dsnOr(s.dsn)
	if err != nil {
		return nil, wtcache.Config{}, err
	}
	base, cfg, err := wtcache.ParseDSN(dsn)
	if err != nil {
		return nil, cfg, err
	}
	s.override(&cfg)
	connector, err := stdlib.GetDefaultDriver().(driver.DriverContext).OpenConnector(base)
	return connector, cfg, err
}

// dsnOr gives the flag's DSN, else the environment's.
func dsnOr(flag string) (string, error) {
	for _, dsn := range []string{flag, os.Getenv("WTCACHE_DSN"), os.Getenv("DATABASE_URL")} {
		if dsn != "" {
			return dsn, nil
		}
	}
	return "", errors.New("no Postgres is named; add --dsn postgres://… or set WTCACHE_DSN or DATABASE_URL")
}

func (s *settings) override(cfg *wtcache.Config) {
	if s.redis != "" {
		cfg.RedisURL = s.redis
	}
	if s.rules != "" {
		cfg.RulesPath = s.rules
	}
	if s.mode != "" {
		cfg.Mode = wtcache.Mode(s.mode)
	}
	if s.outbox != "" {
		cfg.Outbox = s.outbox
	}
	if s.redisTimeout != 0 {
		cfg.RedisTimeout = s.redisTimeout
	}
	cfg.AcceptEviction = cfg.AcceptEviction || s.acceptEviction
}
