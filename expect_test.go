package wtcache_test

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// countedSetup is crowdSetup with a table whose rows the server has counted, and with several keys a row.
func countedSetup() shelfSetup {
	s := crowdSetup()
	s.ddl = `CREATE TABLE crowd (id int PRIMARY KEY, n int, name text UNIQUE, grp int); CREATE TABLE more (id int, n int);
		INSERT INTO crowd SELECT i, 0, 'name ' || i, i % 2 FROM generate_series(1, 9) i; INSERT INTO more SELECT i, 0 FROM generate_series(101, 109) i;
		ANALYZE crowd; ANALYZE more`
	s.rules["crowd"] = "table: {S}.crowd\nentries:\n  - {name: by_id, key: \"{P}c:{id}\"}\n  - {name: by_name, key: \"{P}n:{name}\"}\n"
	return s
}

// cost is what a statement made the driver do.
type cost struct{ captured, asked, expected, again uint64 }

func (h *shelf) cost(fn func()) cost {
	h.t.Helper()
	now := func() cost {
		s := h.stats()
		return cost{s.CapturedRows, s.SizesAsked, s.CoarseReasons["the planner expects too many rows"], s.CoarseReasons["too many rows when it ran last"]}
	}
	before := now()
	fn()
	after := now()
	return cost{after.captured - before.captured, after.asked - before.asked, after.expected - before.expected, after.again - before.again}
}

func (h *shelf) wantCost(what string, want cost, fn func()) {
	h.t.Helper()
	if got := h.cost(fn); got != want {
		h.t.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

var (
	expectedCost = cost{asked: 1, expected: 1}
	againCost    = cost{again: 1}
)

// inTx runs texts in a transaction that is committed, or not.
func (h *shelf) inTx(commit bool, texts ...string) {
	h.t.Helper()
	tx, err := h.db.Begin()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, text := range texts {
		if _, err := tx.Exec(text); err != nil {
			h.t.Fatalf("%s: %v", text, err)
		}
	}
	end := tx.Rollback
	if commit {
		end = tx.Commit
	}
	if err := end(); err != nil {
		h.t.Fatal(err)
	}
}

// A program that updates all rows once pays for every payload of a table, and drops them, if its text has to run before it is
// known to be large. Were an entry left for it, readers would have the old row.
func TestLargeWriteIsExpected(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			h := newShelf(t, countedSetup())
			h.dsn = withExecMode(h.dsn, mode)
			h.db, _ = h.open(countedSetup())
			wantCrowdRows(t, h, 0)
			const text = "UPDATE crowd SET n = n + 1 WHERE id <= $1"
			h.wantCost("the first run", expectedCost, func() { h.exec(text, 9) })
			wantCrowdRows(t, h, 1)
			h.wantCost("the second run", againCost, func() { h.exec(text, 9) })
			wantCrowdRows(t, h, 2)
			h.wantCost("constants", expectedCost, func() { h.exec("/* a */ UPDATE crowd SET n = 3 /* b */ WHERE n < 3; -- c") })
			wantCrowdRows(t, h, 3)
			const another = "UPDATE crowd SET n = n + 1"
			h.wantCost("outside a transaction", expectedCost, func() { h.exec(another) })
			wantCrowdRows(t, h, 4)
			h.wantCost("then in one", againCost, func() { h.inTx(true, another) })
			wantCrowdRows(t, h, 5)
			h.wantCost("in one that is rolled back", againCost, func() { h.inTx(false, another) })
			wantCrowdRows(t, h, 5)
			h.wantCost("behind a savepoint", cost{captured: 1, again: 1}, func() {
				h.inTx(true, "SAVEPOINT s", another, "ROLLBACK TO s", "UPDATE crowd SET n = 6 WHERE id = 1")
			})
			h.exec("UPDATE crowd SET n = 5 WHERE id = 1")
			wantCrowdRows(t, h, 5)
			h.wantCost("INSERT of a query", expectedCost, func() { h.exec("INSERT INTO crowd (id, n) SELECT id, n FROM more WHERE n < $1", 100) })
			h.wantCost("DELETE", expectedCost, func() { h.exec("DELETE FROM crowd WHERE id < $1 AND n <> $2", 1000, -1) })
			if row := seen(t, readerOf[crowdRow](t, h.db, "crowd.by_id"), 5); row.Found {
				t.Error("the cache gives a row that was deleted")
			}
		})
	}
}

