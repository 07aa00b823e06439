package wtcachetest_test

import (
	"context"
	"database/sql"
	"os"
	"strings"
	"testing"

	"github.com/DATA-DOG/go-sqlmock"

	"github.com/wtcache/wtcache/wtcachetest"
)

// Rename is the code under test.
func Rename(ctx context.Context, db *sql.DB, id int64, name string) error {
	_, err := db.ExecContext(ctx, "UPDATE users SET name = $1 WHERE id = $2", name, id)
	return err
}

func TestRename(t *testing.T) {
	db, mock, cache := wtcachetest.New(t,
		wtcachetest.RulesFrom("testdata/rules"),
		wtcachetest.SchemaFrom("testdata/migrations/*.sql"))
	cache.Rows("users", wtcachetest.Row{"id": 7, "name": "Bob", "mail": "bob@example.com"})
	mock.ExpectExec("UPDATE users SET name").WithArgs("Ann", 7).WillReturnResult(sqlmock.NewResult(0, 1))

	if err := Rename(t.Context(), db, 7, "Ann"); err != nil {
		t.Fatal(err)
	}

	cache.ExpectFencedBeforeCommit("user:7")
	cache.ExpectWritten("user:7", `{"id": 7, "name": "Ann", "mail": "bob@example.com"}`)
}

// The README's test is the one above, so that it compiles and passes.
func TestReadmeShowsTestRename(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("readme_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, test, _ := strings.Cut(string(source), "\nfunc TestRename(")
	test, _, _ = strings.Cut(test, "\n}\n")
	if !strings.Contains(string(readme), "func TestRename("+test+"\n}\n") {
		t.Error("README.md shows another TestRename than this file's")
	}
}
