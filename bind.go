package wtcache

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// binder turns the statements of one text into steps for one session.
type binder struct {
	engine   *engine
	gen      *generation
	session  *rules.Session
	sql      string
	outdated bool // columns and triggers may be others than the rules were bound to
}

func (b *binder) step(s *parser.Statement) step {
	st := step{stmt: s, text: b.sql[s.Span.Start:s.Span.End], session: s.SetConfig || s.TemporaryRelation}
	switch s.Kind {
	case parser.KindInsert, parser.KindUpdate, parser.KindDelete:
		b.write(&st)
	case parser.KindOther, parser.KindMerge, parser.KindTruncate, parser.KindCopyFrom, parser.KindExplain:
		b.coarse(&st, b.written(s), coarseReason[s.Kind])
	case parser.KindDDL:
		tables := b.written(s)
		if !s.TemporaryRelation || makesView.MatchString(st.text) {
			// What is only mentioned counts: a view or a child that is made in a transaction
			// is a way to the rows that is not known until the transaction has ended.
			tables = appendTables(tables, b.mentioned(st.text)...)
		}
		st.ddl = s.All || len(b.gen.touched(st.text)) > 0 || len(tables) > 0
		b.coarse(&st, tables, coarseReason[s.Kind])
	case parser.KindSession:
		st.session = true
	case parser.KindPrepare:
		st.prepares = b.written(s)
	case parser.KindExecute:
		st.action = actExecute
	case parser.KindDeallocate:
	case parser.KindCommitPrepared:
		st.action, st.coarse, st.reason = actCommitPrepared, b.gen.set.Tables, "COMMIT PREPARED of unknown writes"
	case parser.KindDo:
		b.do(&st)
	case parser.KindUnparsable:
		b.unparsable(&st)
	default:
		st.action = control[s.Kind]
	}
	b.relatives(&st)
	return st
}

// relatives adds what a statement does to ruled tables that it does not name.
func (b *binder) relatives(st *step) {
	switch st.stmt.Kind {
	case parser.KindInsert, parser.KindUpdate, parser.KindDelete, parser.KindMerge, parser.KindOther, parser.KindExplain:
	case parser.KindPrepare:
		st.prepares = appendTables(st.prepares, b.gen.acted(st.stmt)...)
		return
	case parser.KindCopyFrom, parser.KindTruncate:
		st.blurs = b.gen.triggered(st.stmt)
		return
	default:
		return
	}
	st.blurs = b.gen.triggered(st.stmt)
	acted := b.gen.acted(st.stmt)
	if len(acted) == 0 || st.action == actRefuse || st.action == actUncaptured {
		return
	}
	st.pinned, st.unpinned = nil, "more rows change than the statement names"
	st.coarse = appendTables(slices.Clone(st.coarse), acted...)
	if st.action != actPrecise {
		st.coarse = appendTables(st.coarse, st.table) // of actPinned; else nil
		st.action = actCoarse
		if st.reason == "" {
			st.reason = coarseForeignKey
		}
	}
}

var control = map[parser.Kind]action{
	parser.KindBegin: actBegin, parser.KindCommit: actCommit, parser.KindRollback: actRollback,
	parser.KindSavepoint: actSavepoint, parser.KindRelease: actRelease, parser.KindRollbackTo: actRollbackTo,
	parser.KindPrepareTransaction: actPrepareTransaction,
}

var coarseReason = map[parser.Kind]string{
	parser.KindOther:    "data-modifying CTE",
	parser.KindMerge:    "MERGE",
	parser.KindTruncate: "TRUNCATE",
	parser.KindCopyFrom: "COPY FROM",
	parser.KindExplain:  "EXPLAIN ANALYZE of a write",
	parser.KindDDL:      "definition of a ruled table changed",
}

// written gives the rules whose rows a statement can write.
func (b *binder) written(s *parser.Statement) []*rules.Table {
	if s.All {
		return b.gen.set.Tables
	}
	var tables []*rules.Table
	for _, r := range s.Written {
		if target, ok := b.session.Lookup(r.Schema, r.Name); ok {
			tables = appendTables(tables, target.Table)
			tables = appendTables(tables, target.Others...)
		}
	}
	return tables
}

