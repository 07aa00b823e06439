package parser

import (
	"slices"
	"strings"
)

// Body is what the text of a function, a procedure or a scheduled job shows of what it does.
type Body struct {
	Writes []BodyWrite
	// Calls are the functions that it may call, as it names them, each once. Not all need be functions.
	Calls []Relation
	// Unknown says that it runs SQL which it puts together, of which the text does not show
	// the table that is written.
	Unknown bool

	words, quoted map[string]bool
}

// BodyWrite is one statement of a Body that writes a relation.
type BodyWrite struct {
	Verb     string // INSERT, UPDATE, DELETE, MERGE, TRUNCATE, COPY, DROP or ALTER
	Relation Relation
	Line     int  // from 1, in the body's text
	Dynamic  bool // it stands in a string that is run as SQL
	// Upsert: an INSERT has ON CONFLICT DO UPDATE. Mixed: the statement may do more than its verb says (MERGE, a CTE).
	Upsert, Mixed bool
	// Assigned are the columns that SET names; nil where these could not all be read.
	Assigned []string
}

// Mentions reports whether the body holds the name: as a word or quoted, and whether it
// does so inside a string constant. Comments do not count.
func (b *Body) Mentions(name string) (code, text bool) { return b.words[name], b.quoted[name] }

// ReadSQLBody reads the body of a function in SQL: what a string holds, or what stands in
// BEGIN ATOMIC … END. The grammar says what each statement writes; a statement that it does
// not know is read as in ReadBody.
func ReadSQLBody(text string) *Body {
	b := newBody()
	tokens := lexAll(text)
	b.scan(text, tokens, 0, false, false) // names and calls
	for _, s := range Parse(inAtomic(text, tokens)) {
		if s.Kind == KindUnparsable {
			b.scan(text, within(tokens, s.Span), 0, true, false)
			continue
		}
		line := lineOf(text, firstToken(text, s.Span))
		for _, r := range s.Written {
			b.write(BodyWrite{
				Verb: verbOf(text[s.Span.Start:s.Span.End]), Relation: r, Line: line, Assigned: s.Assigned,
				Upsert: s.Conflict != nil && s.Conflict.Update, Mixed: s.Nested || s.Kind == KindOther || s.Kind == KindMerge,
			})
		}
	}
	return b
}

// ReadBody reads a body in PL/pgSQL or in another language that holds its SQL in strings
// (embedded). The grammar does not know such bodies: a statement that writes is found by its first words
// wherever these stand, in PL/pgSQL also in the strings of a body that runs strings as SQL.
func ReadBody(text string, embedded bool) *Body {
	b := newBody()
	tokens := lexAll(text)
	b.scan(text, tokens, 0, true, false)
	dynamic := embedded
	for i, t := range tokens {
		if t.is(text, "execute") && b.runs(text, tokens, i) {
			dynamic = true
		}
	}
	if dynamic {
		b.strings(text, tokens, 0, 0)
	}
	return b
}

func newBody() *Body { return &Body{words: map[string]bool{}, quoted: map[string]bool{}} }

// maxNested is how deep strings in strings are read.
const maxNested = 4

// inAtomic blanks out what encloses the statements of an SQL-standard body, so that places stay the same.
func inAtomic(text string, tokens []token) string {
	tokens = slices.DeleteFunc(slices.Clone(tokens), func(t token) bool { return t.kind == tokComment })
	if len(tokens) < 3 || !tokens[0].is(text, "begin") || !tokens[1].is(text, "atomic") {
		return text
	}
	last := tokens[len(tokens)-1]
	if !last.is(text, "end") {
		return text
	}
	return strings.Repeat(" ", tokens[1].end) + text[tokens[1].end:last.start]
}

func within(tokens []token, span Span) []token {
	var inside []token
	for _, t := range tokens {
		if t.start >= span.Start && t.end <= span.End {
			inside = append(inside, t)
		}
	}
	return inside
}

// firstToken is where a statement begins behind its comments.
func firstToken(text string, span Span) int {
	for _, t := range lexAll(text[span.Start:span.End]) {
		if t.kind != tokComment {
			return span.Start + t.start
		}
	}
	return span.Start
}

func lineOf(text string, at int) int { return 1 + strings.Count(text[:at], "\n") }

// verbOf names what a statement that the grammar knows does: its first verb, in a CTE too.
func verbOf(text string) string {
	for _, t := range lexAll(text) {
		for _, verb := range verbs {
			if t.is(text, strings.ToLower(verb)) {
				return verb
			}
		}
	}
	return "WITH"
}

