package drivertest

import (
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

// shout is a custom type.
type shout string

func (s shout) Value() (driver.Value, error) { return string(s) + "!", nil }

type badValuer struct{}

func (badValuer) Value() (driver.Value, error) { return nil, errInjected }

type pointerValuer struct{ text string }

func (p *pointerValuer) Value() (driver.Value, error) {
	if p == nil {
		return nil, nil
	}
	return p.text, nil
}

type (
	myString string
	myInt    int
)

// values are arguments of every kind that callers use, and some that no driver takes.
var values = []any{
	nil, "text", int(1), int8(2), uint64(1) << 63, int64(4), float32(1.5), 2.5, true, []byte("bytes"), []byte(nil), json.RawMessage(`{"a":1}`),
	time.Date(2024, 2, 29, 1, 2, 3, 456789000, time.UTC), shout("hey"), badValuer{}, (*pointerValuer)(nil), &pointerValuer{"p"},
	myString("mine"), myInt(3), ptr("pointed"), (*string)(nil), ptr(ptr("twice")), sql.NullString{}, sql.NullString{String: "s", Valid: true}, sql.NullInt64{Int64: 5, Valid: true},
	sql.Null[string]{V: "g", Valid: true}, []string{"a", "b"}, []int64{1, 2}, map[string]int{"a": 1}, struct{ A int }{1}, make(chan int), func() {}, complex(1, 2),
	sql.Named("n", "named"), sql.Named("", "unnamed"), sql.Out{Dest: new(string)}, "zero\x00byte",
}

func ptr[T any](v T) *T { return &v }

var valueScenarios = []scenario{
	{name: "arguments of every kind", run: func(s *side) { s.arguments() }, shows: []string{"drivertest.badValuer"}},
	{name: "arguments of every kind, base without a checker", on: Fake, features: usual &^ fakedriver.NamedValueChecker, run: func(s *side) {
		s.watch()
		s.arguments()
	}, shows: []string{"unsupported type", `string(hey!)`}},
	{name: "checker that passes everything on", on: Fake, run: func(s *side) {
		s.watch()
		s.arguments()
	}, shows: []string{"drivertest.shout(hey)"}},
	{name: "checker that converts, skips, removes and refuses", on: Fake, run: func(s *side) {
		s.checking(fakedriver.Check)
		s.arguments()
		s.removed()
	}, shows: []string{"string(checked)", "is injected", "removed"}},
	{name: "statement's own checker", on: Fake, features: usual | fakedriver.StmtNamedValueChecker, run: func(s *side) {
		s.checking(fakedriver.CheckStmt)
		s.arguments()
		s.removed()
	}},
	{name: "statement's column converter", on: Fake, features: usual&^fakedriver.NamedValueChecker | fakedriver.ColumnConverter, run: func(s *side) {
		s.watch()
		s.arguments()
	}, shows: []string{"converted"}},
	{name: "column converter behind a checker that skips", on: Fake, features: usual | fakedriver.ColumnConverter, run: func(s *side) {
		s.checking(fakedriver.Check)
		s.arguments()
	}, shows: []string{"converted", "checked"}},
	{name: "column converter behind a statement's checker", on: Fake, features: usual | fakedriver.ColumnConverter | fakedriver.StmtNamedValueChecker, run: func(s *side) {
		s.checking(fakedriver.CheckStmt)
		s.arguments()
	}},
}

// Converter is what a fake base's ColumnConverter does.
type Converter struct{}

// ConvertValue marks what it has seen; it refuses floats.
func (Converter) ConvertValue(v any) (driver.Value, error) {
	if _, ok := v.(float64); ok {
		return nil, errors.New("no floats")
	}
	return fmt.Sprintf("converted %T", v), nil
}

func (s *side) arguments() {
	for _, v := range values {
		for _, text := range []string{writeOne, writeAll, writeLog} {
			s.tryArgument(text, v)
		}
		rows, err := s.db.QueryContext(s.ctx, returnOne, v, 1)
		s.noteRows(fmt.Sprintf("query with %T", v), everything, rows, err)
	}
}

func (s *side) tryArgument(text string, v any) {
	what := fmt.Sprintf("%s with %T", text, v)
	res, err := s.db.ExecContext(s.ctx, text, v, 1)
	s.noteResult(what, res, err)
	stmt, err := s.db.PrepareContext(s.ctx, text)
	if err != nil {
		s.note("prepare: %s", s.describe(err))
		return
	}
	res, err = stmt.ExecContext(s.ctx, v, 1)
	s.noteResult("prepared "+what, res, err)
	s.note("close: %s", s.describe(stmt.Close()))
}

// watch notes the arguments with which the base is asked to carry out a statement.
func (s *side) watch() {
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		s.noteArgs(c)
		return fakedriver.Reply{}, false
	})
}

func (s *side) noteArgs(c fakedriver.Call) {
	if c.Op != fakedriver.Exec && c.Op != fakedriver.Query {
		return
	}
	for _, a := range c.Args {
		text := fmt.Sprintf("%T(%v)", a.Value, a.Value)
		switch v := a.Value.(type) {
		case *string, **string, chan int, func(), sql.Out:
			text = fmt.Sprintf("%T", v) // addresses differ
		case *pointerValuer:
			text = fmt.Sprintf("%T %v", v, v)
		}
		s.note("base got %q $%d = %s, prepared %v", a.Name, a.Ordinal, text, c.Prepared)
	}
}

// checking makes the base's checker do each of the things that one may do.
func (s *side) checking(op fakedriver.Op) {
	s.on(func(c fakedriver.Call) (fakedriver.Reply, bool) {
		s.noteArgs(c)
		if c.Op != op {
			return fakedriver.Reply{}, false
		}
		switch v := c.Args[0].Value.(type) {
		case string:
			return fakedriver.Reply{Value: "checked"}, true
		case shout, time.Time, int:
			return fakedriver.Reply{Err: driver.ErrSkip}, true
		case bool:
			return fakedriver.Reply{Err: errInjected}, true
		case removed:
			_ = v
			return fakedriver.Reply{Err: driver.ErrRemoveArgument}, true
		}
		return fakedriver.Reply{}, true
	})
}

// removed is an option for the base among the arguments.
type removed struct{}

func (s *side) removed() {
	for _, text := range []string{writeOne, writeAll, writeLog} {
		for _, args := range [][]any{{removed{}, "x", 1}, {"x", removed{}, 1}, {"x", 1, removed{}}, {removed{}, removed{}}} {
			res, err := s.db.ExecContext(s.ctx, text, args...)
			s.noteResult("removed", res, err)
			s.prepared(s.db, text, func(stmt *sql.Stmt) {
				res, err := stmt.ExecContext(s.ctx, args...)
				s.noteResult("removed, prepared", res, err)
			})
		}
	}
}
