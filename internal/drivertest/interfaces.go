package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

// exerciseInterfaces tries every subset of the optional interfaces: what is shown to database/sql has to be what the base
// shows, wherever database/sql makes a difference, and a neutral answer elsewhere.
func (target Target) exerciseInterfaces(t *testing.T) {
	t.Run("base without what is required", target.lacking)
	t.Run("base whose statements lack what is required", target.lackingOfStatements)
	t.Run("interfaces of a connection", func(t *testing.T) {
		optional := fakedriver.Conn &^ fakedriver.Required
		for _, f := range optional.Subsets() {
			t.Run(f.String(), func(t *testing.T) { target.connInterfaces(t, fakedriver.Required|f) })
		}
	})
	t.Run("interfaces of a statement", func(t *testing.T) {
		for _, f := range fakedriver.Stmt.Subsets() {
			t.Run(f.String(), func(t *testing.T) { target.stmtInterfaces(t, usual&^fakedriver.Stmt|f) })
		}
	})
	t.Run("interfaces of rows", func(t *testing.T) {
		optional := fakedriver.Rows | scannerFeature
		for _, f := range optional.Subsets() {
			t.Run(f.String(), func(t *testing.T) { target.rowsInterfaces(t, usual&^fakedriver.Rows|f) })
		}
	})
}

// lacking: a base that cannot take part is refused when it connects, by the name of what it lacks, and its connection is
// given back.
func (target Target) lacking(t *testing.T) {
	required := fakedriver.Conn & fakedriver.Required
	for _, f := range required.Subsets() {
		t.Run(f.String(), func(t *testing.T) {
			s := target.open(t, usual&^required|f, true)
			err := s.db.PingContext(s.ctx)
			if f == required {
				if err != nil {
					t.Errorf("a base with all that is required gave %v", err)
				}
				return
			}
			if !errors.Is(err, target.Refused) {
				t.Fatalf("the error is %v", err)
			}
			missing, _, _ := strings.Cut((required &^ f).String(), "+")
			if !strings.Contains(err.Error(), "driver."+missing) {
				t.Errorf("%q does not name %s", err, missing)
			}
			if opened, closed := s.base.Fake.Count(fakedriver.Connect), s.base.Fake.Count(fakedriver.Close); opened != closed {
				t.Errorf("%d connections were opened and %d closed", opened, closed)
			}
		})
	}
}

func (target Target) lackingOfStatements(t *testing.T) {
	for _, missing := range []fakedriver.Feature{fakedriver.StmtExecContext, fakedriver.StmtQueryContext} {
		s := target.open(t, usual&^missing, true)
		for _, text := range []string{writeOne, writeAll} {
			_, err := s.db.PrepareContext(s.ctx, text)
			if !errors.Is(err, target.Refused) || !strings.Contains(err.Error(), "driver."+missing.String()) {
				t.Errorf("%s without %s gave %v", text, missing, err)
			}
		}
		if opened, closed := s.base.Fake.Count(fakedriver.Prepare), s.base.Fake.Count(fakedriver.CloseStmt); opened != closed {
			t.Errorf("%d statements were prepared and %d closed", opened, closed)
		}
	}
}

