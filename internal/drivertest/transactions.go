package drivertest

import (
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

var txScenarios = []scenario{
	{name: "options", run: func(s *side) {
		for level := sql.LevelDefault; level <= sql.LevelLinearizable+1; level++ {
			for _, readOnly := range []bool{false, true} {
				s.options(&sql.TxOptions{Isolation: level, ReadOnly: readOnly})
			}
		}
		if s.base.Fake != nil {
			for _, c := range s.base.Fake.Calls() {
				if c.Op == fakedriver.Begin {
					s.note("base: %s", c)
				}
			}
		}
	}},
	{name: "options that the base does not have", on: Fake, run: func(s *side) {
		s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
			return fakedriver.Reply{Err: errInjected}, c.Op == fakedriver.Begin && (c.Options.ReadOnly || c.Options.Isolation != 0)
		})
		for _, o := range []*sql.TxOptions{{ReadOnly: true}, {Isolation: sql.LevelSerializable}, {}} {
			s.options(o)
		}
	}, shows: []string{"is injected", "commit ok"}},
	{name: "context that has ended before", run: func(s *side) {
		cancelled, cancel := context.WithCancel(s.ctx)
		cancel()
		late, cancelLate := context.WithDeadline(s.ctx, time.Now().Add(-time.Hour))
		defer cancelLate()
		for _, ctx := range []context.Context{cancelled, late} {
			s.ended(ctx)
		}
		s.stored()
	}, shows: []string{"is Canceled", "is DeadlineExceeded"}},
	{name: "transaction whose context ends", run: func(s *side) { s.cancelledTx() }, shows: []string{"is ErrTxDone"}},
	{name: "transaction whose context ends, base with SessionResetter and Validator", on: Fake,
		features: usual | fakedriver.Validator, run: func(s *side) { s.cancelledTx() }, shows: []string{"1 open, 0 in use, 1 idle"}},
	{name: "transaction whose context ends, base with Validator alone", on: Fake,
		features: usual&^fakedriver.SessionResetter | fakedriver.Validator, run: func(s *side) { s.cancelledTx() }, shows: []string{"0 open"}},
	{name: "transaction whose context ends, base with neither", on: Fake,
		features: usual &^ fakedriver.SessionResetter, run: func(s *side) { s.cancelledTx() }, shows: []string{"0 open"}},
	{name: "context that ends during a call", on: Fake, run: func(s *side) {
		for _, text := range slices.Concat(writes, returning, []string{readUsers}) {
			s.interrupted(text)
		}
	}, shows: []string{"is Canceled"}},
	{name: "begin whose context ends meanwhile", on: Fake, run: func(s *side) {
		ctx, entered := s.blocked(func(c fakedriver.Call) bool { return c.Op == fakedriver.Begin })
		_, err := s.db.BeginTx(ctx, nil)
		s.note("begin: %s, entered %d", s.describe(err), *entered)
	}, shows: []string{"is Canceled"}},
	{name: "failures of begin, commit and rollback", on: Fake, run: func(s *side) {
		for _, op := range []fakedriver.Op{fakedriver.Begin, fakedriver.Commit, fakedriver.Rollback} {
			s.failingEnd(op)
		}
	}},
}

func (s *side) options(o *sql.TxOptions) {
	tx, err := s.db.BeginTx(s.ctx, o)
	if err != nil {
		s.note("%v: %s", *o, s.describe(err))
		return
	}
	s.exec(tx, writeOne, "x", 1)
	if s.base.Plain != nil {
		for _, what := range []string{"transaction_isolation", "transaction_read_only"} {
			s.query(tx, everything, "SHOW "+what)
		}
	}
	s.note("%v: commit %s", *o, s.describe(tx.Commit()))
}

