package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
)

// runner is a *sql.Conn or a *sql.Tx.
type runner interface {
	ExecContext(context.Context, string, ...any) (sql.Result, error)
	QueryContext(context.Context, string, ...any) (*sql.Rows, error)
	QueryRowContext(context.Context, string, ...any) *sql.Row
	PrepareContext(context.Context, string) (*sql.Stmt, error)
}

// connect gives a connection in the form's kind of session.
func (w *world) connect(t *testing.T, f *form) *sql.Conn {
	t.Helper()
	conn, err := w.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { putBack(conn, f) })
	w.execAll(t, conn, f.session)
	return conn
}

// putBack returns a connection to the pool as it was, or ends it.
func putBack(conn *sql.Conn, f *form) {
	prepares := func(text string) bool { return strings.Contains(text, "PREPARE") }
	if slices.ContainsFunc(slices.Concat(f.session, f.inTx, []string{f.sql}), prepares) {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn }) // gives that error back
	} else if len(f.session) > 0 {
		for _, text := range []string{"RESET SESSION AUTHORIZATION", "RESET ROLE", "RESET ALL", "DISCARD TEMP"} {
			if _, err := conn.ExecContext(context.Background(), text); err != nil {
				_ = conn.Raw(func(any) error { return driver.ErrBadConn })
				break
			}
		}
	}
	_ = conn.Close() // ErrConnDone for one that was ended
}

