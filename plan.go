package wtcache

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// textPlan is what a text means whatever the session: its statements, and whether
// any of them can concern a rule. It is immutable but for the memo of bound.
type textPlan struct {
	touches bool
	// backslash says that the text holds a backslash and names a rule, so that the plan only
	// holds while standard_conforming_strings is on.
	backslash bool
	// words says that the text holds transaction words alone, which mean the same in every session.
	words bool
	stmts []*parser.Statement
	sql   string

	// model is the plan that this one follows but for its constants; nil where there is none.
	model  *textPlan
	filled parser.Filled // of a plan with a model

	// sizes are those of the statements. Plans of one shape share them.
	sizes *sizes

	// bound remembers the plan for the session that asked last. The sessions of
	// one pool nearly always are equal and so share one.
	bound atomic.Pointer[boundPlan]
}

// boundPlan is a text's plan for one kind of session.
type boundPlan struct {
	session  *rules.Session
	outdated bool
	steps    []step
	writes   bool // a step concerns a rule
	control  bool // a step is a transaction word
	shifts   bool // a step may change what the names in those after it mean
}

// action says how a step is carried out.
type action uint8

const (
	actPass action = iota
	actBegin
	actCommit
	actRollback
	actSavepoint
	actRelease
	actRollbackTo
	actPrepareTransaction
	actPrecise    // captured by RETURNING
	actPinned     // keys known from the statement; made absent
	actCoarse     // every entry of some rules is made absent
	actExecute    // SQL-level EXECUTE: what it writes is known by name at run time
	actUncaptured // cannot run in a transaction of ours; runs as it is, and that is said
	actRefuse
	actCommitPrepared // what another session wrote is committed
)

// step is one statement of a text as it is to be carried out.
type step struct {
	action action
	stmt   *parser.Statement
	text   string // the statement alone, as the caller wrote it

	table    *rules.Table      // actPrecise, actPinned
	spliced  string            // actPrecise: text with the captured columns
	lead     string            // what stands before the statement in spliced
	inserted []parser.Inserted // into text, in order; not what stands at its end
	hidden   int               // how many columns were spliced
	view     bool
	payloads bool // are captured: the row is the one that will be committed, and they are stored
	oldKeys  bool
	size     *size          // actPrecise: whether it writes more rows than are kept
	ahead    bool           // actCoarse: it takes long, and what becomes absent may be deleted while it runs
	unsized  bool           // actPrecise: its text may write any number of rows of the table
	pinned   *pinnedKeys    // keys known before the statement runs; nil where they are not
	coarse   []*rules.Table // rules whose entries become absent
	blurs    []*rules.Table // rules whose rows captured in this transaction may have changed again
	quiet    bool           // it may be the caller's mistake: not counted before it has succeeded
	reason   string         // why not precise
	unpinned string         // actPrecise: why its keys are not known before it runs
	err      error          // actRefuse
	session  bool           // the session is to be looked at again afterwards
	ddl      bool           // the catalogue is to be looked at again afterwards
	prepares []*rules.Table // SQL-level PREPARE: what the prepared statement writes
}

// untouched is the plan of every text that concerns no rule.
var untouched = &textPlan{}

// plan looks a text up. A text that concerns no rule costs one look-up here and
// nothing else.
func (c *conn) plan(ctx context.Context, sql string) (*textPlan, error) {
	// A definition that was just changed, here or on another connection, may have made
	// a name mean a ruled table.
	if c.gen != c.engine.current() && !c.inTx() {
		if err := c.probe(ctx); err != nil {
			return nil, err
		}
	}
	p, ok := c.gen.plans.Get(sql)
	if !ok {
		p = c.engine.planText(c.gen, sql)
	}
	if p.backslash && !c.literalsAreStandard() {
		return distrusted(sql), nil
	}
	return p, nil
}

