package wtcache_test

// updateForms assign no key column.
var updateForms = []form{
	{name: "pinned by a constant", sql: `UPDATE users SET name = 'new' WHERE id = 1`},
	{name: "pinned by an argument", sql: `UPDATE users SET name = $1 WHERE id = $2`, args: []any{"new", 3}},
	{name: "pinned by a text argument", sql: `UPDATE users SET name = $1 WHERE id = $2`, args: []any{"new", "3"}},
	{name: "pinned by a text with zeros", sql: `UPDATE users SET name = $1 WHERE id = $2`, args: []any{"new", " 003 "}},
	{name: "pinned by another column", sql: `UPDATE users SET visits = visits + 1 WHERE email = $1`, args: []any{"b@x"}},
	{name: "every row", sql: `UPDATE users SET visits = visits + 1`},
	{name: "a range", sql: `UPDATE users SET name = name || $1 WHERE id BETWEEN $2 AND $3`, args: []any{"!", 2, 4}},
	{name: "a list", sql: `UPDATE users SET name = 'new' WHERE id = ANY($1)`, args: []any{[]int32{1, 2}}},
	{name: "or", sql: `UPDATE users SET name = 'new' WHERE id = 1 OR email = 'c@x'`},
	{name: "no row", sql: `UPDATE users SET name = 'new' WHERE id = 99`, same: true},
	{name: "the same value", sql: `UPDATE users SET name = name WHERE id = 1`, same: true},
	{name: "shared key left", sql: `UPDATE users SET org_id = 3 WHERE id = 1`},
	{name: "shared key to NULL", sql: `UPDATE users SET org_id = NULL WHERE id = 3`},
	{name: "shared key from NULL", sql: `UPDATE users SET org_id = 2 WHERE email = 'd@x'`},
	{name: "from", sql: `UPDATE users SET name = i.name FROM imports i WHERE users.id + 4 = i.id`},
	{name: "from several, aliases", sql: `UPDATE users u SET visits = o.amount FROM orders o JOIN orgs g ON true WHERE o.user_id = u.id AND g.id = u.org_id AND o.id <> 11`},
	{name: "from values", sql: `UPDATE users AS u SET name = v.n FROM (VALUES (1, 'one'), (2, 'two')) AS v(i, n) WHERE u.id = v.i`},
	{name: "from a function", sql: `UPDATE users SET visits = g FROM generate_series(2, 3) g WHERE id = g`},
	{name: "from a lateral", sql: `UPDATE users u SET visits = s.n FROM orgs g, LATERAL (SELECT count(*) + g.id AS n FROM orders) s WHERE g.id = u.org_id`},
	{name: "self-join", sql: `UPDATE users u SET name = v.name FROM users v WHERE v.id = u.id + 1`},
	{name: "self-join, the table's name is the other's", sql: `UPDATE users u SET name = users.name FROM users WHERE users.id = u.id + 1`},
	{name: "sub-select in SET", sql: `UPDATE users SET visits = (SELECT count(*) FROM orders WHERE user_id = users.id)`},
	{name: "sub-select in WHERE", sql: `UPDATE users SET name = 'buyer' WHERE id IN (SELECT user_id FROM orders)`},
	{name: "exists", sql: `UPDATE users u SET name = 'buyer' WHERE EXISTS (SELECT 1 FROM orders o WHERE o.user_id = u.id AND o.amount > $1)`, args: []any{6}},
	{name: "only", sql: `UPDATE ONLY users SET name = 'new' WHERE id = 1`},
	{name: "only in brackets, star", sql: `UPDATE ONLY (users) AS u SET name = 'new' WHERE u.id = 2`},
	{name: "star", sql: `UPDATE users * SET name = 'new' WHERE users.id = 2`},
	{name: "alias", sql: `UPDATE users u SET name = 'new' WHERE u.id = 1`},
	{name: "alias with quotes", sql: `UPDATE users AS "The ""U""" SET name = 'new' WHERE "The ""U""".id = 1`},
	{name: "alias that is a keyword", sql: `UPDATE users AS set SET name = 'new' WHERE set.id = 1`},
	{name: "alias of a column's name", sql: `UPDATE users name SET name = 'new' WHERE name.id = 1 RETURNING name.name`, how: byQueryRow},
	{name: "array element", sql: `UPDATE users SET tags[2] = 'z', tags[4] = NULL WHERE id = 1`},
	{name: "array slice", sql: `UPDATE users SET tags[1:2] = '{p,q}' WHERE id = 1`},
	{name: "jsonb subscript", sql: `UPDATE users SET attrs['k'] = '"v"' WHERE id = 1`},
	{name: "row assignment", sql: `UPDATE users SET (name, visits) = ('new', 3) WHERE id = 1`},
	{name: "row assignment from ROW", sql: `UPDATE users SET (name, visits) = ROW('new', DEFAULT) WHERE id = 1`},
	{name: "row assignment from a sub-select", sql: `UPDATE users SET (name, visits) = (SELECT 'n' || count(*), sum(amount) FROM orders WHERE user_id = users.id) WHERE id IN (1, 3)`},
	{name: "default", sql: `UPDATE users SET visits = DEFAULT, name = DEFAULT WHERE id = 1`},
	{name: "read-only CTE", sql: `WITH o AS (SELECT user_id, sum(amount) AS s FROM orders GROUP BY 1) UPDATE users SET visits = o.s FROM o WHERE o.user_id = users.id`},
	{name: "CTE of the same name", sql: `WITH users AS (SELECT 2 AS id) UPDATE {{S}}.users SET name = 'new' FROM users c WHERE {{S}}.users.id = c.id`},
	{name: "recursive CTE", sql: `WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 3) UPDATE users SET name = 'new' FROM r WHERE id = n`},
	{name: "returning all", sql: `UPDATE users SET name = 'new' WHERE id < 3 RETURNING *`, how: byQuery},
	{name: "returning expressions", sql: `UPDATE users u SET name = 'new' WHERE id < 3 RETURNING u.id AS "The Id", visits * 2, (SELECT count(*) FROM orders) AS "select"`, how: byQuery},
	{name: "returning with FROM", sql: `UPDATE users u SET name = o.id::text FROM orders o WHERE o.user_id = u.id AND o.id = 12 RETURNING *`, how: byQuery},
	{name: "returning, comment at the end", sql: "UPDATE users SET name = 'new' WHERE id = 1 RETURNING id -- , name", how: byQueryRow},
	{name: "returning a whole row", sql: `UPDATE users u SET name = 'new' WHERE id = 1 RETURNING u`, how: byQueryRow},
	{name: "expensive condition", sql: `UPDATE users SET name = 'new' WHERE slow(id) AND visits > 0`},
	{name: "odd spacing", sql: "\t\n UPDATE\n users\nSET\nname='new'WHERE id=1"},
}

