package wtcache_test

import "slices"

func families() []*family {
	return []*family{
		usersFamily("insert", insertForms),
		usersFamily("update", updateForms),
		usersFamily("update of keys", keyForms),
		usersFamily("delete", deleteForms),
		usersFamily("calls", callForms()),
		usersFamily("coarse", coarseForms),
		usersFamily("session", sessionForms),
		usersFamily("script", scriptForms),
		usersFamily("definition", definitionForms),
		generatedFamily, triggersFamily, keyTriggerFamily, afterTriggerFamily,
		partitionsFamily, inheritanceFamily, viewsFamily,
		securityFamily, rewriteFamily, foreignFamily,
		quotedFamily, compositeFamily, uuidFamily, textKeyFamily, bigintFamily,
		taggedFamily, policyFamily, eventualFamily, typesFamily, jsonFamily, wideFamily(),
		pinsFamily, identityFamily, cascadesFamily, sortedViewFamily, collationFamily,
	}
}

// usersFamily is a table with a primary key, a further unique column and a nullable
// one, each with an entry, and a key that rows share.
func usersFamily(name string, forms []form) *family {
	return &family{
		name: name,
		ddl: `CREATE TABLE orgs (id int PRIMARY KEY, name text);
			CREATE TABLE users (id int PRIMARY KEY, name text, email text NOT NULL CONSTRAINT users_email UNIQUE, nick text UNIQUE,
				org_id int REFERENCES orgs, tags text[], attrs jsonb, visits int NOT NULL DEFAULT 7, joined date DEFAULT '2024-02-29');
			CREATE TABLE orders (id int PRIMARY KEY, user_id int, amount numeric);
			CREATE TABLE imports (id int, name text, email text);
			CREATE SCHEMA {{S}}_other; CREATE TABLE {{S}}_other.users (LIKE users INCLUDING ALL);
			INSERT INTO {{S}}_other.users (id, email) VALUES (1, 'other');
			CREATE FUNCTION slow(int) RETURNS bool LANGUAGE plpgsql COST 100000 AS 'BEGIN RETURN $1 % 2 = 1; END'`,
		drop: `DROP SCHEMA {{S}}_other CASCADE`,
		seed: `TRUNCATE users, orders, orgs, imports CASCADE;
			INSERT INTO orgs VALUES (1, 'one'), (2, 'two'), (3, 'three');
			INSERT INTO users (id, name, email, nick, org_id, tags, attrs) VALUES (1, 'ann', 'a@x', 'annie', 1, '{a,b}', '{"k":1}'),
				(2, 'bob', 'b@x', NULL, 1, NULL, NULL), (3, 'cid', 'c@x', 'cee', 2, '{}', '[]'), (4, 'dee', 'd@x', 'dd', NULL, '{x}', 'null');
			INSERT INTO orders VALUES (10, 1, 5.50), (11, 1, 7), (12, 3, 9), (13, 9, 1);
			INSERT INTO imports VALUES (5, 'eve', 'e@x'), (6, 'flo', 'f@x')`,
		touch: []string{`UPDATE users SET visits = 8 WHERE id = 1`, `UPDATE users SET visits = 9 WHERE id IN (2, 4)`},
		rules: map[string]string{"users": `
table: {{S}}.users
entries:
  - {name: by_id, key: "{{P}}user:{id}"}
  - {name: by_email, key: "{{P}}user_email:{email}", columns: [id, email, name, visits]}
  - {name: by_nick, key: "{{P}}user_nick:{nick}", omit: [tags, attrs]}
invalidate: ["{{P}}org:{org_id}:members"]
`},
		tables: []table{{
			name: "{{S}}.users",
			entries: []entry{
				{get: "users.by_id", key: "user:{id}"},
				{get: "users.by_email", key: "user_email:{email}", row: `json_build_object('id', t.id, 'email', t.email, 'name', t.name, 'visits', t.visits)`},
				{get: "users.by_nick", key: "user_nick:{nick}", row: `to_jsonb(t) - 'tags' - 'attrs'`},
			},
			shared: []string{"org:{org_id}:members"},
		}},
		forms: slices.Clone(forms),
	}
}

