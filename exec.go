package wtcache

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"slices"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// request is one call of the user's: a text, its arguments, and whether rows are wanted.
type request struct {
	sql  string
	args []driver.NamedValue
	rows bool
	stmt *stmt // the prepared statement that the call came through, or nil
}

// response is what a request gives: a result, or rows.
type response struct {
	result driver.Result
	rows   driver.Rows
}

// run carries out a text that may concern a rule.
func (c *conn) run(ctx context.Context, p *textPlan, r request) (response, error) {
	c.reconcile()
	if !p.words {
		if err := c.current(ctx); err != nil {
			return response{}, err
		}
	}
	b := p.bind(c)
	defer c.reconcile()
	if len(b.steps) == 1 {
		return c.runStep(ctx, &b.steps[0], r)
	}
	return c.runScript(ctx, p, b, r)
}

// runStep carries out a text of one statement.
func (c *conn) runStep(ctx context.Context, st *step, r request) (response, error) {
	switch {
	case st.action == actRefuse:
		c.sessionStale = true // the GRANT that the error names may have been run by the next try
		return response{}, st.err
	case c.txFailed() && !st.isControl():
		return c.send(ctx, r.sql, r) // the server refuses it; nothing can be written
	case st.isControl():
		return c.runControl(ctx, st, r)
	}
	if st.action == actExecute {
		st = c.executeStep(st)
	}
	defer c.noteSession(st)
	if c.inTx() {
		c.tx.blur(st.blurs)
	}
	switch st.action {
	case actPrecise, actPinned, actCoarse:
		if c.inTx() {
			return c.writeInTx(ctx, st, r)
		}
		return c.autocommit(ctx, st, r)
	case actUncaptured:
		c.uncaptured(st)
	}
	res, err := c.send(ctx, r.sql, r)
	if err == nil {
		c.notePrepared(st)
	}
	return res, err
}

// executeStep finds out what an SQL-level EXECUTE writes. A statement that this
// connection did not see being prepared may write anything.
func (c *conn) executeStep(st *step) *step {
	tables, seen := c.prepared[st.stmt.Name]
	if seen && len(tables) == 0 {
		return &step{stmt: st.stmt, text: st.text}
	}
	if !seen {
		tables = c.gen.set.Tables
	}
	return &step{action: actCoarse, stmt: st.stmt, text: st.text, coarse: tables, reason: "SQL-level EXECUTE"}
}

// maxPrepared bounds the names of SQL-level PREPAREd statements that are remembered.
const maxPrepared = 1000

// notePrepared follows SQL-level PREPARE, DEALLOCATE and DISCARD. What is forgotten, and
// what is not certain, counts as not seen.
func (c *conn) notePrepared(st *step) {
	c.forgetPrepared(st)
	// One that writes only elsewhere now may write a ruled table under another search_path.
	certain := st.prepares != nil || len(st.stmt.Written) == 0 && !st.stmt.All
	if st.stmt.Kind != parser.KindPrepare || !certain {
		return
	}
	if c.prepared == nil || len(c.prepared) >= maxPrepared {
		c.prepared = map[string][]*rules.Table{}
	}
	c.prepared[st.stmt.Name] = st.prepares
}

func (c *conn) forgetPrepared(st *step) {
	switch {
	case st.stmt.Kind == parser.KindDeallocate && st.stmt.Name == "", st.stmt.Kind == parser.KindSession:
		c.prepared = nil // DEALLOCATE ALL; DISCARD is one of KindSession
	case st.stmt.Kind == parser.KindDeallocate, st.stmt.Kind == parser.KindPrepare:
		delete(c.prepared, st.stmt.Name)
	}
}

// noteSession remembers that what was probed may no longer hold.
func (c *conn) noteSession(st *step) {
	if st.stmt.Kind == parser.KindDo {
		c.prepared = nil // its text does not show what it prepares
	}
	if !st.session && !st.ddl {
		return
	}
	c.sessionStale, c.doubtful = true, c.doubtful || st.ddl
	if c.inTx() {
		c.tx.session, c.tx.ddl = true, c.tx.ddl || st.ddl
	} else if st.ddl {
		c.engine.catalogueChanged()
	}
}

func (c *conn) uncaptured(st *step) {
	c.engine.stats.uncaptured.Add(1)
	c.engine.once("uncaptured "+st.reason, "a statement names a ruled table and cannot be captured; entries of its rows can be stale until their TTL ends",
		"reason", st.reason, "table", st.coarse[0].Name.String())
}

