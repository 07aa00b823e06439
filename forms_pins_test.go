package wtcache_test

import (
	"database/sql"
	"encoding/json"
	"time"
)

type number int64

// pinsFamily has an integer key, one entry and nothing shared: what its statements pin is
// fenced before they run. A value that the driver spells in another way than Postgres
// would bar one key and change another.
var pinsFamily = &family{
	name: "pinned keys",
	ddl: `CREATE TABLE pins (id bigint PRIMARY KEY, n int, u int UNIQUE);
		CREATE DOMAIN small AS smallint`,
	seed:   `TRUNCATE pins; INSERT INTO pins VALUES (1, 1, 10), (2, 2, 20), (-3, 3, 30), (8, 8, 80)`,
	touch:  []string{`UPDATE pins SET n = 11 WHERE id = 1`},
	rules:  map[string]string{"pins": "table: {{S}}.pins\nkey: \"{{P}}pin:{id}\"\n"},
	tables: []table{{name: "{{S}}.pins", entries: []entry{{get: "pins", key: "pin:{id}"}}}},
	forms: []form{
		{name: "string constant", sql: `UPDATE pins SET n = 9 WHERE id = '1'`},
		{name: "string constant with blanks and sign", sql: `UPDATE pins SET n = 9 WHERE id = ' +1 '`},
		{name: "negative", sql: `UPDATE pins SET n = 9 WHERE id = -3`},
		{name: "doubly negative", sql: `UPDATE pins SET n = 9 WHERE id = -(-1)`},
		{name: "cast", sql: `UPDATE pins SET n = 9 WHERE id = 1::int2 AND id = CAST('1' AS bigint)`},
		{name: "cast that rounds", sql: `UPDATE pins SET n = 9 WHERE id = 1.4::int`},
		{name: "cast to a domain", sql: `UPDATE pins SET n = 9 WHERE id = '01'::small`},
		{name: "decimal", sql: `UPDATE pins SET n = 9 WHERE id = 1.0`},
		{name: "leading zeros", sql: `UPDATE pins SET n = 9 WHERE id = 0001`},
		{name: "turned round", sql: `UPDATE pins SET n = 9 WHERE 1 = id`},
		{name: "in brackets", sql: `UPDATE pins SET n = 9 WHERE ((pins.id)) = (1)`},
		{name: "list of one", sql: `UPDATE pins SET n = 9 WHERE id IN (1)`},
		{name: "array of one", sql: `UPDATE pins SET n = 9 WHERE id = ANY('{1}')`},
		{name: "row", sql: `UPDATE pins SET n = 9 WHERE (id, n) = (2, 2)`},
		{name: "not distinct", sql: `UPDATE pins SET n = 9 WHERE id IS NOT DISTINCT FROM 1`},
		{name: "or false", sql: `UPDATE pins SET n = 9 WHERE id = 1 OR false`},
		{name: "or another", sql: `UPDATE pins SET n = 9 WHERE (id = 1 OR n = 2) AND true`},
		{name: "not", sql: `UPDATE pins SET n = 9 WHERE NOT id = 1`},
		{name: "not not", sql: `UPDATE pins SET n = 9 WHERE NOT NOT id = 1`},
		{name: "in a sub-select", sql: `UPDATE pins SET n = 9 WHERE id = (SELECT 1) AND EXISTS (SELECT 1 FROM pins WHERE id = 2)`},
		{name: "another table's column of the name", sql: `UPDATE pins SET n = 9 FROM (VALUES (1, 2)) v(id, other) WHERE v.id = 1 AND pins.id = v.other`},
		{name: "int64", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{int64(1)}},
		{name: "uint8", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{uint8(1)}},
		{name: "string", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{"1"}},
		{name: "string with zeros", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{"01"}},
		{name: "float", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{float64(1)}},
		{name: "named integer", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{number(1)}},
		{name: "duration", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{time.Duration(1)}},
		{name: "pointer", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{new(int64)}, same: true},
		{name: "valuer", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{sql.NullInt64{Int64: 1, Valid: true}}},
		{name: "valuer of NULL", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{sql.NullInt64{}}, same: true},
		{name: "json number", sql: `UPDATE pins SET n = 9 WHERE id = $1`, args: []any{json.Number("1")}},
		{name: "parameter cast", sql: `UPDATE pins SET n = 9 WHERE id = $1::text::int`, args: []any{"001"}},
		{name: "parameter cast down", sql: `UPDATE pins SET n = 9 WHERE id = $1::int2`, args: []any{1}},
		{name: "parameters out of order", sql: `UPDATE pins SET n = $2 WHERE id = $1`, args: []any{1, 9}},
		{name: "the same parameter twice", sql: `UPDATE pins SET n = $1 WHERE id = $1`, args: []any{1}},
		{name: "insert", sql: `INSERT INTO pins (n, id) VALUES (7, 70)`},
		{name: "insert of strings", sql: `INSERT INTO pins (id, n) VALUES ('070', 1), (' 71', 1)`},
		{name: "insert of a decimal", sql: `INSERT INTO pins (id, n) VALUES (70.5, 1), (72.4, 1)`},
		{name: "insert of an argument as text", sql: `INSERT INTO pins (id, n) VALUES ($1, 1)`, args: []any{"070"}},
		{name: "insert of a sum", sql: `INSERT INTO pins (id, n) VALUES ($1 + 1, 1)`, args: []any{int64(70)}},
		{name: "conflict with the row", sql: `INSERT INTO pins (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n`, args: []any{1, 70}},
		{name: "conflict with another row", sql: `INSERT INTO pins (id, n, u) VALUES (70, 70, 20) ON CONFLICT (u) DO UPDATE SET n = EXCLUDED.n`},
		{name: "conflict with another row, by constraint", sql: `INSERT INTO pins (id, n, u) VALUES (70, 70, 20) ON CONFLICT ON CONSTRAINT pins_u_key DO UPDATE SET n = 70`},
		{name: "conflict that moves the key", sql: `INSERT INTO pins (id, n, u) VALUES (1, 70, 20) ON CONFLICT (id) DO UPDATE SET id = 71`},
		{name: "update of the key, pinned", sql: `UPDATE pins SET id = 71 WHERE id = $1`, args: []any{1}},
		{name: "update of the key to itself", sql: `UPDATE pins SET id = id, n = 9 WHERE id = 1`},
		{name: "update of the key elsewhere and back", sql: `UPDATE pins SET id = 71 WHERE id = 1; UPDATE pins SET id = 1, n = 9 WHERE id = 71`},
		{name: "delete", sql: `DELETE FROM pins WHERE id = $1 RETURNING n`, args: []any{2}, how: byQueryRow},
		{name: "delete, quoted column", sql: `DELETE FROM pins AS "P" WHERE "P"."id" = 2`},
	},
}

