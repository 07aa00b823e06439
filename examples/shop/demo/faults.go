package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// before makes sure that a key holds what the database has, so that a fault has something to make stale.
func (s *scenario) before(ctx context.Context, key string) error {
	rows, err := s.rows(ctx)
	if err != nil {
		return err
	}
	entry, has, err := s.entry(ctx, key)
	if err != nil {
		return err
	}
	if !has || staleness(rows[key], entry, has) != "" {
		return fmt.Errorf("%w: %s does not hold its row before it", errNoFault, key)
	}
	return nil
}

// rollback: an order that is refused after its transaction has already changed the stock.
func (s *scenario) rollback(ctx context.Context, c *cast) error {
	key := "product:" + text(c.kettle.ID)
	if err := s.before(ctx, key); err != nil {
		return err
	}
	in := order{UserID: c.bob.ID, ProductID: c.kettle.ID, Quantity: 1}
	if err := s.b.call(ctx, http.MethodPost, "/orders", in, nil, http.StatusConflict); err != nil {
		return err
	}
	var stock int
	if err := s.db.QueryRow(ctx, "SELECT stock FROM products WHERE id = $1", c.kettle.ID).Scan(&stock); err != nil {
		return err
	}
	if stock != c.kettle.Stock {
		return fmt.Errorf("%w: the stock is %d, not %d as before the rollback", errNoFault, stock, c.kettle.Stock)
	}
	s.faults[key] = faultRollback
	s.say("  %-13s bob orders a kettle that he cannot pay: the stock is changed, then the transaction rolls back", faultRollback)
	return nil
}

// outOfOrder: A commits a price, and what it then tells Redis arrives after B has committed another and told Redis.
func (s *scenario) outOfOrder(ctx context.Context, c *cast) error {
	const fromA, fromB = 1200, 1500
	key, path := "product:"+text(c.cup.ID), "/products/"+text(c.cup.ID)+"/price"
	if err := s.before(ctx, key); err != nil {
		return err
	}
	held := make(chan (<-chan string), 1)
	s.a.pg.atNextCommit(func() bool {
		held <- s.a.redis.hold()
		return true
	})
	defer s.a.redis.release()
	answered := make(chan error, 1)
	go func() { answered <- s.a.call(ctx, http.MethodPut, path, price{fromA}, nil, http.StatusOK) }()

	gate, err := await(ctx, held, answered, "the COMMIT of process A")
	if err != nil {
		return err
	}
	request, err := await(ctx, gate, answered, "process A's next request to Redis")
	if err != nil {
		return err
	}
	if err := s.priceIs(ctx, c.cup.ID, fromA); err != nil {
		return err
	}
	if err := s.b.call(ctx, http.MethodPut, path, price{fromB}, nil, http.StatusOK); err != nil {
		return err
	}
	s.a.redis.release()
	if err := <-answered; err != nil {
		return err
	}
	s.faults[key] = faultOutOfOrder
	s.say("  %-13s process A commits the cup's price %d, its %s is held; B commits %d and finishes; A's request goes on",
		faultOutOfOrder, fromA, request, fromB)
	return s.priceIs(ctx, c.cup.ID, fromB)
}

// killed: Postgres has acknowledged A's COMMIT, and A dies before it can tell anybody.
func (s *scenario) killed(ctx context.Context, c *cast) error {
	const killedAt = 950
	key, path := "product:"+text(c.coffee.ID), "/products/"+text(c.coffee.ID)+"/price"
	if err := s.before(ctx, key); err != nil {
		return err
	}
	gone := make(chan (<-chan string), 1)
	s.a.pg.atNextCommit(func() bool {
		held := s.a.redis.hold()
		s.a.kill()
		gone <- held
		return false
	})
	answered := make(chan error, 1)
	go func() {
		reply, err := s.a.send(ctx, http.MethodPut, path, price{killedAt})
		if err == nil {
			answered <- fmt.Errorf("%w: process A answered with status %d", errNoFault, reply.status)
			return
		}
		answered <- nil // killed before it could answer
	}()
	held, err := await(ctx, gone, nil, "the COMMIT of process A")
	if err != nil {
		return err
	}
	if err := <-answered; err != nil {
		return err
	}
	select {
	case request := <-held:
		return fmt.Errorf("%w: process A sent %s after its COMMIT", errNoFault, request)
	default:
	}
	s.faults[key] = faultKilled
	s.say("  %-13s process A commits the coffee's price %d and is killed (SIGKILL) before anything more reaches Redis", faultKilled, killedAt)
	return s.priceIs(ctx, c.coffee.ID, killedAt)
}

// priceIs makes sure that the database is where the fault needs it to be.
func (s *scenario) priceIs(ctx context.Context, id, want int64) error {
	var cents int64
	if err := s.db.QueryRow(ctx, "SELECT price_cents FROM products WHERE id = $1", id).Scan(&cents); err != nil {
		return err
	}
	if cents != want {
		return fmt.Errorf("%w: the price is %d, not %d", errNoFault, cents, want)
	}
	return nil
}

// await gives what arrives on ch. An answer that comes first means that ch will stay silent.
func await[T any](ctx context.Context, ch <-chan T, answered <-chan error, what string) (v T, err error) {
	limit := time.NewTimer(requestLimit)
	defer limit.Stop()
	select {
	case v = <-ch:
		return v, nil
	case err := <-answered:
		return v, errors.Join(fmt.Errorf("%w: process A answered before %s was seen", errNoFault, what), err)
	case <-limit.C:
		return v, fmt.Errorf("%w: waited %v for %s", errNoFault, requestLimit, what)
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}
