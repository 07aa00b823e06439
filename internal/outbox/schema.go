package outbox

import (
	_ "embed"
	"strings"
)

// DefaultSchema is the schema of the tables where none is named.
const DefaultSchema = "wtcache"

//go:embed schema.sql
var ddl string

// Schema gives the DDL of the tables in a schema ("": DefaultSchema). It may be run again, and by psql as well as by one Exec
// without arguments. The role that runs it needs CREATE on the database.
func Schema(schema string) string {
	return strings.ReplaceAll(ddl, `:"schema"`, quote(orDefault(schema)))
}

// Grants gives the statements that let a role write to the outbox and drain it. The tables must be there.
func Grants(schema, role string) string {
	s, to := quote(orDefault(schema)), " TO "+quote(role)+";\n"
	var b strings.Builder
	b.WriteString("GRANT USAGE ON SCHEMA " + s + to)
	for _, t := range tables {
		b.WriteString("GRANT " + strings.Join(t.privileges, ", ") + " ON " + s + "." + t.name + to)
	}
	return b.String()
}

// table is what Check expects of a table. FOR UPDATE needs UPDATE.
type table struct {
	name       string
	privileges []string
	columns    []column
}

type column struct{ name, sqlType, definition string }

var tables = []table{
	{"outage", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}, []column{
		{"id", "bigint", "GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
		{"process", "text", "NOT NULL DEFAULT ''"},
		{"announced_at", "timestamp with time zone", "NOT NULL DEFAULT clock_timestamp()"},
		{"seen_at", "timestamp with time zone", "NOT NULL DEFAULT clock_timestamp()"},
	}},
	{"outbox", []string{"SELECT", "INSERT", "UPDATE", "DELETE"}, []column{
		{"id", "bigint", "GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
		{"outage", "bigint", ""},
		{"debt", "json", "NOT NULL"},
		{"created_at", "timestamp with time zone", "NOT NULL DEFAULT clock_timestamp()"},
	}},
	{"watch", []string{"SELECT", "INSERT"}, []column{
		{"millis", "bigint", "PRIMARY KEY"},
	}},
}

func orDefault(schema string) string {
	if schema == "" {
		return DefaultSchema
	}
	return schema
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// literal quotes a text for SQL in sessions with any setting of standard_conforming_strings.
func literal(text string) string {
	quoted := "'" + strings.ReplaceAll(strings.ReplaceAll(text, `\`, `\\`), "'", "''") + "'"
	if strings.Contains(text, `\`) {
		return "E" + quoted
	}
	return quoted
}
