package wtcache_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

var allFormats = []string{"envelope", "plain", "hash", "versioned"}

// readUnaware reads an entry as a program does that knows nothing of wtcache.
func readUnaware(ctx context.Context, rdb redis.UniversalClient, key, format string) (payload []byte, there bool, err error) {
	switch format {
	case "hash":
		payload, err = rdb.HGet(ctx, key, "data").Bytes()
	case "versioned":
		var version string
		if version, err = rdb.Get(ctx, pointerOf(key)).Result(); err == nil {
			payload, err = rdb.Get(ctx, version).Bytes()
		}
	case "plain":
		payload, err = rdb.Get(ctx, key).Bytes()
		if bytes.HasPrefix(payload, []byte(`{"version":"`)) {
			return nil, false, err // an envelope: two releases use the key
		}
	default:
		var text []byte
		var envelope struct{ Data json.RawMessage }
		if text, err = rdb.Get(ctx, key).Bytes(); err == nil {
			err = json.Unmarshal(text, &envelope)
		}
		if payload = envelope.Data; err == nil && payload == nil {
			return nil, false, nil // a plain row
		}
	}
	if errors.Is(err, redis.Nil) || redis.HasErrorPrefix(err, "WRONGTYPE") {
		return nil, false, nil
	}
	return payload, err == nil, err
}

// pointerOf names the pointer of a versioned entry.
func pointerOf(key string) string {
	if strings.Contains(key, "{") {
		return key + ":current"
	}
	return "{" + key + "}:current"
}

// beside opens the same table once more, with other settings: another release, or
// another program.
func (l *ledger) beside(s ledgerSetup) *ledger {
	l.t.Helper()
	if s.redis == "" {
		s.redis = testenv.RealRedis(l.t)
	}
	other := *l
	other.format = s.format
	other.heard = &heard{}
	other.db = other.open(l.dsn, s)
	var err error
	if other.cache, err = wtcache.CacheOf(other.db); err != nil {
		l.t.Fatal(err)
	}
	return &other
}

// Each way to commit, and each way not to, has the same outcome in every format.
func TestOutcomeOfEachFormat(t *testing.T) {
	ctx := context.Background()
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{format: format})
			for _, w := range ways {
				l.reset(t)
				l.warm(1, 2)
				if err := w.set(ctx, t, l, setOne)(); err != nil {
					t.Fatalf("%s: %v", w.name, err)
				}
				l.wantCached(1, 1)
				l.wantCached(2, 0)
				l.wantTrue()
				if err := w.set(ctx, t, l, "UPDATE accounts SET n = 2, owner = 99 WHERE id = 1")(); sqlState(err) != "23503" {
					t.Errorf("%s: the deferred foreign key gave %v", w.name, err)
				}
				l.wantAbsent(1)
				l.wantTrue()
			}
			l.reset(t)
			l.exec(setFenceFirst, 5, 1)
			l.wantCached(1, 5)
			conn := l.on()
			l.say(conn, "BEGIN", "UPDATE accounts SET n = 6 WHERE id = 1", "ROLLBACK")
			l.wantCached(1, 5)
			l.say(conn, "BEGIN", "UPDATE accounts SET n = 7 WHERE id = 1", "SAVEPOINT s", "UPDATE accounts SET n = 8 WHERE id = 1", "ROLLBACK TO s", "COMMIT")
			l.wantCached(1, 7)
			l.exec(coarseOne)
			l.wantAbsent(1)
			if l.read(1) != 1 {
				t.Error("a reader behind a coarse write does not get its row")
			}
			l.wantCached(1, 1)
			l.exec("UPDATE accounts SET id = 10 WHERE id = 1")
			l.wantAbsent(1)
			l.wantCached(10, 1)
			l.exec("DELETE FROM accounts WHERE id = 10")
			l.wantAbsent(10)
			if _, err := l.cache.Get(ctx, "accounts", &account{}, 10); !errors.Is(err, sql.ErrNoRows) {
				t.Errorf("a reader of a deleted row: %v", err)
			}
			if s := l.stats(); s.BackgroundErrors != 0 || s.Redis.Lost != 0 || s.Redis.InvalidEntries != 0 {
				t.Errorf("counted %+v", s)
			}
		})
	}
}

// What Cache.Get gives is the same in every format, from the database and from Redis.
func TestCacheGetOfEachFormat(t *testing.T) {
	ctx := context.Background()
	for _, format := range allFormats {
		l := newLedger(t, ledgerSetup{format: format})
		var fromDatabase, filled, written []byte
		first, err := l.cache.Get(ctx, "accounts", &fromDatabase, 1)
		if err != nil || first.FromCache {
			t.Fatalf("%s: %+v, %v", format, first, err)
		}
		second, err := l.cache.Get(ctx, "accounts", &filled, 1)
		if err != nil || !second.FromCache || second.Version != strings.Repeat("0", 24) || second.WrittenAt.IsZero() {
			t.Errorf("%s: filled as %+v, %v", format, second, err)
		}
		l.exec(setFenceFirst, 0, 1)
		third, err := l.cache.Get(ctx, "accounts", &written, 1)
		if err != nil || !third.FromCache || third.Version <= second.Version || third.WrittenAt.Before(second.WrittenAt) {
			t.Errorf("%s: written as %+v, %v", format, third, err)
		}
		if string(fromDatabase) != string(filled) || string(filled) != string(written) {
			t.Errorf("%s: %s from the database, %s filled, %s written", format, fromDatabase, filled, written)
		}
	}
}

