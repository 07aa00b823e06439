package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/wtcache/wtcache/internal/testenv"
)

// TestDemo: through the same three accidents that break a hand-written cache, the driver leaves no stale key. A failure means
// that a customer of a real shop would see an old price or a stock that nobody has.
func TestDemo(t *testing.T) {
	var out bytes.Buffer
	d := demo{
		servers:    servers{dsn: testenv.Postgres(t), redis: testenv.Redis(t)},
		buildFlags: testBuildFlags,
		out:        &out,
	}
	sum, err := d.run(t.Context())
	if err == nil {
		err = conclude(&out, sum)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if last := fmt.Sprintf("\ndemo: %d keys checked, 0 stale\n", sum.keys); !strings.HasSuffix(out.String(), last) {
		t.Errorf("the last line is not %q:\n%s", last, &out)
	}
}

// TestStaleness: the demo's verdict is worth nothing if it overlooks a difference, or sees one where there is none.
func TestStaleness(t *testing.T) {
	const doc = `{"id":9007199254740993,"name":"Tea","archived_at":null,"created_at":"2026-01-02T03:04:05.100000+00:00"}`
	kept := row{doc, true}
	for _, tt := range []struct {
		name  string
		row   row
		entry string
		stale string // a part of the reason, "" for none
	}{
		{"equal", kept, doc, ""},
		{"other order, other spelling of the moment", kept,
			`{"created_at":"2026-01-02T04:04:05.1+01:00","name":"Tea","archived_at":null,"id":9007199254740993}`, ""},
		{"other moment", kept, strings.Replace(doc, "05.1", "05.2", 1), "created_at"},
		{"number that a float64 takes for the same", kept, strings.Replace(doc, "993,", "992,", 1), "id"},
		{"text for a number", kept, strings.Replace(doc, "9007199254740993", `"9007199254740993"`, 1), "id"},
		{"missing column", kept, strings.Replace(doc, `"archived_at":null,`, "", 1), "archived_at is missing"},
		{"column too many", kept, strings.Replace(doc, `{`, `{"password_hash":"x",`, 1), "password_hash"},
		{"value for null", kept, strings.Replace(doc, "null", `"2026-01-02T03:04:05Z"`, 1), "archived_at"},
		{"no JSON", kept, `{"id":`, "no JSON"},
		{"JSON and more", kept, doc + "{}", "no JSON"},
		{"no row", row{}, doc, "gone"},
		{"row outside `when`", row{doc, false}, doc, "archived"},
		{"equal lists", row{"[" + doc + "]", true}, "[" + doc + "]", ""},
		{"shorter list", row{"[" + doc + "]", true}, "[]", "list"},
		{"other list", row{"[" + doc + "]", true}, "[" + strings.Replace(doc, "Tea", "Cup", 1) + "]", "list"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := staleness(tt.row, tt.entry, true)
			if (got == "") != (tt.stale == "") || !strings.Contains(got, tt.stale) {
				t.Errorf("staleness is %q, want %q", got, tt.stale)
			}
		})
	}
	if got := staleness(kept, "", false); got != "" {
		t.Errorf("an absent entry is said to be stale: %q", got)
	}
}

// TestConclusions: a demo that cannot fail shows nothing.
func TestConclusions(t *testing.T) {
	broken := []finding{
		{key: "product:1", fault: faultRollback, staleness: "x"},
		{key: "product:2", fault: faultOutOfOrder, staleness: "x"},
		{key: "product:3", fault: faultKilled, staleness: "x"},
	}
	if err := summarize(broken).provesSomething(); err != nil {
		t.Errorf("three stale faults: %v", err)
	}
	for i := range broken {
		survived := append([]finding(nil), broken...)
		survived[i].staleness = ""
		if err := summarize(survived).provesSomething(); !errors.Is(err, errNoFault) {
			t.Errorf("the fault %q did no harm and the demo went on: %v", broken[i].fault, err)
		}
	}

	kept := []finding{
		{key: "product:1", hasEntry: true}, {key: "user:1", hasEntry: true}, {key: "user:email:a@b", hasEntry: true},
		{key: "order:1", hasEntry: true}, {key: "user:1:orders", hasEntry: true},
	}
	if err := summarize(kept).isKept(); err != nil {
		t.Errorf("an entry of each kind: %v", err)
	}
	for i := range kept {
		empty := append([]finding(nil), kept...)
		empty[i].hasEntry = false
		if summarize(empty).isKept() == nil {
			t.Errorf("%s is absent, no other key of its kind is there, and the demo was content", kept[i].key)
		}
		wrong := append([]finding(nil), kept...)
		wrong[i].page.wrong = "x"
		if summarize(wrong).isKept() == nil {
			t.Errorf("the page of %s is wrong, and the demo was content", kept[i].key)
		}
	}

	var out bytes.Buffer
	if err := conclude(&out, summary{keys: 3, stale: 1}); err == nil || out.String() != "demo: 3 keys checked, 1 stale\n" {
		t.Errorf("a stale key: error %v, last line %q", err, out.String())
	}
}

// TestWithoutServers: who starts the demo by hand must learn how to start it.
func TestWithoutServers(t *testing.T) {
	t.Setenv("WTCACHE_TEST_DATABASE_URL", "")
	t.Setenv("WTCACHE_TEST_REDIS_URL", "")
	if err := run(context.Background(), &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "make demo") {
		t.Errorf("error %v, want one that says make demo", err)
	}
}
