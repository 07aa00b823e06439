package rules

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func mustTemplate(t testing.TB, s string) *Template {
	t.Helper()
	parsed, err := ParseTemplate(s)
	if err != nil {
		t.Fatalf("parse template %q: %v", s, err)
	}
	return parsed
}

// render gives the key for values in the order of the template's columns.
func render(t *Template, values ...string) string {
	key, ok := t.Render(func(column string) (string, bool) {
		i := slices.Index(t.Columns(), column)
		if i < 0 || i >= len(values) {
			return "", false
		}
		return values[i], true
	})
	if !ok {
		return "(no key)"
	}
	return key
}

// Keys are what other programs read by: a change of one byte is a lost cache.
func TestTemplateRender(t *testing.T) {
	for _, test := range []struct {
		template string
		values   []string
		want     string
	}{
		{"user:{id}", []string{"42"}, "user:42"},
		{"user:{email}", []string{"a:b@ü.example"}, "user:a:b@ü.example"},
		{"user:{email}", []string{"{100%}\n\x7f"}, "user:%7B100%25%7D%0A%7F"},
		{"user:{email}", []string{""}, "user:%00"},
		{"user:{email}", nil, "(no key)"},
		{"a:{x}:{y}", []string{"1:2", "3"}, "a:1%3A2:3"},
		{"a:{x}:{y}", []string{"1", "2:3"}, "a:1:2%3A3"},
		{"a:{x}:{y}", []string{"1"}, "(no key)"},
		{"a:{x}/{y}.json", []string{"a:b/c", "json"}, "a:a:b%2Fc/%6A%73%6F%6E.json"},
		{"a:{x}:{x}", []string{"1:"}, "a:1%3A:1%3A"},
		{"{{org:{org_id}}}:u", []string{"7"}, "{org:7}:u"},
		{"{{{x}}}", []string{"7"}, "{7}"},
		{`u:{"Mixed ""Case}"}`, []string{"1"}, "u:1"},
		{"{a}:{b}:{c}:{d}:{e}:{f}", []string{"1", "2", "3", "4", "5", "6"}, "1:2:3:4:5:6"},

		// A key with a hash tag must not be a control key's name.
		{"{{o:{o}}}:{kind}", []string{"1", "wt"}, "{o:1}:w%74"},
		{"{{o:{o}}}:{kind}", []string{"1", "wtm"}, "{o:1}:wt%6D"},
		{"{{o:{o}}}:{kind}", []string{"1", "wtx"}, "{o:1}:wtx"},
		{"{{o}}:{name}", []string{"bob:wt"}, "{o}:bob:w%74"},
		{"{{o}}:{name}m", []string{"bob:wt"}, "{o}:bob:w%74m"},
		{"{{o}}:w{name}", []string{"t"}, "{o}:w%74"},
		{"user:{name}", []string{"x:wt"}, "user:x:wt"},

		// Nor a pointer's, or that of a version that another key's pointer names.
		{"{{o}}:{name}", []string{"bob:current"}, "{o}:bob:curren%74"},
		{"{{o}}:cur{name}", []string{"rent"}, "{o}:cur" + "ren%74"},
		{"{{o}}:{name}", []string{"v000000010000000000a1b2c3"}, "{o}:v000000010000000000a1b2c%33"},
		{"{{o}}:{name}", []string{"bob:v000000000000000000000000-ABC234"}, "{o}:bob:v000000000000000000000000-ABC23%34"},
		{"{{o}}:{a}-{b}", []string{"v000000000000000000000000", "AB2"}, "{o}:v000000000000000000000000-AB%32"},
		{"{{o}}:v{name}", []string{"2"}, "{o}:v2"},
		{"{{o}}:{name}", []string{"v1"}, "{o}:v1"},
		{"user:{name}", []string{"x:current"}, "user:x:current"},
		{"user:{name}:current", []string{"x"}, "user:x:current"},

		// No key may be a barrier's name.
		{"{x}", []string{"wtcache:barrier:public.users"}, "%77tcache:barrier:public.users"},
		{"wt{x}", []string{"cache:barrier:public.users"}, "wt%63ache:barrier:public.users"},
		{"wt{x}", []string{"cake"}, "wtcake"},
		{"{x}", []string{"user"}, "user"},
	} {
		if got := render(mustTemplate(t, test.template), test.values...); got != test.want {
			t.Errorf("%s of %q: got %s, want %s", test.template, test.values, got, test.want)
		}
	}
}

