package parser

import (
	"slices"
	"strconv"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// maxRows is the longest VALUES list whose rows a Statement keeps.
const maxRows = 64

// relation translates a name in the text.
func relation(r *pg.RangeVar) Relation {
	return Relation{
		Schema: r.GetSchemaname(),
		Name:   r.GetRelname(),
		Alias:  r.GetAlias().GetAliasname(),
		Only:   !r.GetInh(),
	}
}

// assigned returns the columns of a SET list.
func assigned(targets []*pg.Node) []string {
	columns := make([]string, 0, len(targets))
	for _, t := range targets {
		columns = append(columns, t.GetResTarget().GetName())
	}
	return unique(columns)
}

// unique drops later repetitions in place.
func unique(names []string) []string {
	kept := names[:0]
	for _, n := range names {
		if !slices.Contains(kept, n) {
			kept = append(kept, n)
		}
	}
	return kept
}

func conflict(n *pg.OnConflictClause) *Conflict {
	c := &Conflict{
		Update:     n.GetAction() == pg.OnConflictAction_ONCONFLICT_UPDATE,
		Constraint: n.GetInfer().GetConname(),
	}
	for _, e := range n.GetInfer().GetIndexElems() {
		elem := e.GetIndexElem()
		name := elem.GetName()
		if name == "" || len(elem.GetCollation()) > 0 || len(elem.GetOpclass()) > 0 {
			// The columns alone would not describe the index: what is equal in it may be spelled in several ways.
			c.Columns = nil
			break
		}
		c.Columns = append(c.Columns, name)
	}
	return c
}

// listed counts the rows that an INSERT has in its text.
func listed(n *pg.InsertStmt) int {
	if n.GetSelectStmt() == nil {
		return 1
	}
	return len(n.GetSelectStmt().GetSelectStmt().GetValuesLists())
}

// insertRows returns the column list and the VALUES lists. The rows are nil
// where they are not for certain what is stored.
func insertRows(n *pg.InsertStmt) ([]string, [][]Value) {
	var columns []string
	partial := false // `col[1]` or `col.field`: the value is not the column's
	for _, c := range n.GetCols() {
		columns = append(columns, c.GetResTarget().GetName())
		partial = partial || len(c.GetResTarget().GetIndirection()) > 0
	}
	if n.GetSelectStmt() == nil {
		return columns, [][]Value{{}}
	}
	sel := n.GetSelectStmt().GetSelectStmt()
	lists := sel.GetValuesLists()
	switch {
	case len(lists) == 0 || len(lists) > maxRows:
		return columns, nil
	case sel.GetLimitCount() != nil || sel.GetLimitOffset() != nil:
		return columns, nil
	case partial || n.GetOverride() == pg.OverridingKind_OVERRIDING_USER_VALUE:
		return columns, nil
	}
	rows := make([][]Value, len(lists))
	for i, list := range lists {
		items := list.GetList().GetItems()
		rows[i] = make([]Value, len(items))
		for j, item := range items {
			rows[i][j] = valueOf(item)
		}
	}
	return columns, rows
}

// valueOf translates a parameter or a constant with at most one cast; all else
// is ValueOther. A cast with a modifier (`::varchar(3)`) changes the value, so it
// is an expression too.
func valueOf(n *pg.Node) Value {
	cast := ""
	if c := n.GetTypeCast(); c != nil {
		if cast = typeName(c.GetTypeName()); cast == "" {
			return Value{}
		}
		n = c.GetArg()
	}
	v := bareValue(n)
	if v.Kind != ValueOther && v.Kind != ValueDefault {
		v.Cast = cast
	}
	return v
}

func bareValue(n *pg.Node) Value {
	switch n := n.GetNode().(type) {
	case *pg.Node_ParamRef:
		return Value{Kind: ValueParam, Param: int(n.ParamRef.GetNumber())}
	case *pg.Node_SetToDefault:
		return Value{Kind: ValueDefault}
	case *pg.Node_AConst:
		return constant(n.AConst)
	}
	return Value{}
}

func constant(c *pg.A_Const) Value {
	if c.GetIsnull() {
		return Value{Kind: ValueNull}
	}
	switch v := c.GetVal().(type) {
	case *pg.A_Const_Ival:
		return Value{Kind: ValueInteger, Text: strconv.Itoa(int(v.Ival.GetIval()))}
	case *pg.A_Const_Boolval:
		return Value{Kind: ValueBool, Text: strconv.FormatBool(v.Boolval.GetBoolval())}
	case *pg.A_Const_Fval:
		// The grammar keeps integers past 32 bits as text.
		if digits := strings.TrimPrefix(v.Fval.GetFval(), "-"); digits != "" && strings.Trim(digits, "0123456789") == "" {
			return Value{Kind: ValueInteger, Text: v.Fval.GetFval()}
		}
		return Value{Kind: ValueDecimal, Text: v.Fval.GetFval()}
	case *pg.A_Const_Sval:
		return Value{Kind: ValueString, Text: v.Sval.GetSval()}
	}
	return Value{}
}

// typeName returns a type's name without pg_catalog, "" for arrays, sets,
// modifiers and %TYPE.
func typeName(t *pg.TypeName) string {
	if len(t.GetTypmods()) > 0 || len(t.GetArrayBounds()) > 0 || t.GetSetof() || t.GetPctType() {
		return ""
	}
	names := stringList(t.GetNames())
	if len(names) > 1 && names[0] == "pg_catalog" {
		names = names[1:]
	}
	return strings.Join(names, ".")
}

// stringList returns the names in a qualified name; what is no name is left out.
func stringList(nodes []*pg.Node) []string {
	names := make([]string, 0, len(nodes))
	for _, n := range nodes {
		if s := n.GetString_(); s != nil {
			names = append(names, s.GetSval())
		}
	}
	return names
}

// where reads what WHERE pins and whether it holds a sub-select.
func (b *builder) where(n *pg.Node) {
	if n == nil {
		return
	}
	s := b.stmt
	if n.GetCurrentOfExpr() != nil {
		s.CurrentOf = true
		return
	}
	s.Sublink = hasSublink(n)
	b.pins(n)
}

// pins collects `column = value` from the conjuncts of a condition.
func (b *builder) pins(n *pg.Node) {
	if and := n.GetBoolExpr(); and.GetBoolop() == pg.BoolExprType_AND_EXPR {
		for _, a := range and.GetArgs() {
			b.pins(a)
		}
		return
	}
	e := n.GetAExpr()
	if e.GetKind() != pg.A_Expr_Kind_AEXPR_OP || len(e.GetName()) != 1 || e.GetName()[0].GetString_().GetSval() != "=" {
		return
	}
	if !b.pin(e.GetLexpr(), e.GetRexpr()) {
		b.pin(e.GetRexpr(), e.GetLexpr())
	}
}

func (b *builder) pin(left, right *pg.Node) bool {
	column, ok := b.targetColumn(left)
	if !ok {
		return false
	}
	v := valueOf(right)
	switch v.Kind {
	case ValueParam, ValueInteger, ValueString:
		b.stmt.Pins = append(b.stmt.Pins, Pin{Column: column, Value: v})
		return true
	}
	return false
}

// targetColumn returns the column of the target that an expression names. With
// other relations in reach an unqualified name could be one of theirs.
func (b *builder) targetColumn(n *pg.Node) (string, bool) {
	ref := n.GetColumnRef()
	fields := stringList(ref.GetFields())
	if len(fields) == 0 || len(fields) != len(ref.GetFields()) {
		return "", false
	}
	target, column, qualifiers := b.stmt.Target, fields[len(fields)-1], fields[:len(fields)-1]
	switch len(qualifiers) {
	case 0:
		return column, !b.stmt.From
	case 1:
		if target.Alias != "" {
			return column, qualifiers[0] == target.Alias
		}
		return column, qualifiers[0] == target.Name
	case 2:
		return column, target.Alias == "" && target.Schema != "" &&
			qualifiers[0] == target.Schema && qualifiers[1] == target.Name
	}
	return "", false
}
