package wtcache_test

// quotedFamily has names that need quotes wherever they stand.
var quotedFamily = &family{
	name: "quoted names",
	ddl: `CREATE TABLE "Odd ""Table" ("The Id" int PRIMARY KEY, "select" text UNIQUE, "Ünï" text, "a.b" jsonb, "old" int DEFAULT 1, "excluded" text);
		CREATE TABLE "odd ""table" (LIKE "Odd ""Table")`,
	seed:  `TRUNCATE "Odd ""Table"; INSERT INTO "Odd ""Table" VALUES (1, 'one', 'ü', '{"x": [1]}'), (2, 'two', NULL, NULL)`,
	touch: []string{`UPDATE "Odd ""Table" SET "Ünï" = 'é' WHERE "The Id" = 1`},
	rules: map[string]string{"odd": `
table: '{{S}}."Odd ""Table"'
entries:
  - {name: by_id, key: '{{P}}odd:{"The Id"}'}
  - {name: by_word, key: '{{P}}word:{"select"}'}
`},
	tables: []table{{name: `{{S}}."Odd ""Table"`, entries: []entry{
		{get: `Odd "Table.by_id`, key: "odd:{The Id}"}, {get: `Odd "Table.by_word`, key: "word:{select}"},
	}}},
	forms: []form{
		{name: "update", sql: `UPDATE "Odd ""Table" SET "Ünï" = 'x' WHERE "The Id" = 1`},
		{name: "update of a key", sql: `UPDATE "Odd ""Table" SET "select" = "select" || '!' WHERE "The Id" > 0 RETURNING "a.b"`, how: byQuery},
		{name: "update by alias", sql: `UPDATE {{S}}."Odd ""Table" AS "a.b" SET "a.b" = '{}', "select" = 'q' WHERE "a.b"."The Id" = $1`, args: []any{2}},
		{name: "update by FROM", sql: `UPDATE "Odd ""Table" "T" SET "The Id" = g + 70 FROM generate_series(1, 2) g WHERE g = "The Id"`},
		{name: "insert", sql: `INSERT INTO "Odd ""Table" ("select", "The Id") VALUES ($1, $2)`, args: []any{"from", 3}},
		{name: "conflict", sql: `INSERT INTO "Odd ""Table" AS excl VALUES (1, 'uno') ON CONFLICT ("The Id") DO UPDATE SET "select" = excluded."select", "excluded" = excl."select"`},
		{name: "delete", sql: `DELETE FROM ONLY "Odd ""Table" WHERE "select" = 'two'`},
		{name: "unicode escapes", sql: `DELETE FROM U&"Odd !0022Table" UESCAPE '!' WHERE "The Id" = 1`},
		{name: "do block", sql: `DO $d$ BEGIN DELETE FROM "Odd ""Table" WHERE "The Id" = 1; END $d$`, class: coarse},
		{name: "the other case is another table", sql: `INSERT INTO "odd ""table" VALUES (1, 'other')`, class: untouched, same: true},
	},
}