// carryOut runs a form in one way.
func (w *world) carryOut(t *testing.T, conn *sql.Conn, f *form, in around) error {
	t.Helper()
	ctx := t.Context()
	w.execAll(t, conn, f.first)
	if in == auto {
		return w.call(ctx, conn, f)
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // it has ended where all went well
	w.execAll(t, tx, f.inTx)
	if in == savepoint || in == released {
		w.execAll(t, tx, []string{"SAVEPOINT before"})
	}
	if err := w.call(ctx, tx, f); err != nil {
		return err
	}
	switch in {
	case savepoint:
		w.execAll(t, tx, []string{"ROLLBACK TO SAVEPOINT before"})
	case released:
		w.execAll(t, tx, []string{"RELEASE SAVEPOINT before"})
	case aborted:
		return tx.Rollback()
	}
	return tx.Commit()
}

func (w *world) execAll(t *testing.T, on runner, texts []string) {
	t.Helper()
	for _, text := range texts {
		if _, err := on.ExecContext(t.Context(), w.expand(text)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func (w *world) call(ctx context.Context, on runner, f *form) error {
	text := w.expand(f.sql)
	switch f.how {
	case byExec:
		_, err := on.ExecContext(ctx, text, f.args...)
		return err
	case byQueryRow:
		var v any
		return on.QueryRowContext(ctx, text, f.args...).Scan(&v)
	case byPrepExec, byPrepQuery:
		return callPrepared(ctx, on, text, f)
	}
	rows, err := on.QueryContext(ctx, text, f.args...)
	if err != nil {
		return err
	}
	if f.how == byOpenRows {
		rows.Next()
		return nil // database/sql closes them when the transaction ends
	}
	return readRows(rows, f.how)
}

func callPrepared(ctx context.Context, on runner, text string, f *form) error {
	stmt, err := on.PrepareContext(ctx, text)
	if err != nil {
		return err
	}
	defer func() { _ = stmt.Close() }()
	if f.how == byPrepExec {
		_, err = stmt.ExecContext(ctx, f.args...)
		return err
	}
	rows, err := stmt.QueryContext(ctx, f.args...)
	if err != nil {
		return err
	}
	return readRows(rows, byQuery)
}

func readRows(rows *sql.Rows, mode how) error {
	for n := 0; !(mode == byNoRow || mode == byOneRow && n == 1) && rows.Next(); n++ {
	}
	if err := rows.Close(); err != nil {
		return err
	}
	return rows.Err()
}

// TestWriteForms runs every form of the table in DESIGN's part 2 in every kind of
// transaction. When one fails, that way of writing leaves a stale entry behind, or
// costs more than it should.
func TestWriteForms(t *testing.T) { tryForms(t, single, families()) }

// The same where the keys of one write lie on several servers. When one fails that did
// not fail above, users of a Cluster get what others do not.
func TestWriteFormsOnCluster(t *testing.T) {
	t.Cleanup(func() { wantNoCrossSlot(t, cluster.client(t, cluster.url(t))) })
	tryForms(t, cluster, append(families(), formatFamilies()...))
}

// The same through a client that asks Sentinels where the server is.
func TestWriteFormsOnSentinel(t *testing.T) {
	tryForms(t, sentinel, append(families(), formatFamilies()...))
}

func tryForms(t *testing.T, d deployment, all []*family) {
	for _, f := range all {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, d, f)
			for i := range f.forms {
				t.Run(f.forms[i].name, func(t *testing.T) { w.tryForm(t, &f.forms[i]) })
			}
		})
	}
}

func (w *world) tryForm(t *testing.T, f *form) {
	ways := f.ways
	switch {
	case ways == nil && f.fresh: // a schema a run
		ways = []around{auto, committed, savepoint}
	case ways == nil:
		ways = allWays
	}
	for _, in := range ways {
		if in == auto && len(f.inTx) > 0 {
			continue
		}
		t.Run(string(in), func(t *testing.T) {
			w := w
			if f.fresh {
				w = newWorldOn(t, w.redis, w.family)
			}
			w.tryWay(t, f, in)
		})
	}
}

func (w *world) tryWay(t *testing.T, f *form, in around) {
	conn := w.connect(t, f)
	before := w.reset(t)
	stats := w.stats(t)
	err := w.carryOut(t, conn, f, in)
	if !f.failedAsWanted(t, err) {
		return
	}
	after := w.snapshot(t)
	if in.commits() && f.fails == "" && after.same(before) != f.same {
		t.Fatalf("rows unchanged: %v, want %v: the form does not do what its name says", after.same(before), f.same)
	}
	w.judge(t, f, in, before, after)
	w.judgeClass(t, f, in, before, after)
	w.judgeStats(t, f, stats)
	if f.lost && in.commits() {
		return
	}
	w.readAll(t, before, after)
	w.judge(t, f, in, before, after)
	if len(f.after) > 0 && in.commits() {
		w.afterwards(t, f, in)
	}
}

// afterwards goes on writing once the form is done, which must keep the cache true as before.
func (w *world) afterwards(t *testing.T, f *form, in around) {
	before := w.snapshot(t)
	for _, text := range f.after {
		if _, err := w.db.ExecContext(t.Context(), w.expand(text)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	after := w.snapshot(t)
	w.judge(t, f, in, before, after)
	w.readAll(t, before, after)
	w.judge(t, f, in, before, after)
}

func (f *form) failedAsWanted(t *testing.T, err error) bool {
	t.Helper()
	switch {
	case f.fails == "" && err != nil:
		t.Errorf("%s: %v", f.sql, err)
		return false
	case f.fails != "" && (err == nil || !strings.Contains(err.Error(), f.fails)):
		t.Errorf("%s: error is %v, want one with %q", f.sql, err, f.fails)
	}
	return true
}

func (w *world) stats(t *testing.T) wtcache.Stats {
	t.Helper()
	s, err := wtcache.StatsOf(w.db)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keys gives all keys of the world that are in Redis.
func (w *world) keys(t *testing.T) []string {
	t.Helper()
	var mu sync.Mutex // guards keys
	var keys []string
	err := eachServer(t.Context(), w.rdb, func(ctx context.Context, rdb redis.Cmdable) error {
		it := rdb.Scan(ctx, 0, "*"+w.prefix+"*", 1000).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			keys = append(keys, it.Val())
			mu.Unlock()
		}
		return it.Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}
