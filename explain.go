package wtcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"log/slog"
	"unicode/utf8"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// Explanation says what the driver does with one statement.
type Explanation struct {
	Position Position `json:"position"` // of the statement in its text
	Text     string   `json:"text"`     // the statement alone, as it was written
	Kind     string   `json:"kind"`     // INSERT, UPDATE, SELECT, ALTER TABLE, …
	Class    Class    `json:"class"`
	Why      string   `json:"why"` // a full sentence
	// Reason is the planner's own word for what is not precise, as the log has it; "" where nothing is.
	Reason string           `json:"reason,omitempty"`
	Tables []ExplainedTable `json:"tables"` // never nil
	// Sent is the text that Postgres gets, "" where the statement is refused.
	Sent string `json:"sent"`
	// Order is what comes first in a write of ruled rows outside a transaction, OrderWhy a sentence on it.
	Order    Order  `json:"order,omitempty"`
	OrderWhy string `json:"order_why,omitempty"`
	// Outside and Inside say, in sentences, what happens outside and inside a transaction.
	Outside string `json:"outside"`
	Inside  string `json:"inside"`
	// RedisDown says what happens while Redis cannot be fenced; "" where nothing is owed to it.
	RedisDown string   `json:"redis_down,omitempty"`
	Warnings  []string `json:"warnings,omitempty"`
	// Advice is how to make the write precise, or captured; "" where that needs nothing or cannot be had.
	Advice string `json:"advice,omitempty"`
	// AsOneString says what is otherwise where all statements of the text are sent as one string. The first has it.
	AsOneString string `json:"as_one_string,omitempty"`
	// SyntaxError is why the statement cannot be parsed; nil where it can.
	SyntaxError *SyntaxError `json:"syntax_error,omitempty"`
}

// Class says how well a statement is followed.
type Class string

// The classes.
const (
	ClassUnruled     Class = "unruled"      // goes by: it concerns no rule
	ClassRead        Class = "read"         // names a ruled table and changes none of its rows
	ClassTransaction Class = "transaction"  // BEGIN, COMMIT, SAVEPOINT, …: followed
	ClassSession     Class = "session"      // changes what later statements mean: followed
	ClassPrecise     Class = "precise"      // the very rows
	ClassPinned      Class = "pinned"       // the keys that it names become absent
	ClassCoarse      Class = "coarse"       // every entry of some rules becomes absent
	ClassRefused     Class = "refused"      // returns an error and does nothing
	ClassNotCaptured Class = "not-captured" // may change ruled rows, and is not followed
)

// Order is what comes first in a write of ruled rows outside a transaction.
type Order string

// The orders.
const (
	OrderFenceFirst  Order = "fence-first"  // the keys are fenced, then the statement commits by itself
	OrderLockFirst   Order = "lock-first"   // in a transaction of the driver's: the statement, the fences, COMMIT
	OrderAfterCommit Order = "after-commit" // the statement commits by itself, and Redis hears of it afterwards
)

// Position is a place in a text. Line and Column count from 1, Column in characters.
type Position struct {
	Byte   int `json:"byte"`
	Line   int `json:"line"`
	Column int `json:"column"`
}

// SyntaxError is what the parser says of a statement, and where.
type SyntaxError struct {
	Problem  string   `json:"problem"`
	Position Position `json:"position"`
}

// ExplainedTable is a ruled table that a statement touches.
type ExplainedTable struct {
	Table string `json:"table"` // with its schema
	Rule  string `json:"rule"`  // where the rule is: file:line:column
	// How: insert, upsert, update, delete, merge, truncate, copy, definition, write (the text does not show which, or
	// several), foreign-key, trigger, function, mention.
	How         string           `json:"how"`
	Class       Class            `json:"class"`       // of what happens to this table
	Consistency string           `json:"consistency"` // strict or eventual
	Apply       string           `json:"apply"`       // sync or async
	RedisDown   string           `json:"redis_down"`  // queue or refuse
	Entries     []ExplainedEntry `json:"entries"`     // never nil; those that a read leaves alone are not listed
}

