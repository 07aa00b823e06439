package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/examples/shop/internal/scratch"
)

// row is what the database has for a key.
type row struct {
	doc       string // JSON, made by the demo's own query: neither the shop nor the driver has a part in it
	cacheable bool   // false where the rule's `when` keeps the row out of the cache
}

const rowsSQL = `
SELECT 'product:' || id, row_to_json(p)::text, archived_at IS NULL FROM products AS p
UNION ALL
SELECT 'user:' || id, (row_to_json(u)::jsonb - 'password_hash')::text, true FROM users AS u
UNION ALL
SELECT 'user:email:' || email, (row_to_json(u)::jsonb - 'password_hash')::text, true FROM users AS u
UNION ALL
SELECT 'order:' || id, row_to_json(o)::text, true FROM orders AS o
UNION ALL
SELECT 'user:' || id || ':orders',
       coalesce((SELECT json_agg(row_to_json(o) ORDER BY o.id) FROM orders AS o WHERE o.user_id = u.id), '[]')::text, true
FROM users AS u`

func (s *scenario) rows(ctx context.Context) (map[string]row, error) {
	found, err := s.db.Query(ctx, rowsSQL)
	if err != nil {
		return nil, fmt.Errorf("read the database's rows: %w", err)
	}
	defer found.Close()
	rows := map[string]row{}
	for found.Next() {
		var key string
		var r row
		if err := found.Scan(&key, &r.doc, &r.cacheable); err != nil {
			return nil, fmt.Errorf("read the database's rows: %w", err)
		}
		rows[key] = r
	}
	return rows, found.Err()
}

// finding is the verdict on one key.
type finding struct {
	key       string
	fault     string
	row       row // doc is "" where there is none
	entry     string
	hasEntry  bool
	staleness string // "" where the key holds the row or nothing
	page      page
}

