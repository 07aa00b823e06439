package fakedriver

import "strings"

// Feature is a set of optional interfaces.
type Feature uint32

// The interfaces that a connection may show, and those of a connector's driver.
const (
	ConnBeginTx Feature = 1 << iota
	ConnPrepareContext
	ExecerContext
	QueryerContext
	Pinger
	SessionResetter
	Validator
	NamedValueChecker

	// Those of a statement.
	StmtExecContext
	StmtQueryContext
	StmtNamedValueChecker
	ColumnConverter

	// Those of rows.
	NextResultSet
	ColumnTypeDatabaseTypeName
	ColumnTypeLength
	ColumnTypeNullable
	ColumnTypePrecisionScale
	ColumnTypeScanType
	ColumnScanner // known to database/sql since Go 1.27
)

const (
	connShift, connBits = 0, 8
	stmtShift, stmtBits = 8, 4
	rowsShift, rowsBits = 12, 6
)

// Common sets.
const (
	// Required are those without which capturing is not possible.
	Required = ConnBeginTx | ConnPrepareContext | ExecerContext | QueryerContext | StmtExecContext | StmtQueryContext
	// Conn, Stmt and Rows are all that each may show; ColumnScanner stands apart, since it replaces Next.
	Conn Feature = (1<<connBits - 1) << connShift
	Stmt Feature = (1<<stmtBits - 1) << stmtShift
	Rows Feature = (1<<rowsBits - 1) << rowsShift
)

var featureNames = [...]string{
	"ConnBeginTx", "ConnPrepareContext", "ExecerContext", "QueryerContext", "Pinger", "SessionResetter", "Validator", "NamedValueChecker",
	"StmtExecContext", "StmtQueryContext", "StmtNamedValueChecker", "ColumnConverter",
	"NextResultSet", "ColumnTypeDatabaseTypeName", "ColumnTypeLength", "ColumnTypeNullable", "ColumnTypePrecisionScale", "ColumnTypeScanType",
	"ColumnScanner",
}

func (f Feature) String() string {
	var names []string
	for i, name := range featureNames {
		if f.Has(1 << i) {
			names = append(names, name)
		}
	}
	if names == nil {
		return "none"
	}
	return strings.Join(names, "+")
}

// Has says whether all of want are in f.
func (f Feature) Has(want Feature) bool { return f&want == want }

// Subsets gives every subset of f, the empty one first.
func (f Feature) Subsets() []Feature {
	subsets := []Feature{0}
	for bit := Feature(1); bit != 0 && bit <= f; bit <<= 1 {
		if f&bit == 0 {
			continue
		}
		for _, s := range subsets {
			subsets = append(subsets, s|bit)
		}
	}
	return subsets
}