// identityFamily has one entry on a column that Postgres numbers itself, whatever the
// statement says.
var identityFamily = &family{
	name: "pinned identity",
	ddl: `CREATE TABLE always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text);
		CREATE TABLE often (id int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, v text)`,
	seed: `TRUNCATE always, often RESTART IDENTITY; INSERT INTO always (v) VALUES ('a'), ('b'); INSERT INTO often (v) VALUES ('a'), ('b')`,
	rules: map[string]string{
		"always": "table: {{S}}.always\nkey: \"{{P}}always:{id}\"\n",
		"often":  "table: {{S}}.often\nkey: \"{{P}}often:{id}\"\n",
	},
	tables: []table{
		{name: "{{S}}.always", entries: []entry{{get: "always", key: "always:{id}"}}},
		{name: "{{S}}.often", entries: []entry{{get: "often", key: "often:{id}"}}},
	},
	forms: []form{
		{name: "overriding user value", sql: `INSERT INTO often (id, v) OVERRIDING USER VALUE VALUES (70, 'c')`},
		{name: "overriding user value, argument", sql: `INSERT INTO always (id, v) OVERRIDING USER VALUE VALUES ($1, 'c')`, args: []any{70}},
		{name: "overriding system value", sql: `INSERT INTO always (id, v) OVERRIDING SYSTEM VALUE VALUES ($1, 'c')`, args: []any{70}},
		{name: "by default, given", sql: `INSERT INTO often (id, v) VALUES (70, 'c')`},
		{name: "by default, left out", sql: `INSERT INTO often (v) VALUES ('c'), ('d')`},
		{name: "by default, DEFAULT", sql: `INSERT INTO often (id, v) VALUES (DEFAULT, 'c')`},
		{name: "always, given", sql: `INSERT INTO always (id, v) VALUES (70, 'c')`, fails: "428C9"},
	},
}

