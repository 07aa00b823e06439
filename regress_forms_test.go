package wtcache_test

import "testing"

// TestWritesOfOtherRows runs statements that change rows, or keys, which their text does
// not name. When one fails, a trigger, a foreign key or a view's plan leaves an entry
// behind that nothing takes away before its TTL ends.
func TestWritesOfOtherRows(t *testing.T) {
	for _, f := range []*family{
		oneFlagFamily, treeFamily, chainFamily, derivedParentFamily, totalsFamily, hiddenKeyFamily, joinedViewFamily,
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, f)
			for i := range f.forms {
				t.Run(f.forms[i].name, func(t *testing.T) { w.tryForm(t, &f.forms[i]) })
			}
		})
	}
}

// oneFlagFamily has BEFORE triggers that write further rows of their own table, on the
// table itself and on a child.
var oneFlagFamily = &family{
	name: "before triggers that write their own table",
	ddl: `CREATE TABLE flags (id int PRIMARY KEY, top bool NOT NULL DEFAULT false, n int NOT NULL DEFAULT 0);
		CREATE TABLE flags_apart (PRIMARY KEY (id)) INHERITS (flags);
		CREATE VIEW flags_shown AS SELECT top, id, n FROM flags WHERE id < 100;
		CREATE FUNCTION one_top() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF NEW.top THEN UPDATE flags SET top = false WHERE top AND id <> NEW.id; END IF; RETURN NEW; END $$;
		CREATE TRIGGER b BEFORE INSERT OR UPDATE ON flags FOR EACH ROW EXECUTE FUNCTION one_top();
		CREATE TRIGGER b BEFORE INSERT OR UPDATE ON flags_apart FOR EACH ROW EXECUTE FUNCTION one_top()`,
	seed: `TRUNCATE flags; INSERT INTO flags (id) SELECT generate_series(1, 4); INSERT INTO flags_apart (id) VALUES (5), (6);
		UPDATE flags SET top = true WHERE id = 2`,
	rules:  map[string]string{"flags": "table: {{S}}.flags\nvia: [{{S}}.flags_shown]\nkey: \"{{P}}flag:{id}\"\n"},
	tables: []table{{name: "{{S}}.flags", entries: []entry{{get: "flags", key: "flag:{id}", absent: true}}}},
	forms: []form{
		{name: "one row", sql: `UPDATE flags SET top = true WHERE id = 1`},
		{name: "one row, arguments", sql: `UPDATE flags SET top = $1 WHERE id = $2`, args: []any{true, 1}},
		{name: "one row, prepared", sql: `UPDATE flags SET top = $1 WHERE id = $2`, args: []any{true, 1}, how: byPrepExec},
		{name: "each takes it from the one before", sql: `UPDATE flags SET top = true WHERE id = 1; UPDATE flags SET top = true WHERE id = 3`},
		{name: "captured before, in one statement", sql: `UPDATE flags SET top = true WHERE id IN (3, 4)`},
		{name: "insert", sql: `INSERT INTO flags VALUES (9, true) RETURNING id`, how: byQueryRow},
		{name: "conflict", sql: `INSERT INTO flags VALUES (1, true) ON CONFLICT (id) DO UPDATE SET top = true`},
		{name: "through a view", sql: `UPDATE flags_shown SET top = true WHERE id = 1; UPDATE flags_shown SET top = true WHERE id = 3`},
		{name: "a child", sql: `UPDATE flags_apart SET top = true WHERE id = 5`},
		{name: "insert into a child", sql: `INSERT INTO flags_apart VALUES (7, true)`},
	},
}

