package wtcache_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
)

// behindPgBouncer makes a world's clients go through a PgBouncer in transaction pooling mode: each transaction may have
// another session of the server.
func behindPgBouncer(t *testing.T, mode pgx.QueryExecMode, sessions int) func(*pgx.ConnConfig) {
	return func(c *pgx.ConnConfig) {
		c.DefaultQueryExecMode = mode
		testenv.NewPgBouncer(t, c.ConnString(), sessions).Through(c)
		delete(c.RuntimeParams, "search_path") // the sessions have it: without the PgBouncer no table would be found
	}
}

// pooledModes are those of pgx's modes that need nothing of a session from one round trip to the next. describe_exec is
// not one of them: between its two round trips the pooler may give the session, and the unnamed statement that was
// parsed in it, to another client. Pgx says so, with or without this driver.
var pooledModes = []pgx.QueryExecMode{pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}

// TestWriteFormsBehindPgBouncer runs the forms of write where the sessions are pooled by transaction. When it fails, a
// program that cannot do without a pooler has stale entries, or notices the driver.
func TestWriteFormsBehindPgBouncer(t *testing.T) {
	for _, mode := range pooledModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			forms := slices.Concat(insertForms, updateForms, keyForms, deleteForms, coarseForms, scriptForms)
			forms = slices.DeleteFunc(forms, func(f form) bool {
				// A named statement and a session's setting are of one session, and the next statement may have another.
				return !f.comparable(auto) || f.fails != "" || f.how == byPrepExec || f.how == byPrepQuery || len(f.session) > 0
			})
			w := newWorld(t, usersFamily("pgbouncer", forms), behindPgBouncer(t, mode, 3))
			for i := range forms {
				for _, in := range []around{auto, committed} {
					if forms[i].ways == nil || slices.Contains(forms[i].ways, in) {
						t.Run(fmt.Sprint(forms[i].name, "/", in), func(t *testing.T) { w.tryWay(t, &forms[i], in) })
					}
				}
			}
		})
	}
}

// TestWritersBehindPgBouncer: many clients share few sessions, so that a client's statements do meet other sessions,
// and the sessions other clients' statements.
func TestWritersBehindPgBouncer(t *testing.T) {
	for _, mode := range pooledModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, usersFamily("writers", nil), behindPgBouncer(t, mode, 2))
			before := w.reset(t)
			var writers sync.WaitGroup
			for i := range 6 {
				writers.Go(func() { w.writeSome(t, i) })
			}
			writers.Wait()
			if t.Failed() {
				return
			}
			after := w.snapshot(t)
			all := &form{name: "writers", moved: true}
			w.judge(t, all, auto, before, after)
			w.readAll(t, before, after)
			w.judge(t, all, auto, before, after)
		})
	}
}

// writeSome writes one row in each of the ways: fenced first, locked first, and in a transaction.
func (w *world) writeSome(t *testing.T, writer int) {
	id := 1 + writer%4
	for n := range 20 {
		text := fmt.Sprintf("%d of %d", n, writer)
		if _, err := w.db.ExecContext(t.Context(), "UPDATE users SET name = $1 WHERE id = $2", text, id); err != nil {
			t.Error(err)
			return
		}
		if err := w.writeTx(t, id, text); err != nil {
			t.Error(err)
			return
		}
		if _, err := w.db.ExecContext(t.Context(), "UPDATE users SET email = $1 WHERE visits >= 0 AND id = $2", text+"@x", id); err != nil {
			t.Error(err)
			return
		}
	}
}

func (w *world) writeTx(t *testing.T, id int, text string) error {
	tx, err := w.db.BeginTx(t.Context(), nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // it has ended where all went well
	for _, column := range []string{"name", "nick"} {
		var got int
		err := tx.QueryRowContext(t.Context(), "UPDATE users SET "+column+" = $1 WHERE id = $2 RETURNING id", "tx "+text, id).Scan(&got)
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}
