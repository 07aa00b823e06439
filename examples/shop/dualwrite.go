package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"log/slog"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx", which this way of caching runs on
	"github.com/redis/go-redis/v9"
)

// dualStore is the shop with a cache that is kept by hand: after each write to the database the handler writes to Redis
// too. It is here for comparison, and is what the driver "wtcache" makes needless. Safe for concurrent use.
type dualStore struct {
	*store
	rdb redis.UniversalClient
}

const dualTTL = time.Hour

// set stores a row. A cache that cannot be written is no reason to fail an order that was placed.
func (d *dualStore) set(ctx context.Context, key string, row any) {
	doc, err := json.Marshal(row)
	if err == nil {
		err = d.rdb.Set(ctx, key, doc, dualTTL).Err()
	}
	if err != nil {
		slog.Error("cache not updated", "key", key, "error", err)
	}
}

func (d *dualStore) del(ctx context.Context, keys ...string) {
	if err := d.rdb.Del(ctx, keys...).Err(); err != nil {
		slog.Error("cache not updated", "keys", keys, "error", err)
	}
}

func (d *dualStore) setUser(ctx context.Context, u user) {
	d.set(ctx, userKey(u.ID), u)
	d.set(ctx, userEmailKey(u.Email), u)
}

func (d *dualStore) AddProduct(ctx context.Context, n newProduct) (product, error) {
	p, err := d.store.AddProduct(ctx, n)
	if err == nil {
		d.set(ctx, productKey(p.ID), p)
	}
	return p, err
}

func (d *dualStore) SetPrice(ctx context.Context, id, cents int64) (product, error) {
	p, err := d.store.SetPrice(ctx, id, cents)
	if err == nil {
		d.set(ctx, productKey(p.ID), p)
	}
	return p, err
}

func (d *dualStore) ArchiveProduct(ctx context.Context, id int64) (product, error) {
	p, err := d.store.ArchiveProduct(ctx, id)
	if err == nil {
		d.del(ctx, productKey(id))
	}
	return p, err
}

func (d *dualStore) DeleteProduct(ctx context.Context, id int64) error {
	err := d.store.DeleteProduct(ctx, id)
	if err == nil {
		d.del(ctx, productKey(id))
	}
	return err
}

func (d *dualStore) AddUser(ctx context.Context, n newUser) (user, error) {
	u, err := d.store.AddUser(ctx, n)
	if err == nil {
		d.setUser(ctx, u)
	}
	return u, err
}

func (d *dualStore) SetEmail(ctx context.Context, id int64, email string) (user, error) {
	old, err := d.User(ctx, id)
	if err != nil {
		return user{}, err
	}
	u, err := d.store.SetEmail(ctx, id, email)
	if err == nil {
		d.del(ctx, userEmailKey(old.Email))
		d.setUser(ctx, u)
	}
	return u, err
}

func (d *dualStore) DeleteUser(ctx context.Context, id int64) error {
	u, err := d.User(ctx, id)
	if err != nil {
		return err
	}
	if err = d.store.DeleteUser(ctx, id); err == nil {
		d.del(ctx, userKey(id), userEmailKey(u.Email), userOrdersKey(id))
	}
	return err
}

// PlaceOrder refreshes each row in the cache where it was changed, while the row is at hand.
func (d *dualStore) PlaceOrder(ctx context.Context, n newOrder) (o order, err error) {
	err = d.inTx(ctx, func(tx *sql.Tx) error {
		p, err := moveStock(ctx, tx, n.ProductID, -n.Quantity)
		if err != nil {
			return err
		}
		d.set(ctx, productKey(p.ID), p)
		total := p.PriceCents * int64(n.Quantity)
		u, err := moveBalance(ctx, tx, n.UserID, -total)
		if err != nil {
			return err
		}
		d.setUser(ctx, u)
		o, err = insertOrder(ctx, tx, n, total)
		return err
	})
	if err == nil {
		d.set(ctx, orderKey(o.ID), o)
		d.del(ctx, userOrdersKey(o.UserID))
	}
	return o, err
}

func (d *dualStore) SetOrderStatus(ctx context.Context, id int64, status string) (order, error) {
	o, err := d.store.SetOrderStatus(ctx, id, status)
	if err == nil {
		d.set(ctx, orderKey(id), o)
		d.del(ctx, userOrdersKey(o.UserID))
	}
	return o, err
}

func (d *dualStore) CancelOrder(ctx context.Context, id int64) (cancelled, error) {
	c, err := d.store.CancelOrder(ctx, id)
	if err == nil {
		d.del(ctx, orderKey(id), userOrdersKey(c.order.UserID))
		d.set(ctx, productKey(c.product.ID), c.product)
		d.setUser(ctx, c.user)
	}
	return c, err
}
