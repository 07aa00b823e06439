// Package filmstore_test loads the sample schema, so that it works for those who try it.
package filmstore_test

import (
	"os"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
)

// TestLoads loads schema and rows: whoever follows the quick start begins with these two files.
func TestLoads(t *testing.T) {
	t.Parallel()
	dsn, _ := testenv.Schema(t, testenv.Postgres(t))
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, file := range []string{"schema.sql", "data.sql"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.PgConn().Exec(t.Context(), string(text)).ReadAll(); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	for query, want := range map[string]int{
		"SELECT count(*) FROM film":                                          500,
		"SELECT count(*) FROM customer":                                      600,
		"SELECT count(*) FROM rental":                                        2000,
		"SELECT sum(copies) FROM film":                                       1500,
		"SELECT count(*) FROM payment_rest":                                  0,
		"SELECT count(*) FROM payment":                                       2000,
		"SELECT count(*) FROM audit_log":                                     15,
		"SELECT sum(rentals)::int FROM film_popularity":                      2000,
		"SELECT count(*) FROM active_customer":                               360,
		"SELECT count(*) FROM film WHERE search @@ 'river'::tsquery":         45,
		"SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()": 26,
	} {
		var got int
		if err := conn.QueryRow(t.Context(), query).Scan(&got); err != nil {
			t.Errorf("%s: %v", query, err)
		} else if got != want {
			t.Errorf("%s gives %d, want %d", query, got, want)
		}
	}
}
