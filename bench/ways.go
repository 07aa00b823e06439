package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
)

// way is one way to do the same thing, at work.
type way struct {
	name  string
	table string
	rows  int
	trips *trips // to Redis
	// do does it once. It is called by several goroutines at a time, each with a source of its own.
	do    func(ctx context.Context, r *rand.Rand) error
	close func() error
}

// The ways.
const (
	wayPgx      = "pgx"            // database/sql and pgx alone: nothing is cached
	wayDual     = "dual-write"     // by hand as most do it: RETURNING, json.Marshal, SET
	wayBest     = "by-hand"        // by hand at its best: pgx itself, JSON made by Postgres, statements and SETs in one pipeline each
	wayStrict   = "strict"         // wtcache
	wayAsync    = "strict-async"   // wtcache with apply: async
	wayEventual = "eventual"       // wtcache with consistency: eventual
	wayLoose    = "eventual-async" // and with apply: async
)

// ruleOf are the lines that a way of wtcache's adds to its rule.
var ruleOf = map[string]string{
	wayStrict:   "",
	wayAsync:    "apply: async\n",
	wayEventual: "consistency: eventual\n",
	wayLoose:    "consistency: eventual\napply: async\n",
}

// member is a row as a service has it.
type member struct {
	ID      int64     `json:"id"`
	OrgID   int64     `json:"org_id"`
	Name    string    `json:"name"`
	Email   string    `json:"email"`
	Role    string    `json:"role"`
	Active  bool      `json:"active"`
	Credit  int64     `json:"credit"`
	Bio     string    `json:"bio"`
	Updated time.Time `json:"updated_at"`
}

const columns = "id, org_id, name, email, role, active, credit, bio, updated_at"

func (m *member) fields() []any {
	return []any{&m.ID, &m.OrgID, &m.Name, &m.Email, &m.Role, &m.Active, &m.Credit, &m.Bio, &m.Updated}
}

// ttl is how long entries live, by hand as with wtcache's default.
const ttl = 10 * time.Minute

// hands is what the ways without wtcache have.
type hands struct {
	db    *sql.DB
	pool  *pgxpool.Pool // wayBest's alone
	redis *redis.Client
	table string
	key   string // before the id
}

func (h *hands) name(id int64) string { return h.key + strconv.FormatInt(id, 10) }

// store is the second half of a dual write.
func (h *hands) store(ctx context.Context, m *member) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return h.redis.Set(ctx, h.name(m.ID), text, ttl).Err()
}

// open makes the pools of a way, of exactly so many connections that stay open, with a table of
// its own.
func (s *servers) open(ctx context.Context, name string, conns, rows int) (*way, *hands, error) {
	table := "members_" + strings.ReplaceAll(name, "-", "_")
	if err := s.table(ctx, table, rows); err != nil {
		return nil, nil, err
	}
	w := &way{name: name, table: table, rows: rows, trips: &trips{}}
	h := &hands{table: table, key: table + ":"}
	cfg, err := pgx.ParseConfig(s.env.DatabaseURL)
	if err != nil {
		return nil, nil, err
	}
	if h.redis, err = s.client(conns); err != nil {
		return nil, nil, err
	}
	h.redis.AddHook(w.trips)
	switch rule, cached := ruleOf[name]; {
	case cached:
		h.db, err = wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{
			Redis: h.redis, Outbox: wtcache.OutboxOff, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
			Rules: fstest.MapFS{"members.yaml": {Data: fmt.Appendf(nil, "table: public.%s\nkey: \"%s{id}\"\n%s", table, h.key, rule)}},
		})
	case name == wayBest:
		var pool *pgxpool.Config
		if pool, err = pgxpool.ParseConfig(s.env.DatabaseURL); err == nil {
			pool.MaxConns, pool.MinConns = int32(conns), int32(conns)
			h.pool, err = pgxpool.NewWithConfig(ctx, pool)
		}
	default:
		h.db = stdlib.OpenDB(*cfg)
	}
	if err != nil {
		return nil, nil, err
	}
	if h.db != nil {
		h.db.SetMaxOpenConns(conns)
		h.db.SetMaxIdleConns(conns)
	}
	w.close = func() error {
		if h.pool != nil {
			h.pool.Close()
		}
		if h.db != nil {
			if err := h.db.Close(); err != nil {
				return err
			}
		}
		return h.redis.Close()
	}
	return w, h, nil
}