// writeInTx carries out a ruled write inside the user's transaction: what it
// captures is kept until COMMIT.
func (c *conn) writeInTx(ctx context.Context, st *step, r request) (response, error) {
	c.tx.statements++
	if !st.quiet {
		c.count(st)
	}
	switch st.action {
	case actPrecise:
		rows, err := c.querySpliced(ctx, st, r)
		if err != nil && c.clientSide(err) && c.inTx() {
			// pgx refused it unsent, in the words that it has for a query. The caller's own
			// text gets the words that the caller would see without us.
			c.tx.coarse(appendTables(slices.Clone(st.coarse), st.table))
			return c.send(ctx, r.sql, r)
		}
		if err != nil {
			return response{}, st.originalError(err)
		}
		c.tx.coarse(st.coarse)
		if r.rows {
			return response{rows: newCaptureRows(c, st, rows)}, nil
		}
		n, err := c.drain(st, rows)
		return response{result: driver.RowsAffected(n)}, err
	case actPinned:
		keys, ok := c.resolve(st, r.args)
		if !ok || len(c.tx.log) >= c.engine.cfg.MaxCapturedRows {
			c.tx.coarse([]*rules.Table{st.table})
		} else {
			c.tx.absent(st.table, keys)
		}
	default:
		// Recorded before it is sent: a failure aborts the transaction, or a
		// ROLLBACK TO cuts the mark off.
		c.tx.coarse(st.coarse)
	}
	return c.send(ctx, r.sql, r)
}

func (c *conn) count(st *step) {
	switch st.action {
	case actPrecise:
		c.engine.stats.preciseWrites.Add(1)
	case actPinned:
		c.engine.stats.pinnedWrites.Add(1)
	case actCoarse:
		c.engine.stats.coarseWrites.Add(1)
		c.engine.once("coarse "+st.reason+" "+st.coarse[0].Name.String(),
			"a write is coarse: every entry of the rule becomes absent, at the cost of two walks of the keyspace",
			"reason", st.reason, "table", st.coarse[0].Name.String())
	}
}

// send runs a text as it is.
func (c *conn) send(ctx context.Context, text string, r request) (response, error) {
	if r.stmt != nil && r.stmt.text == text {
		return r.stmt.send(ctx, r)
	}
	if r.rows {
		rows, err := c.base.query.QueryContext(ctx, text, r.args)
		return response{rows: rows}, err
	}
	result, err := c.base.exec.ExecContext(ctx, text, r.args)
	return response{result: result}, err
}

// querySpliced runs the step's spliced text. It gives rows whatever the user asked for.
func (c *conn) querySpliced(ctx context.Context, st *step, r request) (rows driver.Rows, err error) {
	switch {
	case r.stmt != nil && r.stmt.text == st.spliced:
		rows, err = r.stmt.query(ctx, r.args)
	case !r.rows && len(r.args) == 0 && c.pgx != nil:
		rows, err = c.base.query.QueryContext(ctx, st.spliced, c.unprepared())
	default:
		rows, err = c.base.query.QueryContext(ctx, st.spliced, r.args)
	}
	if err != nil {
		return nil, c.spliceFailed(err)
	}
	c.tx.started = true
	if len(rows.Columns()) < st.hidden {
		n := len(rows.Columns())
		_ = rows.Close()
		return nil, fmt.Errorf("wtcache: a write of %s gave %d columns where %d were captured", st.table.Name, n, st.hidden)
	}
	return rows, nil
}

// spliceFailed asks for another look at the session, and so at the catalogue, where
// an error may come from captured columns that are no longer there.
func (c *conn) spliceFailed(err error) error {
	if planIsOld(err) {
		c.sessionStale, c.doubtful = true, true
	}
	return err
}

// unseen records that the rows of a write were not read to their end, which can be an
// error of the client's alone: the transaction may be committed all the same.
func (c *conn) unseen(st *step) {
	if !c.txFailed() {
		c.tx.coarse(appendTables(nil, st.table))
	}
}

// drain reads all rows of a spliced write for their captured columns and counts
// them: RETURNING gives one row for each row affected.
func (c *conn) drain(st *step, rows driver.Rows) (int64, error) {
	cells := make([]driver.Value, len(rows.Columns()))
	hidden := cells[len(cells)-st.hidden:]
	for n := int64(0); ; n++ {
		switch err := rows.Next(cells); {
		case err == io.EOF: //nolint:errorlint // the interface promises it bare
			return n, rows.Close()
		case err != nil:
			_ = rows.Close() // repeats the error
			c.unseen(st)
			return n, c.spliceFailed(err)
		}
		c.record(st, hidden)
	}
}

