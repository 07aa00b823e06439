package parser

import "strings"

// tokenKind says what a token is, as far as this package needs to know.
type tokenKind uint8

const (
	tokWord    tokenKind = iota // an unquoted identifier or keyword
	tokQuoted                   // "…"
	tokUnicode                  // U&"…"
	tokString                   // '…', E'…', B'…', X'…', U&'…', $tag$…$tag$
	tokNumber                   // an integer or decimal constant
	tokParam                    // $n
	tokOp                       // an operator
	tokPunct                    // one of ( ) [ ] , ; : . or a byte that starts no token
	tokComment                  // -- … or /* … */, nested
	tokBroken                   // an unterminated string, identifier or comment: it reaches to the end
)

// token is a half-open range of bytes in the text.
type token struct {
	kind       tokenKind
	start, end int
}

// lexer cuts a text into the tokens that Postgres' scanner cuts it into with
// standard_conforming_strings on. It needs no more than one token of memory and
// does not recurse, so it can be used on texts that the grammar must not see.
type lexer struct {
	src string
	pos int
	// signs is the end of a run of + and - that no operator can join: each of them
	// is a token. Without it a long run would be looked through once a token.
	signs int
}

// lexAll returns every token of a text, comments included.
func lexAll(src string) []token {
	tokens := make([]token, 0, len(src)/5+4)
	lx := lexer{src: src}
	for {
		t, ok := lx.next()
		if !ok {
			return tokens
		}
		tokens = append(tokens, t)
	}
}

// next returns the next token; false at the end of the text.
func (lx *lexer) next() (token, bool) {
	src := lx.src
	for lx.pos < len(src) && isSpace(src[lx.pos]) {
		lx.pos++
	}
	if lx.pos >= len(src) {
		return token{}, false
	}
	t := token{start: lx.pos}
	t.kind, lx.pos = lx.scan(lx.pos)
	t.end = lx.pos
	return t, true
}

// scan returns the kind and the end of the token that starts at i.
func (lx *lexer) scan(i int) (tokenKind, int) {
	src := lx.src
	c := src[i]
	switch {
	case isWordStart(c):
		return lx.scanWord(i)
	case c == '\'':
		return scanQuote(src, i+1, plainQuote)
	case c == '"':
		return scanIdentifier(src, i+1, tokQuoted)
	case isDigit(c), c == '.' && isDigit(at(src, i+1)):
		return tokNumber, scanNumber(src, i)
	case c == '$':
		return scanDollar(src, i)
	case c == '-' && at(src, i+1) == '-':
		return tokComment, lineEnd(src, i)
	case c == '/' && at(src, i+1) == '*':
		return scanBlockComment(src, i)
	case i < lx.signs:
		return tokOp, i + 1
	case isOperator(c):
		return tokOp, lx.scanOperator(i)
	case c == ':' && (at(src, i+1) == ':' || at(src, i+1) == '='):
		return tokOp, i + 2
	case c == '.' && at(src, i+1) == '.':
		return tokOp, i + 2
	}
	return tokPunct, i + 1
}

// scanWord reads a word, or the string or identifier that it is the prefix of.
func (lx *lexer) scanWord(i int) (tokenKind, int) {
	src := lx.src
	next := at(src, i+1)
	switch src[i] {
	case 'e', 'E':
		if next == '\'' {
			return scanQuote(src, i+2, escapeQuote)
		}
	case 'b', 'B', 'x', 'X':
		if next == '\'' {
			return scanQuote(src, i+2, bitQuote)
		}
	case 'u', 'U':
		if next == '&' && at(src, i+2) == '"' {
			return scanIdentifier(src, i+3, tokUnicode)
		}
		if next == '&' && at(src, i+2) == '\'' {
			return scanQuote(src, i+3, plainQuote)
		}
	case 'n', 'N':
		// N'…' reaches the grammar as the word NCHAR and a string.
		if next == '\'' {
			return tokWord, i + 1
		}
	}
	end := i + 1
	for end < len(src) && isWordPart(src[end]) {
		end++
	}
	return tokWord, end
}

// quoting is how a string constant writes a quote inside itself.
type quoting uint8

const (
	plainQuote  quoting = iota // '…' and U&'…': doubled
	escapeQuote                // E'…': doubled, or after a backslash
	bitQuote                   // B'…' and X'…': not at all
)

// scanQuote reads a string constant whose opening quote is before i, with its
// continuations on later lines: they keep the rules of the part that they
// continue, so E'a'⏎'\” is one constant.
func scanQuote(src string, i int, q quoting) (tokenKind, int) {
	for i < len(src) {
		switch {
		case src[i] == '\\' && q == escapeQuote:
			i += 2
			continue
		case src[i] != '\'':
			i++
			continue
		case at(src, i+1) == '\'' && q != bitQuote:
			i += 2
			continue
		}
		again, ok := continuation(src, i+1)
		if !ok {
			return tokString, i + 1
		}
		i = again
	}
	return tokBroken, len(src)
}

// continuation reports where a string goes on after its closing quote: white
// space and line comments with at least one line end, then a quote.
func continuation(src string, i int) (int, bool) {
	lines := false
	for i < len(src) {
		switch {
		case src[i] == '\n' || src[i] == '\r':
			lines = true
			i++
		case isSpace(src[i]):
			i++
		case src[i] == '-' && at(src, i+1) == '-':
			i = lineEnd(src, i)
		default:
			return i + 1, lines && src[i] == '\''
		}
	}
	return 0, false
}