func appendTables(to []*rules.Table, add ...*rules.Table) []*rules.Table {
	for _, t := range add {
		if t != nil && !slices.Contains(to, t) {
			to = append(to, t)
		}
	}
	return to
}

// coarse makes st a coarse write of tables; with none it stays a pass.
func (b *binder) coarse(st *step, tables []*rules.Table, reason string) {
	if len(tables) == 0 {
		return
	}
	st.action, st.coarse, st.reason = actCoarse, tables, reason
	if st.stmt.Concurrently {
		st.action = actUncaptured
		st.reason += " CONCURRENTLY, which cannot run in a transaction"
	}
}

// write plans an INSERT, UPDATE or DELETE.
func (b *binder) write(st *step) {
	s := st.stmt
	target, ok := b.session.Lookup(s.Target.Schema, s.Target.Name)
	switch {
	case s.Nested || !ok:
		b.coarse(st, b.written(s), "data-modifying CTE")
		return
	case b.outdated:
		b.coarse(st, b.written(s), "catalogue has changed")
		return
	case target.MissingSelect:
		st.action = actRefuse
		st.err = fmt.Errorf("%w: the role may write %s but not SELECT from it, so what it writes cannot be captured; run: %s", ErrPrivilege, target.Table.Name, target.Grant)
		return
	case target.RowSecurity && len(target.Others) == 0:
		if pinned, _ := b.pinned(st, target.Table); pinned != nil {
			st.action, st.table, st.pinned = actPinned, target.Table, pinned
			return
		}
	}
	if !target.Precise || s.CurrentOf {
		reason := target.Reason
		if s.CurrentOf {
			reason = "WHERE CURRENT OF"
		}
		b.coarse(st, b.written(s), reason)
		return
	}
	b.precise(st, target)
}

// precise splices the captured columns into the statement.
func (b *binder) precise(st *step, target rules.Target) {
	s, t := st.stmt, target.Table
	st.table, st.view, st.coarse = t, target.View, target.Others
	// After an AFTER trigger has run the row may be another than RETURNING showed; an eventual
	// write stores nothing.
	st.payloads = s.Kind != parser.KindDelete && !t.AfterTriggers && !b.engine.eventual(t)
	st.oldKeys = changesKeys(s, t)
	exprs := t.Capture(s.Ref(), target.View, st.payloads)
	st.hidden = len(exprs)
	var err error
	if st.oldKeys {
		st.hidden++
		if target.View {
			// A view's own condition can become a join, where only a SET value is
			// computed with the row that is updated.
			joined := *s
			joined.Sublink = true
			s = &joined
		}
		st.spliced, st.inserted, err = s.SpliceOldKeys(b.sql, exprs, t.OldKeys(s.Ref()), t.ColumnType)
	} else {
		st.spliced, err = s.SpliceReturning(b.sql, exprs)
	}
	if err != nil {
		st.spliced, st.inserted = "", nil
		b.coarse(st, b.written(s), "columns cannot be spliced in: "+err.Error())
		return
	}
	st.action, st.unsized = actPrecise, unsized(s, target)
	switch {
	case target.View:
		st.unpinned = "it is written through a view"
	case len(target.Others) > 0:
		st.unpinned = "it can write rows of several rules"
	case len(t.Entries) > 1 || len(t.Shared) > 0:
		st.unpinned = "a row of the rule has several keys, and a statement rarely shows them all"
	default:
		st.pinned, st.unpinned = b.pinned(st, t)
	}
}

// unsized says that nothing in a statement holds it to few rows.
func unsized(s *parser.Statement, target rules.Target) bool {
	switch {
	case s.Kind == parser.KindInsert:
		return s.Listed == 0
	case target.View:
		return true // its columns may have other names than the table's
	}
	return !target.Table.OneRow(func(column string) bool {
		_, ok := pinOf(s, column)
		return ok
	})
}

// changesKeys says whether a row may have had other keys before the statement.
func changesKeys(s *parser.Statement, t *rules.Table) bool {
	updates := s.Kind == parser.KindUpdate || s.Conflict != nil && s.Conflict.Update
	if !updates {
		return false
	}
	// A BEFORE trigger can assign what the statement does not, and a generated
	// column follows other columns.
	return t.BeforeTriggers || slices.ContainsFunc(t.KeyColumns, func(k rules.KeyColumn) bool {
		return k.Generated || slices.Contains(s.Assigned, k.Name)
	})
}

