package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache/examples/shop/internal/scratch"
	"github.com/wtcache/wtcache/internal/outbox/ddl"
	"github.com/wtcache/wtcache/internal/testenv"
)

// client is a shop under test, and a look at its Redis that goes past it.
type client struct {
	t   *testing.T
	url string
	rdb *redis.Client
}

// newShop opens the shop as main does, in a database and a part of Redis of its own.
func newShop(t *testing.T, cache string) *client {
	t.Helper()
	dsn, drop, err := scratch.Database(t.Context(), testenv.Postgres(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, drop()) })
	redisURL, release, err := scratch.Redis(t.Context(), testenv.Redis(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, release()) })
	check(t, migrateOnly(t.Context(), dsn))
	t.Setenv("WTCACHE_REDIS", redisURL)
	t.Setenv("WTCACHE_RULES", "rules")
	// A slow machine must neither make a key absent nor send a page to the database.
	t.Setenv("WTCACHE_REDIS_TIMEOUT", "7s") // a fence lives 30 s, four times as long
	o, err := parse([]string{"-cache", cache, "-db", dsn, "-redis-timeout", "1m"})
	if err != nil {
		t.Fatal(err)
	}
	srv, closeAll, err := open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(closeAll)
	web := httptest.NewServer(srv.handler())
	t.Cleanup(web.Close)
	options, err := redis.ParseURL(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(options)
	t.Cleanup(func() { check(t, rdb.Close()) })
	return &client{t, web.URL, rdb}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// do sends a request, wants a status, and gives the reply with its X-Cache.
func (c *client) do(method, path, body string, want int) (doc map[string]any, cache string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, c.url+path, bytes.NewReader([]byte(body)))
	check(c.t, err)
	resp, err := http.DefaultClient.Do(req)
	check(c.t, err)
	defer resp.Body.Close()
	reply, err := io.ReadAll(resp.Body)
	check(c.t, err)
	if resp.StatusCode != want {
		c.t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.StatusCode, want, reply)
	}
	if len(reply) > 0 && reply[0] == '{' {
		check(c.t, json.Unmarshal(reply, &doc))
	}
	return doc, resp.Header.Get("X-Cache")
}

// page wants a page to come from where it should and to show a column's value.
func (c *client) page(path, cache, column string, want any) {
	c.t.Helper()
	doc, from := c.do(http.MethodGet, path, "", http.StatusOK)
	if from != cache {
		c.t.Errorf("GET %s: cache %s, want %s", path, from, cache)
	}
	if fmt.Sprint(doc[column]) != fmt.Sprint(want) {
		c.t.Errorf("GET %s: %s is %v, want %v", path, column, doc[column], want)
	}
}

func (c *client) absent(key string) {
	c.t.Helper()
	if n, err := c.rdb.Exists(c.t.Context(), key).Result(); err != nil || n != 0 {
		c.t.Errorf("%s is in Redis (%v), want it absent", key, err)
	}
}

// TestShop goes once over every page, with either cache. With the driver, a failure means that a customer sees an old price,
// somebody else's account, or a password's hash in Redis, though the shop's own code is right.
func TestShop(t *testing.T) {
	for _, cache := range []string{"wtcache", "dual"} {
		t.Run(cache, func(t *testing.T) {
			c := newShop(t, cache)
			c.do("POST", "/products", `{"sku":"TEA","name":"Tea","price_cents":450,"stock":10}`, 200)
			c.do("POST", "/products", `{"sku":"CUP","name":"Cup","price_cents":900,"stock":10}`, 200)
			c.page("/products/1", "hit", "price_cents", 450)

			c.do("PUT", "/products/1/price", `{"price_cents":475}`, 200)
			c.page("/products/1", "hit", "price_cents", 475)

			c.do("POST", "/users", `{"email":"ada@example.com","name":"Ada","password":"secret","balance_cents":1000}`, 200)
			c.page("/users?email=ada@example.com", "hit", "balance_cents", 1000)
			entry, err := c.rdb.Get(t.Context(), "user:1").Result()
			check(t, err)
			if strings.Contains(entry, "password") {
				t.Errorf("user:1 holds the password's hash: %s", entry)
			}

			c.do("POST", "/orders", `{"user_id":1,"product_id":1,"quantity":2}`, 200)
			c.page("/products/1", "hit", "stock", 8)
			c.page("/users/1", "hit", "balance_cents", 50)
			c.page("/orders/1", "hit", "status", "placed")
			c.do("PUT", "/orders/1/status", `{"status":"paid"}`, 200)
			c.page("/orders/1", "hit", "status", "paid")

			c.do("PUT", "/users/1/email", `{"email":"ada@example.org"}`, 200)
			c.absent("user:email:ada@example.com")
			c.do("GET", "/users?email=ada@example.com", "", 404)
			c.page("/users?email=ada@example.org", "hit", "id", 1)

			c.do("DELETE", "/orders/1", "", 204)
			c.absent("order:1")
			c.do("GET", "/orders/1", "", 404)
			c.page("/products/1", "hit", "stock", 10)
			c.page("/users/1", "hit", "balance_cents", 1000)

			c.do("POST", "/products/1/archive", "", 200)
			c.absent("product:1")
			c.page("/products/1", "miss", "price_cents", 475)
			c.do("DELETE", "/products/2", "", 204)
			c.absent("product:2")
			c.do("DELETE", "/users/1", "", 204)
			c.absent("user:1")
			c.absent("user:email:ada@example.org")
		})
	}
}

