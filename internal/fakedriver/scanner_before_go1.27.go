//go:build !go1.27

package fakedriver

import "database/sql/driver"

// withScanner panics: a test that asks for an interface which this Go does not know tests nothing.
func withScanner(*rows, Feature) driver.Rows { panic("fakedriver: ColumnScanner needs Go 1.27") }
