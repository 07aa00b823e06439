//go:build !go1.27

package wtcache

import "database/sql/driver"

// Before Go 1.27 database/sql knows one way to read rows.

type scanFunc struct{}

func (c *conn) replayOf(driver.Rows) (none scanFunc) { return none }

func (r *captureRows) withScanner() driver.Rows  { return r }
func (r captureSets) withScanner() driver.Rows   { return r }
func (b *bufferedRows) withScanner() driver.Rows { return b }
func (b bufferedSets) withScanner() driver.Rows  { return b }

// nextCells goes to the next row and reads its cells, at least those from the given one on.
func nextCells(rows driver.Rows, cells []driver.Value, _ int) error { return rows.Next(cells) }
