package blindspots

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// relation is a table, view or foreign table of the database.
type relation struct {
	OID          uint32
	Schema, Name string
	Kind         string // pg_class.relkind
	Persistence  string
	Owner        string
	RowSecurity  bool
	Forced       bool   // row security binds the owner, too
	Identity     string // pg_class.relreplident
	IdentityCols []string
	Partition    bool
	Detaching    bool // DETACH PARTITION … CONCURRENTLY has not ended
	Rules        []string
	Extension    string
}

func (r *relation) name() rules.Name { return rules.Name{Schema: r.Schema, Table: r.Name} }

// trigger is an enabled trigger that is not Postgres' own.
type trigger struct {
	Rel      uint32
	Name     string
	Type     int
	Fn       uint32
	Deferred bool
}

// The bits of pg_trigger.tgtype.
const (
	onRow = 1 << iota
	before
	onInsert
	onDelete
	onUpdate
	onTruncate
	instead
)

func (g trigger) timing() string {
	switch {
	case g.Type&before != 0:
		return "BEFORE"
	case g.Type&instead != 0:
		return "INSTEAD OF"
	}
	return "AFTER"
}

// routine is a function or procedure that is no extension's, in a language that can be read.
type routine struct {
	OID                uint32
	Schema, Name, Args string
	Lang               string
	Source             string // pg_proc.prosrc, or the SQL-standard body
	Path               []string
	Returns            string // "trigger", "event_trigger", else ""
	Procedure          bool
}

func (f *routine) String() string {
	kind := "function"
	if f.Procedure {
		kind = "procedure"
	}
	return fmt.Sprintf("%s %s.%s(%s)", kind, f.Schema, f.Name, f.Args)
}

type foreignKey struct {
	Name     string
	Rel, Ref uint32
	Delete   string // pg_constraint.confdeltype
	Update   string
	Cloned   bool     // of a partition, from its parent's
	Cols     []string // of its own table
	RefCols  []string
}

// dependence is that of a view or a rewrite rule on what it reads or writes.
type dependence struct {
	By, On uint32
}

type inheritance struct {
	Child, Parent uint32
}

type deferrable struct {
	Rel  uint32
	Name string
	Cols []string
}

type subscription struct {
	Rel  uint32
	Name string
}

type eventTrigger struct {
	Name, Event string
	Fn          uint32
}

// facts is what the catalogue says.
type facts struct {
	version   int
	path      []string // schemas that a bare name is looked up in
	settings  map[string]string
	relations []*relation
	triggers  []trigger
	routines  []*routine
	keys      []foreignKey
	depends   []dependence
	inherits  []inheritance
	uniques   []deferrable
	subs      []subscription
	events    []eventTrigger
	exts      []string
}

const settingsSQL = `SELECT name::pg_catalog.text, setting FROM pg_catalog.pg_settings
WHERE name IN ('server_version_num', 'standard_conforming_strings', 'jit', 'jit_above_cost', 'wal_level', 'session_replication_role', 'row_security', 'default_transaction_read_only')
UNION ALL SELECT 'path', coalesce(pg_catalog.array_to_json(pg_catalog.current_schemas(true))::pg_catalog.text, '[]')
UNION ALL SELECT 'database', pg_catalog.current_database()::pg_catalog.text
UNION ALL SELECT 'role', current_user::pg_catalog.text
UNION ALL SELECT 'recovery', pg_catalog.pg_is_in_recovery()::pg_catalog.text
UNION ALL SELECT 'cron', coalesce(pg_catalog.has_table_privilege(pg_catalog.to_regclass('cron.job')::pg_catalog.oid, 'SELECT')::pg_catalog.text, 'none')`

