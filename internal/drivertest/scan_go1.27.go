//go:build go1.27

package drivertest

import (
	"database/sql"
	"database/sql/driver"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgtype"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

const scannerFeature = fakedriver.ColumnScanner

func scanner(rows any) bool {
	_, ok := rows.(driver.RowsColumnScanner)
	return ok
}

// destinations are made anew for each scan.
var destinations = []func() any{
	func() any { return new(string) }, func() any { return new([]byte) }, func() any { return new(any) },
	func() any { return new(int) }, func() any { return new(int16) }, func() any { return new(float64) }, func() any { return new(bool) },
	func() any { return new(time.Time) }, func() any { return new(*string) }, func() any { return new(**int64) }, func() any { return new(sql.NullString) },
	func() any { return new(sql.Null[int64]) }, func() any { return new(myString) }, func() any { return new(myInt) }, func() any { return new(shout) },
	func() any { return new([]string) }, func() any { return new([]*string) }, func() any { return new([]int64) }, func() any { return new(pgtype.FlatArray[string]) },
	func() any { return new(pgtype.Array[int64]) }, func() any { return new(pgtype.Range[pgtype.Int8]) }, func() any { return new(map[string]any) },
	func() any { return new(struct{ A []int }) }, func() any { return new([16]byte) }, func() any { return new(pgtype.UUID) }, func() any { return new(pgtype.Numeric) },
	func() any { return new(pgtype.Date) }, func() any { return new(pgtype.Point) }, func() any { return new(pgtype.Interval) }, func() any { return new(pgtype.PreallocBytes) },
	func() any { return new(pgtype.DriverBytes) }, func() any { return new(pgtype.UndecodedBytes) }, func() any { return new(time.Duration) }, func() any { return new(chan int) },
	func() any { return nil }, func() any { return (*string)(nil) }, func() any { return (*[]string)(nil) }, func() any { return "no pointer" },
	func() any { return new(sql.RawBytes) }, // the last: until Next nothing can be scanned after it
}

var scanScenarios = []scenario{
	{name: "base that scans", on: Fake, features: usual | fakedriver.ColumnScanner, run: func(s *side) {
		for _, limit := range []int{everything, 1, 0} {
			s.queries(limit)
		}
		for _, text := range append([]string{readUsers}, returning...) {
			s.queryRow(s.db, text, argsFor(text)...)
		}
	}, shows: []string{"row int64(1) string("}},
	{name: "base that scans several result sets", on: Fake, features: usual | fakedriver.ColumnScanner | fakedriver.NextResultSet, run: func(s *side) {
		s.severalSets(fakedriver.Reply{Columns: fakedriver.Named("a", "b", "c"), Rows: [][]driver.Value{{int64(1), nil, true}}}, rowsOf("last", 2))
	}, shows: []string{"set 2"}},
	{name: "base that scans and fails", on: Fake, features: usual | fakedriver.ColumnScanner, run: func(s *side) {
		for _, text := range append([]string{readUsers}, returning...) {
			r := usualScript[text]
			r.RowsErr = errInjected
			s.base.Script(text, r)
			s.rowsThatFail(text)
		}
	}, shows: []string{"is injected"}},
	{name: "destinations that only the base knows", on: Fake, features: usual | fakedriver.ColumnScanner, run: func(s *side) {
		tx := s.begin(s.ctx, nil)
		for _, text := range []string{readUsers, returnOne, returnAll, returnLogs} {
			var id int64
			var name fakedriver.Tagged
			err := tx.QueryRowContext(s.ctx, text, argsFor(text)...).Scan(&id, &name)
			s.note("%s: %s, %d %v", text, s.describe(err), id, name)
		}
		s.note("rollback: %s", s.describe(tx.Rollback()))
	}, shows: []string{"ok, 1 {text 1}"}},
	{name: "destinations of every kind", on: Server, run: func(s *side) {
		for _, v := range scanned {
			for _, text := range []string{
				"SELECT 1, %s AS v",
				"UPDATE users SET name = 'x' WHERE id = 2 RETURNING id, %s AS v",
				"UPDATE users SET name = 'x' WHERE id > 2 RETURNING id, %s AS v",
			} {
				s.scanAll(fmt.Sprintf(text, v))
			}
		}
	}, shows: []string{"into *[]string: ok []string{\"a\", \"b\"}", "pgtype.Range[github.com/jackc/pgx/v5/pgtype.Int8]: ok"}},
}

// scanned are values of every type of which pgx makes something of its own.
var scanned = []string{
	"'text'::text", "NULL::text", "'{a,b}'::text[]", "NULL::text[]", "'{1,2}'::int8[]", "'{1,NULL}'::int4[]", "'[1,5)'::int8range", `'{"a": [1, 2]}'::jsonb`, `'{"a": [1]}'::json`,
	"'6ba7b810-9dad-11d1-80b4-00c04fd430c8'::uuid", "12.50::numeric", "7::int2", "7::int4", "7::int8", "NULL::int8", "1.5::float4", "1.5::float8", "true", "'\\x0001ff'::bytea", "NULL::bytea",
	"'2024-02-29'::date", "'infinity'::date", "'2024-02-29 12:00:00.123456'::timestamp", "'2024-02-29 12:00:00.123456Z'::timestamptz", "'-infinity'::timestamptz",
	"'1 day 02:03:04'::interval", "'(1,2)'::point", "77::oid", "'<a/>'::xml", "ROW(1, 'x')", "'abc'::varchar(5)", "'a'::\"char\"", "'users'::regclass", "'10.0.0.1/8'::inet",
	"'{{1,2},{3,4}}'::int8[]", "'{2024-01-01}'::date[]",
}

func (s *side) scanAll(text string) {
	for _, on := range []func() (runner, func() error){
		func() (runner, func() error) { return s.db, func() error { return nil } },
		func() (runner, func() error) { tx := s.begin(s.ctx, nil); return tx, tx.Rollback },
	} {
		r, end := on()
		rows, err := r.QueryContext(s.ctx, text)
		if err != nil {
			s.note("%s: %s", text, s.describe(err))
			s.note("end: %s", s.describe(end()))
			continue
		}
		for rows.Next() {
			for _, dest := range destinations {
				d := dest()
				if !settled(d, text) {
					continue
				}
				err := rows.Scan(new(int64), d)
				note := fmt.Sprintf("%s into %T: %s %s", text, d, s.describe(err), shown(d))
				// A value that was kept may be scanned from the other of its two forms, which an error tells.
				s.note("%s", strings.ReplaceAll(note, "in text format", "in binary format"))
			}
		}
		s.note("%s: %s, end %s", text, s.describe(rows.Close()), s.describe(end()))
	}
}

// settled says that both sides have to do the same. For a NULL and a destination that its type is not made for, pgx tries
// all types that it knows, in the random order of a map. And a destination for a value's very bytes shows which of its two
// forms it came in, which a value that was kept no longer tells.
func settled(d any, text string) bool {
	switch d.(type) {
	case *pgtype.PreallocBytes, *pgtype.DriverBytes:
		return strings.Contains(text, "'::text AS") || strings.Contains(text, "'::bytea")
	}
	if !strings.Contains(text, "NULL::") {
		return true
	}
	switch d.(type) {
	case *[]string, *[]*string, *pgtype.FlatArray[string]:
		return strings.Contains(text, "NULL::text[]")
	case *[]int64, *pgtype.Array[int64], *pgtype.Range[pgtype.Int8], *map[string]any, *struct{ A []int }, *[16]byte, *chan int:
		return false
	}
	return true
}

// shown follows pointers, since addresses differ.
func shown(d any) string {
	switch d := d.(type) {
	case nil:
		return "nil"
	case *[]*string:
		if d != nil {
			return fmt.Sprint(len(*d), each(*d))
		}
	case *pgtype.Numeric:
		text, err := d.Value()
		return fmt.Sprint(text, err)
	}
	v := reflect.ValueOf(d)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() == reflect.Interface && v.IsNil() {
		return "nil inside"
	}
	return fmt.Sprintf("%#v", v.Interface())
}

func each(texts []*string) (shown []string) {
	for _, p := range texts {
		if p == nil {
			shown = append(shown, "nil")
		} else {
			shown = append(shown, *p)
		}
	}
	return shown
}
