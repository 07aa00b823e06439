package wtcachetest

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// mockConn is what sqlmock's one connection implements.
type mockConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.QueryerContext
	driver.NamedValueChecker
	driver.Pinger
}

// connector makes connections that look like separate ones over sqlmock's one.
type connector struct {
	cache *Cache
	mock  mockConn
}

func (c *connector) Connect(context.Context) (driver.Conn, error) {
	return &conn{cache: c.cache, mock: c.mock}, nil
}

func (c *connector) Driver() driver.Driver { return connectorDriver{} }

// Close is sql.DB.Close: sqlmock sees it once.
func (c *connector) Close() error {
	if c.cache.closing() {
		return nil // the test's end closes it, not the user's code
	}
	return c.mock.Close()
}

type connectorDriver struct{}

func (connectorDriver) Open(string) (driver.Conn, error) {
	return nil, errors.New("wtcachetest opens through its connector alone")
}

// conn stands between wtcache and sqlmock: it answers what the driver asks of its own
// accord and passes on what is the user's. database/sql uses it from one goroutine at a time.
type conn struct {
	cache *Cache
	mock  mockConn

	open    bool // a transaction is
	pending []pendingChange
	marks   []mark
}

// pendingChange is a change that is not committed yet: of one row, or one after which it
// is not known what the table holds.
type pendingChange struct {
	table *table
	change
	unknown bool
}

// mark is a savepoint: how many changes came before it.
type mark struct {
	name string
	at   int
}

func (c *conn) Begin() (driver.Tx, error) { return c.BeginTx(context.Background(), driver.TxOptions{}) }

func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

func (c *conn) Close() error { return nil } // sqlmock's one connection outlives it

func (c *conn) Ping(ctx context.Context) error { return c.mock.Ping(ctx) }

func (c *conn) CheckNamedValue(v *driver.NamedValue) error { return c.mock.CheckNamedValue(v) }

func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	base, err := c.mock.PrepareContext(ctx, query)
	if err != nil {
		return nil, err
	}
	return &stmt{Stmt: base, conn: c, text: query}, nil
}

// stmt is a prepared statement of the user's. Its calls go the way of the connection's
// own, as sqlmock's do.
type stmt struct {
	driver.Stmt
	conn *conn
	text string
}

func (s *stmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.conn.ExecContext(ctx, s.text, args)
}

func (s *stmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.conn.QueryContext(ctx, s.text, args)
}

func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	base, err := c.mock.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	return c.begin(base), nil
}

// BeginOwn begins a transaction that the user's code did not: sqlmock must not see it.
func (c *conn) BeginOwn(context.Context) (driver.Tx, error) { return c.begin(unseenTx{}), nil }

func (c *conn) begin(base driver.Tx) driver.Tx {
	c.cache.log.sql("BEGIN")
	c.open, c.pending, c.marks = true, nil, nil
	return &tx{Tx: base, conn: c}
}

type unseenTx struct{}

func (unseenTx) Commit() error   { return nil }
func (unseenTx) Rollback() error { return nil }

type tx struct {
	driver.Tx
	conn *conn
}

func (t *tx) Commit() error {
	err := t.Tx.Commit()
	t.conn.end("COMMIT", err)
	return err
}

func (t *tx) Rollback() error {
	err := t.Tx.Rollback()
	t.conn.end("ROLLBACK", err)
	return err
}

// end closes the transaction. Its changes become the tables' content with a COMMIT that
// succeeds.
func (c *conn) end(word string, err error) {
	if err != nil {
		c.cache.log.failed(word, err)
	} else {
		c.cache.log.add(operation{verb: word, commits: word == "COMMIT"})
	}
	if word == "COMMIT" && err == nil {
		c.cache.commit(c.pending)
	}
	c.open, c.pending, c.marks = false, nil, nil
}

func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	result, err := c.mock.ExecContext(ctx, query, args)
	if err != nil {
		c.cache.log.failed(oneLine(query), err)
		return nil, err
	}
	c.follow(query)
	return result, nil
}

// follow keeps track of transaction words that are sent as SQL.
func (c *conn) follow(query string) {
	stmts := parser.Parse(query)
	for _, s := range stmts {
		c.forget(s)
	}
	if len(stmts) != 1 {
		c.cache.log.sql(query)
		c.settle()
		return
	}
	switch s := stmts[0]; s.Kind {
	case parser.KindBegin:
		c.begin(unseenTx{})
		return
	case parser.KindCommit:
		c.end("COMMIT", nil)
		c.open = s.Chain
		return
	case parser.KindRollback:
		c.end("ROLLBACK", nil)
		c.open = s.Chain
		return
	case parser.KindSavepoint:
		c.marks = append(c.marks, mark{s.Name, len(c.pending)})
	case parser.KindRollbackTo:
		for i, m := range slices.Backward(c.marks) {
			if m.name == s.Name {
				c.pending, c.marks = c.pending[:m.at], c.marks[:i+1]
				break
			}
		}
	}
	c.cache.log.sql(query)
	c.settle()
}

// forget drops what was known of the tables whose rows a statement writes unseen: one that
// is not captured, or that a foreign key's action passes on.
func (c *conn) forget(s *parser.Statement) {
	for _, t := range c.cache.model.changedBy(s) {
		c.pending = append(c.pending, pendingChange{table: t, unknown: true})
	}
}

// settle makes what happened outside a transaction the tables' content.
func (c *conn) settle() {
	if !c.open {
		c.cache.commit(c.pending)
		c.pending = nil
	}
}

func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if q, ok := c.cache.asks[query]; ok {
		return c.read(q, args)
	}
	if strings.Contains(query, "pg_xact_status") {
		return nil, errors.New("wtcachetest: there is no server that could say what became of a transaction")
	}
	rows, err := c.mock.QueryContext(ctx, query, args)
	if err != nil {
		c.cache.log.failed(oneLine(query), err)
		return nil, err
	}
	c.follow(query)
	return rows, nil
}

