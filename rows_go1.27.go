//go:build go1.27

package wtcache

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
)

var (
	_ driver.RowsColumnScanner = captureScanner{}
	_ driver.RowsColumnScanner = captureScannerSets{}
	_ driver.RowsColumnScanner = bufferedScanner{}
	_ driver.RowsColumnScanner = bufferedScannerSets{}
)

// Since Go 1.27 a base can scan into the caller's destinations by itself
// (driver.RowsColumnScanner), and then database/sql calls Next no more. Whether it does
// decides what a destination may be: with pgx, a slice or a pgtype.Range, too.

// scanFunc scans a value that was read before, as its base would have done.
type scanFunc func(scan driver.ScanContext, column columnType, v driver.Value, dest any) error

type (
	captureScanner      struct{ *captureRows }
	captureScannerSets  struct{ captureSets }
	bufferedScanner     struct{ *bufferedRows }
	bufferedScannerSets struct{ bufferedSets }
)

func (r *captureRows) withScanner() driver.Rows {
	if scans(r.base) {
		return captureScanner{r}
	}
	return r
}

func (r captureSets) withScanner() driver.Rows {
	if scans(r.base) {
		return captureScannerSets{r}
	}
	return r
}

func (b *bufferedRows) withScanner() driver.Rows {
	if b.replay != nil {
		return bufferedScanner{b}
	}
	return b
}

func (b bufferedSets) withScanner() driver.Rows {
	if b.replay != nil {
		return bufferedScannerSets{b}
	}
	return b
}

func scans(rows driver.Rows) bool {
	_, ok := rows.(driver.RowsColumnScanner)
	return ok
}

func (r captureScanner) NextRow() error     { return r.nextShown(len(r.columns)) }
func (r captureScannerSets) NextRow() error { return r.nextShown(len(r.columns)) }

func (r captureScanner) ScanColumn(scan driver.ScanContext, i int, dest any) error {
	return r.scanColumn(scan, i, dest)
}

func (r captureScannerSets) ScanColumn(scan driver.ScanContext, i int, dest any) error {
	return r.scanColumn(scan, i, dest)
}

func (r *captureRows) scanColumn(scan driver.ScanContext, i int, dest any) error {
	return r.base.(driver.RowsColumnScanner).ScanColumn(scan, i, dest)
}

func (b bufferedScanner) NextRow() error     { return b.advance() }
func (b bufferedScannerSets) NextRow() error { return b.advance() }

func (b bufferedScanner) ScanColumn(scan driver.ScanContext, i int, dest any) error {
	return b.scanColumn(scan, i, dest)
}

func (b bufferedScannerSets) ScanColumn(scan driver.ScanContext, i int, dest any) error {
	return b.scanColumn(scan, i, dest)
}

func (b *bufferedRows) scanColumn(scan driver.ScanContext, i int, dest any) error {
	if dest == nil {
		return errors.New("destination not a pointer")
	}
	if v := reflect.ValueOf(dest); v.Kind() == reflect.Pointer && v.IsNil() {
		return errors.New("destination pointer is nil")
	}
	return b.replay(scan, b.types[i], b.row[i], dest)
}

// replayOf gives the way to scan what was read from rows and kept.
func (c *conn) replayOf(rows driver.Rows) scanFunc {
	switch {
	case !scans(rows):
		return nil
	case c.pgx != nil:
		return c.replayPgx
	}
	return func(scan driver.ScanContext, _ columnType, v driver.Value, dest any) error {
		return sql.ConvertAssign(scan, dest, v)
	}
}

// nextCells goes to the next row and reads its cells, at least those from the given one on.
func nextCells(rows driver.Rows, cells []driver.Value, from int) error {
	scanner, ok := rows.(driver.RowsColumnScanner)
	if !ok {
		return rows.Next(cells)
	}
	if err := scanner.NextRow(); err != nil {
		return err
	}
	for i := from; i < len(cells); i++ {
		var cell any
		if err := scanner.ScanColumn(driver.ScanContext{}, i, &cell); err != nil {
			return err
		}
		cells[i] = cell
	}
	return nil
}
