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
//
// Inside a transaction the catalogue is not loaded again: where it has changed, every
// ruled write is coarse until the transaction has ended.
func (c *conn) probe(ctx context.Context) error {
	gen, inTx := c.gen, c.inTx()
	var err error
	if !inTx {
		if gen, err = c.engine.generation(ctx, c.querier()); err != nil {
			return err
		}
	}
	compare := c.session == nil || c.doubtful || c.outdated || gen != c.gen || c.epoch != c.engine.epoch.Load()
	session, err := c.look(ctx, gen, compare)
	if err != nil {
		return err
	}
	if session.Stale && !inTx && (!gen.degraded || time.Since(gen.loadedAt) > degradedRetry) {
		c.engine.catalogueChanged()
		if gen, err = c.engine.generation(ctx, c.querier()); err != nil {
			return err
		}
		if session, err = c.look(ctx, gen, true); err != nil {
			return err
		}
	}
	c.engine.stats.sessionProbes.Add(1)
	c.gen, c.session = gen, gen.intern(session)
	c.sessionStale, c.doubtful, c.outdated = false, false, session.Stale || inTx && gen != c.engine.current()
	c.epoch = c.engine.epoch.Load()
	return nil
}

func (c *conn) look(ctx context.Context, gen *generation, compare bool) (*rules.Session, error) {
	session, err := gen.set.Session(ctx, c.querier(), compare)
	if err != nil {
		return nil, fmt.Errorf("wtcache: look at the session: %w", err)
	}
	return session, nil
}

// maxSessions bounds the sessions that share plans; more of them than this differ
// only where a program makes a search_path or a role for each of its tenants.
const maxSessions = 256

// intern gives the session that stands for all that are equal to it.
func (g *generation) intern(session *rules.Session) *rules.Session {
	known, there := g.sessions.LoadOrStore(session.Key(), session)
	if !there && g.sessionCount.Add(1) > maxSessions {
		g.sessions.Clear()
		g.sessionCount.Store(0)
	}
	return known.(*rules.Session)
}

// current makes sure that c.session holds, probing again where it may not. In a
// failed transaction nothing can be asked, and nothing that is sent can write.
func (c *conn) current(ctx context.Context) error {
	fits := c.gen == c.engine.current()
	switch {
	case c.txFailed():
		return nil
	case c.inTx():
		if !c.sessionStale {
			c.outdated = c.outdated || !fits
			return nil
		}
	case !c.sessionStale && !c.outdated && fits && c.epoch == c.engine.nextEpoch():
		return nil
	}
	return c.probe(ctx)
}

// epochLength bounds how long a change that another program made (a migration that
// adds a trigger, a view or a partition, a GRANT) goes unnoticed by a connection that
// writes ruled tables, or by readers.
const epochLength = 30 * time.Second

// nextEpoch gives the epoch that has begun by now. Only ruled writes and readers call it.
func (e *engine) nextEpoch() uint64 {
	start, now := e.epochStart.Load(), time.Now().UnixNano()
	if now-start > int64(epochLength) && e.epochStart.CompareAndSwap(start, now) {
		return e.epoch.Add(1)
	}
	return e.epoch.Load()
}

// querier runs catalogue look-ups on the base connection itself.
func (c *conn) querier() rules.Querier {
	if c.base.standIn != nil {
		return c.base.standIn.Ask
	}
	return func(ctx context.Context, sql string) ([][]*string, error) {
		var args []driver.NamedValue
		if c.pgx != nil {
			args = c.unprepared()
		}
		res, err := c.sendText(ctx, sql, request{args: args, rows: true, part: true})
		if err != nil {
			return nil, err
		}
		table, err := readText(res.rows)
		return table, errors.Join(err, res.rows.Close())
	}
}

func readText(rows driver.Rows) ([][]*string, error) {
	var table [][]*string
	cells := make([]driver.Value, len(rows.Columns()))
	for {
		switch err := nextCells(rows, cells, 0); {
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
