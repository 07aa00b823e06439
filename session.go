package wtcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/wtcache/wtcache/rules"
)

// degradedRetry bounds how often rules that no longer fit the catalogue are held
// against it again.
const degradedRetry = 5 * time.Second

// probe finds out what the session makes of the rules: which relation each ruled
// name is under its search_path, what its role may do, whether row-level security
// is in force. One round trip; on a changed catalogue a few more.
func (c *conn) probe(ctx context.Context) error {
	gen, err := c.engine.generation(ctx, c.querier())
	if err != nil {
		return err
	}
	session, err := gen.set.Session(ctx, c.querier())
	if err != nil {
		return fmt.Errorf("wtcache: look at the session: %w", err)
	}
	if session.Stale && (!gen.degraded || time.Since(gen.loadedAt) > degradedRetry) {
		c.engine.catalogueChanged()
		if gen, err = c.engine.generation(ctx, c.querier()); err != nil {
			return err
		}
		if session, err = gen.set.Session(ctx, c.querier()); err != nil {
			return fmt.Errorf("wtcache: look at the session: %w", err)
		}
	}
	c.engine.stats.sessionProbes.Add(1)
	c.engine.lastProbe.Store(time.Now().UnixNano())
	interned, _ := gen.sessions.LoadOrStore(session.Key(), session)
	c.gen, c.session, c.sessionStale = gen, interned.(*rules.Session), false
	return nil
}

// current makes sure that c.session holds, probing again where it may not. In a
// failed transaction nothing can be asked, and nothing that is sent can write.
func (c *conn) current(ctx context.Context) error {
	if !c.sessionStale && c.gen == c.engine.gen.Load() && !c.engine.stale.Load() {
		return nil
	}
	if c.txFailed() {
		return nil
	}
	return c.probe(ctx)
}

// recheckEvery bounds how long a change of the catalogue that another program made
// (a migration that adds a trigger, a view, a partition) goes unnoticed by a process
// that keeps its connections and writes ruled tables.
const recheckEvery = 30 * time.Second

// recheck makes this connection probe once more where no connection of the engine has
// done so for a while. Its cost is spread over all ruled writes of that time.
func (c *conn) recheck() {
	last := c.engine.lastProbe.Load()
	now := time.Now().UnixNano()
	if now-last > int64(recheckEvery) && c.engine.lastProbe.CompareAndSwap(last, now) {
		c.sessionStale = true
	}
}

// querier runs catalogue look-ups on the base connection itself.
func (c *conn) querier() rules.Querier {
	return func(ctx context.Context, sql string) ([][]*string, error) {
		var args []driver.NamedValue
		if c.pgx != nil {
			args = simpleProtocol // leaves no prepared statement in the session
		}
		rows, err := c.base.query.QueryContext(ctx, sql, args)
		if err != nil {
			return nil, err
		}
		table, err := readText(rows)
		return table, errors.Join(err, rows.Close())
	}
}

func readText(rows driver.Rows) ([][]*string, error) {
	var table [][]*string
	cells := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := rows.Next(cells); {
		case err == io.EOF: //nolint:errorlint // the interface promises it bare
			return table, nil
		case err != nil:
			return nil, err
		}
		row := make([]*string, len(cells))
		for i, v := range cells {
			s, ok, err := textOf(v)
			if err != nil {
				return nil, fmt.Errorf("column %d: %w", i+1, err)
			}
			if ok {
				row[i] = &s
			}
		}
		table = append(table, row)
	}
}

// textOf reads a text column, which a base may give as string or as []byte; ok
// is false for NULL.
func textOf(v driver.Value) (s string, ok bool, err error) {
	switch v := v.(type) {
	case nil:
		return "", false, nil
	case string:
		return v, true, nil
	case []byte:
		return string(v), true, nil
	}
	return "", false, fmt.Errorf("got %T where a text was expected", v)
}

// literalsAreStandard says whether a backslash in '…' is an ordinary character in
// this session, as the parser takes it to be.
func (c *conn) literalsAreStandard() bool {
	return c.pgx == nil || c.pgx.PgConn().ParameterStatus("standard_conforming_strings") != "off"
}
