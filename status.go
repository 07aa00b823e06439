package wtcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/outbox"
)

// StatusReport is what can be seen of a set-up without being one of its programs: rules, Redis, the outbox, and what Check
// finds. Its JSON has durations in seconds.
type StatusReport struct {
	Time     time.Time           `json:"time"`
	Mode     Mode                `json:"mode"`
	Rules    []RuleInfo          `json:"rules"`
	Redis    RedisStatus         `json:"redis"`
	Outbox   OutboxStatus        `json:"outbox"`
	Findings []cachesync.Finding `json:"findings"`
	// PostgresError is why Postgres could not be asked; "" where it was.
	PostgresError string `json:"postgres_error,omitempty"`
}

// RedisStatus is Redis' condition.
type RedisStatus struct {
	Error    string             `json:"error,omitempty"` // why it could not be asked
	Topology cachesync.Topology `json:"topology,omitempty"`
	Servers  []RedisServer      `json:"servers,omitempty"`
	// AnswerSeconds is how long all questions took together.
	AnswerSeconds float64 `json:"answer_seconds,omitempty"`
}

// RedisServer is one server that holds keys. Numbers that it does not tell are -1.
type RedisServer struct {
	Name           string  `json:"name"`
	Software       string  `json:"software,omitempty"`
	Version        string  `json:"version,omitempty"`
	Role           string  `json:"role,omitempty"`
	UptimeSeconds  float64 `json:"uptime_seconds"`
	Policy         string  `json:"maxmemory_policy,omitempty"`
	MaxMemoryBytes int64   `json:"maxmemory_bytes"`
	UsedBytes      int64   `json:"used_bytes"`
	EvictedKeys    int64   `json:"evicted_keys"`
	Replicas       int64   `json:"replicas"`
	// Epoch is since when the server is known as what it is: entries from before it are not trusted. nil: no program has met it, or
	// it does not say who it is. Always: since ever.
	Epoch  *time.Time `json:"epoch,omitempty"`
	Always bool       `json:"epoch_always,omitempty"`
}

// OutboxStatus is what the outbox holds.
type OutboxStatus struct {
	Needed        bool           `json:"needed"` // a rule queues, and the outbox is not off
	Schema        string         `json:"schema,omitempty"`
	Error         string         `json:"error,omitempty"` // why it could not be read
	Rows          int64          `json:"rows"`
	Held          int64          `json:"held"` // rows for commits that are still to come, while an outage lasts
	OldestSeconds float64        `json:"oldest_seconds"`
	Outages       []OutageStatus `json:"outages,omitempty"`
}

// OutageStatus is a process that writes past Redis just now: no process serves cached values of rules that queue meanwhile.
type OutageStatus struct {
	Process       string  `json:"process"`
	ForSeconds    float64 `json:"for_seconds"`
	SilentSeconds float64 `json:"silent_seconds"` // since the process was last alive; after 30 s others take over
	GivenUp       bool    `json:"given_up,omitempty"`
}

// Status looks at a set-up from outside: it reads the rules, holds them against the catalogue of the Postgres behind base, reads the
// outbox, and asks Redis for its condition. It changes nothing, joins nothing and leaves nothing open. What does not answer is told in
// the report, too: the error is for settings and rules that cannot be used, and wraps ErrConfig or ErrRules, or it is the context's.
func Status(ctx context.Context, base driver.Connector, cfg Config) (*StatusReport, error) {
	e, err := newEngine(cfg)
	if err != nil {
		return nil, err
	}
	defer e.close()
	r := &StatusReport{Time: time.Now(), Mode: e.cfg.Mode, Rules: []RuleInfo{}, Findings: []cachesync.Finding{}}
	if e.cfg.Mode == ModeOff {
		return r, nil
	}
	r.Outbox.Needed = e.durable()
	if e.cfg.Outbox != OutboxOff {
		r.Outbox.Schema = e.cfg.Outbox
	}
	set, found, err := e.checkPostgres(ctx, base, CheckOptions{})
	r.Findings = append(r.Findings, found...)
	switch {
	case err != nil:
		r.PostgresError = err.Error()
		r.Outbox.Error = "Postgres could not be asked"
	case r.Outbox.Needed:
		e.lookAtOutbox(ctx, base, &r.Outbox)
	}
	var gen *generation
	if set != nil {
		gen = newGeneration(set, false)
	}
	r.Rules = e.ruleInfos(gen)
	e.lookAtRedis(ctx, e.needs(set), r)
	return r, ctx.Err()
}

func (e *engine) lookAtOutbox(ctx context.Context, base driver.Connector, s *OutboxStatus) {
	c, err := e.bareConn(ctx, base)
	if err != nil {
		s.Error = err.Error()
		return
	}
	defer c.base.conn.Close()
	o, err := outbox.Look(ctx, c.querier(), e.cfg.Outbox)
	if err != nil {
		s.Error = err.Error()
		return
	}
	s.Rows, s.Held, s.OldestSeconds = o.Rows, o.Held, o.Oldest.Seconds()
	for _, out := range o.Outages {
		s.Outages = append(s.Outages, OutageStatus{out.Process, out.For.Seconds(), out.SilentFor.Seconds(), out.GivenUp})
	}
}

func (e *engine) lookAtRedis(ctx context.Context, needs cachesync.Needs, r *StatusReport) {
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	began := time.Now()
	cond, err := cachesync.Inspect(ctx, e.redisIs.rdb, needs)
	if err != nil {
		r.Redis.Error = fmt.Errorf("ask Redis for its condition: %w", err).Error()
		return
	}
	r.Redis.AnswerSeconds = time.Since(began).Seconds()
	r.Findings = append(r.Findings, cond.Judge(needs)...)
	epochs, err := cachesync.Epochs(ctx, e.redisIs.rdb)
	if err != nil && !errors.Is(err, cachesync.ErrUnavailable) {
		r.Redis.Error = fmt.Errorf("ask Redis since when it is known: %w", err).Error()
	}
	r.Redis.Topology = cond.Topology
	for _, s := range cond.Servers {
		r.Redis.Servers = append(r.Redis.Servers, redisServer(s, epochs))
	}
}

func redisServer(s cachesync.Server, epochs []cachesync.Epoch) RedisServer {
	out := RedisServer{
		Name: s.Name, Software: s.Software, Version: s.Version, Role: s.Role, UptimeSeconds: s.Uptime.Seconds(),
		Policy: s.Policy, MaxMemoryBytes: s.MaxMemoryBytes, UsedBytes: s.UsedBytes, EvictedKeys: s.EvictedKeys, Replicas: s.Replicas,
	}
	for _, e := range epochs {
		if e.Server != s.Name {
			continue
		}
		if out.Always = e.Since.IsZero(); !out.Always {
			since := e.Since
			out.Epoch = &since
		}
	}
	return out
}
