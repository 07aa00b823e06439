package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache"
)

// said is one text of a transaction program for the mocked base, and the rows of users
// that it writes; for nil it is an Exec that passes through.
type said struct {
	text string
	rows []user
}

func rename(id int64, name string) said {
	return said{fmt.Sprintf("UPDATE users SET name = '%s' WHERE id = %d", name, id), []user{{id, name}}}
}

func word(text string) said { return said{text: text} }

// What a transaction leaves in Redis follows from its words alone, whoever sends them and
// how: nothing for what was rolled back, one fence before COMMIT for all that was not.
func TestMockedTransactions(t *testing.T) {
	for _, c := range []struct {
		name  string
		says  []said
		redis []string          // what Redis is sent
		holds map[string]string // names in the payloads afterwards, "" for nothing
	}{
		{"commit", []said{word("BEGIN"), rename(1, "a"), rename(2, "b"), word("COMMIT")},
			[]string{"fence user:1, fence user:2", "apply user:1, apply user:2"}, map[string]string{"user:1": "a", "user:2": "b"}},
		{"the last write counts", []said{word("BEGIN"), rename(1, "a"), rename(1, "b"), word("END")},
			[]string{"fence user:1", "apply user:1"}, map[string]string{"user:1": "b"}},
		{"rollback", []said{word("BEGIN"), rename(1, "a"), word("ROLLBACK")}, nil, map[string]string{"user:1": ""}},
		{"nothing was written", []said{word("BEGIN"), word("UPDATE logs SET line = 'x'"), word("COMMIT")}, nil, nil},
		{"rolled back to a savepoint", []said{word("BEGIN"), rename(1, "a"), word("SAVEPOINT s"), rename(1, "b"), rename(2, "b"),
			word("ROLLBACK TO SAVEPOINT s"), word("COMMIT")},
			[]string{"fence user:1", "apply user:1"}, map[string]string{"user:1": "a", "user:2": ""}},
		{"released", []said{word("BEGIN"), word("SAVEPOINT s"), rename(1, "b"), word("RELEASE s"), word("COMMIT")},
			[]string{"fence user:1", "apply user:1"}, map[string]string{"user:1": "b"}},
		{"same name inside", []said{word("BEGIN"), word("SAVEPOINT s"), rename(1, "a"), word("SAVEPOINT s"), rename(1, "b"),
			word("ROLLBACK TO s"), word("RELEASE s"), rename(2, "c"), word("ROLLBACK TO s"), word("COMMIT")},
			nil, map[string]string{"user:1": "", "user:2": ""}},
		{"commit and chain", []said{word("BEGIN"), rename(1, "a"), word("COMMIT AND CHAIN"), rename(1, "b"), word("ROLLBACK")},
			[]string{"fence user:1", "apply user:1"}, map[string]string{"user:1": "a"}},
		{"rollback and chain", []said{word("BEGIN"), rename(1, "a"), word("ROLLBACK AND CHAIN"), rename(1, "b"), word("COMMIT")},
			[]string{"fence user:1", "apply user:1"}, map[string]string{"user:1": "b"}},
		{"two in a row", []said{word("BEGIN"), rename(1, "a"), word("COMMIT"), word("BEGIN"), rename(1, "b"), word("COMMIT")},
			[]string{"fence user:1", "apply user:1", "fence user:1", "apply user:1"}, map[string]string{"user:1": "b"}},
		{"savepoint set in a text of several", []said{word("BEGIN; SAVEPOINT s"), rename(1, "a"), word("ROLLBACK TO s"), word("COMMIT")},
			nil, map[string]string{"user:1": ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMocked(t)
			m.say(t, c.says...)
			if got := redisOnly(m.log.take()); !slices.Equal(got, c.redis) {
				t.Errorf("Redis was sent\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(c.redis, "\n  "))
			}
			for key, name := range c.holds {
				if got := m.payload(t, key); name == "" && got != "" || !strings.Contains(got, name) {
					t.Errorf("%s holds %q, want %q", key, got, name)
				}
				if m.fences(t, key) != 0 {
					t.Errorf("%s is still fenced", key)
				}
			}
		})
	}
}

// say sends the texts over one connection.
func (m *mocked) say(t *testing.T, says ...said) {
	t.Helper()
	for _, s := range says {
		if s.rows != nil {
			m.mock.ExpectQuery(s.text + " RETURNING <captured>").WillReturnRows(m.userRows(nil, s.rows...))
		} else {
			m.mock.ExpectExec(s.text).WillReturnResult(driver.RowsAffected(0))
		}
	}
	conn, err := m.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, s := range says {
		if _, err := conn.ExecContext(context.Background(), s.text); err != nil {
			t.Fatalf("%s: %v", s.text, err)
		}
	}
	if err := m.mock.ExpectationsWereMet(); err != nil {
		t.Error(err)
	}
}

// redisOnly leaves out what went to the base.
func redisOnly(events []string) []string {
	return slices.DeleteFunc(events, func(e string) bool { return e != strings.ToLower(e) || strings.HasPrefix(e, "prepare ") })
}

// COMMIT can fail in ways that settle the outcome and in ways that do not. A fence that
// is given back while the COMMIT may still happen is a stale read; one that is kept after
// a certain rollback keeps the key out of use for its whole life.
var commitErrors = []struct {
	name    string
	err     error
	settled bool
}{
	{"serialization failure", &pgconn.PgError{Severity: "ERROR", Code: "40001"}, true},
	{"deadlock", &pgconn.PgError{Severity: "ERROR", Code: "40P01"}, true},
	{"deferred foreign key", &pgconn.PgError{Severity: "ERROR", Code: "23503"}, true},
	{"severity in another language", &pgconn.PgError{Severity: "FEHLER", SeverityUnlocalized: "ERROR", Code: "23505"}, true},
	{"wrapped", fmt.Errorf("commit: %w", &pgconn.PgError{Severity: "ERROR", Code: "40001"}), true},
	{"another driver's error", stateError("40001"), true},
	{"the base says that nothing was sent", driver.ErrBadConn, true},
	{"administrator", &pgconn.PgError{Severity: "FATAL", Code: "57P01"}, false},
	{"crash of another backend", &pgconn.PgError{Severity: "WARNING", Code: "57P02"}, false},
	{"not known to the server", &pgconn.PgError{Severity: "ERROR", Code: "40003"}, false},
	{"disk", &pgconn.PgError{Severity: "ERROR", Code: "58030"}, false},
	{"internal error", &pgconn.PgError{Severity: "ERROR", Code: "XX000"}, false},
	{"connection failure by state", &pgconn.PgError{Severity: "ERROR", Code: "08006"}, false},
	{"another driver's doubt", stateError("08007"), false},
	{"a state that is none", stateError("?"), false},
	{"cancelled", context.Canceled, false},
	{"too late", context.DeadlineExceeded, false},
	{"cut off", io.ErrUnexpectedEOF, false},
	{"anything else", errors.New("boom"), false},
}

type stateError string

func (e stateError) Error() string    { return "state " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func TestMockedCommitErrors(t *testing.T) {
	for _, by := range []string{"Tx", "text"} {
		for _, c := range commitErrors {
			t.Run(by+"/"+c.name, func(t *testing.T) {
				m := newMocked(t)
				var err error
				commit := "COMMIT"
				if by == "Tx" {
					err = m.failInTx(t, c.err)
				} else {
					err = m.failByText(t, c.err)
				}
				if !errors.Is(err, c.err) {
					t.Errorf("the caller got %v, want the server's own error", err)
				}
				want := []string{"BEGIN", "UPDATE users SET name = 'a' WHERE id = 1 RETURNING <captured>", "fence user:1", commit}
				if c.settled {
					want = append(want, "abort user:1")
				}
				m.expect(t, want...)
				if m.payload(t, "user:1") != "" {
					t.Error("something is cached")
				}
				if fenced := m.fences(t, "user:1") == 1; fenced == c.settled {
					t.Errorf("fenced: %v", fenced)
				}
			})
		}
	}
}

func (m *mocked) failInTx(t *testing.T, failure error) error {
	t.Helper()
	m.mock.ExpectBegin()
	m.mock.ExpectQuery("UPDATE users SET name = 'a' WHERE id = 1 RETURNING <captured>").WillReturnRows(m.userRows(nil, user{1, "a"}))
	m.mock.ExpectCommit().WillReturnError(failure)
	tx, err := m.db.Begin()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec("UPDATE users SET name = 'a' WHERE id = 1"); err != nil {
		t.Fatal(err)
	}
	return tx.Commit()
}

func (m *mocked) failByText(t *testing.T, failure error) error {
	t.Helper()
	conn, err := m.db.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m.mock.ExpectExec("BEGIN").WillReturnResult(driver.RowsAffected(0))
	m.mock.ExpectQuery("UPDATE users SET name = 'a' WHERE id = 1 RETURNING <captured>").WillReturnRows(m.userRows(nil, user{1, "a"}))
	m.mock.ExpectExec("COMMIT").WillReturnError(failure)
	for _, text := range []string{"BEGIN", "UPDATE users SET name = 'a' WHERE id = 1"} {
		if _, err := conn.ExecContext(context.Background(), text); err != nil {
			t.Fatal(err)
		}
	}
	_, err = conn.ExecContext(context.Background(), "COMMIT")
	return err
}

// database/sql runs a statement again on another connection where the base says that
// nothing was sent. Each try is a request of its own: a token that is used twice lets a
// late duplicate of the first try bar, or free, what the second one holds.
func TestMockedRetriesUseNewTokens(t *testing.T) {
	m := newMocked(t)
	m.mock.ExpectQuery(renamed).WillReturnError(driver.ErrBadConn)
	m.mock.ExpectQuery(renamed).WillReturnError(driver.ErrBadConn)
	m.mock.ExpectQuery(renamed).WillReturnRows(m.userRows(nil, user{1, "ann"}))
	if err := affects(m.db, 1, renameUser, "ann", 1); err != nil {
		t.Fatal(err)
	}
	m.expect(t, "fence user:1", renamed, "abort user:1", "fence user:1", renamed, "abort user:1", "fence user:1", renamed, "apply user:1")
	tokens := slices.Clone(m.log.tokens)
	slices.Sort(tokens)
	if len(slices.Compact(tokens)) != 3 {
		t.Errorf("the tokens of three tries were %q", m.log.tokens)
	}
	if got := m.payload(t, "user:1"); got != `{"id":1,"name":"ann"}` {
		t.Errorf("user:1 holds %s", got)
	}
}

// ErrBadConn at the other points of a write: nothing is left in Redis by a try that came
// to nothing, and the next one starts from scratch.
func TestMockedBadConnAtEachPoint(t *testing.T) {
	t.Run("BEGIN of lock first", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectBegin().WillReturnError(driver.ErrBadConn)
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil, user{1, "b"}))
		m.mock.ExpectCommit()
		if err := affects(m.db, 1, renameByName, "b", "a"); err != nil {
			t.Error(err)
		}
		m.expect(t, "BEGIN", "BEGIN", renamedMany, "fence user:1", "COMMIT", "apply user:1")
	})
	t.Run("statement of lock first", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamedMany).WillReturnError(driver.ErrBadConn)
		m.mock.ExpectRollback()
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil, user{1, "b"}))
		m.mock.ExpectCommit()
		if err := affects(m.db, 1, renameByName, "b", "a"); err != nil {
			t.Error(err)
		}
		m.expect(t, "BEGIN", renamedMany, "ROLLBACK", "BEGIN", renamedMany, "fence user:1", "COMMIT", "apply user:1")
	})
	t.Run("COMMIT of lock first", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil, user{1, "b"}))
		m.mock.ExpectCommit().WillReturnError(driver.ErrBadConn)
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil, user{1, "b"}))
		m.mock.ExpectCommit()
		if err := affects(m.db, 1, renameByName, "b", "a"); err != nil {
			t.Error(err)
		}
		m.expect(t, "BEGIN", renamedMany, "fence user:1", "COMMIT", "abort user:1", "BEGIN", renamedMany, "fence user:1", "COMMIT", "apply user:1")
	})
	t.Run("statement in a transaction", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamed).WillReturnError(driver.ErrBadConn)
		m.mock.ExpectRollback()
		tx, err := m.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(renameUser, "a", 1); !errors.Is(err, driver.ErrBadConn) {
			t.Errorf("the caller got %v", err)
		}
		if err := tx.Rollback(); err != nil {
			t.Error(err)
		}
		m.expect(t, "BEGIN", renamed, "ROLLBACK")
	})
}

