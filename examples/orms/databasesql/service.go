// Package databasesql is the service written with database/sql alone.
package databasesql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/wtcache/wtcache/examples/orms/service"
)

// Store is a service.Service.
type Store struct{ db *sql.DB }

// Open opens the service. Only the driver's name decides whether Redis is kept true.
func Open(driver, dsn string) (*Store, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// DB is the pool.
func (s *Store) DB() *sql.DB { return s.db }

const userColumns = "id, email, name, balance_cents, created_at, deleted_at"

func scanUser(row *sql.Row) (u service.User, err error) {
	err = row.Scan(&u.ID, &u.Email, &u.Name, &u.BalanceCents, &u.CreatedAt, &u.DeletedAt)
	return u, notFound(err)
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return service.ErrNotFound
	}
	return err
}

// CreateUser inserts with RETURNING.
func (s *Store) CreateUser(ctx context.Context, email, name string, cents int64) (service.User, error) {
	return scanUser(s.db.QueryRowContext(ctx,
		"INSERT INTO users (email, name, balance_cents) VALUES ($1, $2, $3) RETURNING "+userColumns, email, name, cents))
}

// UpsertUser is an INSERT … ON CONFLICT DO UPDATE.
func (s *Store) UpsertUser(ctx context.Context, email, name string) (service.User, error) {
	return scanUser(s.db.QueryRowContext(ctx, `INSERT INTO users (email, name, balance_cents) VALUES ($1, $2, 0)
		ON CONFLICT (email) DO UPDATE SET name = excluded.name, deleted_at = NULL RETURNING `+userColumns, email, name))
}

// exec runs a statement that is to touch a row at least.
func exec(ctx context.Context, on interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
}, query string, args ...any) error {
	result, err := on.ExecContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return service.Touched(result.RowsAffected())
}

// Rename sets one column by the primary key.
func (s *Store) Rename(ctx context.Context, id int64, name string) error {
	return exec(ctx, s.db, "UPDATE users SET name = $2 WHERE id = $1 AND deleted_at IS NULL", id, name)
}

// ChangeEmail changes a key column: the old key becomes absent, the new one is written.
func (s *Store) ChangeEmail(ctx context.Context, id int64, email string) error {
	return exec(ctx, s.db, "UPDATE users SET email = $2 WHERE id = $1 AND deleted_at IS NULL", id, email)
}

// Transfer takes the rows in the order of their ids, so that two transfers cannot wait for each other.
func (s *Store) Transfer(ctx context.Context, from, to, cents int64) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, change := range service.Changes(from, to, cents) {
		result, err := tx.ExecContext(ctx, `UPDATE users SET balance_cents = balance_cents + $2
			WHERE id = $1 AND balance_cents + $2 >= 0 AND deleted_at IS NULL`, change.ID, change.Cents)
		if err != nil {
			return err
		}
		if err := change.Check(result.RowsAffected()); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// CloseUser is the soft delete, an UPDATE.
func (s *Store) CloseUser(ctx context.Context, id int64) error {
	return exec(ctx, s.db, "UPDATE users SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL", id)
}

// EraseUser is a DELETE.
func (s *Store) EraseUser(ctx context.Context, id int64) error {
	return exec(ctx, s.db, "DELETE FROM users WHERE id = $1", id)
}

const orderColumns = "id, user_id, total_cents, status, created_at"

// CreateOrders inserts several rows by one VALUES list.
func (s *Store) CreateOrders(ctx context.Context, userID int64, cents ...int64) ([]service.Order, error) {
	var rows []string
	var args []any
	for _, total := range cents {
		rows = append(rows, fmt.Sprintf("($%d, $%d)", len(args)+1, len(args)+2))
		args = append(args, userID, total)
	}
	return s.orders(ctx, "INSERT INTO orders (user_id, total_cents) VALUES "+strings.Join(rows, ", ")+" RETURNING "+orderColumns, args...)
}

func (s *Store) orders(ctx context.Context, query string, args ...any) ([]service.Order, error) {
	rows, err := s.db.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var orders []service.Order
	for rows.Next() {
		var o service.Order
		if err := rows.Scan(&o.ID, &o.UserID, &o.TotalCents, &o.Status, &o.CreatedAt); err != nil {
			return nil, err
		}
		orders = append(orders, o)
	}
	return orders, rows.Err()
}

// SetStatus is a bulk UPDATE.
func (s *Store) SetStatus(ctx context.Context, userID int64, from, to string) (int64, error) {
	result, err := s.db.ExecContext(ctx, "UPDATE orders SET status = $3 WHERE user_id = $1 AND status = $2", userID, from, to)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// DeleteOrder is a DELETE.
func (s *Store) DeleteOrder(ctx context.Context, id int64) error {
	return exec(ctx, s.db, "DELETE FROM orders WHERE id = $1", id)
}

// Orders lists orders.
func (s *Store) Orders(ctx context.Context, userID int64) ([]service.Order, error) {
	return s.orders(ctx, "SELECT "+orderColumns+" FROM orders WHERE user_id = $1 ORDER BY id", userID)
}

// User reads the database.
func (s *Store) User(ctx context.Context, id int64) (service.User, error) {
	return scanUser(s.db.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE id = $1 AND deleted_at IS NULL", id))
}

// UserByEmail reads the database.
func (s *Store) UserByEmail(ctx context.Context, email string) (service.User, error) {
	return scanUser(s.db.QueryRowContext(ctx, "SELECT "+userColumns+" FROM users WHERE email = $1 AND deleted_at IS NULL", email))
}

// Order reads the database.
func (s *Store) Order(ctx context.Context, id int64) (o service.Order, err error) {
	err = s.db.QueryRowContext(ctx, "SELECT "+orderColumns+" FROM orders WHERE id = $1", id).
		Scan(&o.ID, &o.UserID, &o.TotalCents, &o.Status, &o.CreatedAt)
	return o, notFound(err)
}