// compositeFamily has one entry and no shared keys, so that its pinned writes are fenced
// before they run.
var compositeFamily = &family{
	name: "composite keys",
	ddl:  `CREATE TABLE parts (shop int, sku varchar(12), lot int, stock int, UNIQUE (shop, sku, lot))`,
	seed: `TRUNCATE parts; INSERT INTO parts VALUES (1, 'a', 1, 5), (1, 'a', 2, 6), (1, 'b:2', 1, 7), (2, 'a', 1, 8), (NULL, 'a', 1, 9), (NULL, 'a', 1, 9), (1, NULL, 3, 1)`,
	touch: []string{
		`UPDATE parts SET stock = 50 WHERE shop = 1 AND sku = 'a' AND lot = 1`,
	},
	rules:  map[string]string{"parts": "table: {{S}}.parts\nkey: \"{{P}}part:{shop}:{sku}:{lot}\"\n"},
	tables: []table{{name: "{{S}}.parts", entries: []entry{{get: "parts", key: "part:{shop}:{sku}:{lot}"}}}},
	forms: []form{
		{name: "insert", sql: `INSERT INTO parts VALUES (3, 'a', 1, 1)`},
		{name: "insert, arguments", sql: `INSERT INTO parts (sku, shop, lot, stock) VALUES ($2, $1, $3, $4)`, args: []any{3, "a", 1, 1}},
		{name: "insert with colons that could be another key", sql: `INSERT INTO parts (shop, sku, lot) VALUES (1, 'a:1', 1), (1, 'a%3A1', 1), (1, '', 1)`},
		{name: "insert with NULL", sql: `INSERT INTO parts (shop, sku, lot, stock) VALUES ($1, $2, $3, 1)`, args: []any{nil, "a", 1}, same: true},
		{name: "insert with trailing blanks cut off", sql: `INSERT INTO parts (shop, sku, lot) VALUES ($1, $2, $3)`, args: []any{3, "twelve chars   "[:12] + "   ", 1}},
		{name: "update pinned", sql: `UPDATE parts SET stock = stock - 1 WHERE shop = $1 AND sku = $2 AND lot = $3`, args: []any{1, "b:2", 1}},
		{name: "update pinned by constants", sql: `UPDATE parts SET stock = 0 WHERE (lot = 1) AND parts.shop = 2 AND 'a' = sku`},
		{name: "update pinned in part", sql: `UPDATE parts SET stock = 0 WHERE shop = 1 AND sku = 'a'`},
		{name: "update of a part of the key", sql: `UPDATE parts SET lot = lot + 10 WHERE shop = 1 AND sku = 'a'`},
		{name: "update of a part of the key, pinned", sql: `UPDATE parts SET lot = 99 WHERE shop = $1 AND sku = $2 AND lot = $3`, args: []any{1, "a", 1}},
		{name: "update to NULL", sql: `UPDATE parts SET sku = NULL WHERE shop = 1 AND sku = 'a'`},
		{name: "update from NULL", sql: `UPDATE parts SET sku = 'now' WHERE sku IS NULL`},
		{name: "update pinned by NULL", sql: `UPDATE parts SET stock = 0 WHERE shop = $1 AND sku = $2 AND lot = $3`, args: []any{nil, "a", 1}, same: true},
		{name: "conflict", sql: `INSERT INTO parts VALUES (1, 'a', 1, 77), (9, 'z', 9, 9) ON CONFLICT (shop, sku, lot) DO UPDATE SET stock = parts.stock + EXCLUDED.stock`},
		{name: "conflict, arguments, columns in another order", sql: `INSERT INTO parts (shop, sku, lot, stock) VALUES ($1, $2, $3, $4) ON CONFLICT (lot, sku, shop) DO UPDATE SET stock = $4`, args: []any{1, "a", 2, 70}},
		{name: "delete pinned", sql: `DELETE FROM parts WHERE shop = 1 AND sku = 'a' AND lot = 2`},
		{name: "delete, prepared", sql: `DELETE FROM parts WHERE shop = $1 AND sku = $2 AND lot = $3`, args: []any{2, "a", 1}, how: byPrepExec},
		{name: "two pins that disagree", sql: `DELETE FROM parts WHERE shop = 1 AND sku = 'a' AND lot = 2 AND lot = 3`, same: true, moved: true},
	},
}

const (
	uuidOne = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	uuidTwo = "00000000-0000-0000-0000-0000000000ff"
)

