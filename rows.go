package wtcache

import (
	"bytes"
	"database/sql/driver"
	"io"
	"reflect"
)

var (
	_ driver.RowsColumnTypeDatabaseTypeName = (*captureRows)(nil)
	_ driver.RowsColumnTypeLength           = (*captureRows)(nil)
	_ driver.RowsColumnTypeNullable         = (*captureRows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*captureRows)(nil)
	_ driver.RowsColumnTypeScanType         = (*captureRows)(nil)
	_ driver.RowsColumnTypeDatabaseTypeName = (*bufferedRows)(nil)
	_ driver.RowsColumnTypeLength           = (*bufferedRows)(nil)
	_ driver.RowsColumnTypeNullable         = (*bufferedRows)(nil)
	_ driver.RowsColumnTypePrecisionScale   = (*bufferedRows)(nil)
	_ driver.RowsColumnTypeScanType         = (*bufferedRows)(nil)
	_ driver.RowsNextResultSet              = captureSets{}
	_ driver.RowsNextResultSet              = bufferedSets{}
)

// captureRows are the rows of a spliced write as the caller sees them: the last
// columns are hidden and recorded. Like every driver.Rows it is used by one goroutine at a time.
type captureRows struct {
	conn    *conn
	step    *step
	base    driver.Rows
	columns []string
	cells   []driver.Value
	ended   bool
	further bool // the base has gone on to a result set that is not the write's
}

func newCaptureRows(c *conn, st *step, base driver.Rows) driver.Rows {
	columns := base.Columns()
	shown := len(columns) - st.hidden
	r := &captureRows{
		conn: c, step: st, base: base,
		columns: columns[:shown:shown],
		cells:   make([]driver.Value, len(columns)),
	}
	return r.withOptional()
}

// captureSets are captureRows over a base with several result sets. Its presence
// changes when database/sql closes rows.
type captureSets struct{ *captureRows }

func (r *captureRows) withOptional() driver.Rows {
	if _, sets := r.base.(driver.RowsNextResultSet); sets {
		return captureSets{r}.withScanner()
	}
	return r.withScanner()
}

func (r *captureRows) Columns() []string { return r.columns }

func (r *captureRows) Next(dest []driver.Value) error {
	if err := r.nextShown(0); err != nil {
		return err
	}
	copy(dest, r.cells)
	return nil
}

// nextShown goes to the next row that the caller sees, with its cells from the given one
// on. Without RETURNING the caller sees none.
func (r *captureRows) nextShown(from int) error {
	err := r.next(from)
	for err == nil && len(r.columns) == 0 {
		err = r.next(from)
	}
	return err
}

func (r *captureRows) next(from int) error {
	if r.ended {
		return io.EOF
	}
	if err := nextCells(r.base, r.cells, from); err != nil {
		r.ended = true
		if err != io.EOF && !r.further { //nolint:errorlint // the interface promises it bare
			r.conn.unseen(r.step)
		}
		return err
	}
	if !r.further {
		r.conn.record(r.step, r.cells[len(r.columns):])
	}
	return nil
}

// Close reads what the caller left unread: those rows are written, too.
func (r *captureRows) Close() error {
	r.finish()
	return r.base.Close()
}

func (r *captureRows) finish() {
	for !r.ended && !r.further {
		_ = r.next(len(r.columns)) // the base repeats its error when it is closed
	}
}

func (r captureSets) HasNextResultSet() bool {
	return r.base.(driver.RowsNextResultSet).HasNextResultSet()
}

// NextResultSet goes on to what is not the write's own: nothing of it is hidden.
func (r captureSets) NextResultSet() error {
	r.finish()
	if err := r.base.(driver.RowsNextResultSet).NextResultSet(); err != nil {
		return err
	}
	r.ended, r.further, r.columns = false, true, r.base.Columns()
	r.cells = make([]driver.Value, len(r.columns))
	return nil
}

func (r *captureRows) ColumnTypeDatabaseTypeName(i int) string { return databaseTypeName(r.base, i) }

func (r *captureRows) ColumnTypeLength(i int) (int64, bool) { return columnLength(r.base, i) }

func (r *captureRows) ColumnTypeNullable(i int) (nullable, ok bool) { return columnNullable(r.base, i) }

func (r *captureRows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	return columnPrecisionScale(r.base, i)
}

func (r *captureRows) ColumnTypeScanType(i int) reflect.Type { return columnScanType(r.base, i) }

// What database/sql assumes of a base that does not say.

func databaseTypeName(rows driver.Rows, i int) string {
	if t, ok := rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}

func columnLength(rows driver.Rows, i int) (int64, bool) {
	if t, ok := rows.(driver.RowsColumnTypeLength); ok {
		return t.ColumnTypeLength(i)
	}
	return 0, false
}

func columnNullable(rows driver.Rows, i int) (nullable, ok bool) {
	if t, has := rows.(driver.RowsColumnTypeNullable); has {
		return t.ColumnTypeNullable(i)
	}
	return false, false
}

