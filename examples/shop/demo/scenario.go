package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// scenario is one run of the shop: two processes, and the demo's own eyes on the database and on Redis, past the proxies.
// The scenario does not know which cache the processes run with.
type scenario struct {
	a, b *process
	db   *pgx.Conn
	rdb  *redis.Client
	out  io.Writer
	// explain gets the shops' own words where keys are stale; nil where that is what the run is for.
	explain io.Writer

	keys   map[string]bool   // every key that a row had at some time
	faults map[string]string // what was done to a key
}

// The faults, as the tables and the checks call them.
const (
	faultRollback   = "rollback"
	faultOutOfOrder = "out of order"
	faultKilled     = "killed"
)

var allFaults = []string{faultRollback, faultOutOfOrder, faultKilled}

// Rows, as far as the scenario needs them.
type (
	product struct {
		ID         int64  `json:"id"`
		SKU        string `json:"sku"`
		Name       string `json:"name"`
		PriceCents int64  `json:"price_cents"`
		Stock      int    `json:"stock"`
	}
	user struct {
		ID           int64  `json:"id"`
		Email        string `json:"email"`
		Name         string `json:"name"`
		BalanceCents int64  `json:"balance_cents"`
	}
	order struct {
		ID        int64 `json:"id"`
		UserID    int64 `json:"user_id"`
		ProductID int64 `json:"product_id"`
		Quantity  int   `json:"quantity"`
	}
	price struct {
		PriceCents int64 `json:"price_cents"`
	}
)

// cast is who and what takes part.
type cast struct {
	tea, coffee, cup, kettle, grinder, saucer product
	ada, bob, cyd, dee                        user
	orders                                    map[string]order // by the first name of who ordered
}

