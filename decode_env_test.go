package wtcache_test

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
	"github.com/wtcache/wtcache/rules"
)

// rowTable is a table with one column a case: row 1 has the values, row 2 is all NULL.
type rowTable struct {
	t      *testing.T
	db     *sql.DB // in UTC; what it scans is what is wanted
	reader *sql.DB // what payloads are read by
	schema string
	decode func(payload []byte, dest any) error
	set    *rules.Set
}

// rowTypesDDL are the types that are not the server's own. hstore is part of every Postgres' contrib package.
const rowTypesDDL = `CREATE TYPE mood AS ENUM ('sad', 'happy');
	CREATE DOMAIN positive AS int CHECK (VALUE > 0);
	CREATE TYPE address AS (city text, moved timestamp, lots numeric);
	CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public`

func newRowTable(t *testing.T, settings string, columns []rowColumn) *rowTable {
	t.Helper()
	r := &rowTable{t: t}
	var dsn string
	dsn, r.schema = testenv.Schema(t, testenv.Postgres(t))
	r.db = openPlain(t, dsn)
	r.reader = openPlain(t, dsn)
	for db, text := range map[*sql.DB]string{r.db: "SET TimeZone = 'UTC'", r.reader: settings} {
		db.SetMaxOpenConns(1) // so that settings hold
		if _, err := db.Exec(text); err != nil {
			t.Fatal(err)
		}
	}
	r.exec(rowTypesDDL)
	ddl, values := "CREATE TABLE samples (id int PRIMARY KEY", "INSERT INTO samples VALUES (1"
	for i, c := range columns {
		ddl += fmt.Sprintf(", c%d %s", i, c.sqlType)
		values += ", " + c.value
	}
	r.exec(ddl + ")")
	r.exec(values + "); INSERT INTO samples (id) VALUES (2)")
	r.bind()
	return r
}

func (r *rowTable) exec(text string) {
	r.t.Helper()
	if _, err := r.db.Exec(text); err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
}

// bind makes the rule of the table and the decoder of its entry.
func (r *rowTable) bind() {
	r.t.Helper()
	loaded, err := rules.Load(fstest.MapFS{"samples.yaml": {Data: []byte("table: " + r.schema + ".samples\nkey: \"sample:{id}\"\n")}})
	if err != nil {
		r.t.Fatal(err)
	}
	catalog, err := rules.LoadCatalog(r.t.Context(), r.query, loaded)
	if err != nil {
		r.t.Fatal(err)
	}
	set, faults, _ := rules.Bind(loaded, catalog)
	if len(faults) > 0 {
		r.t.Fatal(faults)
	}
	r.set = set
	types := map[string]string{}
	cells, err := r.query(r.t.Context(), `SELECT a.attname::text, coalesce(b.typname, t.typname)::text FROM pg_attribute a
		JOIN pg_type t ON t.oid = a.atttypid LEFT JOIN pg_type b ON b.oid = t.typbasetype AND t.typtype = 'd'
		WHERE a.attrelid = 'samples'::regclass AND a.attnum > 0`)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, c := range cells {
		types[*c[0]] = *c[1]
	}
	r.decode = wtcache.NewDecoder(types)
}

func (r *rowTable) query(ctx context.Context, text string) ([][]*string, error) {
	rows, err := r.db.QueryContext(ctx, text)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // read to the end below
	columns, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	var out [][]*string
	for rows.Next() {
		cells, into := make([]*string, len(columns)), make([]any, len(columns))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		out = append(out, cells)
	}
	return out, rows.Err()
}

// payload is what a reader gets of a row.
func (r *rowTable) payload(id string) []byte {
	r.t.Helper()
	var key, payload, storable, standby string
	if err := r.reader.QueryRow(r.set.Tables[0].Read(0), id).Scan(&key, &payload, &storable, &standby); err != nil {
		r.t.Fatal(err)
	}
	return []byte(payload)
}

// decoded reads column i of a payload into a field of type t.
func (r *rowTable) decoded(payload []byte, i int, t reflect.Type) (any, error) {
	row := reflect.New(fieldStruct(i, t))
	err := r.decode(payload, row.Interface())
	return row.Elem().Field(0).Interface(), err
}

// fieldStruct is a struct with one field, for column i.
func fieldStruct(i int, t reflect.Type) reflect.Type {
	return reflect.StructOf([]reflect.StructField{{Name: "Field", Type: t, Tag: reflect.StructTag(fmt.Sprintf(`json:"c%d"`, i))}})
}

// inUTC gives a value with every time in it in UTC: a query gives some in the process' zone.
func inUTC(v any) any {
	rv := reflect.New(reflect.TypeOf(v)).Elem()
	rv.Set(reflect.ValueOf(v))
	moveToUTC(rv)
	return rv.Interface()
}

func moveToUTC(v reflect.Value) {
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(v.Interface().(time.Time).UTC()))
	case v.Kind() == reflect.Interface:
		if at, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(at.UTC()))
		}
	case v.Kind() == reflect.Pointer && !v.IsNil() && v.Elem().CanSet():
		moveToUTC(v.Elem())
	case v.Kind() == reflect.Struct && !strings.Contains(v.Type().PkgPath(), "math"):
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				moveToUTC(v.Field(i))
			}
		}
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			moveToUTC(v.Index(i))
		}
	}
}
