package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
)

// collapseRows is the number of rows that are exchanged in one transaction.
const collapseRows = 1000

var errTooDeep = errors.New("wtcache: the outbox grows past its bound")

// bound keeps the table in bounds while Redis is out of reach: where too many rows wait, those of this process' outage are exchanged
// for sweeps, as far as Cover knows any.
func (b *Box) bound(outage int64) error {
	depth, err := b.measure()
	if err != nil || depth <= b.o.MaxDepth {
		return err
	}
	b.stats.tooDeep.Add(1)
	b.report("the outbox grows while redis is out of reach", fmt.Errorf("%w: %d rows, %d allowed", errTooDeep, depth, b.o.MaxDepth))
	if b.o.Cover == nil {
		return nil
	}
	for after := int64(0); b.ctx.Err() == nil; {
		last, err := b.collapse(outage, after)
		if err != nil || last == 0 {
			return errors.Join(err, b.remeasure(err))
		}
		after = last
	}
	return nil
}

func (b *Box) remeasure(failed error) error {
	if failed != nil {
		return nil
	}
	_, err := b.measure()
	return err
}

// collapse exchanges some rows behind one for as few as possible. It gives the last row that it has looked at, and 0 where there are hardly any
// more: others go on writing meanwhile, and it must come to an end.
func (b *Box) collapse(outage, after int64) (last int64, err error) {
	ctx, cancel := context.WithTimeout(b.ctx, 4*requestTimeout)
	defer cancel()
	err = b.transact(ctx, requestTimeout, func(tx *sql.Tx) error {
		condition := "outage = " + strconv.FormatInt(outage, 10) + " AND id > " + strconv.FormatInt(after, 10)
		rows, seen, err := b.take(ctx, tx, b.takeText(condition, collapseRows))
		if err != nil || len(seen) == 0 {
			return err
		}
		if len(seen) == collapseRows {
			last = seen[len(seen)-1]
		}
		rows, fewer := b.covered(rows)
		if len(rows) < 2 {
			return nil
		}
		if _, err := tx.ExecContext(ctx, b.text.settled+list(idsOf(rows)), b.args()...); err != nil {
			return fmt.Errorf("exchange rows of the outbox: %w", err)
		}
		if _, err := tx.ExecContext(ctx, b.text.insert, b.args(outage, fewer.encode())...); err != nil {
			return fmt.Errorf("exchange rows of the outbox: %w", err)
		}
		b.stats.collapsed.Add(int64(len(rows)))
		return nil
	})
	return last, err
}

// covered gives the rows all of whose keys are covered by sweeps, and those sweeps with the rows' own.
func (b *Box) covered(rows []row) (all []row, fewer Debt) {
	var debts []Debt
	for _, r := range rows {
		d := Debt{Sweeps: r.debt.Sweeps}
		for _, k := range r.debt.Keys {
			s, ok := b.o.Cover(k)
			if !ok {
				d.Keys = append(d.Keys, k)
				continue
			}
			d.Sweeps = append(d.Sweeps, s)
		}
		if len(d.Keys) == 0 {
			all, debts = append(all, r), append(debts, d)
		}
	}
	return all, merge(debts)
}
