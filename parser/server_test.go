package parser_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/parser"
)

const forms = `
CREATE TYPE addr AS (city text, zip int);
CREATE TABLE users (id int PRIMARY KEY, email text UNIQUE, name text DEFAULT 'none', n int DEFAULT 0, tags text[],
  home addr, data jsonb, "Full Name" text, doubled int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE "Odd ""One" (id int PRIMARY KEY, "where" int, "returning" int);
CREATE DOMAIN short AS varchar(4) CHECK (VALUE <> 'no');
CREATE TABLE typed (id int, code varchar(3), fixed char(5), amount numeric(4, 1), bits bit(3), dom short, at timestamptz(0), kinds text[]);
INSERT INTO typed (id) SELECT generate_series(1, 5);
CREATE TABLE other (id int, name text, big bigint);
CREATE TABLE parts (id int, region int, v int, PRIMARY KEY (id, region)) PARTITION BY RANGE (region);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (100);
INSERT INTO users (id, email, n, tags, home, data) SELECT g, 'u' || g, g, ARRAY['a', 'b'], ROW('c', g)::addr, '{"k": "v"}' FROM generate_series(1, 20) g;
INSERT INTO other SELECT g, 'o' || g, g + 100 FROM generate_series(1, 10) g;
INSERT INTO parts SELECT g, g, g FROM generate_series(1, 20) g;
INSERT INTO "Odd ""One" SELECT g, g, g FROM generate_series(1, 5) g;
`