// planText plans a text that the cache does not hold. What cost a parse is kept at once. What is
// cheap to make again, because the cheap scan settles that the text concerns no rule or because its
// shape has a plan, is kept when it comes again: a text with constants in it may never do so.
func (e *engine) planText(gen *generation, sql string) *textPlan {
	if !gen.filter.MayTouch(sql) {
		if gen.plans.Again(sql) {
			gen.plans.Put(sql, untouched)
		}
		return untouched
	}
	shape := shapes.Get().(*parser.Shape)
	defer shapes.Put(shape)
	if shape.Read(sql) {
		return e.planShaped(gen, sql, shape)
	}
	p := e.parseText(gen, sql)
	if p.sizes != nil {
		p.sizes.passing = shape.Passing()
	}
	gen.plans.Put(sql, p)
	return p
}

func (e *engine) parseText(gen *generation, sql string) *textPlan {
	e.stats.plansMade.Add(1)
	return gen.planText(sql)
}

// planText parses a text that the cheap scan did not settle.
func (g *generation) planText(sql string) *textPlan {
	p := &textPlan{sql: strings.Clone(sql), sizes: new(sizes)}
	p.stmts = parser.Parse(p.sql)
	p.touches = slices.ContainsFunc(p.stmts, func(s *parser.Statement) bool {
		// A view or a rewrite rule that is made over a ruled table writes nothing yet,
		// but is a new way to its rows.
		return g.concerns(s) || s.Kind == parser.KindDDL && len(g.filter.Mentions(p.sql[s.Span.Start:s.Span.End])) > 0
	})
	p.words = !slices.ContainsFunc(p.stmts, func(s *parser.Statement) bool { return control[s.Kind] == actPass })
	p.backslash = strings.IndexByte(sql, '\\') >= 0 && len(g.filter.Mentions(sql)) > 0
	if !p.touches && !p.backslash {
		return untouched
	}
	return p
}

// concerns says whether a statement may write a rule's rows, or changes the state
// that captures depend on.
func (g *generation) concerns(s *parser.Statement) bool {
	switch s.Kind {
	case parser.KindOther, parser.KindInsert, parser.KindUpdate, parser.KindDelete, parser.KindMerge,
		parser.KindTruncate, parser.KindCopyFrom, parser.KindExplain, parser.KindDDL:
		return s.All || s.SetConfig || slices.ContainsFunc(s.Written, g.ruled) ||
			len(g.acted(s)) > 0 || len(g.triggered(s)) > 0
	case parser.KindDo, parser.KindUnparsable:
		return true
	case parser.KindCall:
		return s.SetConfig
	}
	return true
}

func (g *generation) ruled(r parser.Relation) bool { return g.names[r.Name] }

// distrusted is the plan of a text whose literals the server reads in another way
// than the parser does.
func distrusted(sql string) *textPlan {
	return &textPlan{touches: true, sql: sql, stmts: []*parser.Statement{{
		Kind: parser.KindUnparsable, Span: parser.Span{End: len(sql)},
	}}}
}

// bind gives the text's plan for a session.
func (p *textPlan) bind(c *conn) *boundPlan {
	if b := p.bound.Load(); b != nil && b.session == c.session && b.outdated == c.outdated {
		return b
	}
	if p.model != nil {
		return p.bindLike(p.model.bind(c), c)
	}
	b := &boundPlan{session: c.session, outdated: c.outdated, steps: make([]step, len(p.stmts))}
	binder := binder{engine: c.engine, gen: c.gen, session: c.session, sql: p.sql, outdated: c.outdated || c.gen.degraded}
	for i := range p.stmts {
		b.steps[i] = binder.step(p.stmts[i])
		if st := &b.steps[i]; st.action == actPrecise {
			st.size, st.unsized = p.sizes.of(i, st.table), st.unsized && !p.sizes.passing
		}
		if span := p.stmts[i].Span; len(p.stmts) == 1 && b.steps[i].action == actPrecise {
			// Comments around the statement are the caller's, for the server's log, say.
			st := &b.steps[i]
			st.spliced, st.lead = p.sql[:span.Start]+st.spliced+p.sql[span.End:], p.sql[:span.Start]
		}
		b.control = b.control || b.steps[i].isControl()
		b.writes = b.writes || b.steps[i].isWrite()
		b.shifts = b.shifts || b.steps[i].session || b.steps[i].ddl
	}
	p.bound.Store(b)
	return b
}

func (s *step) isControl() bool {
	return s.action >= actBegin && s.action <= actPrepareTransaction
}

func (s *step) isWrite() bool { return s.action >= actPrecise }
