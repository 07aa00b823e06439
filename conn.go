package wtcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/rules"
)

var (
	_ driver.Conn               = (*conn)(nil)
	_ driver.ConnBeginTx        = (*conn)(nil)
	_ driver.ConnPrepareContext = (*conn)(nil)
	_ driver.ExecerContext      = (*conn)(nil)
	_ driver.QueryerContext     = (*conn)(nil)
	_ driver.NamedValueChecker  = (*conn)(nil)
	_ driver.Pinger             = (*conn)(nil)
	_ driver.SessionResetter    = resettableConn{}
	_ driver.Validator          = validatedConn{}
	_ driver.SessionResetter    = fullConn{}
	_ driver.Validator          = fullConn{}
)

// conn wraps one base connection. Like every driver.Conn it is used by one
// goroutine at a time; database/sql sees to that.
type conn struct {
	engine *engine
	base   baseConn
	pgx    *pgx.Conn // nil where the base is not pgx
	alone  bool      // the engine is this connection's own
	server string    // its incarnation when the connection was opened; "" where not known
	// origin is the database that its rows come from, as last seen; "" where not known.
	origin origin
	// snapshots: transactions are repeatable read or above unless they say otherwise.
	snapshots bool

	gen          *generation
	session      *rules.Session // under gen
	sessionStale bool           // a statement may have changed search_path, role or the like
	doubtful     bool           // with sessionStale: the catalogue may have changed, too
	outdated     bool           // the catalogue is no longer what gen was bound to: ruled writes are coarse
	epoch        uint64         // of the engine, at the latest probe

	tx        txState
	pipelined map[string]string         // spliced text -> name that it is prepared by to be sent behind BEGIN; nil: none may be
	prepared  map[string][]*rules.Table // what SQL-level PREPAREd statements write
}

// baseConn is a base connection with the interfaces that capturing needs, looked
// up once.
type baseConn struct {
	conn    driver.Conn
	begin   driver.ConnBeginTx
	prepare driver.ConnPrepareContext
	exec    driver.ExecerContext
	query   driver.QueryerContext
	checker driver.NamedValueChecker // nil where the base has none
	standIn standIn                  // nil where the base is a real one
}

// newConn wraps base and holds the rules against what this session sees.
func newConn(ctx context.Context, e *engine, base driver.Conn) (driver.Conn, error) {
	b, err := requireInterfaces(base)
	if err != nil {
		return nil, err
	}
	c := &conn{engine: e, base: b}
	c.pgx, _ = PgxConn(base)
	if c.pipelining() {
		c.pipelined = map[string]string{}
	}
	if b.standIn != nil {
		e.sync.ClocksJump() // its test moves them
		e.standsIn.Store(true)
	}
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	if b.standIn == nil {
		if err := e.redisIs.fit(ctx, c.gen.set); err != nil {
			return nil, err
		}
	}
	if err := e.checkOutbox(ctx, c); err != nil {
		return nil, err
	}
	c.introduce(ctx)
	return c.withOptional(), nil
}

func requireInterfaces(base driver.Conn) (baseConn, error) {
	b := baseConn{conn: base}
	var ok [4]bool
	b.begin, ok[0] = base.(driver.ConnBeginTx)
	b.prepare, ok[1] = base.(driver.ConnPrepareContext)
	b.exec, ok[2] = base.(driver.ExecerContext)
	b.query, ok[3] = base.(driver.QueryerContext)
	for i, name := range []string{"ConnBeginTx", "ConnPrepareContext", "ExecerContext", "QueryerContext"} {
		if !ok[i] {
			return baseConn{}, fmt.Errorf("%w: %T does not implement driver.%s, which capturing writes needs", ErrBaseDriver, base, name)
		}
	}
	b.checker, _ = base.(driver.NamedValueChecker)
	b.standIn, _ = base.(standIn)
	return b, nil
}

