package wtcache_test

import (
	"database/sql"
	"encoding/json"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
)

var benchTypes = map[string]string{
	"id": "int8", "name": "text", "email": "text", "org_id": "int4", "active": "bool", "balance": "float8",
	"created_at": "timestamptz", "note": "text", "seen": "timestamp", "tags": "_text", "attrs": "jsonb",
}

var benchPayload = []byte(`{"id":123456789,"name":"Ada Lovelace","email":"ada@example.com","org_id":42,"active":true,"balance":12.5,` +
	`"created_at":"2024-02-29T02:05:06.789012Z","note":"the first programmer, and a friend of Babbage's"}`)

type benchPlain struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	Email     string    `json:"email"`
	OrgID     int32     `json:"org_id"`
	Active    bool      `json:"active"`
	Balance   float64   `json:"balance"`
	CreatedAt time.Time `json:"created_at"`
	Note      *string   `json:"note"`
}

type benchNull struct {
	ID        int64           `json:"id"`
	Name      sql.NullString  `json:"name"`
	Email     string          `json:"email"`
	OrgID     sql.NullInt32   `json:"org_id"`
	Active    sql.NullBool    `json:"active"`
	Balance   sql.NullFloat64 `json:"balance"`
	CreatedAt sql.NullTime    `json:"created_at"`
	Note      sql.Null[string]
}

// benchDocuments is what encoding/json does the work for.
type benchDocuments struct {
	ID    int64          `json:"id"`
	Tags  []string       `json:"tags"`
	Attrs map[string]any `json:"attrs"`
}

var benchDocumentsPayload = []byte(`{"id":123456789,"tags":["a","b","c, d"],"attrs":{"a": 1, "b": [true, null], "c": {"d": "e"}}}`)

func BenchmarkDecode(b *testing.B) {
	decode := wtcache.NewDecoder(benchTypes)
	for _, c := range []struct {
		name    string
		payload []byte
		run     func([]byte) error
	}{
		{"plain struct, encoding/json", benchPayload, func(p []byte) error { var v benchPlain; return json.Unmarshal(p, &v) }},
		{"plain struct", benchPayload, func(p []byte) error { var v benchPlain; return decode(p, &v) }},
		{"null types", benchPayload, func(p []byte) error { var v benchNull; return decode(p, &v) }},
		{"documents, encoding/json", benchDocumentsPayload, func(p []byte) error { var v benchDocuments; return json.Unmarshal(p, &v) }},
		{"documents", benchDocumentsPayload, func(p []byte) error { var v benchDocuments; return decode(p, &v) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := c.run(c.payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
