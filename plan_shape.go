package wtcache

import (
	"strings"
	"sync"

	"github.com/wtcache/wtcache/parser"
)

// shapePlan is what is known of the texts of one shape: that they concern no rule (the model is
// untouched), or the plan of the template's own text, which each of them follows; or, the zero
// value, that each is to be parsed.
type shapePlan struct {
	template *parser.Template
	model    *textPlan
}

// shapes are spare: a text's shape is needed only while the text is planned.
var shapes = sync.Pool{New: func() any { return new(parser.Shape) }}

// planShaped plans a text by its shape. One that comes for the second time gets a plan, which
// costs two parses; until then, and where it can have none, its texts are parsed.
func (e *engine) planShaped(gen *generation, sql string, shape *parser.Shape) *textPlan {
	known, ok := gen.shaped.GetShape(shape)
	if !ok && gen.shaped.KeepsShape(shape) && gen.shaped.AgainShape(shape) {
		e.stats.plansMade.Add(1)
		known = gen.newShapePlan(sql, shape)
		gen.shaped.PutShape(shape, known)
	}
	again := gen.plans.Again(sql)
	if again {
		sql = strings.Clone(sql) // the plan refers to it and is kept
	}
	p := gen.planLike(known, sql, shape)
	if p == nil {
		p = e.parseText(gen, sql)
		if p.sizes != nil {
			p.sizes.passing = known != nil || shape.Passing() || !gen.shaped.KeepsShape(shape)
		}
	}
	if again {
		gen.plans.Put(sql, p)
	}
	return p
}

// newShapePlan makes the plan of a shape. Its texts differ in nothing that planning looks at but
// the constants that Fill knows of, and backslashes: they are no definitions and no
// transaction words.
func (g *generation) newShapePlan(sql string, shape *parser.Shape) *shapePlan {
	template := parser.NewTemplate(sql, shape)
	switch {
	case template == nil:
		return &shapePlan{}
	case !g.concerns(template.Own()):
		return &shapePlan{model: untouched}
	case template.Own().Kind == parser.KindOther:
		return &shapePlan{}
	}
	return &shapePlan{template: template, model: &textPlan{
		touches: true, sql: template.Text(), stmts: []*parser.Statement{template.Own()},
		sizes: &sizes{passing: shape.Passing()},
	}}
}

// planLike gives the plan of a text of the shape; nil where it is to be parsed.
func (g *generation) planLike(known *shapePlan, sql string, shape *parser.Shape) *textPlan {
	if known == nil || known.model == nil {
		return nil
	}
	backslash := shape.Backslash() && len(g.filter.Mentions(sql)) > 0
	switch {
	case known.template != nil:
		p := &textPlan{touches: true, backslash: backslash, sql: sql, model: known.model, filled: known.template.Fill(sql, shape)}
		p.stmts = []*parser.Statement{p.filled.Statement}
		return p
	case backslash:
		return &textPlan{backslash: true}
	}
	return untouched
}

// bindLike gives the plan for the session that the model was bound for: its step with this
// text's constants.
func (p *textPlan) bindLike(model *boundPlan, c *conn) *boundPlan {
	b := &boundPlan{session: model.session, outdated: model.outdated, writes: model.writes, control: model.control, shifts: model.shifts}
	st := model.steps[0]
	span := p.stmts[0].Span
	st.stmt, st.text = p.stmts[0], p.sql[span.Start:span.End]
	if st.action == actPrecise {
		st.spliced, st.inserted = p.filled.Splice(st.spliced, st.inserted)
		st.lead = p.sql[:span.Start]
	}
	if st.pinned != nil {
		binder := binder{gen: c.gen, session: c.session, sql: p.sql}
		st.pinned, st.unpinned = binder.pinned(&st, st.table)
	}
	b.steps = []step{st}
	p.bound.Store(b)
	return b
}