func TestTemplateParts(t *testing.T) {
	for _, test := range []struct{ template, columns, prefix, glob string }{
		{"user:{id}", "id", "user:", "user:*"},
		{"{ID}:{a$1}/{id}", "id a$1", "", "*:*/*"},
		{`u:{"A ""b}"}:x`, `A "b}`, "u:", "u:*:x"},
		{"{{o:{id}}}:u", "id", "{o:", "{o:*}:u"},
		{`a*?[x-^]\{id}`, "id", `a*?[x-^]\`, `a\*\?\[x\-\^\]\\*`},
		{"ключ:{имя}", "имя", "ключ:", "ключ:*"},
	} {
		parsed := mustTemplate(t, test.template)
		if got := strings.Join(parsed.Columns(), " "); got != test.columns {
			t.Errorf("%s: columns %s, want %s", test.template, got, test.columns)
		}
		if parsed.Prefix() != test.prefix || parsed.Glob() != test.glob || parsed.String() != test.template {
			t.Errorf("got prefix %q, glob %q, text %q; want %+v", parsed.Prefix(), parsed.Glob(), parsed, test)
		}
	}
}

// Faults of templates are shown with the rules; here is what code that parses its own
// templates gets.
func TestTemplateError(t *testing.T) {
	_, err := ParseTemplate("é{a}{b}")
	var fault *TemplateError
	if !errors.As(err, &fault) || fault.Offset != len("é{a}") {
		t.Fatalf("got %v", err)
	}
	if got := err.Error(); got != "key template: two placeholders touch, so that different rows could share a key at byte 5; put text between them, such as ':'" {
		t.Errorf("got %s", got)
	}
}

// Every write renders its keys: more allocations are paid for by all users.
func TestRenderAllocatesTheKeyAlone(t *testing.T) {
	values := map[string]string{"org_id": "7", "email": "100% {me}"}
	value := func(column string) (string, bool) { v, ok := values[column]; return v, ok }
	for _, s := range []string{"user:{org_id}", "{{o:{org_id}}}:{email}"} {
		parsed := mustTemplate(t, s)
		if n := testing.AllocsPerRun(100, func() { parsed.Render(value) }); n != 1 {
			t.Errorf("%s: %v allocations, want 1", s, n)
		}
	}
}

// FuzzTemplate looks for two rows that share a key (the wrong row would be served), for
// keys that are the protocol's own, and for keys that Glob misses (an invalidation of
// the whole rule would leave them).
func FuzzTemplate(f *testing.F) {
	f.Add("a:{x}:{y}", "1:2", "3", "", "1", "2:3", "")
	f.Add("a{x}0{y}", "0", "x", "", "", "0x", "")
	f.Add("{{o:{x}}}:{y}", "1", "wt", "", "1", "w%74", "")
	f.Add("{x}{{a}}{y}m", "wtcache:", ":wt", "", "w", ":w", "")
	f.Add("{x}", "wtcache:b", "", "", "%77tcache:b", "", "")
	f.Add("{{o}}:{x}", "a:current", "", "", "a:curren%74", "", "")
	f.Add("{{o}}:v{x}-{y}", "000000000000000000000000", "AB", "", "00000000000000000000000", "B", "")
	f.Add("{{{x}}}t", ":w", "", "", ":w%", "", "")
	f.Add("[{x}*{y}A{z}", "7%", "\xff", "é", "", "%00", "A")
	f.Fuzz(func(t *testing.T, text, a, b, c, x, y, z string) {
		parsed, err := ParseTemplate(text)
		if err != nil {
			var fault *TemplateError
			if !errors.As(err, &fault) || fault.Offset < 0 || fault.Offset > len(text) || fault.Problem == "" {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		n := len(parsed.Columns())
		if n > 3 || strings.Contains(a+b+c+x+y+z, "\x00") {
			return
		}
		one, two := []string{a, b, c}[:n], []string{x, y, z}[:n]
		first, second := render(parsed, one...), render(parsed, two...)
		if first == second && !slices.Equal(one, two) {
			t.Fatalf("%s: %q and %q share the key %q", text, one, two, first)
		}
		checkKey(t, parsed, first, one)
	})
}

func checkKey(t *testing.T, parsed *Template, key string, values []string) {
	t.Helper()
	tagged := strings.ContainsAny(key, "{}")
	switch {
	case strings.HasPrefix(key, "wtcache:"), tagged && (strings.HasSuffix(key, ":wt") || strings.HasSuffix(key, ":wtm") || strings.HasSuffix(key, ":current") || versionEnd.MatchString(key)):
		t.Fatalf("%s of %q: the key %q belongs to the protocol", parsed, values, key)
	case !globMatches(parsed.Glob(), key):
		t.Fatalf("%s of %q: the key %q is missed by %q", parsed, values, key, parsed.Glob())
	case !strings.HasPrefix(key, parsed.Prefix()):
		t.Fatalf("%s of %q: the key %q has not the prefix %q", parsed, values, key, parsed.Prefix())
	case strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f }):
		t.Fatalf("%s of %q: the key %q holds a control byte", parsed, values, key)
	}
	if tagged {
		_, rest, _ := strings.Cut(key, "{")
		if tag, _, closed := strings.Cut(rest, "}"); !closed || tag == "" {
			t.Fatalf("%s of %q: the braces of %q are no hash tag", parsed, values, key)
		}
	}
}

// globMatches is Redis' MATCH for patterns without character classes.
func globMatches(pattern, s string) bool {
	switch {
	case pattern == "":
		return s == ""
	case pattern[0] == '*':
		for i := 0; i <= len(s); i++ {
			if globMatches(pattern[1:], s[i:]) {
				return true
			}
		}
		return false
	case pattern[0] == '\\':
		pattern = pattern[1:]
	}
	return s != "" && s[0] == pattern[0] && globMatches(pattern[1:], s[1:])
}

func BenchmarkRender(b *testing.B) {
	for _, s := range []string{"user:{id}", "{{o:{org_id}}}:user:{id}"} {
		parsed := mustTemplate(b, s)
		value := func(string) (string, bool) { return "123456", true }
		b.Run(s, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				parsed.Render(value)
			}
		})
	}
}

func ExampleTemplate_Render() {
	t, _ := ParseTemplate("user:email:{email}")
	key, ok := t.Render(func(string) (string, bool) { return "ann@example.com", true })
	fmt.Println(key, ok)
	// Output: user:email:ann@example.com true
}

// A key that is known in part has to be shown with what is known as it is in Redis.
func TestTemplateSketch(t *testing.T) {
	template, err := ParseTemplate("{{org:{org}}}:user:{id}")
	if err != nil {
		t.Fatal(err)
	}
	for want, values := range map[string]map[string]string{
		"{org:a%3Ab}:user:{id}":  {"org": "a:b"},
		"{org:{org}}:user:{id}":  {},
		"{org:a}:user:7":         {"org": "a", "id": "7"},
		"{org:{org}}:user:a%7Db": {"id": "a}b"},
	} {
		got := template.Sketch(func(column string) (string, bool) {
			if v, ok := values[column]; ok {
				return v, true
			}
			return "{" + column + "}", false
		})
		if got != want {
			t.Errorf("with %v: got %s, want %s", values, got, want)
		}
	}
}