// The optional interfaces whose mere presence changes what database/sql does:
// with SessionResetter and Validator both there, it keeps the connection of a
// cancelled transaction (sql.DB.beginDC). So each is there exactly where the base has it.
type (
	resettableConn struct{ *conn }
	validatedConn  struct{ *conn }
	fullConn       struct{ *conn }
)

func (c *conn) withOptional() driver.Conn {
	_, resets := c.base.conn.(driver.SessionResetter)
	_, validates := c.base.conn.(driver.Validator)
	switch {
	case resets && validates:
		return fullConn{c}
	case resets:
		return resettableConn{c}
	case validates:
		return validatedConn{c}
	}
	return c
}

func (c resettableConn) ResetSession(ctx context.Context) error { return c.resetSession(ctx) }
func (c fullConn) ResetSession(ctx context.Context) error       { return c.resetSession(ctx) }
func (c validatedConn) IsValid() bool                           { return c.isValid() }
func (c fullConn) IsValid() bool                                { return c.isValid() }

func (c *conn) resetSession(ctx context.Context) error {
	c.reconcile()
	return c.base.conn.(driver.SessionResetter).ResetSession(ctx)
}

func (c *conn) isValid() bool { return c.base.conn.(driver.Validator).IsValid() }

// reach hands the base connection to somebody whose statements are not seen.
func (c *conn) reach() driver.Conn {
	c.sessionStale, c.doubtful, c.prepared = true, true, nil
	c.tx.blind()
	return c.base.conn
}

// Close closes the base connection. A transaction that is still open is rolled
// back by the server, so what it captured is dropped.
func (c *conn) Close() error {
	c.reconcile()
	c.tx = txState{}
	err := c.base.conn.Close()
	if c.alone {
		if eerr := c.engine.close(); err == nil {
			err = eerr
		}
	}
	return err
}

// ownEngine makes the engine end with the connection.
func (c *conn) ownEngine() { c.alone = true }

// Ping forwards; a base without Pinger counts as alive, as in database/sql.
func (c *conn) Ping(ctx context.Context) error {
	if p, ok := c.base.conn.(driver.Pinger); ok {
		return p.Ping(ctx)
	}
	return nil
}

// CheckNamedValue forwards; ErrSkip sends database/sql on to its own conversion,
// which is what it does for a base without a checker.
func (c *conn) CheckNamedValue(v *driver.NamedValue) error {
	if look, ok := v.Value.(*txView); ok {
		return c.show(look)
	}
	if c.base.checker == nil {
		return driver.ErrSkip
	}
	return c.base.checker.CheckNamedValue(v)
}

// ExecContext runs a statement. A text that touches no rule goes straight to the base.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	p, err := c.plan(ctx, query)
	if err != nil {
		return nil, err
	}
	if !p.touches {
		return c.base.exec.ExecContext(ctx, query, args)
	}
	res, err := c.run(ctx, p, request{sql: query, args: args})
	return res.result, err
}

// QueryContext runs a statement that gives rows. A text that touches no rule goes
// straight to the base and its rows are handed out as they are.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if query == viewText {
		return noRows{}, nil
	}
	p, err := c.plan(ctx, query)
	if err != nil {
		return nil, err
	}
	if !p.touches {
		return c.base.query.QueryContext(ctx, query, args)
	}
	res, err := c.run(ctx, p, request{sql: query, args: args, rows: true})
	if err != nil {
		return nil, err
	}
	return res.rows, nil
}

// BeginTx starts a transaction that records what it writes.
func (c *conn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	c.reconcile()
	open := c.inTx() // by a BEGIN sent as SQL: the server warns and goes on in the same transaction
	if !open {
		// Inside it a changed catalogue could not be loaded again: its writes would all be coarse.
		if err := c.current(ctx); err != nil {
			return nil, err
		}
	}
	base, err := c.base.begin.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	if !open {
		c.tx.begin()
		c.tx.isolation = sql.IsolationLevel(opts.Isolation)
	}
	return &tx{conn: c, base: base, ctx: ctx}, nil
}

// Begin is the legacy form of BeginTx.
func (c *conn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

// Prepare is the legacy form of PrepareContext.
func (c *conn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}
