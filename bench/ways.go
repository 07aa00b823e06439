package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
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

// action does something once. It is called by several goroutines at a time, each with a source of its own.
type action func(context.Context, *rand.Rand) error

// way is one way to do something, at work with pools and a table of its own.
type way struct {
	name      string
	table     string
	key       string // in Redis, before the id
	rows      int
	trips     *trips
	connector driver.Connector // db's
	db        *sql.DB
	pool      *pgxpool.Pool // in place of db, where pgx is used by itself
	redis     *redis.Client
	do        action
	fresh     bool // texts are not to be sent twice
}

// The ways.
const (
	wayPgx      = "pgx"            // database/sql and pgx alone: nothing is cached
	wayDual     = "dual-write"     // by hand as most do it: RETURNING, json.Marshal, SET
	wayBest     = "by-hand"        // by hand at its best: pgx itself, JSON made by Postgres, statements and SETs in one pipeline each
	wayTwoTrips = "two-trips"      // by-hand with a plain SET of a fence before: the least that any fenced write costs
	wayStrict   = "strict"         // wtcache
	wayAsync    = "strict-async"   // wtcache with apply: async
	wayEventual = "eventual"       // wtcache with consistency: eventual
	wayLoose    = "eventual-async" // and with apply: async
	wayCache    = "plan-cache"     // a part of wtcache alone
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

func (w *way) entry(id int64) string { return w.key + strconv.FormatInt(id, 10) }

// store is the second half of a dual write.
func (w *way) store(ctx context.Context, m *member) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return w.redis.Set(ctx, w.entry(m.ID), text, ttl).Err()
}

// open makes a way with pools of exactly so many connections, which stay open.
func (s *servers) open(ctx context.Context, name string, far bool, conns, rows int) (_ *way, err error) {
	postgres, redis := s.urls(far)
	table := "members_" + strings.ReplaceAll(name, "-", "_")
	w := &way{name: name, table: table, key: table + ":", rows: rows, trips: &trips{}}
	if err := s.table(ctx, table, rows); err != nil {
		return nil, err
	}
	if w.redis, err = client(redis, conns); err != nil {
		return nil, err
	}
	w.redis.AddHook(w.trips)
	if err := w.connect(ctx, postgres, conns); err != nil {
		return nil, errors.Join(err, w.close())
	}
	if w.db != nil {
		w.db.SetMaxOpenConns(conns)
		w.db.SetMaxIdleConns(conns)
	}
	return w, nil
}

func (w *way) connect(ctx context.Context, url string, conns int) error {
	if w.name == wayBest || w.name == wayTwoTrips {
		cfg, err := pgxpool.ParseConfig(url)
		if err != nil {
			return err
		}
		cfg.MaxConns, cfg.MinConns = int32(conns), int32(conns)
		w.pool, err = pgxpool.NewWithConfig(ctx, cfg)
		return err
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return err
	}
	w.connector = lender{stdlib.GetConnector(*cfg)}
	if rule, cached := ruleOf[w.name]; cached {
		text := fmt.Appendf(nil, "table: public.%s\nkey: \"%s{id}\"\n%s", w.table, w.key, rule)
		w.connector, err = wtcache.NewConnector(w.connector, wtcache.Config{
			Redis: w.redis, Rules: fstest.MapFS{"members.yaml": {Data: text}}, Outbox: wtcache.OutboxOff,
			Logger: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			return err
		}
	}
	w.db = sql.OpenDB(w.connector)
	return nil
}

func (w *way) close() error {
	if w.pool != nil {
		w.pool.Close()
	}
	var err error
	if w.db != nil {
		err = w.db.Close()
	}
	return errors.Join(err, w.redis.Close())
}

// settle waits for what wtcache does behind its callers.
func (w *way) settle(ctx context.Context) error {
	if !w.cached() {
		return nil
	}
	for ctx.Err() == nil {
		stats, err := wtcache.StatsOf(w.db)
		if err != nil || stats.AppliesPending == 0 {
			return err
		}
		time.Sleep(50 * time.Microsecond)
	}
	return ctx.Err()
}

// cached says that wtcache sees to the entries.
func (w *way) cached() bool {
	_, cached := ruleOf[w.name]
	return cached
}
