package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

// wayTwoTrips is the least that a write-through with a fence costs: a SET to Redis that is answered before the statement is
// sent, and a SET after COMMIT. Plain commands check nothing, so it promises nothing.

// A fence stands in its entry's place, so that one command raises it and one ends it.
const (
	fenced   = "fence"
	fenceTTL = 30 * time.Second // of one that nobody ends
)

// fencedWrite writes one row by the statement that text gives for it.
func (w *way) fencedWrite(text func(*rand.Rand, int64) (string, []any)) action {
	return func(ctx context.Context, r *rand.Rand) error {
		id := w.someID(r)
		if err := w.redis.Set(ctx, w.entry(id), fenced, fenceTTL).Err(); err != nil {
			return err
		}
		statement, args := text(r, id)
		_, row, err := one(ctx, w.pool, statement, args...)
		if err != nil {
			return err
		}
		return w.redis.Set(ctx, w.entry(id), row, ttl).Err()
	}
}

func updateTwoTrips(w *way) action {
	text := w.returningJSON()
	return w.fencedWrite(func(r *rand.Rand, id int64) (string, []any) { return text, []any{r.Int64N(100), id} })
}

func literalTwoTrips(w *way) action {
	return w.fencedWrite(func(r *rand.Rand, id int64) (string, []any) { return w.literalJSON(r, id), simple })
}

// txTwoTrips sends the statements of a transaction one by one: a driver gets them so from its callers.
func txTwoTrips(w *way) action {
	text := w.returningJSON()
	return func(ctx context.Context, r *rand.Rand) error {
		ids := w.someIDs(r)
		pipe := w.redis.Pipeline()
		for _, id := range ids {
			pipe.Set(ctx, w.entry(id), fenced, fenceTTL)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
		err := pgx.BeginFunc(ctx, w.pool, func(tx pgx.Tx) error {
			for _, id := range ids {
				_, row, err := one(ctx, tx, text, r.Int64N(100), id)
				if err != nil {
					return err
				}
				pipe.Set(ctx, w.entry(id), row, ttl)
			}
			return nil
		})
		if err != nil {
			return err
		}
		_, err = pipe.Exec(ctx)
		return err
	}
}