// factsSQL gives one JSON object a row. It depends on no setting of the session and takes no lock on a relation.
// %s are what differs by the server's version: the SQL-standard body of a function, and a detaching partition.
const factsSQL = `WITH ext AS (
  SELECT d.classid, d.objid, e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
  WHERE d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
), rel AS (
  SELECT c.*, s.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'f') AND s.nspname NOT IN ('pg_catalog', 'information_schema') AND s.nspname NOT LIKE 'pg!_t%%' ESCAPE '!'
)
SELECT 'rel', pg_catalog.json_build_object('oid', c.oid::pg_catalog.int8, 'schema', c.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence,
  'owner', pg_catalog.pg_get_userbyid(c.relowner), 'rowSecurity', c.relrowsecurity, 'forced', c.relforcerowsecurity, 'identity', c.relreplident, 'partition', c.relispartition,
  'identityCols', (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey::pg_catalog.int2[])
    WHERE i.indrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident END),
  'detaching', %s,
  'rules', (SELECT pg_catalog.json_agg(w.rulename ORDER BY w.rulename) FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND w.ev_enabled <> 'D'),
  'extension', (SELECT x.extname FROM ext x WHERE x.objid = c.oid AND x.classid = 'pg_catalog.pg_class'::pg_catalog.regclass))::pg_catalog.text FROM rel c
UNION ALL
SELECT 'trigger', pg_catalog.json_build_object('rel', g.tgrelid::pg_catalog.int8, 'name', g.tgname, 'type', g.tgtype, 'fn', g.tgfoid::pg_catalog.int8, 'deferred', g.tginitdeferred)::pg_catalog.text
FROM pg_catalog.pg_trigger g WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
  AND (g.tgparentid = 0 OR NOT EXISTS (SELECT 1 FROM pg_catalog.pg_trigger u WHERE u.oid = g.tgparentid))
UNION ALL
SELECT 'routine', pg_catalog.json_build_object('oid', p.oid::pg_catalog.int8, 'schema', s.nspname, 'name', p.proname, 'args', pg_catalog.pg_get_function_identity_arguments(p.oid), 'lang', l.lanname,
  'source', %s, 'path', (SELECT pg_catalog.json_agg(o) FROM pg_catalog.unnest(p.proconfig) o WHERE o LIKE 'search!_path=%%' ESCAPE '!'),
  'returns', CASE p.prorettype WHEN 'pg_catalog.trigger'::pg_catalog.regtype THEN 'trigger' WHEN 'pg_catalog.event_trigger'::pg_catalog.regtype THEN 'event_trigger' ELSE '' END,
  'procedure', p.prokind = 'p')::pg_catalog.text
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
WHERE p.prokind IN ('f', 'p') AND l.lanname NOT IN ('c', 'internal') AND s.nspname NOT IN ('pg_catalog', 'information_schema') AND s.nspname NOT LIKE 'pg!_t%%' ESCAPE '!'
  AND NOT EXISTS (SELECT 1 FROM ext x WHERE x.objid = p.oid AND x.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass)
UNION ALL
SELECT 'key', pg_catalog.json_build_object('name', conname, 'rel', conrelid::pg_catalog.int8, 'ref', confrelid::pg_catalog.int8, 'delete', confdeltype, 'update', confupdtype, 'cloned', conparentid <> 0,
  'cols', (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid = conrelid AND a.attnum = ANY (conkey)),
  'refCols', (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a WHERE a.attrelid = confrelid AND a.attnum = ANY (confkey)))::pg_catalog.text
FROM pg_catalog.pg_constraint WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
UNION ALL
SELECT DISTINCT 'depend', pg_catalog.json_build_object('by', w.ev_class::pg_catalog.int8, 'on', d.refobjid::pg_catalog.int8)::pg_catalog.text
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid JOIN rel v ON v.oid = w.ev_class JOIN rel o ON o.oid = d.refobjid
WHERE d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> w.ev_class AND w.ev_enabled <> 'D'
UNION ALL
SELECT 'inherit', pg_catalog.json_build_object('child', inhrelid::pg_catalog.int8, 'parent', inhparent::pg_catalog.int8)::pg_catalog.text FROM pg_catalog.pg_inherits
UNION ALL
SELECT 'unique', pg_catalog.json_build_object('rel', i.indrelid::pg_catalog.int8, 'name', c.relname, 'cols', (SELECT pg_catalog.json_agg(a.attname) FROM pg_catalog.pg_attribute a
  WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::pg_catalog.int2[])))::pg_catalog.text
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid WHERE i.indisunique AND NOT i.indimmediate
UNION ALL
SELECT 'sub', pg_catalog.json_build_object('rel', r.srrelid::pg_catalog.int8, 'name', b.subname)::pg_catalog.text
FROM pg_catalog.pg_subscription_rel r JOIN pg_catalog.pg_subscription b ON b.oid = r.srsubid
UNION ALL
SELECT 'event', pg_catalog.json_build_object('name', evtname, 'event', evtevent, 'fn', evtfoid::pg_catalog.int8)::pg_catalog.text FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D'
UNION ALL
SELECT 'ext', pg_catalog.to_json(extname::pg_catalog.text)::pg_catalog.text FROM pg_catalog.pg_extension`

