package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
)

// twins are two schemas that are alike, one behind the driver and one behind plain pgx.
type twins struct{ ours, plain *world }

func newTwins(t *testing.T, f *family, options ...func(*pgx.ConnConfig)) twins {
	t.Helper()
	p := twins{ours: newWorld(t, f, options...), plain: newTwin(t, f)}
	p.plain.db = stdlib.OpenDB(*p.plain.config(t, options...))
	t.Cleanup(func() { _ = p.plain.db.Close() })
	return p
}

// observation is all that a caller can see of a call.
type observation struct {
	columns  []string
	types    []string
	rows     []string
	affected string
	err      string
	inTx     string // an error of the transaction's end
	session  string // what is left behind in it
	tables   string // what is stored in the end
}

// compare runs a form on both twins and holds what their callers see against each other.
func (p twins) compare(t *testing.T, f *form, in around) {
	t.Helper()
	want, got := p.plain.observe(t, f, in), p.ours.observe(t, f, in)
	if f.random || strings.HasPrefix(f.sql, "EXPLAIN") { // its times
		want.rows, got.rows, want.tables, got.tables = nil, nil, "", ""
	}
	if !reflect.DeepEqual(want, got) {
		t.Errorf("%s\nthrough pgx:\n%s\nthrough wtcache:\n%s", f.sql, want.differing(got), got.differing(want))
	}
}

// differing prints the fields that differ from o's.
func (s observation) differing(o observation) string {
	var b strings.Builder
	v, w := reflect.ValueOf(s), reflect.ValueOf(o)
	for i := range v.NumField() {
		if mine, theirs := fmt.Sprintf("%q", v.Field(i)), fmt.Sprintf("%q", w.Field(i)); mine != theirs {
			fmt.Fprintf(&b, "\t%s: %s\n", v.Type().Field(i).Name, mine)
		}
	}
	return b.String()
}

