package wtcache

import (
	"context"
	"database/sql/driver"
	"fmt"

	"github.com/wtcache/wtcache/parser"
)

// runScript carries out a text of several statements.
func (c *conn) runScript(ctx context.Context, p *textPlan, b *boundPlan, r request) (response, error) {
	if err := b.refusal(); err != nil {
		return response{}, err
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

// refusal is why a text of several statements is not sent, nil where it is.
func (b *boundPlan) refusal() error {
	for i := range b.steps {
		st := &b.steps[i]
		if st.action == actRefuse {
			return st.err
		}
		if st.stmt.Kind == parser.KindUnparsable && b.control {
			// The server runs nothing of a text with a syntax error in it.
			return fmt.Errorf("%w: the text has transaction words, and its statement %d cannot be parsed here; send its statements one by one", ErrNotCapturable, i+1)
		}
	}
	return nil
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
		one := request{sql: st.text, part: true}
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
		_, err := c.sendText(ctx, st.text, request{part: true})
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
	*res, err = c.runStep(ctx, st, request{sql: st.text, part: true})
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
