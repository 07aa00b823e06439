package wtcache

import (
	"context"
	"database/sql/driver"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// standIn is a base connection that plays Postgres in a test without a server; package
// wtcachetest has one. It is told what the driver does of its own accord, so that the
// user's expectations are met by the user's own texts and calls alone.
type standIn interface {
	// Ask answers what the rules ask the catalogue and the session.
	Ask(ctx context.Context, sql string) ([][]*string, error)

	// BeginOwn begins a transaction that the user did not ask for.
	BeginOwn(ctx context.Context) (driver.Tx, error)

	// Write carries out a captured write of table: s is the statement of the text, rows
	// whether the user called Query. It gives the rows that the spliced text would give:
	// the user's columns, then one for each of the captured expressions.
	Write(ctx context.Context, text string, args []driver.NamedValue, rows bool, table *rules.Table, s *parser.Statement, captured []string) (driver.Rows, error)
}

// writeStandIn hands a captured write to the stand-in.
func (c *conn) writeStandIn(ctx context.Context, st *step, r request) (driver.Rows, error) {
	captured := st.table.Capture(st.stmt.Ref(), st.view, st.payloads)
	if st.oldKeys {
		captured = append(captured, st.table.OldKeys(st.stmt.Ref()))
	}
	return c.base.standIn.Write(ctx, r.sql, r.args, r.rows, st.table, st.stmt, captured)
}
