package main

import (
	"context"
	"fmt"
	"math/rand/v2"

	"github.com/redis/go-redis/v9"
)

// bulk is one UPDATE of all rows of a table.
func bulk(name string, rows int, goals ...goal) *measure {
	return &measure{
		name: name, title: "One UPDATE of " + number(float64(rows)) + " rows", rows: rows, trial: true, goals: goals,
		ways: []string{wayPgx, wayDual, wayBest, wayStrict},
		how: withRules(bulkExec, map[string]func(*way) action{
			wayPgx: bulkExec, wayDual: bulkDual, wayBest: bulkBest,
		}),
	}
}

// once has a text that was not sent before: what the driver learns of a text is of no use then.
func once(m *measure) *measure {
	m.title += ", a text that was not sent before"
	for name, plain := range m.how {
		m.how[name] = func(w *way) action {
			w.fresh = true
			return plain(w)
		}
	}
	return m
}

// full has every row cached before each execution.
func full(m *measure) *measure {
	m.full, m.title = true, m.title+", all of them cached"
	return m
}

// bulk gives a text; constants and block comments would not make another one of it.
func (w *way) bulk() string {
	text := "UPDATE " + w.table + " SET credit = credit + $1"
	if w.fresh {
		text = fmt.Sprintf("-- %d\n%s", never.Add(1), text)
	}
	return text
}

func bulkExec(w *way) action {
	return func(ctx context.Context, r *rand.Rand) error {
		_, err := w.db.ExecContext(ctx, w.bulk(), r.Int64N(100))
		return err
	}
}

// chunk is how many SETs go into one pipeline by hand.
const chunk = 1000

func bulkDual(w *way) action {
	return func(ctx context.Context, r *rand.Rand) error {
		rows, err := w.db.QueryContext(ctx, w.bulk()+" RETURNING "+columns, r.Int64N(100))
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
			if err := w.store(ctx, &all[i]); err != nil {
				return err
			}
		}
		return nil
	}
}

func bulkBest(w *way) action {
	returning := " RETURNING id, " + w.json()
	return func(ctx context.Context, r *rand.Rand) error {
		rows, err := w.pool.Query(ctx, w.bulk()+returning, r.Int64N(100))
		if err != nil {
			return err
		}
		defer rows.Close()
		var pipes []redis.Pipeliner
		for n := 0; rows.Next(); n++ {
			if n%chunk == 0 {
				pipes = append(pipes, w.redis.Pipeline())
			}
			var id int64
			var payload []byte
			if err := rows.Scan(&id, &payload); err != nil {
				return err
			}
			pipes[len(pipes)-1].Set(ctx, w.entry(id), payload, ttl)
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
