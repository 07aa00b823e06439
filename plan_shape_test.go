package wtcache_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache"
)

// A text that is planned by its shape gets the plan of another one. If it differed in anything from
// its own, a row's entry would stay stale, or an error would point to the wrong place.
func TestShapesPlanEveryForm(t *testing.T) {
	t.Parallel()
	shaped, ruled := 0, 0
	t.Run("families", func(t *testing.T) {
		for _, f := range append(families(), usersFamily("errors", errorForms)) {
			t.Run(f.name, func(t *testing.T) {
				w := newWorld(t, f)
				for i := range f.forms {
					if f.forms[i].fresh {
						continue // its definitions change under the plan
					}
					s, r := w.planByShape(t, &f.forms[i])
					shaped, ruled = shaped+s, ruled+r
				}
			})
		}
	})
	if shaped < 500 || ruled < 400 {
		t.Errorf("%d texts were planned by shape, %d of them concern a rule: too few to tell", shaped, ruled)
	}
}

// planByShape tries a form's text as it is, with its arguments as constants, and between comments.
func (w *world) planByShape(t *testing.T, f *form) (shaped, ruled int) {
	conn := w.connect(t, f)
	defer putBack(conn, f)
	text := w.expand(f.sql)
	literal := literalText(text, f.args)
	for _, text := range []string{text, literal, "/* a */ " + literal + " /* b */; -- c"} {
		steps, ok, err := wtcache.PlanByShape(t.Context(), conn, text)
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		if ok {
			shaped++
		}
		ruled += steps
	}
	return shaped, ruled
}

// literalText puts the arguments into the text, as a program does that has no parameters.
func literalText(text string, args []any) string {
	for i := len(args); i > 0; i-- {
		literal := "'" + strings.ReplaceAll(fmt.Sprint(args[i-1]), "'", "''") + "'"
		switch v := args[i-1].(type) {
		case int:
			literal = strconv.Itoa(v)
		case nil:
			literal = "NULL"
		case pgx.QueryExecMode:
			return text
		}
		text = strings.ReplaceAll(text, "$"+strconv.Itoa(i), literal)
	}
	return text
}

// constants are programs that put their values into their texts.
var constants = []struct {
	family            *family
	texts             []string // {i} is another number each time, {id} one of 1, 2 and 3
	writes, fenceable uint64   // how many of texts are captured, and are fenced before they run
}{
	{usersFamily("constants", nil), []string{
		`UPDATE users SET name = 'O''Brien {i} "\' WHERE id = {id}`,
		"UPDATE users SET email = 'mail{i}@x', visits = -{i} WHERE id = {id} RETURNING id",
		"UPDATE users SET visits = $1 WHERE id = {id} /* trace {i} */",
		"INSERT INTO users (id, email, nick) VALUES ({i}00, 'i{i}', NULL), ({i}01, 'j{i}', 'k{i}') ON CONFLICT (id) DO NOTHING",
		"DELETE FROM users WHERE id = {i}00 AND nick IS NULL",
		"SELECT count(*) FROM users WHERE id = {i} AND name <> 'users {i}'",
	}, 5, 0},
	{pinsFamily, []string{
		"UPDATE pins SET n = {i} WHERE id = '{id}'",
		"INSERT INTO pins (id, n) VALUES (-{i}0, {i})",
		"UPDATE pins SET n = 3 WHERE id = -{i}0",
		"INSERT INTO pins (id, n) VALUES (50000000000{i}, 5), (60000000000{i}, 6)",
	}, 4, 4},
}

// A program that puts its values into the text would pay a parse for every statement, and its
// statements would push the others out of the cache. Planned by the constants of another text, they
// would leave their rows stale.
func TestTextsThatNeverRepeatAreNotParsed(t *testing.T) {
	t.Parallel()
	for _, program := range constants {
		t.Run(program.family.name, func(t *testing.T) {
			w := newWorld(t, program.family)
			now := w.reset(t)
			round := func(i int) {
				for _, text := range program.texts {
					text = strings.NewReplacer("{id}", strconv.Itoa(1+i%3), "{i}", strconv.Itoa(i)).Replace(text)
					var args []any
					if strings.Contains(text, "$1") {
						args = []any{i}
					}
					before := now
					if _, err := w.db.ExecContext(t.Context(), text, args...); err != nil {
						t.Fatalf("%s: %v", text, err)
					}
					now = w.snapshot(t)
					w.judge(t, nil, auto, before, now)
				}
			}
			round(10) // from the second time on a shape is known
			round(11)
			before := w.stats(t)
			const rounds = 15
			for i := range rounds {
				round(12 + i)
			}
			after := w.stats(t)
			if n := after.PlansMade - before.PlansMade; n != 0 {
				t.Errorf("%d texts were parsed, though only their constants were new", n)
			}
			if n := after.PreciseWrites - before.PreciseWrites; n != rounds*program.writes {
				t.Errorf("%d precise writes, want %d", n, rounds*program.writes)
			}
			if n := after.FenceFirst - before.FenceFirst; n != rounds*program.fenceable {
				t.Errorf("%d writes were fenced before they ran, want %d", n, rounds*program.fenceable)
			}
			if after.KeyMismatches != 0 {
				t.Errorf("%d keys were not those that their text names", after.KeyMismatches)
			}
		})
	}
}