// sameCases are writes in every form that is spliced.
var sameCases = []struct {
	sql  string
	args []any
}{
	{"UPDATE users SET name = $1 WHERE id = $2", []any{"x", 3}},
	{"UPDATE users SET name = $1 WHERE id = $2 RETURNING id, name", []any{"x", 3}},
	{"UPDATE users SET name = $1 WHERE id = $2 -- c", []any{"x", 3}},
	{"UPDATE users SET name = 'a' WHERE id > 5 AND (n < 9 OR id = 20) -- x\n RETURNING *", nil},
	{"UPDATE users AS u SET n = u.n + 1 WHERE u.id = 1 RETURNING u.*, u", nil},
	{"UPDATE ONLY users SET id = id + 100 WHERE id = $1", []any{2}},
	{"UPDATE users SET (name, n) = ($1, $2) WHERE id = 4", []any{"t", 9}},
	{"UPDATE users SET (name, n) = (SELECT o.name, 1 FROM other o WHERE o.id = users.id) WHERE id < 5", nil},
	{"UPDATE users SET name = DEFAULT, n = DEFAULT WHERE id = 4 RETURNING name, doubled", nil},
	{"UPDATE users SET tags[1] = 'z', home.city = 'y' WHERE id = 4 RETURNING tags, (home).city", nil},
	{"UPDATE users SET name = o.name FROM other o WHERE users.id = o.id", nil},
	{"UPDATE users u SET id = o.big FROM other o WHERE u.id = o.id AND o.id < 4 RETURNING o.name, u.id", nil},
	{"UPDATE users SET id = $1, name = $2 FROM other o WHERE users.id = o.id AND o.id = 3", []any{900, "nine"}},
	{"UPDATE users SET name = 'lit' FROM other o WHERE users.id = o.id", nil},
	{"UPDATE users SET name = NULL, n = 7 FROM other o WHERE users.id = o.id RETURNING name", nil},
	{"UPDATE users SET home = ROW('q', 1) FROM other o WHERE users.id = o.id", nil},
	{"UPDATE users SET home = ('q', 1), n = 2 WHERE id IN (SELECT id FROM other)", nil},
	{"UPDATE users SET tags = ARRAY['p'] WHERE EXISTS (SELECT FROM other o WHERE o.id = users.id)", nil},
	{"UPDATE users SET data = '{\"z\": 1}' WHERE id IN (SELECT id FROM other)", nil},
	{"UPDATE users SET data = $1 WHERE id IN (SELECT id FROM other)", []any{`{"z": 1}`}},
	{"UPDATE users SET n = CASE WHEN id > 3 THEN $1 ELSE n END FROM other o WHERE o.id = users.id", []any{5}},
	{"UPDATE users SET n = 1.6, name = 5 WHERE id IN (SELECT 1)", nil},
	{"UPDATE users SET data = data || '{\"a\": 1}' WHERE data ->> 'k' = 'v' AND data ? 'k' AND id = 3", nil},
	{"UPDATE users SET \"Full Name\" = $$it's; RETURNING$$ WHERE id = 3 RETURNING \"Full Name\" AS \"returning\"", nil},
	{"UPDATE \"Odd \"\"One\" SET \"where\" = 5 WHERE \"returning\" = 2 RETURNING \"where\" AS where", nil},
	{"UPDATE U&\"\\0075sers\" SET n = 3 WHERE id = 3", nil},
	{"WITH x AS (SELECT 3 AS id) UPDATE users SET n = 50 FROM x WHERE users.id = x.id RETURNING n", nil},
	{"WITH x AS (DELETE FROM other WHERE id = 3 RETURNING id) UPDATE users SET n = 51 FROM x WHERE users.id = x.id", nil},
	{"UPDATE parts SET region = region + 10 WHERE id < 5 RETURNING id, region", nil},
	{"UPDATE parts SET region = o.id + 20 FROM other o WHERE o.id = parts.id", nil},
	{"UPDATE users SET n = 1 WHERE false", nil},
	{"UPDATE users SET id = 1 WHERE id = 2", nil}, // unique violation
	{"UPDATE users SET n = 1 / (id - 3)", nil},    // division by zero
	{"UPDATE users SET nope = 1", nil},
	{"INSERT INTO users (id, email) VALUES ($1, $2)", []any{50, "e50"}},
	{"INSERT INTO users (id, email) VALUES (60, 'e60'), (61, 'e61') RETURNING id, name, doubled", nil},
	{"INSERT INTO users (id) SELECT g FROM generate_series(70, 75) g -- tail", nil},
	{"INSERT INTO users AS u (id) VALUES (80) RETURNING u.id", nil},
	{"INSERT INTO users (id, email) VALUES (1, 'new') ON CONFLICT DO NOTHING", nil},
	{"INSERT INTO users (id, email) VALUES (1, 'new'), (90, 'e90') ON CONFLICT (id) DO NOTHING RETURNING id", nil},
	{"INSERT INTO users (id, email) VALUES (1, 'new'), (91, 'e91') ON CONFLICT (id) DO UPDATE SET email = EXCLUDED.email", nil},
	{"INSERT INTO users AS u (id, email) VALUES (1, 'u7') ON CONFLICT (email) DO UPDATE SET id = 777 WHERE u.n > 1 RETURNING u.id", nil},
	{"INSERT INTO users (id, email) SELECT id, 'up' || id FROM other WHERE id < 4 ON CONFLICT ON CONSTRAINT users_pkey DO UPDATE SET n = users.n + 100, email = EXCLUDED.email WHERE users.n <> 2", nil},
	{"INSERT INTO users (id) VALUES (1)", nil}, // unique violation
	{"INSERT INTO parts VALUES (500, 5, 1), (501, 50, 2) RETURNING *", nil},
	{"INSERT INTO other DEFAULT VALUES", nil},
	{"UPDATE typed SET code = 'abcd' FROM other o WHERE o.id = typed.id", nil}, // too long
	{"UPDATE typed SET code = $1 FROM other o WHERE o.id = typed.id", []any{"abcd"}},
	{"UPDATE typed SET code = $1 FROM other o WHERE o.id = typed.id", []any{"abc"}},
	{"UPDATE typed SET fixed = 'ab' FROM other o WHERE o.id = typed.id RETURNING fixed || '|'", nil},
	{"UPDATE typed SET fixed = $1 FROM other o WHERE o.id = typed.id RETURNING fixed || '|'", []any{"abcdef"}},
	{"UPDATE typed SET amount = '12.34' FROM other o WHERE o.id = typed.id", nil},
	{"UPDATE typed SET amount = '12345' FROM other o WHERE o.id = typed.id", nil}, // overflow
	{"UPDATE typed SET bits = '10' FROM other o WHERE o.id = typed.id", nil},      // wrong length
	{"UPDATE typed SET bits = '101' FROM other o WHERE o.id = typed.id", nil},
	{"UPDATE typed SET dom = 'no' FROM other o WHERE o.id = typed.id", nil},    // check violation
	{"UPDATE typed SET dom = 'abcde' FROM other o WHERE o.id = typed.id", nil}, // too long
	{"UPDATE typed SET dom = $1 FROM other o WHERE o.id = typed.id", []any{"abcde"}},
	{"UPDATE typed SET at = '2020-01-01 10:00:00.7+00' FROM other o WHERE o.id = typed.id RETURNING at", nil},
	{"UPDATE typed SET kinds = '{a,b}' FROM other o WHERE o.id = typed.id RETURNING kinds", nil},
	{"DELETE FROM users WHERE id = $1", []any{3}},
	{"DELETE FROM users AS u WHERE u.id = 3 RETURNING u.*", nil},
	{"DELETE FROM users USING other o WHERE users.id = o.id AND o.id > 5 RETURNING o.name", nil},
	{"DELETE FROM users WHERE id IN (SELECT id FROM other) /* c */", nil},
	{"DELETE FROM ONLY other", nil},
	{"/* lead */ DELETE FROM parts WHERE region > 5;", nil},
}

