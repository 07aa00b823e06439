package parser

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// walk visits every message of a tree, parents first, fields in their order. It
// goes by the messages' descriptors, so no node type can be forgotten. visit
// says whether to go below.
func walk(m protoreflect.Message, visit func(protoreflect.ProtoMessage) bool) {
	if !visit(m.Interface()) {
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		switch {
		case field.Message() == nil || !m.Has(field):
		case field.IsList():
			for list, i := m.Get(field).List(), 0; i < list.Len(); i++ {
				walk(list.Get(i).Message(), visit)
			}
		default:
			walk(m.Get(field).Message(), visit)
		}
	}
}

func walkNode(n *pg.Node, visit func(protoreflect.ProtoMessage) bool) {
	if n != nil {
		walk(n.ProtoReflect(), visit)
	}
}

// writes is what the statements in a tree write when it runs.
type writes struct {
	written   []Relation // each once
	rows      int        // statements that write rows: INSERT, UPDATE, DELETE, MERGE, COPY FROM
	all       bool
	temporary bool
}

func (w *writes) add(r *pg.RangeVar) {
	if rel := relation(r); r != nil && !slices.Contains(w.written, rel) {
		w.written = append(w.written, rel)
	}
}

// isTemporary reports whether creating the relation makes a temporary one.
func isTemporary(r *pg.RangeVar) bool {
	return r.GetRelpersistence() == "t" || strings.HasPrefix(r.GetSchemaname(), "pg_temp")
}

// collectWrites finds every write in a tree. Bodies of views, rules and
// functions are definitions: they write nothing now.
func collectWrites(n *pg.Node) writes {
	var w writes
	walkNode(n, w.visit)
	return w
}

func (w *writes) visit(m protoreflect.ProtoMessage) bool {
	switch m := m.(type) {
	case *pg.InsertStmt:
		w.rows++
		w.add(m.GetRelation())
	case *pg.UpdateStmt:
		w.rows++
		w.add(m.GetRelation())
	case *pg.DeleteStmt:
		w.rows++
		w.add(m.GetRelation())
	case *pg.MergeStmt:
		w.rows++
		w.add(m.GetRelation())
	case *pg.CopyStmt:
		if m.GetIsFrom() {
			w.rows++
			w.add(m.GetRelation())
		}
	case *pg.TruncateStmt:
		for _, r := range m.GetRelations() {
			w.add(r.GetRangeVar())
		}
		w.all = w.all || m.GetBehavior() == pg.DropBehavior_DROP_CASCADE
	case *pg.IntoClause:
		w.add(m.GetRel())
		w.temporary = w.temporary || isTemporary(m.GetRel())
	case *pg.RefreshMatViewStmt:
		w.add(m.GetRelation())
	case *pg.ExplainStmt:
		return explainAnalyzes(m)
	case *pg.ViewStmt, *pg.RuleStmt, *pg.CreateFunctionStmt:
		return false
	}
	return true
}

func hasSublink(n *pg.Node) bool {
	found := false
	walkNode(n, func(m protoreflect.ProtoMessage) bool {
		_, is := m.(*pg.SubLink)
		found = found || is
		return !found
	})
	return found
}

func callsSetConfig(n *pg.Node) bool {
	found := false
	walkNode(n, func(m protoreflect.ProtoMessage) bool {
		if f, is := m.(*pg.FuncCall); is {
			names := stringList(f.GetFuncname())
			found = found || len(names) > 0 && names[len(names)-1] == "set_config"
		}
		return !found
	})
	return found
}
