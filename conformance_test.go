package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/drivertest"
	"github.com/wtcache/wtcache/internal/fakedriver"
	"github.com/wtcache/wtcache/internal/testenv"
)

// The conformance suite over each base. When it fails, a program that was moved from the base to wtcache can tell.

func TestConformanceOfFakes(t *testing.T) {
	drivertest.Exercise(t, drivertest.Target{
		Kind: drivertest.Fake, Open: openFake, Wrap: wrapScripted, Register: registerScripted, Refused: wtcache.ErrBaseDriver,
	})
}

func TestConformanceOfSqlmock(t *testing.T) {
	drivertest.Exercise(t, drivertest.Target{Kind: drivertest.Mock, Open: openSqlmock, Wrap: wrapScripted, Refused: wtcache.ErrBaseDriver})
}

var execModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
}

func TestConformanceOfPgx(t *testing.T) {
	for _, mode := range execModes {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			drivertest.Exercise(t, drivertest.Target{Kind: drivertest.Server, Open: openServer(mode), Wrap: wrapServer, Refused: wtcache.ErrBaseDriver})
		})
	}
}

// wrapScripted opens a base that answers the catalogue's questions from the recording.
func wrapScripted(t *testing.T, b drivertest.Base) (*sql.DB, error) {
	return wtcache.OpenDB(b.Connector, conformanceConfig(t, mockSchema+".users"))
}

func registerScripted(t *testing.T, name string, base driver.Driver) {
	wtcache.Register(name, base, conformanceConfig(t, mockSchema+".users"))
}

func conformanceConfig(t *testing.T, table string) wtcache.Config {
	prefix := testenv.KeyPrefix(t)
	rules := fstest.MapFS{"users.yaml": {Data: []byte("table: " + table + "\nkey: \"" + prefix + "user:{id}\"\n")}}
	if table == mockSchema+".users" {
		rules = mockRules(prefix)
	}
	return wtcache.Config{
		Redis: redisClient(t, testenv.Redis(t)), Rules: rules, RedisTimeout: 10 * time.Second, FenceLife: 2 * time.Minute,
		Logger: slog.New(slog.DiscardHandler), Outbox: wtcache.OutboxOff,
	}
}

// dressing is what the driver adds to a text: the base's answer has the captured columns, too.
type dressing struct{ catalog *recordedCatalog }

// undress gives the caller's own text.
func (d dressing) undress(text string) (own string, dressed bool) {
	text = shown(text)
	for _, added := range []string{", <captured>", " RETURNING <captured>"} {
		if own, dressed = strings.CutSuffix(text, added); dressed {
			return own, true
		}
	}
	return text, false
}

// dress adds the captured columns to what the base answers to the caller's text.
func (d dressing) dress(own string, r fakedriver.Reply) fakedriver.Reply {
	if r.Rows == nil && !strings.Contains(own, "RETURNING") {
		r.Rows = make([][]driver.Value, r.Affected)
	}
	names := []string{"version", "tableoid", "id", "payload"}
	if strings.HasPrefix(own, "DELETE") {
		names = names[:3]
	}
	r.Columns = append(r.Columns[:len(r.Columns):len(r.Columns)], fakedriver.Named(names...)...)
	rows := make([][]driver.Value, len(r.Rows))
	for i, row := range r.Rows {
		cells := []driver.Value{"000000010/1000", d.catalog.oid("users"), fmt.Sprint(i + 1), `{"id":1}`}
		rows[i] = append(row[:len(row):len(row)], cells[:len(names)]...)
	}
	r.Rows = rows
	return r
}

func openFake(t *testing.T, features fakedriver.Feature) drivertest.Base {
	d := dressing{loadCatalog(t)}
	replies := map[string]fakedriver.Reply{}
	on := func(fakedriver.Call) (fakedriver.Reply, bool) { return fakedriver.Reply{}, false }
	fake := &fakedriver.Base{Features: features, Converter: drivertest.Converter{}}
	fake.Answer = func(c fakedriver.Call) fakedriver.Reply {
		if r, ok := d.catalog.reply(c.SQL); ok {
			if c.Op == fakedriver.Query && !c.Prepared {
				if skip, skips := on(fakedriver.Call{Op: c.Op}); skips {
					return skip
				}
			}
			return r
		}
		own, dressed := d.undress(c.SQL)
		c.SQL = own
		r, ok := on(c)
		if !ok {
			r = replies[own]
		}
		if dressed && r.Err == nil {
			r = d.dress(own, r)
		}
		return r
	}
	return drivertest.Base{
		Connector: fake, Fake: fake, On: &on,
		Script: func(text string, r fakedriver.Reply) { replies[text] = r },
	}
}

