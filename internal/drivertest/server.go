package drivertest

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

var serverScenarios = []scenario{
	{name: "commit of a transaction that has failed", on: Server, run: func(s *side) {
		for _, before := range []string{writeLog, writeOne, writeAll} {
			tx := s.begin(s.ctx, nil)
			s.exec(tx, before, "never", 1)
			s.exec(tx, "INSERT INTO users VALUES (1, 'twice')")
			s.exec(tx, writeOne, "refused", 1)
			s.query(tx, everything, readUsers)
			s.note("commit: %s", s.describe(tx.Commit()))
		}
		s.stored()
	}, shows: []string{"is ErrTxCommitRollback", "25P02", "23505"}},
	{name: "commit that the server refuses", on: Server, run: func(s *side) {
		s.exec(s.db, "ALTER TABLE logs ADD ref bigint REFERENCES users DEFERRABLE INITIALLY DEFERRED")
		for _, text := range []string{"UPDATE logs SET ref = 77", "WITH u AS (UPDATE users SET name = 'never' RETURNING id) UPDATE logs SET ref = 77 FROM u"} {
			s.exec(s.db, text)
			tx := s.begin(s.ctx, nil)
			s.exec(tx, writeOne, "never", 1)
			s.exec(tx, text)
			s.note("commit: %s, again %s", s.describe(tx.Commit()), s.describe(tx.Commit()))
		}
		s.stored()
	}, shows: []string{"commit: error", "23503"}},
	{name: "what isolation comes to", on: Server, run: func(s *side) {
		tx := s.begin(s.ctx, &sql.TxOptions{ReadOnly: true})
		for _, text := range writes {
			s.exec(tx, "SAVEPOINT s")
			s.exec(tx, text, "never", 1)
			s.exec(tx, "ROLLBACK TO s")
		}
		s.note("commit: %s", s.describe(tx.Commit()))
		s.exec(s.db, "SET default_transaction_read_only = on")
		for _, text := range append(writes, returning...) {
			s.exec(s.db, text, "never", 1)
		}
		s.stored()
	}, shows: []string{"25006"}},
	{name: "statement after its connection was lost", on: Server, run: func(s *side) {
		for _, text := range append([]string{readUsers}, writes...) {
			s.prepared(s.db, text, func(stmt *sql.Stmt) {
				for range 3 {
					s.works(stmt, argsFor2(text)...)
					s.cut()
				}
			})
		}
		tx := s.begin(s.ctx, nil)
		s.exec(tx, writeOne, "never", 1)
		s.cutOf(tx)
		_, err := tx.ExecContext(s.ctx, writeOne, "never", 1)
		s.note("in tx: fails %v, commit fails %v", err != nil, tx.Commit() != nil)
		s.settle()
		s.note("%s", s.pool())
		s.stored()
	}, shows: []string{"works: ok", "in tx: fails true, commit fails true"}},
	{name: "context that ends while a row is locked", on: Server, run: func(s *side) {
		for _, text := range append(writes, returning...) {
			s.lockedOut(text)
		}
		s.stored()
	}, shows: []string{"is Canceled"}},
	{name: "values of every type", on: Server, run: func(s *side) {
		for _, v := range typedValues {
			for _, text := range []string{
				"UPDATE logs SET line = $1 WHERE id = $2 RETURNING $3::%s AS v, pg_typeof($3::%s)::text",
				"UPDATE users SET name = $1 WHERE id = $2 RETURNING $3::%s AS v, pg_typeof($3::%s)::text",
				"UPDATE users SET name = $1 WHERE id > $2 RETURNING $3::%s AS v, pg_typeof($3::%s)::text",
			} {
				text = fmt.Sprintf(text, v.kind, v.kind)
				s.query(s.db, everything, text, "x", 2, v.value)
				s.prepared(s.db, text, func(stmt *sql.Stmt) {
					rows, err := stmt.QueryContext(s.ctx, "x", 2, v.value)
					s.noteRows("prepared", everything, rows, err)
				})
			}
		}
	}, shows: []string{`"JSONB"`, `"UUID"`, `"_TEXT"`, "[]uint8("}},
}

// works says whether the statement can be carried out, at the second try at the latest: pgx notices the loss of a
// connection before it has sent anything, and then the first one does, or when it reads the answer.
func (s *side) works(stmt *sql.Stmt, args ...any) {
	_, err := stmt.ExecContext(s.ctx, args...)
	if err != nil {
		_, err = stmt.ExecContext(s.ctx, args...)
	}
	s.note("works: %s", s.describe(err))
}