// result is what a caller sees of a statement, and what the tables hold after it.
type result struct {
	columns []string
	rows    []string
	tag     string
	state   string // SQLSTATE
	tables  string
}

// run executes a statement in a transaction of its own, which is rolled back;
// the last hidden columns are left out, as the driver would leave them out, and
// with them rows that have no others.
func run(t *testing.T, conn *pgx.Conn, sql string, args []any, hidden int) result {
	t.Helper()
	ctx := context.Background()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(ctx)
	var r result
	rows, err := tx.Query(ctx, sql, args...)
	if err == nil {
		for _, f := range rows.FieldDescriptions() {
			r.columns = append(r.columns, fmt.Sprint(f.Name, f.DataTypeOID, f.TypeModifier))
		}
		for rows.Next() {
			values := rows.RawValues()
			if len(values) > hidden {
				r.rows = append(r.rows, fmt.Sprintf("%q", values[:len(values)-hidden]))
			}
		}
		rows.Close()
		err, r.tag = rows.Err(), rows.CommandTag().String()
	}
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		r.columns = nil
		r.state = pgErr.Code + pgErr.Message
		return r
	}
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	r.columns = r.columns[:len(r.columns)-hidden]
	if err := tx.QueryRow(ctx, `SELECT concat((SELECT string_agg(u::text, ' ' ORDER BY id) FROM users u),
		(SELECT string_agg(p::text || tableoid::regclass, ' ' ORDER BY id) FROM parts p),
		(SELECT string_agg(o::text, ' ' ORDER BY id) FROM "Odd ""One" o), (SELECT count(*) FROM other),
		(SELECT string_agg(t::text, ' ' ORDER BY id) FROM typed t))`).Scan(&r.tables); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r result) String() string {
	return fmt.Sprintf("columns %q\nrows %s\ntag %s\nstate %s\n%s", r.columns, strings.Join(r.rows, "\n"), r.tag, r.state, r.tables)
}

// Without it the driver could change what a caller's statement does or returns.
func TestSplicedEqualsOriginal(t *testing.T) {
	conn := connect(t, forms)
	cast := columnTypes(t, conn)
	spliced := 0
	for _, c := range sameCases {
		s := parser.Parse(c.sql)[0]
		want := run(t, conn, c.sql, c.args, 0)
		key := s.Ref() + ".id"
		text, err := s.SpliceReturning(c.sql, []string{key, s.Ref() + ".tableoid"})
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		if got := run(t, conn, text, c.args, 2); got.String() != want.String() {
			t.Errorf("%s\n got: %v\nwant: %v", text, got, want)
		}
		if s.Kind != parser.KindUpdate && (s.Conflict == nil || !s.Conflict.Update) {
			continue
		}
		text, _, err = s.SpliceOldKeys(c.sql, []string{key}, "pg_catalog.json_build_array("+key+")::text", cast(s.Target.Name))
		if err != nil {
			t.Errorf("%s: %v", c.sql, err)
			continue
		}
		spliced++
		if got := run(t, conn, text, c.args, 2); got.String() != want.String() {
			t.Errorf("%s\n got: %v\nwant: %v", text, got, want)
		}
	}
	if spliced < 30 {
		t.Errorf("only %d statements captured old keys", spliced)
	}
}

