// Package sqlxsvc is the service written with sqlx.
package sqlxsvc

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"

	"github.com/wtcache/wtcache/examples/orms/service"
)

// sqlx looks at the driver's name to know how arguments are written. Of one that it does not know it takes "?", which Postgres
// refuses; so it has to be told once.
func init() { sqlx.BindDriver("wtcache", sqlx.DOLLAR) }

// Store is a service.Service.
type Store struct{ db *sqlx.DB }

// Open opens the service. Only the driver's name decides whether Redis is kept true.
func Open(driver, dsn string) (*Store, error) {
	db, err := sqlx.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// DB is the pool inside of sqlx's.
func (s *Store) DB() *sql.DB { return s.db.DB }

type user struct {
	ID           int64      `db:"id"`
	Email        string     `db:"email"`
	Name         string     `db:"name"`
	BalanceCents int64      `db:"balance_cents"`
	CreatedAt    time.Time  `db:"created_at"`
	DeletedAt    *time.Time `db:"deleted_at"`
}

type order struct {
	ID         int64     `db:"id"`
	UserID     int64     `db:"user_id"`
	TotalCents int64     `db:"total_cents"`
	Status     string    `db:"status"`
	CreatedAt  time.Time `db:"created_at"`
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return service.ErrNotFound
	}
	return err
}

// returned runs a named statement that returns a user.
func (s *Store) returned(ctx context.Context, query string, arg user) (service.User, error) {
	query, args, err := s.db.BindNamed(query, arg)
	if err != nil {
		return service.User{}, err
	}
	var u user
	err = s.db.GetContext(ctx, &u, query, args...)
	return service.User(u), err
}

// CreateUser inserts with RETURNING and named arguments.
func (s *Store) CreateUser(ctx context.Context, email, name string, cents int64) (service.User, error) {
	return s.returned(ctx, "INSERT INTO users (email, name, balance_cents) VALUES (:email, :name, :balance_cents) RETURNING *",
		user{Email: email, Name: name, BalanceCents: cents})
}

// UpsertUser is an INSERT … ON CONFLICT DO UPDATE.
func (s *Store) UpsertUser(ctx context.Context, email, name string) (service.User, error) {
	return s.returned(ctx, `INSERT INTO users (email, name, balance_cents) VALUES (:email, :name, :balance_cents)
		ON CONFLICT (email) DO UPDATE SET name = excluded.name, deleted_at = NULL RETURNING *`, user{Email: email, Name: name})
}

// exec runs a named statement that is to touch a row at least.
func exec(ctx context.Context, on sqlx.ExtContext, query string, arg any) error {
	result, err := sqlx.NamedExecContext(ctx, on, query, arg)
	if err != nil {
		return err
	}
	return service.Touched(result.RowsAffected())
}

// Rename sets one column by the primary key.
func (s *Store) Rename(ctx context.Context, id int64, name string) error {
	return exec(ctx, s.db, "UPDATE users SET name = :name WHERE id = :id AND deleted_at IS NULL", user{ID: id, Name: name})
}

// ChangeEmail changes a key column: the old key becomes absent, the new one is written.
func (s *Store) ChangeEmail(ctx context.Context, id int64, email string) error {
	return exec(ctx, s.db, "UPDATE users SET email = :email WHERE id = :id AND deleted_at IS NULL", user{ID: id, Email: email})
}

// Transfer is a transaction of sqlx.
func (s *Store) Transfer(ctx context.Context, from, to, cents int64) error {
	tx, err := s.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, change := range service.Changes(from, to, cents) {
		result, err := tx.ExecContext(ctx, tx.Rebind(`UPDATE users SET balance_cents = balance_cents + ?
			WHERE id = ? AND balance_cents + ? >= 0 AND deleted_at IS NULL`), change.Cents, change.ID, change.Cents)
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
	return exec(ctx, s.db, "UPDATE users SET deleted_at = now() WHERE id = :id AND deleted_at IS NULL", user{ID: id})
}

// EraseUser is a DELETE.
func (s *Store) EraseUser(ctx context.Context, id int64) error {
	return exec(ctx, s.db, "DELETE FROM users WHERE id = :id", user{ID: id})
}

// CreateOrders inserts several rows by one VALUES list, which sqlx makes of a slice.
func (s *Store) CreateOrders(ctx context.Context, userID int64, cents ...int64) ([]service.Order, error) {
	var rows []order
	for _, total := range cents {
		rows = append(rows, order{UserID: userID, TotalCents: total})
	}
	query, args, err := s.db.BindNamed("INSERT INTO orders (user_id, total_cents) VALUES (:user_id, :total_cents) RETURNING *", rows)
	if err != nil {
		return nil, err
	}
	return s.orders(ctx, query, args...)
}

func (s *Store) orders(ctx context.Context, query string, args ...any) ([]service.Order, error) {
	var rows []order
	if err := s.db.SelectContext(ctx, &rows, query, args...); err != nil {
		return nil, err
	}
	var orders []service.Order
	for _, row := range rows {
		orders = append(orders, service.Order(row))
	}
	return orders, nil
}

// SetStatus is a bulk UPDATE: of the orders with one of several statuses, by sqlx.In, which here are one.
func (s *Store) SetStatus(ctx context.Context, userID int64, from, to string) (int64, error) {
	query, args, err := sqlx.In("UPDATE orders SET status = ? WHERE user_id = ? AND status IN (?)", to, userID, []string{from})
	if err != nil {
		return 0, err
	}
	result, err := s.db.ExecContext(ctx, s.db.Rebind(query), args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// DeleteOrder is a DELETE.
func (s *Store) DeleteOrder(ctx context.Context, id int64) error {
	return exec(ctx, s.db, "DELETE FROM orders WHERE id = :id", order{ID: id})
}

// Orders lists orders.
func (s *Store) Orders(ctx context.Context, userID int64) ([]service.Order, error) {
	return s.orders(ctx, "SELECT * FROM orders WHERE user_id = $1 ORDER BY id", userID)
}

// User reads the database.
func (s *Store) User(ctx context.Context, id int64) (service.User, error) {
	var u user
	err := s.db.GetContext(ctx, &u, "SELECT * FROM users WHERE id = $1 AND deleted_at IS NULL", id)
	return service.User(u), notFound(err)
}

// UserByEmail reads the database.
func (s *Store) UserByEmail(ctx context.Context, email string) (service.User, error) {
	var u user
	err := s.db.GetContext(ctx, &u, "SELECT * FROM users WHERE email = $1 AND deleted_at IS NULL", email)
	return service.User(u), notFound(err)
}

// Order reads the database.
func (s *Store) Order(ctx context.Context, id int64) (service.Order, error) {
	var o order
	err := s.db.GetContext(ctx, &o, "SELECT * FROM orders WHERE id = $1", id)
	return service.Order(o), notFound(err)
}
