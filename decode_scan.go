package wtcache

import (
	"encoding/json"
	"unicode/utf8"
)

// jsonValue is a value as it stands in a payload. kind is its first byte, '0' for every
// number.
type jsonValue struct {
	raw  []byte
	kind byte
	// settled: raw is known to be valid JSON, and a string's text is what stands between
	// its quotes.
	settled bool
}

// valid looks at what the scanner only stepped over.
func (v jsonValue) valid() bool { return v.settled || json.Valid(v.raw) }

// text gives a string's text, a number's digits, true or false, maybe as a part of the
// payload itself.
func (v jsonValue) text() ([]byte, error) {
	switch {
	case v.kind == '{':
		return nil, misfit("it holds a JSON object")
	case v.kind == '[':
		return nil, misfit("it holds a JSON array")
	case v.kind != '"':
		return v.raw, nil
	case v.settled:
		return v.raw[1 : len(v.raw)-1], nil
	}
	var s string
	if err := json.Unmarshal(v.raw, &s); err != nil {
		return nil, errNotJSON
	}
	return []byte(s), nil
}

// jsonScan walks over the members of an object or the elements of an array, and steps over
// what these hold. That a payload is JSON is checked as far as it is looked at.
type jsonScan struct {
	b  []byte
	at int
}

// open steps into an object ('{') or an array ('[').
func (s *jsonScan) open(bracket byte) bool { return s.next() == bracket }

// next takes the next byte that is not white space; 0 at the end.
func (s *jsonScan) next() byte {
	s.space()
	if s.at >= len(s.b) {
		return 0
	}
	s.at++
	return s.b[s.at-1]
}

func (s *jsonScan) space() {
	for s.at < len(s.b) && (s.b[s.at] == ' ' || s.b[s.at] == '\n' || s.b[s.at] == '\t' || s.b[s.at] == '\r') {
		s.at++
	}
}

// more says whether another member or element follows the n that were read.
func (s *jsonScan) more(n int, closing byte) (bool, error) {
	c := s.next()
	switch {
	case c == closing:
		return false, nil
	case n == 0 && c != 0:
		s.at--
		return true, nil
	case n > 0 && c == ',':
		return true, nil
	}
	return false, errNotJSON
}

// end says whether nothing follows.
func (s *jsonScan) end() error {
	s.space()
	if s.at < len(s.b) {
		return errNotJSON
	}
	return nil
}

// member reads a member of an object.
func (s *jsonScan) member() (name []byte, v jsonValue, err error) {
	key, err := s.value()
	if err != nil || key.kind != '"' || s.next() != ':' {
		return nil, v, errNotJSON
	}
	name = key.raw[1 : len(key.raw)-1]
	if !key.settled {
		if name, err = key.text(); err != nil {
			return nil, v, err
		}
	}
	v, err = s.value()
	return name, v, err
}

func (s *jsonScan) value() (v jsonValue, err error) {
	c := s.next()
	if c == 0 {
		return v, errNotJSON
	}
	start := s.at - 1
	v.kind, v.settled = c, true
	ok := true
	switch {
	case c == '"':
		v.settled, ok = s.str()
	case c == '{' || c == '[':
		v.settled, ok = false, s.nested()
	case c == '-' || c >= '0' && c <= '9':
		v.kind, ok = '0', s.number(c)
	case c == 't':
		ok = s.word("rue")
	case c == 'f':
		ok = s.word("alse")
	case c == 'n':
		ok = s.word("ull")
	default:
		ok = false
	}
	if !ok {
		return v, errNotJSON
	}
	v.raw = s.b[start:s.at]
	return v, nil
}

func (s *jsonScan) word(rest string) bool {
	end := s.at + len(rest)
	if end > len(s.b) || string(s.b[s.at:end]) != rest {
		return false
	}
	s.at = end
	return true
}

// str steps behind a string's closing quote. settled is false where something in it is
// not its own text: an escape, or bytes that are not UTF-8.
func (s *jsonScan) str() (settled, ok bool) {
	start, ascii := s.at, true
	settled = true
	for s.at < len(s.b) {
		c := s.b[s.at]
		s.at++
		switch {
		case c == '"':
			return settled && (ascii || utf8.Valid(s.b[start:s.at])), true
		case c == '\\':
			settled = false
			s.at++
		case c < ' ':
			return false, false
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	return false, false
}

// nested steps behind the bracket that ends an object or an array.
func (s *jsonScan) nested() bool {
	for depth := 1; s.at < len(s.b); {
		c := s.b[s.at]
		s.at++
		switch c {
		case '"':
			if _, ok := s.str(); !ok {
				return false
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return true
			}
		}
	}
	return false
}

// number steps over the rest of a number.
func (s *jsonScan) number(first byte) bool {
	if first == '-' {
		if s.at == len(s.b) {
			return false
		}
		first = s.b[s.at]
		s.at++
	}
	switch {
	case first < '0' || first > '9':
		return false
	case first != '0':
		s.digits()
	}
	if s.peek('.', '.') && !s.digits() {
		return false
	}
	if s.peek('e', 'E') {
		_ = s.peek('+', '-') // a sign may stand there
		return s.digits()
	}
	return true
}

// peek steps over one byte if it is a or b.
func (s *jsonScan) peek(a, b byte) bool {
	if s.at < len(s.b) && (s.b[s.at] == a || s.b[s.at] == b) {
		s.at++
		return true
	}
	return false
}

func (s *jsonScan) digits() bool {
	start := s.at
	for s.at < len(s.b) && s.b[s.at] >= '0' && s.b[s.at] <= '9' {
		s.at++
	}
	return s.at > start
}
