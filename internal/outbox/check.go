package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrMissing is wrapped by *MissingError: the outbox's tables are not there, or not as they must be, or the role may not use them.
var ErrMissing = errors.New("wtcache: outbox is not ready")

// MissingError says what the outbox lacks and which SQL mends it.
type MissingError struct {
	Schema    string
	Problem   string // one clause, such as `table "wtcache".outbox is missing`
	Statement string // one statement or several, each with its semicolon; "" where no statement can mend it
}

func (e *MissingError) Error() string {
	how := "drop or rename it, then run `wtcache schema | psql`"
	if e.Statement != "" {
		how = "run as the owner, with psql or as `wtcache schema | psql`:\n" + strings.TrimSpace(e.Statement)
	}
	return fmt.Sprintf("%v: %s; rules with redis_down: queue need it (those with redis_down: refuse do not, and wtcache_outbox=off keeps what is owed in memory, where a crash loses it); %s", ErrMissing, e.Problem, how)
}

// Unwrap lets errors.Is find ErrMissing.
func (e *MissingError) Unwrap() error { return ErrMissing }

// Querier runs one SQL text without parameters and gives every cell as text, nil for NULL. It is the shape of rules.Querier.
type Querier = func(ctx context.Context, sql string) ([][]*string, error)

// Check says whether the tables of a schema ("": DefaultSchema) are as they must be and the current role may use them, in one
// round trip. A shortcoming is a *MissingError; other errors are the Querier's.
func Check(ctx context.Context, q Querier, schema string) error {
	schema = orDefault(schema)
	rows, err := q(ctx, strings.ReplaceAll(checkSQL, "$SCHEMA", literal(schema)))
	if err != nil {
		return fmt.Errorf("check the outbox: %w", err)
	}
	live := make(map[string]facts, len(rows))
	var first facts
	for i, row := range rows {
		f, err := readFacts(row)
		if err != nil {
			return fmt.Errorf("check the outbox: %w", err)
		}
		live[f.table] = f
		if i == 0 {
			first = f
		}
	}
	if m := judge(schema, first, live); m != nil {
		return m
	}
	return nil
}

// facts are one row of checkSQL: a table, or the schema alone where it has none of the tables.
type facts struct {
	role, schema, usage, table, columns, privileges, persistence, hidden, protected, careless string
}

func readFacts(row []*string) (facts, error) {
	var f facts
	into := []*string{&f.role, &f.schema, &f.usage, &f.table, &f.columns, &f.privileges, &f.persistence, &f.hidden, &f.protected, &f.careless}
	if len(row) != len(into) {
		return f, fmt.Errorf("got %d columns where %d were asked for", len(row), len(into))
	}
	for i, cell := range row {
		if cell != nil {
			*into[i] = *cell
		}
	}
	return f, nil
}

// checkSQL looks tables up by name in the catalogue, which needs no privilege on the schema; to_regclass would need it. Its casts
// keep every cell a text.
const checkSQL = `SELECT current_user::pg_catalog.text, n.nspname::pg_catalog.text,
	pg_catalog.has_schema_privilege(n.oid, 'USAGE')::pg_catalog.text, c.relname::pg_catalog.text,
	(SELECT pg_catalog.string_agg(a.attname::pg_catalog.text || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod), ',')
		FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
	pg_catalog.concat_ws(',', CASE WHEN pg_catalog.has_table_privilege(c.oid, 'SELECT') THEN 'SELECT' END,
		CASE WHEN pg_catalog.has_table_privilege(c.oid, 'INSERT') THEN 'INSERT' END,
		CASE WHEN pg_catalog.has_table_privilege(c.oid, 'UPDATE') THEN 'UPDATE' END,
		CASE WHEN pg_catalog.has_table_privilege(c.oid, 'DELETE') THEN 'DELETE' END),
	c.relpersistence::pg_catalog.text, pg_catalog.row_security_active(c.oid)::pg_catalog.text,
	(SELECT pg_catalog.count(*) FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_class AS p ON p.oid = k.confrelid
		WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.convalidated AND NOT k.condeferrable AND k.confdeltype IN ('a', 'r')
		AND p.relname = 'outage' AND p.relnamespace = n.oid)::pg_catalog.text,
	(SELECT pg_catalog.min(k.conname::pg_catalog.text) FROM pg_catalog.pg_constraint AS k
		WHERE k.conrelid = c.oid AND k.contype = 'f' AND k.confdeltype NOT IN ('a', 'r'))
FROM (SELECT $SCHEMA::pg_catalog.text AS name) AS w
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname = w.name
LEFT JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relkind = 'r' AND c.relname IN ('outage', 'outbox', 'watch')`

func judge(schema string, first facts, live map[string]facts) *MissingError {
	s := quote(schema)
	missing := func(problem, statement string) *MissingError {
		return &MissingError{Schema: schema, Problem: problem, Statement: statement}
	}
	// A role that may do all of this is what the DDL alone does not give.
	everything := Schema(schema) + Grants(schema, first.role)
	if first.schema == "" {
		return missing("schema "+s+" is missing", everything)
	}
	for _, t := range tables {
		if _, ok := live[t.name]; !ok {
			return missing("table "+s+"."+t.name+" is missing", everything)
		}
	}
	for _, t := range tables {
		if problem, statement := t.fault(s+"."+t.name, live[t.name], s); problem != "" {
			return missing(problem, statement)
		}
	}
	if first.usage != "true" {
		return missing("role "+quote(first.role)+" has no USAGE on schema "+s, Grants(schema, first.role))
	}
	for _, t := range tables {
		for _, p := range t.privileges {
			if !slices.Contains(strings.Split(live[t.name].privileges, ","), p) {
				return missing("role "+quote(first.role)+" may not "+p+" on "+s+"."+t.name, Grants(schema, first.role))
			}
		}
	}
	return nil
}

// fault says what is wrong with a table that is there, and the statement that mends it.
func (t table) fault(name string, f facts, schema string) (problem, statement string) {
	have := make(map[string]string)
	for _, c := range strings.Split(f.columns, ",") {
		column, sqlType, _ := strings.Cut(c, " ")
		have[column] = sqlType
	}
	for _, c := range t.columns {
		switch sqlType, ok := have[c.name]; {
		case !ok:
			return "column " + c.name + " of " + name + " is missing", strings.TrimSpace("ALTER TABLE "+name+" ADD COLUMN "+c.name+" "+c.sqlType+" "+c.definition) + ";"
		case sqlType != c.sqlType:
			return "column " + c.name + " of " + name + " is of type " + sqlType + ", not " + c.sqlType, ""
		}
	}
	switch {
	case f.persistence != "p": // a crash would empty it, and what is owed would be lost
		return "table " + name + " is not durable", "ALTER TABLE " + name + " SET LOGGED;"
	case f.hidden == "true": // readers would not see an outage
		return "row-level security hides rows of " + name, "ALTER TABLE " + name + " DISABLE ROW LEVEL SECURITY;"
	case f.careless != "": // removing an outage would take what is owed with it
		return "the foreign key " + quote(f.careless) + " of " + name + " does not keep the row that it refers to", "ALTER TABLE " + name + " DROP CONSTRAINT " + quote(f.careless) + ";"
	case t.name == "outbox" && f.protected == "0": // a commit could be queued without its announcement
		return "the foreign key from " + name + " to " + schema + ".outage is missing",
			"ALTER TABLE " + name + " ADD FOREIGN KEY (outage) REFERENCES " + schema + ".outage (id);"
	}
	return "", ""
}
