package wtcache

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache/rules"
)

// PgxConn reaches the pgx connection under what sql.Conn.Raw hands out. ok is
// false where the base driver is not pgx. What is sent through it (COPY, Batch,
// any statement) is not captured: the README lists it under "What is not captured".
func PgxConn(driverConn any) (conn *pgx.Conn, ok bool) {
	if c, wrapped := driverConn.(interface{ reach() driver.Conn }); wrapped {
		driverConn = c.reach()
	}
	std, ok := driverConn.(*stdlib.Conn)
	if !ok {
		return nil, false
	}
	return std.Conn(), true
}

// Transaction states as ReadyForQuery reports them.
// Source: https://www.postgresql.org/docs/current/protocol-message-formats.html
const (
	txIdle   = 'I'
	txFailed = 'E'
)

// simpleProtocol makes a query without arguments go the way that an Exec without
// arguments goes in pgx: else every text with literals would cost a Prepare, and
// a text that cannot be prepared would fail.
var simpleProtocol = []driver.NamedValue{{Ordinal: 1, Value: pgx.QueryExecModeSimpleProtocol}}

// unnamedStatement stands in for it where pgx refuses the simple protocol to a query.
var unnamedStatement = []driver.NamedValue{{Ordinal: 1, Value: pgx.QueryExecModeExec}}

// unprepared gives the option under which a query without arguments leaves no prepared
// statement in the session.
func (c *conn) unprepared() []driver.NamedValue {
	if c.literalsAreStandard() {
		return simpleProtocol
	}
	return unnamedStatement
}

// safeToRetry says that an error came before anything was sent.
func safeToRetry(err error) bool { return pgconn.SafeToRetry(err) }

// hasOptions says whether the arguments begin with one of pgx's own options, which
// change the protocol or the text and stand before the arguments that $1 counts from.
func hasOptions(args []driver.NamedValue) bool {
	if len(args) == 0 {
		return false
	}
	switch args[0].Value.(type) {
	case pgx.QueryExecMode, pgx.QueryResultFormats, pgx.QueryResultFormatsByOID, pgx.QueryRewriter:
		return true
	}
	return false
}

// refusesScripts says that the server is certain to refuse a text of several
// statements sent with arguments or as a query: only the simple protocol takes one.
func (c *conn) refusesScripts(args []driver.NamedValue) bool {
	return c.pgx != nil && !hasOptions(args) &&
		c.pgx.Config().DefaultQueryExecMode != pgx.QueryExecModeSimpleProtocol
}

