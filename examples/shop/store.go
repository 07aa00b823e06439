package main

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
)

//go:embed schema.sql
var schema string

// outbox is what `wtcache schema` prints.
//
//go:embed outbox.sql
var outbox string

// store writes and reads the shop's tables. It is plain database/sql: no cache is known here. Safe for concurrent use.
type store struct{ db *sql.DB }

// querier is a *sql.DB, or a *sql.Tx where a step belongs to something larger.
type querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// migrate makes the tables that are not there yet.
func migrate(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, schema+outbox); err != nil {
		return fmt.Errorf("make the tables: %w", err)
	}
	return nil
}

// inTx runs work in a transaction, which is committed where work gives no error.
func (s *store) inTx(ctx context.Context, work func(tx *sql.Tx) error) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := work(tx); err != nil {
		_ = tx.Rollback() // what went wrong in work says more
		return err
	}
	return tx.Commit()
}
