package parser

// maxNesting bounds the depth of the tree that the grammar is given. The C parser
// and its serialiser recurse over the tree with no check of their own: past the
// end of the stack the process dies. One unit costs at most 0.4 kB of stack, so
// deepStack, where everything over directNesting runs, has room for many times
// this bound (TestDeepTextsLive tries four).
const maxNesting = 2000

// maxBrackets bounds open brackets and CASEs; the grammar itself gives up at
// 10,000 symbols on its stack.
const maxBrackets = 400

// level is what the guard knows about one open bracket or CASE.
type level struct {
	open    byte // '(' or '[' or 'c' for CASE; 0 at the top
	between int  // BETWEENs that still wait for their AND
	chain   int  // operators in the current element
	inner   int  // the deepest bracket closed in the current element
	deepest int  // the deepest element so far
	sticky  int  // joins and set operations: commas and ANDs do not end their chain
}

// end closes the current element: what follows does not hang below it.
func (l *level) end() {
	l.deepest = max(l.deepest, l.chain+l.inner)
	l.chain, l.inner, l.between = 0, 0, 0
}

// depthGuard computes an upper bound of the depth of the parse tree from tokens
// alone. An operator adds one to its element; an element ends at a comma, AND,
// OR, WHEN, THEN or ELSE, since the grammar keeps those as flat lists; a bracket
// or a CASE adds what is inside it.
type depthGuard struct {
	levels [maxBrackets]level
	top    int
	label  bool // the token before was a dot or AS: a word is a name here
	tooBig bool
}

// reset prepares for the next statement.
func (g *depthGuard) reset() {
	g.top, g.label, g.tooBig = 0, false, false
	g.levels[0] = level{}
}

// add looks at the next token.
func (g *depthGuard) add(src string, t token) {
	if g.tooBig || t.kind == tokComment {
		return
	}
	l := &g.levels[g.top]
	label := g.label
	g.label = t.punct(src, '.') || t.is(src, "as")
	switch t.kind {
	case tokOp:
		l.chain++
	case tokPunct:
		g.addPunct(src[t.start])
	case tokWord:
		if !label {
			g.addWord(src[t.start:t.end])
		}
	}
	if l.chain+l.sticky > maxNesting {
		g.tooBig = true
	}
}

func (g *depthGuard) addPunct(c byte) {
	switch c {
	case '(', '[':
		g.open(c)
	case ')', ']':
		for g.top > 0 && g.levels[g.top].open == 'c' {
			g.close()
		}
		g.close()
	case ',', ';':
		g.levels[g.top].end()
	}
}

func (g *depthGuard) addWord(word string) {
	if len(word) < 2 || len(word) > 9 {
		return
	}
	l := &g.levels[g.top]
	switch wordClass(word) {
	case classChain:
		l.chain++
	case classSticky:
		l.sticky++
	case classBody:
		l.sticky += 3
	case classBetween:
		l.chain += 2
		l.between++
	case classAnd:
		if l.between > 0 {
			l.between--
		} else {
			l.end()
		}
	case classOr:
		l.end()
	case classCase:
		g.open('c')
	case classBranch:
		if l.open == 'c' {
			l.end()
		}
	case classEnd:
		if l.open == 'c' {
			g.close()
		}
	}
}

func (g *depthGuard) open(c byte) {
	if g.top+1 >= len(g.levels) {
		g.tooBig = true
		return
	}
	g.top++
	g.levels[g.top] = level{open: c}
}

func (g *depthGuard) close() {
	if g.top == 0 {
		return
	}
	inner := &g.levels[g.top]
	inner.end()
	depth := inner.deepest + inner.sticky + bracketDepth(inner.open)
	g.top--
	outer := &g.levels[g.top]
	outer.inner = max(outer.inner, depth)
}

// bracketDepth is what a bracket adds by itself: a sub-select, the most that can
// stand in parentheses, is three nodes.
func bracketDepth(open byte) int {
	if open == '(' {
		return 3
	}
	return 2
}

// depth returns the bound for everything added since reset.
func (g *depthGuard) depth() int {
	for g.top > 0 {
		g.close()
	}
	g.levels[0].end()
	if g.tooBig {
		return maxNesting + 1
	}
	return g.levels[0].deepest + g.levels[0].sticky
}

type class uint8

const (
	classNone class = iota
	classChain
	classSticky
	classBody
	classBetween
	classAnd
	classOr
	classCase
	classBranch
	classEnd
)

// wordClass says what a word does to the depth of the tree.
func wordClass(word string) class {
	switch foldByte(word[0]) {
	case 'a':
		return pick(word, classAnd, "and", classChain, "at", classBody, "atomic")
	case 'b':
		return pick(word, classBetween, "between", classNone, "", classNone, "")
	case 'c':
		return pick(word, classCase, "case", classChain, "collate", classNone, "")
	case 'e':
		if c := pick(word, classEnd, "end", classBranch, "else", classSticky, "except"); c != classNone {
			return c
		}
		return pick(word, classChain, "escape", classNone, "", classNone, "")
	case 'i':
		if c := pick(word, classChain, "is", classChain, "in", classChain, "isnull"); c != classNone {
			return c
		}
		return pick(word, classChain, "ilike", classSticky, "intersect", classNone, "")
	case 'j':
		return pick(word, classSticky, "join", classNone, "", classNone, "")
	case 'l':
		return pick(word, classChain, "like", classNone, "", classNone, "")
	case 'n':
		return pick(word, classChain, "not", classChain, "notnull", classNone, "")
	case 'o':
		return pick(word, classOr, "or", classChain, "operator", classChain, "overlaps")
	case 's':
		return pick(word, classBetween, "similar", classNone, "", classNone, "")
	case 't':
		return pick(word, classBranch, "then", classNone, "", classNone, "")
	case 'u':
		return pick(word, classSticky, "union", classNone, "", classNone, "")
	case 'w':
		return pick(word, classBranch, "when", classNone, "", classNone, "")
	}
	return classNone
}

func pick(word string, c1 class, w1 string, c2 class, w2 string, c3 class, w3 string) class {
	switch {
	case equalFold(word, w1):
		return c1
	case equalFold(word, w2):
		return c2
	case equalFold(word, w3):
		return c3
	}
	return classNone
}
