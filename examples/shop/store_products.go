package main

import (
	"context"
	"database/sql"
	"time"
)

// product is a row of products, and its JSON.
type product struct {
	ID         int64      `json:"id"`
	SKU        string     `json:"sku"`
	Name       string     `json:"name"`
	PriceCents int64      `json:"price_cents"`
	Stock      int        `json:"stock"`
	ArchivedAt *time.Time `json:"archived_at"`
	CreatedAt  time.Time  `json:"created_at"`
}

const productColumns = "id, sku, name, price_cents, stock, archived_at, created_at"

func scanProduct(row *sql.Row) (p product, err error) {
	err = row.Scan(&p.ID, &p.SKU, &p.Name, &p.PriceCents, &p.Stock, &p.ArchivedAt, &p.CreatedAt)
	p.CreatedAt = p.CreatedAt.UTC()
	if p.ArchivedAt != nil {
		utc := p.ArchivedAt.UTC()
		p.ArchivedAt = &utc
	}
	return p, err
}

func (s *store) Product(ctx context.Context, id int64) (product, error) {
	return scanProduct(s.db.QueryRowContext(ctx, "SELECT "+productColumns+" FROM products WHERE id = $1", id))
}

// newProduct is what AddProduct needs to know.
type newProduct struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	PriceCents int64  `json:"price_cents"`
	Stock      int    `json:"stock"`
}

func (s *store) AddProduct(ctx context.Context, n newProduct) (product, error) {
	return scanProduct(s.db.QueryRowContext(ctx,
		"INSERT INTO products (sku, name, price_cents, stock) VALUES ($1, $2, $3, $4) RETURNING "+productColumns,
		n.SKU, n.Name, n.PriceCents, n.Stock))
}

// SetPrice changes a price and keeps the old one in price_changes.
func (s *store) SetPrice(ctx context.Context, id, cents int64) (p product, err error) {
	err = s.inTx(ctx, func(tx *sql.Tx) error {
		var old int64
		if err := tx.QueryRowContext(ctx, "SELECT price_cents FROM products WHERE id = $1 FOR UPDATE", id).Scan(&old); err != nil {
			return err
		}
		p, err = scanProduct(tx.QueryRowContext(ctx,
			"UPDATE products SET price_cents = $2 WHERE id = $1 RETURNING "+productColumns, id, cents))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO price_changes (product_id, old_cents, new_cents) VALUES ($1, $2, $3)", id, old, cents)
		return err
	})
	return p, err
}

// ArchiveProduct takes a product off sale. Its row stays, since orders refer to it.
func (s *store) ArchiveProduct(ctx context.Context, id int64) (product, error) {
	return scanProduct(s.db.QueryRowContext(ctx,
		"UPDATE products SET archived_at = now() WHERE id = $1 RETURNING "+productColumns, id))
}

func (s *store) DeleteProduct(ctx context.Context, id int64) error {
	return deleted(s.db.ExecContext(ctx, "DELETE FROM products WHERE id = $1", id))
}

// deleted is sql.ErrNoRows where nothing was deleted.
func deleted(res sql.Result, err error) error {
	if err != nil {
		return err
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		return sql.ErrNoRows
	}
	return err
}

// moveStock adds to a product's stock; the table's own check keeps it from going below zero.
func moveStock(ctx context.Context, q querier, id int64, by int) (product, error) {
	return scanProduct(q.QueryRowContext(ctx,
		"UPDATE products SET stock = stock + $2 WHERE id = $1 RETURNING "+productColumns, id, by))
}
