package rules

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Key templates.
//
// A template is literal text with placeholders: "user:{id}", "{{org:{org_id}}}:u".
// Two different rows must never share a key, so the rendering is injective:
//
//   - Placeholders never touch, and a '%' is never literal, so that a '%' in a key
//     always starts an encoded byte.
//   - Values are percent-encoded (upper-case hex) where they hold '{', '}', '%' or a
//     control byte; an empty value is "%00", which no Postgres text can hold.
//   - Where a template has two or more placeholders, the bytes of the literal text
//     between and behind them are encoded in values too. Read from the left, the
//     first bare byte of that set ends the value.
//
// Some keys belong to the protocol: those that stand beside an entry hold a hash tag
// and end in ":wt", ":wtm", ":current", or in ":v" and a version; barriers start with
// "wtcache:". Where a value would complete such a key, one byte of the value is encoded.

// maxIdentifierBytes is Postgres' NAMEDATALEN - 1: longer names are cut by the
// server, so they cannot be a column's name as stored.
const maxIdentifierBytes = 63

const reservedPrefix = "wtcache:"

var reservedSuffixes = [...]string{":wt", ":wtm", pointerSuffix}

// versionEnd is how the keys end that hold one version of an entry.
var versionEnd = regexp.MustCompile(versionMark + `[0-9A-Fa-f]{24}(-[A-Z2-7]+)?$`)

const (
	pointerSuffix = ":current"
	versionMark   = ":v"
)

// Template is a parsed key template. It is immutable and safe for concurrent use.
type Template struct {
	source string
	// literals[i] stands before placeholders[i]; the last one ends the key.
	literals     []string
	placeholders []placeholder
	columns      []string
	literalBytes int
	encode       byteSet
	guardPrefix  bool // a value could complete "wtcache:" at the start
	guardSuffix  bool // a value could complete ":wt" or its like at the end of a key with a hash tag
}

type placeholder struct {
	column string
	offset int // of its '{' in the source, in bytes
}

// TemplateError is what is wrong with a key template.
type TemplateError struct {
	Offset  int // in bytes from the template's start
	Problem string
	Fix     string
}

// Error gives "key template: problem at byte N; fix".
func (e *TemplateError) Error() string {
	text := fmt.Sprintf("key template: %s at byte %d", e.Problem, e.Offset)
	if e.Fix != "" {
		text += "; " + e.Fix
	}
	return text
}

// ParseTemplate reads a key template. A placeholder holds a column's name as SQL
// spells it: bare names are folded to lower case, others are quoted ({"Mixed"}).
// "{{" and "}}" are literal braces; they have to form a Redis hash tag, because the
// protocol derives its control keys from it. The error is a *TemplateError.
func ParseTemplate(s string) (*Template, error) {
	t := &Template{source: s}
	p := templateParser{text: s}
	for p.pos < len(s) {
		if err := p.step(t); err != nil {
			return nil, err
		}
	}
	t.literals = append(t.literals, p.literal.String())
	if err := t.check(p.braces); err != nil {
		return nil, err
	}
	t.prepare()
	return t, nil
}

// String gives the template as it was written.
func (t *Template) String() string { return t.source }

// Columns gives the distinct columns of the placeholders, in the order of their
// first use. The slice is shared: do not change it.
func (t *Template) Columns() []string { return t.columns }

// Prefix gives the literal text before the first placeholder.
func (t *Template) Prefix() string { return t.literals[0] }

