// Package service is what the six services of this example have in common: their interface, the rows that it speaks of, and the
// reads through wtcache, which are the same whatever writes.
package service

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// User is a row of users. The JSON names are the columns', which is how a reader of wtcache fills it.
type User struct {
	ID           int64      `json:"id"`
	Email        string     `json:"email"`
	Name         string     `json:"name"`
	BalanceCents int64      `json:"balance_cents"`
	CreatedAt    time.Time  `json:"created_at"`
	DeletedAt    *time.Time `json:"deleted_at"` // set when the account was closed
}

// Order is a row of orders.
type Order struct {
	ID         int64     `json:"id"`
	UserID     int64     `json:"user_id"`
	TotalCents int64     `json:"total_cents"`
	Status     string    `json:"status"`
	CreatedAt  time.Time `json:"created_at"`
}

// The errors of a service, the same from every library.
var (
	// ErrNotFound says that there is no such row, or that it is a closed account's.
	ErrNotFound = errors.New("not found")
	// ErrFunds says that a transfer was rolled back because the balance does not cover it.
	ErrFunds = errors.New("the balance does not cover it")
)

// Service is the small service that each library implements as its users would write it. All methods are safe for concurrent use.
// Those that take an id return ErrNotFound where there is no such row or the account is closed.
type Service interface {
	// DB is the pool that everything goes through, which is all that wtcache's readers need.
	DB() *sql.DB

	CreateUser(ctx context.Context, email, name string, cents int64) (User, error)
	// UpsertUser creates the user of this email, or sets the name of the one that there is.
	UpsertUser(ctx context.Context, email, name string) (User, error)
	Rename(ctx context.Context, id int64, name string) error
	ChangeEmail(ctx context.Context, id int64, email string) error
	// Transfer moves money in one transaction, which is rolled back with ErrFunds where there is too little.
	Transfer(ctx context.Context, from, to, cents int64) error
	// CloseUser is a soft delete: the row stays, with deleted_at set.
	CloseUser(ctx context.Context, id int64) error
	// EraseUser deletes the row, and the orders with it by the foreign key's ON DELETE CASCADE.
	EraseUser(ctx context.Context, id int64) error

	// CreateOrders creates an order for each total, in one statement.
	CreateOrders(ctx context.Context, userID int64, cents ...int64) ([]Order, error)
	// SetStatus changes all orders of a user that have one status to another, and says how many.
	SetStatus(ctx context.Context, userID int64, from, to string) (int64, error)
	DeleteOrder(ctx context.Context, id int64) error
	// Orders lists the orders of a user by id.
	Orders(ctx context.Context, userID int64) ([]Order, error)

	// User, UserByEmail and Order read one row. Cached answers them from Redis.
	User(ctx context.Context, id int64) (User, error)
	UserByEmail(ctx context.Context, email string) (User, error)
	Order(ctx context.Context, id int64) (Order, error)
}

// Touched turns a count of rows into ErrNotFound where there were none.
func Touched(rows int64, err error) error {
	if err == nil && rows == 0 {
		return ErrNotFound
	}
	return err
}
