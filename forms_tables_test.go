package wtcache_test

// generatedFamily has columns that Postgres fills in.
var generatedFamily = &family{
	name: "generated columns",
	ddl: `CREATE TABLE gen (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text DEFAULT md5(random()::text), code text GENERATED ALWAYS AS (lower(email)) STORED NOT NULL UNIQUE,
		n serial UNIQUE, made timestamptz NOT NULL DEFAULT now(), total numeric(8,2) GENERATED ALWAYS AS (n * 1.5) STORED)`,
	seed:  `TRUNCATE gen RESTART IDENTITY; INSERT INTO gen (email) VALUES ('A'), ('B'), ('C')`,
	touch: []string{`UPDATE gen SET made = '2024-01-01 12:00:00.5+02' WHERE id = 1`},
	rules: map[string]string{"gen": "table: {{S}}.gen\nentries:\n  - key: \"{{P}}gen:{id}\"\n  - key: \"{{P}}code:{code}\"\n  - key: \"{{P}}n:{n}\"\n"},
	tables: []table{{name: "{{S}}.gen", entries: []entry{
		{get: "gen.by_id", key: "gen:{id}", row: generatedRow}, {get: "gen.by_code", key: "code:{code}", row: generatedRow}, {get: "gen.by_n", key: "n:{n}", row: generatedRow},
	}}},
	forms: []form{
		{name: "default values", sql: `INSERT INTO gen DEFAULT VALUES`},
		{name: "default values returning", sql: `INSERT INTO gen DEFAULT VALUES RETURNING id`, how: byQueryRow},
		{name: "default values twice, prepared", sql: `INSERT INTO gen DEFAULT VALUES`, how: byPrepExec},
		{name: "identity", sql: `INSERT INTO gen (email) VALUES ($1), ('E')`, args: []any{"D"}},
		{name: "overriding system value", sql: `INSERT INTO gen (id, email) OVERRIDING SYSTEM VALUE VALUES (77, 'D')`},
		{name: "overriding user value", sql: `INSERT INTO gen (id, email) OVERRIDING USER VALUE VALUES (1, 'D')`},
		{name: "default keyword", sql: `INSERT INTO gen (id, email, n, code) VALUES (DEFAULT, 'D', DEFAULT, DEFAULT)`},
		{name: "generated key follows", sql: `UPDATE gen SET email = 'D' WHERE id = 1`},
		{name: "generated key follows, pinned by it", sql: `UPDATE gen SET email = $1 WHERE code = $2`, args: []any{"D", "a"}},
		{name: "generated key follows, FROM", sql: `UPDATE gen SET email = email || g FROM generate_series(1, 2) g WHERE g = id`},
		{name: "generated key follows, conflict", sql: `INSERT INTO gen (email) VALUES ('A') ON CONFLICT (code) DO UPDATE SET email = 'moved'`},
		{name: "generated payload follows", sql: `UPDATE gen SET n = n + 10`},
		{name: "generated column assigned DEFAULT", sql: `UPDATE gen SET code = DEFAULT, email = 'D' WHERE id = 2`},
		{name: "identity assigned DEFAULT", sql: `UPDATE gen SET id = DEFAULT WHERE n = 2`},
		{name: "delete", sql: `DELETE FROM gen WHERE code = 'b'`},
		{name: "truncate, restart", sql: `TRUNCATE gen RESTART IDENTITY; INSERT INTO gen (email) VALUES ('Z')`, class: uncounted},
	},
}

const generatedRow = `json_build_object('id', t.id, 'email', t.email, 'code', t.code, 'n', t.n, 'made', rtrim(rtrim(to_char(t.made AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z', 'total', t.total)`