func (target Target) connInterfaces(t *testing.T, f fakedriver.Feature) {
	s := target.open(t, f, true)
	err := s.conn().Raw(func(dc any) error {
		_, resets := dc.(driver.SessionResetter)
		_, validates := dc.(driver.Validator)
		if resets != f.Has(fakedriver.SessionResetter) || validates != f.Has(fakedriver.Validator) {
			t.Errorf("SessionResetter %v, Validator %v", resets, validates)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	target.compare(t, scenario{features: f, run: func(s *side) {
		s.note("ping: %s", s.describe(s.db.PingContext(s.ctx)))
		s.around(func(on runner) {
			s.exec(on, writeOne, "x", 1)
			s.exec(on, writeAll, shout("x"), 1)
			s.query(on, everything, returnAll, "x", 1)
		})
		s.cancelledTx()
		for _, op := range []fakedriver.Op{fakedriver.Ping, fakedriver.Begin, fakedriver.Reset, fakedriver.LegacyExec, fakedriver.LegacyQuery, fakedriver.LegacyBegin, fakedriver.LegacyPrepare} {
			if n := s.base.Fake.Count(op); op != fakedriver.Begin { // a write may have a transaction of its own
				s.note("%s: %d", op, n)
			}
		}
		s.note("connect %d, close %d", s.base.Fake.Count(fakedriver.Connect), s.base.Fake.Count(fakedriver.Close))
	}})
}

// stmtInterfaces: a statement that concerns no rule works as it does without us, whatever it lacks.
func (target Target) stmtInterfaces(t *testing.T, f fakedriver.Feature) {
	target.compare(t, scenario{features: f, run: func(s *side) {
		s.checking(fakedriver.CheckStmt)
		texts := []string{writeLog, returnLogs, readLogs, readUsers}
		if f.Has(fakedriver.StmtExecContext | fakedriver.StmtQueryContext) {
			texts = append(texts, writeOne, returnAll)
		}
		for _, text := range texts {
			s.prepared(s.db, text, func(stmt *sql.Stmt) {
				for _, v := range []any{"x", 1.5, shout("s"), true, removed{}} {
					args := argsFor(text)
					if args != nil {
						args = []any{v, 1}
					}
					res, err := stmt.ExecContext(s.ctx, args...)
					s.noteResult(text, res, err)
					rows, err := stmt.QueryContext(s.ctx, args...)
					s.noteRows(text, everything, rows, err)
				}
			})
		}
	}})
}

// rowPath is a way on which rows reach the caller.
type rowPath struct {
	text   string
	inTx   bool
	hidden bool // some columns are not the caller's to see
}

var rowPaths = []rowPath{{readUsers, false, false}, {returnLogs, false, false}, {returnOne, false, true}, {returnAll, false, true}, {coarse, false, false}, {returnOne, true, true}, {returnAll, true, true}, {coarse, true, false}}

// rowsInterfaces looks at the driver's rows themselves, and at what database/sql makes of them.
func (target Target) rowsInterfaces(t *testing.T, f fakedriver.Feature) {
	s := target.open(t, f, true)
	for _, p := range rowPaths {
		err := s.conn().Raw(func(dc any) error { return s.lookAtRows(dc, p, f) })
		if err != nil {
			t.Errorf("%s: %v", p.text, err)
		}
	}
	target.compare(t, scenario{features: f, run: func(s *side) {
		for _, p := range rowPaths {
			s.query(s.db, everything, p.text, argsFor(p.text)...)
			tx := s.begin(s.ctx, nil)
			s.query(tx, everything, p.text, argsFor(p.text)...)
			s.note("rollback: %s", s.describe(tx.Rollback()))
		}
	}})
}

func (s *side) lookAtRows(dc any, p rowPath, f fakedriver.Feature) error {
	text := p.text
	if p.inTx {
		tx, err := dc.(driver.ConnBeginTx).BeginTx(context.Background(), driver.TxOptions{})
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }() // nothing is looked at any more
	}
	args := []driver.NamedValue{{Ordinal: 1, Value: "x"}, {Ordinal: 2, Value: int64(0)}}
	rows, err := dc.(driver.QueryerContext).QueryContext(context.Background(), text, args[:len(argsFor(text))])
	if err != nil {
		return err
	}
	if _, sets := rows.(driver.RowsNextResultSet); sets != f.Has(fakedriver.NextResultSet) {
		s.t.Errorf("%s: NextResultSet shows: %v", text, sets)
	}
	if got, want := scanner(rows), scannerFeature != 0 && f.Has(scannerFeature); got != want {
		s.t.Errorf("%s: ColumnScanner shows: %v", text, got)
	}
	// A caller who appends to the names must not write into the base's.
	names := rows.Columns()
	if len(names) != 2 {
		s.t.Errorf("%s: columns %q", text, names)
	}
	if p.hidden && cap(names) != len(names) {
		s.t.Errorf("%s: the names have room for those that are hidden", text)
	}
	return rows.Close()
}
