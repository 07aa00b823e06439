package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
)

// guests have two keys, so that what is written of them goes lock first.
var guestsSetup = shelfSetup{
	ddl: `CREATE TABLE guests (id int PRIMARY KEY, email text UNIQUE, n int CHECK (n < 100));
		INSERT INTO guests SELECT i, 'g' || i, 0 FROM generate_series(1, 9) i`,
	rules: map[string]string{"guests": "table: {S}.guests\nentries:\n  - key: \"{P}id:{id}\"\n  - key: \"{P}email:{email}\"\n"},
}

// openMode opens the shelf's tables in one of pgx's modes, behind us and without us, on one connection each.
func (h *shelf) openMode(mode pgx.QueryExecMode) (ours, plain *sql.DB) {
	h.t.Helper()
	cfg, err := pgx.ParseConfig(h.dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	cfg.DefaultQueryExecMode = mode
	plain = stdlib.OpenDB(*cfg)
	h.t.Cleanup(func() { _ = plain.Close() })
	ours, err = wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{Redis: h.rdb, Rules: h.rules, Outbox: wtcache.OutboxOff})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = ours.Close() })
	for _, db := range []*sql.DB{ours, plain} {
		db.SetMaxOpenConns(1)
	}
	return ours, plain
}

var allModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

// utterance is all that a caller can tell of a call: what it gave, and whether the connection is still the same one.
type utterance struct {
	affected                int64
	text, state, constraint string
	position                int32
	sameSession             bool
}

func utter(t *testing.T, db *sql.DB, text string, args ...any) (s utterance) {
	t.Helper()
	pid := func() (pid int) {
		if err := db.QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		return pid
	}
	before := pid()
	res, err := db.Exec(text, args...)
	if err == nil {
		s.affected, err = res.RowsAffected()
	}
	if err != nil {
		s.text = err.Error()
	}
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		s.state, s.position, s.constraint = pg.Code, pg.Position, pg.ConstraintName
	}
	s.sameSession = pid() == before
	return s
}

// A program that writes through us must not lose its session, nor see another error than pgx alone gives, because BEGIN
// travels with its statement.
func TestPipelinedWriteFailsAsByItself(t *testing.T) {
	t.Parallel()
	h := newShelf(t, guestsSetup)
	for _, mode := range allModes {
		ours, plain := h.openMode(mode)
		for _, c := range []struct {
			text string
			args []any
		}{
			{"UPDATE guests SET n = n + $1 WHERE id > 0", []any{1}},
			{"UPDATE guests SET n = $1 WHERE id IN ($2, $3)", []any{nil, 1, 2}},
			{"UPDATE guests SET n = 1 WHERE id < $1", []any{0}},
			{"DELETE FROM guests WHERE n = $1", []any{77}},
			{"UPDATE guests SET n = $1 WHERE id > 0", []any{struct{}{}}},      // cannot be encoded
			{"UPDATE guests SET n = $1 WHERE id > 0", []any{int64(1) << 40}},  // does not fit
			{"UPDATE guests SET n = $1 WHERE id > 0", []any{"one"}},           // is no number
			{"UPDATE guests SET n = $1 WHERE id > 0", []any{1, 2}},            // one too many
			{"UPDATE guests SET n = $1, email = $2 WHERE id > 0", []any{1}},   // one too few
			{"UPDATE guests SET n = $1 WHERE id > 0", []any{100}},             // check
			{"UPDATE guests SET email = $1 WHERE id > 0", []any{"all"}},       // unique
			{"UPDATE guests SET n = 1 / ($1::int) WHERE id > 0", []any{0}},    // while it runs
			{"UPDATE guests SET nothing = $1 WHERE id > 0", []any{0}},         // no such column
			{"UPDATE guests SET n = $1 WHERE id > 0 AND wrong = 1", []any{0}}, // with a place
			{"UPDATE guests SET n = @n WHERE id > 0", []any{pgx.NamedArgs{"n": 5}}},
		} {
			want, got := utter(t, plain, c.text, c.args...), utter(t, ours, c.text, c.args...)
			if want != got {
				t.Errorf("%v: %s %v\nthrough pgx:     %+v\nthrough wtcache: %+v", mode, c.text, c.args, want, got)
			}
		}
	}
}

