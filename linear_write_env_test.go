package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/wtcache/wtcache/internal/linear"
)

// linearWrite is a way to write.
type linearWrite struct {
	name   string
	weight int
	do     func(c *linearClient, name string) error
}

// linearWrites are the ways to write through the driver. In each text $1 is the row and $2 the value.
var linearWrites = []linearWrite{
	{"by key", 24, write(linear.Update, "UPDATE accounts SET n = $2 WHERE id = $1")},
	{"by a predicate", 12, write(linear.Update, "UPDATE accounts SET n = $2 WHERE abs(id) = $1")},
	{"with RETURNING", 6, write(linear.Update, "UPDATE accounts SET n = $2 WHERE id = $1 RETURNING n")},
	{"through a view", 6, write(linear.Update, "UPDATE shown SET n = $2 WHERE id = $1")},
	{coarseName, 6, write(linear.Update, "WITH w AS (UPDATE accounts SET n = $2 WHERE id = $1 RETURNING n) SELECT n FROM w")},
	{"upsert", 6, write(linear.Upsert, upsertOne)},
	{"insert", 12, write(linear.Insert, "INSERT INTO accounts (id, n) VALUES ($1, $2) ON CONFLICT DO NOTHING")},
	{"delete", 8, write(linear.Delete, "DELETE FROM accounts WHERE id = $1 AND $2::int IS NOT NULL")},
	{"refused by COMMIT", 4, refusedWrite},
	{"transaction", 10, linearTx(endCommit, 2)},
	{"rolled back", 6, linearTx(endRollback, 2)},
}

const coarseName = "coarse"

const upsertOne = "INSERT INTO accounts (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = excluded.n"

// refusedForCertain says that the server itself took nothing over.
func refusedForCertain(err error) bool {
	state := sqlState(err)
	return strings.HasPrefix(state, "23") || strings.HasPrefix(state, "40")
}

// lost says that the connection was cut. Of an answer that is lost pgx may say what it says of a connection that was closed before.
func lost(err error) bool {
	return err != nil && (errors.Is(err, linear.ErrCut) || err.Error() == "conn closed")
}

// write is an autocommit statement.
func write(kind linear.Kind, text string) func(*linearClient, string) error {
	return func(c *linearClient, name string) error {
		ctx := context.Background()
		o := linear.Op{Client: c.number, Key: c.some(1)[0], Kind: kind, Value: c.history.Draw(), Way: name}
		db := c.process.db
		if name == coarseName {
			db = c.shop.coarse.db
		}
		o.Call = c.history.Now()
		written, err := run(ctx, db, text, o.Key, o.Value)
		switch {
		case err == nil && written:
			c.history.Add(o)
		case lost(err):
			o.InDoubt = true
			c.history.Add(o)
		case err != nil && !refusedForCertain(err):
			return err
		}
		return nil
	}
}

// run carries out a statement that writes one row or none.
func run(ctx context.Context, on runner, text string, id, n int) (written bool, err error) {
	if strings.Contains(text, "RETURNING") {
		err := on.QueryRowContext(ctx, text, id, n).Scan(new(int))
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		return err == nil, err
	}
	result, err := on.ExecContext(ctx, text, id, n)
	if err != nil {
		return false, err
	}
	rows, err := result.RowsAffected()
	return rows == 1, err
}

// refusedWrite is one whose COMMIT fails by a deferred constraint.
func refusedWrite(c *linearClient, _ string) error {
	written, err := run(context.Background(), c.process.db, "UPDATE accounts SET n = $2, owner = 99 WHERE id = $1", c.some(1)[0], c.history.Draw())
	if err == nil && written {
		return errors.New("a COMMIT that violates a constraint has succeeded")
	}
	if err != nil && !refusedForCertain(err) && !lost(err) {
		return err
	}
	return nil
}

const (
	endCommit   = true
	endRollback = false
)

// inTx writes so many rows in one transaction.
func linearTx(commit bool, rows int) func(*linearClient, string) error {
	return func(c *linearClient, name string) error {
		ctx := context.Background()
		hurried := c.r.IntN(8) == 0 // its context ends on the way, perhaps during COMMIT
		if hurried {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Duration(c.r.IntN(30_000))*time.Microsecond)
			defer cancel()
		}
		tx, err := c.process.db.BeginTx(ctx, nil)
		var ops []linear.Op
		if err == nil {
			defer func() { _ = tx.Rollback() }() // of what was not committed
			ops, err = c.fillTx(ctx, tx, name, rows)
		}
		switch {
		case err != nil && (hurried || lost(err) || refusedForCertain(err)):
			return nil // COMMIT was not asked for
		case err != nil:
			return err
		case !commit && !hurried:
			return tx.Rollback()
		case !commit:
			return nil // the context may have done it
		}
		for i := range ops {
			ops[i].Call = c.history.Now()
		}
		err = tx.Commit()
		switch {
		case err == nil, lost(err), hurried && !refusedForCertain(err):
			for _, o := range ops {
				o.InDoubt = err != nil
				c.history.Add(o)
			}
		case !refusedForCertain(err):
			return err
		}
		return nil
	}
}

// fillTx writes each row in one of several ways, and now and then something before it that a savepoint undoes.
func (c *linearClient) fillTx(ctx context.Context, tx *sql.Tx, name string, rows int) (ops []linear.Op, err error) {
	for _, id := range c.some(rows) {
		if c.r.IntN(3) == 0 {
			if err := c.undo(ctx, tx, id); err != nil {
				return nil, err
			}
		}
		o := linear.Op{Client: c.number, Key: id, Kind: linear.Update, Value: c.history.Draw(), Way: name}
		var written bool
		switch c.r.IntN(4) {
		case 0:
			written, err = run(ctx, tx, setRowByKey, id, o.Value)
		case 1:
			written, err = run(ctx, tx, "UPDATE accounts SET n = $2 WHERE abs(id) = $1", id, o.Value)
		case 2: // twice
			if _, err = run(ctx, tx, setRowByKey, id, c.history.Draw()); err == nil {
				written, err = run(ctx, tx, setRowByKey, id, o.Value)
			}
		case 3: // away and back
			o.Kind = linear.Upsert
			if _, err = tx.ExecContext(ctx, "DELETE FROM accounts WHERE id = $1", id); err == nil {
				written, err = run(ctx, tx, upsertOne, id, o.Value)
			}
		}
		if err != nil {
			return nil, err
		}
		if written {
			ops = append(ops, o)
		}
	}
	return ops, nil
}

const setRowByKey = "UPDATE accounts SET n = $2 WHERE id = $1"

// undo writes what is rolled back to a savepoint.
func (c *linearClient) undo(ctx context.Context, tx *sql.Tx, id int) error {
	if _, err := tx.ExecContext(ctx, "SAVEPOINT s"); err != nil {
		return err
	}
	if _, err := run(ctx, tx, setRowByKey, id, c.history.Draw()); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, "ROLLBACK TO s")
	return err
}
