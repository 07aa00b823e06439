// Package examples_test runs the examples that are modules of their own, which the
// library's own `go test ./...` passes over.
package examples_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
)

// TestReader runs examples/reader and wants what its README shows: a reader that works beside an ORM is
// what decides whether a program can take wtcache up at all.
func TestReader(t *testing.T) {
	dsn, redisURL := testenv.Postgres(t), testenv.Redis(t)
	schema := read(t, "reader/schema.sql")
	execute(t, dsn, schema)
	t.Cleanup(func() { execute(t, dsn, "DROP TABLE example_articles") })
	env := append(os.Environ(), "GOWORK=off", "DATABASE_URL="+dsn, "WTCACHE_REDIS="+redisURL, "WTCACHE_RULES=rules", "WTCACHE_REDIS_TIMEOUT=7s")

	if got := command(t, "reader", env, "gofmt", "-l", "."); got != "" {
		t.Errorf("not formatted by gofmt: %s", got)
	}
	command(t, "reader", env, "go", "vet", "./...")
	shown := "    " + strings.ReplaceAll(strings.TrimSpace(command(t, "reader", env, "go", "run", ".")), "\n", "\n    ") + "\n"
	if !strings.Contains(read(t, "reader/README.md"), shown) {
		t.Errorf("the program printed, other than its README says:\n%s", shown)
	}
}

// command runs in an example's folder and gives the standard output.
func command(t *testing.T, folder string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = folder, env
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s(where go.mod has to be updated: go mod tidy in examples/%s)", cmd, err, out, problems.String(), folder)
	}
	return string(out)
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	ctx := context.Background() // the test's own has ended when it cleans up
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}
