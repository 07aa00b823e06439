package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/wtcache/wtcache/internal/linear"
)

// way is a way to write.
type way struct {
	name   string
	weight int
	in     string // the only table that is written so; "": any
	kind   linear.Kind
	text   string // {T} is the table, $1 the row, $2 the value
	do     func(a *actor, ctx context.Context, w way)
}

const (
	setByKey = "UPDATE {T} SET n = $2 WHERE id = $1"
	upsert   = "INSERT INTO {T} (id, n, code) VALUES ($1, $2, 'c' || $1::int) ON CONFLICT (id) DO UPDATE SET n = excluded.n"
)

var ways = []way{
	{"by key", 24, "", linear.Update, setByKey, (*actor).autocommit},
	{"by a predicate", 10, "", linear.Update, "UPDATE {T} SET n = $2 WHERE abs(id) = $1", (*actor).autocommit},
	{"upsert", 6, "", linear.Upsert, upsert, (*actor).autocommit},
	{"insert", 8, "", linear.Insert, "INSERT INTO {T} (id, n, code) VALUES ($1, $2, 'c' || $1::int) ON CONFLICT DO NOTHING", (*actor).autocommit},
	{"delete", 4, "", linear.Delete, "DELETE FROM {T} WHERE id = $1", (*actor).autocommit},
	{"coarse", 1, "lists", linear.Update, "WITH w AS (UPDATE {T} SET n = $2 WHERE id = $1 RETURNING id) SELECT id FROM w", (*actor).autocommit},
	{"truncate", 1, "lists", linear.Upsert, "", (*actor).truncate},
	{"transaction", 14, "", linear.Update, setByKey, (*actor).transaction},
	{"rolled back", 4, "", linear.Update, setByKey, (*actor).rollback},
	{"away and back", 4, "", linear.Upsert, "", (*actor).awayAndBack},
}

func (w way) on(p place) string { return strings.ReplaceAll(w.text, "{T}", p.name()) }

// autocommit is one statement that commits by itself.
func (a *actor) autocommit(ctx context.Context, w way) {
	row := image{place: a.somewhere(w.in), value: a.draw(), there: w.kind != linear.Delete}
	args := []any{row.row, row.value}
	if !row.there {
		args = args[:1]
	}
	records := a.begin(w.name, w.kind, row)
	wrote, err := writeRow(ctx, a.cache.db(), w.on(row.place), args...)
	o := outcomeOf(err)
	if err == nil && !wrote {
		o = nothing
	}
	if o == done {
		a.cache.written(ctx, []image{row})
	}
	a.end(records, o, err)
}

// inTx runs a transaction on rows. An error before COMMIT is asked for means that nothing was committed.
func (a *actor) inTx(ctx context.Context, records []record, rows []image, commit bool, each func(on execer, r image) (wrote bool, err error)) {
	tx, err := a.cache.db().BeginTx(ctx, nil)
	if err != nil {
		a.end(records, refused, err)
		return
	}
	defer func() { _ = tx.Rollback() }() // of what was not committed
	var written []image
	for i, r := range rows {
		wrote, err := each(tx, r)
		if err != nil {
			a.end(records, refused, err)
			return
		}
		if wrote {
			written = append(written, r)
		} else {
			records[i].Outcome = nothing
		}
	}
	if !commit {
		err := tx.Rollback()
		a.end(records, refused, err)
		return
	}
	err = tx.Commit()
	o := outcomeOf(err)
	if o == done {
		a.cache.written(ctx, written)
	}
	a.end(records, o, err)
}

// several draws rows in the order in which they are to be locked.
func (a *actor) several(n int) []image {
	var rows []image
	for len(rows) < n {
		p := a.somewhere("")
		if !slices.ContainsFunc(rows, func(r image) bool { return r.place == p }) {
			rows = append(rows, image{place: p, value: a.draw(), there: true})
		}
	}
	slices.SortFunc(rows, func(x, y image) int { return x.key() - y.key() })
	return rows
}

func (a *actor) transaction(ctx context.Context, w way) { a.pair(ctx, w, true) }

func (a *actor) rollback(ctx context.Context, w way) { a.pair(ctx, w, false) }

func (a *actor) pair(ctx context.Context, w way, commit bool) {
	rows := a.several(2)
	a.inTx(ctx, a.begin(w.name, w.kind, rows...), rows, commit, func(on execer, r image) (bool, error) {
		return writeRow(ctx, on, w.on(r.place), r.row, r.value)
	})
}

// awayAndBack deletes a row and makes it again, in one transaction.
func (a *actor) awayAndBack(ctx context.Context, w way) {
	rows := a.several(1)
	a.inTx(ctx, a.begin(w.name, w.kind, rows...), rows, true, func(on execer, r image) (bool, error) {
		if _, err := writeRow(ctx, on, "DELETE FROM "+r.name()+" WHERE id = $1", r.row); err != nil {
			return false, err
		}
		return writeRow(ctx, on, strings.ReplaceAll(upsert, "{T}", r.name()), r.row, r.value)
	})
}

// truncate writes all rows of a small table anew.
func (a *actor) truncate(ctx context.Context, w way) {
	t := a.somewhere(w.in)
	var rows []image
	for r := range tables[t.table].rows {
		rows = append(rows, image{place: place{t.table, r}, value: a.draw(), there: true})
	}
	first := true
	a.inTx(ctx, a.begin(w.name, w.kind, rows...), rows, true, func(on execer, r image) (bool, error) {
		if first {
			first = false
			if _, err := writeRow(ctx, on, "TRUNCATE "+r.name()); err != nil {
				return false, err
			}
		}
		return writeRow(ctx, on, fmt.Sprintf("INSERT INTO %s (id, n, code) VALUES ($1, $2, 'c' || $1::int)", r.name()), r.row, r.value)
	})
}
