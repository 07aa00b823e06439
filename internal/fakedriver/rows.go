package fakedriver

import (
	"context"
	"database/sql/driver"
	"io"
	"reflect"
)

// Column is what rows tell of a column, as far as they show the interfaces for it.
type Column struct {
	Name             string
	Type             string
	Length           int64
	HasLength        bool
	Nullable         bool
	HasNullable      bool
	Precision, Scale int64
	HasSize          bool
	Scan             reflect.Type
}

// Named gives columns of which nothing but the name is told.
func Named(names ...string) []Column {
	columns := make([]Column, len(names))
	for i, name := range names {
		columns[i] = Column{Name: name, Scan: reflect.TypeFor[any]()}
	}
	return columns
}

type rows struct {
	conn    *conn
	set     Reply
	further []Reply
	at      int
	row     []driver.Value // that Next has come to
	names   []string       // of the set
	close   error
}

func newRows(c *conn, r Reply) driver.Rows {
	x := &rows{conn: c, set: r, further: r.Further, close: r.CloseErr}
	shown := c.base.Features >> rowsShift & (1<<rowsBits - 1)
	if c.base.Features.Has(ColumnScanner) {
		return withScanner(x, shown)
	}
	return rowsSubsets[shown](x)
}

// Columns gives the same slice each time, as drivers do.
func (r *rows) Columns() []string {
	if r.names == nil {
		for _, c := range r.set.Columns {
			r.names = append(r.names, c.Name)
		}
	}
	return r.names
}

func (r *rows) Close() error {
	if _, err := r.conn.ask(context.Background(), Call{Op: CloseRows}); err != nil {
		return err
	}
	return r.close
}

func (r *rows) Next(dest []driver.Value) error {
	if err := r.advance(); err != nil {
		return err
	}
	copy(dest, r.row)
	return nil
}

func (r *rows) advance() error {
	if r.at == len(r.set.Rows) {
		if r.set.RowsErr != nil {
			return r.set.RowsErr
		}
		return io.EOF
	}
	r.row = r.set.Rows[r.at]
	r.at++
	return nil
}

// The optional interfaces of rows, one a type.
type (
	setter    struct{ r *rows }
	namer     struct{ r *rows }
	lengther  struct{ r *rows }
	nuller    struct{ r *rows }
	sizer     struct{ r *rows }
	scanTyper struct{ r *rows }
)

func (x setter) HasNextResultSet() bool { return len(x.r.further) > 0 }

func (x setter) NextResultSet() error {
	r := x.r
	if len(r.further) == 0 {
		return io.EOF
	}
	r.set, r.further, r.at, r.names = r.further[0], r.further[1:], 0, nil
	return r.set.Err
}

func (x namer) ColumnTypeDatabaseTypeName(i int) string { return x.r.set.Columns[i].Type }

func (x lengther) ColumnTypeLength(i int) (int64, bool) {
	return x.r.set.Columns[i].Length, x.r.set.Columns[i].HasLength
}

func (x nuller) ColumnTypeNullable(i int) (nullable, ok bool) {
	return x.r.set.Columns[i].Nullable, x.r.set.Columns[i].HasNullable
}

func (x sizer) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	c := x.r.set.Columns[i]
	return c.Precision, c.Scale, c.HasSize
}

func (x scanTyper) ColumnTypeScanType(i int) reflect.Type { return x.r.set.Columns[i].Scan }
