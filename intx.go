package wtcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
)

// txView is what a reader asks of the connection behind a *sql.Tx, which database/sql does
// not hand out: as the one argument of viewText, which is never sent.
type txView struct {
	engine    *engine // the connection's; nil where nobody has looked
	written   bool    // the open transaction has written ruled tables, or may have
	isolation sql.IsolationLevel
}

const viewText = "SELECT 'wtcache.In asks for a transaction of a *sql.DB that was opened through wtcache'"

// show answers a txView. The query that it came with is left without arguments.
func (c *conn) show(v *txView) error {
	v.engine, v.written, v.isolation = c.engine, len(c.tx.log) > 0 || c.tx.unseen, c.tx.isolation
	if v.isolation == sql.LevelDefault && c.snapshots {
		v.isolation = sql.LevelRepeatableRead
	}
	return driver.ErrRemoveArgument
}

// noRows is the answer to viewText, which costs no round trip. One that was prepared is
// answered by the server.
type noRows struct{}

func (noRows) Columns() []string         { return []string{"wtcache"} }
func (noRows) Close() error              { return nil }
func (noRows) Next([]driver.Value) error { return io.EOF }

var errNotOurs = errors.New("wtcache: In takes a *sql.Tx or *sql.Conn of a *sql.DB that was opened through wtcache")

var errNotThis = errors.New("wtcache: In takes a transaction of the *sql.DB that the reader reads; this one is of another")

// viewOf asks a transaction of the engine's what it has done.
func (e *engine) viewOf(ctx context.Context, tx Queryer) (txView, error) {
	var v txView
	rows, err := tx.QueryContext(ctx, viewText, &v)
	if err == nil {
		err = errors.Join(rows.Close(), rows.Err())
	}
	switch {
	case v.engine == e:
		return v, err
	case v.engine != nil:
		return v, errors.Join(errNotThis, err)
	case errors.Is(err, sql.ErrTxDone), errors.Is(err, sql.ErrConnDone), ctx.Err() != nil:
		return v, err // nobody was asked
	}
	return v, errNotOurs
}

// inTx reads on behalf of a transaction.
func (c *Cache) inTx(ctx context.Context, t target, asks []asked, o *readOptions) ([]reading, error) {
	v, err := c.engine.viewOf(ctx, o.queryer)
	if err != nil {
		return nil, err
	}
	got := make([]reading, len(asks))
	missing := make([]int, 0, len(asks))
	own := v.written || v.isolation > sql.LevelReadCommitted
	for i := range asks {
		missing = append(missing, i)
	}
	if !own && !o.fresh {
		j := &journey{cache: c, target: t, asks: asks, o: o, got: got, pending: missing}
		around, absent := j.split(ctx)
		absent = j.look(ctx, absent, &around)
		missing = append(absent, around...)
	}
	if len(missing) == 0 {
		return got, nil
	}
	c.engine.stats.bypasses.Add(uint64(len(missing)))
	left := make([]asked, len(missing))
	for n, i := range missing {
		left[n] = asks[i]
	}
	rows, err := queryRows(ctx, o.queryer, t, left)
	if err != nil {
		return nil, err
	}
	for n, i := range missing {
		if got[i] = rows[n].reading(); rows[n].err != nil {
			return nil, rows[n].err
		}
	}
	return got, nil
}