// ExplainedEntry is what happens to the keys of one template.
type ExplainedEntry struct {
	Name   string `json:"name"` // of the entry; "" for a key of `invalidate`
	Key    string `json:"key"`  // the template
	Effect Effect `json:"effect"`
	// Keys are those that the statement touches, a row each, as far as its text and arguments show them:
	// "user:42", "user:{id=$1}", "user:{id}" where nothing is known.
	Keys []string `json:"keys"`
	// OldKeys are those that the rows had before, where they can change. Where they have, these become absent.
	OldKeys []string `json:"old_keys,omitempty"`
	Why     string   `json:"why,omitempty"`
}

// Effect is what becomes of an entry once the write is committed.
type Effect string

// The effects.
const (
	EffectWritten Effect = "written" // the new payload
	EffectAbsent  Effect = "absent"  // nothing, until a reader fills it
	EffectSwept   Effect = "swept"   // every key of the template becomes absent
	EffectStale   Effect = "stale"   // untouched, though the row may change: the old row until the TTL ends
)

// Explainer says what the driver does with statements, without sending one: it plans them
// with the driver's own planner. It holds a session's view of the catalogue as it was when
// the Explainer was made, nothing that has to be closed, and is safe for concurrent use.
type Explainer struct {
	engine      *engine
	gen         *generation    // nil with ModeOff
	session     *rules.Session // under gen
	outdated    bool
	nonStandard bool // a backslash in '…' is no ordinary character in this session
	functions   []rules.Function
}

// NewExplainer reads cfg's rules, and the catalogue and the role's rights through a connection of base, which it closes again. It needs
// no Redis and asks none. Errors wrap ErrConfig for settings that cannot be used and ErrRules for rules that
// cannot be read or do not fit the catalogue. The context is for this call alone.
func NewExplainer(ctx context.Context, base driver.Connector, cfg Config) (*Explainer, error) {
	cfg = cfg.withDefaults()
	cfg.Logger = slog.New(slog.DiscardHandler) // what the catalogue is warned of is check's to tell
	if cfg.Redis == nil && cfg.RedisURL == "" {
		cfg.RedisURL = "redis://not.asked" // validate insists on one; nobody opens it
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	e := &engine{cfg: cfg, log: cfg.Logger, loading: make(chan struct{}, 1)}
	if cfg.Mode == ModeOff {
		return &Explainer{engine: e}, nil
	}
	var err error
	if e.rules, err = loadRules(cfg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRules, err)
	}
	c, err := e.bareConn(ctx, base)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.base.conn.Close() }() // nothing was written
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	return c.explainer(), nil
}

// ExplainerOf explains for a *sql.DB that was opened through wtcache, as one of its
// connections sees things now: the session and the catalogue are looked at anew, so call
// it again after a migration. Errors wrap ErrConfig for any other *sql.DB. The context is for this call alone.
func ExplainerOf(ctx context.Context, db *sql.DB) (*Explainer, error) {
	e, err := engineOf(db)
	if err != nil {
		return nil, err
	}
	if e.cfg.Mode == ModeOff {
		return &Explainer{engine: e}, nil
	}
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // gives it back; nothing was written
	var x *Explainer
	err = conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(interface {
			explainAnew(context.Context) (*Explainer, error)
		})
		if !ok {
			return fmt.Errorf("%w: the connection is a %T and none of wtcache's", ErrConfig, driverConn)
		}
		x, err = c.explainAnew(ctx)
		return err
	})
	return x, err
}

// explainAnew looks at the session and the catalogue whether or not they are known to have changed.
func (c *conn) explainAnew(ctx context.Context) (*Explainer, error) {
	c.sessionStale, c.doubtful = true, true
	if err := c.probe(ctx); err != nil {
		return nil, err
	}
	return c.explainer(), nil
}

// explainer gives what the connection plans with.
func (c *conn) explainer() *Explainer {
	x := &Explainer{engine: c.engine, gen: c.gen, session: c.session, outdated: c.outdated, nonStandard: !c.literalsAreStandard()}
	x.functions = c.gen.set.Functions()
	return x
}

