package drivertest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

// side is a scenario's view of one of the two: the base, or the base wrapped.
type side struct {
	t       *testing.T
	ctx     context.Context
	db      *sql.DB
	base    Base
	wrapped bool
	notes   []string
}

// runner is a *sql.DB, *sql.Conn or *sql.Tx.
type runner interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
	PrepareContext(context.Context, string) (*sql.Stmt, error)
}

func (s *side) note(format string, args ...any) {
	s.notes = append(s.notes, fmt.Sprintf(format, args...))
}

// script sets what a scripted base answers. A server does so by itself.
func (s *side) script(replies map[string]fakedriver.Reply) {
	if s.base.Script == nil {
		return
	}
	for text, r := range replies {
		s.base.Script(text, r)
	}
}

// on tells a fake base what to do with some calls. It is set before the calls that it is for.
func (s *side) on(answer func(fakedriver.Call) (fakedriver.Reply, bool)) { *s.base.On = answer }

func (s *side) conn() *sql.Conn {
	s.t.Helper()
	c, err := s.db.Conn(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() }) // ErrConnDone where the scenario has done it
	return c
}

func (s *side) begin(ctx context.Context, o *sql.TxOptions) *sql.Tx {
	s.t.Helper()
	tx, err := s.db.BeginTx(ctx, o)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = tx.Rollback() }) // ErrTxDone where the scenario has ended it
	return tx
}

func (s *side) exec(on runner, text string, args ...any) {
	res, err := on.ExecContext(s.ctx, text, args...)
	s.noteResult("exec "+text, res, err)
}

func (s *side) noteResult(what string, res sql.Result, err error) {
	if err != nil {
		s.note("%s: %s", what, s.describe(err))
		return
	}
	n, nerr := res.RowsAffected()
	id, ierr := res.LastInsertId()
	s.note("%s: %d rows (%s), id %d (%s)", what, n, s.describe(nerr), id, s.describe(ierr))
}

// everything is the limit of a query whose rows are read to the end.
const everything = -1

// query reads up to limit rows of the first result set, or everything.
func (s *side) query(on runner, limit int, text string, args ...any) {
	rows, err := on.QueryContext(s.ctx, text, args...)
	s.noteRows("query "+text, limit, rows, err)
}

func (s *side) noteRows(what string, limit int, rows *sql.Rows, err error) {
	if err != nil {
		s.note("%s: %s", what, s.describe(err))
		return
	}
	for set := 0; ; set++ {
		s.noteColumns(fmt.Sprintf("%s: set %d", what, set), rows)
		for n := 0; n != limit && rows.Next(); n++ {
			s.noteRow(what, rows)
		}
		if limit != everything || !rows.NextResultSet() {
			break
		}
	}
	cerr, rerr := rows.Close(), rows.Err()
	s.note("%s: close %s, error %s, more %v", what, s.describe(cerr), s.describe(rerr), rows.Next())
}

func (s *side) noteRow(what string, rows *sql.Rows) {
	names, err := rows.Columns()
	if err != nil {
		s.note("%s: columns %s", what, s.describe(err))
		return
	}
	cells, dest := make([]any, len(names)), make([]any, len(names))
	for i := range cells {
		dest[i] = &cells[i]
	}
	if err := rows.Scan(dest...); err != nil {
		s.note("%s: scan %s", what, s.describe(err))
	}
	s.note("%s: row %s", what, typed(cells))
	// The same row once more, into what needs a conversion.
	texts := make([]sql.NullString, len(names))
	for i := range texts {
		dest[i] = &texts[i]
	}
	s.note("%s: as texts %v %s", what, texts, s.describe(rows.Scan(dest...)))
	s.note("%s: too few %s", what, s.describe(rows.Scan()))
}

func (s *side) noteColumns(what string, rows *sql.Rows) {
	types, err := rows.ColumnTypes()
	if err != nil {
		s.note("%s: column types %s", what, s.describe(err))
		return
	}
	for _, c := range types {
		length, hasLength := c.Length()
		nullable, hasNullable := c.Nullable()
		precision, scale, hasSize := c.DecimalSize()
		s.note("%s: column %q %q %v length %d %v nullable %v %v size %d %d %v", what, c.Name(), c.DatabaseTypeName(), c.ScanType(),
			length, hasLength, nullable, hasNullable, precision, scale, hasSize)
	}
}

func typed(cells []any) string {
	texts := make([]string, len(cells))
	for i, c := range cells {
		texts[i] = fmt.Sprintf("%T(%v)", c, c)
	}
	return strings.Join(texts, " ")
}

// known are the errors that a program asks for by identity.
var known = []struct {
	name string
	err  error
}{
	{"ErrBadConn", driver.ErrBadConn}, {"ErrSkip", driver.ErrSkip}, {"ErrRemoveArgument", driver.ErrRemoveArgument},
	{"ErrTxDone", sql.ErrTxDone}, {"ErrConnDone", sql.ErrConnDone}, {"ErrNoRows", sql.ErrNoRows},
	{"Canceled", context.Canceled}, {"DeadlineExceeded", context.DeadlineExceeded}, {"EOF", io.EOF},
	{"ErrTxCommitRollback", pgx.ErrTxCommitRollback}, {"injected", errInjected},
}

// describe tells an error: its text, what it is, and what the server says of it.
func (s *side) describe(err error) string {
	if err == nil {
		return "ok"
	}
	text := fmt.Sprintf("error %q", err)
	for _, k := range known {
		if errors.Is(err, k.err) {
			text += " is " + k.name
		}
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		text += fmt.Sprintf(" %s %s at %d, %s %s", pg.Severity, pg.Code, pg.Position, pg.TableName, pg.ConstraintName)
	}
	return text
}

// errInjected is what a fake base is told to fail with.
var errInjected = errors.New("injected")

func (s *side) pool() string {
	st := s.db.Stats()
	return fmt.Sprintf("pool: %d open, %d in use, %d idle, %d waited", st.OpenConnections, st.InUse, st.Idle, st.WaitCount)
}

// patience is for what happens on a goroutine of database/sql's. It is no measure of speed.
const patience = 30 * time.Second

// until waits for a condition.
func (s *side) until(what string, met func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !met(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s did not come about in %v; %s", what, patience, s.pool())
		}
	}
}

// settle waits for what database/sql does with connections behind the caller's back.
func (s *side) settle() {
	s.t.Helper()
	s.until("an idle pool", func() bool { return s.db.Stats().InUse == 0 })
}
