package wtcache

import (
	"database/sql"
	"testing"
)

// Remains counts what is under way in a *sql.DB or owed by it, by name. All are 0 when nothing goes on.
func Remains(t testing.TB, db *sql.DB) map[string]int {
	t.Helper()
	e, err := engineOf(db)
	if err != nil {
		t.Fatal(err)
	}
	e.flights.mu.Lock()
	flights := len(e.flights.byID)
	e.flights.mu.Unlock()
	e.doubts.mu.Lock()
	doubts := len(e.doubts.waiting)
	e.doubts.mu.Unlock()
	announced := 0
	if e.outbox.Announced() { // it is as long as a ticket is out
		announced = 1
	}
	return map[string]int{"flights": flights, "doubts": doubts, "owed": e.sync.Owed(), "outages": announced, "untrusted servers": int(e.sync.Stats().Untrusted)}
}