// inOrder makes an UPDATE go through the rows in the order of their primary key: a unique
// index that is immediate lets a key be handed on only in that order.
var inOrder = []string{`SET enable_seqscan = off`, `SET enable_bitmapscan = off`}

// keyForms assign key columns, so that a row leaves keys behind.
var keyForms = []form{
	{name: "pinned by the primary key", sql: `UPDATE users SET email = 'new@x' WHERE id = 1`},
	{name: "arguments", sql: `UPDATE users SET email = $1 WHERE id = $2`, args: []any{"new@x", 1}},
	{name: "pinned by the key itself", sql: `UPDATE users SET email = $1 WHERE email = $2`, args: []any{"new@x", "c@x"}},
	{name: "primary key", sql: `UPDATE users SET id = 50 WHERE id = 1`},
	{name: "primary key, expression", sql: `UPDATE users SET id = id + 50 WHERE email LIKE '%@x'`},
	{name: "every row, no condition", sql: `UPDATE users SET email = upper(email)`},
	{name: "every row, comment at the end", sql: "UPDATE users SET email = upper(email) -- all of them"},
	{name: "chain", session: inOrder, sql: `UPDATE users SET id = id - 1 WHERE id > 0`, moved: true},
	{name: "chain of unique texts", session: inOrder, sql: `UPDATE users SET nick = CASE id WHEN 1 THEN 'z' WHEN 3 THEN 'annie' ELSE 'cee' END WHERE id > 0 AND id <> 2`, moved: true},
	{name: "to the same value", sql: `UPDATE users SET email = 'a@x' WHERE id = 1`, same: true},
	{name: "or", sql: `UPDATE users SET email = id || '@y' WHERE id = 1 OR name = 'cid'`},
	{name: "nullable key to NULL", sql: `UPDATE users SET nick = NULL WHERE id = 1`},
	{name: "nullable key from NULL", sql: `UPDATE users SET nick = 'bobby' WHERE id = 2`},
	{name: "nullable key, NULL argument", sql: `UPDATE users SET nick = $1 WHERE nick = $2`, args: []any{nil, "annie"}},
	{name: "default", sql: `UPDATE users SET nick = DEFAULT WHERE id IN (1, 3)`},
	{name: "row assignment", sql: `UPDATE users SET (id, email) = (60, 'new@x') WHERE id = 2`},
	{name: "row assignment from a sub-select", sql: `UPDATE users SET (email, nick) = (SELECT email || id, name FROM imports WHERE id = users.id + 4) WHERE id < 3`},
	{name: "from", sql: `UPDATE users SET email = i.email FROM imports i WHERE i.id = users.id + 4`},
	{name: "from, argument for the key", sql: `UPDATE users SET email = $1 FROM orders o WHERE o.user_id = users.id AND o.id = $2`, args: []any{"new@x", 12}},
	{name: "from, literal for the key", sql: `UPDATE users SET email = 'new@x', nick = NULL FROM orders o WHERE o.user_id = users.id AND o.id = 12`},
	{name: "from, many rows", sql: `UPDATE users u SET email = u.email || o.n FROM (SELECT user_id, count(*) AS n FROM orders GROUP BY 1) o WHERE o.user_id = u.id`},
	{name: "from, row assignment alone, with no value to wrap", class: coarse, sql: `UPDATE users SET (email, nick) = (i.email, i.name) FROM imports i WHERE i.id = users.id + 4`},
	{name: "from, array element beside", sql: `UPDATE users SET tags[1] = 'q', email = i.email FROM imports i WHERE i.id = users.id + 4`},
	{name: "self-join", sql: `UPDATE users u SET email = v.name || v.email FROM users v WHERE v.id = u.id + 1`},
	{name: "sub-select in SET", sql: `UPDATE users SET email = (SELECT email FROM imports WHERE id = 5) WHERE id = 1`},
	{name: "sub-select in WHERE", sql: `UPDATE users SET email = 'n' || id WHERE id IN (SELECT user_id FROM orders)`},
	{name: "sub-select in WHERE, other way round", sql: `UPDATE users SET nick = 'n' || id WHERE NOT EXISTS (SELECT 1 FROM orders WHERE user_id = users.id) AND nick IS NOT NULL`},
	{name: "read-only CTE", sql: `WITH w AS (SELECT 1 AS id, 'new@x' AS e) UPDATE users SET email = w.e FROM w WHERE w.id = users.id`},
	{name: "CTE with its own SET and WHERE", sql: `WITH w AS (SELECT set_config('application_name', 'x', true) WHERE true) UPDATE users SET email = 'new@x' WHERE id = 1`},
	{name: "is distinct from", sql: `UPDATE users SET email = 'x' || (name IS DISTINCT FROM 'bob') WHERE id IN (SELECT 1)`},
	{name: "expensive condition", sql: `UPDATE users SET email = 'n' || id WHERE slow(id)`},
	{name: "alias, only", sql: `UPDATE ONLY users AS "U" SET email = "U".email || '!' WHERE "U".id > 2`},
	{name: "schema", sql: `UPDATE {{S}}.users SET email = {{S}}.users.email || '!' WHERE {{S}}.users.id = 1`},
	{name: "comments everywhere", sql: "UPDATE users /* SET */ SET email = /* WHERE */ 'new@x' -- x\nWHERE /* RETURNING */ id = 1 -- AND false\n/* end */"},
	{name: "returning all", sql: `UPDATE users SET email = 'n' || id WHERE id < 3 RETURNING *`, how: byQuery},
	{name: "returning, condition with brackets", sql: `UPDATE users SET email = 'n' || id WHERE (id < 3) AND ((name) = 'ann' OR true) RETURNING id, email AS "e,"`, how: byQuery},
	{name: "swap in three steps", inTx: []string{`UPDATE users SET email = 'tmp' WHERE id = 1`, `UPDATE users SET email = 'a@x' WHERE id = 2`}, sql: `UPDATE users SET email = 'b@x' WHERE id = 1`, moved: true, ways: []around{committed, aborted, released}},
	{name: "taken over from a deleted row", inTx: []string{`DELETE FROM users WHERE id = 1`}, sql: `UPDATE users SET email = 'a@x' WHERE id = 2`, ways: []around{committed, aborted, released}},
}