// wantCrowdRows is wantCrowd for the entry of a rule with several.
func wantCrowdRows(t *testing.T, h *shelf, want int) {
	t.Helper()
	byID, byName := readerOf[crowdRow](t, h.db, "crowd.by_id"), readerOf[crowdRow](t, h.db, "crowd.by_name")
	for range 2 {
		for id := 1; id <= 9; id++ {
			if a, b := seen(t, byID, id), seen(t, byName, fmt.Sprintf("name %d", id)); a.Value.N != want || b.Value.N != want {
				t.Errorf("row %d: the cache gives %d and %d, the table has %d", id, a.Value.N, b.Value.N, want)
			}
		}
	}
}

// withExecMode gives a DSN whose connections talk to the server in a mode of pgx's.
func withExecMode(dsn string, mode pgx.QueryExecMode) string {
	return withParameter(dsn, "default_query_exec_mode="+strings.ReplaceAll(mode.String(), " ", "_"))
}

// withParameter gives a URL with one parameter more.
func withParameter(url, parameter string) string {
	if strings.Contains(url, "?") {
		return url + "&" + parameter
	}
	return url + "?" + parameter
}

// Whoever writes few rows must not pay a round trip for it, nor lose what is written through.
func TestSmallWriteIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	h := newShelf(t, countedSetup())
	for _, w := range []struct {
		text string
		args []any
	}{
		{"UPDATE crowd SET n = 1 WHERE id = $1", []any{1}},
		{"UPDATE crowd SET n = 2 WHERE id = 2", nil},
		{"UPDATE crowd SET n = 3 WHERE name = 'name 3' AND grp = 1", nil},
		{"UPDATE crowd c SET n = 3 FROM more m WHERE c.name = $1 AND m.id = 101", []any{"name 3"}},
		{"INSERT INTO crowd (id, n) VALUES ($1, 1)", []any{50}},
		{"DELETE FROM crowd WHERE id = 50", nil},
	} {
		h.wantCost(w.text, cost{captured: 1}, func() { h.exec(w.text, w.args...) })
	}
	rows := make([]string, 70)
	for i := range rows {
		rows[i] = fmt.Sprintf("(%d, 1)", 1000+i)
	}
	h.wantCost("an INSERT of many rows", cost{captured: 70}, func() { h.exec("INSERT INTO crowd (id, n) VALUES " + strings.Join(rows, ", ")) })
	h.must("DELETE FROM crowd WHERE id >= 1000")

	// Of these the planner has to be asked, once.
	const text = "UPDATE crowd SET n = 7 WHERE id <= $1"
	h.wantCost("a small range", cost{captured: 1, asked: 1}, func() { h.exec(text, 1) })
	if !h.there("c:1") {
		t.Error("a small write is not written through")
	}
	h.wantCost("a small range again", cost{captured: 1}, func() { h.exec(text, 1) })

	// A caller who wants the rows gets them over the wire anyhow; one who has prepared a statement runs it again.
	h.wantCost("RETURNING", cost{captured: 9}, func() {
		rows, err := h.db.Query("UPDATE crowd SET n = 8 RETURNING id")
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(rows.Close(), rows.Err()); err != nil {
			t.Fatal(err)
		}
	})
	h.wantCost("a prepared statement", cost{captured: 9}, func() {
		stmt, err := h.db.Prepare("UPDATE crowd SET n = n + $1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stmt.Exec(1); err != nil {
			t.Fatal(err)
		}
		if err := stmt.Close(); err != nil {
			t.Fatal(err)
		}
	})
	h.wantCost("pgx's options", cost{captured: 9}, func() { h.exec("UPDATE crowd SET n = 4 + $1", pgx.QueryExecModeExec, 1) })
}

// Of a table that nobody has counted, or that is small, nothing is asked.
func TestSmallTableIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*shelfSetup){
		"not counted": func(s *shelfSetup) { s.ddl = strings.ReplaceAll(s.ddl, "ANALYZE crowd", "") },
		"small":       func(s *shelfSetup) { s.config = func(c *wtcache.Config) { c.MaxCapturedRows = 10 } },
	} {
		t.Run(name, func(t *testing.T) {
			s := countedSetup()
			change(&s)
			h := newShelf(t, s)
			h.wantCost("all rows", cost{captured: 9}, func() { h.exec("UPDATE crowd SET n = n + 1") })
			wantCrowdRows(t, h, 1)
		})
	}
}

