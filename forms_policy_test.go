package wtcache_test

import (
	"fmt"
	"strings"
)

// policyFamily uses what a rule can say of its entries.
var policyFamily = &family{
	name: "when, omit, rename, plain, invalidate",
	ddl: `CREATE TABLE posts (id int PRIMARY KEY, slug text UNIQUE, author_id int, body text, secret text, draft bool NOT NULL DEFAULT false, deleted_at timestamptz);
		CREATE TABLE likes (id int PRIMARY KEY, post_id int)`,
	seed: `TRUNCATE posts, likes; INSERT INTO posts (id, slug, author_id, body, secret, draft) VALUES (1, 'one', 10, 'a', 's', false), (2, 'two', 10, 'b', 't', true), (3, 'three', 11, 'c', 'u', false);
		INSERT INTO likes VALUES (1, 1), (2, 3)`,
	touch: []string{`UPDATE posts SET body = 'A' WHERE id = 1`},
	rules: map[string]string{
		"posts": `
table: {{S}}.posts
entries:
  - {name: public, key: "{{P}}post:{id}", omit: [secret, deleted_at], rename: {author_id: authorId, body: "text"}, when: "deleted_at IS NULL AND NOT draft -- shown"}
  - {name: plain, key: "{{P}}slug:{slug}", columns: [id, slug], format: plain, ttl: 1h, jitter: 0%}
  - {name: own, key: "{{P}}own:{id}", strategy: invalidate}
invalidate: ["{{P}}author:{author_id}:posts", "{{P}}author:{author_id}:count"]
`,
		"likes": "table: {{S}}.likes\nentries:\n  - {key: \"{{P}}like:{id}\", format: plain}\ninvalidate: [\"{{P}}post:{post_id}:likes\"]\n",
	},
	tables: []table{
		{name: "{{S}}.posts", shared: []string{"author:{author_id}:posts", "author:{author_id}:count"}, entries: []entry{
			{get: "posts.public", key: "post:{id}", when: `t.deleted_at IS NULL AND NOT t.draft`, row: `json_build_object('id', t.id, 'slug', t.slug, 'authorId', t.author_id, 'text', t.body, 'draft', t.draft)`},
			{get: "posts.plain", key: "slug:{slug}", row: `json_build_object('id', t.id, 'slug', t.slug)`, plain: true},
			{get: "posts.own", key: "own:{id}", row: `json_build_object('id', t.id, 'slug', t.slug, 'author_id', t.author_id, 'body', t.body, 'secret', t.secret, 'draft', t.draft, 'deleted_at', to_char(t.deleted_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))`, absent: true},
		}},
		{name: "{{S}}.likes", shared: []string{"post:{post_id}:likes"}, entries: []entry{{get: "likes", key: "like:{id}", plain: true}}},
	},
	forms: []form{
		{name: "when turns false", sql: `UPDATE posts SET deleted_at = '2024-01-01 00:00+00' WHERE id = 1`},
		{name: "when turns true", sql: `UPDATE posts SET draft = false WHERE id = $1`, args: []any{2}},
		{name: "when turns both ways", sql: `UPDATE posts SET draft = NOT draft`},
		{name: "when turns NULL", sql: `UPDATE posts SET draft = true, deleted_at = '2020-02-02 02:02:02Z' WHERE slug = 'one'`},
		{name: "when false at insert", sql: `INSERT INTO posts (id, slug, draft) VALUES (4, 'four', true), (5, 'five', false)`},
		{name: "an omitted column", sql: `UPDATE posts SET secret = 'other' WHERE id = 1`},
		{name: "a renamed column", sql: `UPDATE posts SET author_id = 12, body = 'new' WHERE id = 3`},
		{name: "the plain entry's key", sql: `UPDATE posts SET slug = slug || '-2' RETURNING slug`, how: byQuery},
		{name: "shared keys of both sides", sql: `UPDATE posts SET author_id = 21 - author_id + 0`},
		{name: "shared key deleted", sql: `DELETE FROM posts WHERE author_id = 11`},
		{name: "shared key of an inserted row", sql: `INSERT INTO posts (id, author_id) VALUES ($1, $2)`, args: []any{6, 11}},
		{name: "shared key by conflict", sql: `INSERT INTO posts (id, author_id) VALUES (1, 11) ON CONFLICT (id) DO UPDATE SET author_id = EXCLUDED.author_id`},
		{name: "shared key of another rule", sql: `UPDATE likes SET post_id = 2 WHERE id = 1`},
		{name: "both rules", sql: `WITH p AS (DELETE FROM posts WHERE id = 1 RETURNING id) DELETE FROM likes USING p WHERE post_id = p.id`, class: coarse},
		{name: "both rules in a script", sql: `DELETE FROM likes WHERE post_id = 1; DELETE FROM posts WHERE id = 1; INSERT INTO likes VALUES (1, 3)`},
		{name: "truncate of both", sql: `TRUNCATE posts, likes`, class: coarse},
	},
}

