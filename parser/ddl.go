package parser

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// utility handles the statements that change definitions and those that change
// nothing that matters here.
func (b *builder) utility(node *pg.Node) {
	s := b.stmt
	switch n := node.GetNode().(type) {
	case *pg.Node_TruncateStmt:
		s.Kind = KindTruncate
		below := collectWrites(node)
		s.Written, s.All = below.written, below.all
		return
	case *pg.Node_CreateTableAsStmt:
		s.Kind = KindDDL
		if name, ok := executedName(node); ok {
			s.Kind, s.Name = KindExecute, name
		}
		into := n.CreateTableAsStmt.GetInto().GetRel()
		s.Written = []Relation{relation(into)}
		s.TemporaryRelation = isTemporary(into)
		b.nested(n.CreateTableAsStmt.GetQuery())
		return
	case *pg.Node_DeclareCursorStmt:
		b.nested(n.DeclareCursorStmt.GetQuery())
		return
	case nil:
		s.Kind = KindUnparsable
		return
	}
	s.Concurrently = outsideTransaction(node)
	if changesNothing(node) {
		return
	}
	s.Kind = KindDDL
	s.Written, s.TemporaryRelation = namedRelations(node)
	s.All = changesUnnamed(node)
}

// changesNothing lists the statements that change neither rows nor definitions
// nor the session. What is not listed counts as DDL.
func changesNothing(node *pg.Node) bool {
	switch node.GetNode().(type) {
	case *pg.Node_VariableShowStmt, *pg.Node_ListenStmt, *pg.Node_UnlistenStmt, *pg.Node_NotifyStmt,
		*pg.Node_FetchStmt, *pg.Node_ClosePortalStmt, *pg.Node_LockStmt, *pg.Node_CheckPointStmt,
		*pg.Node_VacuumStmt, *pg.Node_ClusterStmt, *pg.Node_ReindexStmt, *pg.Node_CommentStmt,
		*pg.Node_SecLabelStmt, *pg.Node_ConstraintsSetStmt:
		return true
	}
	return false
}

// outsideTransaction reports the forms that Postgres refuses inside a
// transaction block.
func outsideTransaction(node *pg.Node) bool {
	switch n := node.GetNode().(type) {
	case *pg.Node_IndexStmt:
		return n.IndexStmt.GetConcurrent()
	case *pg.Node_DropStmt:
		return n.DropStmt.GetConcurrent()
	case *pg.Node_AlterTableStmt:
		return slices.ContainsFunc(n.AlterTableStmt.GetCmds(), func(c *pg.Node) bool {
			return c.GetAlterTableCmd().GetDef().GetPartitionCmd().GetConcurrent()
		})
	case *pg.Node_ReindexStmt:
		switch n.ReindexStmt.GetKind() {
		case pg.ReindexObjectType_REINDEX_OBJECT_SCHEMA, pg.ReindexObjectType_REINDEX_OBJECT_SYSTEM, pg.ReindexObjectType_REINDEX_OBJECT_DATABASE:
			return true
		}
		return slices.ContainsFunc(n.ReindexStmt.GetParams(), func(p *pg.Node) bool {
			return p.GetDefElem().GetDefname() == "concurrently" && !isFalse(p.GetDefElem().GetArg())
		})
	case *pg.Node_VacuumStmt:
		return n.VacuumStmt.GetIsVacuumcmd()
	case *pg.Node_ClusterStmt:
		return n.ClusterStmt.GetRelation() == nil
	case *pg.Node_CreatedbStmt, *pg.Node_DropdbStmt, *pg.Node_CreateTableSpaceStmt, *pg.Node_DropTableSpaceStmt,
		*pg.Node_AlterSystemStmt, *pg.Node_CreateSubscriptionStmt, *pg.Node_AlterSubscriptionStmt, *pg.Node_DropSubscriptionStmt:
		return true
	}
	return false
}

// changesUnnamed reports DDL that can drop, rename or rewrite relations that it
// does not name, or change how their rows read.
func changesUnnamed(node *pg.Node) bool {
	switch n := node.GetNode().(type) {
	case *pg.Node_DropStmt:
		return n.DropStmt.GetBehavior() == pg.DropBehavior_DROP_CASCADE
	case *pg.Node_DropOwnedStmt, *pg.Node_AlterExtensionStmt:
		return true
	case *pg.Node_AlterEnumStmt: // a renamed label changes how rows read
		return n.AlterEnumStmt.GetOldVal() != ""
	case *pg.Node_RenameStmt:
		switch n.RenameStmt.GetRenameType() {
		case pg.ObjectType_OBJECT_SCHEMA, pg.ObjectType_OBJECT_ATTRIBUTE:
			return true
		}
	case *pg.Node_AlterTableStmt: // ALTER TYPE of a composite type rewrites what uses it
		return n.AlterTableStmt.GetObjtype() == pg.ObjectType_OBJECT_TYPE
	}
	return false
}

// namedRelations returns the relations that DDL names as its object, by old and
// by new name. The queries in it (of a view, a rule, a policy) change nothing.
func namedRelations(node *pg.Node) (named []Relation, temporary bool) {
	var w writes
	walkNode(node, func(m protoreflect.ProtoMessage) bool {
		switch m := m.(type) {
		case *pg.SelectStmt, *pg.InsertStmt, *pg.UpdateStmt, *pg.DeleteStmt, *pg.MergeStmt:
			return false
		case *pg.RangeVar:
			w.add(m)
			w.temporary = w.temporary || isTemporary(m)
		case *pg.DropStmt:
			w.addObjects(m)
		case *pg.RenameStmt:
			if r := m.GetRelation(); r != nil && m.GetSubname() == "" {
				w.add(&pg.RangeVar{Schemaname: r.GetSchemaname(), Relname: m.GetNewname(), Inh: true})
			}
		case *pg.AlterObjectSchemaStmt:
			if r := m.GetRelation(); r != nil {
				w.add(&pg.RangeVar{Schemaname: m.GetNewschema(), Relname: r.GetRelname(), Inh: true})
			}
		}
		return true
	})
	return w.written, w.temporary
}

// addObjects adds the relations of a DROP, whose names the grammar keeps as lists.
func (w *writes) addObjects(d *pg.DropStmt) {
	owned := 0 // names at the end that are not the relation's
	switch d.GetRemoveType() {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_VIEW, pg.ObjectType_OBJECT_MATVIEW,
		pg.ObjectType_OBJECT_FOREIGN_TABLE, pg.ObjectType_OBJECT_SEQUENCE, pg.ObjectType_OBJECT_INDEX:
	case pg.ObjectType_OBJECT_TRIGGER, pg.ObjectType_OBJECT_RULE, pg.ObjectType_OBJECT_POLICY:
		owned = 1
	default:
		return
	}
	for _, o := range d.GetObjects() {
		names := stringList(o.GetList().GetItems())
		if len(names) <= owned {
			continue
		}
		names = names[:len(names)-owned]
		r := &pg.RangeVar{Relname: names[len(names)-1], Inh: true}
		if len(names) > 1 {
			r.Schemaname = names[len(names)-2]
		}
		w.add(r)
	}
}
