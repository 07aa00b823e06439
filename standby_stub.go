package wtcache

import (
	"context"
	"database/sql"
)

type standby struct{}

func (s *standby) reading(context.Context, *sql.DB) (*sql.Conn, func()) { return nil, nil }
