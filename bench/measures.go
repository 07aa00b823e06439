package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

// measure is one thing that programs do, and the ways to do it.
type measure struct {
	name, title string
	rows        int // of each way's table
	ways        []string
	// how gives what a way does once.
	how map[string]func(*way) action
	// trial says that once takes long: a slice is one execution, and the table is tidied up before it. There are no
	// entries then, or, with full, there is one for each row.
	trial, full bool
	// paired takes the times of all ways in one slice, execution by execution: how the system wakes two processes that wait
	// for each other, which lasts for slices, is then the same for all. It is for what leaves no work to be done behind it.
	paired bool
	// far puts a distance between the program and both servers.
	far bool
	// tight, in place of how, does it so often by so many goroutines at a time: what takes nanoseconds has no time for a clock.
	tight func(goroutines, times int)
	goals []goal
}

// goal is the most that a way's median may be: as a multiple of another's in the same round, or by
// itself where over is "".
type goal struct {
	way, over string
	conns     int
	most      float64
	in        string // the unit; "" is the median time
}

// tableRows is how many rows a table has whose rows are written one by one.
const tableRows = 10_000

// someID is the row that is written, evenly out of all.
func (w *way) someID(r *rand.Rand) int64 { return r.Int64N(int64(w.rows)) + 1 }

var measures = []*measure{
	{
		name: "Unruled", title: "A statement that touches no rule: SELECT of one row by primary key", rows: tableRows, paired: true,
		ways: []string{wayPgx, wayStrict},
		how: map[string]func(*way) action{
			wayPgx: selectUnruled, wayStrict: selectUnruled,
		},
		goals: []goal{{wayStrict, wayPgx, 1, 1.01, ""}, {wayStrict, wayPgx, 8, 1.01, ""}, {wayStrict, wayPgx, 32, 1.01, ""}, {wayStrict, wayPgx, 1, 1, "allocs/op"}},
	},
	{
		name: "Update", title: "UPDATE of one row by primary key, by itself", rows: tableRows,
		ways: []string{wayPgx, wayDual, wayBest, wayTwoTrips, wayStrict, wayAsync, wayEventual, wayLoose},
		how: withRules(updateExec, map[string]func(*way) action{
			wayPgx: updateExec, wayDual: updateDual, wayBest: updateBest, wayTwoTrips: updateTwoTrips,
		}),
		goals: []goal{
			{wayStrict, wayDual, 1, 1.05, ""}, {wayStrict, wayDual, 32, 1, ""},
			{wayAsync, wayDual, 1, 1.05, ""}, {wayAsync, wayDual, 32, 1, ""},
			{wayEventual, wayDual, 1, 0.95, ""}, {wayEventual, wayDual, 32, 0.9, ""},
			{wayLoose, wayDual, 1, 0.95, ""}, {wayLoose, wayDual, 32, 0.9, ""},
			{wayStrict, "", 1, 2.05, unitTrips}, // who Redis is, is asked now and then,
		},
	},
	{
		name: "FarUpdate", title: "The same, both servers some milliseconds away", rows: tableRows, far: true,
		ways: []string{wayPgx, wayDual, wayBest, wayTwoTrips, wayStrict, wayAsync, wayEventual, wayLoose},
		how: withRules(updateExec, map[string]func(*way) action{
			wayPgx: updateExec, wayDual: updateDual, wayBest: updateBest, wayTwoTrips: updateTwoTrips,
		}),
	},
	{
		name: "Transaction", title: "A transaction of five UPDATEs by primary key", rows: tableRows,
		ways: []string{wayPgx, wayDual, wayBest, wayTwoTrips, wayStrict, wayAsync},
		how: withRules(txExec, map[string]func(*way) action{
			wayPgx: txExec, wayDual: txDual, wayBest: txBest, wayTwoTrips: txTwoTrips,
		}),
		goals: []goal{{wayStrict, wayPgx, 1, 1.15, ""}, {wayAsync, wayPgx, 1, 1.15, ""}, {wayStrict, wayPgx, 32, 1.15, ""}, {wayAsync, wayPgx, 32, 1.15, ""}},
	},
	{
		name: "Literals", title: "UPDATE of one row whose text never repeats: the values are in it", rows: tableRows,
		ways: []string{wayPgx, wayDual, wayBest, wayTwoTrips, wayStrict, wayAsync},
		how: withRules(literalExec, map[string]func(*way) action{
			wayPgx: literalExec, wayDual: literalDual, wayBest: literalBest, wayTwoTrips: literalTwoTrips,
		}),
		goals: []goal{{wayStrict, wayPgx, 1, 1.2, ""}, {wayAsync, wayPgx, 1, 1.2, ""}, {wayStrict, wayPgx, 32, 1.2, ""}, {wayAsync, wayPgx, 32, 1.2, ""}},
	},
	bulk("Bulk10k", 10_000),
	bulk("Bulk100k", 100_000, goal{wayStrict, wayPgx, 1, 1.5, ""}),
	bulk("Bulk300k", 300_000),
	once(bulk("Bulk100kOnce", 100_000, goal{wayStrict, wayPgx, 1, 1.5, ""})),
	full(bulk("Bulk100kCached", 100_000, goal{wayStrict, wayPgx, 1, 1.5, ""})),
	{
		name: "PlanLookup", title: "A look-up of a text's plan", ways: []string{wayCache}, tight: planLookup,
		goals: []goal{{wayCache, "", 1, 100, "ns/op"}, {wayCache, "", 1, 0, "allocs/op"}},
	},
}

// withRules adds that the ways of wtcache do what is done without a cache: no call site changes.
func withRules(plain func(*way) action, how map[string]func(*way) action) map[string]func(*way) action {
	for name := range ruleOf {
		how[name] = plain
	}
	return how
}

