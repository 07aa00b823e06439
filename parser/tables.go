package parser

import (
	"fmt"
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// Definitions are the tables and types that a text of DDL leaves behind.
type Definitions struct {
	Tables  []*TableDef
	Enums   []Relation           // CREATE TYPE … AS ENUM
	Domains map[Relation]TypeDef // CREATE DOMAIN, to the type below
}

// TableDef is a table as CREATE TABLE and what follows define it.
type TableDef struct {
	Name        Relation // its schema and name alone
	Columns     []ColumnDef
	Unique      []UniqueDef
	Foreign     []ForeignDef
	Triggers    []TriggerDef
	Parents     []Relation // PARTITION OF, INHERITS
	Partitioned bool
	RowSecurity bool
	Rules       int // CREATE RULE
}

// TypeDef is the type of a column.
type TypeDef struct {
	Schema string // "" where the text gives none
	Name   string // Postgres' own name of it: int8 for bigint, timestamptz
	Mod    int    // n of varchar(n), 0 for none
	// Modified says that it has modifiers of any kind: numeric(10,2), timestamptz(0).
	Modified bool
	Array    bool
}

// ColumnDef is a column of a table.
type ColumnDef struct {
	Name      string
	Type      TypeDef
	Default   *Value // nil: NULL. ValueOther is an expression, such as a sequence's next value
	Generated bool   // GENERATED ALWAYS AS (…) STORED
}

// UniqueDef is a unique constraint or index.
type UniqueDef struct {
	Name       string
	Columns    []string // empty for one over expressions
	Primary    bool
	Deferrable bool
	Partial    bool
}

// ForeignDef is a foreign key.
type ForeignDef struct {
	Name       string
	References Relation
	Columns    []string // of References; empty for its primary key
	OnDelete   bool     // CASCADE, SET NULL or SET DEFAULT
	OnUpdate   bool
}

// TriggerDef is a trigger on a table.
type TriggerDef struct {
	Name string
	Type int // pg_trigger.tgtype
}

// Table finds a table; a name without a schema is found in any.
func (d *Definitions) Table(r Relation) *TableDef {
	for _, t := range d.Tables {
		if t.Name.Name == r.Name && (r.Schema == "" || t.Name.Schema == "" || r.Schema == t.Name.Schema) {
			return t
		}
	}
	return nil
}

// Column finds a column, nil where there is none.
func (t *TableDef) Column(name string) *ColumnDef {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// ParseDefinitions reads a text of DDL, such as a migration or what pg_dump --schema-only
// writes. It follows CREATE, ALTER and DROP of tables, indexes, enums, domains, triggers
// and rules; other statements are passed over. An error says which statement does not parse.
func ParseDefinitions(sql string) (*Definitions, error) {
	d := &Definitions{Domains: map[Relation]TypeDef{}}
	for _, p := range split(sql) {
		span := p.span()
		text := sql[span.Start:span.End]
		raw, ok := parseTree(text, p.depth)
		if p.broken || !ok {
			line := 1 + strings.Count(sql[:span.Start], "\n")
			return nil, fmt.Errorf("parser: the statement at line %d of the definitions does not parse: %.80q", line, text)
		}
		for _, r := range raw {
			d.add(r.GetStmt())
		}
	}
	return d, nil
}

func (d *Definitions) add(node *pg.Node) {
	switch n := node.GetNode().(type) {
	case *pg.Node_CreateStmt:
		d.create(n.CreateStmt)
	case *pg.Node_AlterTableStmt:
		if t := d.Table(named(n.AlterTableStmt.GetRelation())); t != nil {
			for _, c := range n.AlterTableStmt.GetCmds() {
				t.alter(c.GetAlterTableCmd())
			}
		}
	case *pg.Node_RenameStmt:
		d.rename(n.RenameStmt)
	case *pg.Node_DropStmt:
		d.drop(n.DropStmt)
	case *pg.Node_IndexStmt:
		if t := d.Table(named(n.IndexStmt.GetRelation())); t != nil && n.IndexStmt.GetUnique() {
			t.Unique = append(t.Unique, uniqueIndex(n.IndexStmt))
		}
	case *pg.Node_CreateEnumStmt:
		d.Enums = append(d.Enums, nameOf(n.CreateEnumStmt.GetTypeName()))
	case *pg.Node_CreateDomainStmt:
		d.Domains[nameOf(n.CreateDomainStmt.GetDomainname())] = typeOf(n.CreateDomainStmt.GetTypeName())
	case *pg.Node_CreateTrigStmt:
		d.trigger(n.CreateTrigStmt)
	case *pg.Node_RuleStmt:
		if t := d.Table(named(n.RuleStmt.GetRelation())); t != nil {
			t.Rules++
		}
	}
}

func named(r *pg.RangeVar) Relation {
	return Relation{Schema: r.GetSchemaname(), Name: r.GetRelname()}
}

func nameOf(parts []*pg.Node) Relation {
	names := stringList(parts)
	if len(names) == 0 {
		return Relation{}
	}
	r := Relation{Name: names[len(names)-1]}
	if len(names) > 1 {
		r.Schema = names[len(names)-2]
	}
	return r
}

func (d *Definitions) create(n *pg.CreateStmt) {
	name := named(n.GetRelation())
	if n.GetIfNotExists() && d.Table(name) != nil || isTemporary(n.GetRelation()) {
		return
	}
	t := &TableDef{Name: name, Partitioned: n.GetPartspec() != nil}
	for _, parent := range n.GetInhRelations() {
		t.Parents = append(t.Parents, named(parent.GetRangeVar()))
	}
	for _, e := range n.GetTableElts() {
		if c := e.GetColumnDef(); c != nil {
			t.column(c)
		}
		if c := e.GetConstraint(); c != nil {
			t.constraint(c, "")
		}
	}
	for _, c := range n.GetConstraints() {
		t.constraint(c.GetConstraint(), "")
	}
	d.Tables = append(d.Tables, t)
}

func (t *TableDef) column(n *pg.ColumnDef) {
	c := ColumnDef{Name: n.GetColname(), Type: typeOf(n.GetTypeName())}
	if serial, ok := serials[c.Type.Name]; ok && c.Type.Schema == "" {
		c.Type.Name, c.Default = serial, &Value{}
	}
	t.Columns = append(t.Columns, c)
	for _, constraint := range n.GetConstraints() {
		t.constraint(constraint.GetConstraint(), c.Name)
	}
}

var serials = map[string]string{
	"serial": "int4", "serial4": "int4", "bigserial": "int8", "serial8": "int8", "smallserial": "int2", "serial2": "int2",
}

// typeOf keeps a type's name apart from what makes a value of it.
func typeOf(n *pg.TypeName) TypeDef {
	r := nameOf(n.GetNames())
	t := TypeDef{Schema: r.Schema, Name: r.Name, Array: len(n.GetArrayBounds()) > 0}
	if t.Schema == "pg_catalog" {
		t.Schema = ""
	}
	mods := n.GetTypmods()
	t.Modified = len(mods) > 0
	if len(mods) == 1 {
		t.Mod = int(mods[0].GetAConst().GetIval().GetIval())
	}
	return t
}

// constraint adds a table's constraint, or a column's where column is not empty. DEFERRABLE
// follows a column's constraint as one of its own.
func (t *TableDef) constraint(n *pg.Constraint, column string) {
	columns := stringList(n.GetKeys())
	if column != "" {
		columns = []string{column}
	}
	c := t.Column(column)
	switch n.GetContype() {
	case pg.ConstrType_CONSTR_PRIMARY, pg.ConstrType_CONSTR_UNIQUE:
		t.Unique = append(t.Unique, UniqueDef{
			Name: n.GetConname(), Columns: columns, Deferrable: n.GetDeferrable(),
			Primary: n.GetContype() == pg.ConstrType_CONSTR_PRIMARY,
		})
	case pg.ConstrType_CONSTR_ATTR_DEFERRABLE:
		if i := len(t.Unique) - 1; i >= 0 && slices.Equal(t.Unique[i].Columns, columns) {
			t.Unique[i].Deferrable = true
		}
	case pg.ConstrType_CONSTR_FOREIGN:
		t.Foreign = append(t.Foreign, ForeignDef{
			Name: n.GetConname(), References: named(n.GetPktable()), Columns: stringList(n.GetPkAttrs()),
			OnDelete: acts(n.GetFkDelAction()), OnUpdate: acts(n.GetFkUpdAction()),
		})
	case pg.ConstrType_CONSTR_DEFAULT:
		c.Default = defaultOf(n.GetRawExpr())
	case pg.ConstrType_CONSTR_IDENTITY:
		c.Default = &Value{}
	case pg.ConstrType_CONSTR_GENERATED:
		c.Default, c.Generated = &Value{}, true
	}
}

// acts says that a foreign key's action changes rows: CASCADE, SET NULL, SET DEFAULT.
func acts(action string) bool { return action == "c" || action == "n" || action == "d" }

// defaultOf is a constant where the text shows it, nil for DEFAULT NULL.
func defaultOf(n *pg.Node) *Value {
	v := valueOf(n)
	if v.Kind == ValueNull {
		return nil
	}
	return &v
}

func (t *TableDef) alter(cmd *pg.AlterTableCmd) {
	c := t.Column(cmd.GetName())
	switch cmd.GetSubtype() {
	case pg.AlterTableType_AT_AddColumn:
		if def := cmd.GetDef().GetColumnDef(); t.Column(def.GetColname()) == nil {
			t.column(def)
		}
	case pg.AlterTableType_AT_AddConstraint:
		t.constraint(cmd.GetDef().GetConstraint(), "")
	case pg.AlterTableType_AT_EnableRowSecurity:
		t.RowSecurity = true
	case pg.AlterTableType_AT_DisableRowSecurity:
		t.RowSecurity = false
	case pg.AlterTableType_AT_DropColumn:
		t.Columns = slices.DeleteFunc(t.Columns, func(c ColumnDef) bool { return c.Name == cmd.GetName() })
	case pg.AlterTableType_AT_DropConstraint:
		t.Unique = slices.DeleteFunc(t.Unique, func(u UniqueDef) bool { return u.Name == cmd.GetName() })
		t.Foreign = slices.DeleteFunc(t.Foreign, func(f ForeignDef) bool { return f.Name == cmd.GetName() })
	}
	if c == nil {
		return
	}
	switch cmd.GetSubtype() {
	case pg.AlterTableType_AT_AlterColumnType:
		c.Type = typeOf(cmd.GetDef().GetColumnDef().GetTypeName())
	case pg.AlterTableType_AT_ColumnDefault:
		c.Default = nil
		if cmd.GetDef() != nil {
			c.Default = defaultOf(cmd.GetDef())
		}
	case pg.AlterTableType_AT_AddIdentity:
		c.Default = &Value{}
	case pg.AlterTableType_AT_DropIdentity:
		c.Default = nil
	case pg.AlterTableType_AT_DropExpression:
		c.Default, c.Generated = nil, false
	}
}

func (d *Definitions) rename(n *pg.RenameStmt) {
	t := d.Table(named(n.GetRelation()))
	if n.GetRelation() == nil || t == nil {
		return
	}
	switch n.GetRenameType() {
	case pg.ObjectType_OBJECT_TABLE:
		t.Name.Name = n.GetNewname()
	case pg.ObjectType_OBJECT_COLUMN:
		t.renameColumn(n.GetSubname(), n.GetNewname())
	}
}

func (t *TableDef) renameColumn(from, to string) {
	if c := t.Column(from); c != nil {
		c.Name = to
	}
	for _, u := range t.Unique {
		for i, name := range u.Columns {
			if name == from {
				u.Columns[i] = to
			}
		}
	}
}

func (d *Definitions) drop(n *pg.DropStmt) {
	for _, o := range n.GetObjects() {
		parts := o.GetList().GetItems()
		switch n.GetRemoveType() {
		case pg.ObjectType_OBJECT_TABLE:
			gone := d.Table(nameOf(parts))
			d.Tables = slices.DeleteFunc(d.Tables, func(t *TableDef) bool { return t == gone })
		case pg.ObjectType_OBJECT_INDEX:
			name := nameOf(parts).Name
			for _, t := range d.Tables {
				t.Unique = slices.DeleteFunc(t.Unique, func(u UniqueDef) bool { return u.Name == name })
			}
		case pg.ObjectType_OBJECT_TRIGGER, pg.ObjectType_OBJECT_RULE:
			if len(parts) > 1 {
				d.dropOf(n.GetRemoveType(), nameOf(parts[:len(parts)-1]), nameOf(parts).Name)
			}
		}
	}
}

// dropOf drops a table's trigger or rule.
func (d *Definitions) dropOf(what pg.ObjectType, table Relation, name string) {
	t := d.Table(table)
	switch {
	case t == nil:
	case what == pg.ObjectType_OBJECT_RULE:
		t.Rules = max(t.Rules-1, 0)
	default:
		t.Triggers = slices.DeleteFunc(t.Triggers, func(g TriggerDef) bool { return g.Name == name })
	}
}

func uniqueIndex(n *pg.IndexStmt) UniqueDef {
	u := UniqueDef{Name: n.GetIdxname(), Partial: n.GetWhereClause() != nil, Primary: n.GetPrimary()}
	for _, e := range n.GetIndexParams() {
		name := e.GetIndexElem().GetName()
		if name == "" {
			u.Columns = nil
			return u
		}
		u.Columns = append(u.Columns, name)
	}
	return u
}

// trigger keeps a trigger's bits as Postgres' catalogue does: the statement has them so.
func (d *Definitions) trigger(n *pg.CreateTrigStmt) {
	t := d.Table(named(n.GetRelation()))
	if t == nil {
		return
	}
	const row = 1
	g := TriggerDef{Name: n.GetTrigname(), Type: int(n.GetTiming() | n.GetEvents())}
	if n.GetRow() {
		g.Type |= row
	}
	if n.GetReplace() {
		d.dropOf(pg.ObjectType_OBJECT_TRIGGER, t.Name, g.Name)
	}
	t.Triggers = append(t.Triggers, g)
}