var deleteForms = []form{
	{name: "pinned by a constant", sql: `DELETE FROM users WHERE id = 1`},
	{name: "pinned by an argument", sql: `DELETE FROM users WHERE id = $1`, args: []any{2}},
	{name: "by another key", sql: `DELETE FROM users WHERE email = 'c@x' AND id = 3`},
	{name: "every row", sql: `DELETE FROM users`},
	{name: "no row", sql: `DELETE FROM users WHERE id = 99`, same: true},
	{name: "only, alias", sql: `DELETE FROM ONLY users AS u WHERE u.id > 2`},
	{name: "using", sql: `DELETE FROM users USING orders o WHERE o.user_id = users.id`},
	{name: "using itself", sql: `DELETE FROM users u USING users v WHERE v.id = u.id + 1 AND v.name = 'cid'`},
	{name: "sub-select", sql: `DELETE FROM users WHERE id NOT IN (SELECT user_id FROM orders)`},
	{name: "read-only CTE", sql: `WITH o AS (SELECT user_id FROM orders) DELETE FROM users USING o WHERE o.user_id = id`},
	{name: "returning all", sql: `DELETE FROM users WHERE id < 3 RETURNING *`, how: byQuery},
	{name: "returning with USING", sql: `DELETE FROM users u USING orders o WHERE o.user_id = u.id AND o.id = 12 RETURNING o.amount, u.*`, how: byQuery},
	{name: "and inserted again", inTx: []string{`DELETE FROM users WHERE id = 1`}, sql: `INSERT INTO users (id, email) VALUES (1, 'a@x')`, ways: []around{committed, aborted, released}},
	{name: "inserted and deleted", inTx: []string{`INSERT INTO users (id, email) VALUES (5, 'e@x')`}, sql: `DELETE FROM users WHERE id IN (5, 1)`, ways: []around{committed, aborted, released}},
}

