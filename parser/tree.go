package parser

/*
#include <stddef.h>
int wtcache_serve_deep(size_t stack_bytes);
*/
import "C"

import (
	"sync"

	pg "github.com/pganalyze/pg_query_go/v5"
)

const (
	// directNesting is the depth up to which the grammar runs on the caller's
	// thread, whose stack the C library sized: a quarter of what musl's 128 KiB hold.
	directNesting = 80
	// deepStack is the stack of the one thread that parses deeper texts, in bytes.
	// Pages that are never touched cost nothing.
	deepStack = 16 << 20
	// maxParsed bounds a text that the grammar is given, in bytes. A tree takes more
	// than a hundred times its text, and an allocation that fails while it is
	// serialised ends the process.
	maxParsed = 4 << 20
)

// parseTree runs the grammar on a text whose tree is at most depth deep; false
// where it is too deep or too long, or the grammar refuses it.
func parseTree(sql string, depth int) ([]*pg.RawStmt, bool) {
	switch {
	case depth > maxNesting || len(sql) > maxParsed:
		return nil, false
	case depth > directNesting:
		return parseDeep(sql)
	}
	return parseHere(sql)
}

// parseHere runs the grammar on the current thread.
func parseHere(sql string) (stmts []*pg.RawStmt, ok bool) {
	defer func() {
		if recover() != nil {
			stmts, ok = nil, false
		}
	}()
	tree, err := pg.Parse(sql)
	if err != nil {
		return nil, false
	}
	return tree.GetStmts(), true
}

// deep is the thread with a large stack. It starts at the first text that needs
// it and stays: libpg_query spends a thread-specific key on each new thread and
// never gives it back.
var deep = struct {
	mu      sync.Mutex // held for a whole request, so that answers cannot cross
	started bool
	request chan string
	answer  chan deepAnswer
}{request: make(chan string), answer: make(chan deepAnswer)}

type deepAnswer struct {
	stmts []*pg.RawStmt
	ok    bool
}

func parseDeep(sql string) ([]*pg.RawStmt, bool) {
	deep.mu.Lock()
	defer deep.mu.Unlock()
	if !deep.started {
		if C.wtcache_serve_deep(deepStack) != 0 {
			return nil, false
		}
		deep.started = true
	}
	deep.request <- sql
	a := <-deep.answer
	return a.stmts, a.ok
}

// wtcacheServeDeep is the body of the thread. Calls into C from here stay on the
// thread that called it, so the grammar gets its stack.
//
//export wtcacheServeDeep
func wtcacheServeDeep() {
	for sql := range deep.request {
		var a deepAnswer
		a.stmts, a.ok = parseHere(sql)
		deep.answer <- a
	}
}
