// Package gormsvc is the service written with GORM.
package gormsvc

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"gorm.io/driver/postgres"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/logger"

	"github.com/wtcache/wtcache/examples/orms/service"
)

// User is GORM's model of users. Its Delete is a soft one because of gorm.DeletedAt.
type User struct {
	ID           int64
	Email        string
	Name         string
	BalanceCents int64
	CreatedAt    time.Time `gorm:"default:now()"`
	DeletedAt    gorm.DeletedAt
}

func (u User) plain() service.User {
	plain := service.User{ID: u.ID, Email: u.Email, Name: u.Name, BalanceCents: u.BalanceCents, CreatedAt: u.CreatedAt}
	if u.DeletedAt.Valid {
		plain.DeletedAt = &u.DeletedAt.Time
	}
	return plain
}

// Order is GORM's model of orders.
type Order struct {
	ID         int64
	UserID     int64
	TotalCents int64
	Status     string    `gorm:"default:placed"`
	CreatedAt  time.Time `gorm:"default:now()"`
}

// Store is a service.Service.
type Store struct {
	orm  *gorm.DB
	pool *sql.DB
}

// Open opens the service. Only the driver's name decides whether Redis is kept true. GORM could open the pool itself, by
// postgres.Config{DriverName: driver, DSN: dsn}, to the same effect.
func Open(driver, dsn string) (*Store, error) {
	pool, err := sql.Open(driver, dsn)
	if err != nil {
		return nil, err
	}
	orm, err := gorm.Open(postgres.New(postgres.Config{Conn: pool}), &gorm.Config{Logger: logger.Discard})
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return &Store{orm, pool}, nil
}

// DB is the pool.
func (s *Store) DB() *sql.DB { return s.pool }

func notFound(err error) error {
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return service.ErrNotFound
	}
	return err
}

func touched(tx *gorm.DB) error { return service.Touched(tx.RowsAffected, tx.Error) }

// CreateUser is Create: an INSERT whose RETURNING fills in the defaults.
func (s *Store) CreateUser(ctx context.Context, email, name string, cents int64) (service.User, error) {
	u := User{Email: email, Name: name, BalanceCents: cents}
	err := s.orm.WithContext(ctx).Create(&u).Error
	return u.plain(), err
}

// UpsertUser is Create with clause.OnConflict. What it returns of a row that was there is not all true (GORM returns the defaults
// alone), so that the row is returned as a whole.
func (s *Store) UpsertUser(ctx context.Context, email, name string) (service.User, error) {
	u := User{Email: email, Name: name}
	err := s.orm.WithContext(ctx).Clauses(
		clause.OnConflict{Columns: []clause.Column{{Name: "email"}}, DoUpdates: clause.AssignmentColumns([]string{"name", "deleted_at"})},
		clause.Returning{},
	).Create(&u).Error
	return u.plain(), err
}

// Rename is Update of one column.
func (s *Store) Rename(ctx context.Context, id int64, name string) error {
	return touched(s.orm.WithContext(ctx).Model(&User{ID: id}).Update("name", name))
}

// ChangeEmail is Save, which reads the row and sets all of its columns.
func (s *Store) ChangeEmail(ctx context.Context, id int64, email string) error {
	return s.orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		var u User
		if err := tx.Clauses(clause.Locking{Strength: clause.LockingStrengthUpdate}).First(&u, id).Error; err != nil {
			return notFound(err)
		}
		u.Email = email
		return tx.Save(&u).Error
	})
}

// Transfer is GORM's Transaction.
func (s *Store) Transfer(ctx context.Context, from, to, cents int64) error {
	return s.orm.WithContext(ctx).Transaction(func(tx *gorm.DB) error {
		for _, change := range service.Changes(from, to, cents) {
			done := tx.Model(&User{ID: change.ID}).Where("balance_cents + ? >= 0", change.Cents).
				Update("balance_cents", gorm.Expr("balance_cents + ?", change.Cents))
			if err := change.Check(done.RowsAffected, done.Error); err != nil {
				return err
			}
		}
		return nil
	})
}

// CloseUser is Delete of a model with gorm.DeletedAt: an UPDATE.
func (s *Store) CloseUser(ctx context.Context, id int64) error {
	return touched(s.orm.WithContext(ctx).Delete(&User{}, id))
}

// EraseUser is an unscoped Delete: a DELETE.
func (s *Store) EraseUser(ctx context.Context, id int64) error {
	return touched(s.orm.WithContext(ctx).Unscoped().Delete(&User{}, id))
}

// CreateOrders is Create of a slice: one INSERT.
func (s *Store) CreateOrders(ctx context.Context, userID int64, cents ...int64) ([]service.Order, error) {
	var rows []Order
	for _, total := range cents {
		rows = append(rows, Order{UserID: userID, TotalCents: total})
	}
	err := s.orm.WithContext(ctx).Create(&rows).Error
	return plain(rows), err
}

func plain(rows []Order) (orders []service.Order) {
	for _, row := range rows {
		orders = append(orders, service.Order(row))
	}
	return orders
}

// SetStatus is a bulk Update.
func (s *Store) SetStatus(ctx context.Context, userID int64, from, to string) (int64, error) {
	done := s.orm.WithContext(ctx).Model(&Order{}).Where("user_id = ? AND status = ?", userID, from).Update("status", to)
	return done.RowsAffected, done.Error
}

// DeleteOrder is Delete: the model has no gorm.DeletedAt.
func (s *Store) DeleteOrder(ctx context.Context, id int64) error {
	return touched(s.orm.WithContext(ctx).Delete(&Order{}, id))
}

// Orders lists orders.
func (s *Store) Orders(ctx context.Context, userID int64) ([]service.Order, error) {
	var rows []Order
	err := s.orm.WithContext(ctx).Where("user_id = ?", userID).Order("id").Find(&rows).Error
	return plain(rows), err
}

// User reads the database.
func (s *Store) User(ctx context.Context, id int64) (service.User, error) {
	var u User
	err := s.orm.WithContext(ctx).Take(&u, id).Error
	return u.plain(), notFound(err)
}

// UserByEmail reads the database.
func (s *Store) UserByEmail(ctx context.Context, email string) (service.User, error) {
	var u User
	err := s.orm.WithContext(ctx).Take(&u, "email = ?", email).Error
	return u.plain(), notFound(err)
}

// Order reads the database.
func (s *Store) Order(ctx context.Context, id int64) (service.Order, error) {
	var o Order
	err := s.orm.WithContext(ctx).Take(&o, id).Error
	return service.Order(o), notFound(err)
}
