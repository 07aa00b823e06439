package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// blindSpot is a way in which a ruled table can be written without a statement on it.
type blindSpot struct {
	Root   uint32
	Kind   string // cascade, trigger, function, subscription
	Schema string // of the table or function; "" for a subscription
	Name   string
	Detail string // the foreign key's or the trigger function's name

	// Of a cascade: whether the foreign key acts on DELETE, and the columns whose UPDATE
	// it acts on. Of a trigger, Delete says that its function's text writes the table.
	Delete  bool
	Columns []string

	// Derived says that a generated column or a trigger of the table may change the columns
	// without an UPDATE that assigns them.
	Derived bool
}

func (s blindSpot) name() Name { return Name{s.Schema, s.Name} }

// blindSpotsSQL looks beyond the tables themselves: foreign keys that act on them (also
// through further tables), functions that mention them, subscriptions that fill them. A
// function counts where its body depends on a table, or where its text holds the table's
// name and a word that writes. The name stands alone there: \m and \M would want a letter at its
// ends, which not every name has ("wow!", and "café" where the locale is C).
const blindSpotsSQL = ` , ruled AS (
  SELECT DISTINCT r.root, c.oid, n.spelled, pg_catalog.regexp_replace(n.spelled, E'(\\W)', E'\\\\\\1', 'g') AS pattern
  FROM reach r JOIN pg_catalog.pg_class c ON c.oid = r.oid
  CROSS JOIN LATERAL (SELECT pg_catalog.replace(c.relname::pg_catalog.text, '"', '""') AS spelled) n WHERE r.how IN ('self', 'down')
), acting AS (
  SELECT oid, conname, conrelid, confrelid FROM pg_catalog.pg_constraint
  WHERE contype = 'f' AND (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))
), cascade(root, src, con) AS (
  SELECT u.root, a.confrelid, a.oid FROM ruled u JOIN acting a ON a.conrelid = u.oid
  UNION
  SELECT k.root, a.confrelid, a.oid FROM cascade k JOIN acting a ON a.conrelid = k.src
), written AS (
  SELECT u.root, p.oid, p.proname, s.nspname, p.prorettype = 'pg_catalog.trigger'::pg_catalog.regtype AS fires,
    p.prosrc ~* E'\\mexecute\\M' OR p.prosrc ~* (E'\\m(insert\\s+into|update(\\s+only)?|delete\\s+from(\\s+only)?|merge\\s+into)\\s+([a-z0-9_"]+\\s*\\.\\s*)?"?'
      || u.pattern || E'(?!\\w)') AS writes
  FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace s ON s.oid = p.pronamespace
  JOIN pg_catalog.pg_language l ON l.oid = p.prolang CROSS JOIN ruled u
  WHERE s.nspname NOT IN ('pg_catalog', 'information_schema') AND p.prokind IN ('f', 'p') AND l.lanname NOT IN ('c', 'internal')
    AND (EXISTS (SELECT 1 FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
        AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = u.oid)
      OR (pg_catalog.strpos(pg_catalog.lower(p.prosrc), pg_catalog.lower(u.spelled)) > 0
        AND p.prosrc ~* E'\\m(insert|update|delete|merge|copy|truncate|execute)\\M'
        AND p.prosrc ~* (E'(?<!\\w)' || u.pattern || E'(?!\\w)')))
)
SELECT 'blind', pg_catalog.json_build_object('root', root::pg_catalog.int8, 'kind', kind, 'schema', nsp, 'name', name, 'detail', detail,
  'delete', del, 'columns', cols)::pg_catalog.text FROM (
  SELECT DISTINCT k.root, 'cascade' AS kind, s.nspname AS nsp, c.relname AS name, f.conname::pg_catalog.text AS detail,
    f.confdeltype IN ('c', 'n', 'd') AS del,
    CASE WHEN f.confupdtype IN ('c', 'n', 'd') THEN ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
      WHERE a.attrelid = f.confrelid AND a.attnum = ANY (f.confkey) ORDER BY a.attnum) END AS cols
  FROM cascade k JOIN pg_catalog.pg_constraint f ON f.oid = k.con JOIN pg_catalog.pg_class c ON c.oid = k.src JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
  UNION ALL
  SELECT DISTINCT w.root, 'trigger', s.nspname, c.relname, w.nspname || '.' || w.proname, w.writes, NULL::pg_catalog.text[] FROM written w
  JOIN pg_catalog.pg_trigger g ON g.tgfoid = w.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D'
  JOIN pg_catalog.pg_class c ON c.oid = g.tgrelid JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
  WHERE w.fires AND (w.writes OR g.tgrelid NOT IN (SELECT u.oid FROM ruled u WHERE u.root = w.root))
  UNION ALL
  SELECT DISTINCT root, 'function', nspname, proname, '', false, NULL::pg_catalog.text[] FROM written WHERE NOT fires
  UNION ALL
  SELECT DISTINCT u.root, 'subscription', '', b.subname, '', false, NULL::pg_catalog.text[] FROM ruled u
  JOIN pg_catalog.pg_subscription_rel r ON r.srrelid = u.oid JOIN pg_catalog.pg_subscription b ON b.oid = r.srsubid
) x ORDER BY 2`

