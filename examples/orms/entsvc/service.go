// Package entsvc is the service written with ent.
package entsvc

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"

	"github.com/wtcache/wtcache/examples/orms/entsvc/ent"
	"github.com/wtcache/wtcache/examples/orms/entsvc/ent/order"
	"github.com/wtcache/wtcache/examples/orms/entsvc/ent/user"
	"github.com/wtcache/wtcache/examples/orms/service"
)

// Store is a service.Service.
type Store struct {
	client *ent.Client
	pool   *sql.DB
}

// Open opens the service. Only the driver's name decides whether Redis is kept true. ent takes the name that it is given for its
// dialect, too, so that ent.Open("wtcache", dsn) is refused: it is to be given the pool.
func Open(driver, dsn string) (*Store, error) {
	pool, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	return &Store{ent.NewClient(ent.Driver(entsql.OpenDB(dialect.Postgres, pool))), pool}, nil
}

// DB is the pool.
func (s *Store) DB() *sql.DB { return s.pool }

func plainUser(u *ent.User, err error) (service.User, error) {
	if err != nil {
		return service.User{}, notFound(err)
	}
	return service.User{ID: u.ID, Email: u.Email, Name: u.Name, BalanceCents: u.BalanceCents, CreatedAt: u.CreatedAt, DeletedAt: u.DeletedAt}, nil
}

func plainOrder(o *ent.Order) service.Order {
	return service.Order{ID: o.ID, UserID: o.UserID, TotalCents: o.TotalCents, Status: o.Status, CreatedAt: o.CreatedAt}
}

func plainOrders(rows []*ent.Order, err error) (orders []service.Order, _ error) {
	for _, row := range rows {
		orders = append(orders, plainOrder(row))
	}
	return orders, err
}

func notFound(err error) error {
	if ent.IsNotFound(err) {
		return service.ErrNotFound
	}
	return err
}

// CreateUser is Create: an INSERT with RETURNING of the id.
func (s *Store) CreateUser(ctx context.Context, email, name string, cents int64) (service.User, error) {
	return plainUser(s.client.User.Create().SetEmail(email).SetName(name).SetBalanceCents(cents).Save(ctx))
}

// UpsertUser is Create with OnConflict (generated with --feature sql/upsert), which gives the id alone.
func (s *Store) UpsertUser(ctx context.Context, email, name string) (service.User, error) {
	id, err := s.client.User.Create().SetEmail(email).SetName(name).SetBalanceCents(0).
		OnConflictColumns(user.FieldEmail).
		Update(func(u *ent.UserUpsert) { u.UpdateName().ClearDeletedAt() }).ID(ctx)
	if err != nil {
		return service.User{}, err
	}
	return plainUser(s.client.User.Get(ctx, id))
}

// Rename is UpdateOneID, which ent runs in a transaction with a SELECT of the row behind the UPDATE.
func (s *Store) Rename(ctx context.Context, id int64, name string) error {
	return notFound(s.client.User.UpdateOneID(id).Where(user.DeletedAtIsNil()).SetName(name).Exec(ctx))
}

// ChangeEmail changes a key column: the old key becomes absent, the new one is written.
func (s *Store) ChangeEmail(ctx context.Context, id int64, email string) error {
	return notFound(s.client.User.UpdateOneID(id).Where(user.DeletedAtIsNil()).SetEmail(email).Exec(ctx))
}

// Transfer is a transaction of ent.
func (s *Store) Transfer(ctx context.Context, from, to, cents int64) error {
	tx, err := s.client.Tx(ctx)
	if err != nil {
		return err
	}
	for _, change := range service.Changes(from, to, cents) {
		rows, err := tx.User.Update().AddBalanceCents(change.Cents).
			Where(user.ID(change.ID), user.BalanceCentsGTE(-change.Cents), user.DeletedAtIsNil()).Save(ctx)
		if err := change.Check(int64(rows), err); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}

// CloseUser is the soft delete, an UPDATE. (ent has no soft delete of its own: its documentation makes one with a hook.)
func (s *Store) CloseUser(ctx context.Context, id int64) error {
	rows, err := s.client.User.Update().SetDeletedAt(time.Now()).Where(user.ID(id), user.DeletedAtIsNil()).Save(ctx)
	return service.Touched(int64(rows), err)
}

// EraseUser is DeleteOneID: a DELETE.
func (s *Store) EraseUser(ctx context.Context, id int64) error {
	return notFound(s.client.User.DeleteOneID(id).Exec(ctx))
}

// CreateOrders is CreateBulk: one INSERT.
func (s *Store) CreateOrders(ctx context.Context, userID int64, cents ...int64) ([]service.Order, error) {
	return plainOrders(s.client.Order.MapCreateBulk(cents, func(c *ent.OrderCreate, i int) {
		c.SetUserID(userID).SetTotalCents(cents[i])
	}).Save(ctx))
}

// SetStatus is a bulk Update.
func (s *Store) SetStatus(ctx context.Context, userID int64, from, to string) (int64, error) {
	rows, err := s.client.Order.Update().Where(order.UserID(userID), order.Status(from)).SetStatus(to).Save(ctx)
	return int64(rows), err
}

// DeleteOrder is DeleteOneID: a DELETE.
func (s *Store) DeleteOrder(ctx context.Context, id int64) error {
	return notFound(s.client.Order.DeleteOneID(id).Exec(ctx))
}

// Orders lists orders.
func (s *Store) Orders(ctx context.Context, userID int64) ([]service.Order, error) {
	return plainOrders(s.client.Order.Query().Where(order.UserID(userID)).Order(order.ByID()).All(ctx))
}

// User reads the database.
func (s *Store) User(ctx context.Context, id int64) (service.User, error) {
	return plainUser(s.client.User.Query().Where(user.ID(id), user.DeletedAtIsNil()).Only(ctx))
}

// UserByEmail reads the database.
func (s *Store) UserByEmail(ctx context.Context, email string) (service.User, error) {
	return plainUser(s.client.User.Query().Where(user.Email(email), user.DeletedAtIsNil()).Only(ctx))
}

// Order reads the database.
func (s *Store) Order(ctx context.Context, id int64) (service.Order, error) {
	o, err := s.client.Order.Get(ctx, id)
	if err != nil {
		return service.Order{}, notFound(err)
	}
	return plainOrder(o), nil
}
