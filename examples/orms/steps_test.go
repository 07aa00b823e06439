package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/wtcache/wtcache/examples/orms/service"
)

// world is what the steps of one run know of each other.
type world struct {
	service.Service
	ctx      context.Context
	ann, bob service.User
	orders   []service.Order
	// stored and absent are the keys that the step must have written, and made absent.
	stored, absent []string
}

func newWorld(t *testing.T, s service.Service) *world { return &world{Service: s, ctx: t.Context()} }

// step is one call of the service, and a read of what it wrote.
type step struct {
	name string
	do   func(*world) error
}

func byID(u service.User) string     { return fmt.Sprintf("user:%d", u.ID) }
func byEmail(u service.User) string  { return "user:email:" + u.Email }
func ofOrder(o service.Order) string { return fmt.Sprintf("order:%d", o.ID) }

// expect sets the keys of the step that is running.
func (w *world) expect(stored []string, absent ...string) { w.stored, w.absent = stored, absent }

// steps are what is done, in order. Reads are left to the test's own comparison, so that a step sends nothing but its own statements.
var steps = []step{
	{"CreateUser", func(w *world) (err error) {
		w.ann, err = w.CreateUser(w.ctx, "ann@example.com", "Ann", 1000)
		w.expect([]string{byID(w.ann), byEmail(w.ann)})
		return want(err, w.ann.Name == "Ann" && w.ann.BalanceCents == 1000 && w.ann.ID > 0, w.ann)
	}},
	{"UpsertUser that inserts", func(w *world) (err error) {
		w.bob, err = w.UpsertUser(w.ctx, "bob@example.com", "Bob")
		w.expect([]string{byID(w.bob), byEmail(w.bob)})
		return want(err, w.bob.Name == "Bob" && w.bob.BalanceCents == 0 && w.bob.ID > 0, w.bob)
	}},
	{"UpsertUser that updates", func(w *world) error {
		again, err := w.UpsertUser(w.ctx, w.ann.Email, "Ann the First")
		w.expect([]string{byID(w.ann), byEmail(w.ann)})
		return want(err, again.ID == w.ann.ID && again.Name == "Ann the First" && again.BalanceCents == 1000, again)
	}},
	{"Rename", func(w *world) error {
		w.expect([]string{byID(w.ann), byEmail(w.ann)})
		return w.Rename(w.ctx, w.ann.ID, "Ann Example")
	}},
	{"ChangeEmail", func(w *world) error {
		old := byEmail(w.ann)
		w.ann.Email = "ann@example.org"
		w.expect([]string{byID(w.ann), byEmail(w.ann)}, old)
		return w.ChangeEmail(w.ctx, w.ann.ID, w.ann.Email)
	}},
	{"Transfer", func(w *world) error {
		w.expect([]string{byID(w.ann), byEmail(w.ann), byID(w.bob), byEmail(w.bob)})
		return w.Transfer(w.ctx, w.ann.ID, w.bob.ID, 300)
	}},
	{"Transfer that is rolled back", func(w *world) error {
		w.expect([]string{byID(w.ann), byEmail(w.ann), byID(w.bob), byEmail(w.bob)}) // as they were
		err := w.Transfer(w.ctx, w.bob.ID, w.ann.ID, 5000)
		if errors.Is(err, service.ErrFunds) {
			return nil
		}
		return want(err, false, "it went through")
	}},
	{"CreateOrders", func(w *world) (err error) {
		w.orders, err = w.CreateOrders(w.ctx, w.ann.ID, 100, 200, 300)
		if err := want(err, len(w.orders) == 3 && w.orders[2].TotalCents == 300 && w.orders[2].Status == "placed", w.orders); err != nil {
			return err
		}
		w.expect([]string{ofOrder(w.orders[0]), ofOrder(w.orders[1]), ofOrder(w.orders[2])})
		return nil
	}},
	{"SetStatus", func(w *world) error {
		rows, err := w.SetStatus(w.ctx, w.ann.ID, "placed", "sent")
		return want(err, rows == 3, rows) // the keys are those of the step before
	}},
	{"DeleteOrder", func(w *world) error {
		w.expect([]string{ofOrder(w.orders[1])}, ofOrder(w.orders[0]))
		return w.DeleteOrder(w.ctx, w.orders[0].ID)
	}},
	{"Orders", func(w *world) error {
		orders, err := w.Orders(w.ctx, w.ann.ID)
		return want(err, len(orders) == 2 && orders[0].ID == w.orders[1].ID && orders[0].Status == "sent", orders)
	}},
	{"User", func(w *world) error {
		ann, err := w.User(w.ctx, w.ann.ID)
		return want(err, ann.Name == "Ann Example" && ann.BalanceCents == 700 && ann.Email == w.ann.Email, ann)
	}},
	{"UserByEmail", func(w *world) error {
		bob, err := w.UserByEmail(w.ctx, w.bob.Email)
		return want(err, bob.ID == w.bob.ID && bob.BalanceCents == 300, bob)
	}},
	{"Order", func(w *world) error {
		o, err := w.Order(w.ctx, w.orders[2].ID)
		return want(err, o.Status == "sent" && o.TotalCents == 300 && o.UserID == w.ann.ID, o)
	}},
	{"CloseUser", func(w *world) error {
		w.expect([]string{byID(w.ann)}, byID(w.bob), byEmail(w.bob))
		return w.CloseUser(w.ctx, w.bob.ID)
	}},
	{"User whose account is closed", func(w *world) error {
		_, err := w.User(w.ctx, w.bob.ID)
		return wantNotFound(err)
	}},
	{"Rename of a closed account", func(w *world) error { return wantNotFound(w.Rename(w.ctx, w.bob.ID, "Nobody")) }},
	{"EraseUser", func(w *world) error {
		w.expect(nil, byID(w.ann), byEmail(w.ann), ofOrder(w.orders[1]), ofOrder(w.orders[2]))
		return w.EraseUser(w.ctx, w.ann.ID)
	}},
	{"Order of an erased user", func(w *world) error {
		_, err := w.Order(w.ctx, w.orders[1].ID)
		return wantNotFound(err)
	}},
}

func want(err error, right bool, got any) error {
	if err == nil && !right {
		return fmt.Errorf("got %+v", got)
	}
	return err
}

func wantNotFound(err error) error {
	if errors.Is(err, service.ErrNotFound) {
		return nil
	}
	return want(err, false, "a row, want service.ErrNotFound")
}