// eventualFamily goes without fences: a write leaves its keys to their first readers.
var eventualFamily = &family{
	name:  "eventual",
	ddl:   `CREATE TABLE temps (id int PRIMARY KEY, name text UNIQUE, room int, c numeric)`,
	seed:  `TRUNCATE temps; INSERT INTO temps VALUES (1, 'a', 1, 20.5), (2, 'b', 1, 21), (3, 'c', 2, 22)`,
	touch: []string{`UPDATE temps SET c = 20.50 WHERE id = 1`},
	rules: map[string]string{"temps": "table: {{S}}.temps\nentries:\n  - key: \"{{P}}temp:{id}\"\n  - key: \"{{P}}name:{name}\"\ninvalidate: [\"{{P}}room:{room}\"]\nconsistency: eventual\n"},
	tables: []table{{name: "{{S}}.temps", shared: []string{"room:{room}"}, entries: []entry{
		{get: "temps.by_id", key: "temp:{id}", absent: true}, {get: "temps.by_name", key: "name:{name}", absent: true},
	}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO temps VALUES (4, 'd', 2, 1)`},
		{name: "update", sql: `UPDATE temps SET c = c + 1 WHERE id = 1`},
		{name: "update, arguments", sql: `UPDATE temps SET c = $1 WHERE id = $2 RETURNING c`, args: []any{"1.10", 2}, how: byQueryRow},
		{name: "update of a key", sql: `UPDATE temps SET name = name || 'x', room = 3`},
		{name: "conflict", sql: `INSERT INTO temps VALUES (1, 'z', 9, 9), (5, 'e', 9, 9) ON CONFLICT (id) DO UPDATE SET name = EXCLUDED.name`},
		{name: "delete", sql: `DELETE FROM temps WHERE id < 3`},
		{name: "script", sql: `UPDATE temps SET c = 1 WHERE id = 1; DELETE FROM temps WHERE id = 2; UPDATE temps SET name = 'b' WHERE id = 1`},
		{name: "truncate", sql: `TRUNCATE temps`, class: coarse},
		{name: "CTE", sql: `WITH d AS (DELETE FROM temps WHERE id = 1 RETURNING 1) SELECT * FROM d`, how: byQuery, class: coarse},
	},
}

// typesFamily has every common column type. Its rows are given as a reader is promised
// them: timestamptz in RFC 3339 and UTC, bytea in base64, NaN and Infinity as strings.
var typesFamily = &family{
	name: "column types",
	ddl: `CREATE DOMAIN email AS text CHECK (VALUE LIKE '%@%'); CREATE TYPE point3 AS (x int, y float8, label text); CREATE TYPE hue AS ENUM ('red', 'green');
		CREATE TABLE kinds (id int PRIMARY KEY, i2 int2, i8 int8, f4 float4, f8 float8, num numeric, money_like numeric(12,2), t text, vc varchar(10), ch char(5), b bool, raw bytea,
			d date, ts timestamp, tz timestamptz, ti time, iv interval, u uuid, j json, jb jsonb, arr int[], arr2 text[][], tzs timestamptz[], e email, p point3, h hue, hs hue[],
			net inet, mac macaddr, bits bit(3), r int4range, tr tstzrange, pt point, x xml, v tsvector, mr int4multirange)`,
	seed:  `TRUNCATE kinds; INSERT INTO kinds (id, t) VALUES (1, 'x'), (2, NULL)`,
	rules: map[string]string{"kinds": "table: {{S}}.kinds\nkey: \"{{P}}kind:{id}\"\n"},
	tables: []table{{name: "{{S}}.kinds", entries: []entry{{get: "kinds", key: "kind:{id}", row: `(row_to_json(t.*)::jsonb || jsonb_build_object(
		'tz', CASE WHEN isfinite(t.tz) THEN rtrim(rtrim(to_char(t.tz AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), '0'), '.') || 'Z' ELSE t.tz::text END,
		'raw', replace(encode(t.raw, 'base64'), E'\n', '')))`}}}},
	forms: []form{
		{name: "all types", sql: allTypes, class: precise},
		{name: "all types from arguments", sql: `INSERT INTO kinds (id, i2, i8, f8, num, t, b, raw, d, tz, u, jb) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
			args: []any{3, -5, int64(1) << 60, 0.1, "12345678901234567890.0123456789", "naïve \"q\" \\ \u2028", true, []byte{0, 1, 255}, "2024-02-29", "2024-06-30T23:59:59.123456+02:00", uuidOne, `{"a": [1, {"b": null}], "A": 1}`}},
		{name: "infinities", sql: `UPDATE kinds SET f4 = 'NaN', f8 = '-Infinity', num = 'NaN', tz = 'infinity', d = '-infinity', ts = 'infinity' WHERE id = 1`},
		{name: "long bytes", sql: `UPDATE kinds SET raw = decode(repeat('00ff10', 1000), 'hex'), t = repeat('long ', 20000) WHERE id = 1`},
		{name: "a session in Tokyo", session: []string{`SET TimeZone = 'Asia/Tokyo'`, `SET DateStyle = 'SQL, DMY'`}, sql: `UPDATE kinds SET tz = '2024-01-01 00:00:00', d = '31/12/2023', ts = '31/12/2023 1:02' WHERE id = 1`, class: uncounted},
		{name: "a session with other spellings", session: []string{`SET IntervalStyle = 'sql_standard'`, `SET bytea_output = 'escape'`, `SET extra_float_digits = 0`}, sql: `UPDATE kinds SET iv = '1 day 2 hours', f8 = 1.0/3, raw = '\x00ff' WHERE id = 1`, class: uncounted},
		{name: "duplicate JSON keys, odd order", sql: `UPDATE kinds SET j = '{"b":1,"a":2}', jb = '{"b":1, "a":2, "a":3}' WHERE id = 2`},
		{name: "jsonb null and SQL NULL", sql: `UPDATE kinds SET jb = 'null', j = 'null', t = NULL, arr = '{}' WHERE id = 1`},
		{name: "times before our era", sql: `UPDATE kinds SET ts = '0044-03-15 12:00 BC', d = '4713-01-01 BC' WHERE id = 1`},
	},
}

