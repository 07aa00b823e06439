package wtcache_test

import (
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestParity runs every write form, and statements that fail, through the driver and
// through plain pgx. When it fails, a program notices that it was moved to wtcache:
// another result, another error, or something left in its session.
func TestParity(t *testing.T) {
	all := append(families(), usersFamily("errors", errorForms), typesParityFamily)
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			p := newTwins(t, f)
			for i := range f.forms {
				t.Run(f.forms[i].name, func(t *testing.T) { p.compareForm(t, &f.forms[i]) })
			}
		})
	}
}

func (p twins) compareForm(t *testing.T, f *form) {
	for _, in := range []around{auto, committed} {
		if !f.comparable(in) {
			continue
		}
		t.Run(string(in), func(t *testing.T) {
			p := p
			if f.fresh {
				p = newTwins(t, p.ours.family)
			}
			p.compare(t, f, in)
		})
	}
}

// TestParityOfModes runs calls of all kinds and statements that fail in each of pgx's
// ways to talk to the server. When it fails, a program that chose one (behind PgBouncer,
// say) cannot be moved to wtcache.
func TestParityOfModes(t *testing.T) {
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			f := usersFamily("modes", append(append(callForms(), errorForms...), modeForms...))
			p := newTwins(t, f, func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
			for i := range f.forms {
				t.Run(f.forms[i].name, func(t *testing.T) { p.compare(t, &f.forms[i], auto) })
			}
			w := p.ours
			for i := range modeForms {
				t.Run(modeForms[i].name+" and the cache", func(t *testing.T) { w.tryForm(t, &modeForms[i]) })
			}
		})
	}
}

// TestWriteFormsOfModes runs each form of write in each of those ways, and holds both the caller's view against plain
// pgx in the same mode and the cache against the database. When it fails, a mode captures less than another.
func TestWriteFormsOfModes(t *testing.T) {
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			forms := slices.Concat(insertForms, updateForms, keyForms, deleteForms, coarseForms, scriptForms)
			p := newTwins(t, usersFamily("modes", forms), func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode })
			forms = slices.DeleteFunc(forms, func(f form) bool { return !f.comparable(auto) })
			for i := range forms {
				t.Run(forms[i].name, func(t *testing.T) { p.compare(t, &forms[i], auto) })
			}
			for i := range forms { // apart, since the other side of a comparison does not do it
				if f := &forms[i]; f.fails == "42601" && (len(f.args) > 0 || f.how == byQuery) && mode == pgx.QueryExecModeSimpleProtocol {
					f.fails, f.class = "", coarse // the one mode that takes several statements with arguments
				}
				t.Run(forms[i].name+" and the cache", func(t *testing.T) { p.ours.tryWay(t, &forms[i], auto) })
			}
		})
	}
}

// modeForms are judged by what they leave in the cache, too.
var modeForms = []form{
	{name: "mode: insert", sql: `INSERT INTO users (id, name, email, tags, attrs) VALUES ($1, $2, $3, $4, $5) RETURNING id, tags`, args: []any{5, "eve", "e@x", []string{"p", "q"}, `{"a": 1}`}, how: byQuery},
	{name: "mode: upsert", sql: `INSERT INTO users (id, email) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email`, args: []any{1, "new@x"}},
	{name: "mode: update of a key by FROM", sql: `UPDATE users SET email = $1 FROM orders o WHERE o.user_id = users.id AND o.id = $2`, args: []any{"new@x", 12}},
	{name: "mode: update without arguments", sql: `UPDATE users SET email = 'n' || id WHERE id < 3`},
	{name: "mode: query without arguments", sql: `UPDATE users SET name = 'n' WHERE id < 3 RETURNING *`, how: byQuery},
	{name: "mode: delete, prepared", sql: `DELETE FROM users WHERE id = $1`, args: []any{1}, how: byPrepExec},
	{name: "mode: truncate", sql: `TRUNCATE users`, class: coarse},
	{name: "mode: CTE", sql: `WITH d AS (DELETE FROM users WHERE id = $1 RETURNING *) SELECT id FROM d`, args: []any{1}, how: byQuery, class: coarse},
	{name: "mode: script", sql: `UPDATE users SET email = 'x' WHERE id = 1; DELETE FROM users WHERE id = 2`},
	{name: "mode: null argument", sql: `UPDATE users SET nick = $1 WHERE id = $2`, args: []any{nil, 1}},
}

// typesParityFamily returns a column of every kind, to compare how they are described.
var typesParityFamily = &family{
	name:  "described columns",
	ddl:   `CREATE TABLE cols (id int PRIMARY KEY, n numeric(12,3), n2 numeric, v varchar(7), c char(3), b bpchar, bits bit(5), vb varbit(9), ts timestamptz(3), t time(2), iv interval(1), raw bytea, a numeric(5,2)[], j json, x xml, r int8range, u uuid, f real, ok bool NOT NULL DEFAULT true)`,
	seed:  `TRUNCATE cols; INSERT INTO cols VALUES (1, 1.5, 2.25, 'v', 'c', 'b', B'10101', B'1', '2024-01-01 00:00:00.1234Z', '01:02:03.456', '1 day', '\x00', '{1.5,NULL}', '{}', '<x/>', '[1,2)', '` + uuidOne + `', 1.5, false)`,
	rules: map[string]string{"cols": "table: {{S}}.cols\nkey: \"{{P}}col:{id}\"\n"},
	forms: []form{
		{name: "insert", sql: `INSERT INTO cols (id) VALUES (2) RETURNING *`, how: byQuery},
		{name: "update", sql: `UPDATE cols SET n = n + 1 RETURNING *, n * 2, v || 'x' AS v2, NULL, 'unknown', id + 1, ARRAY[id], ROW(1, 2), count_of.n FROM`, how: byQuery, fails: "42601"},
		{name: "update with expressions", sql: `UPDATE cols SET n = n + 1 RETURNING *, n * 2, v || 'x' AS v2, NULL, 'unknown', id + 1, ARRAY[id], ROW(1, 2), v::varchar(3), id AS "", id AS id`, how: byQuery},
		{name: "prepared", sql: `DELETE FROM cols WHERE id = $1 RETURNING *`, args: []any{1}, how: byPrepQuery},
		{name: "one row", sql: `DELETE FROM cols RETURNING n, n2`, how: byOneRow},
		{name: "no row", sql: `DELETE FROM cols WHERE id = 9 RETURNING *`, how: byQuery},
		{name: "no row by QueryRow", sql: `DELETE FROM cols WHERE id = 9 RETURNING id`, how: byQueryRow},
		{name: "no RETURNING", sql: `DELETE FROM cols`, how: byQuery},
	},
}
