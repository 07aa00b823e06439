package rules

import (
	"slices"
	"strings"
)

// Values takes a key apart: the texts of Columns, in their order. ok is false for a key that
// Render never makes, so that what other programs keep under similar names is told apart.
// It is the inverse of Render, and says nothing of whether there is such a row.
func (t *Template) Values(key string) (texts []string, ok bool) {
	rest, ok := strings.CutPrefix(key, t.literals[0])
	if !ok {
		return nil, false
	}
	texts = make([]string, len(t.columns))
	known := make([]bool, len(t.columns))
	for i, p := range t.placeholders {
		literal := t.literals[i+1]
		end := len(rest) - len(literal)
		if len(t.placeholders) > 1 && literal != "" {
			// The first bare byte of the literals ends the value.
			end = t.valueEnd(rest)
		}
		if end < 0 || !strings.HasPrefix(rest[end:], literal) {
			return nil, false
		}
		at := slices.Index(t.columns, p.column)
		text, ok := decodeValue(rest[:end])
		if !ok || known[at] && texts[at] != text {
			return nil, false
		}
		texts[at], known[at] = text, true
		rest = rest[end+len(literal):]
	}
	again, ok := t.Render(func(column string) (string, bool) { return texts[slices.Index(t.columns, column)], true })
	return texts, ok && rest == "" && again == key
}

// valueEnd gives the place of the first byte that a value cannot hold bare, except '%', or -1.
func (t *Template) valueEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '%':
			i += 2 // its digits may be bytes of the literals
		case t.encode.has(s[i]):
			return i
		}
	}
	return -1
}

// decodeValue undoes writeValue.
func decodeValue(s string) (string, bool) {
	if s == "%00" {
		return "", true
	}
	if strings.IndexByte(s, '%') < 0 {
		return s, s != ""
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '%' {
			if i+2 >= len(s) {
				return "", false
			}
			high, ok1 := hexDigit(s[i+1])
			low, ok2 := hexDigit(s[i+2])
			if c = high<<4 | low; !ok1 || !ok2 || c == 0 {
				return "", false
			}
			i += 2
		}
		b.WriteByte(c)
	}
	return b.String(), true
}

func hexDigit(c byte) (byte, bool) {
	n := strings.IndexByte("0123456789ABCDEF", c)
	return byte(n), n >= 0
}
