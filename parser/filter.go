package parser

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// maxIdentifier is the number of bytes that Postgres keeps of an identifier.
const maxIdentifier = 63

// Filter is the cheap scan before parsing: it looks for relation names in a text
// without knowing SQL. It is immutable and safe for concurrent use.
//
// It reads no quoting: a name counts wherever it stands, in a literal or a
// comment too. So it does not depend on standard_conforming_strings, and it
// errs towards "may touch" alone.
type Filter struct {
	names []string
	// words holds the names that a maximal run of identifier bytes can spell,
	// by the hash of their ASCII-lower-case form.
	words map[uint64][]int
	// quoted holds the names that only a quoted identifier can spell.
	quoted []int
	// long holds the names that can be what is left of a longer identifier.
	long []int
	// wide holds the names with bytes past ASCII, whose case the server may fold.
	wide []int
}

// NewFilter makes a Filter for bare relation names as the catalogue stores them.
func NewFilter(names []string) *Filter {
	f := &Filter{words: make(map[uint64][]int)}
	for _, name := range names {
		if name == "" || slices.Contains(f.names, name) {
			continue
		}
		f.names = append(f.names, name)
		f.index(len(f.names)-1, name)
	}
	return f
}

func (f *Filter) index(i int, name string) {
	if len(name) >= maxIdentifier-utf8.UTFMax+1 {
		f.long = append(f.long, i)
	}
	plain := true
	for j := 0; j < len(name); j++ {
		plain = plain && isWordPart(name[j])
	}
	if !plain {
		f.quoted = append(f.quoted, i)
		return
	}
	if !isASCII(name) {
		f.wide = append(f.wide, i)
	}
	h := hashWord(name)
	f.words[h] = append(f.words[h], i)
}

// MayTouch is false only when the text certainly writes none of the names, ends
// no transaction, changes nothing in the session and executes nothing prepared:
// then it need not be parsed. It passes over the text once and does not allocate.
func (f *Filter) MayTouch(sql string) bool {
	if !harmlessStart(sql) {
		return sql != "" && !blank(sql)
	}
	return f.scan(sql, true, nil)
}

// Mentions returns the names that the text may name, for a text that cannot be
// parsed or is not SQL alone (DO). It errs towards naming too many: a text with
// U&"…" may spell anything.
func (f *Filter) Mentions(sql string) []string {
	hits := make([]bool, len(f.names))
	f.scan(sql, false, hits)
	var found []string
	for i, hit := range hits {
		if hit {
			found = append(found, f.names[i])
		}
	}
	return found
}

// scan looks at every word and every double quote. With hits nil it stops at the
// first reason to parse, which with statement set includes what is no name.
func (f *Filter) scan(sql string, statement bool, hits []bool) bool {
	for i := 0; i < len(sql); {
		c := sql[i]
		switch {
		case isWordStart(c) || isDigit(c) || c == '$':
			end := i + 1
			h := hashByte(hashStart, c)
			for end < len(sql) && isWordPart(sql[end]) {
				h = hashByte(h, sql[end])
				end++
			}
			if f.word(sql[i:end], h, hits) && hits == nil || statement && equalFold(sql[i:end], "set_config") {
				return true
			}
			if unicodeIdentifier(sql, i, end) && f.all(hits) && hits == nil {
				return true
			}
			i = end
			continue
		case c == '"':
			if f.quote(sql[i+1:], hits) && hits == nil {
				return true
			}
		case c == ';' && statement:
			if !blank(sql[i:]) {
				return true
			}
		case c == 0 && statement:
			return true
		}
		i++
	}
	return false
}

// unicodeIdentifier reports whether the word [i,end) is the U of U&"…".
func unicodeIdentifier(sql string, i, end int) bool {
	return sql[end-1]|0x20 == 'u' && at(sql, end) == '&' && at(sql, end+1) == '"'
}

// all marks every name.
func (f *Filter) all(hits []bool) bool {
	for i := range hits {
		hits[i] = true
	}
	return true
}

