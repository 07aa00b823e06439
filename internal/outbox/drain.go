package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"
)

const (
	batchRows = 100
	// What Redis is given for a batch of keys, and for one with sweeps, which walk over the whole keyspace twice.
	settleTimeout = time.Minute
	sweepTimeout  = 30 * time.Minute
	// A row that Redis refuses, alone, is set aside for a while, and one that cannot be read for longer: they must not keep others from
	// being drained. They stay in the table.
	// The first time is short: a Redis that hung for a moment fails a row, too, and the outage lasts until that row is settled.
	refusedMin    = time.Second
	refusedMax    = 30 * time.Second
	unreadableFor = 10 * time.Minute
	maxAside      = 1000
	// maxFailures bounds the batches that fail in one go: a Redis that has just gone away refuses every row.
	maxFailures = 50
)

// drainer is what the worker remembers of its batches. Only the worker touches it.
type drainer struct {
	size  int             // of the next batch; smaller after a failure, to find the row at fault
	aside map[int64]aside // rows
}

// aside is a row that is not to be taken before until.
type aside struct {
	until time.Time
	pause time.Duration // that led there
}

// settleError is Redis' part in the failure of a batch.
type settleError struct{ err error }

func (e *settleError) Error() string { return "settle what is owed: " + e.err.Error() }
func (e *settleError) Unwrap() error { return e.err }

// row is one row of the outbox.
type row struct {
	id   int64
	debt Debt
}

// drain takes batches until nothing is left that can be taken. What Redis refuses is tried in smaller batches, until the rows at fault are
// set aside. It gives the last failure: the next try comes after a pause.
func (b *Box) drain() error {
	d := &b.drainer
	maps.DeleteFunc(d.aside, func(_ int64, a aside) bool { return time.Since(a.until) > refusedMax }) // it is gone, or as good as new
	var failed error
	for failures := 0; b.o.Settler.Reachable() && failures < maxFailures; {
		if d.size == 0 {
			d.size = batchRows
		}
		taken, err := b.batch(d.size)
		var refused *settleError
		switch {
		case errors.As(err, &refused):
			b.stats.drainErrors.Add(1)
			if len(taken) == 1 && b.o.Settler.Reachable() {
				b.setAside(taken[0], min(max(2*d.aside[taken[0]].pause, refusedMin), refusedMax), "a row of the outbox cannot be settled and is kept", err)
			}
			d.size = max(1, d.size/4) // to find the row at fault
			failures++
			failed = err
			continue
		case err != nil:
			b.stats.drainErrors.Add(1)
			return err
		case len(taken) == 0:
			return failed
		}
		d.size = min(2*d.size, batchRows)
	}
	return failed
}

func (b *Box) setAside(id int64, period time.Duration, kind string, err error) {
	d := &b.drainer
	if d.aside == nil || len(d.aside) >= maxAside {
		d.aside = make(map[int64]aside)
	}
	d.aside[id] = aside{time.Now().Add(period), period}
	b.stats.skipped.Add(1)
	b.report(kind, fmt.Errorf("row %d of %s.outbox: %w", id, quote(b.o.Schema), err))
}

// batch takes rows, settles them and deletes them, in one transaction whose locks keep others from taking them, too. Only rows that are
// committed are seen, so that what they owe is visible to every reader by now. It gives the rows that it has taken.
func (b *Box) batch(size int) (taken []int64, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, sweepTimeout+2*requestTimeout)
	defer cancel()
	err = b.transact(ctx, b.o.seams.idle, func(tx *sql.Tx) error {
		rows, seen, err := b.take(ctx, tx, b.takeText("true", size))
		if err != nil || len(seen) == 0 {
			return err
		}
		taken = seen // with those that cannot be read
		if len(rows) == 0 {
			return nil
		}
		taken = idsOf(rows)
		debts := make([]Debt, len(rows))
		for i, r := range rows {
			debts[i] = r.debt
		}
		all := merge(debts)
		if err := b.settle(ctx, tx, all); err != nil {
			return err
		}
		b.o.seams.at("settled")
		if _, err := tx.ExecContext(ctx, b.text.settled+list(taken), b.args()...); err != nil {
			return fmt.Errorf("delete what is settled: %w", err)
		}
		b.stats.rows.Add(int64(len(rows)))
		b.stats.keys.Add(int64(len(all.Keys)))
		b.stats.sweeps.Add(int64(len(all.Sweeps)))
		return nil
	})
	return taken, err
}

