package wtcache_test

import (
	"database/sql"
	"database/sql/driver"
	"errors"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/wtcache/wtcache"
)

const (
	renameUser   = "UPDATE users SET name = $1 WHERE id = $2"
	renamed      = renameUser + " RETURNING <captured>"
	renameByName = "UPDATE users SET name = $1 WHERE name = $2"
	renamedMany  = renameByName + " RETURNING <captured>"
)

// What reaches the base and what reaches Redis, and in which order, is the protocol: a
// fence that comes after the statement, or an apply that comes before COMMIT, is a stale
// read for somebody.
func TestMockedStatements(t *testing.T) {
	for _, c := range []struct {
		name   string
		expect func(*mocked)
		run    func(*sql.DB) error
		want   []string
	}{
		{
			name: "every key is known beforehand: fence, statement, apply",
			expect: func(m *mocked) {
				m.mock.ExpectQuery(renamed).WithArgs("ann", 1).WillReturnRows(m.userRows(nil, user{1, "ann"}))
			},
			run:  func(db *sql.DB) error { return affects(db, 1, renameUser, "ann", 1) },
			want: []string{"fence user:1", renamed, "apply user:1"},
		}, {
			name: "no row was touched: the fence is given back",
			expect: func(m *mocked) {
				m.mock.ExpectQuery(renamed).WillReturnRows(m.userRows(nil))
			},
			run:  func(db *sql.DB) error { return affects(db, 0, renameUser, "ann", 1) },
			want: []string{"fence user:1", renamed, "abort user:1"},
		}, {
			name: "inserted keys are known beforehand",
			expect: func(m *mocked) {
				m.mock.ExpectQuery("INSERT INTO users (name, id) VALUES ($1, 2), ($2, 1) RETURNING <captured>").
					WillReturnRows(m.userRows(nil, user{2, "a"}, user{1, "b"}))
			},
			run: func(db *sql.DB) error {
				return affects(db, 2, "INSERT INTO users (name, id) VALUES ($1, 2), ($2, 1)", "a", "b")
			},
			want: []string{"fence user:1, fence user:2", "INSERT INTO users (name, id) VALUES ($1, 2), ($2, 1) RETURNING <captured>", "apply user:1, apply user:2"},
		}, {
			name: "keys are found by the statement: transaction, statement, fence, COMMIT, apply",
			expect: func(m *mocked) {
				m.mock.ExpectBegin()
				m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil, user{7, "bob"}, user{4, "bob"}))
				m.mock.ExpectCommit()
			},
			run:  func(db *sql.DB) error { return affects(db, 2, renameByName, "bob", "ann") },
			want: []string{"BEGIN", renamedMany, "fence user:4, fence user:7", "COMMIT", "apply user:4, apply user:7"},
		}, {
			name: "nothing was found: nothing is said to Redis",
			expect: func(m *mocked) {
				m.mock.ExpectBegin()
				m.mock.ExpectQuery(renamedMany).WillReturnRows(m.userRows(nil))
				m.mock.ExpectCommit()
			},
			run:  func(db *sql.DB) error { return affects(db, 0, renameByName, "bob", "ann") },
			want: []string{"BEGIN", renamedMany, "COMMIT"},
		}, {
			name: "a deleted row's key becomes absent",
			expect: func(m *mocked) {
				m.mock.ExpectQuery("DELETE FROM users WHERE id = 5 RETURNING <captured>").WillReturnRows(m.deletedRows(5))
			},
			run:  func(db *sql.DB) error { return affects(db, 1, "DELETE FROM users WHERE id = 5") },
			want: []string{"fence user:5", "DELETE FROM users WHERE id = 5 RETURNING <captured>", "apply user:5"},
		}, {
			name: "an argument whose text is not certain goes lock first",
			expect: func(m *mocked) {
				m.mock.ExpectBegin()
				m.mock.ExpectQuery(renamed).WillReturnRows(m.userRows(nil, user{42, "ann"}))
				m.mock.ExpectCommit()
			},
			run:  func(db *sql.DB) error { return affects(db, 1, renameUser, "ann", "042") },
			want: []string{"BEGIN", renamed, "fence user:42", "COMMIT", "apply user:42"},
		}, {
			name: "several entries and a shared key go lock first",
			expect: func(m *mocked) {
				m.mock.ExpectBegin()
				m.mock.ExpectQuery("DELETE FROM orders WHERE id = $1 RETURNING <captured>").WillReturnRows(
					sqlmock.NewRows([]string{"version", "tableoid", "id", "number", "user_id"}).AddRow("000000010/9000", m.oid("orders"), "3", "A-3", "8"))
				m.mock.ExpectCommit()
			},
			run: func(db *sql.DB) error { return affects(db, 1, "DELETE FROM orders WHERE id = $1", 3) },
			want: []string{"BEGIN", "DELETE FROM orders WHERE id = $1 RETURNING <captured>", "fence number:A-3, fence order:3, fence orders:8",
				"COMMIT", "apply number:A-3, apply order:3, apply orders:8"},
		}, {
			name: "prepared: what is prepared is the spliced text",
			expect: func(m *mocked) {
				p := m.mock.ExpectPrepare(renamed)
				p.ExpectQuery().WithArgs("ann", 1).WillReturnRows(m.userRows(nil, user{1, "ann"}))
			},
			run: func(db *sql.DB) error {
				stmt, err := db.Prepare(renameUser)
				if err != nil {
					return err
				}
				defer stmt.Close()
				_, err = stmt.Exec("ann", 1)
				return err
			},
			want: []string{"prepare " + renamed, "fence user:1", "apply user:1"},
		}, {
			name: "another table is no business of ours",
			expect: func(m *mocked) {
				m.mock.ExpectExec("UPDATE logs SET line = 'x'").WillReturnResult(driver.RowsAffected(3))
			},
			run:  func(db *sql.DB) error { return affects(db, 3, "UPDATE logs SET line = 'x'") },
			want: []string{"UPDATE logs SET line = 'x'"},
		}, {
			name: "nor is a read",
			expect: func(m *mocked) {
				m.mock.ExpectQuery("SELECT id FROM users WHERE id = $1").WillReturnRows(sqlmock.NewRows([]string{"id"}).AddRow(1))
			},
			run: func(db *sql.DB) error {
				var id int
				return db.QueryRow("SELECT id FROM users WHERE id = $1", 1).Scan(&id)
			},
			want: []string{"SELECT id FROM users WHERE id = $1"},
		}, {
			name: "several statements are one transaction",
			expect: func(m *mocked) {
				m.mock.ExpectBegin()
				m.mock.ExpectQuery("UPDATE users SET name = 'a' WHERE id = 1 RETURNING <captured>").WillReturnRows(m.userRows(nil, user{1, "a"}))
				m.mock.ExpectExec("INSERT INTO logs VALUES (1, 'x')").WillReturnResult(driver.RowsAffected(1))
				m.mock.ExpectQuery("UPDATE users SET name = 'b' WHERE id = 2 RETURNING <captured>").WillReturnRows(m.userRows(nil, user{2, "b"}))
				m.mock.ExpectCommit()
			},
			run: func(db *sql.DB) error {
				return affects(db, 1, "UPDATE users SET name = 'a' WHERE id = 1; INSERT INTO logs VALUES (1, 'x'); UPDATE users SET name = 'b' WHERE id = 2;")
			},
			want: []string{"BEGIN", "UPDATE users SET name = 'a' WHERE id = 1 RETURNING <captured>", "INSERT INTO logs VALUES (1, 'x')",
				"UPDATE users SET name = 'b' WHERE id = 2 RETURNING <captured>", "fence user:1, fence user:2", "COMMIT", "apply user:1, apply user:2"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMocked(t)
			c.expect(m)
			if err := c.run(m.db); err != nil {
				t.Error(err)
			}
			m.expect(t, c.want...)
		})
	}
}

