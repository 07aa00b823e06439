package main

import (
	"context"
	"database/sql"
	"time"
)

// order is a row of orders, and its JSON.
type order struct {
	ID         int64     `json:"id"`
	UserID     int64     `json:"user_id"`
	ProductID  int64     `json:"product_id"`
	Quantity   int       `json:"quantity"`
	TotalCents int64     `json:"total_cents"`
	Status     string    `json:"status"`
	CreatedAt  time.Time `json:"created_at"`
}

const orderColumns = "id, user_id, product_id, quantity, total_cents, status, created_at"

func scanOrder(row interface{ Scan(...any) error }) (o order, err error) {
	err = row.Scan(&o.ID, &o.UserID, &o.ProductID, &o.Quantity, &o.TotalCents, &o.Status, &o.CreatedAt)
	o.CreatedAt = o.CreatedAt.UTC()
	return o, err
}

func (s *store) Order(ctx context.Context, id int64) (order, error) {
	return scanOrder(s.db.QueryRowContext(ctx, "SELECT "+orderColumns+" FROM orders WHERE id = $1", id))
}

// OrdersOf lists a user's orders, oldest first; sql.ErrNoRows where there is no such user.
func (s *store) OrdersOf(ctx context.Context, userID int64) ([]order, error) {
	if _, err := s.User(ctx, userID); err != nil {
		return nil, err
	}
	rows, err := s.db.QueryContext(ctx, "SELECT "+orderColumns+" FROM orders WHERE user_id = $1 ORDER BY id", userID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	orders := []order{}
	for rows.Next() {
		o, err := scanOrder(rows)
		if err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}

// newOrder is what PlaceOrder needs to know.
type newOrder struct {
	UserID    int64 `json:"user_id"`
	ProductID int64 `json:"product_id"`
	Quantity  int   `json:"quantity"`
}

// PlaceOrder takes the goods from the stock and the money from the user. Where the money does not suffice nothing has
// happened: the stock is given back by the rollback.
func (s *store) PlaceOrder(ctx context.Context, n newOrder) (o order, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		p, err := moveStock(ctx, tx, n.ProductID, -n.Quantity)
		if err != nil {
			return err
		}
		total := p.PriceCents * int64(n.Quantity)
		if _, err := moveBalance(ctx, tx, n.UserID, -total); err != nil {
			return err
		}
		o, err = insertOrder(ctx, tx, n, total)
		return err
	})
	return o, err
}

func insertOrder(ctx context.Context, q querier, n newOrder, totalCents int64) (order, error) {
	return scanOrder(q.QueryRowContext(ctx,
		"INSERT INTO orders (user_id, product_id, quantity, total_cents) VALUES ($1, $2, $3, $4) RETURNING "+orderColumns,
		n.UserID, n.ProductID, n.Quantity, totalCents))
}

func (s *store) SetOrderStatus(ctx context.Context, id int64, status string) (order, error) {
	return scanOrder(s.db.QueryRowContext(ctx,
		"UPDATE orders SET status = $2 WHERE id = $1 RETURNING "+orderColumns, id, status))
}

// cancelled is what CancelOrder has changed.
type cancelled struct {
	order   order
	product product
	user    user
}

// CancelOrder deletes an order and gives back the goods and the money.
func (s *store) CancelOrder(ctx context.Context, id int64) (c cancelled, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) (err error) {
		c.order, err = scanOrder(tx.QueryRowContext(ctx, "DELETE FROM orders WHERE id = $1 RETURNING "+orderColumns, id))
		if err != nil {
			return err
		}
		if c.product, err = moveStock(ctx, tx, c.order.ProductID, c.order.Quantity); err != nil {
			return err
		}
		c.user, err = moveBalance(ctx, tx, c.order.UserID, c.order.TotalCents)
		return err
	})
	return c, err
}
