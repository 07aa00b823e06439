package wtcache

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/parser"
	"github.com/wtcache/wtcache/rules"
)

// reasonActed is the planner's word for a statement that sets off a foreign key or a trigger.
const reasonActed = "foreign key action"

// words say why a write is not precise, as a clause, and what would make it so.
type words struct{ because, advice string }

// coarseReasons has the planner's reasons.
var coarseReasons = map[string]words{
	"data-modifying CTE": {"it writes rows below its top level, in WITH or inside another statement, which its own RETURNING does not show",
		"Send the writes as statements of their own, in one transaction."},
	"MERGE": {"MERGE has no RETURNING in all servers that wtcache supports, so which rows it writes is not shown",
		"Write INSERT … ON CONFLICT (…) DO UPDATE, or an UPDATE and an INSERT in one transaction."},
	"TRUNCATE":  {"TRUNCATE takes all rows", "Nothing to mend: all rows are gone. To empty a part of the table DELETE … WHERE is precise."},
	"COPY FROM": {"COPY shows none of the rows that it writes", "Write INSERT with several rows of VALUES, or INSERT … SELECT from a table that was copied into."},
	"EXPLAIN ANALYZE of a write": {"EXPLAIN ANALYZE runs the write and gives its plan in place of its rows",
		"Run it in a transaction and roll that back: then it costs nothing in Redis."},
	"definition of a ruled table changed": {"it changes, or makes a view or child of, what a rule is about, so that old payloads may not fit any more",
		"Nothing to mend: migrations are rare. While it runs, entries are absent and reads go to the database."},
	"COMMIT PREPARED of unknown writes": {"it may commit what any program has written", "Commit ruled writes by COMMIT, and keep them out of two-phase transactions."},
	reasonActed: {"a foreign key or a trigger may change further rows, and which these are no RETURNING shows",
		"Give the foreign key ON DELETE RESTRICT (or NO ACTION) and write the other table by statements of the program's own."},
	"catalogue has changed": {"the catalogue has changed since the rules were held against it", "Nothing to mend: it ends with the transaction, or when the rules fit again."},
	"WHERE CURRENT OF":      {"WHERE CURRENT OF cannot be captured: the row before the change is the cursor's", "Name the row by its key: WHERE id = $1."},
	"SQL-level EXECUTE":     {"it runs what an SQL-level PREPARE has prepared, whose text is not there to be changed", "Prepare through database/sql (db.Prepare), which stays precise."},
	"DO block":              {"a DO block names a ruled table, and what it writes is not shown", "Send its statements one by one, in a transaction."},
	"text that cannot be parsed": {"it names a ruled table and cannot be parsed here",
		"Mend the syntax; what only a newer server understands can be written otherwise."},
	"several statements in one query":         {"a string of several statements is sent whole", "Send them one by one."},
	"the server refused the captured columns": {"the server refused the captured columns", ""},
	"view not named in via":                   {"the view that it writes is not named in the rule", "Name the view in the rule's via, if it is a plain updatable view of the table; or write the table itself."},
	"ancestor of a ruled table":               {"the relation that it writes is an ancestor of the ruled table, so that rows of the ruled one may be among its rows", "Write the ruled table itself, or make the rule one of the ancestor."},
	"rewrite rule":                            {"a rewrite rule of the relation changes what the statement does", "Drop the rewrite rule; a trigger does the same and can be followed."},
	"foreign table":                           {"its rows, or some of them, are a foreign table's", "Nothing can be captured there; take the foreign partition out of the ruled table."},
	"INSTEAD OF trigger":                      {"an INSTEAD OF trigger of the view does the writing", "Write the table itself."},
	"row-level security":                      {"row-level security is in force for the role, and the statement does not show every key that it can touch", "Compare every column of the rule's keys with a value: WHERE id = $1. Or use a role with BYPASSRLS."},
	"no SELECT privilege":                     {"the role may not read the relation, which RETURNING needs", "GRANT SELECT on it to the role."},
}

const cannotSplice = "columns cannot be spliced in: "

func coarseWords(reason string) words {
	if w, ok := coarseReasons[reason]; ok {
		return w
	}
	if detail, ok := strings.CutPrefix(reason, cannotSplice); ok {
		return words{"the captured columns have no place in its text (" + strings.TrimPrefix(detail, "parser: ") + ")", "Write it in a plainer form: a SET of single columns, without DEFAULT or sub-selects for several."}
	}
	return words{because: "the planner says: " + reason}
}

func uncapturedWords(reason string) words {
	if strings.HasPrefix(reason, "DO block") {
		return words{"a DO block that names a ruled table and ends transactions itself cannot run inside one of the driver's", "Take COMMIT and ROLLBACK out of the block, or send its statements one by one."}
	}
	return words{"a CONCURRENTLY form cannot run inside a transaction, so nothing can be swept with it", "Nothing to mend where it leaves rows and columns as they are, as CREATE INDEX CONCURRENTLY does."}
}

func refusedAdvice(err error) string {
	if errors.Is(err, ErrPrivilege) {
		if _, grant, ok := strings.Cut(err.Error(), "run: "); ok {
			return "Run: " + grant
		}
	}
	return "Send the statements one by one."
}

// causes says what makes rows change that a statement does not name.
func causes(actors []rules.Relative) string {
	var all []string
	for _, r := range actors {
		what := "foreign key " + r.By + " acts on rows of"
		switch {
		case r.Own:
			what = "trigger function " + r.By + " may write further rows of"
		case r.Trigger:
			what = "trigger function " + r.By + " may write"
		}
		if clause := fmt.Sprintf("%s %s when %s is written", what, r.Table.Name, r.Name); !slices.Contains(all, clause) {
			all = append(all, clause)
		}
	}
	return strings.Join(all, ", and ")
}

func listTables(tables []*rules.Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.Name.String()
	}
	return enumerate(names)
}

func relationNames(relations []parser.Relation) string {
	var names []string
	for _, r := range relations {
		name := rules.Name{Schema: r.Schema, Table: r.Name}.String()
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return enumerate(names)
}

func enumerate(names []string) string {
	if n := len(names); n > 1 {
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
	return strings.Join(names, "")
}

func upperFirst(s string) string {
	if s == "" || strings.HasPrefix(s, "wtcache") {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}
