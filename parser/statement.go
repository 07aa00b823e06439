// Package parser turns SQL text into Statements: what each statement of a text
// writes, which columns it assigns, which keys it pins, and where captured
// columns can be spliced into the caller's own text. It wraps Postgres' own
// grammar (pg_query) and is the only package that imports it; the parser's tree
// never leaves it. It knows nothing of rules or of Redis.
package parser

// Kind says what a statement is, as far as it matters for keeping a cache true.
type Kind uint8

// The kinds of statement.
const (
	// KindOther changes no row of a named table and nothing in the session:
	// SELECT, SHOW, VACUUM, LISTEN, COMMENT, SET CONSTRAINTS, …. A SELECT, COPY … TO
	// or DECLARE with a data-modifying statement inside is KindOther with Written set.
	KindOther Kind = iota
	KindInsert
	KindUpdate
	KindDelete
	KindMerge
	KindTruncate
	KindCopyFrom
	KindExplain // EXPLAIN ANALYZE of a statement that writes; without ANALYZE it is KindOther
	// KindDDL changes definitions or rights (ALTER, DROP, CREATE TABLE, TRIGGER,
	// RULE, POLICY, VIEW, FUNCTION, GRANT, SELECT … INTO, …) and is what else is not
	// known to be harmless. Written names every relation that it is about, by the old
	// and the new name where it renames; not those that a view, rule or function
	// body in it mentions.
	KindDDL
	KindBegin
	KindCommit
	KindRollback
	KindSavepoint
	KindRelease
	KindRollbackTo
	KindPrepareTransaction
	KindCommitPrepared
	KindRollbackPrepared
	// KindSession may change how names resolve or which role is in force: SET,
	// RESET, DISCARD, SET ROLE, SET SESSION AUTHORIZATION.
	KindSession
	KindPrepare // SQL-level PREPARE; Written is what the prepared statement writes
	// KindExecute is SQL-level EXECUTE, also under EXPLAIN ANALYZE and in CREATE TABLE AS (then Written has the table).
	KindExecute
	KindDeallocate
	KindDo   // DO block: Body holds its text
	KindCall // CALL of a procedure
	// KindUnparsable is a text that the grammar does not know, or that was not
	// given to it because it could overflow the parser's C stack or its memory.
	KindUnparsable
)

// Relation is a table or view as the text names it, after Postgres' folding of
// identifiers.
type Relation struct {
	Schema string // "" where the text gives none
	Name   string
	Alias  string // "" where the text gives none
	Only   bool   // ONLY was written: children are left alone
}

// ValueKind says what kind of value a column is given or compared with.
type ValueKind uint8

// The kinds of Value.
const (
	ValueOther   ValueKind = iota // an expression
	ValueParam                    // $n
	ValueInteger                  // an integer constant
	ValueString                   // a string constant
	ValueNull
	ValueDefault  // the keyword DEFAULT
	ValueExcluded // in Sets alone: EXCLUDED's column, whose name is Text
	ValueBool     // true or false
	ValueDecimal  // a number that is no integer
)

// Value is a parameter, a constant, or something else.
type Value struct {
	Kind  ValueKind
	Param int    // n of $n, from 1
	Text  string // the constant's text: digits with an optional minus, or the string
	Cast  string // type name of an explicit cast around it, "" for none ("int8", "uuid", "text")
}

// Pin says that a column equals a value in every row that the statement touches.
type Pin struct {
	Column string
	Value  Value
}

// Conflict is an INSERT's ON CONFLICT clause.
type Conflict struct {
	Update     bool     // DO UPDATE (else DO NOTHING)
	Columns    []string // the inference columns; nil for ON CONSTRAINT, none, or expressions
	Constraint string   // ON CONFLICT ON CONSTRAINT name
}

// Span is a half-open range of byte offsets in the source text.
type Span struct{ Start, End int }

// Statement is one statement of a text. It is immutable and safe for concurrent use.
type Statement struct {
	Kind Kind
	// Span is the statement in its text, without the whitespace and comments around it and
	// without its semicolon.
	Span Span

	// Target is what an INSERT, UPDATE, DELETE or MERGE writes.
	Target Relation
	// Written is every relation that the text writes at any depth: Target, targets of data-modifying CTEs and of
	// EXPLAIN ANALYZE, TRUNCATE lists, COPY, and for KindDDL the relations it names. Target comes first.
	Written []Relation
	// Nested is set where rows are written below the top level (a CTE, EXPLAIN ANALYZE, PREPARE, COPY (…) TO), also
	// rows of Target, so that the statement's own RETURNING does not show every written row.
	Nested bool
	// All is set where relations that the text does not name can lose rows: TRUNCATE … CASCADE, DROP SCHEMA …
	// CASCADE, DROP OWNED, and the like.
	All bool

	Returning bool     // it has a RETURNING clause
	Assigned  []string // columns that UPDATE SET, DO UPDATE SET or MERGE's UPDATE SET assigns, at any indirection (`col[1] =`, `(a, b) =`)
	Pins      []Pin    // UPDATE and DELETE: top-level AND conjuncts `column = value`; qualified by the target, or unqualified where there is no FROM or USING
	From      bool     // UPDATE … FROM, DELETE … USING
	Sublink   bool     // a sub-select stands in WHERE
	CurrentOf bool     // WHERE CURRENT OF
	// Columns is an INSERT's column list, nil where it has none. Rows are the VALUES lists
	// of an INSERT of at most 64 rows; nil for INSERT … SELECT, for more rows, and where the values are not for certain
	// what is stored (LIMIT, OVERRIDING USER VALUE, `col[1]` or `col.field` in Columns). DEFAULT VALUES is one empty row.
	Columns  []string
	Rows     [][]Value
	Listed   int // how many rows VALUES lists, 1 for DEFAULT VALUES; 0 for INSERT … SELECT
	Conflict *Conflict
	// Sets are the columns that UPDATE SET or DO UPDATE SET gives a value that the text shows: a parameter, a constant,
	// NULL, or EXCLUDED's column. Columns of Assigned that are not here get an expression, or a part of one.
	Sets []Pin
	// Repeated are the numbers of the parameters that stand in the statement more than once. Such a parameter has one
	// type, which any of its places may decide.
	Repeated []int
	// Returned has an item for each one of RETURNING: the name of the target's column, "*", or "" for anything else.
	Returned []string

	Name  string // savepoint, prepared statement or prepared transaction ("" in DEALLOCATE ALL)
	Chain bool   // COMMIT or ROLLBACK AND CHAIN
	Body  string // the text of a DO block
	// TemporaryRelation is set where a temporary relation is created or altered by a pg_temp name, which can shadow a
	// ruled name.
	TemporaryRelation bool
	// Concurrently is set where the statement cannot run inside a transaction block: CONCURRENTLY forms, VACUUM,
	// CREATE DATABASE, ALTER SYSTEM, DISCARD ALL, ….
	Concurrently bool
	// SetConfig is set where the text calls set_config, which can change search_path or role from any statement.
	SetConfig bool
}
