package rules

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// checkWhens lets the server read every `when`, over a row of NULLs of the column's
// types: no table is touched and no privilege needed. All at once first; only where
// that fails one by one, to tell which is at fault.
func (c *Catalog) checkWhens(ctx context.Context, q Querier, rules []*Rule) error {
	var entries []*Entry
	var checks []string
	for _, r := range rules {
		rel := c.byName[qualified(r.Table)]
		if rel == nil || len(rel.columns) == 0 {
			continue
		}
		for _, e := range r.Entries {
			if e.When == "" || scanWhen(e.When).fault != "" {
				continue
			}
			entries = append(entries, e)
			checks = append(checks, "(SELECT 'ok' FROM ("+nullRow(rel)+") AS "+sqlIdent(rel.Name)+" WHERE ("+e.When+"\n) LIMIT 0)")
		}
	}
	if len(checks) == 0 {
		return nil
	}
	if _, err := q(ctx, "SELECT "+strings.Join(checks, ",\n")); err == nil {
		return nil
	} else if _, ok := serverMessage(err); !ok {
		return err
	}
	for i, check := range checks {
		_, err := q(ctx, "SELECT "+check)
		if err == nil {
			continue
		}
		message, ok := serverMessage(err)
		if !ok {
			return fmt.Errorf("check when of entry %q: %w", entries[i].Name, err)
		}
		c.whens[entries[i]] = message
	}
	return nil
}

func nullRow(rel *relation) string {
	exprs := make([]string, len(rel.columns))
	for i, a := range rel.columns {
		exprs[i] = "NULL::" + a.typ.sql() + " AS " + sqlIdent(a.Name)
	}
	return "SELECT " + strings.Join(exprs, ", ")
}

// serverMessage gives what the server said about a text, and false for errors that are
// not about the text.
func serverMessage(err error) (string, bool) {
	var state interface{ SQLState() string }
	if !errors.As(err, &state) {
		return "", false
	}
	switch class := state.SQLState(); {
	case strings.HasPrefix(class, "42"), strings.HasPrefix(class, "22"), strings.HasPrefix(class, "0A"),
		strings.HasPrefix(class, "54"), strings.HasPrefix(class, "3F"):
		return err.Error(), true
	}
	return "", false
}

// whenText is what a look at the words of a `when` tells.
type whenText struct {
	names    map[string]bool // every identifier in it, as Postgres stores it
	unclear  bool            // it may name more than that
	fault    string
	unstable []string // words whose value is not the row's alone
}

// unstableWords are names whose value changes while the row does not.
var unstableWords = map[string]bool{
	"now": true, "current_timestamp": true, "current_time": true, "current_date": true, "localtime": true,
	"localtimestamp": true, "clock_timestamp": true, "statement_timestamp": true, "transaction_timestamp": true,
	"timeofday": true, "age": true, "random": true, "gen_random_uuid": true, "current_user": true, "session_user": true,
	"current_role": true, "user": true, "current_setting": true, "current_schema": true, "nextval": true, "lastval": true,
	"txid_current": true, "pg_backend_pid": true,
}

// scanWhen finds the names in a `when` and what must not be there. It over-counts names
// (a function's name counts too) and never misses a column.
func scanWhen(text string) whenText {
	w := whenText{names: map[string]bool{}}
	s := whenScanner{text: text}
	depth := 0
	for w.fault == "" && s.next() {
		switch s.kind {
		case '"':
			w.names[s.word] = true
		case 'u':
			w.unclear = true
		case 'w':
			w.word(s.word)
		case '(':
			depth++
		case ')':
			depth--
			if depth < 0 {
				w.fault = "it closes a parenthesis that it did not open"
			}
		case ';':
			w.fault = `it holds a ";"`
		case '$':
			w.fault = "it holds a parameter ($1)"
		case '!':
			w.fault = "a quoted text or a comment in it is not closed"
		}
	}
	if depth > 0 && w.fault == "" {
		w.fault = "it opens a parenthesis that it does not close"
	}
	return w
}