// check looks at every key that a row has, had, or that is in Redis for whatever reason.
func (s *scenario) check(ctx context.Context) ([]finding, error) {
	rows, err := s.rows(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := s.everyKey(ctx, rows)
	if err != nil {
		return nil, err
	}
	findings := make([]finding, len(keys))
	for i, key := range keys {
		f := finding{key: key, fault: s.faults[key], row: rows[key]}
		if f.entry, f.hasEntry, err = s.entry(ctx, key); err != nil {
			return nil, err
		}
		f.staleness = staleness(f.row, f.entry, f.hasEntry)
		if f.page, err = s.page(ctx, key, f.row); err != nil {
			return nil, err
		}
		findings[i] = f
	}
	return findings, nil
}

func (s *scenario) everyKey(ctx context.Context, rows map[string]row) ([]string, error) {
	keys := maps.Clone(s.keys)
	for key := range rows {
		keys[key] = true
	}
	for _, pattern := range []string{"product:*", "user:*", "order:*"} {
		found, err := scratch.Keys(ctx, s.rdb, pattern)
		if err != nil {
			return nil, fmt.Errorf("list the keys of Redis: %w", err)
		}
		for _, key := range found {
			keys[key] = true
		}
	}
	return slices.SortedFunc(maps.Keys(keys), compareKeys), nil
}

func (s *scenario) entry(ctx context.Context, key string) (entry string, has bool, err error) {
	entry, err = s.rdb.Get(ctx, key).Result()
	switch {
	case errors.Is(err, redis.Nil):
		return "", false, nil
	case err != nil:
		return "", false, fmt.Errorf("read %s from Redis: %w", key, err)
	}
	return entry, true, nil
}

// compareKeys sorts numbers by their value as far as the shop needs it: shorter keys of a kind come first.
func compareKeys(a, b string) int {
	kindA, kindB := kindOf(a), kindOf(b)
	if c := strings.Compare(kindA, kindB); c != 0 {
		return c
	}
	if kindA != kindEmail && len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// The kinds of keys, one for each template of the rules, in the order of the table.
const (
	kindProduct = "1 product"
	kindUser    = "2 user"
	kindEmail   = "3 user by email"
	kindOrder   = "4 order"
	kindList    = "5 list of orders"
)

func kindOf(key string) string {
	switch {
	case strings.HasPrefix(key, "product:"):
		return kindProduct
	case strings.HasPrefix(key, "order:"):
		return kindOrder
	case strings.HasPrefix(key, "user:email:"):
		return kindEmail
	case strings.HasSuffix(key, ":orders"):
		return kindList
	}
	return kindUser
}

// staleness says why an entry is not what the database has; "" where it is, or where there is no entry.
func staleness(r row, entry string, hasEntry bool) string {
	switch {
	case !hasEntry:
		return ""
	case r.doc == "":
		return "the row is gone"
	case !r.cacheable:
		return "the row is archived"
	}
	return difference(r.doc, entry)
}

// difference compares two JSON documents by value: the order of columns and the spelling of a moment do not count.
func difference(want, got string) string {
	w, err := decode(want)
	if err != nil {
		return "the database's row is no JSON: " + err.Error()
	}
	g, err := decode(got)
	if err != nil {
		return "it is no JSON"
	}
	wantRow, ok1 := w.(map[string]any)
	gotRow, ok2 := g.(map[string]any)
	if !ok1 || !ok2 {
		if same(w, g) {
			return ""
		}
		return "it is another list"
	}
	return differentColumns(wantRow, gotRow)
}

func differentColumns(want, got map[string]any) string {
	var differs []string
	for _, column := range slices.Sorted(maps.Keys(want)) {
		value, ok := got[column]
		switch {
		case !ok:
			differs = append(differs, column+" is missing")
		case !same(want[column], value):
			differs = append(differs, fmt.Sprintf("%s is %v", column, value))
		}
	}
	for _, column := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[column]; !ok {
			differs = append(differs, column+" does not belong there")
		}
	}
	return strings.Join(differs, ", ")
}

func decode(doc string) (v any, err error) {
	d := json.NewDecoder(bytes.NewReader([]byte(doc)))
	d.UseNumber() // float64 would take neighbours of large numbers for equal
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("more than one document")
	}
	return v, nil
}

func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && differentColumns(a, b) == ""
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	case string:
		b, ok := b.(string)
		return ok && (a == b || sameMoment(a, b))
	}
	return reflect.DeepEqual(a, b)
}

func sameMoment(a, b string) bool {
	timeA, errA := time.Parse(time.RFC3339Nano, a)
	timeB, errB := time.Parse(time.RFC3339Nano, b)
	return errA == nil && errB == nil && timeA.Equal(timeB)
}

// page is what the shop shows for a key.
type page struct {
	path  string
	reply reply
	wrong string // how it differs from the database, "" for not at all
}

// page asks process B for what it shows for a key and holds it against the database.
func (s *scenario) page(ctx context.Context, key string, r row) (p page, err error) {
	p.path = pathOf(key)
	p.reply, err = s.b.send(ctx, http.MethodGet, p.path, nil)
	switch status := p.reply.status; {
	case err != nil:
		return p, err
	case r.doc == "" && status == http.StatusNotFound:
	case r.doc == "":
		p.wrong = fmt.Sprintf("status %d for a row that is gone", status)
	case status != http.StatusOK:
		p.wrong = fmt.Sprintf("status %d for a row that is there", status)
	default:
		p.wrong = difference(r.doc, string(p.reply.doc))
	}
	return p, nil
}

func pathOf(key string) string {
	_, id, _ := strings.Cut(key, ":")
	switch kindOf(key) {
	case kindProduct:
		return "/products/" + id
	case kindOrder:
		return "/orders/" + id
	case kindEmail:
		return "/users?email=" + url.QueryEscape(strings.TrimPrefix(key, "user:email:"))
	case kindList:
		return "/users/" + strings.TrimSuffix(id, ":orders") + "/orders"
	}
	return "/users/" + id
}
