package rules

import (
	"strconv"
	"strings"
)

// closureSQL opens every catalogue query: the relations that the rules name (root),
// and all relations through which a ruled table can be written (reach), each with how
// it is reached: self, down (partition or inheritance child), up (ancestor), rule (a
// view, or a table whose rewrite rule names it). An ancestor's other children are left
// out: a statement on them cannot write the ruled table.
//
// Nothing in it depends on search_path or another setting of the session, so that all
// sessions see the same facts. Nothing in it or in the facts takes a lock on a relation,
// so that a connection opens while another one holds a view or a table.
//
// The arrays that are made only to be unnested keep the planner's guesses small (it
// guesses ten rows): with its guesses for recursive queries it would compile the query to
// machine code, which takes fifty times as long as running it.
const closureSQL = `root AS (
  SELECT c.oid, n.via FROM named n
  JOIN pg_catalog.pg_namespace s ON s.nspname = n.nsp
  JOIN pg_catalog.pg_class c ON c.relnamespace = s.oid AND c.relname = n.rel
), reach(root, oid, how) AS (
  SELECT o, o, 'self'::pg_catalog.text FROM pg_catalog.unnest(ARRAY(SELECT oid FROM root WHERE NOT via)) o
  UNION
  SELECT r.root, x.oid, x.how FROM reach r CROSS JOIN LATERAL (
    SELECT i.inhrelid, 'down' FROM pg_catalog.pg_inherits i WHERE i.inhparent = r.oid AND r.how IN ('self', 'down')
    UNION ALL
    SELECT i.inhparent, 'up' FROM pg_catalog.pg_inherits i WHERE i.inhrelid = r.oid AND r.how IN ('self', 'up')
    UNION ALL
    SELECT w.ev_class, 'rule' FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid
    JOIN pg_catalog.pg_class v ON v.oid = w.ev_class
    WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.refobjid = r.oid AND w.ev_class <> r.oid AND v.relkind <> 'm'
  ) x(oid, how)
)`

// factsSQL is what the rules depend on in the catalogue, one JSON object a row. The
// digest over these rows is the catalogue's fingerprint.
const factsSQL = `, looked(oid) AS (
  SELECT o FROM pg_catalog.unnest(ARRAY(SELECT oid FROM root UNION SELECT oid FROM reach)) o
), att AS (
  SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attgenerated, coalesce(co.collisdeterministic, true) AS exact
  FROM root JOIN pg_catalog.pg_class c ON c.oid = root.oid AND (NOT root.via OR c.relkind = 'v')
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
), typ(oid) AS (
  SELECT o FROM pg_catalog.unnest(ARRAY(SELECT DISTINCT atttypid FROM att)) o
  UNION
  SELECT x.oid FROM typ JOIN pg_catalog.pg_type y ON y.oid = typ.oid CROSS JOIN LATERAL (
    SELECT y.typbasetype WHERE y.typtype = 'd'
    UNION ALL SELECT y.typelem WHERE y.typcategory = 'A' AND y.typelem <> 0
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
      WHERE y.typtype = 'c' AND a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid = y.oid OR g.rngmultitypid = y.oid
  ) x(oid)
), facts(kind, body) AS (
  SELECT 'rel', pg_catalog.json_build_object('oid', c.oid::pg_catalog.int8, 'schema', s.nspname, 'name', c.relname, 'kind', c.relkind,
    'persistence', c.relpersistence, 'rowSecurity', c.relrowsecurity, 'partition', c.relispartition,
    'invoker', EXISTS (SELECT 1 FROM pg_catalog.unnest(c.reloptions) o WHERE o ~ '^security_invoker=(1|on|true|yes)'),
    'view', (SELECT pg_catalog.hashtextextended(w.ev_action::pg_catalog.text COLLATE "C", 0) FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type = '1'),
    'rules', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND w.ev_enabled <> 'D'))::pg_catalog.text
  FROM looked JOIN pg_catalog.pg_class c ON c.oid = looked.oid JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
  UNION ALL
  SELECT 'reach', pg_catalog.json_build_object('root', root::pg_catalog.int8, 'oid', oid::pg_catalog.int8, 'how', how)::pg_catalog.text FROM reach
  UNION ALL
  SELECT 'att', pg_catalog.json_build_object('rel', attrelid::pg_catalog.int8, 'num', attnum, 'name', attname, 'type', atttypid::pg_catalog.int8,
    'mod', atttypmod, 'generated', attgenerated, 'exact', exact)::pg_catalog.text FROM att
  UNION ALL
  SELECT 'type', pg_catalog.json_build_object('oid', y.oid::pg_catalog.int8, 'schema', s.nspname, 'name', y.typname, 'kind', y.typtype,
    'category', y.typcategory, 'base', y.typbasetype::pg_catalog.int8, 'mod', y.typtypmod,
    'elem', CASE WHEN y.typcategory = 'A' THEN y.typelem::pg_catalog.int8 ELSE 0 END,
    'sub', (SELECT pg_catalog.min(g.rngsubtype::pg_catalog.int8) FROM pg_catalog.pg_range g WHERE g.rngtypid = y.oid OR g.rngmultitypid = y.oid),
    'fields', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname, 'type', a.atttypid::pg_catalog.int8) ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute a WHERE y.typtype = 'c' AND a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
    'labels', (SELECT pg_catalog.json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = y.oid),
    'equal', (SELECT pg_catalog.min(n.nspname::pg_catalog.text) FROM pg_catalog.pg_operator o JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
      WHERE o.oprname = '=' AND o.oprleft = y.oid AND o.oprright = y.oid))::pg_catalog.text
  FROM pg_catalog.unnest(ARRAY(SELECT oid FROM typ)) o JOIN pg_catalog.pg_type y ON y.oid = o JOIN pg_catalog.pg_namespace s ON s.oid = y.typnamespace
  UNION ALL
  SELECT 'idx', pg_catalog.json_build_object('rel', i.indrelid::pg_catalog.int8, 'name', c.relname, 'immediate', i.indimmediate,
    'valid', i.indisvalid AND i.indisready AND i.indislive, 'partial', i.indpred IS NOT NULL, 'expr', i.indexprs IS NOT NULL,
    'cols', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(att, n)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att WHERE k.n <= i.indnkeyatts))::pg_catalog.text
  FROM root JOIN pg_catalog.pg_index i ON i.indrelid = root.oid AND i.indisunique AND NOT root.via
  JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
  UNION ALL
  SELECT 'trg', pg_catalog.json_build_object('rel', g.tgrelid::pg_catalog.int8, 'name', g.tgname, 'type', g.tgtype)::pg_catalog.text
  FROM looked JOIN pg_catalog.pg_trigger g ON g.tgrelid = looked.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 28 <> 0
)`

