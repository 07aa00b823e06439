package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

var errorScenarios = []scenario{
	{name: "failing statements", on: Fake, run: func(s *side) {
		for _, text := range slices.Concat(writes, returning, []string{readUsers}) {
			s.failing(text, errInjected, 1000)
		}
	}, shows: []string{"is injected, tries 1"}},
	{name: "ErrBadConn is tried again", on: Fake, run: func(s *side) {
		for times := 1; times <= 4; times++ {
			for _, text := range slices.Concat(writes, returning, []string{readUsers}) {
				s.failing(text, driver.ErrBadConn, times)
				s.failing(text, fmt.Errorf("wrapped: %w", driver.ErrBadConn), times)
			}
		}
	}, shows: []string{"tries 2", "tries 3", "is ErrBadConn"}},
	{name: "ErrBadConn of everything else", on: Fake, run: func(s *side) {
		for _, op := range []fakedriver.Op{fakedriver.Connect, fakedriver.Begin, fakedriver.Ping, fakedriver.Reset, fakedriver.Close, fakedriver.Rollback} {
			for times := 1; times <= 4; times++ {
				s.badConn(op, times)
			}
		}
	}, shows: []string{"is ErrBadConn"}},
	{name: "connection that is no longer valid", on: Fake, features: usual | fakedriver.Validator, run: func(s *side) {
		s.exec(s.db, writeOne, "x", 1)
		s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
			return fakedriver.Reply{Err: errInjected}, c.Op == fakedriver.Valid
		})
		s.exec(s.db, writeOne, "x", 1)
		s.note("%s", s.pool())
	}, shows: []string{"pool: 0 open"}},
	{name: "base that takes no text as it is", on: Fake, run: func(s *side) {
		s.skipping()
		s.around(func(on runner) {
			for _, text := range writes {
				s.exec(on, text, "x", 2)
			}
			for _, text := range append([]string{readUsers}, returning...) {
				s.query(on, everything, text, argsFor(text)...)
			}
			s.prepared(on, writeOne, func(stmt *sql.Stmt) {
				res, err := stmt.ExecContext(s.ctx, "x", 1)
				s.noteResult("prepared", res, err)
			})
		})
		c := s.conn()
		for _, text := range []string{"BEGIN", deleteOne, "COMMIT", "BEGIN", deleteOne, "ROLLBACK"} {
			s.exec(c, text)
		}
		s.note("close: %s", s.describe(c.Close()))
	}, shows: []string{"row int64(1)"}},
	{name: "rows that fail", on: Fake, run: func(s *side) {
		for _, text := range append([]string{readUsers}, returning...) {
			r := usualScript[text]
			r.RowsErr = errInjected
			s.base.Script(text, r)
			s.rowsThatFail(text)
			r.RowsErr, r.CloseErr = nil, errInjected
			s.base.Script(text, r)
			s.rowsThatFail(text)
		}
	}, shows: []string{"error error \"injected\" is injected", "close error \"injected\" is injected"}},
	{name: "results that fail", on: Fake, run: func(s *side) {
		s.base.Script(writeLog, fakedriver.Reply{AffectedErr: errInjected, InsertIDErr: errInjected})
		s.exec(s.db, writeLog, "x", 1)
		s.base.Script(writeLog, fakedriver.Reply{Affected: 7, InsertID: 9})
		s.exec(s.db, writeLog, "x", 1)
	}, shows: []string{"0 rows (error", "7 rows (ok), id 9 (ok)"}},
	{name: "several result sets", on: Fake, features: usual | fakedriver.NextResultSet, run: func(s *side) {
		s.severalSets(fakedriver.Reply{Columns: fakedriver.Named("a", "b", "c"), Rows: [][]driver.Value{{int64(1), nil, true}, {int64(2), nil, false}}},
			fakedriver.Reply{Columns: fakedriver.Named("none")}, rowsOf("last", 2))
	}, shows: []string{"set 1", "set 3", `"last"`}},
	{name: "result set that fails", on: Fake, features: usual | fakedriver.NextResultSet, run: func(s *side) {
		s.severalSets(fakedriver.Reply{Columns: fakedriver.Named("a"), Err: errInjected})
		s.severalSets(fakedriver.Reply{Columns: fakedriver.Named("a"), RowsErr: errInjected})
	}, shows: []string{"is injected"}},
}

