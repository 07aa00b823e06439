package wtcachetest

import (
	"database/sql/driver"
	"reflect"
)

// What sqlmock's rows say of the user's columns goes through.

func (a *answer) ColumnTypeDatabaseTypeName(i int) string {
	if t, ok := a.Rows.(driver.RowsColumnTypeDatabaseTypeName); ok {
		return t.ColumnTypeDatabaseTypeName(i)
	}
	return ""
}

func (a *answer) ColumnTypeLength(i int) (int64, bool) {
	if t, ok := a.Rows.(driver.RowsColumnTypeLength); ok {
		return t.ColumnTypeLength(i)
	}
	return 0, false
}

func (a *answer) ColumnTypeNullable(i int) (nullable, ok bool) {
	if t, has := a.Rows.(driver.RowsColumnTypeNullable); has {
		return t.ColumnTypeNullable(i)
	}
	return false, false
}

func (a *answer) ColumnTypePrecisionScale(i int) (precision, scale int64, ok bool) {
	if t, has := a.Rows.(driver.RowsColumnTypePrecisionScale); has {
		return t.ColumnTypePrecisionScale(i)
	}
	return 0, 0, false
}

func (a *answer) ColumnTypeScanType(i int) reflect.Type {
	if t, ok := a.Rows.(driver.RowsColumnTypeScanType); ok {
		return t.ColumnTypeScanType(i)
	}
	return reflect.TypeFor[any]()
}
