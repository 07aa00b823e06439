package wtcache_test

import "testing"

// A migration that another program runs must not fail the writes of a program that goes
// on: captured columns that are gone are left out, and the entries become absent.
func TestWriteAfterAForeignMigration(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	for _, text := range []string{"ALTER TABLE accounts ADD COLUMN extra int", "UPDATE accounts SET n = 3 WHERE abs(id) = 1"} {
		if _, err := l.db.Exec(text); err != nil { // through the driver, which captures the column from now on
			t.Fatal(err)
		}
	}
	before := l.stats().CoarseWrites
	if _, err := l.plain.Exec("ALTER TABLE accounts DROP COLUMN extra"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"UPDATE accounts SET n = 4 WHERE abs(id) = 1", "UPDATE accounts SET n = 5 WHERE id = 1"} {
		if _, err := l.db.Exec(text); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	if l.stats().CoarseWrites == before {
		t.Error("no write met the column that is gone: this proves nothing")
	}
	l.wantRow(1, 5)
	l.wantTrue()
}

// A statement that Postgres takes must not fail because the captured columns are
// ambiguous where two tables of one name meet.
func TestWriteThatJoinsATableOfTheSameName(t *testing.T) {
	l := newLedger(t, ledgerSetup{})
	for _, ddl := range []string{"CREATE SCHEMA " + l.schema + "_other", "CREATE TABLE " + l.schema + "_other.accounts (id int, n int)",
		"INSERT INTO " + l.schema + "_other.accounts VALUES (1, 8)"} {
		if _, err := l.plain.Exec(ddl); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _, _ = l.plain.Exec("DROP SCHEMA " + l.schema + "_other CASCADE") })
	text := "UPDATE accounts SET n = 8 FROM " + l.schema + "_other.accounts WHERE " + l.schema + "_other.accounts.id = 1 AND " + l.schema + ".accounts.id = 1"
	if _, err := l.db.Exec(text); err != nil {
		t.Errorf("%s: %v", text, err)
	}
	l.wantRow(1, 8)
	l.wantTrue()
}