// treeFamily has a foreign key of a table to itself: what goes with a node is known to the
// server alone.
var treeFamily = &family{
	name: "foreign keys to the own table",
	ddl: `CREATE TABLE nodes (id int PRIMARY KEY, parent int REFERENCES nodes ON DELETE CASCADE ON UPDATE CASCADE, name text, boss text);
		ALTER TABLE nodes ADD UNIQUE (name), ADD FOREIGN KEY (boss) REFERENCES nodes (name) ON UPDATE CASCADE ON DELETE SET NULL`,
	seed: `TRUNCATE nodes; INSERT INTO nodes VALUES (1, NULL, 'a', NULL), (2, 1, 'b', 'a'), (3, 2, 'c', 'b'), (4, 3, 'd', 'a'), (5, NULL, 'e', 'd'), (6, 5, 'f', NULL)`,
	rules: map[string]string{
		"nodes": "table: {{S}}.nodes\nkey: \"{{P}}node:{id}\"\ninvalidate: [\"{{P}}children:{parent}\", \"{{P}}staff:{boss}\"]\n",
	},
	tables: []table{{name: "{{S}}.nodes", entries: []entry{{get: "nodes", key: "node:{id}"}}, shared: []string{"children:{parent}", "staff:{boss}"}}},
	forms: []form{
		{name: "a whole tree goes", sql: `DELETE FROM nodes WHERE id = 1`, class: uncounted},
		{name: "a branch goes, by an argument", sql: `DELETE FROM nodes WHERE id = $1`, args: []any{2}, class: uncounted},
		{name: "a branch goes, prepared", sql: `DELETE FROM nodes WHERE id = $1 RETURNING name`, args: []any{2}, how: byPrepQuery, class: uncounted},
		{name: "a leaf whose name others hold", sql: `DELETE FROM nodes WHERE id = 4`, class: uncounted},
		{name: "the key moves", sql: `UPDATE nodes SET id = 20 WHERE id = 2`, class: uncounted},
		{name: "the key moves, by FROM", sql: `UPDATE nodes n SET id = n.id + g FROM generate_series(20, 20) g WHERE n.id = 2`, class: uncounted},
		{name: "a name moves", sql: `UPDATE nodes SET name = $1 WHERE id = $2`, args: []any{"z", 1}, class: uncounted},
		{name: "a name moves by conflict", sql: `INSERT INTO nodes VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'z'`, class: uncounted},
		{name: "written, then gone", sql: `UPDATE nodes SET name = 'z' WHERE id = 3; DELETE FROM nodes WHERE id = 1`, class: uncounted},
		{name: "written, then its boss moves", sql: `UPDATE nodes SET parent = NULL WHERE id = 2; UPDATE nodes SET name = 'z' WHERE id = 1`, class: uncounted},
		{name: "what no key refers to", sql: `UPDATE nodes SET parent = 6 WHERE id = 2`},
	},
}

// chainFamily has foreign keys that act on a ruled table through tables without a rule.
var chainFamily = &family{
	name: "foreign keys through other tables",
	ddl: `CREATE TABLE regions (id int, code text);
		CREATE TABLE lands (PRIMARY KEY (id), UNIQUE (code)) INHERITS (regions);
		CREATE TABLE towns (id int PRIMARY KEY, land text REFERENCES lands (code) ON UPDATE CASCADE ON DELETE CASCADE, UNIQUE (id, land));
		CREATE TABLE streets (id int PRIMARY KEY, town int, land text, FOREIGN KEY (town, land) REFERENCES towns (id, land) ON UPDATE CASCADE ON DELETE SET NULL);
		CREATE VIEW north AS SELECT * FROM lands WHERE id < 3;
		CREATE VIEW far_north AS SELECT * FROM north WHERE id < 2`,
	seed: `TRUNCATE lands, towns, streets; INSERT INTO lands VALUES (1, 'no'), (2, 'se'), (3, 'fi'); INSERT INTO towns VALUES (1, 'no'), (2, 'no'), (3, 'se');
		INSERT INTO streets VALUES (1, 1, 'no'), (2, 2, 'no'), (3, 3, 'se')`,
	rules:  map[string]string{"streets": "table: {{S}}.streets\nkey: \"{{P}}street:{id}\"\ninvalidate: [\"{{P}}land:{land}\"]\n"},
	tables: []table{{name: "{{S}}.streets", entries: []entry{{get: "streets", key: "street:{id}"}}, shared: []string{"land:{land}"}}},
	forms: []form{
		{name: "delete of the first", sql: `DELETE FROM lands WHERE id = 1`, class: coarse},
		{name: "delete of the first, arguments", sql: `DELETE FROM {{S}}.lands AS l WHERE l.id = $1`, args: []any{1}, class: coarse},
		{name: "delete of the second", sql: `DELETE FROM towns WHERE id = 3`, class: coarse},
		{name: "update of the first", sql: `UPDATE lands SET code = 'nn' WHERE id = 1`, class: coarse},
		{name: "update of the first, prepared", sql: `UPDATE lands SET (id, code) = (10, $1) WHERE id = 1`, args: []any{"nn"}, how: byPrepExec, class: coarse},
		{name: "update of the second", sql: `UPDATE towns SET id = 30 WHERE id = 3`, class: coarse},
		{name: "upsert of the first", sql: `INSERT INTO lands VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET code = 'nn'`, class: coarse},
		{name: "merge", sql: `MERGE INTO lands USING (VALUES (1)) v(i) ON id = i WHEN MATCHED THEN UPDATE SET code = 'nn'`, class: coarse},
		{name: "merge that deletes", sql: `MERGE INTO lands USING (VALUES (1)) v(i) ON id = i WHEN MATCHED THEN DELETE`, class: coarse},
		{name: "in a CTE", sql: `WITH d AS (DELETE FROM towns WHERE land = 'no' RETURNING 1) SELECT count(*) FROM d`, how: byQuery, class: coarse},
		{name: "explained", sql: `EXPLAIN ANALYZE DELETE FROM lands WHERE id = 1`, how: byQuery, class: coarse},
		{name: "by EXECUTE", inTx: []string{`PREPARE gone AS DELETE FROM lands WHERE id = 1`}, sql: `EXECUTE gone`, class: coarse},
		{name: "through a view", sql: `DELETE FROM north WHERE id = 1`, class: coarse},
		{name: "through a view of a view, arguments", sql: `UPDATE far_north SET code = $1`, args: []any{"nn"}, class: coarse},
		{name: "through an ancestor", sql: `UPDATE regions SET code = 'nn' WHERE id = 1`, class: coarse},
		{name: "in a DO block", sql: `DO $$ BEGIN DELETE FROM lands WHERE id = 1; END $$`, class: coarse},
		{name: "captured before", sql: `UPDATE streets SET id = 10 WHERE id = 1; DELETE FROM lands WHERE id = 1`, class: uncounted},
		{name: "captured after", sql: `DELETE FROM lands WHERE id = 1; UPDATE streets SET land = 'se' WHERE id = 1`, class: uncounted},
		{name: "what no key refers to", sql: `UPDATE lands SET id = 30 WHERE id = 3`, class: untouched, same: true},
		{name: "insert", sql: `INSERT INTO towns VALUES (4, 'se')`, class: untouched, same: true},
	},
}