// A payload that is missing or another row's would be served as the row.
func TestPipelinedWriteIsCaptured(t *testing.T) {
	t.Parallel()
	h := newShelf(t, guestsSetup)
	for i, mode := range allModes {
		ours, _ := h.openMode(mode)
		for round := range 2 { // the second finds it prepared
			n := 10*i + round + 1
			if got := utter(t, ours, "UPDATE guests SET n = $1 WHERE id IN ($2, $3)", n, 1, 2); got.affected != 2 {
				t.Fatalf("%v: %+v", mode, got)
			}
			for _, key := range []string{"id:1", "email:g1", "id:2", "email:g2"} {
				if !h.there(key) {
					t.Errorf("%v: %s was not written through", mode, key)
				}
			}
			type guest struct{ N int }
			if row := seen(t, readerOf[guest](t, ours, "guests.by_email"), "g2"); row.Value.N != n {
				t.Errorf("%v: the cache has %d, the row %d", mode, row.Value.N, n)
			}
		}
	}
}

// A server that was restarted leaves dead connections in the pool. A write that meets one goes to another, as it did when
// BEGIN went alone, and is done once.
func TestPipelinedWriteOnADeadConnection(t *testing.T) {
	t.Parallel()
	h := newShelf(t, guestsSetup)
	ours, _ := h.openMode(pgx.QueryExecModeCacheStatement)
	const text = "UPDATE guests SET n = n + $1 WHERE id IN ($2, 0)"
	for n := 1; n <= 3; n++ {
		if got := utter(t, ours, text, 1, 1); got.affected != 1 {
			t.Fatalf("%+v", got)
		}
		var pid, stored int
		if err := ours.QueryRow("SELECT pg_backend_pid()").Scan(&pid); err != nil {
			t.Fatal(err)
		}
		h.must("SELECT pg_terminate_backend($1)", pid)
		eventually(t, "the backend is gone", func() bool {
			var there bool
			err := h.plain.QueryRow("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)", pid).Scan(&there)
			return err == nil && !there
		})
		if _, err := ours.Exec(text, 1, 1); err != nil {
			t.Fatalf("a write on a dead connection: %v", err)
		}
		if err := h.plain.QueryRow("SELECT n FROM guests WHERE id = 1").Scan(&stored); err != nil || stored != 2*n {
			t.Fatalf("n = %d, %v, want %d", stored, err, 2*n)
		}
	}
}

// A session that loses its prepared statements must be able to write again.
func TestPipelinedWriteAfterDiscardAll(t *testing.T) {
	t.Parallel()
	h := newShelf(t, guestsSetup)
	ours, plain := h.openMode(pgx.QueryExecModeCacheStatement)
	const text = "UPDATE guests SET n = n + $1 WHERE id IN ($2, 0)"
	var outcomes [2][]bool
	for side, db := range []*sql.DB{plain, ours} {
		for _, before := range []string{"SELECT 1", "DISCARD ALL", "SELECT 1", "DEALLOCATE ALL", "SELECT 1"} {
			if _, err := db.Exec(before); err != nil {
				t.Fatal(err)
			}
			_, err := db.Exec("SET search_path = " + h.schema)
			if err != nil {
				t.Fatal(err)
			}
			_, err = db.Exec(text, 1, 1)
			outcomes[side] = append(outcomes[side], err == nil)
		}
	}
	if !slices.Equal(outcomes[0], outcomes[1]) {
		t.Errorf("through pgx %v, through wtcache %v", outcomes[0], outcomes[1])
	}
}

// A caller who gives up while the statement waits for a lock gets the context's error, and the transaction is gone.
func TestPipelinedWriteIsCancelled(t *testing.T) {
	t.Parallel()
	h := newShelf(t, guestsSetup)
	ours, _ := h.openMode(pgx.QueryExecModeCacheStatement)
	blocker, err := h.plain.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Rollback() }()
	if _, err := blocker.Exec("UPDATE guests SET n = 50 WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	var blockerPID int
	if err := blocker.QueryRow("SELECT pg_backend_pid()").Scan(&blockerPID); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		_, err := ours.ExecContext(ctx, "UPDATE guests SET n = $1 WHERE id IN ($2, 0)", 7, 1)
		ended <- err
	}()
	eventually(t, "the write waits for the row", func() bool {
		var n int
		err := h.plain.QueryRow("SELECT count(*) FROM pg_locks w, pg_locks b WHERE NOT w.granted AND w.transactionid = b.transactionid AND b.pid = $1", blockerPID).Scan(&n)
		return err == nil && n > 0
	})
	cancel()
	if err := await(t, "the cancelled write", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled write gave %v", err)
	}
	if err := blocker.Commit(); err != nil {
		t.Fatal(err)
	}
	if got := utter(t, ours, "UPDATE guests SET n = n + $1 WHERE id IN ($2, 0)", 1, 1); got.affected != 1 {
		t.Errorf("the next write: %+v", got)
	}
	var n int
	if err := h.plain.QueryRow("SELECT n FROM guests WHERE id = 1").Scan(&n); err != nil || n != 51 {
		t.Errorf("n = %d, %v, want 51", n, err)
	}
}