// The planner guesses. Were it believed for good, a small write would empty the cache each time, or a large one would be captured
// each time.
func TestWrongExpectationIsCorrected(t *testing.T) {
	t.Parallel()
	h := newShelf(t, countedSetup())
	const small = "UPDATE crowd SET n = n + 1 WHERE id / 9 <> $1"
	h.wantCost("few, expected to be many", expectedCost, func() { h.exec(small, 0) })
	h.wantCost("few", cost{captured: 1}, func() { h.exec(small, 0) })
	if !h.there("c:9") {
		t.Error("a small write is not written through")
	}
	const large = "UPDATE crowd SET n = 5 WHERE id % 1 = $1"
	h.wantCost("many, expected to be few", cost{captured: 9, asked: 1}, func() { h.exec(large, 0) })
	wantCrowdRows(t, h, 5)
	h.wantCost("many", againCost, func() { h.exec(large, 0) })
	wantCrowdRows(t, h, 5)
}

// A program that puts its values into the text would pay a question for each statement.
func TestTextsThatNeverRepeatAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		most uint64
	}{
		{"UPDATE crowd SET n = {i} WHERE id % 1 = {i}", 2}, // the first text, and its shape
		{"UPDATE crowd SET n = {i} WHERE id % 1 = {i} -- always the same\n", 2},
		{"UPDATE crowd SET n = {i}, name = E'\\t{i}' WHERE id % 1 = {i}", 0},
		{"UPDATE crowd SET n = {i}, name = $${i}$$ WHERE id % 1 = {i}", 0},
		{"UPDATE crowd SET n = $1, name = $${i}$$ WHERE id % 1 = 7", 0},
		{"UPDATE crowd SET n = {i}::float(24) WHERE id % 1 = {i}", 1},
	} {
		h := newShelf(t, countedSetup())
		asked := h.cost(func() {
			for i := range 12 {
				var args []any
				if strings.Contains(c.text, "$1") {
					args = []any{i}
				}
				h.exec(strings.ReplaceAll(c.text, "{i}", fmt.Sprint(i+1)), args...)
			}
		}).asked
		if asked > c.most {
			t.Errorf("%s: asked about %d of 12 texts, want at most %d", c.text, asked, c.most)
		}
	}
	h := newShelf(t, countedSetup())
	h.exec("UPDATE crowd SET n = 1 WHERE n < 1")
	h.exec("UPDATE crowd SET n = 2 WHERE n < 2")
	h.wantCost("a third text of a large shape", againCost, func() { h.exec("UPDATE crowd SET n = 3 WHERE n < 3") })
	wantCrowdRows(t, h, 3)
}

// A question that fails would end the caller's transaction: EXPLAIN plans with the arguments and evaluates what the
// statement, planned without them, never does.
func TestQuestionEndsNoTransaction(t *testing.T) {
	t.Parallel()
	h := newShelf(t, countedSetup())
	wantCrowdRows(t, h, 0)
	const text = "UPDATE crowd SET n = 1 / $1 WHERE n > $2"
	h.wantCost("a transaction", cost{}, func() {
		tx, err := h.db.Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }() // ended below, unless the test fails
		if _, err := tx.Exec("SET LOCAL plan_cache_mode = force_generic_plan"); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(text, 0, 1000); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	})
	h.wantCost("all rows", cost{captured: 9}, func() { h.inTx(true, "UPDATE crowd SET n = n + 1") })
	h.wantCost("a script", cost{captured: 10}, func() { h.exec("UPDATE crowd SET n = 9 WHERE id = 1; UPDATE crowd SET n = 5") })
	wantCrowdRows(t, h, 5)
	conn, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(t.Context(), "SET plan_cache_mode = force_generic_plan"); err != nil {
		t.Fatal(err)
	}
	h.wantCost("outside a transaction", cost{asked: 1}, func() {
		if _, err := conn.ExecContext(t.Context(), text+" -- outside", 0, 1000); err != nil {
			t.Error(err)
		}
	})
}

// What the planner refuses once it may plan the next time, unless the text is to blame. Were a large write known as a small one for
// an outage, the program would pay for its rows; were a wrong text asked about each time, for the questions.
func TestQuestionThatFails(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]cost{"55006": expectedCost, "22012": {captured: 9}} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s := countedSetup()
			s.ddl += `; CREATE SEQUENCE calls; CREATE FUNCTION most() RETURNS int STABLE LANGUAGE plpgsql AS $$ BEGIN
				IF nextval('calls') < 3 THEN RAISE 'not now' USING ERRCODE = '` + state + `'; END IF; RETURN 100; END $$`
			h := newShelf(t, s)
			const text = "UPDATE crowd SET n = 3 WHERE n < most()"
			h.wantCost("it fails", cost{asked: 1}, func() { // the question, and then the statement
				if _, err := h.db.Exec(text); !strings.HasPrefix(stateOf(t, err), state) {
					t.Errorf("the error is %v", err)
				}
			})
			h.wantCost("the next run", want, func() { h.exec(text) })
			wantCrowdRows(t, h, 3)
		})
	}
}

