package wtcache

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"

	"github.com/wtcache/wtcache/rules"
)

// row is what the database has for a key.
type row struct {
	payload  []byte
	key      string // rendered from the row itself
	found    bool
	storable bool // `when` holds, and no session setting stands in the way
	negative bool // that there is no such row may be stored
	standby  bool // read from a server in recovery
	unproved bool // and it may lack the last commits
	err      error
}

func (r row) reading() reading { return reading{payload: r.payload, found: r.found} }

// readRows takes rows from the primary, in one statement and one snapshot, with the very
// payload expression that writes use. The rows are in the order of asks.
func (c *Cache) readRows(ctx context.Context, t target, asks []asked) ([]row, error) {
	c.engine.stats.databaseReads.Add(1)
	rows, err := queryRows(ctx, c.db, t, asks)
	for i := range rows {
		rows[i].unproved = rows[i].standby
	}
	return rows, err
}

// standbyRows takes them from a read replica, if there is one that has all that was
// committed when the call began. They may be returned only if they could be stored: a
// standby shows a commit before the primary does, so that the next reader, of the primary,
// would see an older row again. A fill that succeeded has met no fence of such a commit.
func (c *Cache) standbyRows(ctx context.Context, t target, asks []asked) ([]row, bool) {
	s := c.engine.standby
	conn, done := s.reading(ctx, c.db)
	defer done()
	if conn == nil {
		return nil, false
	}
	bounded, cancel := s.bound(ctx)
	defer cancel()
	rows, err := queryRows(bounded, conn, t, asks)
	if err != nil {
		s.failed(ctx, err)
		return nil, false
	}
	c.engine.stats.databaseReads.Add(1)
	for i := range rows {
		rows[i].unproved = !rows[i].standby
	}
	return rows, true
}

// queryRows asks one server.
func queryRows(ctx context.Context, from Queryer, t target, asks []asked) ([]row, error) {
	if len(asks) == 1 && t.entry.Negative == 0 {
		r, err := queryRow(ctx, from, t, asks[0])
		return []row{r}, err
	}
	args := make([]any, len(asks[0].texts))
	for column := range args {
		texts := make([]string, len(asks))
		for i, a := range asks {
			texts[i] = a.texts[column]
		}
		args[column] = rules.ArrayLiteral(texts)
	}
	rows, err := from.QueryContext(ctx, t.table.ReadMany(t.entry.Index), args...)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // read to the end below; its error is Err's
	got := make([]row, len(asks))
	for rows.Next() {
		if err := scanOneOf(rows, t, asks, got); err != nil {
			return nil, err
		}
	}
	return got, rows.Err()
}

// scanOneOf reads the columns in the layout that rules.Table.ReadMany describes.
func scanOneOf(rows *sql.Rows, t target, asks []asked, got []row) error {
	cells := make([]sql.NullString, 1+len(t.entry.Key.Columns())+4)
	if err := rows.Scan(pointers(cells)...); err != nil {
		return err
	}
	n, err := strconv.Atoi(cells[0].String)
	if err != nil || n < 1 || n > len(got) {
		return fmt.Errorf("wtcache: read %s: the database answered for key number %q of %d", t.name, cells[0].String, len(got))
	}
	r := rowOf(cells[1:], t)
	r.negative = cells[len(cells)-1].String == "true"
	if got[n-1].found {
		r.err = notUnique(t, asks[n-1])
	}
	got[n-1] = r
	return nil
}

// queryRow asks for one row; one that is not there is not found.
func queryRow(ctx context.Context, from Queryer, t target, a asked) (row, error) {
	args := make([]any, len(a.texts))
	for i, text := range a.texts {
		args[i] = text
	}
	rows, err := from.QueryContext(ctx, t.table.Read(t.entry.Index), args...)
	if err != nil {
		return row{}, err
	}
	defer func() { _ = rows.Close() }() // read to the end below; its error is Err's
	if !rows.Next() {
		return row{}, rows.Err()
	}
	cells := make([]sql.NullString, len(t.entry.Key.Columns())+3)
	err = rows.Scan(pointers(cells)...)
	if err == nil && rows.Next() {
		err = notUnique(t, a)
	}
	return rowOf(cells, t), cmp.Or(err, rows.Err())
}

func notUnique(t target, a asked) error {
	return fmt.Errorf("wtcache: the key %q is not unique: several rows of %s have it", a.key, t.table.Name)
}

func pointers(cells []sql.NullString) []any {
	dest := make([]any, len(cells))
	for i := range cells {
		dest[i] = &cells[i]
	}
	return dest
}

// rowOf reads the columns in the layout that rules.Table.Read describes.
func rowOf(cells []sql.NullString, t target) row {
	columns := t.entry.Key.Columns()
	payload := cells[len(columns)]
	r := row{
		payload:  []byte(payload.String),
		found:    payload.Valid,
		storable: cells[len(columns)+1].String == "true",
		standby:  cells[len(columns)+2].String == "true",
	}
	r.key, _ = t.entry.Key.Render(func(column string) (string, bool) {
		cell := cells[slices.Index(columns, column)]
		return cell.String, cell.Valid
	})
	return r
}