// ended makes every kind of call under a context that has ended.
func (s *side) ended(ctx context.Context) {
	_, err := s.db.BeginTx(ctx, nil)
	s.note("begin: %s", s.describe(err))
	_, err = s.db.Conn(ctx)
	s.note("conn: %s", s.describe(err))
	s.note("ping: %s", s.describe(s.db.PingContext(ctx)))
	s.underContext(ctx, s.db)
	tx := s.begin(s.ctx, nil)
	s.underContext(ctx, tx)
	s.note("end: %s", s.describe(tx.Rollback()))
}

func (s *side) underContext(ctx context.Context, on runner) {
	for _, text := range writes {
		_, err := on.ExecContext(ctx, text, "never", 1)
		s.note("%s: %s", text, s.describe(err))
	}
	for _, text := range returning {
		_, err := on.QueryContext(ctx, text, "never", 1)
		s.note("%s: %s", text, s.describe(err))
	}
	_, err := on.PrepareContext(ctx, writeOne)
	s.note("prepare: %s", s.describe(err))
}

// cancelledTx ends the context of transactions that are open. Whether their connection is kept is the base's to decide.
func (s *side) cancelledTx() {
	for _, text := range []string{"", writeLog, writeOne, writeAll, coarse} {
		ctx, cancel := context.WithCancel(s.ctx)
		tx := s.begin(ctx, nil)
		if text != "" {
			s.exec(tx, text, "never", 0)
		}
		cancel()
		s.settle()
		_, err := tx.ExecContext(s.ctx, writeOne, "late", 1)
		s.note("after %q: exec %s, commit %s, rollback %s", text, s.describe(err), s.describe(tx.Commit()), s.describe(tx.Rollback()))
		s.note("%s", s.pool())
	}
	s.stored()
}

// blocked gives a context that is cancelled as soon as the base is in a call of the given kind.
func (s *side) blocked(is func(fakedriver.Call) bool) (context.Context, *int) {
	ctx, cancel := context.WithCancel(s.ctx)
	s.t.Cleanup(cancel)
	entered := new(int)
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		if !is(c) {
			return fakedriver.Reply{}, false
		}
		*entered++
		cancel()
		return fakedriver.Reply{Wait: make(chan struct{})}, true
	})
	return ctx, entered
}

func (s *side) interrupted(text string) {
	statement := func(c fakedriver.Call) bool {
		return c.SQL == text && (c.Op == fakedriver.Exec || c.Op == fakedriver.Query)
	}
	ctx, entered := s.blocked(statement)
	_, err := s.db.ExecContext(ctx, text, argsFor(text)...)
	s.note("exec %s: %s, entered %d", text, s.describe(err), *entered)
	ctx, entered = s.blocked(statement)
	_, err = s.db.QueryContext(ctx, text, argsFor(text)...)
	s.note("query %s: %s, entered %d", text, s.describe(err), *entered)
	ctx, entered = s.blocked(statement)
	tx := s.begin(s.ctx, nil)
	_, err = tx.ExecContext(ctx, text, argsFor(text)...)
	s.note("in tx %s: %s, entered %d, commit %s", text, s.describe(err), *entered, s.describe(tx.Commit()))
	ctx, entered = s.blocked(func(c fakedriver.Call) bool { return c.SQL == text && c.Op == fakedriver.Prepare })
	_, err = s.db.PrepareContext(ctx, text)
	s.note("prepare %s: %s, entered %d", text, s.describe(err), *entered)
	s.settle()
	s.note("%s", s.pool())
}

func (s *side) failingEnd(op fakedriver.Op) {
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		return fakedriver.Reply{Err: errInjected}, c.Op == op
	})
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
		tx, err := s.db.BeginTx(s.ctx, nil)
		if err != nil {
			s.note("%s: %s", op, s.describe(err))
			continue
		}
		s.exec(tx, writeLog, "x", 1)
		s.exec(tx, writeOne, "x", 1)
		s.note("%s: end %s, again %s", op, s.describe(end(tx)), s.describe(tx.Rollback()))
		s.note("%s", s.pool())
	}
}