// jsonFamily holds what jsonb would refuse or reorder.
var jsonFamily = &family{
	name:   "json as it was written",
	ddl:    `CREATE TABLE blobs (id int PRIMARY KEY, j json, at timestamptz, f float8)`,
	seed:   `TRUNCATE blobs; INSERT INTO blobs (id, j) VALUES (1, '{}'), (2, NULL)`,
	rules:  map[string]string{"blobs": "table: {{S}}.blobs\nentries: [{key: \"{{P}}blob:{id}\", columns: [id, j]}, {name: at, key: \"{{P}}at:{id}\", columns: [at]}]\n"},
	tables: []table{{name: "{{S}}.blobs", entries: []entry{{get: "blobs.by_id", key: "blob:{id}", row: `json_build_object('id', t.id, 'j', t.j)`}, {get: "blobs.at", key: "at:{id}", row: `json_build_object('at', to_char(t.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'))`}}}},
	forms: []form{
		{name: "a zero byte", sql: `UPDATE blobs SET j = '{"a":"\u0000"}' WHERE id = 1`},
		{name: "a zero byte from an argument", sql: `INSERT INTO blobs (id, j) VALUES ($1, $2)`, args: []any{3, `["\u0000\ud83e\udd8a"]`}},
		{name: "duplicate keys, odd spacing", sql: `UPDATE blobs SET j = ' {"b":1 ,"a":2, "b" : 1e400}' WHERE id = 2`},
		{name: "a time in a session in Tokyo", session: []string{`SET TimeZone = 'Asia/Tokyo'`, `SET DateStyle = 'SQL, DMY'`}, sql: `UPDATE blobs SET at = '31/12/2023 08:00' WHERE id = 1`},
	},
}

