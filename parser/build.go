package parser

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// builder fills a Statement from the tree of one statement.
type builder struct {
	stmt  *Statement
	words wordCounts
}

func (b *builder) build(node *pg.Node) {
	s := b.stmt
	switch n := node.GetNode().(type) {
	case *pg.Node_InsertStmt:
		b.insert(n.InsertStmt)
	case *pg.Node_UpdateStmt:
		b.update(n.UpdateStmt)
	case *pg.Node_DeleteStmt:
		b.delete(n.DeleteStmt)
	case *pg.Node_MergeStmt:
		b.merge(n.MergeStmt)
	case *pg.Node_SelectStmt:
		b.selectStmt(n.SelectStmt)
	case *pg.Node_CopyStmt:
		b.copy(n.CopyStmt)
	case *pg.Node_ExplainStmt:
		b.explain(n.ExplainStmt)
	case *pg.Node_TransactionStmt:
		b.transaction(n.TransactionStmt)
	case *pg.Node_PrepareStmt:
		s.Kind, s.Name = KindPrepare, n.PrepareStmt.GetName()
		b.nested(n.PrepareStmt.GetQuery())
	case *pg.Node_ExecuteStmt:
		s.Kind, s.Name = KindExecute, n.ExecuteStmt.GetName()
	case *pg.Node_DeallocateStmt:
		s.Kind, s.Name = KindDeallocate, n.DeallocateStmt.GetName()
	case *pg.Node_DoStmt:
		s.Kind, s.Body = KindDo, doBody(n.DoStmt)
	case *pg.Node_CallStmt:
		s.Kind = KindCall
		b.nested(node)
	case *pg.Node_VariableSetStmt:
		s.Kind = KindSession
	case *pg.Node_DiscardStmt:
		s.Kind = KindSession
		s.Concurrently = n.DiscardStmt.GetTarget() == pg.DiscardMode_DISCARD_ALL
	default:
		b.utility(node)
	}
}

// target sets what the statement writes at its top level.
func (b *builder) target(kind Kind, rel *pg.RangeVar) {
	b.stmt.Kind = kind
	b.stmt.Target = relation(rel)
	b.stmt.Written = []Relation{b.stmt.Target}
}

// ctes adds what data-modifying CTEs of a write add to it.
func (b *builder) ctes(node *pg.Node) {
	if b.words.writes < 2 {
		return
	}
	below := collectWrites(node)
	b.stmt.Nested = below.rows > 1
	b.stmt.Written = below.written // the statement's own target comes first
	b.stmt.All = b.stmt.All || below.all
}

// nested adds what a statement inside the statement writes.
func (b *builder) nested(node *pg.Node) {
	below := collectWrites(node)
	b.stmt.Written = append(b.stmt.Written, below.written...)
	b.stmt.Nested = below.rows > 0
	b.stmt.All = b.stmt.All || below.all
	b.stmt.TemporaryRelation = b.stmt.TemporaryRelation || below.temporary
}

func (b *builder) insert(n *pg.InsertStmt) {
	s := b.stmt
	b.target(KindInsert, n.GetRelation())
	s.Returning = len(n.GetReturningList()) > 0
	s.Columns, s.Rows = insertRows(n)
	s.Listed = listed(n)
	if c := n.GetOnConflictClause(); c != nil {
		s.Conflict = conflict(c)
		s.Assigned = assigned(c.GetTargetList())
		s.Sets = sets(c.GetTargetList())
	}
	s.Returned = b.returned(n.GetReturningList())
	b.ctes(&pg.Node{Node: &pg.Node_InsertStmt{InsertStmt: n}})
}

func (b *builder) update(n *pg.UpdateStmt) {
	s := b.stmt
	b.target(KindUpdate, n.GetRelation())
	s.Returning = len(n.GetReturningList()) > 0
	s.Assigned = assigned(n.GetTargetList())
	s.Sets = sets(n.GetTargetList())
	s.From = len(n.GetFromClause()) > 0
	s.Returned = b.returned(n.GetReturningList())
	b.where(n.GetWhereClause())
	b.ctes(&pg.Node{Node: &pg.Node_UpdateStmt{UpdateStmt: n}})
}

func (b *builder) delete(n *pg.DeleteStmt) {
	s := b.stmt
	b.target(KindDelete, n.GetRelation())
	s.Returning = len(n.GetReturningList()) > 0
	s.From = len(n.GetUsingClause()) > 0
	s.Returned = b.returned(n.GetReturningList())
	b.where(n.GetWhereClause())
	b.ctes(&pg.Node{Node: &pg.Node_DeleteStmt{DeleteStmt: n}})
}

