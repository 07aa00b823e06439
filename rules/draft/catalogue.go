package draft

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/wtcache/wtcache/rules"
)

// relation is a table, a view or the like of a schema that is the user's own.
type relation struct {
	OID         uint32
	Schema      string
	Name        string
	Kind        string // pg_class.relkind
	Persistence string
	Partition   bool
	RowSecurity bool
	Rules       int      // enabled rewrite rules, a view's own SELECT rule not counted
	Extension   string   // that it belongs to
	Parents     []uint32 // that it is a partition of, or inherits from
	Over        []uint32 // of a view: what it reads
	Columns     []column
	Indexes     []index // unique ones, the primary key first
}

type column struct {
	Name    string
	Type    string // pg_type.typname
	NotNull bool
}

type index struct {
	Name      string
	Primary   bool
	Immediate bool
	Valid     bool
	Partial   bool
	Expr      bool
	Columns   []string
}

func (r *relation) name() rules.Name { return rules.Name{Schema: r.Schema, Table: r.Name} }

func (r *relation) isTable() bool { return r.Kind == "r" || r.Kind == "p" }

func (r *relation) column(name string) column {
	for _, c := range r.Columns {
		if c.Name == name {
			return c
		}
	}
	return column{}
}

func (r *relation) kind() string {
	switch {
	case r.Partition:
		return "partition"
	case r.Kind == "v":
		return "view"
	case r.Kind == "m":
		return "materialized view"
	case r.Kind == "f":
		return "foreign table"
	}
	return "table"
}

func names(relations []*relation) []rules.Name {
	out := make([]rules.Name, len(relations))
	for i, r := range relations {
		out[i] = r.name()
	}
	return out
}

// relationsSQL gives one JSON object a relation. Every name in it has its schema, so that
// the session's search_path does not matter.
const relationsSQL = `SELECT pg_catalog.json_build_object('oid', c.oid::pg_catalog.int8, 'schema', s.nspname, 'name', c.relname, 'kind', c.relkind,
  'persistence', c.relpersistence, 'partition', c.relispartition, 'rowSecurity', c.relrowsecurity,
  'rules', (SELECT pg_catalog.count(*) FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND w.ev_enabled <> 'D'),
  'extension', (SELECT pg_catalog.min(e.extname::pg_catalog.text) FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.objsubid = 0
      AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND d.deptype = 'e'),
  'parents', (SELECT pg_catalog.json_agg(i.inhparent::pg_catalog.int8 ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid),
  'over', (SELECT pg_catalog.json_agg(DISTINCT d.refobjid::pg_catalog.int8) FROM pg_catalog.pg_rewrite w
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = w.oid
      AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid <> c.oid
    WHERE w.ev_class = c.oid AND c.relkind = 'v'),
  'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', a.attname, 'type', y.typname, 'notNull', a.attnotnull) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'indexes', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('name', n.relname, 'primary', i.indisprimary, 'immediate', i.indimmediate,
      'valid', i.indisvalid AND i.indisready AND i.indislive, 'partial', i.indpred IS NOT NULL, 'expr', i.indexprs IS NOT NULL,
      'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.n) FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(att, n)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att WHERE k.n <= i.indnkeyatts))
      ORDER BY i.indisprimary DESC, n.relname COLLATE "C")
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class n ON n.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisunique))::pg_catalog.text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND s.nspname <> 'information_schema' AND s.nspname NOT LIKE 'pg!_%' ESCAPE '!'
ORDER BY s.nspname COLLATE "C", c.relname COLLATE "C"`

func relations(ctx context.Context, q rules.Querier) ([]*relation, error) {
	rows, err := q(ctx, relationsSQL)
	if err != nil {
		return nil, fmt.Errorf("read catalogue (relations): %w", err)
	}
	all := make([]*relation, len(rows))
	for i, row := range rows {
		if len(row) != 1 || row[0] == nil {
			return nil, errors.New("read catalogue (relations): a row is not one text")
		}
		all[i] = new(relation)
		if err := json.Unmarshal([]byte(*row[0]), all[i]); err != nil {
			return nil, fmt.Errorf("read catalogue (relations): %w", err)
		}
	}
	return all, nil
}