// Glob gives a Redis MATCH pattern that every key of the template matches. Other
// keys may match it too.
func (t *Template) Glob() string {
	var b strings.Builder
	for i, literal := range t.literals {
		if i > 0 {
			b.WriteByte('*')
		}
		for j := 0; j < len(literal); j++ {
			if strings.IndexByte(`*?[]^-\`, literal[j]) >= 0 {
				b.WriteByte('\\')
			}
			b.WriteByte(literal[j])
		}
	}
	return b.String()
}

// Render makes the key of a row. value gives a column's text, or false for NULL: then
// the row has no such entry and ok is false. Values without NUL bytes that differ in
// any column make different keys. It allocates the key alone.
func (t *Template) Render(value func(column string) (string, bool)) (key string, ok bool) {
	var few [4]string
	values := few[:0]
	size := t.literalBytes
	for i := range t.placeholders {
		v, ok := value(t.placeholders[i].column)
		if !ok {
			return "", false
		}
		values = append(values, v)
		size += t.encodedLen(v)
	}
	first, last := t.guards(values)
	key = t.write(values, size+4, first, last)
	if t.guardSuffix && strings.Contains(key, versionMark) && versionEnd.MatchString(key) {
		key = t.write(values, size+4, first, true)
	}
	return key, true
}

// write puts a key of about this size together; first and last force the first byte of
// the first value, or the last byte of the last one, to be encoded too.
func (t *Template) write(values []string, size int, first, last bool) string {
	var b strings.Builder
	b.Grow(size)
	for i, v := range values {
		b.WriteString(t.literals[i])
		t.writeValue(&b, v, first && i == 0, last && i == len(values)-1)
	}
	b.WriteString(t.literals[len(values)])
	return b.String()
}

// encodedLen is the length of a value in a key, without the guards' additions.
func (t *Template) encodedLen(v string) int {
	if v == "" {
		return len("%00")
	}
	n := len(v)
	for i := 0; i < len(v); i++ {
		if t.encode.has(v[i]) {
			n += 2
		}
	}
	return n
}

// writeValue writes an encoded value; first and last force its first or last byte to
// be encoded too.
func (t *Template) writeValue(b *strings.Builder, v string, first, last bool) {
	if v == "" {
		b.WriteString("%00")
		return
	}
	const hex = "0123456789ABCDEF"
	start := 0
	for i := 0; i < len(v); i++ {
		c := v[i]
		if !t.encode.has(c) && !(first && i == 0) && !(last && i == len(v)-1) {
			continue
		}
		b.WriteString(v[start:i])
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
		start = i + 1
	}
	b.WriteString(v[start:])
}

// guards says whether the first byte of the first value and the last byte of the last
// value have to be encoded to keep the key out of the protocol's own names. A byte that
// the template encodes anyway cannot complete such a name, so it never counts twice.
func (t *Template) guards(values []string) (first, last bool) {
	if t.guardPrefix {
		first = t.completesPrefix(values[0])
	}
	if t.guardSuffix {
		last = t.completesSuffix(values)
		if len(values) == 1 && len(values[0]) == 1 {
			first = first && !last
		}
	}
	return first, last
}

func (t *Template) completesPrefix(v string) bool {
	rest := reservedPrefix[len(t.literals[0]):]
	if v == "" || v[0] != rest[0] || t.encode.has(v[0]) {
		return false
	}
	n := min(len(v), len(rest))
	// What follows a value that is shorter than the rest need not be looked at: an
	// encoded byte more than needed costs nothing, a missed one would.
	return v[:n] == rest[:n]
}

func (t *Template) completesSuffix(values []string) bool {
	n := len(values)
	end, v, before := t.literals[n], values[n-1], t.literals[n-1]
	if v == "" || t.encode.has(v[len(v)-1]) {
		return false
	}
	for _, suffix := range reservedSuffixes {
		rest, ok := strings.CutSuffix(suffix, end)
		switch {
		case !ok:
		case strings.HasSuffix(v, rest):
			return true
		case strings.HasSuffix(rest, v):
			// The value is a part of the suffix. The text before it may be a value
			// itself, so the literal decides as far as it reaches.
			rest = rest[:len(rest)-len(v)]
			if strings.HasSuffix(before, rest) || strings.HasSuffix(rest, before) {
				return true
			}
		}
	}
	return false
}

// prepare fills what is derived from the segments.
func (t *Template) prepare() {
	t.encode = controlBytes.union(setOf("{}%"))
	tagged := false
	for i, literal := range t.literals {
		t.literalBytes += len(literal)
		tagged = tagged || strings.Contains(literal, "{")
		if i > 0 && len(t.placeholders) > 1 {
			t.encode = t.encode.union(setOf(literal))
		}
	}
	t.guardPrefix = strings.HasPrefix(reservedPrefix, t.literals[0])
	t.guardSuffix = tagged
	for _, p := range t.placeholders {
		if !slices.Contains(t.columns, p.column) {
			t.columns = append(t.columns, p.column)
		}
	}
}

// check finds the faults of a template as a whole. braces holds the offsets of the
// literal braces: opening ones as they are, closing ones negated and less one.
func (t *Template) check(braces []int) error {
	if len(t.placeholders) == 0 {
		return t.withoutPlaceholder(braces)
	}
	if err := t.checkTag(braces); err != nil {
		return err
	}
	if rest := strings.TrimLeft(t.literals[0], "{"); strings.HasPrefix(rest, reservedPrefix) {
		return &TemplateError{0, `keys that start with "wtcache:" belong to the protocol`, "start the key with another word"}
	}
	end := t.literals[len(t.literals)-1]
	for _, suffix := range reservedSuffixes {
		if strings.HasSuffix(end, suffix) && (len(braces) > 0 || suffix != pointerSuffix) {
			return &TemplateError{len(t.source) - len(suffix), fmt.Sprintf("keys that end in %q belong to the protocol", suffix), "end the key with another word"}
		}
	}
	if found := versionEnd.FindString(end); found != "" && len(braces) > 0 {
		return &TemplateError{len(t.source) - len(found), "keys that end in \":v\" and a version belong to the protocol", "end the key with another word"}
	}
	return nil
}

func (t *Template) withoutPlaceholder(braces []int) error {
	switch {
	case t.source == "":
		return &TemplateError{0, "a key template is empty", `write one such as "user:{id}"`}
	case len(braces) > 0:
		return &TemplateError{0, "a key template has no placeholder: doubled braces are literal ones", `write a column's name in single braces, such as "user:{id}"`}
	}
	return &TemplateError{0, "a key template has no placeholder, so that all rows would share one key", `name a column in braces, such as "user:{id}"`}
}

// checkTag refuses literal braces that are no hash tag. The control key of "a}b" would
// be "{a}b}:wt", which Redis Cluster keeps in another slot than "a}b".
func (t *Template) checkTag(braces []int) error {
	if len(braces) == 0 {
		return nil
	}
	opening := -1
	for _, at := range braces {
		switch {
		case at >= 0 && opening < 0:
			opening = at
		case at < 0 && opening >= 0 && -at-1 > opening+2:
			return nil
		case at < 0 && opening >= 0:
			return &TemplateError{opening, "the literal braces hold nothing, so they are no Redis hash tag", `write "{{…}}" around a part of the key, such as "{{org:{org_id}}}:users"`}
		}
	}
	at := braces[0]
	if at < 0 {
		at = -at - 1
	}
	return &TemplateError{at, "a literal brace has no counterpart, so it is no Redis hash tag", `write "{{…}}" around a part of the key, such as "{{org:{org_id}}}:users", or leave the braces out`}
}

// shape is equal for templates that make the same keys from the same texts, whatever
// the columns are called.
func (t *Template) shape() string {
	return strings.Join(t.literals, "\x00") // a byte that no literal holds
}

// tagged gives the template of the names that the protocol builds around a key: a key
// without a hash tag has one put around it as a whole. Two keys must not share them,
// and two that are equal do.
func (t *Template) tagged() *Template {
	if t.guardSuffix {
		return t
	}
	around := *t
	around.literals = slices.Clone(t.literals)
	around.literals[0] = "{" + around.literals[0]
	around.literals[len(around.literals)-1] += "}"
	return &around
}

// clash says what is wrong with two templates that overlap.
func (t *Template) clash(o *Template) string {
	if t.guardSuffix != o.guardSuffix {
		return "can need the same names beside it as"
	}
	return "can be the same as"
}

// Sketch makes the key of a row as far as its values are known. value gives a column's
// text and true, or what is to stand in its place and false.
func (t *Template) Sketch(value func(column string) (string, bool)) string {
	key, known := t.Render(value)
	if known {
		return key
	}
	var b strings.Builder
	for i, p := range t.placeholders {
		b.WriteString(t.literals[i])
		if text, ok := value(p.column); ok {
			t.writeValue(&b, text, false, false)
		} else {
			b.WriteString(text)
		}
	}
	b.WriteString(t.literals[len(t.placeholders)])
	return b.String()
}
