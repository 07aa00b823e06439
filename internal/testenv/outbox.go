package testenv

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/outbox/ddl"
)

// outboxLock keeps processes that share a server from making the tables at the same time.
const outboxLock = "SELECT pg_advisory_xact_lock(8103245); "

// prepareOutbox makes the outbox's tables where a program expects them that says nothing of them.
func prepareOutbox(ctx context.Context, databaseURL string) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	// A server may be set up to wait for a standby that a test has not started yet.
	if _, err := conn.Exec(ctx, "SET synchronous_commit = local; BEGIN; "+outboxLock+ddl.For("wtcache")+"; COMMIT"); err != nil {
		return fmt.Errorf("make the outbox's tables: %w", err)
	}
	return nil
}

// Outbox makes a schema with an outbox that is the test's own, and returns its name: a test whose Redis does not answer would have
// the readers of all others keep to the database.
func Outbox(t testing.TB, databaseURL string) (schema string) {
	t.Helper()
	schema = "outbox_" + identifier(t)
	execute(t, databaseURL, ddl.For(schema))
	t.Cleanup(func() { execute(t, databaseURL, "DROP SCHEMA "+schema+" CASCADE") })
	return schema
}