// cascadesFamily has rows that foreign keys change without a statement that names them.
var cascadesFamily = &family{
	name: "foreign-key actions",
	ddl: `CREATE TABLE teams (id int PRIMARY KEY, code text UNIQUE);
		CREATE TABLE members (id int PRIMARY KEY, team_id int REFERENCES teams ON DELETE CASCADE, team_code text REFERENCES teams (code) ON UPDATE CASCADE ON DELETE SET NULL);
		CREATE TABLE badges (id int PRIMARY KEY, member_id int DEFAULT 1 REFERENCES members ON DELETE SET DEFAULT)`,
	seed: `TRUNCATE teams, members, badges; INSERT INTO teams VALUES (1, 'red'), (2, 'blue'); INSERT INTO members VALUES (1, NULL, NULL), (2, 1, 'red'), (3, 2, 'red'), (4, 2, 'blue');
		INSERT INTO badges VALUES (1, 2), (2, 4)`,
	rules: map[string]string{
		"members": "table: {{S}}.members\nkey: \"{{P}}member:{id}\"\ninvalidate: [\"{{P}}team:{team_code}\"]\n",
		"badges":  "table: {{S}}.badges\nkey: \"{{P}}badge:{id}\"\n",
	},
	tables: []table{
		{name: "{{S}}.members", entries: []entry{{get: "members", key: "member:{id}"}}, shared: []string{"team:{team_code}"}},
		{name: "{{S}}.badges", entries: []entry{{get: "badges", key: "badge:{id}"}}},
	},
	forms: []form{
		{name: "delete cascades twice", sql: `DELETE FROM teams WHERE id = 1`, class: coarse},
		{name: "update cascades", sql: `UPDATE teams SET code = 'green' WHERE code = $1`, args: []any{"red"}, class: coarse},
		{name: "update of what is not referenced", sql: `INSERT INTO teams VALUES (3, 'gold')`, class: untouched, same: true},
		{name: "delete of a ruled parent", sql: `DELETE FROM members WHERE id = 4`, class: uncounted},
		{name: "delete of a ruled parent, pinned by an argument", sql: `DELETE FROM members WHERE id = $1`, args: []any{2}, class: uncounted},
		{name: "captured before", sql: `UPDATE members SET team_code = 'blue' WHERE id = 2; DELETE FROM teams WHERE id = 1`, class: uncounted},
		{name: "captured after", sql: `DELETE FROM teams WHERE id = 1; INSERT INTO members VALUES (2, 2, 'blue')`, class: uncounted},
		{name: "truncate", sql: `TRUNCATE teams CASCADE`, class: coarse},
		{name: "by a CTE", sql: `WITH d AS (DELETE FROM teams WHERE id = 1 RETURNING id) SELECT * FROM d`, how: byQuery, class: coarse},
		{name: "upsert of the parent", sql: `INSERT INTO teams VALUES (1, 'pink') ON CONFLICT (id) DO UPDATE SET code = EXCLUDED.code`, class: coarse},
	},
}