// settle has Redis told, within the transaction that holds the rows.
func (b *Box) settle(ctx context.Context, tx *sql.Tx, d Debt) error {
	limit := settleTimeout
	if len(d.Sweeps) > 0 {
		limit = sweepTimeout
		if err := b.mayIdle(ctx, tx, sweepTimeout+requestTimeout); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := b.o.Settler.Settle(ctx, d); err != nil {
		return &settleError{err}
	}
	return nil
}

// mayIdle bounds how long a transaction may stand still: the server ends it then.
func (b *Box) mayIdle(ctx context.Context, tx *sql.Tx, idle time.Duration) error {
	setting := "SET LOCAL idle_in_transaction_session_timeout = " + strconv.FormatInt(idle.Milliseconds(), 10)
	if _, err := tx.ExecContext(ctx, setting, b.args()...); err != nil {
		return fmt.Errorf("drain the outbox: %w", err)
	}
	return nil
}

// transact runs f in a transaction, whatever isolation the session has by default. The server ends it where this process stands still for
// longer than idle: else a process that is stopped would keep its rows from all others.
func (b *Box) transact(ctx context.Context, idle time.Duration, f func(*sql.Tx) error) error {
	return b.with(ctx, func(c *sql.Conn) error {
		tx, err := c.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
		if err != nil {
			return fmt.Errorf("drain the outbox: %w", err)
		}
		defer tx.Rollback() //nolint:errcheck // after Commit it does nothing, and a failed one ends with its connection
		if err := b.mayIdle(ctx, tx, idle); err != nil {
			return err
		}
		if err := f(tx); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("drain the outbox: %w", err)
		}
		return nil
	})
}

// takeText locks some of the rows that nobody else has locked, the oldest first.
func (b *Box) takeText(condition string, size int) string {
	var not []int64
	for id, a := range b.drainer.aside {
		if time.Now().Before(a.until) {
			not = append(not, id)
		}
	}
	if len(not) > 0 {
		condition += " AND id NOT IN " + list(not)
	}
	return b.text.take + condition + " ORDER BY id LIMIT " + strconv.Itoa(size) + " FOR UPDATE SKIP LOCKED"
}

// take gives the rows that can be read, and the numbers of all that were found. Those that cannot be read are set aside.
func (b *Box) take(ctx context.Context, tx *sql.Tx, text string) (rows []row, seen []int64, err error) {
	found, err := tx.QueryContext(ctx, text, b.args()...)
	if err != nil {
		return nil, nil, fmt.Errorf("take from the outbox: %w", err)
	}
	defer found.Close()
	for found.Next() {
		var r row
		var text string
		if err := found.Scan(&r.id, &text); err != nil {
			return nil, nil, fmt.Errorf("take from the outbox: %w", err)
		}
		seen = append(seen, r.id)
		if r.debt, err = decode(text); err != nil {
			b.setAside(r.id, unreadableFor, "a row of the outbox cannot be read and is kept: its keys must be made absent by hand, or by a newer version of wtcache", err)
			continue
		}
		rows = append(rows, r)
	}
	if err := found.Err(); err != nil {
		return nil, nil, fmt.Errorf("take from the outbox: %w", err)
	}
	return rows, seen, nil
}

func idsOf(rows []row) []int64 {
	ids := make([]int64, len(rows))
	for i, r := range rows {
		ids[i] = r.id
	}
	return ids
}

// list writes numbers as SQL.
func list(ids []int64) string {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatInt(id, 10)
	}
	return "(" + strings.Join(texts, ",") + ")"
}