// triggersFamily has BEFORE triggers that change what is stored, or keep it from being stored.
var triggersFamily = &family{
	name: "before triggers",
	ddl: `CREATE TABLE docs (id int PRIMARY KEY, title text, rev int NOT NULL DEFAULT 0);
		CREATE FUNCTION docs_before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF TG_OP = 'DELETE' THEN IF OLD.title = 'kept' THEN RETURN NULL; END IF; RETURN OLD; END IF;
			IF NEW.title = 'veto' THEN RETURN NULL; END IF;
			NEW.rev := NEW.rev + 100; NEW.title := trim(NEW.title); RETURN NEW; END $$;
		CREATE TRIGGER b BEFORE INSERT OR UPDATE OR DELETE ON docs FOR EACH ROW EXECUTE FUNCTION docs_before()`,
	seed:   `TRUNCATE docs; INSERT INTO docs VALUES (1, 'one'), (2, 'kept'), (3, 'three')`,
	touch:  []string{`UPDATE docs SET title = 'uno' WHERE id = 1`},
	rules:  map[string]string{"docs": "table: {{S}}.docs\nkey: \"{{P}}doc:{id}\"\n"},
	tables: []table{{name: "{{S}}.docs", entries: []entry{{get: "docs", key: "doc:{id}"}}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO docs VALUES (4, '  four  ')`},
		{name: "insert vetoed", sql: `INSERT INTO docs (id, title) VALUES ($1, $2)`, args: []any{4, "veto"}, same: true},
		{name: "update", sql: `UPDATE docs SET title = ' x ' WHERE id = 1`},
		{name: "update pinned by an argument", sql: `UPDATE docs SET title = $1 WHERE id = $2`, args: []any{" x ", 3}},
		{name: "update vetoed", sql: `UPDATE docs SET title = 'veto' WHERE id = 1`, same: true},
		{name: "update vetoed for some rows", sql: `UPDATE docs SET title = CASE WHEN id > 1 THEN 'veto' ELSE 'y' END`},
		{name: "conflict", sql: `INSERT INTO docs VALUES (1, 'c'), (5, ' d ') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title || '!'`},
		{name: "conflict that changes the key", sql: `INSERT INTO docs VALUES (1, 'c') ON CONFLICT (id) DO UPDATE SET id = 40`},
		{name: "delete", sql: `DELETE FROM docs`},
		{name: "delete vetoed", sql: `DELETE FROM docs WHERE id = 2`, same: true},
	},
}

// keyTriggerFamily has a BEFORE trigger that changes key columns which no statement assigns.
var keyTriggerFamily = &family{
	name: "before triggers on keys",
	ddl: `CREATE TABLE slugs (id int PRIMARY KEY, title text, slug text UNIQUE);
		CREATE FUNCTION slugs_before() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			NEW.slug := replace(lower(NEW.title), ' ', '-'); IF NEW.title = 'Renumber' THEN NEW.id := NEW.id + 1000; END IF; RETURN NEW; END $$;
		CREATE TRIGGER b BEFORE INSERT OR UPDATE ON slugs FOR EACH ROW EXECUTE FUNCTION slugs_before()`,
	seed:   `TRUNCATE slugs; INSERT INTO slugs VALUES (1, 'One Two'), (2, 'Three'), (3, NULL)`,
	touch:  []string{`UPDATE slugs SET title = 'Uno Due' WHERE id = 1`},
	rules:  map[string]string{"slugs": "table: {{S}}.slugs\nentries:\n  - key: \"{{P}}slug_id:{id}\"\n  - key: \"{{P}}slug:{slug}\"\n"},
	tables: []table{{name: "{{S}}.slugs", entries: []entry{{get: "slugs.by_id", key: "slug_id:{id}"}, {get: "slugs.by_slug", key: "slug:{slug}"}}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO slugs VALUES (4, 'Four Five', 'ignored')`},
		{name: "insert whose key moves", sql: `INSERT INTO slugs VALUES ($1, $2)`, args: []any{4, "Renumber"}},
		{name: "update", sql: `UPDATE slugs SET title = 'New Title' WHERE id = 1`},
		{name: "update, arguments", sql: `UPDATE slugs SET title = $1 WHERE id = $2`, args: []any{"New Title", 1}},
		{name: "update of every row", sql: `UPDATE slugs SET title = title || id`},
		{name: "update of the primary key by trigger", sql: `UPDATE slugs SET title = 'Renumber' WHERE slug = 'three'`},
		{name: "update FROM", sql: `UPDATE slugs s SET title = g || 'G' FROM generate_series(1, 2) g WHERE g = s.id`},
		{name: "update of nothing that matters", sql: `UPDATE slugs SET slug = 'ignored' WHERE id = 2`, same: true},
		{name: "conflict", sql: `INSERT INTO slugs VALUES (1, 'A'), (9, 'B') ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title || ' again'`},
		{name: "to NULL", sql: `UPDATE slugs SET title = NULL WHERE id = 1`},
		{name: "from NULL", sql: `UPDATE slugs SET title = 'Now' WHERE id = 3`},
	},
}