// pinned finds out whether every key that the statement can touch follows from
// its constants and parameters. Where they do not it says why.
func (b *binder) pinned(st *step, t *rules.Table) (p *pinnedKeys, why string) {
	s := st.stmt
	switch {
	case t.BeforeTriggers:
		return nil, "a BEFORE trigger may give the row another key"
	case changesKeys(s, t):
		return nil, "it may give rows another key"
	}
	for _, k := range t.KeyColumns {
		switch {
		case k.Canon == rules.CanonNone:
			return nil, fmt.Sprintf("how Postgres spells a value of key column %s is known only once it is stored", k.Name)
		case slices.Contains(s.Assigned, k.Name):
			return nil, "it may give rows another key"
		}
	}
	p = &pinnedKeys{table: t, stmt: s}
	if s.Kind != parser.KindInsert {
		if p = p.add(func(column string) (parser.Value, bool) { return pinOf(s, column) }); p == nil {
			return nil, "its WHERE does not compare every key column with a constant or a parameter by ="
		}
		return p, ""
	}
	return p.addInserted(s)
}

// addInserted adds the rows of an INSERT.
func (p *pinnedKeys) addInserted(s *parser.Statement) (*pinnedKeys, string) {
	switch {
	case s.Conflict != nil && s.Conflict.Update && !sameColumns(s.Conflict.Columns, p.table.KeyColumns):
		return nil, "ON CONFLICT finds the row that it updates by other columns than the key's"
	case s.Columns == nil:
		return nil, "the INSERT has no list of columns"
	case len(s.Rows) == 0:
		return nil, "the rows that it inserts are not in its text"
	}
	for _, row := range s.Rows {
		if p = p.add(func(column string) (parser.Value, bool) {
			i := slices.Index(s.Columns, column)
			if i < 0 || i >= len(row) {
				return parser.Value{}, false
			}
			return row[i], true
		}); p == nil {
			return nil, "the key of a row that it inserts is no constant and no parameter"
		}
	}
	return p, ""
}

func pinOf(s *parser.Statement, column string) (parser.Value, bool) {
	for _, pin := range s.Pins {
		if pin.Column == column {
			return pin.Value, true
		}
	}
	return parser.Value{}, false
}

func sameColumns(names []string, keys []rules.KeyColumn) bool {
	if len(names) != len(keys) {
		return false
	}
	for _, k := range keys {
		if !slices.Contains(names, k.Name) {
			return false
		}
	}
	return true
}

var endsTransaction = regexp.MustCompile(`(?i)\b(commit|rollback)\b`)

// makesView tells a temporary view of a ruled table from a temporary table of its name.
var makesView = regexp.MustCompile(`(?i)\bview\b`)

// do plans a DO block by the names in its text. One that ends transactions itself
// cannot run inside ours.
func (b *binder) do(st *step) {
	tables := b.gen.touched(st.text)
	st.session = true // its text does not show what it sets
	b.coarse(st, tables, "DO block")
	if st.action == actCoarse && endsTransaction.MatchString(st.stmt.Body) {
		st.action, st.reason = actUncaptured, "DO block that ends transactions itself"
	}
}

func (b *binder) unparsable(st *step) {
	tables := b.gen.touched(st.text)
	b.coarse(st, tables, "text that cannot be parsed")
	if len(tables) > 0 && strings.Contains(strings.TrimRight(st.text, "; \t\r\n"), ";") {
		st.action = actRefuse
		st.err = fmt.Errorf("%w: the text names %s, cannot be parsed here, and holds a semicolon before its end; send its statements one by one", ErrNotCapturable, tables[0].Name)
	}
}

func (b *binder) mentioned(text string) []*rules.Table {
	var tables []*rules.Table
	for _, name := range b.gen.filter.Mentions(text) {
		for _, t := range b.gen.set.TablesByName(name) {
			tables = appendTables(tables, t)
		}
	}
	return tables
}