// sortedViewFamily has a view whose condition becomes a join, so that a row is scanned
// long before it is updated.
var sortedViewFamily = &family{
	name: "views that join",
	ddl: `CREATE TABLE folk (id int PRIMARY KEY, name text UNIQUE, n int); CREATE TABLE votes (folk_id int);
		CREATE VIEW voters AS SELECT * FROM folk WHERE id IN (SELECT folk_id FROM votes);
		CREATE VIEW quiet AS SELECT * FROM folk f WHERE NOT EXISTS (SELECT 1 FROM votes WHERE folk_id = f.id)`,
	seed:  `TRUNCATE folk, votes; INSERT INTO folk SELECT g, 'p' || g, g FROM generate_series(1, 9) g; INSERT INTO votes VALUES (1), (2), (2), (5), (7)`,
	rules: map[string]string{"folk": "table: {{S}}.folk\nvia: [{{S}}.voters, {{S}}.quiet]\nentries:\n  - key: \"{{P}}folk:{id}\"\n  - key: \"{{P}}name:{name}\"\n"},
	tables: []table{{name: "{{S}}.folk", entries: []entry{
		{get: "folk.by_id", key: "folk:{id}"}, {get: "folk.by_name", key: "name:{name}"},
	}}},
	forms: []form{
		{name: "semi-join", sql: `UPDATE voters SET name = 'v' || id`},
		{name: "semi-join by sorting", session: bySorting, sql: `UPDATE voters SET name = 'v' || id`},
		{name: "semi-join by hashing", session: byHashing, sql: `UPDATE voters SET name = 'v' || id`},
		{name: "anti-join by sorting", session: bySorting, sql: `UPDATE quiet SET name = 'q' || id WHERE n > 2`},
		{name: "anti-join by hashing", session: byHashing, sql: `UPDATE quiet SET name = 'q' || id WHERE n > 2`},
		{name: "sub-select by sorting", session: bySorting, sql: `UPDATE folk SET name = 'v' || id WHERE id IN (SELECT folk_id FROM votes)`},
		{name: "sub-select by hashing", session: byHashing, sql: `UPDATE folk SET name = 'v' || id WHERE id IN (SELECT folk_id FROM votes)`},
		{name: "from, by sorting", session: bySorting, sql: `UPDATE folk f SET name = 'v' || f.id FROM votes v WHERE v.folk_id = f.id`},
		{name: "from, by hashing", session: byHashing, sql: `UPDATE folk f SET name = 'v' || f.id FROM votes v WHERE v.folk_id = f.id`},
		{name: "delete by sorting", session: bySorting, sql: `DELETE FROM voters`},
	},
}

var (
	bySorting = []string{`SET enable_hashjoin = off`, `SET enable_nestloop = off`, `SET enable_indexscan = off`, `SET enable_indexonlyscan = off`, `SET enable_hashagg = off`}
	byHashing = []string{`SET enable_mergejoin = off`, `SET enable_nestloop = off`, `SET enable_indexscan = off`, `SET enable_bitmapscan = off`}
)

// collationFamily has keys that are equal and yet not the same text.
var collationFamily = &family{
	name: "keys that ignore case",
	ddl: `CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE TABLE tags (tag text COLLATE ci PRIMARY KEY, n int)`,
	seed:   `TRUNCATE tags; INSERT INTO tags VALUES ('Go', 1), ('sql', 2)`,
	touch:  []string{`UPDATE tags SET n = 3 WHERE tag = 'SQL'`},
	rules:  map[string]string{"tags": "table: {{S}}.tags\nkey: \"{{P}}tag:{tag}\"\n"},
	tables: []table{{name: "{{S}}.tags", entries: []entry{{get: "tags", key: "tag:{tag}", loose: true}}}},
	forms: []form{
		{name: "update", sql: `UPDATE tags SET n = 9 WHERE tag = $1`, args: []any{"GO"}},
		{name: "update of the case", sql: `UPDATE tags SET tag = 'GO' WHERE tag = 'go'`},
		{name: "conflict", sql: `INSERT INTO tags VALUES ('gO', 9) ON CONFLICT (tag) DO UPDATE SET n = EXCLUDED.n`},
		{name: "conflict, arguments", sql: `INSERT INTO tags (tag, n) VALUES ($1, $2) ON CONFLICT (tag) DO UPDATE SET n = $2`, args: []any{"SqL", 9}},
		{name: "delete", sql: `DELETE FROM tags WHERE tag = 'SQL'`},
	},
}
