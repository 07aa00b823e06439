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
}

func newCaptureRows(c *conn, st *step, base driver.Rows) *captureRows {
	columns := base.Columns()
	return &captureRows{
		conn: c, step: st, base: base,
		columns: columns[:len(columns)-st.hidden],
		cells:   make([]driver.Value, len(columns)),
	}
}

func (r *captureRows) Columns() []string { return r.columns }

func (r *captureRows) Next(dest []driver.Value) error {
	err := r.next()
	for err == nil && len(r.columns) == 0 { // without RETURNING the caller gets no rows
		err = r.next()
	}
	if err != nil {
		return err
	}
	copy(dest, r.cells)
	return nil
}

func (r *captureRows) next() error {
	if r.ended {
		return io.EOF
	}
	if err := r.base.Next(r.cells); err != nil {
		r.ended = true
		if err != io.EOF { //nolint:errorlint // the interface promises it bare
			r.conn.unseen(r.step)
		}
		return err
	}
	r.conn.record(r.step, r.cells[len(r.columns):])
	return nil
}

// Close reads what the caller left unread: those rows are written, too.
func (r *captureRows) Close() error {
	for !r.ended {
		_ = r.next() // the base repeats its error when it is closed
	}
	return r.base.Close()
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
func bufferRows(rows driver.Rows) (driver.Rows, error) {
	b := &bufferedRows{columns: rows.Columns()}
	b.types = make([]columnType, len(b.columns))
	for i := range b.types {
		t := &b.types[i]
		t.name = databaseTypeName(rows, i)
		t.length, t.hasLength = columnLength(rows, i)
		t.nullable, t.hasNullable = columnNullable(rows, i)
		t.precision, t.scale, t.hasPrecision = columnPrecisionScale(rows, i)
		t.scan = columnScanType(rows, i)
	}
	for {
		row := make([]driver.Value, len(b.columns))
		switch err := rows.Next(row); {
		case err == io.EOF: //nolint:errorlint // the interface promises it bare
			return b, rows.Close()
		case err != nil:
			_ = rows.Close() // repeats the error
			return nil, err
		}
		b.rows = append(b.rows, owned(row))
	}
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
	b.rows = nil
	return nil
}

func (b *bufferedRows) Next(dest []driver.Value) error {
	if len(b.rows) == 0 {
		return io.EOF
	}
	copy(dest, b.rows[0])
	b.rows = b.rows[1:]
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
