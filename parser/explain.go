package parser

import (
	"errors"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	pgerr "github.com/pganalyze/pg_query_go/v5/parser"
)

// FirstWord returns the byte at which a text's first token that is no comment starts, and
// its first keyword in capitals, of CREATE, ALTER and DROP with the kind of thing behind it
// ("ALTER TABLE"). Both are for people to read. A text without one gives len(text) and "".
func FirstWord(text string) (at int, keyword string) {
	at = len(text)
	var words []string
	for _, t := range lexAll(text) {
		switch {
		case t.kind == tokComment:
			continue
		case t.kind == tokWord:
			words = append(words, strings.ToUpper(t.text(text)))
		case len(words) > 0:
			return at, label(words)
		}
		at = min(at, t.start)
		if len(words) == maxLabel {
			break
		}
	}
	return at, label(words)
}

// maxLabel is how many words FirstWord looks at: CREATE OR REPLACE FUNCTION, DROP MATERIALIZED VIEW.
const maxLabel = 5

var (
	defining   = []string{"CREATE", "ALTER", "DROP"}
	qualifying = []string{"OR", "REPLACE", "UNIQUE", "TEMP", "TEMPORARY", "UNLOGGED", "LOCAL", "GLOBAL", "FOREIGN", "MATERIALIZED", "EVENT", "RECURSIVE", "CONSTRAINT"}
)

func label(words []string) string {
	if len(words) == 0 {
		return ""
	}
	if !slices.Contains(defining, words[0]) {
		return words[0]
	}
	for _, w := range words[1:] {
		if !slices.Contains(qualifying, w) {
			return words[0] + " " + w
		}
	}
	return words[0]
}

// Calls returns the names, as Postgres folds them and without a schema, that stand before
// an opening bracket in a text, which functions do when they are called.
func Calls(text string) []string {
	var names []string
	before := ""
	for _, t := range lexAll(text) {
		switch {
		case t.kind == tokComment:
			continue
		case t.punct(text, '(') && before != "":
			names = append(names, before)
		}
		switch t.kind {
		case tokWord:
			before = strings.ToLower(t.text(text))
		case tokQuoted:
			quoted := t.text(text)
			before = strings.ReplaceAll(quoted[1:len(quoted)-1], `""`, `"`)
		default:
			before = ""
		}
	}
	return unique(names)
}

// SyntaxError says why a text of one statement does not parse, and at which byte. ok is
// false where it does. A text that the grammar must not be given is a fault at its start.
func SyntaxError(text string) (problem string, at int, ok bool) {
	pieces := split(text)
	switch {
	case strings.IndexByte(text, 0) >= 0:
		return "a NUL byte, which no statement can hold", strings.IndexByte(text, 0), true
	case len(pieces) == 0:
		return "", 0, false
	case pieces[0].broken:
		last := pieces[0].tokens[len(pieces[0].tokens)-1]
		return "a string, quoted name or comment that has no end", last.start, true
	case pieces[0].depth > directNesting || len(text) > maxParsed:
		if _, parses := parseTree(text, pieces[0].depth); parses {
			return "", 0, false
		}
		return "too long, or nested too deeply, to be parsed here", pieces[0].span().Start, true
	}
	_, err := pg.Parse(text)
	if err == nil {
		return "", 0, false
	}
	problem, at = err.Error(), pieces[0].span().Start
	if e := (*pgerr.Error)(nil); errors.As(err, &e) && e.Cursorpos > 0 {
		at = runeStart(text, e.Cursorpos-1)
	}
	return problem, at, true
}

// runeStart returns the byte of the n-th character.
func runeStart(text string, n int) int {
	for i := range text {
		if n == 0 {
			return i
		}
		n--
	}
	return len(text)
}
