package blindspots

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/wtcache/wtcache/rules"
)

// access is what is asked about the relations around the ruled tables: who may do what, and who is connected.
type access struct {
	Updatable map[uint32]int   // of views: 1<<CMD bits, INSTEAD OF triggers counted
	rights    map[uint32]right // of the session's role
	writers   []writer
	public    map[uint32]bool // everybody may write
	sessions  []connected
	seesAll   bool
	super     bool // the session's role is one
}

type right struct {
	Rel                        uint32
	Usage, Select, Any, Change bool // of the schema; SELECT; of any column; INSERT, UPDATE or DELETE
	Secured                    bool // row security is in force
	Missing                    []string
}

type writer struct {
	Role  string
	Super bool
	Rel   uint32
}

type connected struct {
	Role, Application, Address string
	Count                      int
}

// accessSQL has the relations as %[1]s, the ruled tables as %[2]s, the views as %[3]s. Unlike the facts it asks whether
// views are updatable, which takes a lock on them for a moment.
const accessSQL = `SELECT 'view', pg_catalog.json_build_object('rel', o::pg_catalog.oid::pg_catalog.int8, 'bits', pg_catalog.pg_relation_is_updatable(o::pg_catalog.regclass, true))::pg_catalog.text
FROM pg_catalog.unnest('{%[3]s}'::pg_catalog.oid[]) o
UNION ALL
SELECT 'right', pg_catalog.json_build_object('rel', c.oid::pg_catalog.int8, 'usage', pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'),
  'select', pg_catalog.has_table_privilege(c.oid, 'SELECT'), 'any', pg_catalog.has_any_column_privilege(c.oid, 'SELECT'),
  'change', pg_catalog.has_table_privilege(c.oid, 'DELETE') OR pg_catalog.has_any_column_privilege(c.oid, 'INSERT, UPDATE'),
  'secured', pg_catalog.row_security_active(c.oid),
  'missing', (SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND NOT pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT')))::pg_catalog.text
FROM pg_catalog.pg_class c WHERE c.oid = ANY ('{%[1]s}'::pg_catalog.oid[])
UNION ALL
SELECT 'seesAll', (pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') OR (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user))::pg_catalog.text
UNION ALL
SELECT 'superself', rolsuper::pg_catalog.text FROM pg_catalog.pg_roles WHERE rolname = current_user`

// peopleSQL asks who may write, and who is connected. Rows of sessions that the role may not look into have neither address
// nor backend_type.
const peopleSQL = `
UNION ALL
SELECT 'writer', pg_catalog.json_build_object('role', r.rolname, 'super', r.rolsuper, 'rel', c.oid::pg_catalog.int8)::pg_catalog.text
FROM pg_catalog.pg_class c CROSS JOIN pg_catalog.pg_roles r WHERE c.oid = ANY ('{%[2]s}'::pg_catalog.oid[]) AND r.rolname <> current_user
  AND (r.rolcanlogin OR NOT r.rolsuper) AND r.rolname NOT LIKE 'pg!_%%' ESCAPE '!'
  AND (r.rolsuper OR pg_catalog.has_schema_privilege(r.oid, c.relnamespace, 'USAGE') AND (pg_catalog.has_table_privilege(r.oid, c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE') OR pg_catalog.has_any_column_privilege(r.oid, c.oid, 'INSERT, UPDATE')))
UNION ALL
SELECT DISTINCT 'public', c.oid::pg_catalog.text FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) a
WHERE c.oid = ANY ('{%[2]s}'::pg_catalog.oid[]) AND a.grantee = 0 AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
UNION ALL
SELECT 'session', pg_catalog.json_build_object('role', a.usename, 'application', coalesce(a.application_name, ''), 'address', coalesce(pg_catalog.host(a.client_addr), ''),
  'count', pg_catalog.count(*))::pg_catalog.text
FROM pg_catalog.pg_stat_activity a WHERE a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid() AND a.usename IS NOT NULL
  AND coalesce(a.backend_type, 'client backend') = 'client backend' GROUP BY a.usename, a.application_name, a.client_addr`

func (w *world) loadAccess(ctx context.Context, q rules.Querier, people bool) error {
	w.access = access{Updatable: map[uint32]int{}, rights: map[uint32]right{}, public: map[uint32]bool{}}
	var all, ruled, views []string
	for _, t := range w.set.Tables {
		ruled = append(ruled, number(t.OID))
		for oid := range w.reach[t] {
			all = append(all, number(oid))
			if r := w.byOID[oid]; r != nil && r.Kind == "v" {
				views = append(views, number(oid))
			}
		}
	}
	text := accessSQL
	if people {
		text += peopleSQL
	} else {
		text += "/*%[2]s*/"
	}
	rows, err := q(ctx, fmt.Sprintf(text, distinct(all), distinct(ruled), distinct(views)))
	if err != nil {
		return err
	}
	for _, row := range rows {
		kind, body, err := twoTexts(row)
		if err == nil {
			err = w.access.fact(kind, body)
		}
		if err != nil {
			return fmt.Errorf("decode %s: %w", kind, err)
		}
	}
	return nil
}

func number(oid uint32) string { return strconv.FormatUint(uint64(oid), 10) }

func distinct(all []string) string {
	slices.Sort(all)
	return strings.Join(slices.Compact(all), ",")
}

func (a *access) fact(kind, body string) error {
	switch kind {
	case "view":
		var v struct {
			Rel  uint32
			Bits int
		}
		err := json.Unmarshal([]byte(body), &v)
		a.Updatable[v.Rel] = v.Bits
		return err
	case "right":
		var r right
		err := json.Unmarshal([]byte(body), &r)
		a.rights[r.Rel] = r
		return err
	case "writer":
		return decode([]byte(body), &a.writers)
	case "session":
		return decode([]byte(body), &a.sessions)
	case "public":
		oid, err := strconv.ParseUint(body, 10, 32)
		a.public[uint32(oid)] = true
		return err
	case "seesAll":
		a.seesAll = body == "true"
	case "superself":
		a.super = body == "true"
	}
	return nil
}
