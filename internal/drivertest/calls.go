package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

// The texts of most scenarios, one for each way in which a statement can be carried out.
const (
	readUsers  = "SELECT id, name FROM users ORDER BY id"
	readLogs   = "SELECT id, line FROM logs ORDER BY id"
	readNone   = "SELECT id FROM users WHERE id < 0"
	writeLog   = "UPDATE logs SET line = $1 WHERE id = $2"                                                        // no rule
	returnLogs = "UPDATE logs SET line = $1 WHERE id > $2 RETURNING id, line"                                     // no rule
	writeOne   = "UPDATE users SET name = $1 WHERE id = $2"                                                       // its key is known beforehand
	returnOne  = "UPDATE users SET name = $1 WHERE id = $2 RETURNING id, name"                                    //
	writeAll   = "UPDATE users SET name = $1 WHERE id > $2"                                                       // its keys are not
	returnAll  = "UPDATE users SET name = $1 WHERE id > $2 RETURNING id, name"                                    //
	returnNone = "UPDATE users SET name = 'n' WHERE id < 0 RETURNING id"                                          //
	deleteOne  = "DELETE FROM users WHERE id = 3"                                                                 // without arguments
	coarse     = "WITH u AS (UPDATE users SET name = $1 WHERE id > $2 RETURNING id, name) SELECT id, name FROM u" // its rows are not known
)

// columnsOf are columns of which a base tells all that it shows an interface for.
func columnsOf(first, second string) []fakedriver.Column {
	return []fakedriver.Column{
		{Name: first, Type: "INT8", HasNullable: true, Scan: reflect.TypeFor[int64]()},
		{Name: second, Type: "TEXT", Length: 99, HasLength: true, Nullable: true, HasNullable: true, Precision: 7, Scale: 2, HasSize: true, Scan: reflect.TypeFor[string]()},
	}
}

func rowsOf(second string, n int) fakedriver.Reply {
	r := fakedriver.Reply{Columns: columnsOf("id", second), Affected: int64(n)}
	for i := range n {
		r.Rows = append(r.Rows, []driver.Value{int64(i + 1), fmt.Sprint("text ", i+1)})
	}
	return r
}

// usualScript is what a scripted base answers to them.
var usualScript = map[string]fakedriver.Reply{
	readUsers: rowsOf("name", 3), readLogs: rowsOf("line", 3), readNone: {Columns: columnsOf("id", "name")[:1]},
	writeLog: {Affected: 1}, returnLogs: rowsOf("line", 3),
	writeOne: {Affected: 1}, returnOne: rowsOf("name", 1),
	writeAll: {Affected: 3}, returnAll: rowsOf("name", 3),
	returnNone: {Columns: columnsOf("id", "name")[:1]}, deleteOne: {Affected: 1},
	coarse: rowsOf("name", 3),
}

var (
	writes     = []string{writeLog, writeOne, writeAll}
	returning  = []string{returnLogs, returnOne, returnAll, coarse}
	withValues = []any{"x", 0}
)

// around runs something by itself, on one connection, and in transactions that end in either way.
func (s *side) around(run func(on runner)) {
	run(s.db)
	c := s.conn()
	run(c)
	s.note("conn close: %s", s.describe(c.Close()))
	tx := s.begin(s.ctx, nil)
	run(tx)
	s.note("commit: %s", s.describe(tx.Commit()))
	s.note("after it: %s", s.describe(tx.Commit()))
	s.exec(tx, writeOne, "late", 1)
	tx = s.begin(s.ctx, nil)
	run(tx)
	s.note("rollback: %s", s.describe(tx.Rollback()))
	s.note("after it: %s", s.describe(tx.Rollback()))
	s.query(tx, everything, readUsers)
	s.settle()
	s.note("%s", s.pool())
}

// stored notes what the tables hold, on a server.
func (s *side) stored() {
	if s.base.Plain == nil {
		return
	}
	for _, text := range []string{readUsers, readLogs} {
		s.query(s.base.Plain(), everything, text)
	}
}