// failing makes the base fail a statement some times, and counts how often it was asked.
func (s *side) failing(text string, failure error, times int) {
	tries := 0
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		if c.SQL != text || c.Op != fakedriver.Exec && c.Op != fakedriver.Query {
			return fakedriver.Reply{}, false
		}
		tries++
		return fakedriver.Reply{Err: failure}, tries <= times
	})
	args := argsFor(text)
	look := func(what string, run func() error) {
		tries = 0
		err := run()
		s.note("%s %s: %s, tries %d, %s", what, text, s.describe(err), tries, s.pool())
	}
	look("exec", func() error { _, err := s.db.ExecContext(s.ctx, text, args...); return err })
	look("query", func() error { return drained(s.db.QueryContext(s.ctx, text, args...)) })
	look("prepared", func() error {
		stmt, err := s.db.PrepareContext(s.ctx, text)
		if err != nil {
			return err
		}
		defer func() { _ = stmt.Close() }() // its failure would be the connection's
		_, err = stmt.ExecContext(s.ctx, args...)
		return err
	})
	look("in tx", func() error {
		tx := s.begin(s.ctx, nil)
		_, err := tx.ExecContext(s.ctx, text, args...)
		return errors.Join(err, tx.Commit())
	})
	look("on a conn", func() error {
		c := s.conn()
		_, err := c.ExecContext(s.ctx, text, args...)
		return errors.Join(err, c.Close())
	})
}

func drained(rows *sql.Rows, err error) error {
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return errors.Join(rows.Err(), rows.Close())
}

func (s *side) badConn(op fakedriver.Op, times int) {
	n := 0
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		if c.Op != op {
			return fakedriver.Reply{}, false
		}
		n++
		return fakedriver.Reply{Err: driver.ErrBadConn}, n <= times
	})
	s.note("%s: ping %s", op, s.describe(s.db.PingContext(s.ctx)))
	tx, err := s.db.BeginTx(s.ctx, nil)
	s.note("%s: begin %s", op, s.describe(err))
	if err == nil {
		s.exec(tx, writeLog, "x", 1)
		s.note("%s: rollback %s", op, s.describe(tx.Rollback()))
	}
	s.exec(s.db, writeLog, "x", 1)
	s.note("%s, %d times: asked %d times, %s", op, times, n, s.pool())
	// A pool without connections, for what is next.
	s.db.SetMaxIdleConns(-1)
	s.db.SetMaxIdleConns(2)
}

// skipping makes the base answer ErrSkip to every text that is not prepared.
func (s *side) skipping() {
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		text := c.Op == fakedriver.Exec || c.Op == fakedriver.Query
		return fakedriver.Reply{Err: driver.ErrSkip}, text && !c.Prepared
	})
}

// rowsThatFail: inside a transaction the caller sees the very same. Outside, what is read to the end beforehand fails
// earlier, but fails.
func (s *side) rowsThatFail(text string) {
	for _, limit := range []int{everything, 2, 0} {
		tx := s.begin(s.ctx, nil)
		s.query(tx, limit, text, argsFor(text)...)
		s.note("rollback: %s", s.describe(tx.Rollback()))
	}
	err := drained(s.db.QueryContext(context.WithoutCancel(s.ctx), text, argsFor(text)...))
	s.note("%s by itself: injected %v", text, errors.Is(err, errInjected))
	s.settle()
	s.note("%s", s.pool())
}

func (s *side) severalSets(further ...fakedriver.Reply) {
	for _, text := range append([]string{readUsers}, returning...) {
		r := usualScript[text]
		r.Further = further
		s.base.Script(text, r)
		for _, limit := range []int{everything, 1, 0} {
			tx := s.begin(s.ctx, nil)
			s.query(tx, limit, text, argsFor(text)...)
			s.note("rollback: %s", s.describe(tx.Rollback()))
		}
		if further[0].Err == nil && further[0].RowsErr == nil {
			s.query(s.db, everything, text, argsFor(text)...)
		}
	}
}