// Sessions that take turns, a tenant each, have their own plan for a text each time it is their turn.
func TestSessionsThatTakeTurnsAreNotAskedAgain(t *testing.T) {
	t.Parallel()
	other, h := newShelf(t, countedSetup()), newShelf(t, countedSetup())
	h.rules["other.yaml"] = other.rules["crowd.yaml"]
	h.db, _ = h.open(countedSetup())
	conn, err := h.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	h.wantCost("turns", cost{asked: 2}, func() {
		for range 3 {
			for _, schema := range []string{h.schema, other.schema} {
				for _, text := range []string{"SET search_path = " + schema, "UPDATE crowd SET n = n WHERE n > id"} {
					if _, err := conn.ExecContext(t.Context(), text); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	})
}

// The rows of a partitioned table are those of its partitions, each of which may be small; so are those of an inheritance parent.
func TestLargeWriteOfPartitionsIsExpected(t *testing.T) {
	t.Parallel()
	for name, ddl := range map[string]string{
		"partitions": `CREATE TABLE crowd (id int PRIMARY KEY, n int) PARTITION BY HASH (id);
			CREATE TABLE p0 PARTITION OF crowd FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE p1 PARTITION OF crowd FOR VALUES WITH (MODULUS 2, REMAINDER 1);
			INSERT INTO crowd SELECT i, 0 FROM generate_series(1, 9) i`,
		"children": `CREATE TABLE crowd (id int PRIMARY KEY, n int); CREATE TABLE p0 () INHERITS (crowd); CREATE TABLE p1 () INHERITS (crowd);
			INSERT INTO p0 SELECT i, 0 FROM generate_series(1, 5) i; INSERT INTO p1 SELECT i, 0 FROM generate_series(6, 9) i`,
	} {
		t.Run(name, func(t *testing.T) {
			s := crowdSetup()
			s.ddl = ddl + "; ANALYZE crowd; ANALYZE p0; ANALYZE p1"
			s.config = func(c *wtcache.Config) { c.MaxCapturedRows = 7 }
			h := newShelf(t, s)
			wantCrowd(t, h, 0)
			h.wantCost("all rows", expectedCost, func() { h.exec("UPDATE crowd SET n = n + $1", 1) })
			wantCrowd(t, h, 1)
		})
	}
}

// A pooler in transaction mode gives one of pgx's modes a session for each request: a prepared statement, or one request that
// relies on another, would meet somebody else's session.
func TestSizeIsAskedInTheModeOfTheCaller(t *testing.T) {
	t.Parallel()
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			h := newShelf(t, countedSetup())
			db, wire := h.openWired(withExecMode(h.dsn, mode))
			if _, err := db.Exec("UPDATE crowd SET n = n + $1 WHERE id <= $2", 1, 9); err != nil {
				t.Fatal(err)
			}
			asked := 0
			for _, line := range strings.Split(wire.String(), "\n") {
				if !strings.Contains(line, "EXPLAIN (FORMAT JSON) UPDATE crowd") {
					continue
				}
				asked++
				want := "\tParse\t" // then its length, its name, which must be none, and its text
				if mode == pgx.QueryExecModeSimpleProtocol {
					want = "\tQuery\t"
				} else if !strings.Contains(line, "\t \"\" \"EXPLAIN") {
					t.Errorf("it was prepared under a name: %s", line)
				}
				if !strings.Contains(line, want) {
					t.Errorf("it was asked by %s", line)
				}
			}
			if asked == 0 {
				t.Errorf("it was not asked:\n%s", wire)
			}
		})
	}
}

// openWired opens the tables and keeps what is said to the server, and by it.
func (h *shelf) openWired(dsn string) (*sql.DB, *heard) {
	h.t.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		h.t.Fatal(err)
	}
	wire := &heard{}
	cfg.BuildFrontend = func(r io.Reader, w io.Writer) *pgproto3.Frontend {
		f := pgproto3.NewFrontend(r, w)
		f.Trace(wire, pgproto3.TracerOptions{SuppressTimestamps: true})
		return f
	}
	db, err := wtcache.OpenDB(stdlib.GetConnector(*cfg), wtcache.Config{
		Redis: redisClient(h.t, testenv.RealRedis(h.t)), Rules: h.rules, MaxCapturedRows: 3, Outbox: wtcache.OutboxOff,
	})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = db.Close() })
	return db, wire
}

