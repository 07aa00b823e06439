package rules

import (
	"strings"
	"testing"
)

// classesByName reads the class of a column from its first letter.
func classesByName(_ *Template, column string) Class {
	switch column[0] {
	case 'i':
		return ClassInteger
	case 'u':
		return ClassUUID
	case 'b':
		return ClassBool
	}
	return ClassText
}

// Two rules whose keys can be equal overwrite each other's rows; two that cannot must be
// allowed, or nobody can write "user:{id}" beside "user:email:{email}".
func TestOverlap(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want bool
	}{
		{"user:{i}", "user:{i2}", true},
		{"user:{i}", "order:{i}", false},
		{"user:{i}", "user:email:{t}", false},
		{"user:{t}", "user:email:{t}", true},
		{"user:{u}", "user:email:{t}", false},
		{"user:{u}", "user:face:{t}", false},
		{"user:{u}", "user:face{i}", true},
		{"user:{b}", "user:email:{t}", false},
		{"user:{b}", "user:{i}", false},
		{"user:{b}", "user:true", false},
		{"user:{b}", "user:f{t}", true},
		{"user:{b}", "user:tr{t}e", true},
		{"user:{b}", "user:tr{t}u", false},
		{"user:{i}", "user:{u}", true},
		{"user:{i}:x", "user:{i}", false},
		{"user:{i}:x", "user:{t}", true},
		{"user:{i}:x", "user:{t}:y", false},
		{"a:{i}", "a:{i}-{i2}", false},
		{"a:{i}", "a:-{i}", true},
		{"a:{i}", "a:1{i}", true},
		{"a:{i}-{i2}", "a:{t}", true},
		{"a:{t}:{t2}", "a:{t}", true},
		{"a:{t}:{t2}", "a:{t}:{t2}:{t3}", false}, // the ':' of values is encoded in both
		{"a:{t}:{t2}", "a:{t}/{t2}", true},
		{"{{o:{i}}}:u", "{{o:{i}}}:v", false},
		{"{{o:{i}}}:u", "o:{t}", false},
		{"{{o:{i}}}", "o:{i}", true}, // both would have {o:1}:wt and {o:1}:current
		{"{{o:{t}}}", "o:{i}", true},
		{"{{o:{i}}}", "o:{i}:u", false},
		{"{{o:{i}}}", "p:{i}", false},
		{"{{o:{i}}}:{t}", "{{o:{i}}}:u", true},
		{"{t}", "user:{i}", true},
		{"x{t}", "user:{i}", false},
		{"{t}:u", "{{o}}:{t2}", false}, // values hold no bare braces
	} {
		if strings.Count(test.b, "{") == 0 {
			test.b += ":{i}"
		}
		a, b := mustTemplate(t, test.a), mustTemplate(t, test.b)
		if got := Overlap(a, b, classesByName); got != test.want {
			t.Errorf("Overlap(%s, %s) = %v, want %v", a, b, got, test.want)
		}
		if Overlap(b, a, classesByName) != test.want {
			t.Errorf("Overlap(%s, %s) is not symmetric", a, b)
		}
	}
	if !Overlap(mustTemplate(t, "user:{i}"), mustTemplate(t, "user:x{t}"), nil) {
		t.Error("without classes an integer's template is text")
	}
}

// Overlap may be true too often, but a pair that it misses is two rows under one key:
// so every pair of keys that small values make is tried.
func TestOverlapMissesNothing(t *testing.T) {
	values := map[Class][]string{
		ClassText:    {"", "a", "1", ":", "%", "-1", "t", "true", "a:1", "1:a", "a:1:1", "w", "wt", ":wt", "wtcache:1", "%74"},
		ClassInteger: {"0", "1", "-1", "11"},
		ClassUUID:    {"a1", "1-a", "1"},
		ClassBool:    {"true", "false", "t", "f"},
	}
	templates := []string{
		"{t}", "{i}", "a:{t}", "a:{i}", "a:{u}", "a:{b}", "a:{t}:{t2}", "a:{i}:{t}", "a:{t}:1", "a:-{i}", "a:{i}-{i2}", "a:t{t}",
		"a:{b}:{i}", "{t}:a", "{{a}}:{t}", "{{a}}:w{t}", "{{a}}:{t}m", "{{a:{i}}}:{t}", "{t}a{t2}", "w{t}", "a:{u}-{t}", "a:{u}:{u2}",
	}
	type made struct{ template, key string }
	makers := map[string][]string{}
	for _, text := range templates {
		parsed := mustTemplate(t, text)
		for _, first := range values[classesByName(nil, parsed.Columns()[0])] {
			seconds := []string{""}
			if len(parsed.Columns()) > 1 {
				seconds = values[classesByName(nil, parsed.Columns()[1])]
			}
			for _, second := range seconds {
				key := render(parsed, first, second)
				makers[key] = append(makers[key], text)
			}
		}
	}
	checked := map[made]bool{}
	for key, texts := range makers {
		for _, a := range texts {
			for _, b := range texts {
				if pair := (made{a, b}); !checked[pair] {
					checked[pair] = true
					if !Overlap(mustTemplate(t, a), mustTemplate(t, b), classesByName) {
						t.Errorf("both %s and %s make %q", a, b, key)
					}
				}
			}
		}
	}
	if len(checked) < 2*len(templates) {
		t.Errorf("only %d pairs of templates met: the values are too few", len(checked))
	}
}