func argsFor2(text string) []any {
	if len(argsFor(text)) == 0 {
		return nil
	}
	return []any{"x", 2}
}

// typedValues are arguments for parameters of types that texts do not show.
var typedValues = []struct {
	kind  string
	value any
}{
	{"text[]", []string{"a", `b"c`}}, {"int8[]", []int64{1, 2}}, {"int4[]", pgtype.FlatArray[*int32]{nil, ptr(int32(2))}},
	{"jsonb", map[string]any{"a": []int{1}}}, {"jsonb", json.RawMessage(`[1,2]`)}, {"json", `{"b": 1}`}, {"jsonb", nil},
	{"uuid", [16]byte{1, 2, 3}}, {"uuid", "6ba7b810-9dad-11d1-80b4-00c04fd430c8"}, {"uuid", pgtype.UUID{Bytes: [16]byte{9}, Valid: true}},
	{"timestamptz", time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC)}, {"timestamptz", pgtype.Timestamptz{InfinityModifier: pgtype.Infinity, Valid: true}},
	{"date", time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)}, {"time", pgtype.Time{Microseconds: 61_000_000, Valid: true}}, {"interval", time.Hour},
	{"numeric", pgtype.Numeric{Int: nil, NaN: true, Valid: true}}, {"numeric", "12.50"}, {"float8", 1.5}, {"float4", float32(2.5)}, {"int2", int16(3)},
	{"bytea", []byte{0, 1, 255}}, {"bool", true}, {"int8range", pgtype.Range[pgtype.Int8]{}}, {"int8range", "[1,5)"}, {"inet", "10.0.0.1/8"},
	{"oid", uint32(77)}, {"xml", "<a/>"}, {"varchar(3)", "abc"}, {"bpchar", "q"}, {"point", pgtype.Point{P: pgtype.Vec2{X: 1, Y: 2}, Valid: true}}, {"text", shout("hey")},
}

// cut ends the sessions that the pool has idle, and waits until they are gone.
func (s *side) cut() {
	s.t.Helper()
	s.settle()
	s.terminate(s.conn())
}

// cutOf ends the session of a transaction.
func (s *side) cutOf(tx *sql.Tx) {
	s.t.Helper()
	var pid int
	if err := tx.QueryRowContext(s.ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		s.t.Fatal(err)
	}
	s.end(pid)
}

func (s *side) terminate(c *sql.Conn) {
	s.t.Helper()
	var pid int
	if err := c.QueryRowContext(s.ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		s.t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.end(pid)
}

func (s *side) end(pid int) {
	s.t.Helper()
	plain := s.base.Plain()
	if _, err := plain.ExecContext(s.ctx, "SELECT pg_terminate_backend($1)", pid); err != nil {
		s.t.Fatal(err)
	}
	s.until("the end of a session", func() bool {
		var n int
		err := plain.QueryRowContext(s.ctx, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid).Scan(&n)
		return err == nil && n == 0
	})
}

// lockedOut cancels a statement that waits for a row which another session has locked.
func (s *side) lockedOut(text string) {
	s.t.Helper()
	holder, err := s.base.Plain().BeginTx(s.ctx, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = holder.Rollback() }() // it only held locks
	if _, err := holder.ExecContext(s.ctx, "LOCK TABLE users, logs IN EXCLUSIVE MODE"); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { _, err := s.db.ExecContext(ctx, text, "never", 1); done <- err }()
	s.until("a wait for a lock", func() bool { return s.waiting() == 1 })
	cancel()
	err = <-done
	// The server is told in the background. Without the lock the statement would be carried out meanwhile.
	s.until("the end of the wait", func() bool { return s.waiting() == 0 })
	s.settle()
	s.note("%s: %s, %s", text, s.describeTimeout(err), s.pool())
}

// waiting counts the sessions that wait for a lock on the tables.
func (s *side) waiting() int {
	s.t.Helper()
	var n int
	err := s.base.Plain().QueryRowContext(s.ctx, `SELECT count(*) FROM pg_locks l, pg_class c, pg_namespace n
		WHERE NOT l.granted AND c.oid = l.relation AND n.oid = c.relnamespace AND n.nspname = current_schema`).Scan(&n)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// describeTimeout leaves out which of the two ways pgx noticed a cancellation.
func (s *side) describeTimeout(err error) string {
	if _, server := errors.AsType[*pgconn.PgError](err); !server && errors.Is(err, context.Canceled) && strings.Contains(err.Error(), "context") {
		return "is Canceled"
	}
	return s.describe(err)
}
