package wtcache_test

// securityFamily is written by a role that sees only its own rows, by its tables'
// owner whom policies do not bind, and by roles that lack rights.
var securityFamily = &family{
	name: "rights",
	ddl: `CREATE TABLE notes (id int PRIMARY KEY, owner text NOT NULL, body text);
		ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
		CREATE POLICY own ON notes FOR ALL USING (owner = 'me') WITH CHECK (owner = 'me');
		CREATE TABLE memos (id int PRIMARY KEY, body text, secret text);
		CREATE ROLE {{R}}; CREATE ROLE {{R}}_blind; CREATE ROLE {{R}}_part; CREATE ROLE {{R}}_reader;
		GRANT USAGE ON SCHEMA {{S}} TO {{R}}, {{R}}_blind, {{R}}_part, {{R}}_reader; GRANT SELECT ON memos TO {{R}}_reader;
		GRANT ALL ON notes, memos TO {{R}};
		GRANT INSERT, UPDATE, DELETE ON memos, notes TO {{R}}_blind;
		GRANT INSERT, UPDATE, DELETE ON memos TO {{R}}_part; GRANT SELECT (id, body) ON memos TO {{R}}_part`,
	drop:  `DROP OWNED BY {{R}}, {{R}}_blind, {{R}}_part, {{R}}_reader; DROP ROLE {{R}}, {{R}}_blind, {{R}}_part, {{R}}_reader`,
	seed:  `TRUNCATE notes, memos; INSERT INTO notes VALUES (1, 'me', 'a'), (2, 'me', 'b'), (3, 'you', 'c'); INSERT INTO memos VALUES (1, 'x', 's'), (2, 'y', 't')`,
	touch: []string{`UPDATE notes SET body = 'A' WHERE id = 1`, `UPDATE memos SET body = 'X' WHERE id = 1`},
	rules: map[string]string{
		"notes": "table: {{S}}.notes\nkey: \"{{P}}note:{id}\"\n",
		"memos": "table: {{S}}.memos\nkey: \"{{P}}memo:{id}\"\n",
	},
	tables: []table{
		{name: "{{S}}.notes", entries: []entry{{get: "notes", key: "note:{id}"}}},
		{name: "{{S}}.memos", entries: []entry{{get: "memos", key: "memo:{id}"}}},
	},
	forms: []form{
		{name: "owner, whom policies do not bind", sql: `UPDATE notes SET body = 'new'`},
		{name: "policy: update pinned by an argument", session: asRole, sql: `UPDATE notes SET body = $1 WHERE id = $2`, args: []any{"new", 1}, class: pinned},
		{name: "policy: update pinned by a constant", session: asRole, sql: `UPDATE notes SET body = 'new' WHERE id = 2`, class: pinned},
		{name: "policy: update of a hidden row", session: asRole, sql: `UPDATE notes SET body = 'new' WHERE id = 3`, class: pinned, same: true},
		{name: "policy: update of what is seen", session: asRole, sql: `UPDATE notes SET body = 'new'`, class: coarse},
		{name: "policy: update without a condition that reads", session: asRole, sql: `UPDATE notes SET body = 'new' WHERE body = 'b'`, class: coarse},
		{name: "policy: update of the key", session: asRole, sql: `UPDATE notes SET id = 20 WHERE id = 2`, class: coarse},
		{name: "policy: insert", session: asRole, sql: `INSERT INTO notes (id, owner, body) VALUES ($1, $2, $3)`, args: []any{5, "me", "n"}, class: pinned},
		{name: "policy: insert returning", session: asRole, sql: `INSERT INTO notes (id, owner) VALUES (5, 'me') RETURNING *`, how: byQuery, class: pinned},
		{name: "policy: insert that it forbids", session: asRole, sql: `INSERT INTO notes (id, owner) VALUES (5, 'you')`, fails: "42501"},
		{name: "policy: insert select", session: asRole, sql: `INSERT INTO notes SELECT id + 50, owner, body FROM notes`, class: coarse},
		{name: "policy: conflict", session: asRole, sql: `INSERT INTO notes (id, owner, body) VALUES (1, 'me', 'n') ON CONFLICT (id) DO UPDATE SET body = 'upserted'`, class: pinned},
		{name: "policy: delete", session: asRole, sql: `DELETE FROM notes WHERE id = 1`, class: pinned},
		{name: "policy: delete of all", session: asRole, sql: `DELETE FROM notes`, class: coarse},
		{name: "policy: role set in the transaction", inTx: []string{`SET LOCAL ROLE {{R}}`}, sql: `UPDATE notes SET body = 'new' WHERE id = 1`, class: pinned},
		{name: "policy: role reset", session: []string{`SET ROLE {{R}}`, `UPDATE notes SET body = 'z' WHERE id = 99`, `RESET ROLE`}, sql: `UPDATE notes SET body = 'new'`},
		{name: "policy: session authorization", session: []string{`SET SESSION AUTHORIZATION {{R}}`}, sql: `DELETE FROM notes`, class: coarse},
		{name: "policy: row_security off", session: []string{`SET ROLE {{R}}`, `SET row_security = off`}, sql: `DELETE FROM notes`, fails: "42501"},
		{name: "no policy on the table", session: asRole, sql: `UPDATE memos SET body = 'new' WHERE id = 2`},
		{name: "no SELECT: insert", session: asBlind, sql: `INSERT INTO memos VALUES (3, 'z')`, fails: "GRANT SELECT ON"},
		{name: "no SELECT: update", session: asBlind, sql: `UPDATE memos SET body = 'new'`, fails: "GRANT SELECT ON"},
		{name: "no SELECT: delete", session: asBlind, sql: `DELETE FROM memos`, fails: "GRANT SELECT ON"},
		{name: "no SELECT: prepared", session: asBlind, sql: `DELETE FROM memos`, how: byPrepExec, fails: "GRANT SELECT ON"},
		{name: "no SELECT, in a script", session: asBlind, sql: `SELECT 1; DELETE FROM memos`, fails: "GRANT SELECT ON"},
		{name: "no SELECT, CTE", session: asBlind, sql: `WITH d AS (DELETE FROM memos) SELECT 1`, class: coarse},
		{name: "SELECT of some columns", session: []string{`SET ROLE {{R}}_part`}, sql: `UPDATE memos SET body = 'new' WHERE id = 1`, fails: "GRANT SELECT ON"},
		{name: "no right to write", session: []string{`SET ROLE {{R}}_part`}, sql: `UPDATE notes SET body = 'new' WHERE id = 1`, fails: "42501"},
		{name: "SELECT alone", session: []string{`SET ROLE {{R}}_reader`}, sql: `UPDATE memos SET body = 'new'`, fails: "42501"},
		{name: "right given", session: []string{`SET ROLE {{R}}_blind`, `RESET ROLE`, `GRANT SELECT ON memos TO {{R}}_blind`, `SET ROLE {{R}}_blind`}, sql: `UPDATE memos SET body = 'new' WHERE id = 1`, fresh: true},
		{name: "policies forced on the owner", sql: `ALTER TABLE notes FORCE ROW LEVEL SECURITY; UPDATE notes SET body = 'new'`, class: uncounted, fresh: true},
	},
}