// callForms calls each kind of statement in each manner that database/sql offers.
func callForms() []form {
	kinds := []form{
		{name: "insert", sql: `INSERT INTO users (id, email) VALUES ($1, $2)`, args: []any{5, "e@x"}},
		{name: "insert returning", sql: `INSERT INTO users (id, email) VALUES ($1, $2), (6, 'f@x') RETURNING id`, args: []any{5, "e@x"}},
		{name: "insert of constants", sql: `INSERT INTO users (id, email) VALUES (5, 'e@x'), (6, 'f@x') RETURNING id`},
		{name: "upsert", sql: `INSERT INTO users (id, email) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET email = $2 RETURNING id`, args: []any{1, "new@x"}},
		{name: "update", sql: `UPDATE users SET name = $1 WHERE id < $2`, args: []any{"new", 4}},
		{name: "update returning", sql: `UPDATE users SET name = $1 WHERE id < $2 RETURNING id`, args: []any{"new", 4}},
		{name: "update of a key", sql: `UPDATE users SET email = $1 || id WHERE id < $2 RETURNING id`, args: []any{"new", 4}},
		{name: "delete", sql: `DELETE FROM users WHERE id < $1`, args: []any{4}},
		{name: "delete returning", sql: `DELETE FROM users WHERE id < $1 RETURNING id`, args: []any{4}},
	}
	manners := []struct {
		name string
		how  how
	}{{"Exec", byExec}, {"Query", byQuery}, {"QueryRow", byQueryRow}, {"Query, one row read", byOneRow}, {"Query, nothing read", byNoRow}, {"Prepare and Exec", byPrepExec}, {"Prepare and Query", byPrepQuery}}
	var forms []form
	for _, k := range kinds {
		for _, m := range manners {
			if m.how == byQueryRow && !returning(k.sql) {
				continue
			}
			f := k
			f.name, f.how = k.name+" by "+m.name, m.how
			forms = append(forms, f)
		}
		if returning(k.sql) {
			k.name, k.how, k.ways = k.name+" by Query, rows left open", byOpenRows, []around{committed, aborted}
			forms = append(forms, k)
		}
	}
	return forms
}