func (b *builder) merge(n *pg.MergeStmt) {
	b.target(KindMerge, n.GetRelation())
	for _, w := range n.GetMergeWhenClauses() {
		if c := w.GetMergeWhenClause(); c.GetCommandType() == pg.CmdType_CMD_UPDATE {
			b.stmt.Assigned = append(b.stmt.Assigned, assigned(c.GetTargetList())...)
		}
	}
	b.stmt.Assigned = unique(b.stmt.Assigned)
	// The words of MERGE's own branches are no second write, but tell nothing apart.
	b.ctes(&pg.Node{Node: &pg.Node_MergeStmt{MergeStmt: n}})
}

func (b *builder) selectStmt(n *pg.SelectStmt) {
	if b.words.writes == 0 && b.words.into == 0 {
		return
	}
	b.nested(&pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: n}})
	if into := intoClause(n); into != nil {
		b.stmt.Kind = KindDDL
	}
}

// intoClause returns the INTO of a SELECT: the grammar keeps it in the leftmost
// SELECT of a set operation.
func intoClause(n *pg.SelectStmt) *pg.IntoClause {
	for n.GetLarg() != nil {
		n = n.GetLarg()
	}
	return n.GetIntoClause()
}

func (b *builder) copy(n *pg.CopyStmt) {
	if n.GetIsFrom() {
		b.target(KindCopyFrom, n.GetRelation())
		return
	}
	b.nested(n.GetQuery())
}

func (b *builder) explain(n *pg.ExplainStmt) {
	if !explainAnalyzes(n) {
		return
	}
	if name, ok := executedName(n.GetQuery()); ok {
		b.stmt.Kind, b.stmt.Name = KindExecute, name
	}
	b.nested(n.GetQuery())
	if b.stmt.Kind == KindOther && len(b.stmt.Written) > 0 {
		b.stmt.Kind = KindExplain
	}
}

// executedName finds an EXECUTE under EXPLAIN, alone or in CREATE TABLE AS.
func executedName(query *pg.Node) (string, bool) {
	if c := query.GetCreateTableAsStmt(); c != nil {
		query = c.GetQuery()
	}
	e := query.GetExecuteStmt()
	return e.GetName(), e != nil
}

// explainAnalyzes reports whether the explained statement runs. A value that is
// not plainly false counts as true.
func explainAnalyzes(n *pg.ExplainStmt) bool {
	analyze := false
	for _, o := range n.GetOptions() {
		if d := o.GetDefElem(); strings.EqualFold(d.GetDefname(), "analyze") {
			analyze = !isFalse(d.GetArg())
		}
	}
	return analyze
}

func isFalse(arg *pg.Node) bool {
	switch v := arg.GetNode().(type) {
	case *pg.Node_Integer:
		return v.Integer.GetIval() == 0
	case *pg.Node_Boolean:
		return !v.Boolean.GetBoolval()
	case *pg.Node_String_:
		text := v.String_.GetSval()
		return strings.EqualFold(text, "false") || strings.EqualFold(text, "off")
	}
	return false
}

func (b *builder) transaction(n *pg.TransactionStmt) {
	s := b.stmt
	s.Chain = n.GetChain()
	s.Name = n.GetSavepointName()
	switch n.GetKind() {
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START:
		s.Kind = KindBegin
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT:
		s.Kind = KindCommit
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		s.Kind = KindRollback
	case pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:
		s.Kind = KindSavepoint
	case pg.TransactionStmtKind_TRANS_STMT_RELEASE:
		s.Kind = KindRelease
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		s.Kind = KindRollbackTo
	case pg.TransactionStmtKind_TRANS_STMT_PREPARE:
		s.Kind, s.Name = KindPrepareTransaction, n.GetGid()
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED:
		s.Kind, s.Name = KindCommitPrepared, n.GetGid()
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED:
		s.Kind, s.Name = KindRollbackPrepared, n.GetGid()
	default:
		s.Kind = KindUnparsable
	}
}

func doBody(n *pg.DoStmt) string {
	for _, a := range n.GetArgs() {
		if d := a.GetDefElem(); d.GetDefname() == "as" {
			return d.GetArg().GetString_().GetSval()
		}
	}
	return ""
}
