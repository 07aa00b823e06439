package wtcache_test

import (
	"context"
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
)

// queueForm is a write without Redis, and what it owes.
type queueForm struct {
	name string
	run  func(ctx context.Context, db *sql.DB) error
	owes string // keys and globs, in order
	// session: the form needs one session of the server for several statements.
	session bool
}

func execs(text string, args ...any) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		_, err := db.ExecContext(ctx, text, args...)
		return err
	}
}

// onOne runs texts by themselves, on one connection.
func onOne(texts ...string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		conn, err := db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		for _, text := range texts {
			if _, err := conn.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return nil
	}
}

func inOneTx(texts ...string) func(context.Context, *sql.DB) error {
	return func(ctx context.Context, db *sql.DB) error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		for _, text := range texts {
			if _, err := tx.ExecContext(ctx, text); err != nil {
				return err
			}
		}
		return tx.Commit()
	}
}

var queueForms = []queueForm{
	{name: "fence first", run: execs("UPDATE crates SET n = $1 WHERE id = $2", 7, 1), owes: "crate:1"},
	{name: "lock first", run: execs("UPDATE crates SET n = $1 WHERE abs(id) = $2", 8, 2), owes: "crate:2"},
	{name: "transaction", run: inOneTx("UPDATE crates SET n = 9 WHERE id = 3", "UPDATE goods SET n = 9 WHERE id = 1"), owes: "code:c1 crate:3 good:1 shelf:1"},
	{name: "returned rows", owes: "code:c2 good:2 shelf:2", run: func(ctx context.Context, db *sql.DB) error {
		var g good
		return db.QueryRowContext(ctx, "UPDATE goods SET n = n + 1 WHERE id = $1 RETURNING *", 2).Scan(&g.ID, &g.Code, &g.Shelf, &g.N)
	}},
	{name: "key column", run: execs("UPDATE goods SET code = $1 WHERE id = $2", "new", 3), owes: "code:c3 code:new good:3 shelf:0"},
	{name: "shared key's column", run: execs("UPDATE goods SET shelf = 9 WHERE id = 4"), owes: "code:c4 good:4 shelf:1 shelf:9"},
	{name: "delete", run: execs("DELETE FROM goods WHERE id = 5"), owes: "code:c5 good:5 shelf:2"},
	{name: "insert", run: execs("INSERT INTO goods VALUES (10, 'c10', 1, 1), (11, 'other', 4, 1)"), owes: "code:c10 code:other good:10 good:11 shelf:1 shelf:4"},
	{name: "texts", run: onOne("BEGIN", "UPDATE crates SET n = 4 WHERE id = 4", "END"), owes: "crate:4", session: true},
	{name: "texts, chained", run: onOne("BEGIN", "UPDATE crates SET n = 5 WHERE id = 4", "COMMIT AND CHAIN", "UPDATE crates SET n = 5 WHERE id = 5", "COMMIT"), owes: "crate:4 crate:5", session: true},
	{name: "one text", run: execs("BEGIN; UPDATE crates SET n = 6 WHERE id = 5; UPDATE goods SET n = 6 WHERE id = 6; COMMIT"), owes: "code:c6 crate:5 good:6 shelf:0"},
	{name: "implicit transaction", run: execs("UPDATE crates SET n = 7 WHERE id = 6; UPDATE crates SET n = 7 WHERE id = 7"), owes: "crate:6 crate:7"},
	{name: "prepared", owes: "crate:8 crate:9", session: true, run: func(ctx context.Context, db *sql.DB) error {
		s, err := db.PrepareContext(ctx, "UPDATE crates SET n = $1 WHERE id = $2")
		if err != nil {
			return err
		}
		defer s.Close()
		for _, id := range []int{8, 9} {
			if _, err := s.ExecContext(ctx, 8, id); err != nil {
				return err
			}
		}
		return nil
	}},
	{name: "savepoint", run: inOneTx("UPDATE crates SET n = 11 WHERE id = 8", "SAVEPOINT a", "UPDATE crates SET n = 11 WHERE id = 9", "ROLLBACK TO a"), owes: "crate:8"},
	{name: "rolled back", run: onOne("BEGIN", "UPDATE crates SET n = 99 WHERE id = 1", "ROLLBACK"), session: true},
	{name: "no row", run: execs("UPDATE crates SET n = 99 WHERE id = 1000")},
	{name: "coarse", run: execs("WITH w AS (UPDATE crates SET n = 12 WHERE id = 9) SELECT 1"), owes: "crate:*"},
	{name: "coarse and keys", run: inOneTx("UPDATE crates SET n = 13 WHERE id = 1", "TRUNCATE goods"), owes: "code:* crate:1 good:* shelf:*"},
}

// warmAll has every entry and the shared keys in Redis, so that there is something to go stale.
func (d *depot) warmAll() {
	d.t.Helper()
	d.wantTrue()
	for _, shared := range []string{"shelf:0", "shelf:1", "shelf:2", "shelf:9"} {
		if err := d.rdb.Set(context.Background(), d.prefix+shared, "a list", 0).Err(); err != nil {
			d.t.Fatal(err)
		}
	}
}