// Explain says what the driver does with each statement of a text, in the order of the text; an empty
// text has none. Statements that do not parse are explained, too: see SyntaxError. Of a text of
// several statements each is explained as if it was sent alone; see AsOneString.
//
// args are the arguments that would come with a text of one statement, as Go values: keys are then shown with them.
// The error is for a wrong use of args alone.
func (x *Explainer) Explain(text string, args ...any) ([]Explanation, error) {
	stmts, steps, together := x.plan(text)
	if len(args) > 0 && len(stmts) != 1 {
		return nil, fmt.Errorf("wtcache: explain: arguments come with a text of one statement; this one has %d", len(stmts))
	}
	at := &places{text: text, line: 1, column: 1}
	all := make([]Explanation, len(steps))
	for i := range steps {
		one := explaining{x: x, st: &steps[i], alone: len(steps) == 1, whole: text, args: namedValues(args), at: at}
		all[i] = one.explain()
	}
	if len(all) > 0 {
		all[0].AsOneString = together
	}
	return all, nil
}

func namedValues(args []any) []driver.NamedValue {
	named := make([]driver.NamedValue, len(args))
	for i, v := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: v}
	}
	return named
}

// places finds lines and columns. Looking forwards costs the text between alone.
type places struct {
	text               string
	byte, line, column int
}

func (p *places) find(at int) Position {
	if at < p.byte {
		p.byte, p.line, p.column = 0, 1, 1
	}
	for p.byte < at && p.byte < len(p.text) {
		r, size := utf8.DecodeRuneInString(p.text[p.byte:])
		p.byte += size
		p.column++
		if r == '\n' {
			p.line, p.column = p.line+1, 1
		}
	}
	return Position{Byte: at, Line: p.line, Column: p.column}
}

// plan plans a text as a connection does, without its cache and its counters.
func (x *Explainer) plan(text string) (stmts []*parser.Statement, steps []step, together string) {
	if x.gen == nil {
		return x.passing(text)
	}
	p := untouched
	if x.gen.filter.MayTouch(text) {
		p = x.gen.planText(text)
		var shape parser.Shape
		shape.Read(text)
		if p.sizes != nil {
			p.sizes.passing = shape.Passing()
		}
	}
	if p.backslash && x.nonStandard {
		p = distrusted(text)
	}
	if !p.touches {
		return x.passing(text)
	}
	c := &conn{engine: x.engine, gen: x.gen, session: x.session, outdated: x.outdated}
	b := p.bind(c)
	steps = make([]step, len(b.steps))
	for i := range b.steps {
		steps[i] = *c.followed(&b.steps[i])
	}
	return p.stmts, steps, b.together()
}

// passing gives the steps of a text that goes straight to the base.
func (x *Explainer) passing(text string) (stmts []*parser.Statement, steps []step, together string) {
	stmts = parser.Parse(text)
	for _, s := range stmts {
		steps = append(steps, step{stmt: s, text: text[s.Span.Start:s.Span.End]})
	}
	return stmts, steps, ""
}

// followed does what runStep does to know what an SQL-level EXECUTE further on writes.
func (c *conn) followed(st *step) *step {
	switch {
	case st.action == actExecute:
		return c.executeStep(st)
	case st.stmt.Kind == parser.KindDo:
		c.prepared = nil
	case st.action == actPass:
		c.notePrepared(st)
	}
	return st
}

// together says what is otherwise where the statements are sent as one string.
func (b *boundPlan) together() string {
	if len(b.steps) < 2 || !b.writes && !b.shifts {
		return ""
	}
	if err := b.refusal(); err != nil {
		return "Sent as one string nothing of it is sent: " + err.Error() + "."
	}
	said := "Sent as one string by Exec without arguments, the statements run one by one in one transaction, as the server does it; by Query, or with arguments, the string is one coarse write of all that it can write."
	if b.control {
		said = "Sent as one string by Exec without arguments, the statements run one by one; by Query, or with arguments, the string is refused, because it has transaction words among ruled writes."
	}
	if b.shifts {
		said += " A statement of the text changes definitions, or what names mean: each is explained as things are before the text runs."
	}
	return said
}