// runScript carries out a text of several statements.
func (c *conn) runScript(ctx context.Context, p *textPlan, b *boundPlan, r request) (response, error) {
	for i := range b.steps {
		st := &b.steps[i]
		if st.action == actRefuse {
			return response{}, st.err
		}
		if st.stmt.Kind == parser.KindUnparsable && b.control {
			// The server runs nothing of a text with a syntax error in it.
			return response{}, fmt.Errorf("%w: the text has transaction words, and its statement %d cannot be parsed here; send its statements one by one", ErrNotCapturable, i+1)
		}
	}
	oneByOne := !r.rows && len(r.args) == 0
	switch {
	case !b.writes && !(b.shifts && oneByOne) && (len(c.tx.log) == 0 || !b.control):
		// Nothing to capture and nothing captured yet.
		res, err := c.send(ctx, r.sql, r)
		c.followControl(b, err)
		for i := range b.steps {
			c.noteSession(&b.steps[i])
			c.forgetPrepared(&b.steps[i])
		}
		return res, err
	case oneByOne:
		return c.runSteps(ctx, p, b)
	case c.refusesScripts(r.args):
		return c.send(ctx, r.sql, r) // one statement at a time in this protocol: the server refuses it
	case b.control:
		return response{}, fmt.Errorf("%w: a text of several statements with transaction words among writes of ruled tables can only be sent by Exec without arguments; send its statements one by one", ErrNotCapturable)
	}
	return c.runWhole(ctx, b, r)
}

// runWhole sends a text of several statements in one piece, as a coarse write of
// all that it can write.
func (c *conn) runWhole(ctx context.Context, b *boundPlan, r request) (response, error) {
	st := &step{action: actCoarse, text: r.sql, stmt: b.steps[0].stmt, reason: "several statements in one query"}
	for i := range b.steps {
		st.coarse = appendTables(st.coarse, b.steps[i].coarse...)
		st.coarse = appendTables(st.coarse, b.steps[i].table)
		st.session = st.session || b.steps[i].session
		st.ddl = st.ddl || b.steps[i].ddl
	}
	return c.runStep(ctx, st, r)
}

// runSteps sends the statements one by one. The server runs such a string in one
// implicit transaction, which a BEGIN in it makes a regular one and a COMMIT or
// ROLLBACK in it ends.
// Source: https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT
func (c *conn) runSteps(ctx context.Context, p *textPlan, b *boundPlan) (res response, err error) {
	var implicit driver.Tx
	res.result = driver.RowsAffected(0)
	for i := range p.stmts {
		if b, err = c.rebind(ctx, p, b, i); err != nil {
			if implicit != nil {
				c.rollbackQuietly(implicit)
			}
			return response{}, err
		}
		st := &b.steps[i]
		if !c.inTx() && !st.isControl() {
			if implicit, err = c.beginOwn(ctx); err != nil {
				return response{}, err
			}
			c.tx.begin()
		}
		one := request{sql: st.text}
		if implicit != nil && st.isControl() {
			implicit, err = c.controlImplicit(ctx, st, implicit, &res)
		} else {
			res, err = c.runStep(ctx, st, one)
		}
		if err != nil {
			if implicit != nil {
				c.rollbackQuietly(implicit)
			}
			return response{}, movePosition(err, p.sql[:p.stmts[i].Span.Start])
		}
	}
	if implicit != nil {
		err = c.commitImplicit(ctx, implicit)
	}
	return res, err
}

// rebind plans the text once more before its i-th statement where a statement of it (SET search_path,
// ALTER TABLE) has changed what the others mean.
func (c *conn) rebind(ctx context.Context, p *textPlan, b *boundPlan, i int) (*boundPlan, error) {
	if st := &b.steps[i]; !c.sessionStale || st.isControl() || st.session || st.ddl {
		return b, nil // what changes definitions need not know them, and may find them half changed
	}
	if err := c.current(ctx); err != nil {
		return nil, err
	}
	return p.bind(c), nil
}

// controlImplicit carries out a transaction word inside an implicit transaction
// and gives the one that is implicit afterwards.
func (c *conn) controlImplicit(ctx context.Context, st *step, implicit driver.Tx, res *response) (driver.Tx, error) {
	switch {
	case st.action == actBegin:
		// BEGIN makes it a regular transaction; here that costs a warning only.
		_, err := c.base.exec.ExecContext(ctx, st.text, nil)
		if err != nil {
			return implicit, err
		}
		return nil, nil
	case st.action == actSavepoint, st.action == actRelease, st.action == actRollbackTo, st.stmt.Chain:
		// "SAVEPOINT can only be used in transaction blocks": the server's own
		// error needs the block to be gone.
		if err := implicit.Rollback(); err != nil {
			return nil, err
		}
		c.endTx()
	}
	var err error
	*res, err = c.runStep(ctx, st, request{sql: st.text})
	return nil, err
}

func (c *conn) commitImplicit(ctx context.Context, implicit driver.Tx) error {
	err := c.commit(ctx, implicit.Commit, implicit.Rollback)
	c.endTx()
	return err
}

func (c *conn) rollbackQuietly(implicit driver.Tx) {
	_ = implicit.Rollback() // the error that led here says more
	c.endTx()
}

// followControl keeps track of the transaction, and of its savepoints, behind a text
// that was sent whole. How far one that failed came is not known.
func (c *conn) followControl(b *boundPlan, err error) {
	for i := range b.steps {
		if err == nil {
			c.track(&b.steps[i])
		}
	}
}
