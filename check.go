package wtcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/outbox"
	"github.com/wtcache/wtcache/rules"
)

// checkPatience bounds what Check asks of Redis: it is no request of a user, who would not wait so long.
const checkPatience = 10 * time.Second

// Check holds cfg against all that it names: the rules against the catalogue of the Postgres behind base, as the first
// connection does, the rights of base's role, and Redis' set-up and rights against what the rules need. It changes nothing and leaves nothing
// open. What is wrong is a finding, of severity Error where a program would not start or the cache would not
// work. The error is for what could not be looked at: it wraps ErrConfig for settings that cannot be used, and
// ErrUnavailable for a Redis that does not answer; findings can come with it.
func Check(ctx context.Context, base driver.Connector, cfg Config) ([]cachesync.Finding, error) {
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
	set, found, pgErr := e.checkPostgres(ctx, base)
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
func (e *engine) checkPostgres(ctx context.Context, base driver.Connector) (*rules.Set, []cachesync.Finding, error) {
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
	return set, append(found, tableFindings(set, session)...), nil
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

// tableFindings says what the session's role lacks, and what its policies cost.
func tableFindings(set *rules.Set, session *rules.Session) (found []cachesync.Finding) {
	for _, t := range set.Tables {
		target, ok := session.Lookup(t.Name.Schema, t.Name.Table)
		f := cachesync.Finding{Subject: "rights", Where: t.Rule.Pos.String()}
		switch {
		case !ok:
			continue
		case target.MissingSelect:
			f.Severity, f.Fix = cachesync.Error, target.Grant
			f.Problem = fmt.Sprintf("the role may write %s but not read it", t.Name)
			f.Loss = "every write of it is refused, since what was written could not be captured"
		case target.RowSecurity:
			f.Severity, f.Subject = cachesync.Info, "row security"
			f.Problem = fmt.Sprintf("row-level security is in force on %s", t.Name)
			f.Loss = "writes that do not pin every key make all entries of the rule absent; Redis holds one entry for all roles"
		default:
			continue
		}
		found = append(found, f)
	}
	return found
}

func (e *engine) checkRedis(ctx context.Context, set *rules.Set) ([]cachesync.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	needs := e.needs(set)
	cond, err := cachesync.Inspect(ctx, e.redisIs.rdb, needs)
	if err != nil {
		return nil, fmt.Errorf("ask Redis for its condition: %w", err)
	}
	return cond.Judge(needs), nil
}

func ruleFindings(severity cachesync.Severity, all []rules.Finding) []cachesync.Finding {
	found := make([]cachesync.Finding, len(all))
	for i, f := range all {
		found[i] = cachesync.Finding{Severity: severity, Subject: "rules", Where: f.Pos.String(), Problem: f.Problem, Fix: f.Fix}
	}
	return found
}
