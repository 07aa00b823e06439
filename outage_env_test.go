package wtcache_test

import (
	"context"
	"testing"

	"github.com/wtcache/wtcache"
)

// owesAll makes writes until they go past Redis and past the outbox: everything is owed. For a ledger with few MaxQueuedKeys.
func (l *ledger) owesAll() {
	l.t.Helper()
	eventually(l.t, "everything is owed", func() bool {
		before := l.stats()
		l.exec(setFenceFirst, 0, 9)
		after := l.stats()
		return after.Unfenced == before.Unfenced+1 && after.FenceFirst == before.FenceFirst && after.LockFirst == before.LockFirst
	})
}

// rowsQueued counts the rows of an outbox.
func (l *ledger) rowsQueued(schema string) (n int) {
	l.t.Helper()
	if err := l.plain.QueryRow("SELECT count(*) FROM " + schema + ".outbox").Scan(&n); err != nil {
		l.t.Fatal(err)
	}
	return n
}

// kindOfCall is something that a program may call while Redis is away.
type kindOfCall struct {
	name string
	call func(ctx context.Context, l *ledger) error
}

var kindsOfCall = []kindOfCall{
	{"a write by primary key", func(ctx context.Context, l *ledger) error {
		_, err := l.db.ExecContext(ctx, setFenceFirst, 1, 1)
		return err
	}},
	{"a write of rows that are not known before", func(ctx context.Context, l *ledger) error {
		_, err := l.db.ExecContext(ctx, setLockFirst, 2, 2)
		return err
	}},
	{"a write that returns its row", func(ctx context.Context, l *ledger) error {
		var n int
		return l.db.QueryRowContext(ctx, "UPDATE accounts SET n = 3 WHERE id = 3 RETURNING n").Scan(&n)
	}},
	{"a transaction", func(ctx context.Context, l *ledger) error {
		tx, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback() //nolint:errcheck // after Commit it does nothing
		for id := 4; id <= 6; id++ {
			if _, err := tx.ExecContext(ctx, setFenceFirst, id, id); err != nil {
				return err
			}
		}
		var a account
		if _, err := l.cache.With(wtcache.In(tx)).Get(ctx, "accounts", &a, 4); err != nil {
			return err
		}
		return tx.Commit()
	}},
	{"a transaction that is rolled back", func(ctx context.Context, l *ledger) error {
		tx, err := l.db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, setFenceFirst, 99, 7); err != nil {
			return err
		}
		return tx.Rollback()
	}},
	{"a coarse write", func(ctx context.Context, l *ledger) error {
		_, err := l.db.ExecContext(ctx, coarseOne)
		return err
	}},
	{"a read", func(ctx context.Context, l *ledger) error {
		var a account
		_, err := l.cache.Get(ctx, "accounts", &a, 1)
		return err
	}},
	{"a read of many", func(ctx context.Context, l *ledger) error {
		r, err := wtcache.ReaderOf[account](l.db, "accounts")
		if err != nil {
			return err
		}
		_, err = r.GetMany(ctx, 1, 2, 3, 8, 77)
		return err
	}},
	{"a statement without a rule", func(ctx context.Context, l *ledger) error {
		_, err := l.db.ExecContext(ctx, "UPDATE unruled SET n = n + 1")
		return err
	}},
	{"Ping", func(ctx context.Context, l *ledger) error { return l.db.PingContext(ctx) }},
}

// returns runs a call that must come back, however late.
func returns(t testing.TB, what string, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	return await(t, what, done)
}