func scanIdentifier(src string, i int, kind tokenKind) (tokenKind, int) {
	for ; i < len(src); i++ {
		if src[i] != '"' {
			continue
		}
		if at(src, i+1) != '"' {
			return kind, i + 1
		}
		i++
	}
	return tokBroken, len(src)
}

// scanDollar reads $n, a dollar-quoted string, or a lone dollar.
func scanDollar(src string, i int) (tokenKind, int) {
	end := i + 1
	if isDigit(at(src, end)) {
		for isDigit(at(src, end)) {
			end++
		}
		return tokParam, end
	}
	if isWordStart(at(src, end)) {
		for isWordPart(at(src, end)) && src[end] != '$' {
			end++
		}
	}
	if at(src, end) != '$' {
		return tokPunct, i + 1
	}
	tag := src[i : end+1]
	for j := end + 1; j+len(tag) <= len(src); j++ {
		if src[j] == '$' && src[j:j+len(tag)] == tag {
			return tokString, j + len(tag)
		}
	}
	return tokBroken, len(src)
}

func scanBlockComment(src string, i int) (tokenKind, int) {
	depth := 0
	for i < len(src) {
		switch {
		case src[i] == '/' && at(src, i+1) == '*':
			depth++
			i += 2
		case src[i] == '*' && at(src, i+1) == '/':
			depth--
			i += 2
			if depth == 0 {
				return tokComment, i
			}
		default:
			i++
		}
	}
	return tokBroken, len(src)
}

// scanOperator reads the longest operator: it stops before a comment, and it
// ends in + or - only if it holds a character that SQL's operators do not.
func (lx *lexer) scanOperator(i int) int {
	src := lx.src
	end := i
	foreign := -1
	for end < len(src) && isOperator(src[end]) {
		if next := at(src, end+1); src[end] == '-' && next == '-' || src[end] == '/' && next == '*' {
			break
		}
		if foreign < 0 && strings.IndexByte("~!@#^&|`?%", src[end]) >= 0 {
			foreign = end
		}
		end++
	}
	if foreign >= 0 && foreign < end-1 {
		return end
	}
	last := end
	for last > i+1 && (src[last-1] == '+' || src[last-1] == '-') {
		last--
	}
	lx.signs = end
	return last
}

// scanNumber reads a numeric constant. Letters that follow digits directly are
// left to the next token: servers before 15 read `1from` as two.
func scanNumber(src string, i int) int {
	if src[i] == '0' && i+2 < len(src) {
		if end := radixEnd(src, i+2, src[i+1]); end > i+2 {
			return end
		}
	}
	i = digitsEnd(src, i)
	if at(src, i) == '.' && at(src, i+1) != '.' {
		i = digitsEnd(src, i+1)
	}
	if c := at(src, i); c == 'e' || c == 'E' {
		j := i + 1
		if s := at(src, j); s == '+' || s == '-' {
			j++
		}
		if isDigit(at(src, j)) {
			i = digitsEnd(src, j)
		}
	}
	return i
}

// radixEnd returns the end of the digits after 0x, 0o or 0b; i when there is none.
func radixEnd(src string, i int, radix byte) int {
	var in func(byte) bool
	switch radix | 0x20 {
	case 'x':
		in = func(c byte) bool { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
	case 'o':
		in = func(c byte) bool { return c >= '0' && c <= '7' }
	case 'b':
		in = func(c byte) bool { return c == '0' || c == '1' }
	default:
		return i
	}
	for in(at(src, i)) || at(src, i) == '_' && in(at(src, i+1)) {
		i++
	}
	return i
}

func digitsEnd(src string, i int) int {
	for isDigit(at(src, i)) || at(src, i) == '_' && i > 0 && isDigit(src[i-1]) && isDigit(at(src, i+1)) {
		i++
	}
	return i
}

func lineEnd(src string, i int) int {
	for i < len(src) && src[i] != '\n' && src[i] != '\r' {
		i++
	}
	return i
}

// at returns the byte at i, or 0 past the end: a text that holds a NUL never comes here.
func at(src string, i int) byte {
	if i < len(src) {
		return src[i]
	}
	return 0
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isWordStart(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '_' || c >= 0x80
}

func isWordPart(c byte) bool { return isWordStart(c) || isDigit(c) || c == '$' }

func isOperator(c byte) bool {
	switch c {
	case '~', '!', '@', '#', '^', '&', '|', '`', '?', '+', '-', '*', '/', '%', '<', '>', '=':
		return true
	}
	return false
}

// text returns the token's bytes.
func (t token) text(src string) string { return src[t.start:t.end] }

// is reports whether the token is the unquoted word, which is given in lower case.
func (t token) is(src, word string) bool {
	return t.kind == tokWord && equalFold(src[t.start:t.end], word)
}

// punct reports whether the token is the single byte c.
func (t token) punct(src string, c byte) bool {
	return t.kind == tokPunct && src[t.start] == c
}

// equalFold compares ASCII-case-insensitively; lower is in lower case.
func equalFold(s, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if foldByte(s[i]) != lower[i] {
			return false
		}
	}
	return true
}

func foldByte(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c | 0x20
	}
	return c
}