// inTransaction carries a text out in a transaction of the caller's.
func inTransaction(db *sql.DB, text string, args ...any) error {
	tx, err := db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after COMMIT it does nothing
	if _, err := tx.Exec(text, args...); err != nil {
		return err
	}
	return tx.Commit()
}

// A migration makes a prepared statement fail once, and pgx forgets it. What was prepared for writes behind BEGIN must not
// make the same text fail in transactions for as long as the connection lives.
func TestPipelinedTextRecoversInTransactions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text, migration string
		arg                   any // after it
	}{
		{"result type", "UPDATE guests SET n = $1 WHERE id IN ($2, 0) RETURNING *", "ALTER TABLE guests ADD COLUMN extra int", 2},
		{"parameter type", "UPDATE guests SET n = $1 WHERE id IN ($2, 0)", "ALTER TABLE guests DROP CONSTRAINT guests_n_check, ALTER n TYPE text", "two"},
		{"wider integer", "UPDATE guests SET n = $1 WHERE id IN ($2, 0)", "ALTER TABLE guests DROP CONSTRAINT guests_n_check, ALTER n TYPE bigint", int64(1) << 40},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newShelf(t, shelfSetup{ddl: guestsSetup.ddl, rules: map[string]string{ // the columns of the rule stay as they are
				"guests": "table: {S}.guests\nentries:\n  - key: \"{P}id:{id}\"\n    columns: [id, email]\n  - key: \"{P}email:{email}\"\n    columns: [id, email]\n",
			}})
			ours, plain := h.openMode(pgx.QueryExecModeCacheStatement)
			for _, db := range []*sql.DB{ours, plain} {
				if _, err := db.Exec(c.text, 1, 1); err != nil {
					t.Fatal(err)
				}
				if err := inTransaction(db, c.text, 1, 1); err != nil {
					t.Fatal(err)
				}
			}
			h.must(c.migration)
			for side, db := range []*sql.DB{plain, ours} {
				_ = inTransaction(db, c.text, c.arg, 1) // may fail, through pgx alone too
				if err := inTransaction(db, c.text, c.arg, 1); err != nil {
					t.Errorf("%s: the second transaction after the migration: %v", []string{"pgx", "wtcache"}[side], err)
				}
			}
			if s, err := wtcache.StatsOf(ours); err != nil || len(s.CoarseReasons) > 1 {
				t.Errorf("coarse: %v, %v", s.CoarseReasons, err)
			}
			if !h.there("id:1") {
				t.Error("the entry was not written through")
			}
		})
	}
}

// A write whose table is locked fails as through pgx alone, before its statement is prepared: a deadline is no broken connection.
func TestPipelinedWriteOnALockedTable(t *testing.T) {
	t.Parallel()
	h := newShelf(t, guestsSetup)
	ours, plain := h.openMode(pgx.QueryExecModeCacheStatement)
	blocker, err := h.plain.Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Rollback() }()
	if _, err := blocker.Exec("LOCK TABLE guests IN ACCESS EXCLUSIVE MODE"); err != nil {
		t.Fatal(err)
	}
	const text = "UPDATE guests SET n = n + $1 WHERE id IN ($2, 0)"
	var words [2][2]string
	for side, db := range []*sql.DB{plain, ours} {
		conn, err := db.Conn(t.Context()) // where database/sql does not try again
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.ExecContext(t.Context(), "SET lock_timeout = '600ms'"); err != nil {
			t.Fatal(err)
		}
		_, err = conn.ExecContext(t.Context(), text, 1, 1)
		words[side][0] = fmt.Sprint(err)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err = conn.ExecContext(ctx, text, 1, 1)
		cancel()
		// Whether the deadline has passed before the write or in it changes pgx's words.
		words[side][1] = fmt.Sprint("deadline: ", errors.Is(err, context.DeadlineExceeded), ", bad: ", errors.Is(err, driver.ErrBadConn))
		_ = conn.Close() // it is closed by the deadline
	}
	if words[0] != words[1] {
		t.Errorf("through pgx %q, through wtcache %q", words[0], words[1])
	}
}
