package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache/internal/testenv"
)

// load loads the sample's two files: whoever follows the quick start begins with them.
func load(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"schema.sql", "data.sql"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.PgConn().Exec(t.Context(), string(text)).ReadAll(); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	return conn
}

// TestLoads: the sample has the rows that its README speaks of, also in a schema other than public.
func TestLoads(t *testing.T) {
	t.Parallel()
	dsn, _ := testenv.Schema(t, testenv.Postgres(t))
	conn := load(t, dsn)
	defer conn.Close(t.Context())
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

// TestWalk goes the README's way, command by command, and wants to see what it shows of init, the rules and the
// program: a newcomer who sees something else takes it for a fault of his own. Of check and audit, whose reports
// depend on servers and times, it wants the exit codes.
func TestWalk(t *testing.T) {
	dsn, redisURL := testenv.Database(t, testenv.Postgres(t)), testenv.NewRedis(t).URL
	load(t, dsn).Close(t.Context())
	w := &walk{t: t, folder: t.TempDir(), env: append(os.Environ(), "DATABASE_URL="+dsn, "WTCACHE_REDIS="+redisURL, "WTCACHE_RULES=rules",
		"WTCACHE_DSN=", "WTCACHE_REDIS_TIMEOUT=7s")}
	w.command("go", "build", "-o", w.folder, "../../cmd/wtcache")
	w.shown(w.command("./wtcache", "init"))
	w.shown(w.file("rules/staff.yaml"))
	w.command("./wtcache", "check", "--json") // an exit code other than 0 ends the test
	t.Setenv("WTCACHE_RULES", filepath.Join(w.folder, "rules"))
	t.Setenv("WTCACHE_REDIS", redisURL)
	t.Setenv("WTCACHE_REDIS_TIMEOUT", "7s") // a slow machine must not make an entry absent
	var printed bytes.Buffer
	if err := run(t.Context(), dsn, &printed); err != nil {
		t.Fatal(err)
	}
	w.shown(printed.String())
	w.command("./wtcache", "audit", "film")
}

// walk runs commands in a folder of their own, as somebody would who follows the README.
type walk struct {
	t      *testing.T
	folder string
	env    []string
}

func (w *walk) command(name string, args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), name, args...)
	cmd.Env = w.env
	if strings.HasPrefix(name, "./") {
		cmd.Path, cmd.Err, cmd.Dir = filepath.Join(w.folder, name), nil, w.folder
	}
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		w.t.Fatalf("%s: %v\n%s%s", cmd, err, out, problems.String())
	}
	return string(out)
}

func (w *walk) file(name string) string {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.folder, name))
	if err != nil {
		w.t.Fatal(err)
	}
	return string(text)
}

// shown wants a text in the README, as a block of its own, in which a line of "…" stands for any lines.
func (w *walk) shown(text string) {
	w.t.Helper()
	readme, err := os.ReadFile("README.md")
	if err != nil {
		w.t.Fatal(err)
	}
	for _, block := range regexp.MustCompile("(?s)\n```(?:text|yaml)\n(.*?)```\n").FindAllStringSubmatch(string(readme), -1) {
		pattern := strings.ReplaceAll(regexp.QuoteMeta(block[1]), "\n…\n", "\n(?:.*\n)*?")
		if regexp.MustCompile("^" + pattern + "$").MatchString(text) {
			return
		}
	}
	w.t.Errorf("the README shows something else than:\n%s", text)
}