// word looks up a run of identifier bytes, as it is and without leading digits:
// servers before 15 end a number where letters begin.
func (f *Filter) word(run string, h uint64, hits []bool) bool {
	found := f.lookup(run, h, hits)
	if isDigit(run[0]) || run[0] == '$' {
		j := 0
		for j < len(run) && (isDigit(run[j]) || run[j] == '$') {
			j++
		}
		if j < len(run) {
			found = f.lookup(run[j:], hashWord(run[j:]), hits) || found
		}
	}
	return found
}

func (f *Filter) lookup(run string, h uint64, hits []bool) bool {
	found := false
	for _, i := range f.words[h] {
		if equalBoth(run, f.names[i]) {
			found = true
			mark(hits, i)
		}
	}
	if len(run) > maxIdentifier {
		for _, i := range f.long {
			if name := f.names[i]; equalBoth(run[:len(name)], name) {
				found = true
				mark(hits, i)
			}
		}
	}
	if len(f.wide) > 0 && !isASCII(run) {
		for _, i := range f.wide {
			if strings.EqualFold(run, f.names[i]) || len(run) > maxIdentifier && len(f.names[i]) > maxIdentifier/2 {
				found = true
				mark(hits, i)
			}
		}
	}
	return found
}

func mark(hits []bool, i int) {
	if hits != nil {
		hits[i] = true
	}
}

// quote compares what follows a double quote with the names that need quoting.
// Every double quote is tried as an opening one: which of them are cannot be
// known without knowing the literals.
func (f *Filter) quote(rest string, hits []bool) bool {
	found := false
	for _, i := range f.quoted {
		if spells(rest, f.names[i]) {
			found = true
			mark(hits, i)
		}
	}
	return found
}

// spells reports whether rest begins with the name as it stands between double
// quotes, ended by one, or goes on past the bytes that the server keeps.
func spells(rest, name string) bool {
	j := 0
	for i := 0; i < len(name); i++ {
		if at(rest, j) != name[i] || j >= len(rest) {
			return false
		}
		j++
		if name[i] == '"' {
			if at(rest, j) != '"' {
				return false
			}
			j++
		}
	}
	return at(rest, j) == '"' || len(name) > maxIdentifier-utf8.UTFMax
}

// harmlessStart reports whether the text's first word begins a statement that
// acts on nothing but the relations it names. All other words, those of later
// servers too, need a parse.
func harmlessStart(sql string) bool {
	lx := lexer{src: sql}
	for {
		t, ok := lx.next()
		switch {
		case !ok:
			return false
		case t.kind == tokComment, t.punct(sql, '('):
		case t.kind == tokWord:
			return harmlessWord(t.text(sql))
		default:
			return false
		}
	}
}

func harmlessWord(word string) bool {
	switch len(word) {
	case 4:
		return equalFold(word, "with") || equalFold(word, "show") || equalFold(word, "copy") || equalFold(word, "lock") || equalFold(word, "move")
	case 5:
		return equalFold(word, "table") || equalFold(word, "fetch") || equalFold(word, "close") || equalFold(word, "merge")
	case 6:
		return equalFold(word, "select") || equalFold(word, "update") || equalFold(word, "insert") || equalFold(word, "delete") ||
			equalFold(word, "values") || equalFold(word, "listen") || equalFold(word, "notify") || equalFold(word, "vacuum")
	case 7:
		return equalFold(word, "analyze") || equalFold(word, "declare")
	case 8:
		return equalFold(word, "unlisten")
	}
	return false
}

// blank reports whether nothing but white space and semicolons is there.
func blank(sql string) bool {
	for i := 0; i < len(sql); i++ {
		if !isSpace(sql[i]) && sql[i] != ';' {
			return false
		}
	}
	return true
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// equalBoth compares two strings without regard to ASCII case.
func equalBoth(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if foldByte(a[i]) != foldByte(b[i]) {
			return false
		}
	}
	return true
}

// FNV-1a over ASCII-lower-case bytes.
const hashStart uint64 = 14695981039346656037

func hashByte(h uint64, c byte) uint64 { return (h ^ uint64(foldByte(c))) * 1099511628211 }

func hashWord(s string) uint64 {
	h := hashStart
	for i := 0; i < len(s); i++ {
		h = hashByte(h, s[i])
	}
	return h
}
