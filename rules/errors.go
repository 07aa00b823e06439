package rules

import (
	"cmp"
	"slices"
	"strings"
)

// Error holds everything that is wrong with a set of rules, so that one look mends all
// of it.
type Error struct {
	Findings []Finding // never empty; sorted by file, line and column

	causes []error
}

// Error gives all findings, one a line.
func (e *Error) Error() string {
	var b strings.Builder
	for i, f := range e.Findings {
		if i > 0 {
			b.WriteByte('\n')
		}
		b.WriteString(f.String())
	}
	return b.String()
}

// Unwrap gives the errors of the file system, so that errors.Is(err, fs.ErrNotExist)
// works for a folder that is missing.
func (e *Error) Unwrap() []error { return e.causes }

func newError(findings []Finding, causes ...error) *Error {
	slices.SortStableFunc(findings, func(a, b Finding) int { return comparePos(a.Pos, b.Pos) })
	return &Error{Findings: findings, causes: causes}
}

func comparePos(a, b Pos) int {
	return cmp.Or(
		strings.Compare(a.File, b.File),
		cmp.Compare(a.Line, b.Line),
		cmp.Compare(a.Column, b.Column))
}