// TestRefusedOrder: with the driver, an order that fails half-way must leave nothing of itself, in the database or in Redis.
func TestRefusedOrder(t *testing.T) {
	c := newShop(t, "wtcache")
	c.do("POST", "/products", `{"sku":"TEA","name":"Tea","price_cents":450,"stock":10}`, 200)
	c.do("POST", "/users", `{"email":"bob@example.com","name":"Bob","balance_cents":100}`, 200)
	c.do("POST", "/orders", `{"user_id":1,"product_id":1,"quantity":1}`, 409)
	c.page("/products/1", "hit", "stock", 10)
	c.page("/users/1", "hit", "balance_cents", 100)
	c.absent("order:1")
}

// TestListOfOrders: a list that somebody cached must go when one of its orders changes, else a paid order shows as unpaid.
func TestListOfOrders(t *testing.T) {
	c := newShop(t, "wtcache")
	c.do("POST", "/products", `{"sku":"TEA","name":"Tea","price_cents":450,"stock":10}`, 200)
	c.do("POST", "/users", `{"email":"bob@example.com","name":"Bob","balance_cents":1000}`, 200)
	c.do("POST", "/orders", `{"user_id":1,"product_id":1,"quantity":1}`, 200)
	check(t, c.rdb.Set(t.Context(), userOrdersKey(1), `[]`, 0).Err())
	c.do("PUT", "/orders/1/status", `{"status":"paid"}`, 200)
	c.absent(userOrdersKey(1))
	if _, from := c.do("GET", "/users/1/orders", "", 200); from != "miss" {
		t.Errorf("the list came from the cache (%s), want the database", from)
	}
	c.do("GET", "/users/2/orders", "", 404)
}

// TestBadInput: what a client gets wrong must be told as its own fault and reach neither database nor cache.
func TestBadInput(t *testing.T) {
	c := newShop(t, "wtcache")
	c.do("POST", "/users", `{"email":"taken@example.com","name":"Ada"}`, 200)
	for _, tt := range []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/products/one", "", 400},
		{"GET", "/products/1", "", 404},
		{"GET", "/users?email=" + "%7Bx%7D@example.com", "", 400},
		{"POST", "/products", `{"sku":`, 400},
		{"POST", "/products", `{"sku":"A","name":"A","price_cents":-1,"stock":1}`, 409},
		{"POST", "/users", `{"email":"{x}@example.com","name":"X"}`, 400},
		{"POST", "/users", `{"email":"taken@example.com","name":"Eve"}`, 409},
		{"PUT", "/users/9/email", `{"email":"new@example.com"}`, 404},
		{"PUT", "/products/9/price", `{"price_cents":1}`, 404},
		{"POST", "/orders", `{"user_id":1,"product_id":9,"quantity":1}`, 404},
		{"POST", "/orders", `{"user_id":1,"product_id":9,"quantity":0}`, 400},
		{"DELETE", "/orders/9", "", 404},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			one := *c
			one.t = t
			one.do(tt.method, tt.path, tt.body, tt.want)
		})
	}
}

// TestReadWithoutRedis: a Redis that is gone must cost the shop time, not its pages.
func TestReadWithoutRedis(t *testing.T) {
	rdb := redis.NewClient(&redis.Options{})
	check(t, rdb.Close())
	r := &reader{rdb, time.Minute}
	doc, hit, err := r.read(t.Context(), "product:1", func(context.Context) (any, error) { return product{ID: 1}, nil })
	if err != nil || hit || !bytes.Contains(doc, []byte(`"id":1`)) {
		t.Errorf("read gave %s, hit %v, error %v; want the database's row", doc, hit, err)
	}
}

// TestOptions: a wrong or missing setting must be told before anything is opened, by the name that the user can set.
func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		name string
		args []string
		want string
	}{
		{"no database", []string{"-redis", "redis://localhost"}, "DATABASE_URL"},
		{"no Redis", []string{"-db", "dbname=shop"}, "WTCACHE_REDIS"},
		{"unknown cache", []string{"-db", "dbname=shop", "-redis", "redis://localhost", "-cache", "both"}, "wtcache or dual"},
		{"argument", []string{"serve"}, "serve"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("DATABASE_URL", "")
			t.Setenv("WTCACHE_REDIS", "")
			if _, err := parse(tt.args); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one that names %q", err, tt.want)
			}
		})
	}
}

// The shop's migration makes the outbox as this version of wtcache wants it: else the shop does not start with the driver.
func TestOutboxIsThatOfTheCommand(t *testing.T) {
	if !strings.Contains(outbox, ddl.For(`"wtcache"`)) {
		t.Error("run `(echo '-- …'; go run ./cmd/wtcache schema) > examples/shop/outbox.sql`")
	}
}
