package wtcache_test

import "strings"

func returning(sql string) bool { return strings.Contains(sql, "RETURNING") }

var notAutocommit = []around{committed, aborted, savepoint, released}

// coarseForms write rows that RETURNING does not show.
var coarseForms = []form{
	{name: "CTE: delete", sql: `WITH d AS (DELETE FROM users WHERE id = 1 RETURNING *) SELECT count(*) FROM d`, how: byQueryRow, class: coarse},
	{name: "CTE: delete, by Exec", sql: `WITH d AS (DELETE FROM users WHERE id = $1) SELECT 1`, args: []any{1}, class: coarse},
	{name: "CTE: insert, parent first", sql: `WITH o AS (INSERT INTO orgs VALUES (9, 'nine') RETURNING id), u AS (INSERT INTO users (id, email, org_id) SELECT 5, 'e@x', id FROM o RETURNING id) SELECT id FROM u`, how: byQuery, class: coarse},
	{name: "CTE: update under an insert elsewhere", sql: `WITH u AS (UPDATE users SET email = 'new@x' WHERE id = 1 RETURNING *) INSERT INTO imports SELECT id, name, email FROM u`, class: coarse},
	{name: "CTE: delete under an insert into itself", sql: `WITH d AS (DELETE FROM users WHERE id = 1 RETURNING *) INSERT INTO users (id, email, name) SELECT id + 70, email || 'x', name FROM d`, class: coarse},
	{name: "CTE: two updates of different rows", sql: `WITH u AS (UPDATE users SET name = 'one' WHERE id = 1) UPDATE users SET name = 'two' WHERE id = 2`, class: coarse},
	{name: "CTE: a write elsewhere, update at the top", sql: `WITH d AS (DELETE FROM orders WHERE id = 12 RETURNING user_id) UPDATE users SET name = 'new' FROM d WHERE d.user_id = users.id`, class: uncounted},
	{name: "CTE: nested twice", sql: `WITH a AS (WITH b AS (SELECT 1 AS n) SELECT n FROM b), c AS (UPDATE users SET name = 'new' FROM a WHERE id = n RETURNING id) SELECT * FROM c`, how: byOneRow, class: coarse},
	{name: "MERGE: update and insert", sql: `MERGE INTO users u USING imports i ON i.id = u.id + 4 WHEN MATCHED AND u.id = 1 THEN UPDATE SET email = i.email WHEN NOT MATCHED THEN INSERT (id, email) VALUES (i.id + 100, i.email)`, class: coarse},
	{name: "MERGE: delete", sql: `MERGE INTO users AS u USING (SELECT $1::int AS id) i ON i.id = u.id WHEN MATCHED THEN DELETE`, args: []any{3}, class: coarse},
	{name: "MERGE: nothing", sql: `MERGE INTO users u USING orgs i ON i.id = u.id WHEN MATCHED THEN DO NOTHING`, class: coarse, same: true},
	{name: "MERGE elsewhere, from it", sql: `MERGE INTO imports i USING users u ON i.id = u.id WHEN NOT MATCHED THEN INSERT VALUES (u.id, u.name, u.email)`, class: untouched, same: true},
	{name: "WHERE CURRENT OF: update", inTx: []string{`DECLARE cur CURSOR FOR SELECT * FROM users WHERE id > 1 ORDER BY id FOR UPDATE`, `MOVE NEXT IN cur`}, sql: `UPDATE users SET email = 'new@x' WHERE CURRENT OF cur`, class: coarse, ways: notAutocommit},
	{name: "WHERE CURRENT OF: delete", inTx: []string{`DECLARE cur CURSOR FOR SELECT * FROM users WHERE id = 3 FOR UPDATE`, `MOVE NEXT IN cur`}, sql: `DELETE FROM users WHERE CURRENT OF cur`, class: coarse, ways: notAutocommit},
	{name: "EXPLAIN ANALYZE: update", sql: `EXPLAIN ANALYZE UPDATE users SET name = 'new' WHERE id = 1`, how: byQuery, class: coarse},
	{name: "EXPLAIN (ANALYZE): delete", sql: `EXPLAIN (COSTS off, ANALYZE true) DELETE FROM users WHERE id = $1`, args: []any{2}, how: byQuery, class: coarse},
	{name: "EXPLAIN (ANALYZE on): insert", sql: `EXPLAIN (ANALYZE on) INSERT INTO users (id, email) VALUES (5, 'e@x')`, class: coarse},
	{name: "EXPLAIN: update", sql: `EXPLAIN UPDATE users SET name = 'new' WHERE id = 1`, how: byQuery, class: untouched, same: true},
	{name: "EXPLAIN (ANALYZE off): update", sql: `EXPLAIN (ANALYZE off) UPDATE users SET name = 'new' WHERE id = 1`, how: byQuery, class: untouched, same: true},
	{name: "TRUNCATE", sql: `TRUNCATE users`, class: coarse},
	{name: "TRUNCATE TABLE ONLY, restart", sql: `TRUNCATE TABLE ONLY users RESTART IDENTITY`, class: coarse},
	{name: "TRUNCATE of several", sql: `TRUNCATE orders, {{S}}.users`, class: coarse},
	{name: "TRUNCATE CASCADE of a referenced table", sql: `TRUNCATE orgs CASCADE`, class: coarse},
	{name: "COPY FROM PROGRAM", sql: `COPY users (id, email) FROM PROGRAM 'printf "5\te@x\n6\tf@x\n"'`, class: coarse},
	{name: "COPY TO", sql: `COPY (SELECT * FROM users) TO PROGRAM 'cat > /dev/null'`, class: untouched, same: true},
	{name: "COPY of a CTE's write", sql: `COPY (WITH d AS (DELETE FROM users WHERE id = 1 RETURNING *) SELECT * FROM d) TO PROGRAM 'cat > /dev/null'`, class: coarse},
	{name: "COPY of a write", sql: `COPY (UPDATE users SET email = 'new@x' WHERE id = 1 RETURNING id) TO PROGRAM 'cat > /dev/null'`, class: coarse},
	{name: "DO block", sql: `DO $$ BEGIN UPDATE users SET email = 'new@x' WHERE id = 1; END $$`, class: coarse},
	{name: "DO block, another language clause", sql: `DO LANGUAGE plpgsql 'BEGIN DELETE FROM USERS WHERE id = 1; END'`, class: coarse},
	{name: "too deep to parse", sql: `UPDATE users SET visits = 1` + strings.Repeat("+1", 4000) + ` WHERE id = 1`, class: coarse},
	{name: "too deep to parse, with arguments", sql: `UPDATE users SET visits = $1` + strings.Repeat("+1", 4000) + ` WHERE id = $2`, args: []any{1, 2}, class: coarse},
	{name: "too deep to parse, prepared", sql: `DELETE FROM users WHERE id < 2` + strings.Repeat("+0", 4000) + ` RETURNING id`, how: byPrepQuery, class: coarse},
	{name: "PREPARE and EXECUTE", session: []string{`PREPARE p(int) AS UPDATE users SET email = 'new@x' WHERE id = $1`}, sql: `EXECUTE p(1)`, class: coarse},
	{name: "PREPARE and EXECUTE, rows", session: []string{`PREPARE p AS DELETE FROM users WHERE id < 3 RETURNING id`}, sql: `EXECUTE p`, how: byQuery, class: coarse},
	{name: "PREPARE and EXPLAIN ANALYZE EXECUTE", session: []string{`PREPARE p AS DELETE FROM users`}, sql: `EXPLAIN ANALYZE EXECUTE p`, how: byQuery, class: coarse},
	{name: "PREPARE of a read", session: []string{`PREPARE p AS SELECT * FROM users`}, sql: `EXECUTE p`, how: byQuery, class: untouched, same: true},
	{name: "PREPARE in a transaction that is rolled back to a savepoint", inTx: []string{`SAVEPOINT a`, `PREPARE p AS DELETE FROM users`, `ROLLBACK TO a`}, sql: `EXECUTE p`, class: coarse, ways: notAutocommit},
	{name: "PREPARE by a DO block", session: []string{`DO $$ BEGIN EXECUTE 'PREPARE p AS DEL' || 'ETE FROM us' || 'ers'; END $$`}, sql: `EXECUTE p`, class: coarse},
	{name: "PREPARE again under the same name", session: []string{`PREPARE p AS SELECT 1`, `DEALLOCATE p`, `PREPARE p AS DELETE FROM users WHERE id = 1`}, sql: `EXECUTE p`, class: coarse},
	{name: "PREPARE under another search_path", session: []string{`SET search_path = {{S}}_other`, `PREPARE p AS UPDATE users SET email = 'new@x' WHERE id = 1`, `SET search_path = {{S}}`}, sql: `EXECUTE p`, class: coarse},
	{name: "PREPARE under a temporary table", session: []string{`CREATE TEMP TABLE users (id int, email text)`, `PREPARE p AS UPDATE users SET email = 'new@x' WHERE id = 1`, `DROP TABLE users`}, sql: `EXECUTE p`, class: coarse},
	{name: "RETURNING that names a captured column twice", sql: `UPDATE users u SET email = 'new@x' FROM orders u2 WHERE u2.user_id = u.id AND u2.id = 12 RETURNING u.id, u2.id, u.*, u2.*`, how: byQuery, class: precise},
}

