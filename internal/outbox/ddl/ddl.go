// Package ddl holds the statements that make the outbox's tables.
package ddl

import (
	_ "embed"
	"strings"
)

//go:embed schema.sql
var text string

// For gives the statements for a schema, whose name is quoted as SQL wants it.
func For(quoted string) string { return strings.ReplaceAll(text, `:"schema"`, quoted) }