// afterTriggerFamily has an AFTER trigger that changes the row once more, so that what
// RETURNING shows is not what is committed.
var afterTriggerFamily = &family{
	name: "after triggers",
	ddl: `CREATE TABLE counts (id int PRIMARY KEY, n int, seen int NOT NULL DEFAULT 0);
		CREATE FUNCTION counts_after() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF pg_trigger_depth() = 1 THEN UPDATE counts SET seen = seen + 1 WHERE id = NEW.id; END IF; RETURN NULL; END $$;
		CREATE TRIGGER a AFTER INSERT OR UPDATE ON counts FOR EACH ROW EXECUTE FUNCTION counts_after()`,
	seed:   `TRUNCATE counts; INSERT INTO counts VALUES (1, 1), (2, 2), (3, 3)`,
	rules:  map[string]string{"counts": "table: {{S}}.counts\nkey: \"{{P}}count:{id}\"\n"},
	tables: []table{{name: "{{S}}.counts", entries: []entry{{get: "counts", key: "count:{id}", absent: true}}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO counts VALUES (4, 4)`},
		{name: "insert, arguments", sql: `INSERT INTO counts (id, n) VALUES ($1, $2)`, args: []any{4, 4}},
		{name: "update", sql: `UPDATE counts SET n = 10 WHERE id = $1`, args: []any{1}},
		{name: "update of every row returning", sql: `UPDATE counts SET n = n + 10 RETURNING seen`, how: byQuery},
		{name: "conflict", sql: `INSERT INTO counts VALUES (1, 4), (9, 9) ON CONFLICT (id) DO UPDATE SET n = 0`},
		{name: "delete", sql: `DELETE FROM counts WHERE id = 1`},
		{name: "update twice", sql: `UPDATE counts SET n = 10 WHERE id = 1; UPDATE counts SET n = 11 WHERE id = 1`},
	},
}

var partitionsFamily = &family{
	name: "partitions",
	ddl: `CREATE TABLE events (region text NOT NULL, id int NOT NULL, body text, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
		CREATE TABLE events_eu PARTITION OF events FOR VALUES IN ('de', 'fr') PARTITION BY RANGE (id);
		CREATE TABLE events_eu_low PARTITION OF events_eu FOR VALUES FROM (0) TO (100);
		CREATE TABLE "Events EU High" (body text, id int NOT NULL, gone int, region text NOT NULL);
		ALTER TABLE "Events EU High" DROP COLUMN gone;
		ALTER TABLE events_eu ATTACH PARTITION "Events EU High" FOR VALUES FROM (100) TO (1000);
		CREATE TABLE events_rest PARTITION OF events DEFAULT`,
	seed:   `TRUNCATE events; INSERT INTO events VALUES ('de', 1, 'a'), ('de', 150, 'b'), ('fr', 2, 'c'), ('us', 1, 'd')`,
	touch:  []string{`UPDATE events SET body = 'A' WHERE region = 'de' AND id = 1`, `UPDATE "Events EU High" SET body = 'B'`},
	rules:  map[string]string{"events": "table: {{S}}.events\nkey: \"{{P}}event:{region}:{id}\"\n"},
	tables: []table{{name: "{{S}}.events", entries: []entry{{get: "events", key: "event:{region}:{id}"}}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO events VALUES ('fr', 500, 'new')`},
		{name: "insert, arguments", sql: `INSERT INTO events (id, region, body) VALUES ($1, $2, $3)`, args: []any{7, "jp", "new"}},
		{name: "insert into several", sql: `INSERT INTO events SELECT r, i, 'new' FROM unnest('{de,fr,xx}'::text[]) r, generate_series(90, 110, 10) i`},
		{name: "insert into a partition", sql: `INSERT INTO events_eu_low VALUES ('fr', 50, 'new')`},
		{name: "insert into a partition of other column order", sql: `INSERT INTO "Events EU High" VALUES ('new', 200, 'fr')`},
		{name: "insert into a middle partition", sql: `INSERT INTO events_eu (id, region) VALUES (300, 'de') RETURNING *`, how: byQuery},
		{name: "update", sql: `UPDATE events SET body = 'new' WHERE region = 'de'`},
		{name: "update pinned", sql: `UPDATE events SET body = $1 WHERE region = $2 AND id = $3`, args: []any{"new", "us", 1}},
		{name: "update of a partition", sql: `UPDATE "Events EU High" e SET body = 'new' WHERE e.id = 150`},
		{name: "update of a default partition", sql: `UPDATE events_rest SET id = id + 1`},
		{name: "row moves", sql: `UPDATE events SET region = 'jp' WHERE region = 'de' AND id = 1`},
		{name: "rows move both ways", sql: `UPDATE events SET id = 200 - id WHERE region <> 'us'`},
		{name: "row moves from a middle partition", sql: `UPDATE events_eu SET id = id + 100, body = 'moved' WHERE id < 100`},
		{name: "row moves by FROM", sql: `UPDATE events e SET region = 'jp' || g FROM generate_series(1, 2) g WHERE e.id = g AND region <> 'us' RETURNING e.*`, how: byQuery},
		{name: "conflict", sql: `INSERT INTO events VALUES ('us', 1, 'x'), ('us', 2, 'y') ON CONFLICT (region, id) DO UPDATE SET body = EXCLUDED.body`},
		{name: "conflict that changes a key", sql: `INSERT INTO events VALUES ('us', 1, 'x') ON CONFLICT (region, id) DO UPDATE SET id = 33`},
		{name: "delete", sql: `DELETE FROM events WHERE id = 1`},
		{name: "delete from a partition", sql: `DELETE FROM "Events EU High"`},
		{name: "delete only the parent", sql: `DELETE FROM ONLY events`, same: true},
		{name: "truncate of a partition", sql: `TRUNCATE events_eu_low`, class: coarse},
		{name: "copy into a partition", sql: `COPY events_rest FROM PROGRAM 'printf "cn\t5\tnew\n"'`, class: coarse},
		{name: "merge into a partition", sql: `MERGE INTO events_eu_low e USING (SELECT 1 AS i) s ON e.id = i WHEN MATCHED THEN UPDATE SET body = 'new'`, class: coarse},
		{name: "partition detached", sql: `ALTER TABLE events DETACH PARTITION events_rest; UPDATE events_rest SET body = 'apart'`, class: uncounted, fresh: true, after: []string{`DELETE FROM events WHERE region = 'fr'`}},
		{name: "partition attached", sql: `CREATE TABLE late (LIKE events); INSERT INTO late VALUES ('late', 1, 'x'); ALTER TABLE events DETACH PARTITION events_rest; ALTER TABLE events ATTACH PARTITION late FOR VALUES IN ('late')`, class: uncounted, fresh: true, after: []string{`UPDATE late SET body = 'later'`, `INSERT INTO events VALUES ('late', 2, 'y')`}},
		{name: "partition made and written", sql: `CREATE TABLE events_jp PARTITION OF events FOR VALUES IN ('jp'); INSERT INTO events_jp VALUES ('jp', 1, 'x'); INSERT INTO events VALUES ('jp', 2, 'y')`, class: uncounted, fresh: true, after: []string{`UPDATE events_jp SET body = 'z' WHERE id = 1`}},
		{name: "partition dropped", sql: `DROP TABLE events_eu`, class: coarse, fresh: true},
	},
}

var inheritanceFamily = &family{
	name: "inheritance",
	ddl: `CREATE TABLE places (id int PRIMARY KEY, name text);
		CREATE TABLE cities (mayor text, PRIMARY KEY (id)) INHERITS (places);
		CREATE TABLE capitals (country text, PRIMARY KEY (id)) INHERITS (cities)`,
	seed:   `TRUNCATE places CASCADE; INSERT INTO places VALUES (1, 'hill'); INSERT INTO cities VALUES (2, 'york', 'm'); INSERT INTO capitals VALUES (3, 'rome', 'n', 'it')`,
	touch:  []string{`UPDATE capitals SET name = 'roma'`},
	rules:  map[string]string{"places": "table: {{S}}.places\nkey: \"{{P}}place:{id}\"\n"},
	tables: []table{{name: "{{S}}.places", entries: []entry{{get: "places", key: "place:{id}"}}}},
	forms: []form{
		{name: "update of the parent", sql: `UPDATE places SET name = upper(name)`},
		{name: "update of the parent, arguments", sql: `UPDATE places SET name = $1 WHERE id = $2`, args: []any{"new", 3}},
		{name: "update of the parent only", sql: `UPDATE ONLY places SET name = upper(name)`},
		{name: "update of keys through the parent", sql: `UPDATE places SET id = id + 10 RETURNING *`, how: byQuery},
		{name: "update of a child", sql: `UPDATE cities SET name = 'new', mayor = 'x'`},
		{name: "update of a child's key", sql: `UPDATE capitals SET id = 30`},
		{name: "insert into a child", sql: `INSERT INTO cities VALUES (4, 'bonn', 'o')`},
		{name: "insert into a grandchild", sql: `INSERT INTO capitals (id, country) VALUES ($1, $2)`, args: []any{5, "fr"}},
		{name: "delete through the parent", sql: `DELETE FROM places WHERE id > 1`},
		{name: "delete from a child", sql: `DELETE FROM cities`},
		{name: "truncate of the parent", sql: `TRUNCATE places`, class: coarse},
		{name: "truncate of a child", sql: `TRUNCATE capitals`, class: coarse},
		{name: "no longer a child", sql: `ALTER TABLE cities NO INHERIT places; UPDATE cities SET name = 'apart'`, class: uncounted, fresh: true, after: []string{`UPDATE places SET name = 'x'`, `DELETE FROM cities`}},
	},
}

const viewRules = `
table: {{S}}.accounts
via: [{{S}}.active, '{{S}}."Active Rich"', {{S}}.narrow]
entries:
  - {key: "{{P}}account:{id}", columns: [id, owner, cents]}
  - {key: "{{P}}owner:{owner}", columns: [id, owner, cents]}
`

var viewsFamily = &family{
	name: "views",
	ddl: `CREATE TABLE accounts (id int PRIMARY KEY, owner text UNIQUE, cents bigint NOT NULL DEFAULT 0, closed bool NOT NULL DEFAULT false);
		CREATE VIEW active AS SELECT * FROM accounts WHERE NOT closed;
		CREATE VIEW "Active Rich" AS SELECT id, cents, owner FROM active WHERE cents > 100 WITH CHECK OPTION;
		CREATE VIEW narrow WITH (security_barrier) AS SELECT owner, cents, id, closed FROM accounts;
		CREATE VIEW unnamed AS SELECT id AS number, owner AS who FROM accounts;
		CREATE VIEW over_view AS SELECT * FROM active;
		CREATE VIEW joined AS SELECT a.id, a.owner, b.owner AS next FROM accounts a JOIN accounts b ON b.id = a.id + 1;
		CREATE FUNCTION joined_write() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE {{S}}.accounts SET owner = NEW.owner WHERE id = OLD.id; RETURN NEW; END';
		CREATE TRIGGER i INSTEAD OF UPDATE ON joined FOR EACH ROW EXECUTE FUNCTION joined_write();
		CREATE VIEW counted AS SELECT count(*) FROM accounts`,
	seed:   `TRUNCATE accounts; INSERT INTO accounts VALUES (1, 'ann', 10, false), (2, 'bob', 200, false), (3, 'cid', 300, false), (4, 'dee', 400, true)`,
	touch:  []string{`UPDATE active SET cents = 11 WHERE id = 1`, `UPDATE "Active Rich" SET cents = 201 WHERE id = 2`},
	rules:  map[string]string{"accounts": viewRules},
	tables: []table{{name: "{{S}}.accounts", entries: []entry{{get: "accounts.by_id", key: "account:{id}", row: accountRow}, {get: "accounts.by_owner", key: "owner:{owner}", row: accountRow}}}},
	forms: []form{
		{name: "update", sql: `UPDATE active SET cents = 5 WHERE id = 1`},
		{name: "update of a key", sql: `UPDATE active SET owner = owner || '!'`},
		{name: "update, arguments", sql: `UPDATE "Active Rich" AS r SET owner = $1, cents = $2 WHERE r.id = $3`, args: []any{"new", 900, 3}},
		{name: "update of a nested view by FROM", sql: `UPDATE "Active Rich" SET owner = g || 'x' FROM generate_series(2, 3) g WHERE id = g RETURNING *`, how: byQuery},
		{name: "insert", sql: `INSERT INTO active VALUES (5, 'eve', 500) RETURNING id`, how: byQueryRow},
		{name: "insert, arguments", sql: `INSERT INTO "Active Rich" (id, owner, cents) VALUES ($1, $2, $3)`, args: []any{5, "eve", 500}},
		{name: "insert that the view does not show", sql: `INSERT INTO active (id, owner, closed) VALUES (5, 'eve', true)`},
		{name: "check option", sql: `INSERT INTO "Active Rich" (id, owner, cents) VALUES (5, 'eve', 5)`, fails: "44000"},
		{name: "conflict", sql: `INSERT INTO active (id, owner) VALUES (1, 'x'), (6, 'y') ON CONFLICT (id) DO UPDATE SET owner = EXCLUDED.owner`},
		{name: "delete", sql: `DELETE FROM narrow WHERE cents > 200`},
		{name: "delete using", sql: `DELETE FROM active a USING accounts b WHERE b.id = a.id + 1`},
		{name: "leaves the view", sql: `UPDATE active SET closed = true, cents = 0 WHERE id IN (1, 2)`},
		{name: "not named in via", sql: `UPDATE unnamed SET who = 'new' WHERE number = 1`, class: coarse},
		{name: "not named in via, nested", sql: `DELETE FROM over_view WHERE id = 1`, class: coarse},
		{name: "not named in via, insert", sql: `INSERT INTO unnamed VALUES ($1, $2) RETURNING who`, args: []any{9, "x"}, how: byQuery, class: coarse},
		{name: "instead of trigger", sql: `UPDATE joined SET owner = 'new' WHERE id = 1`, class: coarse},
		{name: "merge through a CTE of a view", sql: `WITH d AS (DELETE FROM unnamed WHERE number = 2 RETURNING *) SELECT * FROM d`, how: byQuery, class: coarse},
		{name: "a view that is no longer", sql: `DROP VIEW unnamed; DELETE FROM accounts WHERE id = 1`, class: uncounted, fresh: true},
		{name: "a view that changes", sql: `CREATE OR REPLACE VIEW narrow AS SELECT owner, cents, id, closed, 1 AS one FROM accounts WHERE id > 1; UPDATE narrow SET owner = 'new' || id`, class: uncounted, fresh: true},
	},
}

const accountRow = `json_build_object('id', t.id, 'owner', t.owner, 'cents', t.cents)`