func (c *recordedCatalog) reply(sql string) (fakedriver.Reply, bool) {
	for _, a := range c.Answers {
		if a.SQL == sql {
			r := fakedriver.Reply{Columns: fakedriver.Named(a.Columns...)}
			for _, row := range a.Rows {
				cells := make([]driver.Value, len(row))
				for i, cell := range row {
					if cell != nil {
						cells[i] = *cell
					}
				}
				r.Rows = append(r.Rows, cells)
			}
			return r, true
		}
	}
	return fakedriver.Reply{}, false
}

// enough is more often than any scenario makes a call.
const enough = 150

// openSqlmock gives sqlmock's own connection, which is shared and is its own transaction.
func openSqlmock(t *testing.T, _ fakedriver.Feature) drivertest.Base {
	d := dressing{loadCatalog(t)}
	const marked = " (captured)"
	var latest, latestOwn string
	errOther := errors.New("another text")
	dsn := testenv.KeyPrefix(t)
	plain, mock, err := sqlmock.NewWithDSN(dsn, sqlmock.QueryMatcherOption(sqlmock.QueryMatcherFunc(func(want, got string) error {
		if latest != got { // it is held against every expectation
			own, dressed := d.undress(got)
			if latest, latestOwn = got, own; dressed {
				latestOwn += marked
			}
		}
		if latestOwn != want {
			return errOther
		}
		return nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mock.ExpectClose(); _ = plain.Close() })
	mock.MatchExpectationsInOrder(false)
	for range enough {
		mock.ExpectBegin()
		mock.ExpectCommit()
		mock.ExpectRollback()
	}
	expect := func(text string, r fakedriver.Reply) {
		for range enough {
			mock.ExpectExec(text).WillReturnResult(driver.RowsAffected(r.Affected))
			mock.ExpectPrepare(text)
			mock.ExpectQuery(text).WillReturnRows(mockedRows(r))
		}
	}
	for _, a := range d.catalog.Answers {
		r, _ := d.catalog.reply(a.SQL)
		expect(a.SQL, r)
	}
	return drivertest.Base{
		Connector: dsnConnector{plain.Driver(), dsn},
		Script: func(text string, r fakedriver.Reply) {
			expect(text, r)
			expect(text+marked, d.dress(text, r))
		},
	}
}

func mockedRows(r fakedriver.Reply) *sqlmock.Rows {
	columns := make([]*sqlmock.Column, len(r.Columns))
	for i, c := range r.Columns {
		var example any = ""
		if c.Type == "INT8" {
			example = int64(0)
		}
		columns[i] = sqlmock.NewColumn(c.Name).OfType(c.Type, example).Nullable(c.Nullable).WithLength(c.Length).WithPrecisionAndScale(c.Precision, c.Scale)
	}
	rows := sqlmock.NewRowsWithColumnDefinition(columns...)
	for _, row := range r.Rows {
		rows.AddRow(row...)
	}
	return rows
}

// openServer gives a schema of its own on the server.
func openServer(mode pgx.QueryExecMode) func(*testing.T, fakedriver.Feature) drivertest.Base {
	return func(t *testing.T, _ fakedriver.Feature) drivertest.Base {
		dsn, schema := testenv.Schema(t, testenv.Postgres(t))
		plain := openPlain(t, dsn)
		if _, err := plain.Exec(drivertest.Tables + ";" + drivertest.Rows); err != nil {
			t.Fatal(err)
		}
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultQueryExecMode = mode
		cfg.RuntimeParams["jit"] = "off"
		return drivertest.Base{
			Connector: schemaConnector{stdlib.GetConnector(*cfg), schema},
			Plain:     func() *sql.DB { return plain },
		}
	}
}

// schemaConnector knows in which schema its tables are.
type schemaConnector struct {
	driver.Connector
	schema string
}

func wrapServer(t *testing.T, b drivertest.Base) (*sql.DB, error) {
	c := b.Connector.(schemaConnector)
	return wtcache.OpenDB(c.Connector, conformanceConfig(t, c.schema+".users"))
}

type dsnConnector struct {
	driver driver.Driver
	dsn    string
}

func (c dsnConnector) Connect(context.Context) (driver.Conn, error) { return c.driver.Open(c.dsn) }
func (c dsnConnector) Driver() driver.Driver                        { return c.driver }