// definitionForms change what the rule stands on. What comes after has to be true, too.
var definitionForms = []form{
	{name: "add a column", sql: `ALTER TABLE users ADD COLUMN extra text DEFAULT 'x'`, class: coarse, fresh: true, after: []string{`UPDATE users SET name = 'new' WHERE id = 1`, `INSERT INTO users (id, email) VALUES (8, 'h@x')`}},
	{name: "drop a column", sql: `ALTER TABLE users DROP COLUMN attrs, DROP COLUMN joined`, class: uncounted, fresh: true, lost: true},
	{name: "drop a column that a payload names", sql: `ALTER TABLE users DROP COLUMN visits`, class: uncounted, fresh: true, lost: true},
	{name: "drop a key column", sql: `ALTER TABLE users DROP COLUMN nick`, class: uncounted, fresh: true, lost: true},
	{name: "add a column among other changes", sql: `ALTER TABLE users RESET (fillfactor), ALTER COLUMN org_id SET STATISTICS 10, ADD COLUMN b int DEFAULT 4`, class: coarse, fresh: true, after: []string{`UPDATE users SET name = 'new' WHERE id = 1`}},
	{name: "rename a payload's column", sql: `ALTER TABLE users RENAME joined TO since`, class: coarse, fresh: true, after: []string{`UPDATE users SET name = 'new' WHERE id = 1`, `UPDATE users SET email = 'q' || id WHERE id IN (2, 3)`}},
	{name: "change a column's type", sql: `ALTER TABLE users ALTER COLUMN visits TYPE text USING 'v' || visits`, class: coarse, fresh: true, after: []string{`UPDATE users SET name = 'new' WHERE id = 1`, `DELETE FROM users WHERE id = 2`}},
	{name: "change a key's type", sql: `ALTER TABLE users ALTER COLUMN id TYPE bigint USING id + 4000000000`, class: coarse, fresh: true, after: []string{`UPDATE users SET name = 'new' WHERE email = 'a@x'`}},
	{name: "rename the table", sql: `ALTER TABLE users RENAME TO people`, class: coarse, fresh: true, lost: true},
	{name: "move the table", sql: `ALTER TABLE users SET SCHEMA {{S}}_other2`, inTx: []string{`CREATE SCHEMA {{S}}_other2`}, class: coarse, fresh: true, lost: true, ways: []around{aborted, savepoint}},
	{name: "drop the table", sql: `DROP TABLE users`, class: coarse, fresh: true, lost: true},
	{name: "drop the table of several", sql: `DROP TABLE IF EXISTS orders, nosuch, users CASCADE`, class: coarse, fresh: true, lost: true},
	{name: "drop and create", sql: `DROP TABLE users; CREATE TABLE users (id int PRIMARY KEY, name text, email text UNIQUE NOT NULL, nick text UNIQUE, org_id int, tags text[], attrs jsonb, visits int, extra text); INSERT INTO users (id, email) VALUES (1, 'new@x')`, class: uncounted, fresh: true},
	{name: "another table takes the name", sql: `ALTER TABLE users RENAME TO users_old; CREATE TABLE users AS TABLE {{S}}_other.users; ALTER TABLE users ADD PRIMARY KEY (id), ADD UNIQUE (email), ADD UNIQUE (nick)`, class: uncounted, fresh: true, after: []string{`UPDATE users SET name = 'new' WHERE id = 1`}},
	{name: "create a trigger", sql: `CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.email := ''t'' || NEW.email; RETURN NEW; END'; CREATE TRIGGER stamp BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION stamp(); UPDATE users SET name = 'new' WHERE id = 1`, class: uncounted, fresh: true, after: []string{`UPDATE users SET name = 'newer' WHERE id < 3`}},
	{name: "a rule is created", sql: `CREATE RULE r AS ON DELETE TO orgs DO ALSO DELETE FROM users WHERE org_id = OLD.id`, class: uncounted, fresh: true, same: true, after: []string{`DELETE FROM orgs WHERE id = 2`}},
	{name: "row-level security is enabled", sql: `ALTER TABLE users ENABLE ROW LEVEL SECURITY`, class: coarse, fresh: true, same: true, after: []string{`UPDATE users SET email = 'n' || id WHERE id < 3`}},
	{name: "schema dropped", sql: `DROP SCHEMA {{S}} CASCADE; CREATE SCHEMA {{S}}`, class: uncounted, fresh: true, lost: true},
	{name: "a view is made and written", sql: `CREATE VIEW fans AS SELECT * FROM users WHERE visits > 0; UPDATE fans SET email = 'n' || id WHERE id < 3`, class: uncounted, fresh: true, after: []string{`UPDATE fans SET email = 'm' || id WHERE id < 3`}},
	{name: "an unlogged table", sql: `ALTER TABLE users SET UNLOGGED; UPDATE users SET name = 'a' WHERE id = 1; UPDATE users SET name = 'b' WHERE id = 1`, class: uncounted, fresh: true, after: []string{`UPDATE users SET name = 'c' WHERE id = 1`, `UPDATE users SET name = 'd' WHERE id = 1`}},
}