// derivedParentFamily has columns that foreign keys refer to and that no statement assigns.
var derivedParentFamily = &family{
	name: "foreign keys to derived columns",
	ddl: `CREATE TABLE brands (id int PRIMARY KEY, name text, slug text GENERATED ALWAYS AS (lower(name)) STORED UNIQUE);
		CREATE TABLE makers (id int PRIMARY KEY, name text, slug text UNIQUE);
		CREATE FUNCTION makers_slug() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.slug := lower(NEW.name); RETURN NEW; END $$;
		CREATE TRIGGER b BEFORE INSERT OR UPDATE ON makers FOR EACH ROW EXECUTE FUNCTION makers_slug();
		CREATE TABLE cars (id int PRIMARY KEY, brand text REFERENCES brands (slug) ON UPDATE CASCADE, maker text REFERENCES makers (slug) ON UPDATE CASCADE)`,
	seed: `TRUNCATE brands, makers, cars; INSERT INTO brands VALUES (1, 'One'), (2, 'Two'); INSERT INTO makers VALUES (1, 'One'), (2, 'Two');
		INSERT INTO cars VALUES (1, 'one', NULL), (2, 'two', 'one'), (3, NULL, 'two')`,
	rules:  map[string]string{"cars": "table: {{S}}.cars\nkey: \"{{P}}car:{id}\"\n"},
	tables: []table{{name: "{{S}}.cars", entries: []entry{{get: "cars", key: "car:{id}"}}}},
	forms: []form{
		{name: "a generated column follows", sql: `UPDATE brands SET name = 'New' WHERE id = 1`, class: coarse},
		{name: "a generated column follows, arguments", sql: `UPDATE brands SET name = $1 WHERE id = $2`, args: []any{"New", 1}, class: coarse},
		{name: "a generated column follows, conflict", sql: `INSERT INTO brands VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'New'`, class: coarse},
		{name: "a trigger changes it", sql: `UPDATE makers SET name = 'New' WHERE id = 1`, class: coarse},
		{name: "a trigger changes it, captured before", sql: `UPDATE cars SET brand = 'one' WHERE id = 2; UPDATE makers SET name = 'New' WHERE id = 1`, class: uncounted},
	},
}

