package examples_test

import (
	"os"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
)

// TestORMs runs the tests of examples/orms: one service with database/sql, GORM, sqlx, bun, ent and sqlc. A failure means that a
// program that is written with one of them either breaks when its driver becomes wtcache, or has readers that get old rows.
func TestORMs(t *testing.T) {
	t.Parallel()
	env := append(os.Environ(), "GOWORK=off", "WTCACHE_TEST_DATABASE_URL="+testenv.Postgres(t))
	if got := command(t, "orms", env, "gofmt", "-l", "."); got != "" {
		t.Errorf("not formatted by gofmt: %s", got)
	}
	command(t, "orms", env, "go", "vet", "./...")
	t.Log(command(t, "orms", env, "go", "test", "-race", "-v", "."))
}
