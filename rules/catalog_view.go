package rules

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// viewOrigin says which relation an automatically updatable view writes, and which of
// that relation's columns each of its own columns is.
type viewOrigin struct {
	base    uint32
	columns map[int]int // the view's attnum to the base's; a computed column is missing
}

// loadViews reads where the columns of the rules' views come from, and which of the
// views are automatically updatable. information_schema tells the tables that a view
// reads, but not the one that it writes, nor which column is which; the stored query does.
//
// To ask whether a view is updatable locks it for a moment, so only the views of `via`
// are asked. Any other is taken to be.
func (c *Catalog) loadViews(ctx context.Context, q Querier, rules []*Rule) error {
	var oids []string
	for _, r := range c.reaches {
		if rel := c.relations[r.OID]; r.How == reachRule && rel != nil && rel.Kind == "v" {
			rel.Updatable = updatableAll
			oids = append(oids, strconv.FormatUint(uint64(r.OID), 10))
		}
	}
	named := []string{"0"}
	for _, r := range rules {
		for _, v := range r.Via {
			if rel := c.byName[qualified(v)]; rel != nil {
				named = append(named, strconv.FormatUint(uint64(rel.OID), 10))
			}
		}
	}
	if len(oids) == 0 || !anyVia(rules) {
		return nil
	}
	rows, err := q(ctx, `SELECT ev_class::pg_catalog.int8::pg_catalog.text, ev_action::pg_catalog.text,
CASE WHEN ev_class IN (`+strings.Join(named, ", ")+`) THEN pg_catalog.pg_relation_is_updatable(ev_class, false) ELSE `+strconv.Itoa(updatableAll)+` END::pg_catalog.text FROM pg_catalog.pg_rewrite
WHERE ev_type = '1' AND ev_class IN (`+strings.Join(oids, ", ")+`)`)
	if err != nil {
		return err
	}
	for _, row := range rows {
		id, action, updatable, err := threeCells(row)
		if err != nil {
			return err
		}
		oid, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return fmt.Errorf("decode view's number: %w", err)
		}
		if c.relations[uint32(oid)].Updatable, err = strconv.Atoi(updatable); err != nil {
			return fmt.Errorf("decode view's updatability: %w", err)
		}
		if o, ok := parseViewOrigin(action); ok {
			c.views[uint32(oid)] = o
		}
	}
	return nil
}

func anyVia(rules []*Rule) bool {
	for _, r := range rules {
		if len(r.Via) > 0 {
			return true
		}
	}
	return false
}

// The depths at which the parts of a stored query stand: "({QUERY … :targetList
// ({TARGETENTRY … :resno 1 … :resorigtbl 16388 :resorigcol 1 …} …) …})".
const (
	depthQuery = 2
	depthEntry = 4
)

// parseViewOrigin reads the target list of a stored query (pg_rewrite.ev_action). Only
// the outermost target list counts, and only a plain column has an origin there. It
// gives false where the columns come from several relations: such a view is not
// automatically updatable.
func parseViewOrigin(action string) (viewOrigin, bool) {
	o := viewOrigin{columns: map[int]int{}}
	depth, inList := 0, false
	var number, table, col uint64
	tokens := nodeTokens{text: action}
	for token := tokens.next(); token != ""; token = tokens.next() {
		switch {
		case token == "{" || token == "(":
			depth++
		case token == "}" || token == ")":
			depth--
		case depth == depthQuery && token[0] == ':':
			inList = token == ":targetList"
		case depth == depthEntry && inList && token == ":resname":
			tokens.next() // a name may look like a field
		case depth == depthEntry && inList && token == ":resno":
			number = tokens.number()
		case depth == depthEntry && inList && token == ":resorigtbl":
			table = tokens.number()
		case depth == depthEntry && inList && token == ":resorigcol":
			col = tokens.number()
			if table == 0 {
				continue
			}
			if o.base != 0 && uint64(o.base) != table {
				return o, false
			}
			o.base = uint32(table)
			o.columns[int(number)] = int(col)
		}
	}
	return o, o.base != 0 && depth == 0
}

// nodeTokens splits the text form of a node tree. A backslash takes the next byte
// literally, so that braces inside a name are no structure.
type nodeTokens struct {
	text string
	pos  int
}

func (t *nodeTokens) next() string {
	for t.pos < len(t.text) && strings.IndexByte(" \n\t", t.text[t.pos]) >= 0 {
		t.pos++
	}
	start := t.pos
	for ; t.pos < len(t.text); t.pos++ {
		switch t.text[t.pos] {
		case '\\':
			t.pos++
		case '{', '}', '(', ')':
			if t.pos == start {
				t.pos++
			}
			return t.text[start:t.pos]
		case ' ', '\n', '\t':
			return t.text[start:t.pos]
		}
	}
	t.pos = min(t.pos, len(t.text))
	return t.text[start:t.pos]
}

func (t *nodeTokens) number() uint64 {
	n, err := strconv.ParseUint(t.next(), 10, 32)
	if err != nil {
		return 0
	}
	return n
}

// isOver says whether a view ends at that table, directly or through further views.
func (c *Catalog) isOver(view, table *relation) bool {
	oid := view.OID
	for oid != table.OID {
		origin, known := c.views[oid]
		if !known {
			return false
		}
		oid = origin.base
	}
	return true
}

// shows says whether a view gives a column of that table under the column's own name,
// untouched. The view must be over the table.
func (c *Catalog) shows(view, table *relation, name string) bool {
	outer, inner := view.column(name), table.column(name)
	if outer == nil || inner == nil {
		return false
	}
	oid, num := view.OID, outer.Num
	for oid != table.OID {
		origin := c.views[oid]
		below, plain := origin.columns[num]
		if !plain {
			return false
		}
		oid, num = origin.base, below
	}
	return num == inner.Num
}
