package wtcache

import (
	"database/sql"
	"testing"
)

// SchemaOf gives the fingerprint that an entry's payloads have, once the rules are bound.
func SchemaOf(t testing.TB, db *sql.DB, name string) string {
	t.Helper()
	e, err := engineOf(db)
	if err != nil {
		t.Fatal(err)
	}
	entry, err := e.gen.Load().target(name)
	if err != nil {
		t.Fatal(err)
	}
	return entry.entry.Schema
}
