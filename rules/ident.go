package rules

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// identifierFault is what is wrong with a name, as the end of a sentence ("a
// placeholder's name is …", "the column's name is …").
type identifierFault struct {
	problem, fix string
}

const quoteAdvice = `write it as in SQL, in double quotes where it is no plain word ("Mixed Case")`

// scanIdentifier reads the SQL name that starts at s[at] and gives it as Postgres
// stores it, with the place behind it. For a fault that place is where the fault is.
func scanIdentifier(s string, at int) (name string, end int, fault *identifierFault) {
	if at < len(s) && s[at] == '"' {
		name, end, fault = scanQuoted(s, at)
	} else {
		name, end, fault = scanBare(s, at)
	}
	switch {
	case fault != nil:
	case len(name) > maxIdentifierBytes:
		fault = &identifierFault{fmt.Sprintf("name is longer than Postgres' %d bytes", maxIdentifierBytes), "write the name as stored"}
	case strings.IndexByte(name, 0) >= 0 || !utf8.ValidString(name):
		fault = &identifierFault{"name holds a byte that no name can hold", "write the name as stored"}
	}
	if fault != nil {
		end = at
	}
	return name, end, fault
}

func scanBare(s string, at int) (string, int, *identifierFault) {
	end := at
	for end < len(s) && isIdentifierByte(s[end], end == at) {
		end++
	}
	if end == at {
		return "", at, &identifierFault{"name is missing or is no plain word", quoteAdvice}
	}
	return foldASCII(s[at:end]), end, nil
}

func scanQuoted(s string, at int) (string, int, *identifierFault) {
	var name strings.Builder
	for i := at + 1; i < len(s); i++ {
		switch {
		case s[i] != '"':
			name.WriteByte(s[i])
		case strings.HasPrefix(s[i:], `""`):
			name.WriteByte('"')
			i++
		case name.Len() == 0:
			return "", at, &identifierFault{"quoted name is empty", quoteAdvice}
		default:
			return name.String(), i + 1, nil
		}
	}
	return "", at, &identifierFault{"quoted name is not closed", `write a second '"'`}
}

func isIdentifierByte(c byte, first bool) bool {
	switch {
	case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c == '_', c >= 0x80:
		return true
	case c >= '0' && c <= '9', c == '$':
		return !first
	}
	return false
}

// foldASCII folds as Postgres does in multi-byte encodings: A to Z alone.
func foldASCII(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return r >= 'A' && r <= 'Z' }) < 0 {
		return s
	}
	b := []byte(s)
	for i, c := range b {
		if c >= 'A' && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// parseColumn reads a column's name; the whole text must be one name.
func parseColumn(s string) (string, *identifierFault) {
	name, end, fault := scanIdentifier(s, 0)
	if fault == nil && end < len(s) {
		fault = &identifierFault{fmt.Sprintf("name %q is no plain word", s), quoteAdvice}
	}
	return name, fault
}

// parseName reads "table" or "schema.table"; the schema is "public" by default.
func parseName(s string) (Name, *identifierFault) {
	first, end, fault := scanIdentifier(s, 0)
	switch {
	case fault != nil:
		return Name{}, fault
	case end == len(s):
		return Name{"public", first}, nil
	case s[end] != '.':
		return Name{}, &identifierFault{fmt.Sprintf("name %q is not of the form schema.table", s), quoteAdvice}
	}
	second, end, fault := scanIdentifier(s, end+1)
	switch {
	case fault != nil:
		return Name{}, fault
	case end < len(s) && s[end] == '.':
		return Name{}, &identifierFault{fmt.Sprintf("name %q has more than two parts", s), "write schema.table, without a database"}
	case end < len(s):
		return Name{}, &identifierFault{fmt.Sprintf("name %q is not of the form schema.table", s), quoteAdvice}
	}
	return Name{first, second}, nil
}

func firstRune(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return s[:n]
}