// An error in the middle of the rows: the statement may have written rows that nobody saw.
func TestMockedRowErrors(t *testing.T) {
	server := &pgconn.PgError{Severity: "ERROR", Code: "22012"}
	client := errors.New("a column cannot be decoded")
	t.Run("fence first, refused by the server", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectQuery(renamed).WillReturnRows(m.userRows(nil, user{1, "a"}).RowError(0, server))
		if err := affects(m.db, 1, renameUser, "a", 1); !errors.Is(err, server) {
			t.Error(err)
		}
		m.expect(t, "fence user:1", renamed, "abort user:1")
	})
	t.Run("fence first, the client's own", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectQuery(renamed).WillReturnRows(m.userRows(nil, user{1, "a"}).RowError(0, client))
		if err := affects(m.db, 1, renameUser, "a", 1); !errors.Is(err, client) {
			t.Error(err)
		}
		m.expect(t, "fence user:1", renamed)
		if m.fences(t, "user:1") != 1 {
			t.Error("the key is not fenced although the statement may have been carried out")
		}
	})
	t.Run("lock first", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil, user{1, "a"}, user{2, "a"}).RowError(1, client))
		m.mock.ExpectRollback()
		if err := affects(m.db, 1, renameByName, "a", "b"); !errors.Is(err, client) {
			t.Error(err)
		}
		m.expect(t, "BEGIN", renamedMany, "ROLLBACK")
	})
	t.Run("closing the rows fails", func(t *testing.T) {
		m := newMocked(t)
		m.mock.ExpectBegin()
		m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil, user{1, "a"}).CloseError(client))
		m.mock.ExpectRollback()
		if err := affects(m.db, 1, renameByName, "a", "b"); !errors.Is(err, client) {
			t.Error(err)
		}
		m.expect(t, "BEGIN", renamedMany, "ROLLBACK")
	})
	for name, run := range map[string]func(*sql.Tx) error{
		"in a transaction that is committed all the same": func(tx *sql.Tx) error {
			rows, err := tx.Query(renameByName+" RETURNING id", "a", "b")
			if err != nil {
				return err
			}
			for rows.Next() {
			}
			return errors.Join(rows.Err(), rows.Close())
		},
		"in an Exec of such a transaction": func(tx *sql.Tx) error {
			_, err := tx.Exec(renameByName+" RETURNING id", "a", "b")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMocked(t)
			m.mock.ExpectBegin()
			m.mock.ExpectQuery(renameByName + " RETURNING id, <captured>").WillReturnRows(
				m.userRows([]string{"id"}, user{1, "a"}, user{2, "a"}).RowError(1, client))
			m.mock.ExpectCommit()
			tx, err := m.db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			if err := run(tx); !errors.Is(err, client) {
				t.Error(err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if s, err := wtcache.StatsOf(m.db); err != nil || s.Redis.Sweeps != 1 {
				t.Errorf("%d sweeps (%v): a row that nobody saw may be cached as it was", s.Redis.Sweeps, err)
			}
			if m.payload(t, "user:1") != "" || m.payload(t, "user:2") != "" {
				t.Error("entries are cached although not all rows were seen")
			}
		})
	}
}

