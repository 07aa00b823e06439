package wtcache

import (
	"database/sql/driver"
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// explaining is one statement on its way to an Explanation.
type explaining struct {
	x     *Explainer
	st    *step
	alone bool   // the text has no other statement
	whole string // the text
	args  []driver.NamedValue
	at    *places
	out   Explanation
}

func (e *explaining) explain() Explanation {
	e.describe()
	switch e.out.Class = e.classify(); e.out.Class {
	case ClassPrecise, ClassPinned:
		e.keyed()
	case ClassCoarse:
		e.coarse()
	case ClassRefused:
		e.refused()
	case ClassNotCaptured:
		e.notCaptured()
	case ClassTransaction:
		e.transaction()
	default:
		e.passed()
	}
	e.warn()
	return e.out
}

// describe fills in what is the same for every class.
func (e *explaining) describe() {
	st := e.st
	start := st.stmt.Span.Start
	first, keyword := parser.FirstWord(st.text)
	e.out = Explanation{
		Position: e.at.find(start + first), Text: st.text, Kind: kindOf(st.stmt, keyword), Reason: st.reason,
		Tables: []ExplainedTable{}, Sent: st.text,
	}
	switch {
	case st.action == actPrecise:
		e.out.Sent = st.spliced
	case e.alone:
		e.out.Sent = e.whole // with the comments and the semicolon behind it
	}
	if st.stmt.Kind != parser.KindUnparsable {
		return
	}
	if problem, at, ok := parser.SyntaxError(st.text); ok {
		e.out.SyntaxError = &SyntaxError{Problem: problem, Position: e.at.find(start + at)}
	}
}

// kindOf names a statement as people do. A WITH is what it comes to.
func kindOf(s *parser.Statement, keyword string) string {
	switch s.Kind {
	case parser.KindInsert:
		return "INSERT"
	case parser.KindUpdate:
		return "UPDATE"
	case parser.KindDelete:
		return "DELETE"
	case parser.KindMerge:
		return "MERGE"
	case parser.KindCopyFrom:
		return "COPY FROM"
	case parser.KindExplain:
		return "EXPLAIN ANALYZE"
	case parser.KindOther:
		if keyword == "WITH" {
			return "SELECT"
		}
	case parser.KindUnparsable:
		return "unparsable"
	case parser.KindRollbackTo:
		return "ROLLBACK TO"
	case parser.KindPrepareTransaction:
		return "PREPARE TRANSACTION"
	case parser.KindCommitPrepared:
		return "COMMIT PREPARED"
	case parser.KindRollbackPrepared:
		return "ROLLBACK PREPARED"
	}
	return keyword
}

// classify gives the plan's action a name. What is not followed is no other action to the
// planner than what need not be.
func (e *explaining) classify() Class {
	st := e.st
	switch st.action {
	case actPrecise:
		return ClassPrecise
	case actPinned:
		return ClassPinned
	case actCoarse, actCommitPrepared:
		return ClassCoarse
	case actRefuse:
		return ClassRefused
	case actUncaptured:
		return ClassNotCaptured
	case actPass:
		return e.classifyPassed()
	}
	return ClassTransaction
}

func (e *explaining) classifyPassed() Class {
	s := e.st.stmt
	switch {
	case e.x.gen == nil:
		return ClassUnruled
	case s.Kind == parser.KindRollbackPrepared:
		return ClassTransaction
	case len(e.st.blurs) > 0 || len(e.functions()) > 0:
		return ClassNotCaptured
	case e.st.session || e.st.ddl || s.Kind == parser.KindSession || s.Kind == parser.KindPrepare || s.Kind == parser.KindDeallocate:
		return ClassSession
	case len(e.mentioned()) > 0:
		return ClassRead
	}
	return ClassUnruled
}

// functions gives the functions that the text calls and that may write ruled tables. A
// definition calls none.
func (e *explaining) functions() []rules.Function {
	switch e.st.stmt.Kind {
	case parser.KindDDL, parser.KindSession, parser.KindPrepare, parser.KindUnparsable:
		return nil
	}
	if len(e.x.functions) == 0 {
		return nil
	}
	called := e.called()
	var all []rules.Function
	for _, f := range e.x.functions {
		if slices.Contains(called, f.Name.Table) {
			all = append(all, f)
		}
	}
	return all
}

// called gives the bare names of what the text calls; a DO block does so inside a string.
func (e *explaining) called() []string {
	if e.st.stmt.Kind != parser.KindDo {
		return parser.Calls(e.st.text)
	}
	var names []string
	for _, r := range parser.ReadBody(e.st.text, true).Calls {
		names = append(names, r.Name)
	}
	return names
}

// mentioned gives the ruled tables whose names, or those of what is over them, are in the text.
func (e *explaining) mentioned() []*rules.Table {
	var tables []*rules.Table
	for _, name := range e.x.gen.filter.Mentions(e.st.text) {
		tables = appendTables(tables, e.x.gen.set.TablesByName(name)...)
	}
	return tables
}

// table adds a ruled table.
func (e *explaining) table(t *rules.Table, how string, class Class, entries []ExplainedEntry) {
	consistency := rules.Strict
	if e.x.engine.eventual(t) {
		consistency = rules.Eventual
	}
	if entries == nil {
		entries = []ExplainedEntry{}
	}
	e.out.Tables = append(e.out.Tables, ExplainedTable{
		Table: t.Name.String(), Rule: t.Rule.Pos.String(), How: how, Class: class,
		Consistency: string(consistency), Apply: string(t.Rule.Apply), RedisDown: string(t.Rule.RedisDown), Entries: entries,
	})
}

// all gives every key of a table one effect.
func all(t *rules.Table, effect Effect) []ExplainedEntry {
	entries := make([]ExplainedEntry, 0, len(t.Entries)+len(t.Shared))
	for _, e := range t.Entries {
		entries = append(entries, ExplainedEntry{Name: e.Name, Key: e.Key.String(), Effect: effect, Keys: []string{unknownKey(e.Key)}})
	}
	for _, k := range t.Shared {
		entries = append(entries, ExplainedEntry{Key: k.String(), Effect: effect, Keys: []string{unknownKey(k)}})
	}
	return entries
}

// sweep adds the tables of which every entry becomes absent.
func (e *explaining) sweep() {
	actors := e.x.gen.actors(e.st.stmt)
	for _, t := range e.st.coarse {
		how := howOf(e.st.stmt)
		if i := slices.IndexFunc(actors, func(r rules.Relative) bool { return r.Table == t }); i >= 0 && !e.names(t) {
			how = "foreign-key"
			if actors[i].Trigger {
				how = "trigger"
			}
		}
		e.table(t, how, ClassCoarse, all(t, EffectSwept))
	}
}

// names says whether the statement names what it writes of a table.
func (e *explaining) names(t *rules.Table) bool {
	return slices.ContainsFunc(e.st.stmt.Written, func(r parser.Relation) bool {
		target, ok := e.x.session.Lookup(r.Schema, r.Name)
		return ok && (target.Table == t || slices.Contains(target.Others, t))
	})
}

func howOf(s *parser.Statement) string {
	if s.Nested {
		return "write"
	}
	switch s.Kind {
	case parser.KindInsert:
		if s.Conflict != nil && s.Conflict.Update {
			return "upsert"
		}
		return "insert"
	case parser.KindUpdate:
		return "update"
	case parser.KindDelete:
		return "delete"
	case parser.KindMerge:
		return "merge"
	case parser.KindTruncate:
		return "truncate"
	case parser.KindCopyFrom:
		return "copy"
	case parser.KindDDL:
		return "definition"
	}
	return "write"
}

// keyed explains a write whose rows, or whose keys, are known.
func (e *explaining) keyed() {
	st, eventual := e.st, e.x.engine.eventual(e.st.table)
	e.table(st.table, howOf(st.stmt), e.out.Class, e.entries())
	e.sweep()
	e.out.RedisDown = e.redisDown()
	e.ordered()
	if st.action == actPinned {
		e.out.Why = fmt.Sprintf("Row-level security is in force on %s, so that reading its columns back could change which rows the statement touches; every key that it can touch is in its text, so these keys become absent.", st.table.Name)
		atCommit := "fenced before it and absent after it"
		if eventual {
			atCommit = "and absent after it"
		}
		e.out.Inside = fmt.Sprintf("The statement runs as it is; its keys are noted until COMMIT, %s. %s", atCommit, rolledBackCostsNothing)
		return
	}
	e.out.Why = fmt.Sprintf("RETURNING shows the rows of %s that it writes: %s are captured in the statement itself, while the rows are locked.",
		st.table.Name, e.captured())
	if len(st.coarse) > 0 {
		e.out.Why += fmt.Sprintf(" Every entry of %s becomes absent, too: %s.", listTables(st.coarse), e.alsoCoarse())
	}
	if e.x.engine.mayBeLarge(st) {
		e.out.Why += fmt.Sprintf(" Nothing in its text holds it to few rows of a large table: before its first run by Exec, unprepared and outside a transaction, the planner is asked (%s) how many it expects. More than %d, or as many written the last time, are not captured: every entry of %s becomes absent.",
			strings.TrimSpace(askSize), e.x.engine.cfg.MaxCapturedRows, st.table.Name)
	}
	atCommit := "then their keys are fenced, COMMIT is sent, and they are applied"
	if eventual {
		atCommit = "COMMIT is sent, and then their entries become absent"
	}
	e.out.Inside = fmt.Sprintf("The captured rows are kept in memory until COMMIT (at most %d a transaction; past that every entry of the rule becomes absent), %s. %s",
		e.x.engine.cfg.MaxCapturedRows, atCommit, rolledBackCostsNothing)
}

const rolledBackCostsNothing = "A rollback costs nothing in Redis."

// captured says what stands in RETURNING.
func (e *explaining) captured() string {
	parts := []string{"their keys"}
	if e.st.oldKeys {
		parts = append(parts, "the keys that they had before")
	}
	if e.st.payloads && slices.ContainsFunc(e.st.table.Entries, func(b *rules.BoundEntry) bool { return b.Strategy == rules.StrategyWrite }) {
		parts = append(parts, "their payloads")
	}
	return enumerate(parts)
}

// alsoCoarse says why a precise write makes other entries absent.
func (e *explaining) alsoCoarse() string {
	if actors := e.x.gen.actors(e.st.stmt); len(actors) > 0 {
		return causes(actors)
	}
	return "the relation is a part, or a view, of several ruled tables"
}

// warn adds what is worth knowing beside the class.
func (e *explaining) warn() {
	st := e.st
	if e.x.gen == nil {
		return
	}
	if e.out.SyntaxError != nil {
		e.out.Warnings = append(e.out.Warnings, "The parser is that of Postgres 16: what a later server understands is not parsed here, either.")
	}
	if st.action >= actPrecise {
		for _, f := range e.functions() {
			e.out.Warnings = append(e.out.Warnings, fmt.Sprintf("Function %s, which it calls, may write %s; that is not captured.", f.Name, f.Table.Name))
		}
		for _, r := range e.x.gen.triggers(st.stmt) {
			e.out.Warnings = append(e.out.Warnings, fmt.Sprintf("A trigger of %s (function %s) may write %s: entries of rows of it that the same transaction captured become absent, and other rows that the trigger writes are not captured.", r.Name, r.By, r.Table.Name))
		}
	}
	if t := st.table; t != nil && t.AfterTriggers && st.stmt.Kind != parser.KindDelete && !e.x.engine.eventual(t) {
		e.out.Warnings = append(e.out.Warnings, fmt.Sprintf("%s has an AFTER trigger, which may change the row again: its entries become absent instead of being written.", t.Name))
	}
	if e.x.outdated || e.x.gen.degraded {
		e.out.Warnings = append(e.out.Warnings, "The rules no longer fit the catalogue: until they do every ruled write is coarse.")
	}
}

// redisDown says what happens while Redis cannot be fenced.
func (e *explaining) redisDown() string {
	tables := appendTables(slices.Clone(e.st.coarse), e.st.table)
	if slices.ContainsFunc(tables, func(t *rules.Table) bool { return t.Rule.RedisDown == rules.Refuse && !e.x.engine.eventual(t) }) {
		return "redis_down: refuse. It is rolled back, or not sent, and returns a *wtcache.RefusedError."
	}
	if e.x.engine.cfg.Outbox == OutboxOff {
		return "redis_down: queue, without an outbox. It is committed, and what it owes to Redis is kept in memory, where a crash loses it."
	}
	return fmt.Sprintf("redis_down: queue. It is committed together with the keys that it owes, in the outbox (schema %s); the first such write of an outage waits until no process serves what it replaces.", e.x.engine.cfg.Outbox)
}
