package wtcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/blindspots"
	"github.com/wtcache/wtcache/internal/outbox"
	"github.com/wtcache/wtcache/rules"
)

// checkPatience bounds what Check asks of Redis: it is no request of a user, who would not wait so long.
const checkPatience = 10 * time.Second

// CheckOptions choose what Check looks at. The zero value is all.
type CheckOptions struct {
	// NoRedis leaves Redis out; Config need not name one.
	NoRedis bool
	// SchemaOnly says that the database was made from a dump of the schema: rights, roles, connections,
	// settings and replicas are not those of the one that is meant, and are left out.
	SchemaOnly bool
}

// Check is CheckWith without options.
func Check(ctx context.Context, base driver.Connector, cfg Config) ([]cachesync.Finding, error) {
	return CheckWith(ctx, base, cfg, CheckOptions{})
}

// CheckWith holds cfg against all that it names: the rules against the catalogue of the Postgres behind base, as the first
// connection does; the ways in which ruled tables can be written unseen; the rights of base's role; Redis' set-up and rights
// against what the rules need; and the replicas of both. It changes nothing and leaves nothing open. What is wrong is a finding, of severity Error where a program would not start or the cache would not
// work. The error is for what could not be looked at: it wraps ErrConfig for settings that cannot be used, and
// ErrUnavailable for a Redis that does not answer; findings can come with it.
func CheckWith(ctx context.Context, base driver.Connector, cfg Config, opts CheckOptions) ([]cachesync.Finding, error) {
	if opts.NoRedis {
		unused := redis.NewClient(&redis.Options{}) // the engine needs one; nothing is dialled until it is asked
		defer unused.Close()
		cfg.Redis, cfg.RedisURL, cfg.RedisReplica, cfg.RedisReplicaURL = unused, "", nil, ""
	}
	e, err := newEngine(cfg)
	if fault, ok := errors.AsType[*rules.Error](err); ok {
		return ruleFindings(cachesync.Error, fault.Findings), nil
	}
	if err != nil {
		return nil, err
	}
	defer e.close()
	if e.cfg.Mode == ModeOff {
		return []cachesync.Finding{{Severity: cachesync.Info, Subject: "mode", Where: "settings", Problem: "wtcache is off: nothing is captured, cached or checked"}}, nil
	}
	set, found, pgErr := e.checkPostgres(ctx, base, opts)
	if opts.NoRedis {
		return append(found, cachesync.Finding{Severity: cachesync.Info, Subject: "redis", Where: "settings", Problem: "Redis was not looked at; the rules were held against the catalogue alone"}), pgErr
	}
	more, redisErr := e.checkRedis(ctx, set)
	return append(found, more...), errors.Join(pgErr, redisErr)
}

// bareConn opens a connection that captures nothing, to ask questions on. The caller closes its base.
func (e *engine) bareConn(ctx context.Context, base driver.Connector) (*conn, error) {
	raw, err := base.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to Postgres: %w", err)
	}
	b, err := requireInterfaces(raw)
	if err != nil {
		return nil, errors.Join(err, raw.Close())
	}
	c := &conn{engine: e, base: b}
	c.pgx, _ = PgxConn(raw)
	return c, nil
}

// checkPostgres does what the first connection does, and looks at every ruled table's rights. The set is nil where the
// rules do not fit, or were not held against anything.
func (e *engine) checkPostgres(ctx context.Context, base driver.Connector, opts CheckOptions) (*rules.Set, []cachesync.Finding, error) {
	c, err := e.bareConn(ctx, base)
	if err != nil {
		return nil, nil, err
	}
	defer c.base.conn.Close()
	q := c.querier()
	catalog, err := rules.LoadCatalog(ctx, q, e.rules)
	if err != nil {
		return nil, nil, fmt.Errorf("read the catalogue for the rules: %w", err)
	}
	set, faults, warnings := rules.Bind(e.rules, catalog)
	// Of blind spots more is said below.
	warnings = slices.DeleteFunc(warnings, func(f rules.Finding) bool { return f.Blind && len(faults) == 0 })
	found := append(ruleFindings(cachesync.Error, faults), ruleFindings(cachesync.Warning, warnings)...)
	lack, err := e.outboxFindings(ctx, q)
	found = append(found, lack...)
	if err != nil || len(faults) > 0 {
		return nil, found, err
	}
	session, err := set.Session(ctx, q, false)
	if err != nil {
		return set, found, err
	}
	blind, err := blindspots.Find(ctx, q, set, session, blindspots.Options{SchemaOnly: opts.SchemaOnly})
	found = append(found, blind...)
	if err != nil || opts.SchemaOnly {
		return set, found, err
	}
	return set, append(found, e.readReplicaFindings(ctx, q, set)...), nil
}

// outboxFindings says what the outbox lacks, where a rule needs one.
func (e *engine) outboxFindings(ctx context.Context, q rules.Querier) ([]cachesync.Finding, error) {
	if !e.durable() {
		return nil, nil
	}
	err := outbox.Check(ctx, q, e.cfg.Outbox)
	lack, ok := errors.AsType[*outbox.MissingError](err)
	if !ok {
		return nil, err
	}
	return []cachesync.Finding{{
		Severity: cachesync.Error, Subject: "outbox", Where: "schema " + lack.Schema, Problem: lack.Problem, Fix: lack.Statement,
		Loss: "what a write owes to Redis while it does not answer has nowhere to go (redis_down: queue)",
	}}, nil
}

func (e *engine) checkRedis(ctx context.Context, set *rules.Set) ([]cachesync.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	needs := e.needs(set)
	cond, err := cachesync.Inspect(ctx, e.redisIs.rdb, needs)
	if err != nil {
		return nil, fmt.Errorf("ask Redis for its condition: %w", err)
	}
	found := cond.Judge(needs)
	if e.replica != nil {
		found = append(found, cachesync.JudgeReplica(ctx, e.redisIs.rdb, e.replica)...)
	}
	return found, nil
}

func ruleFindings(severity cachesync.Severity, all []rules.Finding) []cachesync.Finding {
	found := make([]cachesync.Finding, len(all))
	for i, f := range all {
		found[i] = cachesync.Finding{Severity: severity, Subject: "rules", Where: f.Pos.String(), Problem: f.Problem, Fix: f.Fix}
	}
	return found
}