func (w *world) observe(t *testing.T, f *form, in around) (o observation) {
	t.Helper()
	ctx := t.Context()
	w.execPlain(t, w.seed)
	conn, err := w.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer putBack(conn, f)
	w.execAll(t, conn, f.session)
	w.execAll(t, conn, f.first)
	if in == auto {
		w.look(ctx, conn, f, &o)
		o.session, o.tables = w.trace(t, conn), w.contents(t)
		return o
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.execAll(t, tx, f.inTx)
	w.look(ctx, tx, f, &o)
	if in == committed {
		o.inTx = w.describe(tx.Commit())
	} else {
		o.inTx = w.describe(tx.Rollback())
	}
	o.session, o.tables = w.trace(t, conn), w.contents(t)
	return o
}

const contentsSQL = `SELECT coalesce(string_agg(relname || query_to_xml(format('SELECT x::text AS row FROM ONLY %I.%I x ORDER BY 1', nspname, relname), true, false, '')::text, '' ORDER BY relname), '')
	FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = $1 AND relkind = 'r'`

// drawn are the values that no two runs have in common: now() (whose fraction loses its last zeros), md5(random()) and random UUIDs.
var drawn = regexp.MustCompile(`20[2-9]\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d\.\d+|\b[0-9a-f]{32}\b|[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`)

// contents gives all rows of the schema.
func (w *world) contents(t *testing.T) string {
	t.Helper()
	var text string
	if err := w.plain.QueryRow(t.Context(), contentsSQL, w.schema).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return w.neutral(drawn.ReplaceAllString(text, "DRAWN"))
}

// look calls the form and notes what comes back.
func (w *world) look(ctx context.Context, on runner, f *form, o *observation) {
	text := w.expand(f.sql)
	var err error
	switch f.how {
	case byExec, byPrepExec:
		err = w.lookResult(ctx, on, f, text, o)
	case byQueryRow:
		var v any
		err = on.QueryRowContext(ctx, text, f.args...).Scan(&v)
		o.rows = []string{w.neutral(fmt.Sprintf("%T %v", v, v))}
	default:
		err = w.lookRows(ctx, on, f, text, o)
	}
	o.err = w.describe(err)
}

func (w *world) lookResult(ctx context.Context, on runner, f *form, text string, o *observation) error {
	var res sql.Result
	var err error
	if f.how == byPrepExec {
		stmt, perr := on.PrepareContext(ctx, text)
		if perr != nil {
			return perr
		}
		defer func() { _ = stmt.Close() }() // nothing is left to fail
		res, err = stmt.ExecContext(ctx, f.args...)
	} else {
		res, err = on.ExecContext(ctx, text, f.args...)
	}
	if err != nil {
		return err
	}
	n, nerr := res.RowsAffected()
	_, ierr := res.LastInsertId()
	o.affected = fmt.Sprint(n, nerr, ierr)
	return nil
}

func (w *world) lookRows(ctx context.Context, on runner, f *form, text string, o *observation) error {
	var rows *sql.Rows
	var err error
	if f.how == byPrepQuery {
		stmt, perr := on.PrepareContext(ctx, text)
		if perr != nil {
			return perr
		}
		defer func() { _ = stmt.Close() }() // nothing is left to fail
		rows, err = stmt.QueryContext(ctx, f.args...)
	} else {
		rows, err = on.QueryContext(ctx, text, f.args...)
	}
	if err != nil {
		return err
	}
	if err := w.lookTypes(rows, o); err != nil {
		return err
	}
	limit := map[how]int{byOneRow: 1, byNoRow: 0}
	for n := 0; ; n++ {
		if most, limited := limit[f.how]; limited && n == most || !rows.Next() {
			break
		}
		cells := make([]any, len(o.columns))
		dest := make([]any, len(cells))
		for i := range cells {
			dest[i] = &cells[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return err
		}
		o.rows = append(o.rows, w.neutral(fmt.Sprintf("%#v", cells)))
	}
	return errors.Join(rows.Close(), rows.Err())
}

func (w *world) lookTypes(rows *sql.Rows, o *observation) error {
	types, err := rows.ColumnTypes()
	if err != nil {
		return err
	}
	if o.columns, err = rows.Columns(); err != nil {
		return err
	}
	for _, c := range types {
		length, hasLength := c.Length()
		nullable, hasNullable := c.Nullable()
		precision, scale, hasSize := c.DecimalSize()
		o.types = append(o.types, w.neutral(fmt.Sprint(c.Name(), c.DatabaseTypeName(), c.ScanType(), length, hasLength, nullable, hasNullable, precision, scale, hasSize)))
	}
	return nil
}

// describe tells an error with all that the server says of it.
func (w *world) describe(err error) string {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		return w.neutral(fmt.Sprintf("%v", err))
	}
	return w.neutral(fmt.Sprintf("%v | %s %s %q detail %q hint %q at %d in %q at %d, where %q, %s.%s.%s %s %s", err,
		pg.Severity, pg.Code, pg.Message, pg.Detail, pg.Hint, pg.Position, pg.InternalQuery, pg.InternalPosition, pg.Where,
		pg.SchemaName, pg.TableName, pg.ColumnName, pg.DataTypeName, pg.ConstraintName))
}

// neutral takes out what differs between the twins by nature.
func (w *world) neutral(text string) string {
	return strings.NewReplacer(w.role, "ROLE", w.schema, "SCHEMA").Replace(text)
}

// traceSQL looks at all that a session can keep. An UPDATE of a key column does leave one
// trace that is known and not looked at: current_setting('wtcache.old', true) is the
// empty string afterwards where it was NULL before; pg_settings does not show it. Nor are the
// predicate locks of SERIALIZABLE: they stay until the serializable transactions of other
// tests that ran meanwhile are over.
const traceSQL = `SELECT json_build_object(
	'prepared', (SELECT json_agg(from_sql::text || parameter_types::text ORDER BY parameter_types::text) FROM pg_prepared_statements),
	'settings', (SELECT json_agg(name || '=' || setting ORDER BY name) FROM pg_settings WHERE setting IS DISTINCT FROM reset_val AND name NOT LIKE 'transaction_%'),
	'temporary', (SELECT json_agg(relname ORDER BY relname) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
	'cursors', (SELECT json_agg(name ORDER BY name) FROM pg_cursors WHERE name <> ''),
	'locks', (SELECT json_agg(locktype || mode || coalesce(relation::regclass::text, '') ORDER BY 1) FROM pg_locks
		WHERE pid = pg_backend_pid() AND locktype <> 'virtualxid' AND mode <> 'SIReadLock' AND coalesce(relation::int8, 16384) >= 16384),
	'channels', (SELECT json_agg(c) FROM pg_listening_channels() c))::text`

func (w *world) trace(t *testing.T, conn *sql.Conn) string {
	t.Helper()
	var text string
	err := conn.Raw(func(driverConn any) error {
		c, ok := wtcache.PgxConn(driverConn)
		if !ok {
			return errors.New("no pgx connection below")
		}
		if err := c.QueryRow(t.Context(), traceSQL, pgx.QueryExecModeExec).Scan(&text); err != nil {
			return err
		}
		text += string(c.PgConn().TxStatus())
		return c.DeallocateAll(t.Context()) // else one difference would show in every form that follows
	})
	if err != nil {
		t.Fatal(err)
	}
	return w.neutral(text)
}

// comparable says whether both sides are meant to do the same.
func (f *form) comparable(in around) bool {
	switch {
	case strings.Contains(f.fails, "GRANT"): // the driver's own refusal
		return false
	case f.fresh && in == auto: // two schemas a run; inside a transaction there is more that can differ
		return false
	case in == auto:
		return len(f.inTx) == 0 && (f.ways == nil || slices.Contains(f.ways, auto))
	}
	return len(f.first) == 0 && (f.ways == nil || slices.Contains(f.ways, committed))
}
