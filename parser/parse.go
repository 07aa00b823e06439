package parser

import (
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// Parse splits a text into its statements, in order. It never fails and never
// panics: what the grammar does not know, or must not be given, comes back as
// KindUnparsable, one for each piece between top-level semicolons. A text with
// a NUL byte, which would cut it short, is one KindUnparsable. Pieces that hold
// only comments are left out, so an empty text has no statements.
//
// The text is read as with standard_conforming_strings on. Parse is safe for
// concurrent use and keeps no reference to the text but through the statements'
// strings.
func Parse(sql string) []*Statement {
	if strings.IndexByte(sql, 0) >= 0 {
		return []*Statement{{Kind: KindUnparsable, Span: Span{End: len(sql)}}}
	}
	pieces := split(sql)
	if len(pieces) == 0 {
		return nil
	}
	if stmts, ok := parseWhole(sql, pieces); ok {
		return stmts
	}
	stmts := make([]*Statement, 0, len(pieces))
	for _, p := range pieces {
		stmts = append(stmts, parsePiece(sql, p)...)
	}
	return stmts
}

// parseWhole gives the whole text to the grammar. It is false where a piece must
// not be given, where the grammar refuses, or where grammar and lexer disagree
// about the pieces.
func parseWhole(sql string, pieces []piece) ([]*Statement, bool) {
	depth := 0
	for _, p := range pieces {
		if p.broken {
			return nil, false
		}
		depth = max(depth, p.depth)
	}
	raw, ok := parseTree(sql, depth)
	if !ok || len(raw) != len(pieces) {
		return nil, false
	}
	stmts := make([]*Statement, len(raw))
	for i, r := range raw {
		span := pieces[i].span()
		if !holds(r, span, len(sql)) {
			return nil, false
		}
		stmts[i] = newStatement(sql, r.GetStmt(), pieces[i].tokens)
	}
	return stmts, true
}

// holds reports whether the grammar put the statement where the lexer did. The
// grammar's range may begin after leading comments.
func holds(r *pg.RawStmt, span Span, size int) bool {
	start, end := int(r.GetStmtLocation()), size
	if r.GetStmtLen() > 0 {
		end = start + int(r.GetStmtLen())
	}
	return start < span.End && span.End <= end
}

// parsePiece parses one piece on its own.
func parsePiece(sql string, p piece) []*Statement {
	span := p.span()
	unparsable := []*Statement{{Kind: KindUnparsable, Span: span}}
	if p.broken {
		return unparsable
	}
	raw, ok := parseTree(sql[span.Start:span.End], p.depth)
	if !ok || len(raw) != 1 {
		return unparsable
	}
	return []*Statement{newStatement(sql, raw[0].GetStmt(), p.tokens)}
}

// newStatement makes the Statement of a tree; tokens are those of its piece.
func newStatement(sql string, node *pg.Node, tokens []token) (stmt *Statement) {
	span := spanOf(tokens)
	defer func() {
		// A tree that this package misreads must not end the caller's program.
		if recover() != nil {
			stmt = &Statement{Kind: KindUnparsable, Span: span}
		}
	}()
	b := builder{stmt: &Statement{Span: span, Repeated: repeated(sql, tokens)}, words: countWords(sql, tokens)}
	b.build(node)
	if b.words.setConfig || b.words.unicode && callsSetConfig(node) {
		b.stmt.SetConfig = true
	}
	return b.stmt
}

// maxParams is how many parameters the protocol can carry (a 16-bit count).
const maxParams = 1<<16 - 1

// repeated gives the parameters that stand in a statement more than once.
func repeated(sql string, tokens []token) (twice []int) {
	var times []uint8 // by the parameter's number
	for _, t := range tokens {
		if t.kind != tokParam {
			continue
		}
		long, err := strconv.ParseInt(sql[t.start+1:t.end], 10, 64)
		n := int(int32(long)) // as Postgres reads it
		if err != nil || n < 0 || n > maxParams {
			continue
		}
		if n >= len(times) {
			times = append(times, make([]uint8, n+1-len(times))...)
		}
		if times[n]++; times[n] == 2 {
			twice = append(twice, n)
		}
		times[n] = min(times[n], 2)
	}
	return twice
}

// wordCounts says which keywords a statement's tokens hold, to spare most
// statements a walk over their tree: without the word there is no such node.
type wordCounts struct {
	writes    int // INSERT, UPDATE, DELETE, MERGE
	into      int
	setConfig bool
	unicode   bool // a U&"…" identifier may hide any name
}

func countWords(sql string, tokens []token) wordCounts {
	var w wordCounts
	for _, t := range tokens {
		switch t.kind {
		case tokUnicode:
			w.unicode = true
		case tokQuoted:
			w.setConfig = w.setConfig || t.text(sql) == `"set_config"`
		case tokWord:
			w.add(t.text(sql))
		}
	}
	return w
}

func (w *wordCounts) add(word string) {
	switch len(word) {
	case 4:
		if equalFold(word, "into") {
			w.into++
		}
	case 5:
		if equalFold(word, "merge") {
			w.writes++
		}
	case 6:
		if equalFold(word, "insert") || equalFold(word, "update") || equalFold(word, "delete") {
			w.writes++
		}
	case 10:
		if equalFold(word, "set_config") {
			w.setConfig = true
		}
	}
}