// A statement that waits for a lock waits for it in the question. Whoever cancels it, or limits it, gets the error of the
// statement after the time that the statement would have had, and a statement that can be run again.
func TestQuestionIsCancelledAsTheStatement(t *testing.T) {
	t.Parallel()
	const text = "/* größe */ UPDATE crowd SET n = n + 1"
	for setting, state := range map[string]string{"statement_timeout": "57014", "lock_timeout": "55P03", "": ""} {
		t.Run(cmp.Or(setting, "context"), func(t *testing.T) {
			t.Parallel()
			h := newShelf(t, countedSetup())
			db, wire := h.openWired(h.dsn)
			h.db = db
			if err := h.db.Ping(); err != nil {
				t.Fatal(err)
			}
			lock, err := h.plain.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lock.Rollback() }() // ended below, unless the test fails
			if _, err := lock.Exec("LOCK TABLE crowd"); err != nil {
				t.Fatal(err)
			}
			if setting == "" {
				if err := cancelledWhileWaiting(t, h, text); !errors.Is(err, context.Canceled) {
					t.Errorf("cancelled: %v", err)
				}
			} else {
				plain, ours := stateOf(t, limited(t, h.plain, setting, text)), stateOf(t, limited(t, h.db, setting, text))
				if plain != ours || !strings.HasPrefix(ours, state) {
					t.Errorf("%s: %s through pgx, %s through wtcache", setting, plain, ours)
				}
			}
			if said := saidOf(wire, "UPDATE crowd"); len(said) != 1 || !strings.Contains(said[0], "EXPLAIN") {
				t.Errorf("the server was sent %q, want the question alone", said)
			}
			if err := lock.Rollback(); err != nil {
				t.Fatal(err)
			}
			wantCrowdRows(t, h, 0)
			h.wantCost("the next run", expectedCost, func() { h.exec(text) })
			wantCrowdRows(t, h, 1)
		})
	}
}

// saidOf gives the requests in which a text occurs.
func saidOf(wire *heard, text string) (said []string) {
	for line := range strings.Lines(wire.String()) {
		if strings.HasPrefix(line, "F\t") && strings.Contains(line, text) {
			said = append(said, line)
		}
	}
	return said
}

// stateOf gives what the server says of an error.
func stateOf(t *testing.T, err error) string {
	t.Helper()
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		t.Fatalf("no error of the server's: %v", err)
	}
	return fmt.Sprintf("%s %s at %d", pg.Code, pg.Message, pg.Position)
}

// limited runs a text that may not wait for long, by a setting of the server's.
func limited(t *testing.T, db *sql.DB, setting, text string) error {
	t.Helper()
	conn, err := db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.ExecContext(t.Context(), "SET "+setting+" = '500ms'"); err != nil { // what is not locked is done within it
		t.Fatal(err)
	}
	_, failed := conn.ExecContext(t.Context(), text)
	if _, err := conn.ExecContext(t.Context(), "RESET "+setting); err != nil {
		t.Fatal(err)
	}
	return failed
}

// cancelledWhileWaiting runs a text and cancels it once the server says that it waits for the table.
func cancelledWhileWaiting(t *testing.T, h *shelf, text string) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := h.db.ExecContext(ctx, text)
		done <- err
	}()
	eventually(t, "it waits", func() (waiting bool) {
		if err := h.plain.QueryRow("SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'crowd'::regclass AND NOT granted)").Scan(&waiting); err != nil {
			t.Fatal(err)
		}
		return waiting
	})
	cancel()
	return <-done
}

// Whoever looks up what a statement will do is told that its size decides, and of which it does not.
func TestExplainSaysThatTheSizeDecides(t *testing.T) {
	t.Parallel()
	h := newShelf(t, countedSetup())
	x, err := wtcache.ExplainerOf(t.Context(), h.db)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"UPDATE crowd SET n = 1":                      true,
		"DELETE FROM crowd WHERE n = 1":               true,
		"INSERT INTO crowd (id) SELECT id FROM more":  true,
		"UPDATE crowd SET n = 1 WHERE name = 'a'":     false,
		"INSERT INTO crowd (id) VALUES (1)":           false,
		"UPDATE crowd SET name = E'\\t' WHERE n = 1":  false,
		"UPDATE crowd SET name = $$a$$ WHERE n <> $1": false,
	} {
		all, err := x.Explain(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(all[0].Why, "the planner is asked (EXPLAIN (FORMAT JSON))"); got != want || all[0].Class != wtcache.ClassPrecise {
			t.Errorf("%s: %s, %s", text, all[0].Class, all[0].Why)
		}
	}
}
