package parser

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// ErrCannotSplice means that a statement has no place for what should be added,
// or that the result did not parse as the same statement with that addition.
var ErrCannotSplice = errors.New("parser: cannot splice")

// oldSetting carries the key values of the row that an UPDATE replaces from the
// scan to RETURNING, row by row.
const oldSetting = "wtcache.old"

// Ref returns how the target is referred to inside the statement: by its alias,
// else by the name the text gives, quoted.
func (s *Statement) Ref() string {
	switch t := s.Target; {
	case t.Alias != "":
		return QuoteIdentifier(t.Alias)
	case t.Schema != "":
		return QuoteIdentifier(t.Schema) + "." + QuoteIdentifier(t.Name)
	default:
		return QuoteIdentifier(t.Name)
	}
}

// QuoteIdentifier quotes a name for use in SQL, whatever bytes it holds.
func QuoteIdentifier(name string) string {
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// SpliceReturning returns the statement's text, alone, with the expressions at
// the end of its RETURNING list, which is added where there is none. sql is the
// text that Parse was given. The error is ErrCannotSplice.
func (s *Statement) SpliceReturning(sql string, exprs []string) (string, error) {
	sp, err := s.splicer(sql)
	if err != nil {
		return "", err
	}
	sp.returning(exprs)
	return sp.finish(len(exprs), nil)
}

// SpliceOldKeys does as SpliceReturning and also captures values of the row that
// an UPDATE (or the DO UPDATE of an INSERT) replaces: oldKeys is an expression
// of type text over the columns of Ref; its value comes back as one more
// column after exprs. Reading it clears it, so that it is empty or NULL in rows that an
// upsert inserted (xmax would tell, but a partitioned table has none in RETURNING), and
// nothing of it is left in the transaction. inserted says what was put where, in order,
// for the positions in the server's errors.
//
// cast gives the SQL type of a column, of a domain its base type, without the
// modifier: format_type(oid, -1). An explicit cast to varchar(3), or to a domain
// over it, cuts what an assignment refuses.
// It is asked where the only place for the capture is a SET value whose type would
// be lost. The error is ErrCannotSplice.
func (s *Statement) SpliceOldKeys(sql string, exprs []string, oldKeys string, cast func(column string) (sqlType string, ok bool)) (text string, inserted []Inserted, err error) {
	sp, err := s.splicer(sql)
	if err != nil {
		return "", nil, err
	}
	condition := "pg_catalog.set_config('" + oldSetting + "', " + oldKeys + ", true) IS NOT NULL"
	undo, err := s.captureOld(sp, condition, cast)
	if err != nil {
		return "", nil, err
	}
	sp.returning(append(exprs[:len(exprs):len(exprs)], takeOld))
	text, err = sp.finish(len(exprs)+1, undo)
	for _, in := range sp.insert {
		inserted = append(inserted, Inserted{At: in.at, Len: len(in.text)})
	}
	return text, inserted, err
}

// Inserted is a number of bytes that were put before a byte of the original statement.
type Inserted struct{ At, Len int }

// takeOld reads the old keys and then clears them: a function's arguments are evaluated
// from left to right.
const takeOld = "pg_catalog.concat(pg_catalog.current_setting('" + oldSetting + "', true), pg_catalog.left(pg_catalog.set_config('" + oldSetting + "', '', true), 0))"

// captureOld adds the condition where it runs once for each row, last before the
// row is replaced. Where WHERE can become a join the scan may be ahead of the
// update, so there the condition wraps a SET value, which is computed with the row.
func (s *Statement) captureOld(sp *splicer, condition string, cast func(string) (string, bool)) (undo, error) {
	switch {
	case s.Kind == KindInsert && s.Conflict != nil && s.Conflict.Update:
		return sp.conflictWhere(condition)
	case s.Kind != KindUpdate || s.CurrentOf:
		return nil, fmt.Errorf("%w: no old row", ErrCannotSplice)
	case s.From || s.Sublink:
		return sp.wrapSet(condition, cast)
	}
	return sp.updateWhere(condition)
}

// undo takes an addition out of the spliced statement's tree again, so that the
// rest can be compared with the original; false where the addition is not there.
type undo func(spliced *pg.Node) bool

// insertion is text to be put before a byte of the statement.
type insertion struct {
	at   int
	text string
}

// splicer collects insertions into one statement's text.
type splicer struct {
	text   string // the statement alone
	tree   *pg.Node
	tokens []token // of text, comments included
	insert []insertion
}

func (s *Statement) splicer(sql string) (*splicer, error) {
	switch s.Kind {
	case KindInsert, KindUpdate, KindDelete:
	default:
		return nil, fmt.Errorf("%w: not an INSERT, UPDATE or DELETE", ErrCannotSplice)
	}
	if s.Span.Start < 0 || s.Span.End > len(sql) || s.Span.Start >= s.Span.End {
		return nil, fmt.Errorf("%w: not the statement's text", ErrCannotSplice)
	}
	text := sql[s.Span.Start:s.Span.End]
	tree, tokens := single(text)
	if tree == nil {
		return nil, fmt.Errorf("%w: the statement alone does not parse", ErrCannotSplice)
	}
	return &splicer{text: text, tree: tree, tokens: tokens}, nil
}

// single parses a text that is one statement; nil where it is not.
func single(text string) (*pg.Node, []token) {
	if strings.IndexByte(text, 0) >= 0 {
		return nil, nil
	}
	pieces := split(text)
	if len(pieces) != 1 || pieces[0].broken {
		return nil, nil
	}
	raw, ok := parseTree(text, pieces[0].depth)
	if !ok || len(raw) != 1 {
		return nil, nil
	}
	return raw[0].GetStmt(), pieces[0].tokens
}

// put adds text before the byte at; of several at one place the first put comes first.
func (sp *splicer) put(at int, text string) {
	sp.insert = append(sp.insert, insertion{at: at, text: text})
}

// returning appends to the statement's end, which is the end of RETURNING where it has one.
func (sp *splicer) returning(exprs []string) {
	if len(exprs) == 0 {
		return
	}
	start := " RETURNING "
	if len(*returningList(sp.tree)) > 0 {
		start = ", "
	}
	sp.put(len(sp.text), start+strings.Join(exprs, ", "))
}

// finish writes the spliced text and proves that it is the same statement: it
// parses to one statement which, with the additions taken out, has the
// original's tree.
func (sp *splicer) finish(added int, undoCapture undo) (string, error) {
	text := sp.render()
	tree, _ := single(text)
	if tree == nil {
		return "", fmt.Errorf("%w: the result does not parse", ErrCannotSplice)
	}
	list := returningList(tree)
	if list == nil || len(*list) != len(*returningList(sp.tree))+added {
		return "", fmt.Errorf("%w: the result returns other columns", ErrCannotSplice)
	}
	*list = (*list)[:len(*list)-added]
	if undoCapture != nil && !undoCapture(tree) {
		return "", fmt.Errorf("%w: the condition landed elsewhere", ErrCannotSplice)
	}
	original := proto.Clone(sp.tree).(*pg.Node)
	clearLocations(original)
	clearLocations(tree)
	if !proto.Equal(original, tree) {
		return "", fmt.Errorf("%w: the result is another statement", ErrCannotSplice)
	}
	return text, nil
}

func (sp *splicer) render() string {
	slices.SortStableFunc(sp.insert, func(a, b insertion) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	from := 0
	for _, in := range sp.insert {
		b.WriteString(sp.text[from:in.at])
		b.WriteString(in.text)
		from = in.at
	}
	b.WriteString(sp.text[from:])
	return b.String()
}

// returningList points to a statement's RETURNING list; nil for other statements.
func returningList(n *pg.Node) *[]*pg.Node {
	switch n := n.GetNode().(type) {
	case *pg.Node_InsertStmt:
		return &n.InsertStmt.ReturningList
	case *pg.Node_UpdateStmt:
		return &n.UpdateStmt.ReturningList
	case *pg.Node_DeleteStmt:
		return &n.DeleteStmt.ReturningList
	}
	return nil
}

// clearLocations forgets where in the text the nodes stood.
func clearLocations(n *pg.Node) {
	walkNode(n, func(m protoreflect.ProtoMessage) bool {
		r := m.ProtoReflect()
		fields := r.Descriptor().Fields()
		for _, name := range [...]protoreflect.Name{"location", "stmt_location", "stmt_len"} {
			if f := fields.ByName(name); f != nil && f.Kind() == protoreflect.Int32Kind {
				r.Clear(f)
			}
		}
		return true
	})
}
