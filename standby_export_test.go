package wtcache

import (
	"context"
	"database/sql"
	"testing"
	"time"
)

// Standby is the read replica of a *sql.DB, as the reader has it. Its settings are not to be
// changed while it is in use.
type Standby struct{ s *standby }

func StandbyOf(t testing.TB, db *sql.DB) *Standby {
	t.Helper()
	e, err := engineOf(db)
	if err != nil {
		t.Fatal(err)
	}
	return &Standby{e.standby}
}

func (s *Standby) Reading(ctx context.Context, primary *sql.DB) (*sql.Conn, func()) {
	return s.s.reading(ctx, primary)
}

func (s *Standby) Failed(ctx context.Context, err error) { s.s.failed(ctx, err) }

func (s *Standby) Counts() (used, behind, unavailable uint64) { return s.s.counts() }

// Wait sets for how long replay is waited for, and for how long any answer.
func (s *Standby) Wait(replay, answer time.Duration) { s.s.patience, s.s.limit = replay, answer }

// Clock sets the clock that rests go by, and how long one is.
func (s *Standby) Clock(clock func() time.Duration, rest time.Duration) {
	s.s.clock, s.s.rest = clock, rest
}

// Remember asks the primary for its position and gives what Reading would be if it used
// that one whenever it is called.
func (s *Standby) Remember(ctx context.Context, primary *sql.DB) (func() (*sql.Conn, error), error) {
	at, err := positionOf(ctx, primary)
	return func() (*sql.Conn, error) { return s.s.proven(ctx, at) }, err
}

// PositionOf is the end of the primary's WAL as a read goes by it.
func PositionOf(ctx context.Context, primary *sql.DB) (lsn uint64, text string, err error) {
	at, err := positionOf(ctx, primary)
	return at.lsn, at.String(), err
}
