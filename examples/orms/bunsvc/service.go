// Package bunsvc is the service written with bun.
package bunsvc

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"

	"github.com/wtcache/wtcache/examples/orms/service"
)

type user struct {
	bun.BaseModel `bun:"table:users"`

	ID           int64 `bun:",pk,autoincrement"`
	Email        string
	Name         string
	BalanceCents int64
	CreatedAt    time.Time `bun:",nullzero,default:now()"`
	DeletedAt    time.Time `bun:",soft_delete,nullzero"`
}

func (u user) plain() service.User {
	plain := service.User{ID: u.ID, Email: u.Email, Name: u.Name, BalanceCents: u.BalanceCents, CreatedAt: u.CreatedAt}
	if !u.DeletedAt.IsZero() {
		plain.DeletedAt = &u.DeletedAt
	}
	return plain
}

type order struct {
	bun.BaseModel `bun:"table:orders"`

	ID         int64 `bun:",pk,autoincrement"`
	UserID     int64
	TotalCents int64
	Status     string    `bun:",nullzero,default:'placed'"`
	CreatedAt  time.Time `bun:",nullzero,default:now()"`
}

func (o order) plain() service.Order {
	return service.Order{ID: o.ID, UserID: o.UserID, TotalCents: o.TotalCents, Status: o.Status, CreatedAt: o.CreatedAt}
}

// Store is a service.Service.
type Store struct{ db *bun.DB }

// Open opens the service. Only the driver's name decides whether Redis is kept true: bun is told its dialect and does not look.
func Open(driver, dsn string) (*Store, error) {
	pool, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	return &Store{bun.NewDB(pool, pgdialect.New())}, nil
}

// DB is the pool inside of bun's.
func (s *Store) DB() *sql.DB { return s.db.DB }

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return service.ErrNotFound
	}
	return err
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// CreateUser inserts a model; bun adds the RETURNING of the columns with defaults.
func (s *Store) CreateUser(ctx context.Context, email, name string, cents int64) (service.User, error) {
	u := user{Email: email, Name: name, BalanceCents: cents}
	_, err := s.db.NewInsert().Model(&u).Exec(ctx)
	return u.plain(), err
}

// UpsertUser is an INSERT … ON CONFLICT DO UPDATE, which returns the whole row: it may be an old one.
func (s *Store) UpsertUser(ctx context.Context, email, name string) (service.User, error) {
	u := user{Email: email, Name: name}
	_, err := s.db.NewInsert().Model(&u).On("CONFLICT (email) DO UPDATE").
		Set("name = EXCLUDED.name").Set("deleted_at = NULL").Returning("*").Exec(ctx)
	return u.plain(), err
}

// Rename sets one column by the primary key.
func (s *Store) Rename(ctx context.Context, id int64, name string) error {
	return service.Touched(affected(s.db.NewUpdate().Model(&user{ID: id, Name: name}).Column("name").WherePK().Exec(ctx)))
}

// ChangeEmail changes a key column: the old key becomes absent, the new one is written.
func (s *Store) ChangeEmail(ctx context.Context, id int64, email string) error {
	return service.Touched(affected(s.db.NewUpdate().Model((*user)(nil)).Set("email = ?", email).Where("id = ?", id).Exec(ctx)))
}

// Transfer is bun's RunInTx.
func (s *Store) Transfer(ctx context.Context, from, to, cents int64) error {
	return s.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		for _, change := range service.Changes(from, to, cents) {
			update := tx.NewUpdate().Model((*user)(nil)).Set("balance_cents = balance_cents + ?", change.Cents).
				Where("id = ?", change.ID).Where("balance_cents + ? >= 0", change.Cents)
			if err := change.Check(affected(update.Exec(ctx))); err != nil {
				return err
			}
		}
		return nil
	})
}

// CloseUser is NewDelete of a model with soft_delete: an UPDATE.
func (s *Store) CloseUser(ctx context.Context, id int64) error {
	return service.Touched(affected(s.db.NewDelete().Model((*user)(nil)).Where("id = ?", id).Exec(ctx)))
}

// EraseUser is NewDelete with ForceDelete: a DELETE.
func (s *Store) EraseUser(ctx context.Context, id int64) error {
	return service.Touched(affected(s.db.NewDelete().Model((*user)(nil)).Where("id = ?", id).ForceDelete().Exec(ctx)))
}

// CreateOrders inserts a slice by one INSERT.
func (s *Store) CreateOrders(ctx context.Context, userID int64, cents ...int64) ([]service.Order, error) {
	var rows []order
	for _, total := range cents {
		rows = append(rows, order{UserID: userID, TotalCents: total})
	}
	_, err := s.db.NewInsert().Model(&rows).Exec(ctx)
	return plain(rows), err
}

func plain(rows []order) (orders []service.Order) {
	for _, row := range rows {
		orders = append(orders, row.plain())
	}
	return orders
}

// SetStatus is a bulk UPDATE.
func (s *Store) SetStatus(ctx context.Context, userID int64, from, to string) (int64, error) {
	return affected(s.db.NewUpdate().Model((*order)(nil)).Set("status = ?", to).
		Where("user_id = ?", userID).Where("status = ?", from).Exec(ctx))
}

// DeleteOrder is NewDelete: the model has no soft_delete.
func (s *Store) DeleteOrder(ctx context.Context, id int64) error {
	return service.Touched(affected(s.db.NewDelete().Model(&order{ID: id}).WherePK().Exec(ctx)))
}

// Orders lists orders.
func (s *Store) Orders(ctx context.Context, userID int64) ([]service.Order, error) {
	var rows []order
	err := s.db.NewSelect().Model(&rows).Where("user_id = ?", userID).Order("id").Scan(ctx)
	return plain(rows), err
}

// User reads the database.
func (s *Store) User(ctx context.Context, id int64) (service.User, error) {
	u := user{ID: id}
	err := s.db.NewSelect().Model(&u).WherePK().Scan(ctx)
	return u.plain(), notFound(err)
}

// UserByEmail reads the database.
func (s *Store) UserByEmail(ctx context.Context, email string) (service.User, error) {
	var u user
	err := s.db.NewSelect().Model(&u).Where("email = ?", email).Scan(ctx)
	return u.plain(), notFound(err)
}

// Order reads the database.
func (s *Store) Order(ctx context.Context, id int64) (service.Order, error) {
	o := order{ID: id}
	err := s.db.NewSelect().Model(&o).WherePK().Scan(ctx)
	return o.plain(), notFound(err)
}
