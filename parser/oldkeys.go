package parser

import (
	"fmt"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// clauses finds keywords of the statement itself: those outside all brackets
// that are no label after a dot or AS.
type clauses struct {
	sp    *splicer
	index []int // into tokens, of what is outside brackets, without comments
}

func (sp *splicer) clauses() clauses {
	c := clauses{sp: sp}
	depth := 0
	for i, t := range sp.tokens {
		switch {
		case t.kind == tokComment:
			continue
		case t.punct(sp.text, '('), t.punct(sp.text, '['):
			depth++
		case t.punct(sp.text, ')'), t.punct(sp.text, ']'):
			depth--
		}
		if depth == 0 {
			c.index = append(c.index, i)
		}
	}
	return c
}

// find returns the position in index of the first such keyword at or after from; -1 for none.
func (c clauses) find(from int, word string) int {
	for i := max(from, 0); i < len(c.index); i++ {
		if c.token(i).is(c.sp.text, word) && !c.label(i) {
			return i
		}
	}
	return -1
}

// after returns the first position past a byte of the statement.
func (c clauses) after(location int32) int {
	for i := range c.index {
		if c.token(i).start > int(location) {
			return i
		}
	}
	return len(c.index)
}

// set returns the position of an UPDATE's SET: the first after the target's name
// that is not its alias. A CTE before the target may have a SET of its own.
func (c clauses) set() int {
	i := c.find(c.after(c.sp.tree.GetUpdateStmt().GetRelation().GetLocation()), "set")
	if i > 0 && c.token(i-1).is(c.sp.text, "as") {
		i = c.find(i+1, "set")
	}
	return i
}

// stop returns the position where SET ends.
func (c clauses) stop(set int) int {
	stop := len(c.index)
	for _, word := range [...]string{"from", "where", "returning"} {
		i := c.find(set, word)
		for i > 0 && c.token(i-1).is(c.sp.text, "distinct") { // IS DISTINCT FROM
			i = c.find(i+1, word)
		}
		if i >= 0 {
			stop = min(stop, i)
		}
	}
	return stop
}

func (c clauses) token(i int) token { return c.sp.tokens[c.index[i]] }

// label reports whether the word before makes this one a name.
func (c clauses) label(i int) bool {
	before := c.index[i] - 1
	for before >= 0 && c.sp.tokens[before].kind == tokComment {
		before--
	}
	return before >= 0 && c.sp.tokens[before].punct(c.sp.text, '.')
}

// updateWhere adds the condition to an UPDATE's WHERE.
func (sp *splicer) updateWhere(condition string) (undo, error) {
	c := sp.clauses()
	set := c.set()
	if set < 0 {
		return nil, fmt.Errorf("%w: no SET found", ErrCannotSplice)
	}
	sp.addWhere(c, set, condition)
	had := sp.tree.GetUpdateStmt().GetWhereClause()
	return func(spliced *pg.Node) bool {
		u := spliced.GetUpdateStmt()
		return u != nil && dropCondition(&u.WhereClause, had)
	}, nil
}

// conflictWhere adds the condition to the WHERE of DO UPDATE, which is not the
// WHERE of the arbiter index before DO, nor that of the INSERT's SELECT.
func (sp *splicer) conflictWhere(condition string) (undo, error) {
	c := sp.clauses()
	on := c.after(sp.tree.GetInsertStmt().GetOnConflictClause().GetLocation())
	do := c.find(on, "do")
	if do < 0 {
		return nil, fmt.Errorf("%w: no DO UPDATE found", ErrCannotSplice)
	}
	sp.addWhere(c, do, condition)
	had := sp.tree.GetInsertStmt().GetOnConflictClause().GetWhereClause()
	return func(spliced *pg.Node) bool {
		on := spliced.GetInsertStmt().GetOnConflictClause()
		return on != nil && dropCondition(&on.WhereClause, had)
	}, nil
}

// addWhere puts the condition into the WHERE that follows position from, or
// where it would stand.
func (sp *splicer) addWhere(c clauses, from int, condition string) {
	end := len(sp.text) // the end of WHERE, or of SET
	if r := c.find(from, "returning"); r >= 0 {
		end = sp.tokenBefore(c.index[r]).end
	}
	w := c.find(from, "where")
	if w < 0 || c.token(w).start > end {
		sp.put(end, " WHERE "+condition)
		return
	}
	// The closing bracket stands right after a token, so no comment can swallow it.
	sp.put(c.token(w).end, " (")
	sp.put(end, ") AND "+condition)
}

// tokenBefore returns the token before tokens[i] that is no comment.
func (sp *splicer) tokenBefore(i int) token {
	for i--; i > 0 && sp.tokens[i].kind == tokComment; i-- {
	}
	return sp.tokens[i]
}

// dropCondition takes the added condition, the last conjunct, out of *where. The
// grammar flattens `(a AND b) AND c`, so had tells how many stood there before.
func dropCondition(where **pg.Node, had *pg.Node) bool {
	if had == nil {
		if !isCapture(*where) {
			return false
		}
		*where = nil
		return true
	}
	and := (*where).GetBoolExpr()
	if and.GetBoolop() != pg.BoolExprType_AND_EXPR {
		return false
	}
	last := len(and.Args) - 1
	if last < 1 || !isCapture(and.Args[last]) {
		return false
	}
	if had.GetBoolExpr().GetBoolop() == pg.BoolExprType_AND_EXPR {
		and.Args = and.Args[:last]
	} else {
		*where = and.Args[0]
		return last == 1
	}
	return true
}

// isCapture recognises `pg_catalog.set_config('wtcache.old', …, true) IS NOT NULL`.
func isCapture(n *pg.Node) bool {
	test := n.GetNullTest()
	call := test.GetArg().GetFuncCall()
	names := stringList(call.GetFuncname())
	args := call.GetArgs()
	return test.GetNulltesttype() == pg.NullTestType_IS_NOT_NULL &&
		len(names) == 2 && names[0] == "pg_catalog" && names[1] == "set_config" &&
		len(args) == 3 && args[0].GetAConst().GetSval().GetSval() == oldSetting
}

// wrapSet computes the capture beside one SET value.
func (sp *splicer) wrapSet(condition string, cast func(string) (string, bool)) (undo, error) {
	items := sp.setItems()
	targets := sp.tree.GetUpdateStmt().GetTargetList()
	if len(items) == 0 {
		return nil, fmt.Errorf("%w: no SET value found", ErrCannotSplice)
	}
	for _, item := range items {
		if item.target >= len(targets) {
			break
		}
		open, closing, ok := wrapping(targets[item.target].GetResTarget(), cast)
		if !ok {
			continue
		}
		sp.put(item.start, "CASE WHEN "+condition+" THEN "+open)
		sp.put(item.end, closing+" END")
		return func(spliced *pg.Node) bool { return unwrap(spliced, item.target, closing != ")") }, nil
	}
	return nil, fmt.Errorf("%w: no SET value can be wrapped", ErrCannotSplice)
}

// wrapping says how a SET value is wrapped: a parameter, a literal of unknown
// type and a row take their type from the column, which CASE would hide from them.
func wrapping(t *pg.ResTarget, cast func(string) (string, bool)) (open, closing string, ok bool) {
	if t == nil || len(t.GetIndirection()) > 0 {
		return "", "", false
	}
	switch v := bareValue(t.GetVal()); {
	case t.GetVal().GetSetToDefault() != nil, t.GetVal().GetMultiAssignRef() != nil:
		return "", "", false
	case v.Kind == ValueParam, v.Kind == ValueString, v.Kind == ValueNull, t.GetVal().GetRowExpr() != nil:
		if cast == nil {
			return "", "", false
		}
		sqlType, known := cast(t.GetName())
		return "(", ")::" + sqlType, known && sqlType != ""
	}
	return "(", ")", true
}

// unwrap takes the CASE around one SET value out again.
func unwrap(spliced *pg.Node, target int, casted bool) bool {
	list := spliced.GetUpdateStmt().GetTargetList()
	if target >= len(list) {
		return false
	}
	t := list[target].GetResTarget()
	c := t.GetVal().GetCaseExpr()
	if len(c.GetArgs()) != 1 || c.GetDefresult() != nil || c.GetArg() != nil || !isCapture(c.GetArgs()[0].GetCaseWhen().GetExpr()) {
		return false
	}
	t.Val = c.GetArgs()[0].GetCaseWhen().GetResult()
	if casted {
		if t.GetVal().GetTypeCast() == nil {
			return false
		}
		t.Val = t.GetVal().GetTypeCast().GetArg()
	}
	return true
}

// setItem is the value of one `column = value` in SET.
type setItem struct {
	target     int // position in the tree's target list
	start, end int // the value's bytes
}

// setItems finds the values of the single-column items of SET.
func (sp *splicer) setItems() []setItem {
	c := sp.clauses()
	set := c.set()
	if set < 0 {
		return nil
	}
	stop := c.stop(set)
	var items []setItem
	target, first := 0, set+1
	for i := set + 1; i <= stop; i++ {
		if i < stop && !c.token(i).punct(sp.text, ',') {
			continue
		}
		item, width := sp.setItem(c, first, i)
		if item.start > 0 {
			item.target = target
			items = append(items, item)
		}
		target += width
		first = i + 1
	}
	return items
}

// setItem reads the item between two positions; a `(a, b) = …` has no single
// value and stands for as many targets as it has columns.
func (sp *splicer) setItem(c clauses, first, next int) (setItem, int) {
	if first >= next {
		return setItem{}, 0
	}
	if c.token(first).punct(sp.text, ')') {
		return setItem{}, sp.listWidth(c.index[first])
	}
	for i := first + 1; i < next; i++ {
		if t := c.token(i); t.kind == tokOp && t.text(sp.text) == "=" {
			return setItem{
				start: sp.tokenAfter(c.index[i]).start,
				end:   sp.lastBefore(c, next).end,
			}, 1
		}
	}
	return setItem{}, 1
}

// listWidth counts the columns of the bracketed list that ends at tokens[end].
func (sp *splicer) listWidth(end int) int {
	width := 1
	for depth, i := 1, end-1; i >= 0; i-- {
		switch t := sp.tokens[i]; {
		case t.punct(sp.text, ')'), t.punct(sp.text, ']'):
			depth++
		case t.punct(sp.text, '('), t.punct(sp.text, '['):
			if depth--; depth == 0 {
				return width
			}
		case depth == 1 && t.punct(sp.text, ','):
			width++
		}
	}
	return width
}

func (sp *splicer) tokenAfter(i int) token {
	for i++; i < len(sp.tokens)-1 && sp.tokens[i].kind == tokComment; i++ {
	}
	return sp.tokens[i]
}

// lastBefore returns the last token before position next, in brackets or not.
func (sp *splicer) lastBefore(c clauses, next int) token {
	if next >= len(c.index) {
		return sp.tokenBefore(len(sp.tokens))
	}
	return sp.tokenBefore(c.index[next])
}