// Ask answers what the rules ask the catalogue and the session.
func (c *conn) Ask(ctx context.Context, sql string) ([][]*string, error) {
	return c.cache.model.ask(ctx, sql)
}

// Write meets the user's expectation with the user's own text, and gives the rows that
// the spliced text would have given.
func (c *conn) Write(ctx context.Context, text string, args []driver.NamedValue, rows bool, bound *rules.Table, s *parser.Statement, captured []string) (driver.Rows, error) {
	answer, err := c.send(ctx, text, args, rows)
	if err != nil {
		c.cache.log.failed(oneLine(text), err)
		return nil, err
	}
	c.cache.log.add(operation{verb: oneLine(text), commits: !c.open})
	if err := c.capture(answer, text, args, bound, s, captured); err != nil {
		c.cache.lines.fail(err)
		return nil, err
	}
	return answer, nil
}

// send gives the user's own rows, or as many rows without a column as were affected.
func (c *conn) send(ctx context.Context, text string, args []driver.NamedValue, rows bool) (*answer, error) {
	if !rows {
		result, err := c.mock.ExecContext(ctx, text, args)
		if err != nil {
			return nil, err
		}
		n, err := result.RowsAffected()
		return &answer{rows: make([][]driver.Value, n)}, err
	}
	base, err := c.mock.QueryContext(ctx, text, args)
	if err != nil {
		return nil, err
	}
	a := &answer{Rows: base, columns: base.Columns()}
	for {
		row := make([]driver.Value, len(a.columns))
		switch err := base.Next(row); {
		case err == io.EOF: //nolint:errorlint // the interface promises it bare
			return a, nil
		case err != nil:
			// What came before the error was written, too: it is handed on with it.
			a.err = err
			return a, nil
		}
		a.rows = append(a.rows, row)
	}
}

// capture works out the captured columns of every row of the answer.
func (c *conn) capture(a *answer, text string, args []driver.NamedValue, bound *rules.Table, s *parser.Statement, captured []string) error {
	t := c.cache.model.table(bound.Name)
	if t == nil {
		return fmt.Errorf("wtcachetest: no table %s is known", bound.Name)
	}
	w := &write{
		table: t, stmt: s, text: text, args: args, affected: len(a.rows),
		returned: returnedRows(t, s, a), declared: c.cache.takeDeclared(t, len(a.rows)),
	}
	w.content, w.known = c.content(t)
	changes, err := w.changes()
	if err != nil {
		return err
	}
	r := &renderer{write: w, bound: bound, whens: c.cache.whens, version: c.cache.nextVersion(), oid: t.oidText()}
	for _, ch := range changes {
		a.hidden = append(a.hidden, r.cells(captured, ch))
	}
	a.width = len(captured)
	if err := r.problem(); err != nil {
		return err
	}
	for _, ch := range changes {
		c.pending = append(c.pending, pendingChange{table: t, change: ch})
	}
	for _, other := range c.cache.model.cascadingFrom(s) {
		c.pending = append(c.pending, pendingChange{table: other, unknown: true})
	}
	c.settle()
	return nil
}

// content is what this transaction sees of a table; ok is false where the test has not said.
func (c *conn) content(t *table) (rows []Row, ok bool) {
	rows, ok = c.cache.content(t)
	for _, p := range c.pending {
		if p.table == t {
			rows, ok = t.after(rows, ok, p)
		}
	}
	return rows, ok
}

// after is what is known of a table after a change.
func (t *table) after(rows []Row, known bool, p pendingChange) ([]Row, bool) {
	if p.unknown || !known {
		return nil, false
	}
	return t.apply(rows, p.change), true
}

// returnedRows is what the user's own RETURNING says of the written rows.
func returnedRows(t *table, s *parser.Statement, a *answer) []Row {
	names := returnedColumns(t, s, a.columns)
	if names == nil {
		return nil
	}
	rows := make([]Row, len(a.rows))
	for i, values := range a.rows {
		rows[i] = Row{}
		for j, name := range names {
			if name != "" {
				rows[i][name] = values[j]
			}
		}
	}
	return rows
}

// returnedColumns says which column of the table each column of the answer is, "" for
// none; nil where that is not certain.
func returnedColumns(t *table, s *parser.Statement, columns []string) []string {
	var names []string
	for _, item := range s.Returned {
		switch {
		case item == "*" && t.sketch && len(s.Returned) == 1:
			names = columns // a sketch does not know all of its columns
		case item == "*" && t.sketch:
			return nil
		case item == "*":
			names = append(names, t.columnNames()...)
		default:
			names = append(names, item)
		}
	}
	if len(names) != len(columns) {
		return nil
	}
	names = slices.Clone(names)
	for i, name := range names {
		if t.column(name) == nil {
			names[i] = ""
		}
	}
	return names
}

// answer is the rows of a captured write.
type answer struct {
	driver.Rows // of sqlmock; nil where the user called Exec
	columns     []string
	rows        [][]driver.Value
	err         error // after the rows

	hidden [][]driver.Value
	width  int
	next   int
}

func (a *answer) Columns() []string {
	return append(slices.Clone(a.columns), make([]string, a.width)...)
}

func (a *answer) Close() error {
	if a.Rows == nil {
		return nil
	}
	return a.Rows.Close()
}

func (a *answer) Next(dest []driver.Value) error {
	if a.next >= len(a.rows) {
		if a.err != nil {
			return a.err
		}
		return io.EOF
	}
	copy(dest, a.rows[a.next])
	copy(dest[len(a.columns):], a.hidden[a.next])
	a.next++
	return nil
}
