package wtcache

import (
	"cmp"
	"context"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// A bulk write is typically sent once, so that what it wrote the last time does not help. Where
// nothing in its text holds it to few rows and its table is large, the planner is asked once how many
// it expects. A wrong answer costs what a statement of unknown size costs without it: a capture that is
// dropped, or entries that are absent; and what it really wrote is noted.

// askSize goes before the statement.
const askSize = "EXPLAIN (FORMAT JSON) "

// asksSize says whether the planner is asked about a step of unknown size. A statement that its caller has
// prepared is not asked about: it is there to be run again. Nor is anything in a transaction of the caller's,
// which an error of the question would end: EXPLAIN plans with the arguments, and so may evaluate what a
// generic plan of the statement never would.
func (c *conn) asksSize(st *step, r request) bool {
	return c.engine.mayBeLarge(st) && c.direct(r) && !c.inTx() && !hasOptions(r.args) && !c.capturesNothing(st) && !c.pgx.IsClosed()
}

// expect asks the planner about a step. It gives an error where that is the statement's own: the connection
// is gone, or the time that the statement had is over. After any other the statement is carried out as one
// of few rows.
func (c *conn) expect(ctx context.Context, st *step, r request) (known uint32, err error) {
	c.engine.stats.sizesAsked.Add(1)
	lead := len(st.lead)
	answer, err := c.askPlanner(ctx, r.sql[:lead]+askSize+r.sql[lead:], r.args)
	switch {
	case err == nil && expectedRows(answer) > float64(c.engine.cfg.MaxCapturedRows):
		known = sizeExpected
	case err == nil, ofText(err):
		known = sizeSmall
	case c.pgx.IsClosed():
		return sizeUnknown, c.undone(err)
	case cancelled(err):
		return sizeUnknown, takeBack(err, r.sql[:lead], len(askSize))
	default:
		return sizeUnknown, nil
	}
	if !st.size.known.CompareAndSwap(sizeUnknown, known) {
		known = st.size.known.Load() // it ran on another connection meanwhile
	}
	return known, nil
}

// askPlanner sends an EXPLAIN as the mode of pgx would send its statement, so that it takes the same
// arguments, but leaves no prepared statement behind.
func (c *conn) askPlanner(ctx context.Context, text string, args []driver.NamedValue) (answer []byte, err error) {
	if len(args) == 0 {
		rows, err := askText(ctx, c.pgx.PgConn(), text) // as pgx sends any Exec without arguments
		if err != nil || len(rows) != 1 || len(rows[0]) != 1 {
			return nil, err
		}
		return []byte(rows[0][0]), nil
	}
	switch c.pgx.Config().DefaultQueryExecMode {
	case pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol:
		rows, err := c.queryRaw(ctx, text, args)
		if err != nil {
			return nil, err
		}
		cells, err := rows.next()
		if len(cells) == 1 {
			answer = append(answer, cells[0]...)
		}
		return answer, cmp.Or(err, rows.close())
	}
	return c.askDescribed(ctx, text, bareValues(args))
}

// askDescribed encodes the arguments for the types that the server takes them for. The text goes with
// each of the two requests, since a pooler may send them to two sessions.
func (c *conn) askDescribed(ctx context.Context, text string, args []any) (answer []byte, err error) {
	described, err := c.pgx.PgConn().Prepare(ctx, "", text, nil)
	if err != nil {
		return nil, err
	}
	if len(described.ParamOIDs) != len(args) {
		return nil, fmt.Errorf("wtcache: %d arguments for %d parameters", len(args), len(described.ParamOIDs))
	}
	var encoded pgx.ExtendedQueryBuilder
	if err := encoded.Build(c.pgx.TypeMap(), described, args); err != nil {
		return nil, err
	}
	result := c.pgx.PgConn().ExecParams(ctx, text, encoded.ParamValues, described.ParamOIDs, encoded.ParamFormats, nil).Read()
	if result.Err != nil || len(result.Rows) != 1 || len(result.Rows[0]) != 1 {
		return nil, result.Err
	}
	return result.Rows[0][0], nil
}

// plannedNode is a node of a plan as EXPLAIN (FORMAT JSON) prints it.
type plannedNode struct {
	Rows     float64       `json:"Plan Rows"`
	Relation string        `json:"Parent Relationship"`
	Plans    []plannedNode `json:"Plans"`
}

// expectedRows gives how many rows a plan feeds to the node that writes them, 0 where the plan cannot
// be read. Servers before 14 have a plan for each partition there.
func expectedRows(answer []byte) (rows float64) {
	var plans []struct{ Plan plannedNode }
	if json.Unmarshal(answer, &plans) != nil {
		return 0
	}
	for _, p := range plans {
		for _, below := range p.Plan.Plans {
			if below.Relation == "Outer" || below.Relation == "Member" {
				rows += below.Rows
			}
		}
	}
	return rows
}

// cancelled says that the server has ended a statement on demand, or because the time for it, or for a lock
// that it waited for, was over: sent again it would wait for as long once more.
func cancelled(err error) bool {
	code := sqlState(err)
	return code == "57014" || code == "55P03"
}

// ofText says that the planner will refuse a text the next time, too.
func ofText(err error) bool {
	code := sqlState(err)
	return len(code) == 5 && slices.Contains([]string{"42", "22", "0A"}, code[:2])
}

// sqlState is the server's code in an error, "" for none.
func sqlState(err error) string {
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pg.Code
	}
	return ""
}

// takeBack makes the position that an error names (that of a table that is locked, say) count in the
// caller's text, into which something was put behind lead.
func takeBack(err error, lead string, put int) error {
	first := int32(utf8.RuneCountInString(lead) + 1)
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok && pg.Position >= first {
		pg.Position = max(pg.Position-int32(put), first)
	}
	return err
}
