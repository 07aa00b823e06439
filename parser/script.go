package parser

import "strings"

// ScriptStatement is one statement of a script for psql, such as pg_dump writes.
type ScriptStatement struct {
	Text string
	Line int      // of its first word, from 1
	Head []string // its first unquoted words, in upper case: "ALTER", "TABLE", …
	Copy bool     // COPY … FROM stdin, whose rows were left out
}

// scriptHead is how many words Head has at most.
const scriptHead = 24

// SplitScript cuts a script into its statements, and leaves out psql's own commands
// (\connect, \restrict) and the rows that follow COPY … FROM stdin. It needs no grammar: what the
// server will say to a statement is not known. The text is read as with standard_conforming_strings on.
func SplitScript(text string) []ScriptStatement {
	sc := script{splitter: splitter{src: text}, lx: lexer{src: text}, start: -1, line: 1}
	for {
		t, ok := sc.lx.next()
		switch {
		case !ok:
			sc.end(len(text))
			return sc.found
		case t.kind == tokComment:
		case t.punct(text, '\\') && sc.start < 0:
			sc.lx.pos = lineEnd(text, t.start)
		case sc.splitter.ends(t):
			sc.end(t.start)
			if n := len(sc.found); n > 0 && sc.found[n-1].Copy {
				sc.skipRows()
			}
		default:
			sc.add(t)
		}
	}
}

// script is where SplitScript stands.
type script struct {
	splitter splitter
	lx       lexer
	start    int // of the statement; -1 between statements
	head     []string
	tail     [2]string // its last two words
	found    []ScriptStatement

	line, counted int // of the byte `counted`: so that lines are counted once
}

func (sc *script) add(t token) {
	if sc.start < 0 {
		sc.start, sc.head = t.start, nil
	}
	if t.kind != tokWord {
		return
	}
	word := strings.ToUpper(t.text(sc.lx.src))
	sc.tail = [2]string{sc.tail[1], word}
	if len(sc.head) < scriptHead {
		sc.head = append(sc.head, word)
	}
}

func (sc *script) end(at int) {
	if sc.start >= 0 {
		sc.line += strings.Count(sc.lx.src[sc.counted:sc.start], "\n")
		sc.counted = sc.start
		sc.found = append(sc.found, ScriptStatement{
			Text: strings.TrimSpace(sc.lx.src[sc.start:at]), Line: sc.line, Head: sc.head, Copy: sc.head != nil && sc.head[0] == "COPY" && sc.tail == [2]string{"FROM", "STDIN"},
		})
	}
	sc.start = -1
	sc.splitter.reset()
}

// skipRows goes to behind the line that ends the rows of a COPY.
func (sc *script) skipRows() {
	rest := sc.lx.src[sc.lx.pos:]
	if i := strings.Index(rest, "\n\\."); i >= 0 {
		sc.lx.pos = lineEnd(sc.lx.src, sc.lx.pos+i+1)
		return
	}
	sc.lx.pos = len(sc.lx.src)
}