var (
	asRole  = []string{`SET ROLE {{R}}`}
	asBlind = []string{`SET ROLE {{R}}_blind`}
)

// rewriteFamily has rewrite rules, by which a statement does more or other than it says.
var rewriteFamily = &family{
	name: "rewrite rules",
	ddl: `CREATE TABLE items (id int PRIMARY KEY, name text); CREATE TABLE trail (n int); CREATE TABLE inbox (id int, name text);
		CREATE RULE also AS ON UPDATE TO items DO ALSO INSERT INTO trail VALUES (NEW.id);
		CREATE RULE no_delete AS ON DELETE TO items WHERE OLD.id = 1 DO INSTEAD UPDATE items SET name = 'deleted' WHERE id = OLD.id;
		CREATE RULE forward AS ON INSERT TO inbox DO INSTEAD INSERT INTO items VALUES (NEW.id, NEW.name)`,
	seed:   `TRUNCATE items, trail, inbox; INSERT INTO items VALUES (1, 'a'), (2, 'b')`,
	rules:  map[string]string{"items": "table: {{S}}.items\nkey: \"{{P}}item:{id}\"\n"},
	tables: []table{{name: "{{S}}.items", entries: []entry{{get: "items", key: "item:{id}"}}}},
	forms: []form{
		{name: "update", sql: `UPDATE items SET name = 'new' WHERE id = 1`, class: coarse},
		{name: "insert", sql: `INSERT INTO items VALUES (3, 'c')`, class: coarse},
		{name: "delete that becomes an update", sql: `DELETE FROM items WHERE id = $1`, args: []any{1}, class: coarse},
		{name: "insert elsewhere that lands here", sql: `INSERT INTO inbox VALUES (7, 'seven')`, class: coarse},
		{name: "delete elsewhere", sql: `DELETE FROM trail`, class: untouched, same: true},
	},
}

// foreignFamily writes a parent of another server's table.
var foreignFamily = &family{
	name: "foreign tables",
	ddl: `CREATE EXTENSION IF NOT EXISTS postgres_fdw;
		CREATE FUNCTION make_server() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
			EXECUTE format('CREATE SERVER "srv_%s" FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host %L, port %L, dbname %L)', '{{S}}',
				split_part(current_setting('unix_socket_directories'), ',', 1), current_setting('port'), current_database());
			EXECUTE format('CREATE USER MAPPING FOR CURRENT_USER SERVER "srv_%s" OPTIONS (user %L, password_required %L)', '{{S}}', current_user, 'false'); END $$;
		SELECT make_server();
		CREATE TABLE parent (id int PRIMARY KEY, name text);
		CREATE TABLE far (id int PRIMARY KEY, name text);
		CREATE FOREIGN TABLE child () INHERITS (parent) SERVER "srv_{{S}}" OPTIONS (schema_name '{{S}}', table_name 'far')`,
	drop:   `DROP SERVER "srv_{{S}}" CASCADE`,
	seed:   `TRUNCATE far; TRUNCATE ONLY parent; INSERT INTO parent VALUES (1, 'p'); INSERT INTO far VALUES (2, 'q')`,
	rules:  map[string]string{"parent": "table: {{S}}.parent\nkey: \"{{P}}parent:{id}\"\n"},
	tables: []table{{name: "{{S}}.parent", entries: []entry{{get: "parent", key: "parent:{id}"}}}},
	forms: []form{
		{name: "update of the parent", sql: `UPDATE parent SET name = 'new'`, class: coarse},
		{name: "update of the parent, pinned", sql: `UPDATE parent SET name = $1 WHERE id = $2`, args: []any{"new", 2}, class: coarse},
		{name: "insert into the parent", sql: `INSERT INTO parent VALUES (3, 'c')`, class: coarse},
		{name: "insert into the child", sql: `INSERT INTO child VALUES ($1, $2)`, args: []any{3, "c"}, class: coarse},
		{name: "update of the child", sql: `UPDATE child SET name = 'new' RETURNING id`, how: byQuery, class: coarse},
		{name: "delete from the child", sql: `DELETE FROM child`, class: coarse},
	},
}
