package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// The shop's keys in Redis. Each holds the JSON of a row, or of a list of rows.
func productKey(id int64) string        { return "product:" + strconv.FormatInt(id, 10) }
func userKey(id int64) string           { return "user:" + strconv.FormatInt(id, 10) }
func userEmailKey(email string) string  { return "user:email:" + email }
func orderKey(id int64) string          { return "order:" + strconv.FormatInt(id, 10) }
func userOrdersKey(userID int64) string { return "user:" + strconv.FormatInt(userID, 10) + ":orders" }

// reader reads through Redis. It does not fill: who writes is responsible for what Redis holds.
type reader struct {
	rdb   redis.UniversalClient
	limit time.Duration // how long a page waits for Redis before it asks the database
}

// read gives the JSON under key, or what load finds in the database where there is none.
func (r *reader) read(ctx context.Context, key string, load func(context.Context) (any, error)) (doc []byte, hit bool, err error) {
	limited, cancel := context.WithTimeout(ctx, r.limit)
	defer cancel()
	doc, err = r.rdb.Get(limited, key).Bytes()
	switch {
	case err == nil:
		return doc, true, nil
	case !errors.Is(err, redis.Nil):
		slog.Warn("redis does not answer, the database does", "key", key, "error", err)
	}
	row, err := load(ctx)
	if err != nil {
		return nil, false, err
	}
	doc, err = json.Marshal(row)
	return doc, false, err
}