func (c *Catalog) loadBlindSpots(ctx context.Context, q Querier, rules []*Rule) error {
	rows, err := q(ctx, namedSQL(rules)+closureSQL+blindSpotsSQL)
	if err != nil {
		return err
	}
	for _, row := range rows {
		_, body, err := twoCells(row)
		if err != nil {
			return err
		}
		if err := decodeFact(body, func(s *blindSpot) { c.blind = append(c.blind, *s) }); err != nil {
			return fmt.Errorf("decode blind spot: %w", err)
		}
	}
	return nil
}

// warnAll says which writes of the rules' tables are not seen, or not precisely.
func (b *binder) warnAll(tables []*Table) {
	if b.cat.recovery && len(tables) > 0 {
		b.warn(tables[0].Rule.Pos, "the server is a standby: nothing can be written here, and readers may see old rows", "connect to the primary")
	}
	for _, t := range tables {
		b.warnTable(t)
		b.warnReached(t)
		for _, s := range b.cat.blind {
			if s.Root == t.OID {
				b.warnBlind(t, s)
			}
		}
	}
}

const unseen = "such writes are not seen: entries keep the old row until their TTL ends"

// blind warns of a way to write a table.
func (b *binder) blind(at Pos, problem, fix string) {
	b.warnings = append(b.warnings, Finding{Pos: at, Problem: problem, Fix: fix, Blind: true})
}

func (b *binder) warnTable(t *Table) {
	at, rel := t.Rule.Pos, t.relation
	if t.AfterTriggers {
		b.blind(at, fmt.Sprintf("%s has AFTER triggers (%s), which may change a row again after it was captured", t.Name, list(b.afterTriggers(t))),
			"its payloads are not stored by writes: entries become absent and are filled by readers")
	}
	if rel.Rules > 0 {
		b.blind(at, fmt.Sprintf("%s has rewrite rules", t.Name), "every write of it makes all entries of the rule absent")
	}
	if rel.RowSecurity {
		b.blind(at, fmt.Sprintf("%s has row-level security", t.Name),
			"for roles that its policies bind, only writes that give every key by value are precise; all others make all entries absent")
	}
}

func (b *binder) afterTriggers(t *Table) []string {
	var names []string
	for _, r := range b.cat.reaches {
		if r.Root != t.OID || (r.How != reachSelf && r.How != reachDown) {
			continue
		}
		for _, g := range b.cat.relations[r.OID].triggers {
			if g.after() && !slices.Contains(names, g.Name) {
				names = append(names, g.Name)
			}
		}
	}
	return names
}

// warnReached names the relations around a table through which writes are coarse.
func (b *binder) warnReached(t *Table) {
	var views, ruled, foreign []string
	for _, r := range b.cat.reaches {
		rel := b.cat.relations[r.OID]
		switch {
		case r.Root != t.OID || r.OID == t.OID || rel == nil:
		case r.How == reachRule && rel.Kind == "v":
			writable := rel.Updatable&updatableAll != 0 || rel.Rules > 0 || slices.ContainsFunc(rel.triggers, trigger.instead)
			if writable && !slices.Contains(t.Rule.Via, rel.name()) {
				views = append(views, rel.name().String())
			}
		case r.How == reachRule:
			ruled = append(ruled, rel.name().String())
		case r.How == reachDown && rel.Kind == "f":
			foreign = append(foreign, rel.name().String())
		}
	}
	coarse := "writes through them make every entry of the rule absent"
	if len(views) > 0 {
		b.blind(t.Rule.Pos, fmt.Sprintf("%s may be written through %s", t.Name, list(views)), "name in via what is a plain view of the table; "+coarse)
	}
	if len(ruled) > 0 {
		b.blind(t.Rule.Pos, fmt.Sprintf("rewrite rules of %s name %s", list(ruled), t.Name), coarse)
	}
	if len(foreign) > 0 {
		b.blind(t.Rule.Pos, fmt.Sprintf("%s has foreign tables among its children (%s)", t.Name, strings.Join(foreign, ", ")), "every write of it makes all entries of the rule absent")
	}
}

func (b *binder) warnBlind(t *Table, s blindSpot) {
	at, name := t.Rule.Pos, s.name()
	switch s.Kind {
	case "cascade":
		b.blind(at, fmt.Sprintf("a DELETE or UPDATE of %s may change rows of %s (foreign key %s)", name, t.Name, s.Detail),
			"such a statement makes every entry of the rule absent where it comes through this driver; "+unseen+" where it does not")
	case "trigger":
		if b.cat.own(t, name) {
			b.blind(at, fmt.Sprintf("a trigger of %s may write further rows of %s (function %s)", name, t.Name, s.Detail),
				"every write of it makes every entry of the rule absent")
			return
		}
		b.blind(at, fmt.Sprintf("a trigger of %s may write %s (function %s)", name, t.Name, s.Detail), unseen)
	case "function":
		b.blind(at, fmt.Sprintf("function %s may write %s", name, t.Name), unseen)
	case "subscription":
		b.blind(at, fmt.Sprintf("subscription %s writes %s", name, t.Name), unseen)
	}
}
