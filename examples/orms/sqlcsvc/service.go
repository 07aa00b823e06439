// Package sqlcsvc is the service written with sqlc: the statements are in queries.sql, and the package queries is generated.
package sqlcsvc

import (
	"context"
	"database/sql"
	"errors"

	"github.com/wtcache/wtcache/examples/orms/service"
	"github.com/wtcache/wtcache/examples/orms/sqlcsvc/queries"
)

//go:generate go run github.com/sqlc-dev/sqlc/cmd/sqlc@v1.31.1 generate

// Store is a service.Service.
type Store struct {
	db *sql.DB
	q  *queries.Queries
}

// Open opens the service. Only the driver's name decides whether Redis is kept true. (sqlc's sql_package has to be database/sql:
// with pgx/v5 the generated code goes to pgx past every driver of database/sql.)
func Open(driver, dsn string) (*Store, error) {
	db, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	return &Store{db, queries.New(db)}, nil
}

// DB is the pool.
func (s *Store) DB() *sql.DB { return s.db }

func plainUser(u queries.User, err error) (service.User, error) {
	plain := service.User{ID: u.ID, Email: u.Email, Name: u.Name, BalanceCents: u.BalanceCents, CreatedAt: u.CreatedAt}
	if u.DeletedAt.Valid {
		plain.DeletedAt = &u.DeletedAt.Time
	}
	return plain, notFound(err)
}

func plainOrders(rows []queries.Order, err error) (orders []service.Order, _ error) {
	for _, row := range rows {
		orders = append(orders, service.Order(row))
	}
	return orders, err
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return service.ErrNotFound
	}
	return err
}

// CreateUser is an INSERT … RETURNING *.
func (s *Store) CreateUser(ctx context.Context, email, name string, cents int64) (service.User, error) {
	return plainUser(s.q.CreateUser(ctx, queries.CreateUserParams{Email: email, Name: name, BalanceCents: cents}))
}

// UpsertUser is an INSERT … ON CONFLICT DO UPDATE.
func (s *Store) UpsertUser(ctx context.Context, email, name string) (service.User, error) {
	return plainUser(s.q.UpsertUser(ctx, queries.UpsertUserParams{Email: email, Name: name}))
}

// Rename sets one column by the primary key.
func (s *Store) Rename(ctx context.Context, id int64, name string) error {
	return service.Touched(s.q.Rename(ctx, queries.RenameParams{ID: id, Name: name}))
}

// ChangeEmail changes a key column: the old key becomes absent, the new one is written.
func (s *Store) ChangeEmail(ctx context.Context, id int64, email string) error {
	return service.Touched(s.q.ChangeEmail(ctx, queries.ChangeEmailParams{ID: id, Email: email}))
}

// Transfer is a transaction of database/sql, which the generated queries are given by WithTx.
func (s *Store) Transfer(ctx context.Context, from, to, cents int64) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	q := s.q.WithTx(tx)
	for _, change := range service.Changes(from, to, cents) {
		if err := change.Check(q.AddToBalance(ctx, queries.AddToBalanceParams{ID: change.ID, Cents: change.Cents})); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// CloseUser is the soft delete, an UPDATE.
func (s *Store) CloseUser(ctx context.Context, id int64) error {
	return service.Touched(s.q.CloseUser(ctx, id))
}

// EraseUser is a DELETE.
func (s *Store) EraseUser(ctx context.Context, id int64) error {
	return service.Touched(s.q.EraseUser(ctx, id))
}

// CreateOrders is one INSERT of an array's elements. (sqlc's :copyfrom and :batchexec exist for pgx alone.)
func (s *Store) CreateOrders(ctx context.Context, userID int64, cents ...int64) ([]service.Order, error) {
	return plainOrders(s.q.CreateOrders(ctx, queries.CreateOrdersParams{UserID: userID, Totals: cents}))
}

// SetStatus is a bulk UPDATE.
func (s *Store) SetStatus(ctx context.Context, userID int64, from, to string) (int64, error) {
	return s.q.SetStatus(ctx, queries.SetStatusParams{UserID: userID, OldStatus: from, NewStatus: to})
}

// DeleteOrder is a DELETE.
func (s *Store) DeleteOrder(ctx context.Context, id int64) error {
	return service.Touched(s.q.DeleteOrder(ctx, id))
}

// Orders lists orders.
func (s *Store) Orders(ctx context.Context, userID int64) ([]service.Order, error) {
	return plainOrders(s.q.Orders(ctx, userID))
}

// User reads the database.
func (s *Store) User(ctx context.Context, id int64) (service.User, error) {
	return plainUser(s.q.User(ctx, id))
}

// UserByEmail reads the database.
func (s *Store) UserByEmail(ctx context.Context, email string) (service.User, error) {
	return plainUser(s.q.UserByEmail(ctx, email))
}

// Order reads the database.
func (s *Store) Order(ctx context.Context, id int64) (service.Order, error) {
	o, err := s.q.Order(ctx, id)
	return service.Order(o), notFound(err)
}
