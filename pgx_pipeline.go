package wtcache

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// A write that goes lock first needs a transaction of ours. BEGIN goes to the server together with
// the statement, which saves a round trip. pgx's own Batch closes the connection where an
// argument of the statement cannot be encoded, since BEGIN is in its buffer by then. So the
// arguments are encoded first here, which takes the statement's description, and that pgx gives
// out only of a statement that is prepared by name.

// maxPipelined bounds the texts that a connection keeps prepared for this. They stay for its
// life: texts that come later are sent after a BEGIN of their own.
const maxPipelined = 64

// pipelining says whether the base's statements are kept prepared anyhow, so that it does not
// matter to anybody that those written lock first are. A tracer would not hear of them.
func (c *conn) pipelining() bool {
	if _, ok := c.base.conn.(*stdlib.Conn); !ok {
		return false
	}
	cfg := c.pgx.Config()
	return cfg.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement && cfg.StatementCacheCapacity > 0 && cfg.Tracer == nil
}

// pipelines says whether a write goes to the server together with its BEGIN. Without arguments
// it would not be prepared.
func (c *conn) pipelines(st *step, r request) bool {
	if c.pipelined == nil || st.action != actPrecise || r.rows || r.stmt != nil ||
		len(r.args) == 0 || hasOptions(r.args) || c.pgx.IsClosed() || c.engine.mustQueue() {
		return false
	}
	return c.pipelined[st.spliced] != "" || len(c.pipelined) < maxPipelined
}

// piped is a statement that is ready to be sent behind BEGIN.
type piped struct {
	statement *pgconn.StatementDescription
	encoded   pgx.ExtendedQueryBuilder
}

// pipe prepares a step's spliced text and encodes its arguments. ok is false where anything is
// wrong with them: the plain way has the right words for it. A text that cannot be prepared, or not
// in time, fails as it would fail behind BEGIN.
func (c *conn) pipe(ctx context.Context, st *step, r request) (p piped, ok bool, err error) {
	name := c.pipelined[st.spliced]
	if name == "" {
		name = pipedName(st.spliced)
	}
	if p.statement, err = c.pgx.Prepare(ctx, name, st.spliced); err != nil {
		return p, false, st.originalError(c.spliceFailed(c.undone(err)))
	}
	c.pipelined[st.spliced] = name
	values := bareValues(r.args)
	if len(p.statement.ParamOIDs) == len(values) && p.encoded.Build(c.pgx.TypeMap(), p.statement, values) == nil {
		return p, true, nil
	}
	_ = c.unpipe(ctx, st.spliced) // whatever is wrong with the connection shows at BEGIN
	return p, false, nil
}

// pipedName is no name that pgx knows the text by. One that is prepared under its own text is what pgx
// takes for that text everywhere, and keeps where it has failed, unlike those of its cache.
func pipedName(text string) string {
	digest := sha256.Sum256([]byte(text))
	return "wtcache_" + hex.EncodeToString(digest[:24])
}

// undone is the error of what was sent before a COMMIT could be. Where the connection has turned out to
// be dead database/sql may try again on another, as where BEGIN had been sent by itself.
func (c *conn) undone(err error) error {
	if c.pgx.IsClosed() && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		return driver.ErrBadConn
	}
	return err
}

// unpipe ends the preparation of a text, as pgx does of every statement that has failed: the next
// catalogue, or another argument, may make another one of it.
func (c *conn) unpipe(ctx context.Context, text string) error {
	name := c.pipelined[text]
	delete(c.pipelined, text)
	return c.pgx.Deallocate(ctx, name)
}

// writePipelined begins a transaction of ours and runs the step's spliced text in it.
func (c *conn) writePipelined(ctx context.Context, st *step, p piped) (driver.Tx, response, error) {
	base := &ownTx{conn: c, ctx: ctx}
	c.tx.open = true
	c.tx.statements++
	if !st.quiet {
		c.count(st)
	}
	rows, err := c.sendPiped(ctx, p)
	if err != nil {
		base.forget = st.spliced
		return base, response{}, st.originalError(c.spliceFailed(err))
	}
	spliced := splicedRows{raw: rows}
	if err := c.accepted(st, spliced); err != nil {
		return base, response{}, err
	}
	c.tx.coarse(st.coarse)
	res, err := c.drained(st, spliced)
	if err != nil {
		base.forget = st.spliced
	}
	return base, res, err
}

