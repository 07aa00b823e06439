package wtcache

import (
	"context"
	"database/sql/driver"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// direct says whether a spliced write goes through pgx itself, not through its stdlib: where the
// caller wants no rows none need to be made for database/sql.
func (c *conn) direct(r request) bool {
	if r.rows || r.stmt != nil || c.pgx == nil {
		return false
	}
	_, ok := c.base.conn.(*stdlib.Conn)
	return ok
}

// wireRows are what pgx gives of a query; its own rows are.
type wireRows interface {
	FieldDescriptions() []pgconn.FieldDescription
	Next() bool
	RawValues() [][]byte
	Err() error
	Close()
}

// rawRows are rows whose cells are what came over the wire.
type rawRows struct {
	rows wireRows
	at   bool // rows stands at its first row, which has not been given yet
}

// queryRaw sends a text as pgx's stdlib does.
func (c *conn) queryRaw(ctx context.Context, text string, args []driver.NamedValue) (*rawRows, error) {
	if c.pgx.IsClosed() {
		return nil, driver.ErrBadConn
	}
	if len(args) == 0 {
		args = c.unprepared()
	}
	rows, err := c.pgx.Query(ctx, text, bareValues(args)...)
	if err != nil {
		if pgconn.SafeToRetry(err) {
			err = driver.ErrBadConn
		}
		return nil, err
	}
	return firstOf(rows)
}

// firstOf looks at the first row, as pgx's stdlib does, before it says that a text was accepted.
func firstOf(rows wireRows) (*rawRows, error) {
	r := &rawRows{rows: rows, at: rows.Next()}
	if err := rows.Err(); err != nil {
		rows.Close()
		return nil, err
	}
	return r, nil
}

func bareValues(args []driver.NamedValue) []any {
	values := make([]any, len(args))
	for i := range args {
		values[i] = args[i].Value
	}
	return values
}

func (r *rawRows) columns() int { return len(r.rows.FieldDescriptions()) }

// next gives the cells of a row, which hold until the next is asked for; nil at the end.
func (r *rawRows) next() ([][]byte, error) {
	if !r.at && !r.rows.Next() {
		return nil, r.rows.Err()
	}
	r.at = false
	return r.rows.RawValues(), nil
}

func (r *rawRows) close() error {
	r.rows.Close()
	return r.rows.Err()
}