func (w *whenText) word(s string) {
	w.names[s] = true
	switch {
	case s == "select" || s == "table":
		w.fault = "it reads a table"
	case unstableWords[s]:
		w.unstable = append(w.unstable, s)
	}
}

// whenScanner splits SQL into the few kinds of token that scanWhen looks at: w a word,
// " a quoted name, u a name in Unicode escapes, $ a parameter, ! an unclosed literal, or
// the byte itself.
type whenScanner struct {
	text string
	pos  int
	kind byte
	word string
}

func (s *whenScanner) next() bool {
	if s.pos >= len(s.text) {
		return false
	}
	rest := s.text[s.pos:]
	switch c := rest[0]; {
	case strings.HasPrefix(rest, "--"):
		s.skip(strings.IndexByte(rest+"\n", '\n'))
	case strings.HasPrefix(rest, "/*"):
		s.comment()
	case strings.HasPrefix(strings.ToLower(rest[:min(3, len(rest))]), `u&"`):
		s.pos += 2
		s.quoted('"', false)
		s.kind = s.unless('u')
	case isIdentifierByte(c, true):
		s.name()
	case c == '\'':
		s.quoted('\'', false)
	case c == '"':
		s.quoted('"', false)
	case c == '$':
		s.dollar()
	default:
		s.kind = c
		s.pos++
	}
	return true
}

// skip passes over n bytes that mean nothing here.
func (s *whenScanner) skip(n int) {
	s.pos += n
	s.kind = ' '
}

func (s *whenScanner) unless(kind byte) byte {
	if s.kind == '!' {
		return '!'
	}
	return kind
}

func (s *whenScanner) name() {
	start := s.pos
	for s.pos < len(s.text) && isIdentifierByte(s.text[s.pos], s.pos == start) {
		s.pos++
	}
	s.kind, s.word = 'w', foldASCII(s.text[start:s.pos])
	if s.word == "e" && s.pos < len(s.text) && s.text[s.pos] == '\'' {
		s.quoted('\'', true)
	}
}

// quoted reads from the opening quote to behind the closing one.
func (s *whenScanner) quoted(quote byte, escapes bool) {
	var word strings.Builder
	for i := s.pos + 1; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case escapes && c == '\\':
			i++
		case c != quote:
			word.WriteByte(c)
		case i+1 < len(s.text) && s.text[i+1] == quote:
			word.WriteByte(c)
			i++
		default:
			s.pos, s.kind, s.word = i+1, quote, word.String()
			return
		}
	}
	s.pos, s.kind = len(s.text), '!'
}

func (s *whenScanner) comment() {
	depth := 0
	for i := s.pos; i < len(s.text); i++ {
		switch {
		case strings.HasPrefix(s.text[i:], "/*"):
			depth++
			i++
		case strings.HasPrefix(s.text[i:], "*/"):
			depth--
			i++
		}
		if depth == 0 {
			s.pos, s.kind = i+1, ' '
			return
		}
	}
	s.pos, s.kind = len(s.text), '!'
}

// dollar reads a dollar-quoted text, or says that there is a parameter.
func (s *whenScanner) dollar() {
	end := strings.IndexByte(s.text[s.pos+1:], '$')
	if end < 0 || strings.ContainsFunc(s.text[s.pos+1:s.pos+1+end], func(r rune) bool { return r < 0x80 && !isIdentifierByte(byte(r), false) }) ||
		(end > 0 && s.text[s.pos+1] >= '0' && s.text[s.pos+1] <= '9') {
		s.kind, s.pos = '$', len(s.text)
		return
	}
	tag := s.text[s.pos : s.pos+end+2]
	body := s.text[s.pos+len(tag):]
	stop := strings.Index(body, tag)
	if stop < 0 {
		s.pos, s.kind = len(s.text), '!'
		return
	}
	s.skip(2*len(tag) + stop)
}
