package parser

// piece is what stands between two semicolons of a text: a range of its tokens,
// the semicolon left out.
type piece struct {
	tokens []token
	depth  int  // a bound of its tree's depth
	broken bool // it ends in an unterminated string, identifier or comment
}

// span returns the piece's bytes: from the first comment or token to the last
// token that is no comment. Comments in front stay with the statement, since
// hints and trace contexts are written there.
func (p piece) span() Span {
	return spanOf(p.tokens)
}

// spanOf returns the zero Span where no token but comments is there.
func spanOf(tokens []token) Span {
	for i := len(tokens) - 1; i >= 0; i-- {
		if tokens[i].kind != tokComment {
			return Span{Start: tokens[0].start, End: tokens[i].end}
		}
	}
	return Span{}
}

// splitter cuts tokens into pieces. A semicolon inside brackets, or inside the
// BEGIN ATOMIC … END body of a function, does not end a statement.
type splitter struct {
	src    string
	parens int
	// create is how much of `CREATE … FUNCTION` has been seen: only there is BEGIN a body.
	words    int
	routine  bool
	begins   int // open BEGIN ATOMIC and CASE
	lastWord string
}

func (s *splitter) reset() {
	*s = splitter{src: s.src}
}

// ends reports whether the token is a semicolon that ends a statement.
func (s *splitter) ends(t token) bool {
	switch t.kind {
	case tokPunct:
		switch s.src[t.start] {
		case '(', '[':
			s.parens++
		case ')', ']':
			s.parens = max(0, s.parens-1)
		case ';':
			return s.parens == 0 && s.begins == 0
		}
	case tokWord:
		s.word(t.text(s.src))
	}
	return false
}

func (s *splitter) word(word string) {
	s.words++
	switch {
	case s.words == 1 && !equalFold(word, "create"):
		s.words = 1 << 20 // no routine can start here
	case s.words <= 4 && (equalFold(word, "function") || equalFold(word, "procedure")):
		s.routine = true
	case !s.routine || s.parens > 0:
	case equalFold(word, "atomic") && equalFold(s.lastWord, "begin"):
		s.begins++
	case s.begins > 0 && equalFold(word, "case"):
		s.begins++
	case s.begins > 0 && equalFold(word, "end"):
		s.begins--
	}
	s.lastWord = word
}

// split cuts a text into its pieces and measures each. Pieces of comments alone
// are left out.
func split(src string) []piece {
	tokens := lexAll(src)
	var (
		pieces []piece
		guard  depthGuard
		s      = splitter{src: src}
		start  int
	)
	guard.reset()
	cut := func(end int) {
		if p := tokens[start:end]; spanOf(p) != (Span{}) {
			broken := p[len(p)-1].kind == tokBroken
			pieces = append(pieces, piece{tokens: p, depth: guard.depth(), broken: broken})
		}
		start = end + 1
		s.reset()
		guard.reset()
	}
	for i, t := range tokens {
		if s.ends(t) {
			cut(i)
			continue
		}
		guard.add(src, t)
	}
	cut(len(tokens))
	return pieces
}