var verbs = []string{"INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE", "COPY", "DROP", "ALTER", "REFRESH", "CREATE"}

func (b *Body) write(w BodyWrite) {
	w.Relation.Alias, w.Relation.Only = "", false
	if !slices.ContainsFunc(b.Writes, func(x BodyWrite) bool {
		return x.Verb == w.Verb && x.Relation == w.Relation && x.Line == w.Line && x.Dynamic == w.Dynamic && slices.Equal(x.Assigned, w.Assigned)
	}) {
		b.Writes = append(b.Writes, w)
	}
}

// scan notes names and calls, and with writes the statements that write. base is the line before the
// text's first one.
func (b *Body) scan(text string, all []token, base int, writes, dynamic bool) {
	tokens := make([]token, 0, len(all))
	for _, t := range all {
		if t.kind != tokComment {
			tokens = append(tokens, t)
		}
	}
	for i, t := range tokens {
		name, ok := identifier(text, t)
		if !ok {
			continue
		}
		b.words[name] = true
		if dynamic {
			b.quoted[name] = true
		}
		b.call(text, tokens, i, name)
		if !writes || t.kind != tokWord {
			continue
		}
		for _, w := range (phrase{text, tokens, i}).writes(dynamic) {
			w.Line, w.Dynamic = base+lineOf(text, t.start), dynamic
			b.write(w)
		}
	}
}

func (b *Body) call(text string, tokens []token, i int, name string) {
	if i+1 >= len(tokens) || !tokens[i+1].punct(text, '(') {
		return
	}
	r := Relation{Name: name}
	if i >= 2 && tokens[i-1].punct(text, '.') {
		r.Schema, _ = identifier(text, tokens[i-2])
	}
	if !slices.Contains(b.Calls, r) {
		b.Calls = append(b.Calls, r)
	}
}

// runs reports whether the word EXECUTE runs a string, and sets Unknown where that may be any.
func (b *Body) runs(text string, tokens []token, i int) bool {
	next := i + 1
	for next < len(tokens) && tokens[next].kind == tokComment {
		next++
	}
	if next >= len(tokens) || tokens[next].punct(text, ';') {
		return false
	}
	if t := tokens[next]; t.is(text, "on") || t.is(text, "function") || t.is(text, "procedure") {
		return false // GRANT EXECUTE ON, CREATE TRIGGER … EXECUTE FUNCTION
	}
	for ; next < len(tokens) && !tokens[next].punct(text, ';'); next++ {
		if tokens[next].kind == tokString {
			return true // what it does is read from the string
		}
	}
	b.Unknown = true // a variable: of strings elsewhere, or of the caller
	return true
}

// strings reads what string constants hold, as SQL.
func (b *Body) strings(text string, tokens []token, base, depth int) {
	if depth > maxNested {
		return
	}
	for _, t := range tokens {
		if t.kind != tokString {
			continue
		}
		content := constantText(t.text(text))
		inner := lexAll(content)
		line := base + lineOf(text, t.start) - 1
		b.scan(content, inner, line, true, true)
		b.unknownIn(content, inner)
		b.strings(content, inner, line, depth+1)
	}
}

// unknownIn sets Unknown where a string begins a statement that writes, and leaves its table to be put in: by
// format's %I, or by || behind its end.
func (b *Body) unknownIn(text string, tokens []token) {
	for i, t := range tokens {
		if t.kind != tokWord {
			continue
		}
		p := phrase{text, tokens, i}
		if at, ok := p.target(); ok && (at >= len(tokens) || tokens[at].kind == tokOp) {
			b.Unknown = true
		}
	}
}

// constantText gives what a string constant holds.
func constantText(s string) string {
	if strings.HasPrefix(s, "$") {
		tag := s[:strings.IndexByte(s[1:], '$')+2]
		return strings.TrimSuffix(strings.TrimPrefix(s, tag), tag)
	}
	if i := strings.IndexByte(s, '\''); i >= 0 && len(s) > i+1 {
		return strings.ReplaceAll(s[i+1:len(s)-1], "''", "'")
	}
	return ""
}

// identifier gives the name that a token stands for, as Postgres folds it.
func identifier(text string, t token) (string, bool) {
	switch t.kind {
	case tokWord:
		return strings.Map(func(r rune) rune {
			if r >= 'A' && r <= 'Z' {
				return r | 0x20
			}
			return r
		}, t.text(text)), true
	case tokQuoted:
		s := t.text(text)
		return strings.ReplaceAll(s[1:len(s)-1], `""`, `"`), true
	}
	return "", false
}