func affects(db *sql.DB, want int64, query string, args ...any) error {
	res, err := db.Exec(query, args...)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n != want {
		return errors.Join(err, errors.New("the rows affected are not the statement's"))
	}
	return nil
}

// The caller's text has to reach the server as it was written, with the captured columns
// behind it and nothing else.
func TestMockedSpliceIsExact(t *testing.T) {
	m := newMocked(t)
	var got string
	text := "/* who */ UPDATE users AS u SET name = $1 /* $2 */ WHERE u.id = $2 RETURNING u.name -- end"
	m.mock.ExpectQuery("/* who */ UPDATE users AS u SET name = $1 /* $2 */ WHERE u.id = $2 RETURNING u.name, <captured>").
		WillReturnRows(m.userRows([]string{"name"}, user{1, "ann"}))
	m.base.seen = func(q string) { got = q }
	var name string
	if err := m.db.QueryRow(text, "ann", 1).Scan(&name); err != nil || name != "ann" {
		t.Fatal(name, err)
	}
	const want = "/* who */ UPDATE users AS u SET name = $1 /* $2 */ WHERE u.id = $2 RETURNING u.name, " +
		"pg_catalog.concat_ws(':', pg_catalog.concat(pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8), pg_catalog.pg_current_wal_insert_lsn()), pg_catalog.txid_current_if_assigned()), " +
		`"u".tableoid::pg_catalog.text, "u"."id"::pg_catalog.text, ` +
		`(SELECT pg_catalog.row_to_json(q.*)::pg_catalog.text FROM (SELECT "u"."id" AS "id", "u"."name" AS "name") AS q)` + " -- end"
	if got != want {
		t.Errorf("the server was sent\n%s\nwant\n%s", got, want)
	}
}

// A text of several statements with arguments, or whose rows are wanted, cannot be sent
// statement by statement. It must not slip through uncaptured.
func TestMockedScriptsThatCannotBeSplit(t *testing.T) {
	const script = "UPDATE users SET name = $1 WHERE id = 1; UPDATE users SET name = $1 WHERE id = 2"
	m := newMocked(t)
	m.mock.ExpectBegin()
	m.mock.ExpectExec(script).WithArgs("x").WillReturnResult(driver.RowsAffected(1))
	m.mock.ExpectCommit()
	if err := affects(m.db, 1, script, "x"); err != nil {
		t.Error(err)
	}
	got := m.log.take()
	if len(got) < 5 || got[0] != "BEGIN" || got[1] != script || got[len(got)-2] != "COMMIT" {
		t.Fatalf("what was sent: %q", got)
	}
	if s, err := wtcache.StatsOf(m.db); err != nil || s.CoarseWrites != 1 || s.Redis.Sweeps != 1 {
		t.Errorf("%+v %v, want one coarse write and its sweep", s, err)
	}

	_, err := m.db.Exec("BEGIN; "+script+"; COMMIT", "x")
	if !errors.Is(err, wtcache.ErrNotCapturable) {
		t.Errorf("transaction words among ruled writes with arguments gave %v", err)
	}
	m.expect(t)
}