// totalsFamily has triggers on tables without a rule that write a ruled row. Alone such a
// write is not captured; what it must not do is leave a payload from earlier in the same
// transaction standing.
var totalsFamily = &family{
	name: "triggers on other tables",
	ddl: `CREATE TABLE buyers (id int PRIMARY KEY, name text, total int NOT NULL DEFAULT 0);
		CREATE TABLE purchases (id serial PRIMARY KEY, buyer int, amount int);
		CREATE TABLE resets (n int);
		CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			UPDATE buyers SET total = total + NEW.amount WHERE id = NEW.buyer; RETURN NULL; END $$;
		CREATE TRIGGER a AFTER INSERT OR UPDATE ON purchases FOR EACH ROW EXECUTE FUNCTION add_up();
		CREATE FUNCTION start_over() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE buyers SET total = -1; RETURN NULL; END $$;
		CREATE TRIGGER a AFTER DELETE OR TRUNCATE ON resets FOR EACH STATEMENT EXECUTE FUNCTION start_over();
		CREATE VIEW recent AS SELECT * FROM purchases`,
	seed:   `TRUNCATE buyers, purchases RESTART IDENTITY; INSERT INTO buyers VALUES (1, 'ann', 10); INSERT INTO purchases (buyer, amount) VALUES (9, 1)`,
	rules:  map[string]string{"buyers": "table: {{S}}.buyers\nkey: \"{{P}}buyer:{id}\"\n"},
	tables: []table{{name: "{{S}}.buyers", entries: []entry{{get: "buyers", key: "buyer:{id}", absent: true}}}},
	forms: []form{
		{name: "insert", sql: captured + `INSERT INTO purchases (buyer, amount) VALUES (1, 5)`, class: uncounted},
		{name: "insert, then captured", sql: `INSERT INTO purchases (buyer, amount) VALUES (1, 5); UPDATE buyers SET name = 'x' WHERE id = 1`, class: uncounted},
		{name: "insert with an argument", inTx: []string{capture}, sql: `INSERT INTO purchases (buyer, amount) VALUES (1, $1)`, args: []any{5}, class: uncounted},
		{name: "insert prepared", inTx: []string{capture}, sql: `INSERT INTO purchases (buyer, amount) VALUES (1, $1) RETURNING id`, args: []any{5}, how: byPrepQuery, class: uncounted},
		{name: "insert into a view", sql: captured + `INSERT INTO recent (id, buyer, amount) VALUES (7, 1, 5)`, class: uncounted},
		{name: "update", sql: captured + `UPDATE purchases SET buyer = 1`, class: uncounted},
		{name: "conflict", sql: captured + `INSERT INTO purchases VALUES (1) ON CONFLICT (id) DO UPDATE SET buyer = 1`, class: uncounted},
		{name: "merge", sql: captured + `MERGE INTO purchases USING (VALUES (1)) v(i) ON id = i WHEN MATCHED THEN UPDATE SET buyer = 1`, class: uncounted},
		{name: "in a CTE", sql: captured + `WITH i AS (INSERT INTO purchases (buyer, amount) VALUES (1, 5) RETURNING 1) SELECT * FROM i`, class: uncounted},
		{name: "explained", sql: captured + `EXPLAIN ANALYZE INSERT INTO purchases (buyer, amount) VALUES (1, 5)`, class: uncounted},
		{name: "by EXECUTE", inTx: []string{`PREPARE buy AS INSERT INTO purchases (buyer, amount) VALUES (1, 5)`, capture}, sql: `EXECUTE buy`, class: uncounted},
		{name: "in a DO block", sql: captured + `DO $$ BEGIN INSERT INTO purchases (buyer, amount) VALUES (1, 5); END $$`, class: uncounted},
		{name: "copied in", sql: captured + `COPY purchases (buyer, amount) FROM PROGRAM 'printf "1\t5\n"'`, class: uncounted},
		{name: "delete", sql: captured + `DELETE FROM resets`, class: uncounted},
		{name: "truncate", sql: captured + `TRUNCATE resets`, class: uncounted},
	},
}

const (
	capture  = `UPDATE buyers SET name = 'x' WHERE id = 1`
	captured = capture + `; `
)