// rowsSQL asks how many rows the tables hold, as ANALYZE or VACUUM has noted it last. It is no
// fact: the fingerprint must not change with every row. What a partitioned table has noted is the
// sum of its partitions, which have notes of their own.
const rowsSQL = `SELECT 'rows', pg_catalog.json_build_object('rel', c.oid::pg_catalog.int8, 'rows', c.reltuples::pg_catalog.int8)::pg_catalog.text
  FROM looked JOIN pg_catalog.pg_class c ON c.oid = looked.oid WHERE c.relkind <> 'p' AND c.reltuples > 0`

// digestSQL is the fingerprint of the facts.
const digestSQL = `SELECT pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(
  coalesce(pg_catalog.string_agg(kind || body, pg_catalog.chr(10) ORDER BY kind COLLATE "C", body COLLATE "C"), ''), 'UTF8')), 'hex') FROM facts`

// namedSQL is the head of every catalogue query: the names that the rules use.
func namedSQL(rules []*Rule) string {
	var b strings.Builder
	b.WriteString("WITH RECURSIVE named(nsp, rel, via) AS (VALUES ")
	row := func(n Name, via bool) {
		b.WriteString("(" + sqlString(n.Schema) + "::pg_catalog.text, " + sqlString(n.Table) + "::pg_catalog.text, " + strconv.FormatBool(via) + ")")
	}
	for i, r := range rules {
		if i > 0 {
			b.WriteString(", ")
		}
		row(qualified(r.Table), false)
		for _, v := range r.Via {
			b.WriteString(", ")
			row(qualified(v), true)
		}
	}
	b.WriteString("), ")
	return b.String()
}

// qualified gives a name its default schema.
func qualified(n Name) Name {
	if n.Schema == "" {
		n.Schema = "public"
	}
	return n
}

// sqlIdent quotes an identifier, always: a name that is a keyword in some version of
// Postgres is then still a name.
func sqlIdent(s string) string {
	return `"` + strings.ReplaceAll(s, `"`, `""`) + `"`
}

// sqlName quotes a relation's name with its schema.
func sqlName(n Name) string { return sqlIdent(n.Schema) + "." + sqlIdent(n.Table) }

// sqlString quotes a text so that it reads the same under either setting of
// standard_conforming_strings.
func sqlString(s string) string {
	quoted := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(s, `\`) {
		return "E" + strings.ReplaceAll(quoted, `\`, `\\`)
	}
	return quoted
}

// isPlainWord says that a name needs no quotes where no keyword can stand.
func isPlainWord(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }) < 0
}
