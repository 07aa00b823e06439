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
	part bool  // the text is a part of the caller's, or our own
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
	if f := floorOf(ctx); f != nil && c.inTx() {
		c.tx.underFloor(f)
	}
	if len(b.steps) == 1 {
		st := &b.steps[0]
		known := st.size.is()
		res, err := c.runStep(ctx, st, r)
		c.keepSized(p, st, known)
		return res, err
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
	st, err := c.sized(ctx, st, r)
	if err != nil {
		return response{}, err
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
	case actCommitPrepared:
		if !c.inTx() { // inside a transaction the server refuses it
			return c.commitPrepared(ctx, st, r)
		}
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
	switch {
	case st.action == actPrecise && c.capturesNothing(st):
		c.engine.stats.coarseReasons.add(coarseOwed)
		c.tx.coarse(appendTables(slices.Clone(st.coarse), st.table))
	case st.action == actPrecise:
		return c.writePrecise(ctx, st, r)
	case st.action == actPinned:
		keys, ok := c.resolve(st, r.args)
		if !ok || len(c.tx.log) >= c.engine.cfg.MaxCapturedRows {
			c.engine.stats.coarseReasons.add(coarseUnpinned)
			c.tx.coarse([]*rules.Table{st.table})
		} else {
			c.tx.absent(st.table, keys)
		}
	default:
		// Recorded before it is sent: a failure aborts the transaction, or a
		// ROLLBACK TO cuts the mark off.
		c.tx.coarse(st.coarse)
	}
	res, err := c.send(ctx, r.sql, r)
	if err == nil {
		c.wrote(st, res.result)
	}
	return res, err
}

// writePrecise carries out the step's spliced text.
func (c *conn) writePrecise(ctx context.Context, st *step, r request) (response, error) {
	rows, err := c.querySpliced(ctx, st, r)
	if err != nil && c.clientSide(err) && c.inTx() {
		// pgx refused it unsent, in the words that it has for a query. The caller's own
		// text gets the words that the caller would see without us.
		c.engine.stats.coarseReasons.add(coarseUnseen)
		c.tx.coarse(appendTables(slices.Clone(st.coarse), st.table))
		return c.send(ctx, r.sql, r)
	}
	if err != nil {
		return response{}, st.originalError(err)
	}
	c.tx.coarse(st.coarse)
	if r.rows {
		return response{rows: newCaptureRows(c, st, rows.base)}, nil
	}
	return c.drained(st, rows)
}

// drained gives the result of a spliced write whose rows nobody wants.
func (c *conn) drained(st *step, rows splicedRows) (response, error) {
	n, err := c.drain(st, rows)
	res := response{result: driver.RowsAffected(n)}
	if err == nil {
		c.wrote(st, res.result)
	}
	return res, err
}

func (c *conn) count(st *step) {
	switch st.action {
	case actPrecise:
		c.engine.stats.preciseWrites.Add(1)
		if len(st.coarse) > 0 {
			c.coarsely(coarseForeignKey, st)
		}
	case actPinned:
		c.engine.stats.pinnedWrites.Add(1)
	case actCoarse, actCommitPrepared:
		c.engine.stats.coarseWrites.Add(1)
		c.coarsely(st.reason, st)
	}
}

// coarsely counts why every entry of a rule becomes absent, and says it once.
func (c *conn) coarsely(reason string, st *step) {
	c.engine.stats.coarseReasons.add(reason)
	walks := "two walks of the keyspace"
	if st.ahead && c.tx.alone {
		walks += ", and one ahead"
	}
	table := st.coarse[0].Name.String()
	c.engine.once("coarse "+reason+" "+table, "a write is coarse: every entry of the rule becomes absent, at the cost of "+walks,
		"reason", reason, "table", table)
}

// send runs a text as it is.
func (c *conn) send(ctx context.Context, text string, r request) (response, error) {
	if r.stmt != nil {
		return r.stmt.send(ctx, text, r)
	}
	return c.sendText(ctx, text, r)
}

// sendText sends a text to the base's connection. ErrSkip is database/sql's to answer
// with a prepared statement, except where it does not know of the text.
func (c *conn) sendText(ctx context.Context, text string, r request) (res response, err error) {
	if r.rows {
		res.rows, err = c.base.query.QueryContext(ctx, text, r.args)
	} else {
		res.result, err = c.base.exec.ExecContext(ctx, text, r.args)
	}
	if skipped(err) && r.part {
		return c.sendPrepared(ctx, text, r)
	}
	return res, err
}

func skipped(err error) bool { return err == driver.ErrSkip } //nolint:errorlint // the interface promises it bare

func (c *conn) sendPrepared(ctx context.Context, text string, r request) (response, error) {
	s := &stmt{conn: c}
	defer func() { _ = s.closeOther() }() // what it was for is done
	res, err := s.send(ctx, text, r)
	if err == nil && r.rows {
		res.rows, err = bufferRows(c, res.rows)
	}
	return res, err
}

// splicedRows are the rows of a spliced write: the base's, or pgx's own.
type splicedRows struct {
	base driver.Rows
	raw  *rawRows
}

func (r splicedRows) columns() int {
	if r.raw != nil {
		return r.raw.columns()
	}
	return len(r.base.Columns())
}

func (r splicedRows) close() error {
	if r.raw != nil {
		return r.raw.close()
	}
	return r.base.Close()
}

// querySpliced runs the step's spliced text. It gives rows whatever the user asked for.
func (c *conn) querySpliced(ctx context.Context, st *step, r request) (rows splicedRows, err error) {
	if c.direct(r) {
		rows.raw, err = c.queryRaw(ctx, st.spliced, r.args)
	} else {
		rows.base, err = c.sendSpliced(ctx, st, r)
	}
	if err != nil {
		return rows, c.spliceFailed(err)
	}
	return rows, c.accepted(st, rows)
}

// accepted takes note that the server has carried a spliced write out.
func (c *conn) accepted(st *step, rows splicedRows) error {
	c.tx.started = true
	if n := rows.columns(); n < st.hidden {
		_ = rows.close()
		return fmt.Errorf("wtcache: a write of %s gave %d columns where %d were captured", st.table.Name, n, st.hidden)
	}
	return nil
}

func (c *conn) sendSpliced(ctx context.Context, st *step, r request) (driver.Rows, error) {
	if c.base.standIn != nil {
		return c.writeStandIn(ctx, st, r)
	}
	if !r.rows && len(r.args) == 0 && c.pgx != nil && r.stmt == nil {
		r.args = c.unprepared()
	}
	r.rows = true
	res, err := c.send(ctx, st.spliced, r)
	return res.rows, err
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
		c.engine.stats.coarseReasons.add(coarseUnseen)
		c.tx.coarse(appendTables(nil, st.table))
	}
}

// drain reads all rows of a spliced write for their captured columns and counts
// them: RETURNING gives one row for each row affected.
func (c *conn) drain(st *step, rows splicedRows) (n int64, err error) {
	if rows.raw != nil {
		n, err = c.drainRaw(st, rows.raw)
	} else {
		n, err = c.drainBase(st, rows.base)
	}
	if err == nil {
		return n, rows.close()
	}
	_ = rows.close() // repeats the error
	c.unseen(st)
	return n, c.spliceFailed(err)
}

func (c *conn) drainBase(st *step, rows driver.Rows) (int64, error) {
	cells := make([]driver.Value, len(rows.Columns()))
	hidden := cells[len(cells)-st.hidden:]
	for n := int64(0); ; n++ {
		switch err := nextCells(rows, cells, len(cells)-st.hidden); {
		case err == io.EOF: //nolint:errorlint // the interface promises it bare
			return n, nil
		case err != nil:
			return n, err
		}
		c.record(st, hidden)
	}
}

func (c *conn) drainRaw(st *step, rows *rawRows) (n int64, err error) {
	for {
		cells, err := rows.next()
		if cells == nil {
			return n, err
		}
		c.recordRaw(st, cells[len(cells)-st.hidden:])
		n++
	}
}
