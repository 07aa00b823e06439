package testenv

import (
	"context"
	"net/url"
	"strings"
	"testing"
)

// Database makes a database for the test, with an outbox in it, drops it at the test's end with whoever is still
// connected, and returns its DSN. It is for tests that look at all schemas; others keep apart by Schema, which takes less.
func Database(t testing.TB, databaseURL string) (dsn string) {
	t.Helper()
	name := "wt_" + identifier(t)
	execute(t, databaseURL, "CREATE DATABASE "+name)
	t.Cleanup(func() { execute(t, databaseURL, "DROP DATABASE "+name+" WITH (FORCE)") })
	if u, err := url.Parse(databaseURL); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		u.Path = "/" + name
		dsn = u.String()
	} else {
		dsn = withParameter(databaseURL, "dbname", name)
	}
	if err := prepareOutbox(context.Background(), dsn); err != nil {
		t.Fatal(err)
	}
	return dsn
}