const allTypes = `INSERT INTO kinds VALUES (3, -32768, 9223372036854775807, 1.5, 0.1, 123.4500, 10.10, E'a"b\\c\n\t<>&/é🦊', 'vc', 'ch', true, '\xdeadbeef00',
	'2024-02-29', '2024-02-29 23:59:59.999999', '1969-12-31 23:59:59.5-08', '24:00', '1 mon -2 days 03:04:05.6', '` + uuidOne + `', '{"b": 1,  "a": [null]}', '{"b": 1, "a": 2}',
	'{1,NULL,3}', '{{a,b},{c,"d,e"}}', '{2024-01-01 00:00:00+00,infinity}', 'a@b', '(1,2.5,"x, y")', 'green', '{red,NULL}',
	'10.0.0.1/8', '08:00:2b:01:02:03', B'101', '[1,5)', '[2024-01-01 00:00:00+00,)', '(1.5,-2)', '<a>1</a>', 'fat:2 cat:3', '{[1,2),[5,7)}')`

// wideFamily has more columns than a function has arguments.
func wideFamily() *family {
	const columns = 60
	var defs, sets, wanted []string
	for i := range columns {
		defs = append(defs, fmt.Sprintf(`"Col %d" text DEFAULT 'd%d'`, i, i))
		sets = append(sets, fmt.Sprintf(`"Col %d" = $%d`, i, i+1))
		wanted = append(wanted, fmt.Sprintf(`"Col %d"`, i))
	}
	args := make([]any, columns)
	for i := range args {
		args[i] = strings.Repeat("v", i*40)
	}
	return &family{
		name:   "sixty columns",
		ddl:    `CREATE TABLE wide (id int PRIMARY KEY, ` + strings.Join(defs, ", ") + `)`,
		seed:   `TRUNCATE wide; INSERT INTO wide (id) VALUES (1), (2)`,
		touch:  []string{`UPDATE wide SET "Col 3" = 'x' WHERE id = 2`},
		rules:  map[string]string{"wide": "table: {{S}}.wide\nkey: \"{{P}}wide:{id}\"\n"},
		tables: []table{{name: "{{S}}.wide", entries: []entry{{get: "wide", key: "wide:{id}"}}}},
		forms: []form{
			{name: "insert", sql: `INSERT INTO wide (id) VALUES (3)`},
			{name: "update of all", sql: `UPDATE wide SET ` + strings.Join(sets, ", ") + ` WHERE id = 1`, args: args},
			{name: "update returning all", sql: `UPDATE wide SET "Col 59" = 'z' RETURNING *, ` + strings.Join(wanted, ", "), how: byQuery},
			{name: "thousands of rows", sql: `INSERT INTO wide (id) SELECT g FROM generate_series(100, 1100) g`, ways: []around{auto}},
		},
	}
}
