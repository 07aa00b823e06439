package testenv

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
)

// verdicts records how a test ended instead of ending it.
type verdicts struct {
	testing.TB
	outcome string
}

func (v *verdicts) Helper() {}

func (v *verdicts) Skip(...any) { v.end("skipped") }

func (v *verdicts) Fatal(...any) { v.end("failed") }

func (v *verdicts) end(outcome string) {
	v.outcome = outcome
	runtime.Goexit()
}

// In continuous integration a test that found no server must not look as if it had passed; and nowhere may a server that
// crashes at its start excuse one.
func TestOnlyAMissingServerExcuses(t *testing.T) {
	missing := fmt.Errorf("start: %w", ErrNoServer)
	for _, test := range []struct {
		require string
		err     error
		want    string
	}{
		{"", nil, "ran"},
		{"1", nil, "ran"},
		{"", missing, "skipped"},
		{"1", missing, "failed"},
		{"", errors.New("it crashed"), "failed"},
		{"", errOnlyMiniredis, "skipped"},
		{"1", errOnlyMiniredis, "failed"},
	} {
		t.Setenv("WTCACHE_TEST_REQUIRE", test.require)
		v := &verdicts{TB: t}
		done := make(chan struct{})
		go func() {
			defer close(done)
			require(v, test.err)
			v.outcome = "ran"
		}()
		<-done
		if v.outcome != test.want {
			t.Errorf("WTCACHE_TEST_REQUIRE=%q, %v: %s, want %s", test.require, test.err, v.outcome, test.want)
		}
	}
}

// Tests of all packages share one database; what one of them creates must not meet another, nor stay.
func TestSchemaIsTheTestsOwn(t *testing.T) {
	url := Postgres(t)
	var names []string
	t.Run("Some Test/with odd-name", func(t *testing.T) {
		for range 2 {
			dsn, schema := Schema(t, url)
			conn := connect(t, dsn)
			if _, err := conn.Exec(t.Context(), "CREATE TABLE things (id int)"); err != nil {
				t.Fatal(err)
			}
			if got := queryString(t, conn, "SELECT schemaname FROM pg_tables WHERE tablename = 'things' AND schemaname = current_schema()"); got != schema {
				t.Errorf("the table is in %q, want %q", got, schema)
			}
			names = append(names, schema)
		}
	})
	if names[0] == names[1] {
		t.Error("two schemas have one name")
	}
	conn := connect(t, url)
	for _, name := range names {
		if got := queryString(t, conn, "SELECT count(*)::text FROM pg_namespace WHERE nspname = '"+name+"'"); got != "0" {
			t.Errorf("the schema %s is still there", name)
		}
	}
}

// A keyword DSN of a developer's own server must get the schema as a URL does.
func TestParameterInBothFormsOfDSN(t *testing.T) {
	for dsn, want := range map[string]string{
		"postgres://u@h/db?sslmode=disable": "postgres://u@h/db?search_path=s&sslmode=disable",
		"postgresql://h/db":                 "postgresql://h/db?search_path=s",
		"host=h user=u":                     "host=h user=u search_path='s'",
	} {
		if got := withParameter(dsn, "search_path", "s"); got != want {
			t.Errorf("%s: got %s, want %s", dsn, got, want)
		}
	}
}

// Two tests with one prefix would read each other's entries.
func TestKeyPrefixesDiffer(t *testing.T) {
	a, b := KeyPrefix(t), KeyPrefix(t)
	if a == b {
		t.Errorf("both are %s", a)
	}
	if strings.ContainsAny(a, "{}% ") {
		t.Errorf("%q would change how a key is hashed or encoded", a)
	}
}