// sendPiped gives the rows of a statement that was sent behind BEGIN.
func (c *conn) sendPiped(ctx context.Context, p piped) (*rawRows, error) {
	pipeline := c.pgx.PgConn().StartPipeline(ctx)
	pipeline.SendQueryParams("begin", nil, nil, nil, nil)
	pipeline.SendQueryStatement(p.statement, p.encoded.ParamValues, p.encoded.ParamFormats, p.encoded.ResultFormats)
	err := pipeline.Sync()
	if err == nil {
		err = endResult(pipeline)
	}
	if err != nil {
		_ = pipeline.Close() // repeats the error
		return nil, c.undone(err)
	}
	reader, err := nextResult(pipeline)
	if err != nil {
		_ = pipeline.Close() // repeats the error
		return nil, err
	}
	return firstOf(&pipedRows{pipeline: pipeline, reader: reader})
}

// nextResult gives what the next statement of a pipeline gave.
func nextResult(pipeline *pgconn.Pipeline) (*pgconn.ResultReader, error) {
	result, err := pipeline.GetResults()
	if err != nil {
		return nil, err
	}
	reader, ok := result.(*pgconn.ResultReader)
	if !ok {
		return nil, fmt.Errorf("wtcache: a statement behind BEGIN gave %T", result)
	}
	return reader, nil
}

func endResult(pipeline *pgconn.Pipeline) error {
	reader, err := nextResult(pipeline)
	if err == nil {
		_, err = reader.Close()
	}
	return err
}

// pipedRows are the rows of the last statement of a pipeline, which ends with them.
type pipedRows struct {
	pipeline *pgconn.Pipeline
	reader   *pgconn.ResultReader
	closed   bool
	err      error
}

func (r *pipedRows) FieldDescriptions() []pgconn.FieldDescription {
	return r.reader.FieldDescriptions()
}

func (r *pipedRows) Next() bool {
	if r.closed {
		return false
	}
	if !r.reader.NextRow() {
		r.Close()
		return false
	}
	return true
}

func (r *pipedRows) RawValues() [][]byte { return r.reader.Values() }

func (r *pipedRows) Err() error { return r.err }

func (r *pipedRows) Close() {
	if r.closed {
		return
	}
	r.closed = true
	_, err := r.reader.Close()
	r.err = cmp.Or(err, r.pipeline.Close())
}

// ownTx is a transaction that was begun in a pipeline. It ends as pgx's own do.
type ownTx struct {
	conn   *conn
	ctx    context.Context
	forget string // the text, if it has failed
}

// Commit sends COMMIT.
// Source: dbTx.Commit in github.com/jackc/pgx/v5/tx.go
func (t *ownTx) Commit() error {
	tag, err := t.conn.pgx.Exec(t.ctx, "commit")
	if err != nil {
		if t.conn.inTx() {
			_ = t.conn.pgx.Close(t.ctx) // the COMMIT's error is the one to return
		}
		return err
	}
	if tag.String() == "ROLLBACK" {
		return pgx.ErrTxCommitRollback
	}
	return nil
}

// Rollback ends the transaction, if BEGIN began one; a connection that cannot is of no more use.
func (t *ownTx) Rollback() error {
	pgxConn := t.conn.pgx
	if pgxConn.IsClosed() {
		return driver.ErrBadConn
	}
	var err error
	if t.conn.inTx() {
		_, err = pgxConn.Exec(t.ctx, "rollback")
	}
	if err == nil && t.forget != "" {
		err = t.conn.unpipe(t.ctx, t.forget)
	}
	if err != nil {
		ctx, cancel := context.WithCancel(context.Background())
		cancel() // not even a farewell
		_ = pgxConn.Close(ctx)
	}
	return err
}
