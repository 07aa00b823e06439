package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// wayTwoTrips is the least that a write-through with a fence costs: a request to Redis that is answered before the statement
// is sent, and one after COMMIT. Plain commands check nothing, so it promises nothing.

// fenceTTL is how long a fence stands that nobody ends.
const fenceTTL = 30 * time.Second

func (w *way) fenceKey(id int64) string { return w.entry(id) + ":fence" }

// fence raises a fence for each row and makes its entry absent, all in one request.
func (w *way) fence(ctx context.Context, r *rand.Rand, ids ...int64) error {
	token := r.Uint64()
	_, err := w.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		for _, id := range ids {
			pipe.Set(ctx, w.fenceKey(id), token, fenceTTL)
			pipe.Del(ctx, w.entry(id))
		}
		return nil
	})
	return err
}

// apply ends a row's fence and stores the row.
func (w *way) apply(ctx context.Context, pipe redis.Pipeliner, id int64, row []byte) {
	pipe.Del(ctx, w.fenceKey(id))
	pipe.Set(ctx, w.entry(id), row, ttl)
}

// fenced writes one row by the statement that text gives for it.
func (w *way) fenced(text func(*rand.Rand, int64) (string, []any)) action {
	return func(ctx context.Context, r *rand.Rand) error {
		id := w.someID(r)
		if err := w.fence(ctx, r, id); err != nil {
			return err
		}
		statement, args := text(r, id)
		_, row, err := w.one(ctx, statement, args...)
		if err != nil {
			return err
		}
		_, err = w.redis.Pipelined(ctx, func(pipe redis.Pipeliner) error {
			w.apply(ctx, pipe, id, row)
			return nil
		})
		return err
	}
}

func updateTwoTrips(w *way) action {
	text := w.returningJSON()
	return w.fenced(func(r *rand.Rand, id int64) (string, []any) { return text, []any{r.Int64N(100), id} })
}

func literalTwoTrips(w *way) action {
	return w.fenced(func(r *rand.Rand, id int64) (string, []any) { return w.literalJSON(r, id), simple })
}

func txTwoTrips(w *way) action {
	text := w.returningJSON()
	return func(ctx context.Context, r *rand.Rand) error {
		ids := w.someIDs(r)
		if err := w.fence(ctx, r, ids...); err != nil {
			return err
		}
		pipe := w.redis.Pipeline()
		if err := w.batch(ctx, r, text, ids, func(id int64, row []byte) { w.apply(ctx, pipe, id, row) }); err != nil {
			return err
		}
		_, err := pipe.Exec(ctx)
		return err
	}
}