func (w *world) load(ctx context.Context, q rules.Querier) error {
	rows, err := q(ctx, settingsSQL)
	if err != nil {
		return err
	}
	w.settings = map[string]string{}
	for _, row := range rows {
		name, value, err := twoTexts(row)
		if err != nil {
			return err
		}
		w.settings[name] = value
	}
	if w.version, err = strconv.Atoi(w.settings["server_version_num"]); err != nil {
		return fmt.Errorf("read the server's version: %w", err)
	}
	if err := json.Unmarshal([]byte(w.settings["path"]), &w.path); err != nil {
		return fmt.Errorf("read search_path: %w", err)
	}
	detaching, source := "false", "p.prosrc"
	if w.version >= 140000 {
		detaching = "EXISTS (SELECT 1 FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND i.inhdetachpending)"
		source = "coalesce(pg_catalog.pg_get_function_sqlbody(p.oid), p.prosrc)"
	}
	rows, err = q(ctx, fmt.Sprintf(factsSQL, detaching, source))
	if err != nil {
		return err
	}
	for _, row := range rows {
		kind, body, err := twoTexts(row)
		if err == nil {
			err = w.fact(kind, []byte(body))
		}
		if err != nil {
			return fmt.Errorf("read the catalogue (%s): %w", kind, err)
		}
	}
	return nil
}

func (w *world) fact(kind string, body []byte) error {
	switch kind {
	case "rel":
		return decode(body, &w.relations)
	case "trigger":
		return decode(body, &w.facts.triggers)
	case "routine":
		return decode(body, &w.facts.routines)
	case "key":
		return decode(body, &w.keys)
	case "depend":
		return decode(body, &w.depends)
	case "inherit":
		return decode(body, &w.inherits)
	case "unique":
		return decode(body, &w.uniques)
	case "sub":
		return decode(body, &w.subs)
	case "event":
		return decode(body, &w.events)
	case "ext":
		return decode(body, &w.exts)
	}
	return nil
}

func decode[T any](body []byte, to *[]T) error {
	var v T
	if err := json.Unmarshal(body, &v); err != nil {
		return err
	}
	*to = append(*to, v)
	return nil
}

func twoTexts(row []*string) (string, string, error) {
	if len(row) != 2 || row[0] == nil || row[1] == nil {
		return "", "", fmt.Errorf("a row of %d cells: want two texts", len(row))
	}
	return *row[0], *row[1], nil
}

// schemas reads a function's own search_path, which pg_proc keeps as "search_path=a, \"B\"".
func (f *routine) schemas() []string {
	if len(f.Path) == 0 {
		return nil
	}
	_, list, _ := strings.Cut(f.Path[0], "=")
	var out []string
	for part := range strings.SplitSeq(list, ",") {
		part = strings.TrimSpace(part)
		if strings.HasPrefix(part, `"`) {
			part = strings.ReplaceAll(strings.Trim(part, `"`), `""`, `"`)
		}
		out = append(out, part)
	}
	return out
}
