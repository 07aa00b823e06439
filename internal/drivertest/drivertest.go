// Package drivertest holds a wrapping database/sql driver against its base: every scenario runs once on the base by
// itself and once through the wrapper, and the caller must not be able to tell which was which.
//
// The suite knows nothing of the driver under test. A test gives it a Target, of which there may be several: a scripted
// base that shows any subset of the optional interfaces, a mock, a server.
package drivertest

import (
	"database/sql"
	"database/sql/driver"
	"slices"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/fakedriver"
)

// Target is a base driver and the way to wrap it.
type Target struct {
	// Open gives a base with the tables of the suite as Tables and Rows make them. features is what it is to show, where it has the choice.
	Open func(t *testing.T, features fakedriver.Feature) Base
	// Wrap opens a base through the driver under test, with a rule for the table users.
	Wrap func(t *testing.T, b Base) (*sql.DB, error)
	// Register makes the driver under test over a base driver available to sql.Open, as Wrap does for a connector. It is
	// asked of fakes alone.
	Register func(t *testing.T, name string, base driver.Driver)
	// Refused is wrapped by the error for a base that lacks what the driver under test needs.
	Refused error
	// Kind says which scenarios the base can play.
	Kind Kind
}

// Kind is what a base can do.
type Kind int

// A Mock plays what a scripted base can play without being told to fail. Fake can be told anything. Server answers by itself.
const (
	Mock Kind = 1 << iota
	Fake
	Server

	scripted = Mock | Fake
	all      = scripted | Server
)

// Base is one base, opened for one side of a scenario.
type Base struct {
	Connector driver.Connector
	// Script sets what a scripted base answers to a text; the columns that the driver under test adds to it are the
	// base's own concern.
	Script func(text string, r fakedriver.Reply)
	// Fake is nil where the base is something else.
	Fake *fakedriver.Base
	// On is asked by a fake before the script is; ok is false where the script shall answer. Texts are the caller's own.
	On *func(fakedriver.Call) (r fakedriver.Reply, ok bool)
	// Plain opens a further connection that nobody counts. It is nil where the base is no server.
	Plain func() *sql.DB
}

// Tables and Rows make what a server needs. Only users has a rule.
const (
	Tables = `CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL); CREATE TABLE logs (id bigint PRIMARY KEY, line text NOT NULL)`
	Rows   = `INSERT INTO users VALUES (1, 'ann'), (2, 'bob'), (3, 'cid'); INSERT INTO logs VALUES (1, 'one'), (2, 'two'), (3, 'three')`
)

// scenario is a program that notes all that its caller can see.
type scenario struct {
	name     string
	on       Kind // all by default
	features fakedriver.Feature
	run      func(*side)
	shows    []string // what the bare base has to show, lest the scenario test something else, or nothing
}

// usual is what a fake base shows where a scenario does not choose: what pgx shows.
const usual = fakedriver.Required | fakedriver.Pinger | fakedriver.SessionResetter | fakedriver.NamedValueChecker |
	fakedriver.ColumnTypeDatabaseTypeName | fakedriver.ColumnTypeLength | fakedriver.ColumnTypePrecisionScale | fakedriver.ColumnTypeScanType

// Exercise runs every scenario that the target can play. When one fails, a program notices that it was moved from the
// base to the driver under test.
func Exercise(t *testing.T, target Target) {
	for _, sc := range slices.Concat(callScenarios, txScenarios, valueScenarios, errorScenarios, poolScenarios, serverScenarios, scanScenarios) {
		if sc.on != 0 && sc.on&target.Kind == 0 {
			continue
		}
		t.Run(sc.name, func(t *testing.T) { target.compare(t, sc) })
	}
	if target.Kind == Fake {
		target.exerciseInterfaces(t)
		target.exerciseOpenings(t)
	}
}

func (target Target) compare(t *testing.T, sc scenario) {
	t.Helper()
	want, got := target.play(t, sc, false), target.play(t, sc, true)
	for _, s := range sc.shows {
		if !strings.Contains(strings.Join(want, "\n"), s) {
			t.Errorf("the base by itself does not show %q:\n\t%s", s, strings.Join(want[:min(many, len(want))], "\n\t"))
		}
	}
	if !slices.Equal(want, got) {
		t.Error(difference(want, got))
	}
}

// play runs a scenario on one side and gives its notes.
func (target Target) play(t *testing.T, sc scenario, wrapped bool) []string {
	t.Helper()
	features := sc.features
	if features == 0 {
		features = usual
	}
	s := target.open(t, features, wrapped)
	sc.run(s)
	s.settle()
	s.note("in the end %s", s.pool())
	if err := s.db.Close(); err != nil {
		s.note("close: %s", s.describe(err))
	}
	return s.notes
}

func (target Target) open(t *testing.T, features fakedriver.Feature, wrapped bool) *side {
	t.Helper()
	s := &side{t: t, ctx: t.Context(), base: target.Open(t, features), wrapped: wrapped}
	s.db = sql.OpenDB(s.base.Connector)
	if wrapped {
		_ = s.db.Close() // nothing is open yet
		db, err := target.Wrap(t, s.base)
		if err != nil {
			t.Fatal(err)
		}
		s.db = db
	}
	t.Cleanup(func() { _ = s.db.Close() })
	s.script(usualScript)
	return s
}

// many notes are as many as anybody reads.
const many = 20

// difference prints the notes from the first that differs on.
func difference(want, got []string) string {
	same := 0
	for same < min(len(want), len(got)) && want[same] == got[same] {
		same++
	}
	part := func(notes []string, from, to int) string {
		return strings.Join(notes[max(from, 0):min(to, len(notes))], "\n\t")
	}
	return "after\n\t" + part(want, same-3, same) + "\nthe base by itself:\n\t" + part(want, same, same+many) +
		"\nwrapped:\n\t" + part(got, same, same+many)
}
