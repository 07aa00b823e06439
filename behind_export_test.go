package wtcache

import (
	"database/sql"
	"testing"
)

// Closing says whether the *sql.DB's Close has begun to wait for what is applied behind callers.
func Closing(t testing.TB, db *sql.DB) bool {
	t.Helper()
	e, err := engineOf(db)
	if err != nil {
		t.Fatal(err)
	}
	e.behind.mu.Lock()
	defer e.behind.mu.Unlock()
	return e.behind.closed
}

// MaxBehind is how many commits may be applied behind their callers at a time.
const MaxBehind = maxBehind
