package rules

import (
	"maps"
	"slices"
	"testing"
)

// A key that is taken apart wrongly has the audit compare an entry with another row: it
// would report rows that are right, and miss those that are not.
func TestTemplateValues(t *testing.T) {
	t.Parallel()
	odd := []string{"42", "a:b", "", "%", "%00", "%3A", "{x}", "}", "ü:", ":wt", "current", "a%b:c", "wtcache:x", "v0", "\x01", "-", "k-", "é-ü"}
	for _, source := range []string{"user:{id}", "{id}", "{id}:end", "u:{a}:{b}", "u:{a}:{b}:x", "{{o:{a}}}:{b}", "{{{a}}}", "p:{a}-{b}-{a}", "{{x}}:{a}", "{a}-:{b}"} {
		template, err := ParseTemplate(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		for _, a := range odd {
			for _, b := range odd {
				row := map[string]string{"id": a, "a": a, "b": b}
				key, _ := template.Render(func(column string) (string, bool) { return row[column], true })
				texts, ok := template.Values(key)
				if !ok {
					t.Fatalf("%s: its own key %q is not known", source, key)
				}
				for i, column := range template.Columns() {
					if texts[i] != row[column] {
						t.Fatalf("%s: %q gives %q for %s, want %q", source, key, texts[i], column, row[column])
					}
				}
			}
		}
	}
}

// Other programs' keys may look alike; taken for entries, they would be reported as
// damaged, and made absent by a repair.
func TestTemplateValuesOfForeignKeys(t *testing.T) {
	t.Parallel()
	foreign := map[string][]string{
		"user:{id}":       {"", "user:", "user", "users:1", "user:%", "user:%4", "user:%41", "user:%7b", "user:{x}", "user:a%00b", "user:%00x"},
		"u:{a}:{b}":       {"u:1", "u:1:", "u::1", "u:1:2:3", "u:1%3a2:3"},
		"p:{a}-{b}-{a}":   {"p:1-2-3", "p:1-2", "p:1-2-1-"},
		"{{o:{a}}}:{b}":   {"o:1:2", "{o:1}:", "{o:1}2"},
		"{id}:end":        {":end", "1:en", "1:end "},
		"{{{a}}}:x:{b}:y": {"{1}:x:2", "{1}:x::y"},
	}
	for _, source := range slices.Sorted(maps.Keys(foreign)) {
		template, err := ParseTemplate(source)
		if err != nil {
			t.Fatalf("%s: %v", source, err)
		}
		for _, key := range foreign[source] {
			if texts, ok := template.Values(key); ok {
				t.Errorf("%s: %q is taken for the row %q", source, key, texts)
			}
		}
	}
}

func FuzzTemplateValues(f *testing.F) {
	f.Add("u:{a}:{b}", "1", "2")
	f.Add("{{o:{a}}}:{b}", ":wt", "%")
	f.Fuzz(func(t *testing.T, source, a, b string) {
		template, err := ParseTemplate(source)
		if err != nil || slices.Contains([]byte(a+b), 0) {
			return
		}
		value := func(column string) string {
			if len(column)%2 == 0 {
				return a
			}
			return b
		}
		key, _ := template.Render(func(column string) (string, bool) { return value(column), true })
		texts, ok := template.Values(key)
		if !ok {
			t.Fatalf("%s does not know its key %q", source, key)
		}
		for i, column := range template.Columns() {
			if texts[i] != value(column) {
				t.Fatalf("%s: %q gives %q for %s, want %q", source, key, texts[i], column, value(column))
			}
		}
	})
}
