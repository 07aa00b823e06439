package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// measure is one thing that programs do, and the ways to do it.
type measure struct {
	name, title string
	rows        int // of each way's table
	ways        []string
	// how gives what a way does once.
	how map[string]func(*hands) func(context.Context, *rand.Rand) error
	// trial says that once takes long: a slice is one execution, and the table is tidied up before it.
	trial bool
	goals []goal
}

// goal is the most that a way's median may take, as a multiple of another's in the same round.
type goal struct {
	way, over string
	conns     int
	most      float64
}

const rows = 10_000

// someID is the row that is written, evenly out of all.
func someID(r *rand.Rand) int64 { return r.Int64N(rows) + 1 }

var measures = []*measure{
	{
		name: "Unruled", title: "A statement that touches no rule: SELECT of one row by primary key", rows: rows,
		ways: []string{wayPgx, wayStrict},
		how: map[string]func(*hands) func(context.Context, *rand.Rand) error{
			wayPgx: selectUnruled, wayStrict: selectUnruled,
		},
		goals: []goal{{wayStrict, wayPgx, 1, 1.01}, {wayStrict, wayPgx, 8, 1.01}, {wayStrict, wayPgx, 32, 1.01}},
	},
	{
		name: "Update", title: "UPDATE of one row by primary key, by itself", rows: rows,
		ways: []string{wayPgx, wayDual, wayBest, wayStrict, wayEventual},
		how: withRules(updateExec, map[string]func(*hands) func(context.Context, *rand.Rand) error{
			wayPgx: updateExec, wayDual: updateDual, wayBest: updateBest,
		}),
		goals: []goal{
			{wayStrict, wayDual, 1, 1.05}, {wayStrict, wayDual, 32, 1},
			{wayAsync, wayDual, 1, 1.05}, {wayAsync, wayDual, 32, 1},
			{wayEventual, wayDual, 1, 0.95}, {wayEventual, wayDual, 32, 0.9},
			{wayLoose, wayDual, 1, 0.95}, {wayLoose, wayDual, 32, 0.9},
		},
	},
	{
		name: "Transaction", title: "A transaction of five UPDATEs by primary key", rows: rows,
		ways: []string{wayPgx, wayDual, wayBest, wayStrict},
		how: withRules(txExec, map[string]func(*hands) func(context.Context, *rand.Rand) error{
			wayPgx: txExec, wayDual: txDual, wayBest: txBest,
		}),
		goals: []goal{{wayStrict, wayPgx, 1, 1.15}, {wayAsync, wayPgx, 1, 1.15}, {wayStrict, wayPgx, 32, 1.15}, {wayAsync, wayPgx, 32, 1.15}},
	},
	{
		name: "Literals", title: "UPDATE of one row whose text never repeats: the values are in it", rows: rows,
		ways: []string{wayPgx, wayDual, wayBest, wayStrict},
		how: withRules(literalExec, map[string]func(*hands) func(context.Context, *rand.Rand) error{
			wayPgx: literalExec, wayDual: literalDual, wayBest: literalBest,
		}),
		goals: []goal{{wayStrict, wayPgx, 1, 1.2}, {wayAsync, wayPgx, 1, 1.2}, {wayStrict, wayPgx, 32, 1.2}, {wayAsync, wayPgx, 32, 1.2}},
	},
	{
		name: "Bulk", title: "One UPDATE of 100,000 rows", rows: 100_000, trial: true,
		ways: []string{wayPgx, wayDual, wayBest, wayStrict},
		how: withRules(bulkExec, map[string]func(*hands) func(context.Context, *rand.Rand) error{
			wayPgx: bulkExec, wayDual: bulkDual, wayBest: bulkBest,
		}),
		goals: []goal{{wayStrict, wayPgx, 1, 1.5}, {wayAsync, wayPgx, 1, 1.5}},
	},
}

// withRules adds that the ways of wtcache do what is done without a cache: no call site changes.
func withRules(plain func(*hands) func(context.Context, *rand.Rand) error, how map[string]func(*hands) func(context.Context, *rand.Rand) error) map[string]func(*hands) func(context.Context, *rand.Rand) error {
	for name := range ruleOf {
		how[name] = plain
	}
	return how
}

func selectUnruled(h *hands) func(context.Context, *rand.Rand) error {
	const text = "SELECT name, credit FROM others WHERE id = $1"
	return func(ctx context.Context, r *rand.Rand) error {
		var name string
		var credit int64
		return h.db.QueryRowContext(ctx, text, someID(r)).Scan(&name, &credit)
	}
}

func (h *hands) update() string {
	return "UPDATE " + h.table + " SET credit = credit + $1, updated_at = now() WHERE id = $2"
}

func (h *hands) returning() string { return h.update() + " RETURNING " + columns }

func (h *hands) returningJSON() string {
	return h.update() + " RETURNING id, row_to_json(" + h.table + ")::text"
}

func updateExec(h *hands) func(context.Context, *rand.Rand) error {
	text := h.update()
	return func(ctx context.Context, r *rand.Rand) error {
		_, err := h.db.ExecContext(ctx, text, r.Int64N(100), someID(r))
		return err
	}
}

func updateDual(h *hands) func(context.Context, *rand.Rand) error {
	text := h.returning()
	return func(ctx context.Context, r *rand.Rand) error {
		var m member
		if err := h.db.QueryRowContext(ctx, text, r.Int64N(100), someID(r)).Scan(m.fields()...); err != nil {
			return err
		}
		return h.store(ctx, &m)
	}
}

