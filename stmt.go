package wtcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
)

var (
	_ driver.Stmt              = (*stmt)(nil)
	_ driver.StmtExecContext   = (*stmt)(nil)
	_ driver.StmtQueryContext  = (*stmt)(nil)
	_ driver.NamedValueChecker = (*stmt)(nil)
	//lint:ignore SA1019 a base that has it must be seen to have it
	_ driver.ColumnConverter = convertingStmt{}
)

// stmt is a prepared statement that concerns a rule, or may one day. What is prepared
// is the spliced text, where there is one. A read that touches no rule is the base's own.
type stmt struct {
	conn *conn
	base driver.Stmt
	sql  string // as the caller wrote it
	text string // as it was prepared

	// Where the plan has changed since, or the server has refused the captured columns, another text is sent. It is
	// prepared, too: in some of pgx's modes arguments mean something else otherwise.
	other     driver.Stmt // nil where that has not happened
	otherText string
}

// convertingStmt is a stmt over a base with a ColumnConverter, whose presence changes
// how database/sql converts arguments.
type convertingStmt struct{ *stmt }

func (s convertingStmt) ColumnConverter(i int) driver.ValueConverter {
	//lint:ignore SA1019 a base that has it must be seen to have it
	return s.base.(driver.ColumnConverter).ColumnConverter(i)
}

// PrepareContext prepares a statement on the base.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	p, err := c.plan(ctx, query)
	if err != nil {
		return nil, err
	}
	s := &stmt{conn: c, sql: query, text: query}
	var st step
	if p.touches {
		if err := c.current(ctx); err != nil {
			return nil, err
		}
		if b := p.bind(c); len(b.steps) == 1 && b.steps[0].action == actPrecise {
			st = b.steps[0]
			s.text = st.spliced
			if c.base.standIn != nil {
				s.text = query // captures by Write, whatever is prepared
			}
		}
	}
	if s.base, err = c.base.prepare.PrepareContext(ctx, s.text); err != nil {
		return nil, st.originalError(c.spliceFailed(err))
	}
	if !p.touches && isRead(query) {
		return s.base, nil
	}
	if err := requireStmt(s.base); err != nil {
		if !p.touches {
			return s.base, nil
		}
		_ = s.base.Close() // the missing interface is the error to return
		return nil, err
	}
	//lint:ignore SA1019 a base that has it must be seen to have it
	if _, ok := s.base.(driver.ColumnConverter); ok {
		return convertingStmt{s}, nil
	}
	return s, nil
}

// isRead says that a text which touches no rule never will, whatever the catalogue
// becomes: its statement reads. Any other may one day write a child, or a view, of a ruled table.
func isRead(query string) bool {
	query = strings.TrimLeft(query, " \t\r\n(")
	return len(query) > 6 && (strings.EqualFold(query[:6], "select") || strings.EqualFold(query[:6], "values"))
}

func requireStmt(base driver.Stmt) error {
	if _, ok := base.(driver.StmtExecContext); !ok {
		return fmt.Errorf("%w: %T does not implement driver.StmtExecContext, which capturing writes needs", ErrBaseDriver, base)
	}
	if _, ok := base.(driver.StmtQueryContext); !ok {
		return fmt.Errorf("%w: %T does not implement driver.StmtQueryContext, which capturing writes needs", ErrBaseDriver, base)
	}
	return nil
}

func (s *stmt) Close() error { return errors.Join(s.closeOther(), s.base.Close()) }

func (s *stmt) closeOther() error {
	if s.other == nil {
		return nil
	}
	err := s.other.Close()
	s.other, s.otherText = nil, ""
	return err
}

// NumInput is the base's: splicing adds no parameters.
func (s *stmt) NumInput() int { return s.base.NumInput() }

// CheckNamedValue asks the base's statement, then its connection, as database/sql does.
func (s *stmt) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := s.base.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return s.conn.CheckNamedValue(v)
}

// ExecContext runs the statement by the plan that holds now, which need not be the
// one under which it was prepared.
func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	res, err := s.run(ctx, request{sql: s.sql, args: args, stmt: s})
	return res.result, err
}

// QueryContext is ExecContext for a statement that gives rows.
func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	res, err := s.run(ctx, request{sql: s.sql, args: args, rows: true, stmt: s})
	if err != nil {
		return nil, err
	}
	return res.rows, nil
}

func (s *stmt) run(ctx context.Context, r request) (response, error) {
	p, err := s.conn.plan(ctx, s.sql)
	if err != nil {
		return response{}, err
	}
	if !p.touches {
		return s.conn.send(ctx, s.sql, r)
	}
	return s.conn.run(ctx, p, r)
}

// send runs a text as a statement of the base's.
func (s *stmt) send(ctx context.Context, text string, r request) (response, error) {
	base, err := s.preparedAs(ctx, text)
	if err != nil {
		return response{}, err
	}
	if r.rows {
		rows, err := base.(driver.StmtQueryContext).QueryContext(ctx, r.args)
		return response{rows: rows}, err
	}
	result, err := base.(driver.StmtExecContext).ExecContext(ctx, r.args)
	return response{result: result}, err
}

// preparedAs gives the base's statement for a text. One other than the first is kept.
func (s *stmt) preparedAs(ctx context.Context, text string) (driver.Stmt, error) {
	switch {
	case s.base != nil && text == s.text:
		return s.base, nil
	case s.other != nil && text == s.otherText:
		return s.other, nil
	}
	if err := s.closeOther(); err != nil {
		return nil, err
	}
	base, err := s.conn.base.prepare.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	if err := requireStmt(base); err != nil {
		_ = base.Close() // the missing interface is the error to return
		return nil, err
	}
	s.other, s.otherText = base, text
	return base, nil
}

// Exec is the legacy form of ExecContext.
func (s *stmt) Exec(args []driver.Value) (driver.Result, error) {
	return s.ExecContext(context.Background(), named(args))
}

// Query is the legacy form of QueryContext.
func (s *stmt) Query(args []driver.Value) (driver.Rows, error) {
	return s.QueryContext(context.Background(), named(args))
}

func named(args []driver.Value) []driver.NamedValue {
	nv := make([]driver.NamedValue, len(args))
	for i, v := range args {
		nv[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return nv
}