func selectUnruled(w *way) action {
	const text = "SELECT name, credit FROM others WHERE id = $1"
	return func(ctx context.Context, r *rand.Rand) error {
		var name string
		var credit int64
		return w.db.QueryRowContext(ctx, text, w.someID(r)).Scan(&name, &credit)
	}
}

func (w *way) update() string {
	return "UPDATE " + w.table + " SET credit = credit + $1, updated_at = now() WHERE id = $2"
}

func (w *way) returning() string { return w.update() + " RETURNING " + columns }

func (w *way) returningJSON() string { return w.update() + " RETURNING id, " + w.json() }

// json is a row's JSON as Postgres makes it.
func (w *way) json() string { return "row_to_json(" + w.table + ")::text" }

func updateExec(w *way) action {
	text := w.update()
	return func(ctx context.Context, r *rand.Rand) error {
		_, err := w.db.ExecContext(ctx, text, r.Int64N(100), w.someID(r))
		return err
	}
}

func updateDual(w *way) action {
	text := w.returning()
	return func(ctx context.Context, r *rand.Rand) error {
		var m member
		if err := w.db.QueryRowContext(ctx, text, r.Int64N(100), w.someID(r)).Scan(m.fields()...); err != nil {
			return err
		}
		return w.store(ctx, &m)
	}
}

// querier is a pool, or a transaction.
type querier interface {
	QueryRow(ctx context.Context, text string, args ...any) pgx.Row
}

// one runs a statement by hand that gives back the id and the JSON of the row that it writes.
func one(ctx context.Context, q querier, text string, args ...any) (id int64, row []byte, err error) {
	err = q.QueryRow(ctx, text, args...).Scan(&id, &row)
	return id, row, err
}

func updateBest(w *way) action {
	text := w.returningJSON()
	return func(ctx context.Context, r *rand.Rand) error {
		id, row, err := one(ctx, w.pool, text, r.Int64N(100), w.someID(r))
		if err != nil {
			return err
		}
		return w.redis.Set(ctx, w.entry(id), row, ttl).Err()
	}
}

const inTransaction = 5

// someIDs are rows in the order of their ids, so that two transactions do not deadlock.
func (w *way) someIDs(r *rand.Rand) []int64 {
	ids := make([]int64, inTransaction)
	for i := range ids {
		ids[i] = w.someID(r)
	}
	slices.Sort(ids)
	return ids
}

func txExec(w *way) action {
	text := w.update()
	return func(ctx context.Context, r *rand.Rand) error {
		tx, err := w.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after COMMIT it does nothing
		for _, id := range w.someIDs(r) {
			if _, err := tx.ExecContext(ctx, text, r.Int64N(100), id); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
}

func txDual(w *way) action {
	text := w.returning()
	return func(ctx context.Context, r *rand.Rand) error {
		tx, err := w.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after COMMIT it does nothing
		written := make([]member, 0, inTransaction)
		for _, id := range w.someIDs(r) {
			var m member
			if err := tx.QueryRowContext(ctx, text, r.Int64N(100), id).Scan(m.fields()...); err != nil {
				return err
			}
			written = append(written, m)
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		for i := range written {
			if err := w.store(ctx, &written[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

// txBest updates rows in one transaction by hand, which is one round trip.
func txBest(w *way) action {
	text := w.returningJSON()
	return func(ctx context.Context, r *rand.Rand) error {
		pipe, batch := w.redis.Pipeline(), pgx.Batch{}
		batch.Queue("BEGIN")
		for _, id := range w.someIDs(r) {
			batch.Queue(text, r.Int64N(100), id).QueryRow(func(row pgx.Row) error {
				var payload []byte
				if err := row.Scan(&id, &payload); err != nil {
					return err
				}
				pipe.Set(ctx, w.entry(id), payload, ttl)
				return nil
			})
		}
		batch.Queue("COMMIT")
		if err := w.pool.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		_, err := pipe.Exec(ctx)
		return err
	}
}

// never makes texts that were not sent before.
var never atomic.Int64

func (w *way) literal(r *rand.Rand, id int64) string {
	return fmt.Sprintf("UPDATE %s SET name = 'Member number %d', credit = %d WHERE id = %d", w.table, never.Add(1), r.Int64N(1000), id)
}

func (w *way) literalJSON(r *rand.Rand, id int64) string {
	return w.literal(r, id) + " RETURNING id, " + w.json()
}

// simple are the arguments of a text that is not to be prepared.
var simple = []any{pgx.QueryExecModeSimpleProtocol}

func literalExec(w *way) action {
	return func(ctx context.Context, r *rand.Rand) error {
		_, err := w.db.ExecContext(ctx, w.literal(r, w.someID(r)))
		return err
	}
}

func literalDual(w *way) action {
	return func(ctx context.Context, r *rand.Rand) error {
		var m member
		text := w.literal(r, w.someID(r)) + " RETURNING " + columns
		if err := w.db.QueryRowContext(ctx, text, simple...).Scan(m.fields()...); err != nil {
			return err
		}
		return w.store(ctx, &m)
	}
}

func literalBest(w *way) action {
	return func(ctx context.Context, r *rand.Rand) error {
		id, row, err := one(ctx, w.pool, w.literalJSON(r, w.someID(r)), simple...)
		if err != nil {
			return err
		}
		return w.redis.Set(ctx, w.entry(id), row, ttl).Err()
	}
}

// of gives the measures of these names; all where there are none.
func of(names string) ([]*measure, error) {
	if names == "" {
		return measures, nil
	}
	var some []*measure
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(measures, func(m *measure) bool { return strings.EqualFold(m.name, name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no measure %q", name)
		}
		some = append(some, measures[i])
	}
	return some, nil
}