// tryForms writes in every form, by db, and holds each against what the outbox was given.
func (d *depot) tryForms(t *testing.T, db *sql.DB, skip func(queueForm) bool) {
	for _, f := range queueForms {
		if skip != nil && skip(f) {
			continue
		}
		t.Run(f.name, func(t *testing.T) {
			d.t = t
			if err := f.run(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			if owed := strings.Join(d.debts(), " "); owed != f.owes {
				t.Errorf("the outbox was given %q and owes %q: a key too few is a stale entry", owed, f.owes)
			}
		})
	}
}

// finish has another process drain what a process has left that is gone, and wants every entry to be true.
func (d *depot) finish(t *testing.T, db *sql.DB) {
	t.Helper()
	d.t = t
	_ = db.Close()
	other := d.beside()
	seen(t, readerOf[crate](t, other.db, "crates"), 1)
	settled(t, d.plain, d.outbox)
	if d.there("shelf:0") || d.there("shelf:1") || d.there("shelf:2") || d.there("shelf:9") {
		t.Error("a shared key is still there: whoever builds a list behind it serves the old one")
	}
	other.wantTrue()
}

// Whatever way a program writes, and in whatever mode pgx sends it, the outbox has to be given every key that Redis was not
// told of, or an entry stays stale until its TTL ends.
func TestQueueOwesWhatEachFormWrites(t *testing.T) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
		pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		t.Run(strings.ReplaceAll(mode.String(), " ", "_"), func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			d.warmAll()
			_ = d.db.Close()
			db := d.through(d.connector(func(c *pgx.ConnConfig) { c.DefaultQueryExecMode = mode }))
			prepared, err := db.Prepare("UPDATE crates SET n = n + $1 WHERE id = 7")
			if err != nil {
				t.Fatal(err)
			}
			defer prepared.Close()
			d.link.Pause() // it hangs at first, and then the breaker is open
			d.tryForms(t, db, nil)
			d.t = t
			if _, err := prepared.Exec(1); err != nil {
				t.Error(err)
			}
			if owed := d.debts(); !slices.Equal(owed, []string{"crate:7"}) {
				t.Errorf("a statement that was prepared before the outage has owed %q", owed)
			}
			d.finish(t, db)
		})
	}
}

// The same behind a PgBouncer in transaction mode, where each transaction may have another session.
func TestQueueBehindPgBouncer(t *testing.T) {
	for _, mode := range pooledModes {
		t.Run(strings.ReplaceAll(mode.String(), " ", "_"), func(t *testing.T) {
			t.Parallel()
			d := newDepot(t)
			d.warmAll()
			_ = d.db.Close()
			db := d.through(d.connector(behindPgBouncer(t, mode, 3)))
			d.link.Pause()
			d.tryForms(t, db, func(f queueForm) bool { return f.session })
			d.finish(t, db)
		})
	}
}

// A Redis that was killed refuses connections at once: other errors, and no time to think.
func TestQueueWhileRedisIsDead(t *testing.T) {
	t.Parallel()
	server := ownRedis(t)
	d := &depot{outbox: testenv.Outbox(t, testenv.Postgres(t))}
	d.shelf = newShelf(t, depotSetup(d.outbox, server.URL))
	d.warmAll()
	server.Kill()
	d.tryForms(t, d.db, nil)
	d.t = t
	if err := execs("UPDATE loose SET n = 1 WHERE id = 1")(t.Context(), d.db); err != nil {
		t.Fatal(err)
	}
	if owed := d.debts(); !slices.Equal(owed, []string{"loose:1"}) {
		t.Errorf("an eventual write beside an open breaker has owed %q", owed)
	}
	server.Restart()
	settled(t, d.plain, d.outbox)
	d.wantTrue()
}

// With the breaker closed each write is the first that meets the outage.
func TestQueueOfTheFirstWriteOfAnOutage(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.warmAll()
	for _, f := range queueForms {
		t.Run(f.name, func(t *testing.T) {
			d.t = t
			before := d.stats()
			d.link.Pause()
			if err := f.run(t.Context(), d.db); err != nil {
				t.Fatal(err)
			}
			if owed := strings.Join(d.debts(), " "); owed != f.owes {
				t.Errorf("the outbox was given %q and owes %q", owed, f.owes)
			}
			if n := d.stats().Redis.BreakerOpens - before.Redis.BreakerOpens; n != 0 {
				t.Logf("the breaker has opened %d times: what follows is right then, too, and shows less", n)
			}
			d.link.Resume()
			settled(t, d.plain, d.outbox)
		})
	}
	d.t = t
	d.link.Resume()
	settled(t, d.plain, d.outbox)
	d.wantTrue()
}

// While Redis answers, no write may cost a row in the outbox.
func TestNoQueueWhileRedisAnswers(t *testing.T) {
	t.Parallel()
	d := newDepot(t)
	d.must(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'written to while Redis answers'; END $$;
		CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON ` + d.outbox + `.outbox FOR EACH STATEMENT EXECUTE FUNCTION refuse();
		CREATE TRIGGER refuse BEFORE INSERT OR UPDATE OR DELETE ON ` + d.outbox + `.outage FOR EACH STATEMENT EXECUTE FUNCTION refuse()`)
	d.warmAll()
	for _, f := range queueForms {
		if err := f.run(t.Context(), d.db); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
	d.exec("UPDATE loose SET n = 1 WHERE id = 1")
	d.wantTrue()
	if s := d.stats(); s.Queued != 0 || s.Unfenced != 0 || len(d.heard.reported()) != 0 {
		t.Errorf("Stats: %d queued, %d unfenced; reported: %v", s.Queued, s.Unfenced, d.heard.reported())
	}
}