var uuidFamily = &family{
	name:   "uuid keys",
	ddl:    `CREATE TABLE things (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), v text)`,
	seed:   `TRUNCATE things; INSERT INTO things VALUES ('` + uuidOne + `', 'a'), ('` + uuidTwo + `', 'b')`,
	touch:  []string{`UPDATE things SET v = 'A' WHERE id = '` + uuidOne + `'`},
	rules:  map[string]string{"things": "table: {{S}}.things\nkey: \"{{P}}thing:{id}\"\n"},
	tables: []table{{name: "{{S}}.things", entries: []entry{{get: "things", key: "thing:{id}"}}}},
	forms: []form{
		{name: "update by text", sql: `UPDATE things SET v = $1 WHERE id = $2`, args: []any{"new", uuidOne}},
		{name: "update by shouting", sql: `UPDATE things SET v = $1 WHERE id = $2`, args: []any{"new", "6BA7B8109DAD11D180B400C04FD430C8"}},
		{name: "update by braces", sql: `UPDATE things SET v = 'new' WHERE id = '{6ba7b810-9dad-11d1-80b4-00c04fd430c8}'`},
		{name: "update by bytes", sql: `UPDATE things SET v = $1 WHERE id = $2`, args: []any{"new", [16]byte{15: 0xff}}},
		{name: "update by cast", sql: `UPDATE things SET v = $1 WHERE id = $2::uuid`, args: []any{"new", uuidOne}},
		{name: "insert", sql: `INSERT INTO things (id, v) VALUES ($1, $2)`, args: []any{"12345678-9ABC-def0-1234-56789abcdef0", "n"}},
		{name: "insert with default", sql: `INSERT INTO things (v) VALUES ('n') RETURNING id`, how: byQueryRow, random: true},
		{name: "conflict", sql: `INSERT INTO things (id, v) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = $2`, args: []any{uuidTwo, "n"}},
		{name: "delete by text", sql: `DELETE FROM things WHERE id::text = $1`, args: []any{uuidTwo}},
	},
}

// textKeyFamily has keys with everything that a text can hold.
var textKeyFamily = &family{
	name:   "odd text keys",
	ddl:    `CREATE TABLE words (word text PRIMARY KEY, n int)`,
	seed:   `TRUNCATE words; INSERT INTO words VALUES ('{x}%', 1), ('', 2), ('größe 🦊', 3), (E'tab\tnl\n', 4), ('a:wt', 5), ('''"\', 6)`,
	touch:  []string{`UPDATE words SET n = 10 WHERE word = '{x}%'`, `UPDATE words SET n = 20 WHERE word = ''`},
	rules:  map[string]string{"words": "table: {{S}}.words\nkey: \"{{P}}word:{word}\"\n"},
	tables: []table{{name: "{{S}}.words", entries: []entry{{get: "words", key: "word:{word}"}}}},
	forms: []form{
		{name: "braces and percent", sql: `UPDATE words SET n = 100 WHERE word = $1`, args: []any{"{x}%"}},
		{name: "empty", sql: `UPDATE words SET n = 100 WHERE word = $1`, args: []any{""}},
		{name: "empty constant", sql: `DELETE FROM words WHERE word = ''`},
		{name: "unicode", sql: `UPDATE words SET n = 100 WHERE word = $1`, args: []any{"größe 🦊"}},
		{name: "unicode constant", sql: `UPDATE words SET n = 100 WHERE word = U&'gr\00F6\00DFe \+01F98A'`},
		{name: "unicode that looks the same", sql: `UPDATE words SET n = 100 WHERE word = $1`, args: []any{"gro\u0308ße 🦊"}, same: true},
		{name: "control bytes", sql: `UPDATE words SET n = 100 WHERE word = $1`, args: []any{"tab\tnl\n"}},
		{name: "control bytes in an escape string", sql: `UPDATE words SET n = 100 WHERE word = E'tab\tnl\n'`},
		{name: "the protocol's own suffix", sql: `UPDATE words SET n = 100 WHERE word = 'a:wt'`},
		{name: "quotes and backslash", sql: `UPDATE words SET n = 100 WHERE word = '''"\'`},
		{name: "to odd values", sql: `UPDATE words SET word = word || '{}' || chr(1) || '%00'`},
		{name: "insert of odd values", sql: `INSERT INTO words (word, n) VALUES ($1, 1), ($2, 2), ($3, 3)`, args: []any{"%00", "wtcache:", "user:{id}"}},
		{name: "insert of a long value", sql: `INSERT INTO words SELECT repeat('x', 2000), 1`},
		{name: "delete of all", sql: `DELETE FROM words`},
	},
}