func connect(t *testing.T, setup string) *pgx.Conn {
	t.Helper()
	dsn, _ := testenv.Schema(t, testenv.Postgres(t))
	return connectTo(t, dsn, setup)
}

func connectTo(t *testing.T, dsn, setup string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	if _, err := conn.Exec(context.Background(), setup); err != nil {
		t.Fatal(err)
	}
	return conn
}

// columnTypes returns a look-up of column types, as the catalogue gives them.
func columnTypes(t *testing.T, conn *pgx.Conn) func(table string) func(string) (string, bool) {
	t.Helper()
	rows, err := conn.Query(context.Background(), `SELECT c.relname || '.' || a.attname, format_type(coalesce(nullif(t.typbasetype, 0), t.oid), -1)
		FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_type t ON t.oid = a.atttypid WHERE c.relnamespace = current_schema()::regnamespace AND a.attnum > 0`)
	if err != nil {
		t.Fatal(err)
	}
	types := make(map[string]string)
	var name, sqlType string
	if _, err := pgx.ForEachRow(rows, []any{&name, &sqlType}, func() error {
		types[name] = sqlType
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return func(table string) func(string) (string, bool) {
		return func(column string) (string, bool) {
			sqlType, ok := types[table+"."+column]
			return sqlType, ok
		}
	}
}

// contended holds rows whose key k is changed by many sessions at once. The
// trigger, which sees the row that is really replaced, keeps the truth.
const contended = `
CREATE TABLE log (stmt text, id int, old_k int, new_k int);
CREATE TABLE acc (id int, k int, n int DEFAULT 0, buddy int) PARTITION BY RANGE (k);
CREATE TABLE acc_low PARTITION OF acc FOR VALUES FROM (MINVALUE) TO (1000);
CREATE TABLE acc_high PARTITION OF acc FOR VALUES FROM (1000) TO (MAXVALUE);
CREATE TABLE flat (id int PRIMARY KEY, k int, n int DEFAULT 0, buddy int);
CREATE TABLE pick (id int, by int);
INSERT INTO acc SELECT g, g, 0, (g % 20) + 1 FROM generate_series(1, 20) g;
INSERT INTO flat SELECT g, g, 0, (g % 20) + 1 FROM generate_series(1, 20) g;
INSERT INTO pick SELECT g, g FROM generate_series(1, 20, 2) g;
CREATE FUNCTION record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO log VALUES (current_setting('test.stmt'), OLD.id, OLD.k, NEW.k); RETURN NEW; END $$;
CREATE TRIGGER record BEFORE UPDATE ON acc FOR EACH ROW EXECUTE FUNCTION record();
CREATE TRIGGER record BEFORE UPDATE ON flat FOR EACH ROW EXECUTE FUNCTION record();
ANALYZE acc; ANALYZE flat; ANALYZE pick;
`

var contendedWrites = []string{
	"UPDATE %t SET k = k + 1 WHERE id = %i",
	"UPDATE %t SET k = CASE WHEN k > 1000 THEN k - 1000 ELSE k + 1000 END WHERE id IN (%i, %j)",
	"UPDATE %t AS a SET k = b.k FROM %t AS b WHERE a.buddy = b.id AND a.id IN (%i, %j)",        // chain by self-join
	"UPDATE %t AS a SET k = b.k FROM %t AS b WHERE (a.id, b.id) IN ((%i, %j), (%j, %i))",       // swap
	"UPDATE %t SET k = k + p.by FROM pick p WHERE p.id = %t.id AND p.id > %i",                  // join
	"UPDATE %t SET k = k + 7, n = n + 1 WHERE id IN (SELECT id FROM pick WHERE by < %i)",       // semi-join
	"UPDATE %t SET k = k - 3 WHERE EXISTS (SELECT FROM pick p WHERE p.id = %t.id) AND id > %i", // semi-join
	"UPDATE %t SET k = k + 5 WHERE NOT EXISTS (SELECT FROM pick p WHERE p.id = %t.id) AND id < %i",
	"UPDATE %t SET k = 12 FROM pick p WHERE p.id = %t.id AND %t.id = %i",
	"UPDATE %t SET k = (SELECT max(by) FROM pick) + k FROM pick p WHERE p.id = %t.id AND p.by > %i",
	"INSERT INTO flat (id, k) VALUES (%i, 3), (%j, 4) ON CONFLICT (id) DO UPDATE SET k = EXCLUDED.k + flat.k",
	"INSERT INTO flat (id, k) SELECT id, by FROM pick WHERE id <> %i ON CONFLICT (id) DO UPDATE SET k = flat.k + 1 WHERE flat.n >= 0",
	"DELETE FROM flat WHERE id = %i AND k % 5 = 0",
}

// plans are settings under which the planner takes other joins and scans.
var plans = []string{
	"SET enable_nestloop = off; SET enable_mergejoin = off",
	"SET enable_hashjoin = off; SET enable_nestloop = off",
	"SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off",
	"SET enable_material = off; SET enable_bitmapscan = off",
}

// Without it an UPDATE of a key could leave the old key's entry in the cache:
// the captured old value must be the one that the row had when it was replaced,
// also after waiting for another session.
func TestOldKeysUnderContention(t *testing.T) {
	dsn, _ := testenv.Schema(t, testenv.Postgres(t))
	main := connectTo(t, dsn, contended)
	const writers, each = 4, 40
	captured := make([]map[string][]string, writers)
	var group sync.WaitGroup
	for w := range writers {
		conn := connectTo(t, dsn, "SET deadlock_timeout = '20ms'; "+plans[w%len(plans)])
		captured[w] = make(map[string][]string)
		group.Go(func() {
			for i := range each {
				if err := contend(conn, w, i, captured[w]); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	group.Wait()
	checked := 0
	for _, statements := range captured {
		for stmt, got := range statements {
			rows, err := main.Query(context.Background(), "SELECT format('%s: %s -> %s', id, old_k, new_k) FROM log WHERE stmt = $1", stmt)
			if err != nil {
				t.Fatal(err)
			}
			want, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("statement %s captured\n%q, the trigger saw\n%q", stmt, got, want)
			}
			checked += len(want)
		}
	}
	if checked < writers*each/2 {
		t.Errorf("only %d changed rows were compared", checked)
	}
}

// contend runs one spliced write and keeps what it captured if it committed.
func contend(conn *pgx.Conn, writer, i int, captured map[string][]string) error {
	ctx := context.Background()
	table := [...]string{"acc", "flat"}[(i/len(contendedWrites)+writer)%2]
	sql := strings.NewReplacer("%t", table, "%i", fmt.Sprint((i*7+writer)%20+1), "%j", fmt.Sprint((i*3+writer*5)%20+1)).
		Replace(contendedWrites[(i+writer*5)%len(contendedWrites)])
	s := parser.Parse(sql)[0]
	ref := s.Ref()
	exprs := []string{ref + ".id", ref + ".k"}
	text, _, err := s.SpliceOldKeys(sql, exprs, ref+".k::text", func(string) (string, bool) { return "int4", true })
	if s.Kind == parser.KindDelete {
		_, err := conn.Exec(ctx, sql)
		return ignoreConflict(err)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", sql, err)
	}
	stmt := fmt.Sprintf("%d/%d", writer, i)
	var got []string
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('test.stmt', $1, true)", stmt); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, text)
		if err != nil {
			return err
		}
		var id, k int
		var old *string
		_, err = pgx.ForEachRow(rows, []any{&id, &k, &old}, func() error {
			if s.Kind == parser.KindInsert && (old == nil || *old == "") { // this row was new
				return nil
			}
			got = append(got, fmt.Sprintf("%d: %s -> %d", id, *old, k))
			return nil
		})
		return err
	})
	if err == nil {
		captured[stmt] = got
	}
	return ignoreConflict(err)
}

// ignoreConflict passes over what concurrent sessions must expect: deadlocks,
// rows that moved to another partition, upserts that meet one row twice.
func ignoreConflict(err error) error {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		switch pgErr.Code {
		case "40P01", "40001", "21000":
			return nil
		}
	}
	return err
}
