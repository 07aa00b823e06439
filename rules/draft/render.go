package draft

import (
	"fmt"
	"slices"
	"strings"
	"testing/fstest"
	"unicode"

	"github.com/wtcache/wtcache/rules"
)

// schemaLine makes editors check and complete the file.
const schemaLine = "# yaml-language-server: $schema=https://raw.githubusercontent.com/wtcache/wtcache/main/rules/rule.schema.json\n"

const ttlLine = "# ttl: 10m # how long an entry lives that no write touches; this is the default\n"

// render writes the file.
func (f *File) render() string {
	var b strings.Builder
	b.WriteString(schemaLine)
	b.WriteString("# Drafted from the catalogue by \"wtcache init\". It is yours from here on: change what you know better, then run \"wtcache check\".\n")
	for _, n := range f.Notes {
		b.WriteString("# " + oneLine(n) + "\n")
	}
	b.WriteString("table: " + scalar(spelled(f.name)) + "\n")
	if len(f.rule.Via) > 0 {
		b.WriteString("via: # views through which the table is written, too\n")
		for _, v := range f.rule.Via {
			b.WriteString("  - " + scalar(spelled(v)) + "\n")
		}
	}
	if len(f.Entries) == 1 {
		b.WriteString("# " + f.origin(f.Entries[0]) + "\n")
		if e := f.Entries[0]; e.Name != "by_"+strings.Join(e.Columns, "_") {
			b.WriteString("name: " + e.Name + "\n")
		}
		f.entry(&b, f.Entries[0], "", true)
	} else {
		b.WriteString("# Each entry is one more key that every write keeps true: remove those that nobody reads by.\nentries:\n")
		for i, e := range f.Entries {
			b.WriteString("  # " + f.origin(e) + "\n  - name: " + e.Name + "\n")
			f.entry(&b, e, "    ", i == 0)
		}
	}
	for _, u := range f.Unkeyed {
		of := ""
		if len(u.Columns) > 0 && !slices.Equal(u.Columns, []string{u.Index}) {
			of = " (" + strings.Join(texts(u.Columns, quoted), ", ") + ")"
		}
		b.WriteString("# No entry from " + oneLine(quoted(u.Index)+of+": "+u.Reason) + ".\n")
	}
	return b.String()
}

// origin says what an entry's key comes from.
func (f *File) origin(e Entry) string {
	text := "From unique index " + quoted(e.Index) + "."
	if e.Primary {
		text = "From the primary key."
	} else if e.Index == f.Entries[0].Index {
		text = "The table has no primary key that a key could be made from; this is from unique index " + quoted(e.Index) + "."
	}
	var nullable []string
	for _, c := range e.Columns {
		if !f.table.column(c).NotNull {
			nullable = append(nullable, quoted(c))
		}
	}
	if len(nullable) > 0 {
		text += " A row whose " + strings.Join(nullable, " or ") + " is NULL has no such entry."
	}
	return oneLine(text)
}

// entry writes an entry's lines. The first one of a file explains them.
func (f *File) entry(b *strings.Builder, e Entry, indent string, first bool) {
	b.WriteString(indent + "key: " + quotedScalar(e.Key) + "\n")
	if first {
		b.WriteString(indent + ttlLine)
	}
	if f.when != "" && first {
		b.WriteString(indent + "# when: " + quotedScalar(f.when) + " # rows for which it is false are not cached; the line belongs into every entry\n")
	}
	switch {
	case len(f.Omitted) == 0:
	case first:
		b.WriteString(indent + "omit: # left out of what is cached\n")
		for _, o := range f.Omitted {
			b.WriteString(indent + "  - " + scalar(quoted(o.Column)) + " # " + oneLine(o.Reason) + "\n")
		}
	default:
		columns := texts(f.Omitted, func(o Omitted) string { return scalar(quoted(o.Column)) })
		b.WriteString(indent + "omit: [" + strings.Join(columns, ", ") + "]\n")
	}
}

// oneLine keeps a name that holds a line break, or another byte that is no text, from ending
// a comment.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || r == '\uFEFF' {
			return '?'
		}
		return r
	}, text)
}

// scalar writes a text as YAML: as it is where that cannot be taken for anything else.
func scalar(text string) string {
	plain := !yamlWords[strings.ToLower(text)] && text != ""
	for i, r := range text {
		plain = plain && (r >= 'a' && r <= 'z' || r == '_' || i > 0 && (r >= '0' && r <= '9' || r == '.'))
	}
	if plain {
		return text
	}
	return quotedScalar(text)
}

// yamlWords are plain words that some reader of YAML takes for no text.
var yamlWords = map[string]bool{"null": true, "true": true, "false": true, "yes": true, "no": true, "on": true, "off": true, "y": true, "n": true}

// quotedScalar writes a text in the quotes that need the fewest escapes.
func quotedScalar(text string) string {
	switch {
	case strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0:
		return escaped(text)
	case strings.ContainsAny(text, `"\`):
		return "'" + strings.ReplaceAll(text, "'", "''") + "'"
	}
	return `"` + text + `"`
}

func escaped(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08X`, r)
		default:
			fmt.Fprintf(&b, `\u%04X`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// load reads the drafts as a program would read their files.
func load(files []*File) ([]*rules.Rule, error) {
	folder := fstest.MapFS{}
	for _, f := range files {
		folder[f.Name] = &fstest.MapFile{Data: []byte(f.Text)}
	}
	return rules.Load(folder)
}
