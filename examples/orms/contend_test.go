package main

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/wtcache/wtcache/examples/orms/service"
)

const (
	contenders = 4
	turns      = 8
	atFirst    = 20 // cents of each contender
)

// contend has several goroutines write rows of each other. Each alone changes the name of its user and the orders, so that it
// knows what a read must give whatever the others do to the same row.
func contend(t *testing.T, s service.Service) {
	t.Helper()
	users := make([]service.User, contenders)
	for i := range users {
		var err error
		users[i], err = s.CreateUser(t.Context(), fmt.Sprintf("contender%d@example.com", i), "", atFirst)
		check(t, err)
	}
	var wg sync.WaitGroup
	for i := range users {
		wg.Go(func() {
			for turn := range turns {
				if err := contendOnce(t, s, users, i, turn); err != nil {
					t.Errorf("contender %d, turn %d: %v", i, turn, err)
					return
				}
			}
		})
	}
	wg.Wait()
	var cents int64
	for _, u := range users {
		u, err := s.User(t.Context(), u.ID)
		check(t, err)
		cents += u.BalanceCents
	}
	if cents != contenders*atFirst {
		t.Errorf("the balances are %d cents together, want %d: a transfer was half done, or an old row was read", cents, contenders*atFirst)
	}
}

func contendOnce(t *testing.T, s service.Service, users []service.User, i, turn int) error {
	ctx, id, name := t.Context(), users[i].ID, fmt.Sprintf("turn %d", turn)
	if err := s.Rename(ctx, id, name); err != nil {
		return err
	}
	other := users[(i+1+turn%(contenders-1))%contenders].ID
	if err := s.Transfer(ctx, id, other, int64(3+turn)); err != nil && !errors.Is(err, service.ErrFunds) {
		return err
	}
	if u, err := s.User(ctx, id); err != nil || u.Name != name {
		return want(err, false, "name "+u.Name+" after it was set to "+name+": an old row was read")
	}
	if _, err := s.UpsertUser(ctx, "everybody@example.com", fmt.Sprintf("%d, %d", i, turn)); err != nil {
		return err
	}
	return orderOnce(t, s, id)
}

// orderOnce creates two orders, changes both and deletes one.
func orderOnce(t *testing.T, s service.Service, user int64) error {
	orders, err := s.CreateOrders(t.Context(), user, 1, 2)
	if err != nil {
		return err
	}
	if _, err := s.SetStatus(t.Context(), user, "placed", "sent"); err != nil {
		return err
	}
	if o, err := s.Order(t.Context(), orders[1].ID); err != nil || o.Status != "sent" {
		return want(err, false, "status "+o.Status+" after it was set to sent: an old row was read")
	}
	if err := s.DeleteOrder(t.Context(), orders[0].ID); err != nil {
		return err
	}
	_, err = s.Order(t.Context(), orders[0].ID)
	return wantNotFound(err)
}
