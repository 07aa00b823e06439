//go:build go1.27

package fakedriver

import (
	"database/sql"
	"database/sql/driver"
)

// columnScanner is rows that scan by themselves. Besides what database/sql can convert, it scans a text into *Tagged, which nobody else can.
type columnScanner struct{ r *rows }

// Tagged is a destination that only the base knows.
type Tagged struct{ Text string }

func withScanner(r *rows, shown Feature) driver.Rows { return scannerSubsets[shown](columnScanner{r}) }

func (x columnScanner) Columns() []string { return x.r.Columns() }
func (x columnScanner) Close() error      { return x.r.Close() }

func (x columnScanner) NextRow() error { return x.r.advance() }

// Next is not called by a database/sql that knows better.
func (x columnScanner) Next([]driver.Value) error {
	panic("fakedriver: Next was called on rows that scan by themselves")
}

func (x columnScanner) ScanColumn(scan driver.ScanContext, i int, dest any) error {
	if tagged, ok := dest.(*Tagged); ok {
		tagged.Text, _ = x.r.row[i].(string)
		return nil
	}
	return sql.ConvertAssign(scan, dest, x.r.row[i])
}