// unsent says whether a statement that gave err, before any row, was never carried
// out although err is not the server's own: an argument that cannot be encoded, say.
// Wherever pgx has lost track of the server it closes the connection.
func (c *conn) unsent(err error) bool {
	return c.pgx != nil && !c.pgx.IsClosed() &&
		!errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// clientSide says that pgx refused a statement by itself, before anything was sent.
func (c *conn) clientSide(err error) bool {
	_, server := errors.AsType[*pgconn.PgError](err)
	return !server && !errors.Is(err, ErrRefused) && !pgconn.SafeToRetry(err) && !errors.Is(err, driver.ErrBadConn) && !c.tx.started && c.unsent(err)
}

// textAtFault says that a statement was refused for its text (class 42 and features that
// are not supported), so that nothing of it was carried out.
func (c *conn) textAtFault(err error) bool {
	if c.base.standIn != nil {
		return false // it was sent the caller's own text
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return strings.HasPrefix(pg.Code, "42") || pg.Code == "0A000"
	}
	return c.clientSide(err)
}

// originalError makes the server's error about a spliced text one about the caller's.
func (st *step) originalError(err error) error {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || pg.Position <= 0 || len(st.inserted) == 0 {
		return err
	}
	at := byteAt(st.spliced, int(pg.Position)-1) - len(st.lead)
	for _, in := range st.inserted { // in the order of their places
		if at < in.At {
			break
		}
		at = max(at-in.Len, in.At)
	}
	// The condition that was the whole of WHERE became one side of an AND.
	const and, where = "argument of AND must", "argument of WHERE must"
	at = min(max(at, 0), len(st.text))
	first := min(st.inserted[0].At, at)
	if pg.Code == "42804" && strings.HasPrefix(pg.Message, and) && strings.TrimSpace(st.text[first:at]) == "" {
		pg.Message = where + pg.Message[len(and):]
	}
	pg.Position = int32(utf8.RuneCountInString(st.lead+st.text[:at]) + 1)
	return err
}

// byteAt gives the offset of a character.
func byteAt(text string, char int) int {
	for i := range text {
		if char == 0 {
			return i
		}
		char--
	}
	return len(text)
}

// movePosition makes the position that an error names count from the start of the
// caller's text, of which the server was sent only what follows before.
func movePosition(err error, before string) error {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Position > 0 {
		pg.Position += int32(utf8.RuneCountInString(before))
	}
	return err
}

// outcome is what is known of a COMMIT, or of an autocommit statement, from its error.
type outcome uint8

const (
	outcomeCommitted outcome = iota
	outcomeAborted           // nothing was committed, for certain
	outcomeInDoubt
)

// reachable says whether what is sent next can reach the server at all.
func (c *conn) reachable(ctx context.Context) bool {
	return c.pgx == nil || !c.pgx.IsClosed() && ctx.Err() == nil
}

// outcome is outcomeOf for this connection. A connection that breaks while pgx waits
// for the answer to a simple query makes pgx 5.12 say "conn closed", which it holds to
// be safe to retry, and its stdlib ErrBadConn. That nothing was sent is believed only
// where nothing could be, or where the connection still stands.
func (c *conn) outcome(err error, reachable bool) outcome {
	oc := outcomeOf(err)
	unsent := pgconn.SafeToRetry(err) || errors.Is(err, driver.ErrBadConn)
	if unsent && reachable && c.pgx != nil && c.pgx.IsClosed() {
		oc = outcomeInDoubt
	}
	c.tx.inDoubt = oc == outcomeInDoubt
	return oc
}

// outcomeOf judges a COMMIT by its error. In doubt is the answer wherever
// the server may have committed: a fence that is kept too long costs misses, one
// that is given up too early costs a stale read.
func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return outcomeCommitted
	case errors.Is(err, pgx.ErrTxCommitRollback), errors.Is(err, driver.ErrSkip): // skipped: not even looked at
		return outcomeAborted
	case pgconn.SafeToRetry(err), errors.Is(err, driver.ErrBadConn): // nothing was sent; that is ErrBadConn's contract
		return outcomeAborted
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		if pg.Severity != "ERROR" && pg.SeverityUnlocalized != "ERROR" {
			return outcomeInDoubt
		}
		return outcomeOfState(pg.Code)
	}
	if s, ok := errors.AsType[interface {
		error
		SQLState() string
	}](err); ok {
		return outcomeOfState(s.SQLState())
	}
	return outcomeInDoubt
}

// outcomeOfState: the server's own refusal is a rollback. Not so where it is
// shutting down, crashing or losing its client (57P, 58, XX, 08), or where it says itself
// that it does not know (40003, statement_completion_unknown).
func outcomeOfState(code string) outcome {
	for _, doubtful := range []string{"57P", "58", "XX", "08", "40003"} {
		if strings.HasPrefix(code, doubtful) {
			return outcomeInDoubt
		}
	}
	if len(code) != 5 {
		return outcomeInDoubt
	}
	return outcomeAborted
}

// planIsOld says whether a statement failed in a way that a plan made for another
// catalogue would: an undefined column, table or function, or a changed result type.
func planIsOld(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return false
	}
	switch pg.Code {
	case "42703", "42P01", "42883", "0A000", "42501", "42804":
		return true
	}
	return false
}

// incarnationSQL gives a text that changes whenever the server may have forgotten
// transactions whose WAL it had not written: their numbers are given out again, on the same
// timeline. From 15 on a crash resets the statistics, and a shutdown in order keeps them.
// Source: pgstat_reset_after_failure in src/backend/utils/activity/pgstat.c
const incarnationSQL = "CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 150000 " +
	"THEN extract(epoch FROM pg_catalog.pg_stat_get_bgwriter_stat_reset_time())::pg_catalog.text END"

// introduce asks the server for its incarnation, "" where that is not to be had, for the
// isolation level that transactions begin with unless they say another, and for the system
// and timeline that rows come from. Not to know them costs a payload after a lost COMMIT, or a
// hit on behalf of a transaction, or that commits which a failover has lost are noticed, and
// nothing else, so that no connection fails for it.
func (c *conn) introduce(ctx context.Context) {
	if c.pgx == nil {
		return
	}
	const question = "SELECT " + incarnationSQL + ", pg_catalog.current_setting('default_transaction_isolation')"
	var rows [][]string
	var err error
	if !c.engine.nameless.Load() {
		rows, err = askText(ctx, c.pgx.PgConn(), question+originSQL)
	}
	if _, refused := errors.AsType[*pgconn.PgError](err); refused {
		c.engine.nameless.Store(true)
	}
	if c.engine.nameless.Load() {
		c.engine.once("nameless", "the database does not tell its system identifier: that it lost commits in a failover goes unnoticed until entries' ttl has passed",
			"error", err, "needs", "GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO the role")
		rows, err = askText(ctx, c.pgx.PgConn(), question+", NULL, NULL")
	}
	if err != nil || len(rows) != 1 {
		c.snapshots = true
		return
	}
	row := rows[0]
	c.server, c.snapshots = row[0], row[1] == "repeatable read" || row[1] == "serializable"
	c.comesFrom(origin{row[2], strings.ToLower(row[3])})
}

