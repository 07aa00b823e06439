package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/examples/orms/service"
)

// truth compares Redis with the database, past wtcache.
type truth struct {
	conn *pgx.Conn
	rdb  *redis.Client
}

func newTruth(t *testing.T, dsn, redisURL string) *truth {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	check(t, err)
	t.Cleanup(func() { conn.Close(t.Context()) })
	options, err := redis.ParseURL(redisURL)
	check(t, err)
	rdb := redis.NewClient(options)
	t.Cleanup(func() { check(t, rdb.Close()) })
	return &truth{conn, rdb}
}

// entries are the keys of the rules, with what is stored in them. wtcache's own begin with its name.
func (tr *truth) entries(t *testing.T) map[string]string {
	t.Helper()
	entries := map[string]string{}
	scan := tr.rdb.Scan(t.Context(), 0, "*", 1000).Iterator()
	for scan.Next(t.Context()) {
		key := scan.Val()
		if strings.Contains(key, "wtcache:") {
			continue
		}
		text, err := tr.rdb.Get(t.Context(), key).Result()
		if errors.Is(err, redis.Nil) {
			continue // it has just expired
		}
		check(t, err, key)
		entries[key] = text
	}
	check(t, scan.Err())
	return entries
}

// compare wants every key to hold the database's row.
func (tr *truth) compare(t *testing.T, when string) {
	t.Helper()
	for key, text := range tr.entries(t) {
		var err error
		if id, ok := strings.CutPrefix(key, "order:"); ok {
			err = tr.same(t, text, &service.Order{}, &service.Order{}, "SELECT row_to_json(o) FROM orders o WHERE id = $1::text::bigint", id)
		} else if email, ok := strings.CutPrefix(key, "user:email:"); ok {
			err = tr.same(t, text, &service.User{}, &service.User{}, "SELECT row_to_json(u) FROM users u WHERE email = $1 AND deleted_at IS NULL", email)
		} else if id, ok := strings.CutPrefix(key, "user:"); ok {
			err = tr.same(t, text, &service.User{}, &service.User{}, "SELECT row_to_json(u) FROM users u WHERE id = $1::text::bigint AND deleted_at IS NULL", id)
		} else {
			err = errors.New("no rule has such a key")
		}
		if err != nil {
			t.Errorf("%s, %s: %v", when, key, err)
		}
	}
}

// same compares a stored row with the one that a query gives.
func (tr *truth) same(t *testing.T, stored string, cached, current any, query, key string) error {
	var envelope struct{ Data json.RawMessage }
	if err := json.Unmarshal([]byte(stored), &envelope); err != nil {
		return err
	}
	if err := json.Unmarshal(envelope.Data, cached); err != nil {
		return err
	}
	var row []byte
	err := tr.conn.QueryRow(t.Context(), query, key).Scan(&row)
	if errors.Is(err, pgx.ErrNoRows) {
		return errors.New("Redis has a row that the database has not: readers get what was deleted")
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(row, current); err != nil {
		return err
	}
	// Encoded again by one type, so that two spellings of one point in time are equal.
	if is, should := spell(cached), spell(current); is != should {
		return errors.New("readers get an old row: Redis has " + is + ", the database " + should)
	}
	return nil
}

func spell(row any) string {
	switch row := row.(type) {
	case *service.User:
		row.CreatedAt = row.CreatedAt.UTC()
	case *service.Order:
		row.CreatedAt = row.CreatedAt.UTC()
	}
	text, err := json.Marshal(row)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// holds wants keys to be there, or not to be: that Redis is true could also mean that it is empty.
func (tr *truth) holds(t *testing.T, when string, stored, absent []string) {
	t.Helper()
	entries := tr.entries(t)
	for _, key := range stored {
		if entries[key] == "" {
			t.Errorf("%s: %s is not in Redis: the write made it absent, where it could have stored the row", when, key)
		}
	}
	for _, key := range absent {
		if entries[key] != "" {
			t.Errorf("%s: %s is in Redis: readers find a row that is not there any more", when, key)
		}
	}
}