func updateBest(h *hands) func(context.Context, *rand.Rand) error {
	text := h.returningJSON()
	return func(ctx context.Context, r *rand.Rand) error {
		var id int64
		var row []byte
		if err := h.pool.QueryRow(ctx, text, r.Int64N(100), someID(r)).Scan(&id, &row); err != nil {
			return err
		}
		return h.redis.Set(ctx, h.name(id), row, ttl).Err()
	}
}

const inTransaction = 5

// someIDs are rows in the order of their ids, so that two transactions do not deadlock.
func someIDs(r *rand.Rand) []int64 {
	ids := make([]int64, inTransaction)
	for i := range ids {
		ids[i] = someID(r)
	}
	slices.Sort(ids)
	return ids
}

func txExec(h *hands) func(context.Context, *rand.Rand) error {
	text := h.update()
	return func(ctx context.Context, r *rand.Rand) error {
		tx, err := h.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after COMMIT it does nothing
		for _, id := range someIDs(r) {
			if _, err := tx.ExecContext(ctx, text, r.Int64N(100), id); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
}

func txDual(h *hands) func(context.Context, *rand.Rand) error {
	text := h.returning()
	return func(ctx context.Context, r *rand.Rand) error {
		tx, err := h.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after COMMIT it does nothing
		written := make([]member, 0, inTransaction)
		for _, id := range someIDs(r) {
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
			if err := h.store(ctx, &written[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func txBest(h *hands) func(context.Context, *rand.Rand) error {
	text := h.returningJSON()
	return func(ctx context.Context, r *rand.Rand) error {
		var batch pgx.Batch
		pipe := h.redis.Pipeline()
		batch.Queue("BEGIN")
		for _, id := range someIDs(r) {
			batch.Queue(text, r.Int64N(100), id).QueryRow(func(row pgx.Row) error {
				var id int64
				var payload []byte
				if err := row.Scan(&id, &payload); err != nil {
					return err
				}
				pipe.Set(ctx, h.name(id), payload, ttl)
				return nil
			})
		}
		batch.Queue("COMMIT")
		if err := h.pool.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		_, err := pipe.Exec(ctx)
		return err
	}
}

// never makes texts that were not sent before.
var never atomic.Int64

func (h *hands) literal(r *rand.Rand) string {
	return fmt.Sprintf("UPDATE %s SET name = 'Member number %d', credit = %d WHERE id = %d", h.table, never.Add(1), r.Int64N(1000), someID(r))
}

func literalExec(h *hands) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, r *rand.Rand) error {
		_, err := h.db.ExecContext(ctx, h.literal(r))
		return err
	}
}

func literalDual(h *hands) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, r *rand.Rand) error {
		var m member
		text := h.literal(r) + " RETURNING " + columns
		if err := h.db.QueryRowContext(ctx, text, pgx.QueryExecModeSimpleProtocol).Scan(m.fields()...); err != nil {
			return err
		}
		return h.store(ctx, &m)
	}
}

func literalBest(h *hands) func(context.Context, *rand.Rand) error {
	return func(ctx context.Context, r *rand.Rand) error {
		var id int64
		var row string
		text := h.literal(r) + " RETURNING id, row_to_json(" + h.table + ")::text"
		if err := h.pool.QueryRow(ctx, text, pgx.QueryExecModeSimpleProtocol).Scan(&id, &row); err != nil {
			return err
		}
		return h.redis.Set(ctx, h.name(id), row, ttl).Err()
	}
}

func (h *hands) bulk() string { return "UPDATE " + h.table + " SET credit = credit + $1" }

func bulkExec(h *hands) func(context.Context, *rand.Rand) error {
	text := h.bulk()
	return func(ctx context.Context, r *rand.Rand) error {
		_, err := h.db.ExecContext(ctx, text, r.Int64N(100))
		return err
	}
}

// chunk is how many SETs go into one pipeline by hand.
const chunk = 1000

func bulkDual(h *hands) func(context.Context, *rand.Rand) error {
	text := h.bulk() + " RETURNING " + columns
	return func(ctx context.Context, r *rand.Rand) error {
		rows, err := h.db.QueryContext(ctx, text, r.Int64N(100))
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // Err says it
		var all []member
		for rows.Next() {
			var m member
			if err := rows.Scan(m.fields()...); err != nil {
				return err
			}
			all = append(all, m)
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for i := range all {
			if err := h.store(ctx, &all[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func bulkBest(h *hands) func(context.Context, *rand.Rand) error {
	text := h.bulk() + " RETURNING id, row_to_json(" + h.table + ")::text"
	return func(ctx context.Context, r *rand.Rand) error {
		rows, err := h.pool.Query(ctx, text, r.Int64N(100))
		if err != nil {
			return err
		}
		defer rows.Close()
		var pipes []redis.Pipeliner
		for n := 0; rows.Next(); n++ {
			if n%chunk == 0 {
				pipes = append(pipes, h.redis.Pipeline())
			}
			var id int64
			var payload []byte
			if err := rows.Scan(&id, &payload); err != nil {
				return err
			}
			pipes[len(pipes)-1].Set(ctx, h.name(id), payload, ttl)
		}
		if err := rows.Err(); err != nil { // the statement has committed by its end
			return err
		}
		for _, pipe := range pipes {
			if _, err := pipe.Exec(ctx); err != nil {
				return err
			}
		}
		return nil
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