// originSQL asks for the system and, of a primary, the timeline.
const originSQL = ", (SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system())" +
	", CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END"

// origin is a database, by its system identifier, on one of its timelines (8 hex digits in
// lower case, "" for a standby).
type origin struct{ system, timeline string }

// comesFrom has entries distrusted that may show commits which a failover has lost: those
// written before the database was on a greater timeline than any known.
func (c *conn) comesFrom(o origin) {
	c.origin = o
	if o.timeline != "" && c.engine.sync != nil {
		c.engine.sync.NewEpoch(o.system, o.timeline)
	}
}

// captured notes the timeline that a row's version names: a connection to a standby lives on
// when that is promoted.
func (c *conn) captured(version string) {
	if c.origin.system != "" && len(version) >= 8 && version[:8] != c.origin.timeline {
		c.comesFrom(origin{c.origin.system, version[:8]})
	}
}

// locate asks the open transaction for its number where none came with captured rows:
// coarse writes and pinned ones have none. Without a number nothing can be asked later, which
// is not worth a round trip where every entry becomes absent anyhow.
func (c *conn) locate(ctx context.Context) {
	if c.pgx == nil || c.tx.xact.id != 0 || !c.inTx() || c.engine.owesAll() {
		return
	}
	rows, err := askText(ctx, c.pgx.PgConn(), "SELECT "+rules.VersionSQL)
	if err != nil || len(rows) != 1 {
		return // COMMIT will say more
	}
	if version, xid, err := rules.ParseVersion(rows[0][0]); err == nil {
		c.seeXact(xid, version)
		c.captured(version)
	}
}

// askText runs a query by the simple protocol, which leaves nothing in the session and
// which every pooler takes. NULL is "".
func askText(ctx context.Context, conn *pgconn.PgConn, sql string) ([][]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil || len(results) != 1 {
		return nil, err
	}
	rows := make([][]string, len(results[0].Rows))
	for i, row := range results[0].Rows {
		for _, cell := range row {
			rows[i] = append(rows[i], string(cell))
		}
	}
	return rows, nil
}

// asker is a connection of its own on which the server is asked what became of
// transactions. It is used by one goroutine at a time.
type asker struct {
	base driver.Conn
	pg   *pgconn.PgConn
}

func newAsker(ctx context.Context, connect func(context.Context) (driver.Conn, error)) (*asker, error) {
	base, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	conn, ok := PgxConn(base)
	if !ok {
		_ = base.Close() // of no use
		return nil, fmt.Errorf("%w: %T is not pgx's", ErrBaseDriver, base)
	}
	return &asker{base, conn.PgConn()}, nil
}

func (a *asker) close() { _ = a.base.Close() }

// ask gives the answer about each transaction. Which server it is, and whether it may
// know, is part of the same statement.
//
// A transaction that is over in the statement's own snapshot is over for every later one,
// and then its status is final. The status alone would not do: up to the minor releases of
// August 2022 it said "committed" of a transaction that waited for a synchronous standby and
// that nobody could see yet. It is not asked of one that is not over, since a number that
// was never given out would be an error.
// Source: pg_xact_status in src/backend/utils/adt/xid8funcs.c
func (a *asker) ask(ctx context.Context, ids []uint64) (map[uint64]answer, error) {
	var list strings.Builder
	for i, id := range ids {
		if i > 0 {
			list.WriteByte(',')
		}
		list.WriteString(strconv.FormatUint(id, 10))
	}
	rows, err := askText(ctx, a.pg, `SELECT x.id,
 CASE WHEN pg_catalog.txid_visible_in_snapshot(x.id, s.now) THEN coalesce(pg_catalog.txid_status(x.id), 'forgotten') ELSE 'in progress' END,
 CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) END,
 `+incarnationSQL+`
FROM pg_catalog.unnest('{`+list.String()+`}'::pg_catalog.int8[]) AS x(id), (SELECT pg_catalog.txid_current_snapshot()) AS s(now)`)
	if err != nil {
		return nil, err
	}
	answers := make(map[uint64]answer, len(rows))
	for _, row := range rows {
		id, err := strconv.ParseUint(row[0], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("decode transaction's number: %w", err)
		}
		answers[id] = answer{status: row[1], timeline: strings.ToLower(row[2]), server: row[3]}
	}
	return answers, nil
}