// play goes through the whole scenario.
func (s *scenario) play(ctx context.Context) error {
	c, err := s.open(ctx)
	if err != nil {
		return fmt.Errorf("open the shop: %w", err)
	}
	for _, part := range []struct {
		name string
		play func(context.Context, *cast) error
	}{
		{"ordinary traffic", s.traffic},
		{"a rollback after the stock was changed", s.rollback},
		{"writers out of order", s.outOfOrder},
		{"a process killed after COMMIT", s.killed},
	} {
		if err := part.play(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// open puts goods on the shelves, lets users in, and has each of them order once.
func (s *scenario) open(ctx context.Context) (*cast, error) {
	c := &cast{orders: map[string]order{}}
	if err := s.stock(ctx, c); err != nil {
		return nil, err
	}
	if err := s.admit(ctx, c); err != nil {
		return nil, err
	}
	for _, o := range []struct {
		shop     *process
		who      user
		what     product
		quantity int
	}{{s.a, c.ada, c.tea, 2}, {s.b, c.bob, c.tea, 1}, {s.a, c.cyd, c.saucer, 1}, {s.b, c.dee, c.coffee, 1}} {
		placed, err := s.order(ctx, o.shop, o.who, o.what, o.quantity)
		if err != nil {
			return nil, err
		}
		c.orders[o.who.Name] = placed
	}
	return c, s.plantLists(ctx, c.ada, c.bob, c.cyd, c.dee)
}

func (s *scenario) stock(ctx context.Context, c *cast) error {
	for _, p := range []struct {
		into *product
		row  product
	}{
		{&c.tea, product{SKU: "TEA", Name: "Tea", PriceCents: 450, Stock: 100}},
		{&c.coffee, product{SKU: "COF", Name: "Coffee", PriceCents: 900, Stock: 50}},
		{&c.cup, product{SKU: "CUP", Name: "Cup", PriceCents: 1000, Stock: 40}},
		{&c.kettle, product{SKU: "KET", Name: "Kettle", PriceCents: 4900, Stock: 10}},
		{&c.grinder, product{SKU: "GRI", Name: "Grinder", PriceCents: 3500, Stock: 5}},
		{&c.saucer, product{SKU: "SAU", Name: "Saucer", PriceCents: 300, Stock: 60}},
	} {
		if err := s.a.call(ctx, http.MethodPost, "/products", p.row, p.into, http.StatusOK); err != nil {
			return err
		}
		s.note("product:" + text(p.into.ID))
	}
	return nil
}

func (s *scenario) admit(ctx context.Context, c *cast) error {
	for _, u := range []struct {
		into *user
		name string
		cash int64
	}{{&c.ada, "ada", 100_000}, {&c.bob, "bob", 3_000}, {&c.cyd, "cyd", 50_000}, {&c.dee, "dee", 50_000}} {
		row := user{Email: u.name + "@example.com", Name: u.name, BalanceCents: u.cash}
		if err := s.b.call(ctx, http.MethodPost, "/users", row, u.into, http.StatusOK); err != nil {
			return err
		}
		s.note("user:"+text(u.into.ID), "user:email:"+row.Email, listKey(*u.into))
	}
	return nil
}

func (s *scenario) order(ctx context.Context, shop *process, who user, what product, quantity int) (o order, err error) {
	in := order{UserID: who.ID, ProductID: what.ID, Quantity: quantity}
	if err := shop.call(ctx, http.MethodPost, "/orders", in, &o, http.StatusOK); err != nil {
		return o, err
	}
	s.note("order:" + text(o.ID))
	return o, nil
}

// plantLists fills the lists of orders, which the shop itself never does: without a value in the key nobody could see
// that a change of an order makes it absent.
func (s *scenario) plantLists(ctx context.Context, users ...user) error {
	rows, err := s.rows(ctx)
	if err != nil {
		return err
	}
	for _, u := range users {
		if err := s.rdb.Set(ctx, listKey(u), rows[listKey(u)].doc, 0).Err(); err != nil {
			return fmt.Errorf("plant a list of orders: %w", err)
		}
	}
	return nil
}

// traffic is a day in the shop without accidents.
func (s *scenario) traffic(ctx context.Context, c *cast) error {
	for _, step := range []struct {
		shop         *process
		method, path string
		in           any
	}{
		{s.b, http.MethodPut, "/users/" + text(c.ada.ID) + "/email", user{Email: "ada@example.org"}},
		// Bob takes the address that Ada gave up: a key goes from one row to another.
		{s.b, http.MethodPut, "/users/" + text(c.bob.ID) + "/email", user{Email: c.ada.Email}},
		{s.b, http.MethodPut, "/orders/" + text(c.orders["bob"].ID) + "/status", map[string]string{"status": "paid"}},
		{s.a, http.MethodDelete, "/orders/" + text(c.orders["cyd"].ID), nil},
		{s.b, http.MethodDelete, "/users/" + text(c.cyd.ID), nil},
		{s.a, http.MethodPut, "/products/" + text(c.tea.ID) + "/price", price{475}},
		{s.b, http.MethodPost, "/products/" + text(c.saucer.ID) + "/archive", nil},
		{s.a, http.MethodDelete, "/products/" + text(c.grinder.ID), nil},
	} {
		want := http.StatusOK
		if step.method == http.MethodDelete {
			want = http.StatusNoContent
		}
		if err := step.shop.call(ctx, step.method, step.path, step.in, nil, want); err != nil {
			return err
		}
	}
	s.note("user:email:ada@example.org")
	_, err := s.order(ctx, s.b, c.ada, c.tea, 1)
	return err
}

func (s *scenario) note(keys ...string) {
	for _, key := range keys {
		s.keys[key] = true
	}
}

func listKey(u user) string { return "user:" + text(u.ID) + ":orders" }

func text(id int64) string { return strconv.FormatInt(id, 10) }

func (s *scenario) say(format string, args ...any) { fmt.Fprintf(s.out, format+"\n", args...) }

// errNoFault says that a fault could not be brought about: whatever the keys hold then, it proves nothing.
var errNoFault = errors.New("the fault did not come about")