var bigintFamily = &family{
	name: "big keys of other types",
	ddl: `CREATE EXTENSION IF NOT EXISTS citext WITH SCHEMA public;
		CREATE DOMAIN positive AS bigint CHECK (VALUE > 0);
		CREATE TYPE mood AS ENUM ('glad', 'so so', 'x{y}');
		CREATE TABLE big (id positive PRIMARY KEY, m mood UNIQUE, amount numeric UNIQUE, code char(4) UNIQUE, at timestamptz UNIQUE, day date UNIQUE, nick public.citext UNIQUE, raw bytea UNIQUE, yes bool UNIQUE, v int)`,
	seed: `TRUNCATE big; INSERT INTO big VALUES (9007199254740993, 'glad', 1.50, 'ab', '2024-03-31 02:30:00.25+00', '2024-02-29', 'Nick', '\x00ff', true, 1),
		(2, 'x{y}', 100, 'abcd', 'infinity', '0044-03-15 BC', 'other', '', false, 2)`,
	touch: []string{`UPDATE big SET v = 3 WHERE id = 2`},
	rules: map[string]string{"big": `
table: {{S}}.big
entries:
  - {key: "{{P}}big:{id}", columns: [id, v]}
  - {key: "{{P}}mood:{m}", columns: [id, v]}
  - {key: "{{P}}amount:{amount}", columns: [id, v]}
  - {key: "{{P}}code:{code}", columns: [id, v]}
  - {key: "{{P}}nick:{nick}", columns: [id, v]}
  - {key: "{{P}}yes:{yes}", columns: [id, v]}
`},
	tables: []table{{name: "{{S}}.big", entries: []entry{
		{get: "big.by_id", key: "big:{id}", row: bigRow}, {get: "big.by_m", key: "mood:{m}", row: bigRow}, {get: "big.by_amount", key: "amount:{amount}", row: bigRow, loose: true},
		{get: "big.by_code", key: "code:{code}", row: bigRow, loose: true}, {get: "big.by_nick", key: "nick:{nick}", row: bigRow, loose: true}, {get: "big.by_yes", key: "yes:{yes}", row: bigRow},
	}}},
	forms: []form{
		{name: "past 2^53", sql: `UPDATE big SET v = 9 WHERE id = $1`, args: []any{int64(9007199254740993)}},
		{name: "numeric of another scale", sql: `UPDATE big SET v = 9 WHERE amount = 1.5000`},
		{name: "numeric rewritten in another scale", sql: `UPDATE big SET amount = 1.5 WHERE amount = 1.50`},
		{name: "char(n) padded", sql: `UPDATE big SET v = 9 WHERE code = $1`, args: []any{"ab"}},
		{name: "citext of another case", sql: `UPDATE big SET v = 9 WHERE nick OPERATOR(public.=) $1::public.citext`, args: []any{"NICK"}},
		{name: "citext rewritten in another case", sql: `UPDATE big SET nick = 'NICK' WHERE nick OPERATOR(public.=) 'nick'`},
		{name: "enum", sql: `UPDATE big SET m = 'so so' WHERE m = 'glad'`},
		{name: "enum relabelled", sql: `ALTER TYPE mood RENAME VALUE 'glad' TO 'happy'; UPDATE big SET v = 8`, class: uncounted, fresh: true},
		{name: "bool", sql: `DELETE FROM big WHERE yes`},
		{name: "domain refuses", sql: `UPDATE big SET id = -1 WHERE id = 2`, fails: "23514"},
		{name: "insert", sql: `INSERT INTO big (id, m, amount, code, nick) VALUES (7, 'so so', 0.00, '', '')`},
		{name: "all at once", sql: `UPDATE big SET (id, amount, code, nick, yes) = (id + 1, amount * 10, left(id::text, 3), upper(nick::text), NULL)`},
	},
}

const bigRow = `json_build_object('id', t.id, 'v', t.v)`