var insertForms = []form{
	{name: "values", sql: `INSERT INTO users VALUES (5, 'eve', 'e@x', NULL, 2)`},
	{name: "column list", sql: `INSERT INTO users (email, id) VALUES ('e@x', 5)`},
	{name: "arguments", sql: `INSERT INTO users (id, name, email, org_id) VALUES ($1, $2, $3, $4)`, args: []any{5, "eve", "e@x", 2}},
	{name: "arguments with casts", sql: `INSERT INTO users (id, email) VALUES ($1::bigint, $2::varchar)`, args: []any{5, "e@x"}},
	{name: "several rows", sql: `INSERT INTO users (id, email, nick) VALUES (5, 'e@x', 'ee'), (6, 'f@x', NULL), (7, 'g@x', 'gg')`},
	{name: "several rows of arguments", sql: `INSERT INTO users (id, email) VALUES ($1, $2), ($3, $4)`, args: []any{5, "e@x", 6, "f@x"}},
	{name: "a hundred rows", sql: `INSERT INTO users (id, email) SELECT g, g || '@x' FROM generate_series(100, 199) g`},
	{name: "select", sql: `INSERT INTO users (id, name, email) SELECT id, name, email FROM imports`},
	{name: "select of itself", sql: `INSERT INTO users (id, name, email) SELECT id + 10, name, 'x' || email FROM users WHERE id < 3`},
	{name: "table", sql: `INSERT INTO users (id, name, email) TABLE imports`},
	{name: "select union with limit", sql: `INSERT INTO users (id, email) (SELECT 5, 'e@x' UNION SELECT 6, 'f@x') ORDER BY 1 LIMIT 1`},
	{name: "default keyword", sql: `INSERT INTO users (id, email, visits, joined) VALUES (5, 'e@x', DEFAULT, DEFAULT)`},
	{name: "expressions", sql: `INSERT INTO users (id, email, name) VALUES (2 + 3, lower('E@X'), (SELECT max(name) FROM imports))`},
	{name: "alias", sql: `INSERT INTO users AS u (id, email) VALUES (5, 'e@x')`},
	{name: "schema and quotes", sql: `INSERT INTO {{S}}."users" ("id", "email") VALUES (5, 'e@x')`},
	{name: "unicode identifier", sql: `INSERT INTO U&"\0075sers" (id, email) VALUES (5, 'e@x')`},
	{name: "shouting", sql: `INSERT INTO USERS (ID, EMAIL) VALUES (5, 'e@x')`},
	{name: "read-only CTE", sql: `WITH i AS (SELECT * FROM imports) INSERT INTO users (id, name, email) SELECT * FROM i`},
	{name: "CTE of the same name", sql: `WITH users AS (SELECT * FROM imports) INSERT INTO users (id, name, email) SELECT * FROM users`},
	{name: "CTE inside", sql: `INSERT INTO users (id, name, email) WITH i AS (SELECT * FROM imports) SELECT * FROM i`},
	{name: "semicolon and comment at the end", sql: "INSERT INTO users (id, email) VALUES (5, 'e@x') -- RETURNING id\n; -- done"},
	{name: "comments within", sql: "/* a */ INSERT /* /* nested */ b */ INTO users (id, email) -- c\n VALUES (5, 'e@x') /* d */"},
	{name: "quotes of all kinds", sql: `INSERT INTO users (id, email, name) VALUES (5, $$e;@x$$, E'it\'s; $1 -- "no"')`},
	{name: "returning all", sql: `INSERT INTO users (id, email) VALUES (5, 'e@x') RETURNING *`, how: byQuery},
	{name: "returning expressions", sql: `INSERT INTO users AS u (id, email) VALUES (5, 'e@x') RETURNING u.id + 1 AS next, upper(email), u.*`, how: byQuery},
	{name: "conflict: nothing, on a new row", sql: `INSERT INTO users (id, email) VALUES (5, 'e@x') ON CONFLICT DO NOTHING`},
	{name: "conflict: nothing, on an old row", sql: `INSERT INTO users (id, email) VALUES (1, 'e@x') ON CONFLICT DO NOTHING`, same: true},
	{name: "conflict: nothing, arguments", sql: `INSERT INTO users (id, email) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING`, args: []any{1, "e@x"}, same: true},
	{name: "conflict: nothing, some rows", sql: `INSERT INTO users (id, email) VALUES (1, 'q@x'), (5, 'e@x'), (6, 'a@x') ON CONFLICT DO NOTHING`},
	{name: "conflict: update by primary key", sql: `INSERT INTO users (id, email, name) VALUES (1, 'zz', 'new') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name`},
	{name: "conflict: update, inserted", sql: `INSERT INTO users (id, email, name) VALUES (5, 'e@x', 'new') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name`},
	{name: "conflict: update, arguments", sql: `INSERT INTO users (id, email, name) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET name = $3`, args: []any{2, "zz", "new"}},
	{name: "conflict: update by another unique column", sql: `INSERT INTO users (id, email, name) VALUES (77, 'b@x', 'new') ON CONFLICT (email) DO UPDATE SET name = EXCLUDED.name, visits = users.visits + 1`},
	{name: "conflict: update by constraint", sql: `INSERT INTO users (id, email) VALUES (77, 'b@x') ON CONFLICT ON CONSTRAINT users_email DO UPDATE SET name = 'new'`},
	{name: "conflict: update where true", sql: `INSERT INTO users AS u (id, email) VALUES (1, 'zz') ON CONFLICT (id) DO UPDATE SET name = 'new' WHERE u.visits < 100 OR false`},
	{name: "conflict: update where false", sql: `INSERT INTO users AS u (id, email) VALUES (1, 'zz') ON CONFLICT (id) DO UPDATE SET name = 'new' WHERE u.visits > 100`, same: true},
	{name: "conflict: update of a key", sql: `INSERT INTO users (id, email) VALUES (1, 'new@x') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email`},
	{name: "conflict: update of a key, inserted", sql: `INSERT INTO users (id, email) VALUES (5, 'new@x') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email`},
	{name: "conflict: update of a key after an insert", sql: `INSERT INTO users (id, email) VALUES (1, 'new@x'), (5, 'e@x'), (3, 'ccc') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email, org_id = 3`},
	{name: "conflict: update of a key where", sql: `INSERT INTO users AS u (id, email, nick) VALUES (1, 'new@x', 'n') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email, nick = EXCLUDED.nick WHERE u.id = 1 OR u.id = 2`},
	{name: "conflict: update of the primary key", sql: `INSERT INTO users (id, email) VALUES (99, 'c@x') ON CONFLICT (email) DO UPDATE SET id = EXCLUDED.id RETURNING id`, how: byQueryRow},
	{name: "conflict: update with arbiter predicate", sql: `INSERT INTO users (id, email) VALUES (1, 'new@x') ON CONFLICT (id) WHERE id > 0 DO UPDATE SET (email, name) = (EXCLUDED.email, 'n')`},
	{name: "conflict: update from a sub-select", sql: `INSERT INTO users (id, email) SELECT id - 4, email FROM imports ON CONFLICT (id) DO UPDATE SET (name, email) = (SELECT EXCLUDED.email, 'x' || EXCLUDED.email)`},
	{name: "conflict: several rows, both ways", sql: `INSERT INTO users (id, email, name) VALUES (1, 'q', 'n1'), (5, 'e@x', 'n5'), (4, 'r', 'n4') ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name RETURNING id, name`, how: byQuery},
}
