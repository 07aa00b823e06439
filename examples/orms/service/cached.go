package service

import (
	"context"
	"database/sql"
	"errors"

	"github.com/wtcache/wtcache"
)

// cached is a service whose reads of one row go through Redis. What it does not define is the service's own.
type cached struct {
	Service
	users, byEmail *wtcache.Reader[User]
	orders         *wtcache.Reader[Order]
}

// Cached gives the service with its reads of one row through wtcache, where its pool was opened with the driver "wtcache". Else
// it gives the service itself, which reads through its own library.
func Cached(s Service) (Service, error) {
	if _, ours := s.DB().Driver().(*wtcache.Driver); !ours {
		return s, nil
	}
	c := &cached{Service: s}
	var errs [3]error
	c.users, errs[0] = wtcache.ReaderOf[User](s.DB(), "users.by_id")
	c.byEmail, errs[1] = wtcache.ReaderOf[User](s.DB(), "users.by_email")
	c.orders, errs[2] = wtcache.ReaderOf[Order](s.DB(), "orders")
	return c, errors.Join(errs[:]...)
}

func (c *cached) User(ctx context.Context, id int64) (User, error) {
	return open(c.users.Get(ctx, id))
}

func (c *cached) UserByEmail(ctx context.Context, email string) (User, error) {
	return open(c.byEmail.Get(ctx, email))
}

func (c *cached) Order(ctx context.Context, id int64) (Order, error) {
	o, err := c.orders.Get(ctx, id)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNotFound
	}
	return o, err
}

// open turns a closed account away. A reader knows the row's key and nothing of a library's soft deletes: for a row that
// the rule's "when" keeps out of Redis it reads the database, where the row still is.
func open(u User, err error) (User, error) {
	if errors.Is(err, sql.ErrNoRows) || err == nil && u.DeletedAt != nil {
		return User{}, ErrNotFound
	}
	return u, err
}