// Two releases of a program, whose rules differ in the format alone, run side by side
// during a roll-out: neither may read what the other has made old, nor may readers of
// either format find it.
func TestReleasesOfTwoFormats(t *testing.T) {
	for _, format := range allFormats {
		l := newLedger(t, ledgerSetup{format: format})
		for _, next := range allFormats {
			if next == format {
				continue
			}
			l.reset(t)
			other := l.beside(ledgerSetup{format: next})
			n := 0
			for _, writer := range []*ledger{l, other, other, l} {
				for _, text := range []string{setFenceFirst, setLockFirst} {
					n++
					writer.exec(text, n, 1)
					writer.wantCached(1, n)
					for _, reader := range []*ledger{other, l, l, other} {
						if got := reader.read(1); got != n {
							t.Errorf("%s beside %s: a reader gets %d, want %d", format, next, got, n)
						}
						reader.wantCached(1, n) // it makes room for its own
					}
					writer.exec(coarseOne)
					l.wantAbsent(1)
					other.wantAbsent(1)
				}
			}
			l.wantTrue()
			other.wantTrue()
		}
	}
}

// mixed gives each entry of a family a format of its own, in turn.
func mixed(f *family, turn int) *family {
	m := *f
	m.name = strings.TrimSpace(fmt.Sprintf("%s formats %d", f.name, turn))
	m.rules = maps.Clone(f.rules)
	m.tables = nil
	for _, tab := range f.tables {
		tab.entries = slices.Clone(tab.entries)
		for i := range tab.entries {
			e := &tab.entries[i]
			e.format, e.plain = []string{"hash", "versioned", "plain"}[(turn+i)%3], false
			for name, text := range m.rules {
				key := `key: "{{P}}` + e.key + `"`
				text = strings.Replace(text, key+", format: plain", key, 1)
				m.rules[name] = strings.Replace(text, key, key+", format: "+e.format, 1)
			}
		}
		m.tables = append(m.tables, tab)
	}
	return &m
}

// representatives are forms of each kind of write, up to about n a kind.
func representatives(n int) (some []form) {
	for _, forms := range [][]form{insertForms, updateForms, keyForms, deleteForms, coarseForms, scriptForms} {
		for i := 0; i < len(forms); i += max(1, len(forms)/n) {
			if !forms[i].fresh {
				some = append(some, forms[i])
			}
		}
	}
	return some
}

// formatFamilies have entries in several formats, whose parts must share a slot: keys with a hash tag of their own, and
// keys without.
func formatFamilies() []*family {
	tagged := *taggedFamily
	tagged.forms = nil
	for i := 0; i < len(taggedFamily.forms); i += 2 {
		tagged.forms = append(tagged.forms, taggedFamily.forms[i])
	}
	return []*family{mixed(usersFamily("users", representatives(1)), 0), mixed(&tagged, 0), mixed(&tagged, 1)}
}

// The forms of write reach Redis in each format, one representative a kind.
func TestWriteFormsOfEachFormat(t *testing.T) {
	some := representatives(3)
	for turn := range 3 {
		f := mixed(usersFamily("", some), turn)
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, f)
			for i := range f.forms {
				t.Run(f.forms[i].name, func(t *testing.T) { w.tryForm(t, &f.forms[i]) })
			}
		})
	}
}

// The commands that the README gives to readers who know nothing of wtcache are run as
// they stand there.
func TestREADMECommands(t *testing.T) {
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		if os.Getenv("WTCACHE_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skip("redis-cli is not installed")
	}
	server := testenv.NewRedis(t)
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)<!-- read: ([a-z]+) -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(readme), -1)
	var seen []string
	for _, block := range blocks {
		format, lines := block[1], strings.TrimSpace(block[2])
		seen = append(seen, format)
		l := newLedger(t, ledgerSetup{format: format, redis: server.URL})
		l.prefix = "" // the README's keys are user:42 and the like
		l.db = l.open(l.dsn, ledgerSetup{redis: server.URL})
		l.exec("INSERT INTO accounts VALUES (42, 7)")
		for _, line := range strings.Split(lines, "\n") {
			command, _, _ := strings.Cut(line, "  #")
			out := runCLI(t, cli, server.Socket(), strings.ReplaceAll(command, "user:42", "account:42"))
			if !strings.Contains(out, `"id":42,"n":7`) && !strings.Contains(line, "header") {
				t.Errorf("%s: %s\ngives %s", format, command, out)
			}
			if out == "" || strings.Contains(out, "ERR") || strings.Contains(out, "WRONGTYPE") {
				t.Errorf("%s: %s\ngives %q", format, command, out)
			}
		}
		l.exec("DELETE FROM accounts")
	}
	slices.Sort(seen)
	if !slices.Equal(seen, slices.Sorted(slices.Values(allFormats))) {
		t.Errorf("the README has commands for %v", seen)
	}
}

// runCLI runs a shell line whose redis-cli asks the test's server.
func runCLI(t *testing.T, cli, socket, line string) string {
	t.Helper()
	dir := t.TempDir()
	shim := "#!/bin/sh\nexec " + cli + " -s " + socket + " \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "redis-cli"), []byte(shim), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", line)
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}