// PREPARE TRANSACTION after ruled writes never reaches the base.
func TestMockedPrepareTransaction(t *testing.T) {
	ctx := context.Background()
	m := newMocked(t)
	conn, err := m.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m.mock.ExpectExec("BEGIN").WillReturnResult(driver.RowsAffected(0))
	m.mock.ExpectQuery("UPDATE users SET name = 'a' WHERE id = 1 RETURNING <captured>").WillReturnRows(m.userRows(nil, user{1, "a"}))
	m.mock.ExpectExec("ROLLBACK").WillReturnResult(driver.RowsAffected(0))
	m.mock.ExpectExec("PREPARE TRANSACTION 'x'").WillReturnResult(driver.RowsAffected(0))
	for _, s := range []struct {
		text  string
		fails bool
	}{
		{"BEGIN", false}, {"UPDATE users SET name = 'a' WHERE id = 1", false},
		{"PREPARE TRANSACTION 'x'", true}, {"ROLLBACK", false}, {"PREPARE TRANSACTION 'x'", false},
	} {
		if _, err := conn.ExecContext(ctx, s.text); errors.Is(err, wtcache.ErrNotCapturable) != s.fails || !s.fails && err != nil {
			t.Errorf("%s: %v", s.text, err)
		}
	}
	m.expect(t, "BEGIN", "UPDATE users SET name = 'a' WHERE id = 1 RETURNING <captured>", "ROLLBACK", "PREPARE TRANSACTION 'x'")
}
