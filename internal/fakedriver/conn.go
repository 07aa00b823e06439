package fakedriver

import (
	"context"
	"database/sql/driver"
	"regexp"
	"strconv"
)

// conn has what every driver.Conn has, and the legacy forms of what has a context today.
type conn struct {
	base   *Base
	number int
}

func (c *conn) ask(ctx context.Context, call Call) (Reply, error) {
	call.Conn = c.number
	return c.base.ask(ctx, call)
}

func (c *conn) Close() error {
	_, err := c.ask(context.Background(), Call{Op: Close})
	return err
}

func (c *conn) Begin() (driver.Tx, error) {
	return c.begin(context.Background(), Call{Op: LegacyBegin})
}

func (c *conn) begin(ctx context.Context, call Call) (driver.Tx, error) {
	if _, err := c.ask(ctx, call); err != nil {
		return nil, err
	}
	return tx{c}, nil
}

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.prepare(context.Background(), Call{Op: LegacyPrepare, SQL: query})
}

func (c *conn) prepare(ctx context.Context, call Call) (driver.Stmt, error) {
	if _, err := c.ask(ctx, call); err != nil {
		return nil, err
	}
	return stmtSubsets[c.base.Features>>stmtShift&(1<<stmtBits-1)](&stmt{conn: c, sql: call.SQL}), nil
}

func (c *conn) Exec(query string, args []driver.Value) (driver.Result, error) {
	return c.exec(context.Background(), Call{Op: LegacyExec, SQL: query, Args: named(args)})
}

func (c *conn) exec(ctx context.Context, call Call) (driver.Result, error) {
	r, err := c.ask(ctx, call)
	if err != nil {
		return nil, err
	}
	return result{r}, nil
}

func (c *conn) Query(query string, args []driver.Value) (driver.Rows, error) {
	return c.query(context.Background(), Call{Op: LegacyQuery, SQL: query, Args: named(args)})
}

func (c *conn) query(ctx context.Context, call Call) (driver.Rows, error) {
	r, err := c.ask(ctx, call)
	if err != nil {
		return nil, err
	}
	return newRows(c, r), nil
}

func (c *conn) check(call Call, v *driver.NamedValue) error {
	call.Args = []driver.NamedValue{*v}
	r, err := c.ask(context.Background(), call)
	if r.Value != nil {
		v.Value = r.Value
	}
	return err
}

func named(args []driver.Value) []driver.NamedValue {
	nv := make([]driver.NamedValue, len(args))
	for i, v := range args {
		nv[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return nv
}

// The optional interfaces of a connection, one a type. The subsets embed them.
type (
	beginner  struct{ c *conn }
	preparer  struct{ c *conn }
	execer    struct{ c *conn }
	queryer   struct{ c *conn }
	pinger    struct{ c *conn }
	resetter  struct{ c *conn }
	validator struct{ c *conn }
	checker   struct{ c *conn }
)

func (x beginner) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return x.c.begin(ctx, Call{Op: Begin, Options: o})
}

func (x preparer) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	return x.c.prepare(ctx, Call{Op: Prepare, SQL: query})
}

func (x execer) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	return x.c.exec(ctx, Call{Op: Exec, SQL: query, Args: args})
}

func (x queryer) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	return x.c.query(ctx, Call{Op: Query, SQL: query, Args: args})
}

func (x pinger) Ping(ctx context.Context) error {
	_, err := x.c.ask(ctx, Call{Op: Ping})
	return err
}

func (x resetter) ResetSession(ctx context.Context) error {
	_, err := x.c.ask(ctx, Call{Op: Reset})
	return err
}

func (x validator) IsValid() bool {
	_, err := x.c.ask(context.Background(), Call{Op: Valid})
	return err == nil
}

func (x checker) CheckNamedValue(v *driver.NamedValue) error { return x.c.check(Call{Op: Check}, v) }

type tx struct{ c *conn }

func (t tx) Commit() error {
	_, err := t.c.ask(context.Background(), Call{Op: Commit})
	return err
}

func (t tx) Rollback() error {
	_, err := t.c.ask(context.Background(), Call{Op: Rollback})
	return err
}

type result struct{ reply Reply }

func (r result) RowsAffected() (int64, error) { return r.reply.Affected, r.reply.AffectedErr }

func (r result) LastInsertId() (int64, error) {
	if r.reply.InsertID == 0 && r.reply.InsertIDErr == nil {
		return driver.RowsAffected(0).LastInsertId()
	}
	return r.reply.InsertID, r.reply.InsertIDErr
}

// stmt has what every driver.Stmt has.
type stmt struct {
	conn *conn
	sql  string
}

func (s *stmt) Close() error {
	_, err := s.conn.ask(context.Background(), Call{Op: CloseStmt, SQL: s.sql})
	return err
}

var parameter = regexp.MustCompile(`\$(\d+)`)

// NumInput is the highest parameter number in the text.
func (s *stmt) NumInput() (n int) {
	for _, m := range parameter.FindAllStringSubmatch(s.sql, -1) {
		if i, err := strconv.Atoi(m[1]); err == nil {
			n = max(n, i)
		}
	}
	return n
}

func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.conn.exec(context.Background(), Call{Op: LegacyExec, SQL: s.sql, Prepared: true, Args: named(args)})
}

func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.conn.query(context.Background(), Call{Op: LegacyQuery, SQL: s.sql, Prepared: true, Args: named(args)})
}

type (
	stmtExecer    struct{ s *stmt }
	stmtQueryer   struct{ s *stmt }
	stmtChecker   struct{ s *stmt }
	stmtConverter struct{ s *stmt }
)

func (x stmtExecer) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return x.s.conn.exec(ctx, Call{Op: Exec, SQL: x.s.sql, Prepared: true, Args: args})
}

func (x stmtQueryer) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return x.s.conn.query(ctx, Call{Op: Query, SQL: x.s.sql, Prepared: true, Args: args})
}

func (x stmtChecker) CheckNamedValue(v *driver.NamedValue) error {
	return x.s.conn.check(Call{Op: CheckStmt}, v)
}

func (x stmtConverter) ColumnConverter(int) driver.ValueConverter { return x.s.conn.base.Converter }