// hiddenKeyFamily is written by a role that policies bind, so that nothing is captured, and
// has key columns that follow from other columns.
var hiddenKeyFamily = &family{
	name: "derived keys under row-level security",
	ddl: `CREATE TABLE goods (id int PRIMARY KEY, a int, g int GENERATED ALWAYS AS (a * 10) STORED);
		CREATE TABLE things (id int PRIMARY KEY, name text, slug text);
		CREATE FUNCTION things_slug() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.slug := lower(NEW.name); RETURN NEW; END $$;
		CREATE TRIGGER b BEFORE INSERT OR UPDATE ON things FOR EACH ROW EXECUTE FUNCTION things_slug();
		ALTER TABLE goods ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON goods USING (true);
		ALTER TABLE things ENABLE ROW LEVEL SECURITY; CREATE POLICY all_rows ON things USING (true);
		CREATE ROLE {{R}}; GRANT USAGE ON SCHEMA {{S}} TO {{R}}; GRANT ALL ON goods, things TO {{R}}`,
	drop: `DROP OWNED BY {{R}}; DROP ROLE {{R}}`,
	seed: `TRUNCATE goods, things; INSERT INTO goods VALUES (1, 1), (2, 2), (3, 3); INSERT INTO things VALUES (1, 'One'), (2, 'Two')`,
	rules: map[string]string{
		"goods":  "table: {{S}}.goods\nkey: \"{{P}}good:{id}\"\ninvalidate: [\"{{P}}group:{g}\"]\n",
		"things": "table: {{S}}.things\nkey: \"{{P}}thing:{id}\"\ninvalidate: [\"{{P}}slug:{slug}\"]\n",
	},
	tables: []table{
		{name: "{{S}}.goods", entries: []entry{{get: "goods", key: "good:{id}"}}, shared: []string{"group:{g}"}},
		{name: "{{S}}.things", entries: []entry{{get: "things", key: "thing:{id}"}}, shared: []string{"slug:{slug}"}},
	},
	forms: []form{
		{name: "a generated key follows", session: asRole, sql: `UPDATE goods SET a = 2 WHERE id = 1 AND g = 10`, class: uncounted},
		{name: "a generated key follows, arguments", session: asRole, sql: `UPDATE goods SET a = $1 WHERE id = $2 AND g = $3`, args: []any{2, 1, 10}, class: uncounted},
		{name: "a trigger changes a key", session: asRole, sql: `UPDATE things SET name = 'Two' WHERE id = 1 AND slug = 'one'`, class: uncounted},
		{name: "a trigger changes a key, arguments", session: asRole, sql: `UPDATE things SET name = $1 WHERE id = $2 AND slug = $3`, args: []any{"Two", 1, "one"}, class: uncounted},
		{name: "a trigger makes a key", session: asRole, sql: `INSERT INTO things (id, name, slug) VALUES (3, 'One', 'three')`, class: uncounted},
		{name: "a conflict moves a key", session: asRole, sql: `INSERT INTO goods (id, a) VALUES (1, 7) ON CONFLICT (id) DO UPDATE SET a = 2`, class: uncounted},
		{name: "a row goes", session: asRole, sql: `DELETE FROM goods WHERE id = 1 AND g = 10`, class: pinned},
	},
}

// joinedViewFamily has a view whose condition the planner may turn into a join with many
// rows, in which old keys have to be those of the row that is updated.
var joinedViewFamily = &family{
	name: "views that sort before they update",
	ddl: `CREATE TABLE guests (id int PRIMARY KEY, mail text UNIQUE); CREATE TABLE visits (guest int, pad text);
		INSERT INTO visits SELECT i % 3 + 1, repeat('x', 200) FROM generate_series(1, 3000) i; ANALYZE visits;
		CREATE VIEW seen AS SELECT * FROM guests WHERE id IN (SELECT guest FROM visits)`,
	seed:  `TRUNCATE guests; INSERT INTO guests SELECT i, 'e' || i FROM generate_series(1, 4) i; ANALYZE guests`,
	rules: map[string]string{"guests": "table: {{S}}.guests\nvia: [{{S}}.seen]\nentries:\n  - key: \"{{P}}guest:{id}\"\n  - key: \"{{P}}mail:{mail}\"\n"},
	tables: []table{{name: "{{S}}.guests", entries: []entry{
		{get: "guests.by_id", key: "guest:{id}"}, {get: "guests.by_mail", key: "mail:{mail}"},
	}}},
	forms: []form{
		{name: "merge join", session: []string{`SET enable_nestloop = off`, `SET enable_hashjoin = off`}, sql: `UPDATE seen SET mail = 'n' || id`},
		{name: "hash join", session: []string{`SET enable_nestloop = off`, `SET enable_mergejoin = off`}, sql: `UPDATE seen SET mail = 'n' || id`},
		{name: "merge join, keys", session: []string{`SET enable_nestloop = off`, `SET enable_hashjoin = off`}, sql: `UPDATE seen SET id = id + 10 RETURNING mail`, how: byQuery},
	},
}