var callScenarios = []scenario{
	{name: "exec", run: func(s *side) {
		s.around(func(on runner) {
			for _, text := range writes {
				s.exec(on, text, "x", 2)
			}
			s.exec(on, deleteOne)
		})
		s.stored()
	}, shows: []string{"1 rows (ok)", "LastInsertId is not supported", "is ErrTxDone"}},
	{name: "exec of what returns rows", run: func(s *side) {
		s.around(func(on runner) {
			for _, text := range returning {
				s.exec(on, text, withValues...)
			}
			s.exec(on, readUsers)
		})
	}},
	{name: "query read to the end", run: func(s *side) { s.queries(everything) }, shows: []string{"row int64(1) string("}},
	{name: "query closed after a row", run: func(s *side) { s.queries(1) }},
	{name: "query closed at once", run: func(s *side) { s.queries(0) }, shows: []string{"close ok"}},
	{name: "query row", run: func(s *side) {
		s.around(func(on runner) {
			for _, text := range append([]string{}, returning...) {
				s.queryRow(on, text, withValues...)
			}
			s.queryRow(on, readNone)
			s.queryRow(on, returnNone)
		})
	}, shows: []string{"is ErrNoRows"}},
	{name: "prepared", run: func(s *side) {
		s.around(func(on runner) {
			for _, text := range writes {
				s.prepared(on, text, func(stmt *sql.Stmt) {
					for range 2 {
						res, err := stmt.ExecContext(s.ctx, "x", 2)
						s.noteResult("prepared "+text, res, err)
					}
				})
			}
			for _, text := range append([]string{readUsers, readNone}, returning...) {
				s.prepared(on, text, func(stmt *sql.Stmt) {
					for _, limit := range []int{everything, 1, 0} {
						rows, err := stmt.QueryContext(s.ctx, argsFor(text)...)
						s.noteRows("prepared "+text, limit, rows, err)
					}
				})
			}
		})
		s.stored()
	}},
	{name: "prepared, with the wrong number of arguments", on: Fake | Server, run: func(s *side) {
		for _, text := range []string{writeOne, writeLog, readUsers, returnAll} {
			s.prepared(s.db, text, func(stmt *sql.Stmt) {
				_, err := stmt.ExecContext(s.ctx, 1, 2, 3)
				s.note("%s: %s", text, s.describe(err))
			})
		}
	}, shows: []string{"expected 2 arguments, got 3"}},
	{name: "statement in several transactions", run: func(s *side) {
		for _, text := range []string{writeOne, writeAll, writeLog} {
			s.prepared(s.db, text, func(stmt *sql.Stmt) { s.statementInTransactions(text, stmt) })
		}
		s.stored()
	}},
	{name: "statement that outlives its transaction", run: func(s *side) {
		tx := s.begin(s.ctx, nil)
		for _, text := range []string{writeOne, writeLog} {
			stmt, err := tx.PrepareContext(s.ctx, text)
			s.note("prepare: %s", s.describe(err))
			defer func() {
				_, err := stmt.ExecContext(s.ctx, "x", 1)
				s.note("late: %s", s.describe(err))
			}()
		}
		s.note("commit: %s", s.describe(tx.Commit()))
	}, shows: []string{"commit: ok"}},
	{name: "rows left open when the transaction ends", run: func(s *side) {
		for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback} {
			for _, text := range returning {
				tx := s.begin(s.ctx, nil)
				rows, err := tx.QueryContext(s.ctx, text, withValues...)
				if err != nil {
					s.t.Fatal(err)
				}
				s.note("%s: next %v, end %s", text, rows.Next(), s.describe(end(tx)))
				s.note("next %v, error %s, close %s", rows.Next(), s.describe(rows.Err()), s.describe(rows.Close()))
			}
		}
		s.stored()
	}},
	{name: "what Raw hands out", on: all, run: rawScenario, shows: []string{"begin: ok"}},
}

func argsFor(text string) []any {
	if text == readUsers || text == readNone {
		return nil
	}
	return withValues
}

func (s *side) queries(limit int) {
	s.around(func(on runner) {
		for _, text := range returning {
			s.query(on, limit, text, withValues...)
		}
		for _, text := range []string{readUsers, readLogs, readNone, returnNone} {
			s.query(on, limit, text)
		}
	})
	s.stored()
}

func (s *side) queryRow(on runner, text string, args ...any) {
	row := on.QueryRowContext(s.ctx, text, args...)
	var id int64
	var name sql.RawBytes
	var text2 string
	s.note("query row %s: %s", text, s.describe(row.Err()))
	s.note("raw bytes %s", s.describe(row.Scan(&id, &name)))
	s.note("%s: %s, %d %q", text, s.describe(on.QueryRowContext(s.ctx, text, args...).Scan(&id, &text2)), id, text2)
	s.note("%s, one column: %s", text, s.describe(on.QueryRowContext(s.ctx, text, args...).Scan(&id)))
}

func (s *side) prepared(on runner, text string, use func(*sql.Stmt)) {
	stmt, err := on.PrepareContext(s.ctx, text)
	if err != nil {
		s.note("prepare %s: %s", text, s.describe(err))
		return
	}
	use(stmt)
	s.note("close %s: %s", text, s.describe(stmt.Close()))
	_, err = stmt.ExecContext(s.ctx, argsFor(text)...)
	s.note("closed %s: %s", text, s.describe(err))
}

func (s *side) statementInTransactions(text string, stmt *sql.Stmt) {
	for _, end := range []func(*sql.Tx) error{(*sql.Tx).Commit, (*sql.Tx).Rollback, (*sql.Tx).Commit} {
		tx := s.begin(s.ctx, nil)
		for range 2 {
			res, err := tx.StmtContext(s.ctx, stmt).ExecContext(s.ctx, "in tx", 1)
			s.noteResult("in tx "+text, res, err)
		}
		s.note("end: %s", s.describe(end(tx)))
		_, err := tx.StmtContext(s.ctx, stmt).ExecContext(s.ctx, "late", 1)
		s.note("late: %s", s.describe(err))
		res, err := stmt.ExecContext(s.ctx, "outside", 2)
		s.noteResult("outside "+text, res, err)
	}
}

// rawScenario uses the driver's connection without database/sql in between, in its legacy forms, too.
func rawScenario(s *side) {
	conn := s.conn()
	err := conn.Raw(func(dc any) error {
		c, ok := dc.(driver.Conn)
		s.note("a driver.Conn: %v", ok)
		for _, text := range []string{readUsers, writeOne, writeLog} {
			stmt, err := c.Prepare(text)
			if err != nil {
				return err
			}
			s.note("%s: %d inputs, close %s", text, stmt.NumInput(), s.describe(stmt.Close()))
		}
		//lint:ignore SA1019 the legacy form is what is tried
		tx, err := c.Begin()
		s.note("begin: %s", s.describe(err))
		if err != nil {
			return err
		}
		_, err = dc.(driver.ExecerContext).ExecContext(context.Background(), writeOne, []driver.NamedValue{{Ordinal: 1, Value: "x"}, {Ordinal: 2, Value: int64(1)}})
		s.note("exec: %s, rollback %s", s.describe(err), s.describe(tx.Rollback()))
		return errInjected
	})
	s.note("raw: %s, close %s", s.describe(err), s.describe(conn.Close()))
	s.stored()
}