func columnPrecisionScale(rows driver.Rows, i int) (precision, scale int64, ok bool) {
	if t, has := rows.(driver.RowsColumnTypePrecisionScale); has {
		return t.ColumnTypePrecisionScale(i)
	}
	return 0, 0, false
}

func columnScanType(rows driver.Rows, i int) reflect.Type {
	if t, ok := rows.(driver.RowsColumnTypeScanType); ok {
		return t.ColumnTypeScanType(i)
	}
	return reflect.TypeFor[any]()
}

// bufferedRows are rows that were read to the end before the caller sees them. What
// describes the columns is read with them: the base's answers do not outlast its
// connection's next statement.
type bufferedRows struct {
	resultSet
	further []resultSet
	row     []driver.Value // that the caller is at
	replay  scanFunc       // nil where the base does not scan by itself
}

// bufferedSets are bufferedRows over a base with several result sets.
type bufferedSets struct{ *bufferedRows }

type resultSet struct {
	columns []string
	types   []columnType
	rows    [][]driver.Value
}

type columnType struct {
	name             string
	length           int64
	hasLength        bool
	nullable         bool
	hasNullable      bool
	precision, scale int64
	hasPrecision     bool
	scan             reflect.Type
}

// bufferRows reads rows to the end and closes them.
func bufferRows(c *conn, rows driver.Rows) (driver.Rows, error) {
	b := &bufferedRows{replay: c.replayOf(rows)}
	if err := b.read(rows); err != nil {
		_ = rows.Close() // repeats the error
		return nil, err
	}
	if err := rows.Close(); err != nil {
		return nil, err
	}
	if _, sets := rows.(driver.RowsNextResultSet); sets {
		return bufferedSets{b}.withScanner(), nil
	}
	return b.withScanner(), nil
}

func (b *bufferedRows) read(rows driver.Rows) (err error) {
	if b.resultSet, err = readSet(rows); err != nil {
		return err
	}
	sets, ok := rows.(driver.RowsNextResultSet)
	for ok && sets.HasNextResultSet() {
		if err := sets.NextResultSet(); err != nil {
			return err
		}
		set, err := readSet(rows)
		if err != nil {
			return err
		}
		b.further = append(b.further, set)
	}
	return nil
}

func readSet(rows driver.Rows) (resultSet, error) {
	s := resultSet{columns: rows.Columns()}
	s.types = make([]columnType, len(s.columns))
	for i := range s.types {
		s.types[i] = describe(rows, i)
	}
	for {
		row := make([]driver.Value, len(s.columns))
		switch err := nextCells(rows, row, 0); {
		case err == io.EOF: //nolint:errorlint // the interface promises it bare
			return s, nil
		case err != nil:
			return s, err
		}
		s.rows = append(s.rows, owned(row))
	}
}

func describe(rows driver.Rows, i int) columnType {
	t := columnType{name: databaseTypeName(rows, i), scan: columnScanType(rows, i)}
	t.length, t.hasLength = columnLength(rows, i)
	t.nullable, t.hasNullable = columnNullable(rows, i)
	t.precision, t.scale, t.hasPrecision = columnPrecisionScale(rows, i)
	return t
}

// owned copies what the base may use again for its next row.
func owned(row []driver.Value) []driver.Value {
	for i, v := range row {
		if raw, ok := v.([]byte); ok {
			row[i] = bytes.Clone(raw)
		}
	}
	return row
}

func (b *bufferedRows) Columns() []string { return b.columns }

func (b *bufferedRows) Close() error {
	b.rows, b.row, b.further = nil, nil, nil
	return nil
}

func (b *bufferedRows) Next(dest []driver.Value) error {
	if err := b.advance(); err != nil {
		return err
	}
	copy(dest, b.row)
	return nil
}

func (b *bufferedRows) advance() error {
	if len(b.rows) == 0 {
		return io.EOF
	}
	b.row, b.rows = b.rows[0], b.rows[1:]
	return nil
}

func (b bufferedSets) HasNextResultSet() bool { return len(b.further) > 0 }

func (b bufferedSets) NextResultSet() error {
	if len(b.further) == 0 {
		return io.EOF
	}
	b.resultSet, b.further, b.row = b.further[0], b.further[1:], nil
	return nil
}

func (b *bufferedRows) ColumnTypeDatabaseTypeName(i int) string { return b.types[i].name }

func (b *bufferedRows) ColumnTypeLength(i int) (int64, bool) {
	return b.types[i].length, b.types[i].hasLength
}

func (b *bufferedRows) ColumnTypeNullable(i int) (nullable, ok bool) {
	return b.types[i].nullable, b.types[i].hasNullable
}

func (b *bufferedRows) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	return b.types[i].precision, b.types[i].scale, b.types[i].hasPrecision
}

func (b *bufferedRows) ColumnTypeScanType(i int) reflect.Type { return b.types[i].scan }
