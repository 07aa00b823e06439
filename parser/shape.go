package parser

import (
	"strings"
	"unicode/utf8"
)

const (
	// maxShaped is the longest text that is read as a shape, in bytes: far enough below maxParsed
	// that what holds for one text of a shape holds for all of them, spliced or not.
	maxShaped = 1 << 20
	// maxSlots bounds the constants of a shape, and firstSentinel+maxSlots fits an int4.
	maxSlots = 1 << 14
)

// slotClass says what stands in a slot. The grammar tells constants apart by no more than
// this: two texts that differ only inside slots of equal classes give it the same tokens.
type slotClass byte

const (
	slotString  slotClass = 's' // '…', doubled quotes included
	slotInteger slotClass = 'i' // an integer of 32 bits
	slotLong    slotClass = 'l' // a longer integer, which the grammar hands on as text
	slotDecimal slotClass = 'd' // 1.5, 1e5
	slotComment slotClass = 'c' // /* … */
)

// slot is a constant or a comment in a text.
type slot struct {
	class      slotClass
	start, end int
}

// Shape is a text without its constants and comments: what texts that differ in these alone have
// in common. The zero value is ready; Read uses its memory again. It is for one goroutine at a time.
type Shape struct {
	// key is the text with a NUL and a class in place of each slot. A text that holds a NUL
	// has no shape, so no two shapes share a key.
	key       []byte
	slots     []slot
	backslash bool
	passing   bool
}

// Backslash reports whether the text holds a backslash, which a server with
// standard_conforming_strings off reads in another way.
func (s *Shape) Backslash() bool { return s.backslash }

// Passing reports whether the text holds a constant that is no slot, so that a text which differs in it alone
// is not known for one like it. It holds whether or not Read has found a shape.
func (s *Shape) Passing() bool { return s.passing }

// Read takes the shape of a text; false where it has none: it is no single SELECT,
// INSERT, UPDATE or DELETE, it has no slot, or something that the plan could depend on
// in another way than by its value alone:
//
//   - U&, whose UESCAPE is a constant that spells a name;
//   - a string of several parts, E'…', B'…', X'…'; a number of another base, with underscores,
//     leading zeros, or letters behind it;
//   - bytes that are not UTF-8, which the grammar's answer cannot carry.
//
// Dollar-quoted strings, parameters, names and everything else are parts of the shape. The
// text is read as with standard_conforming_strings on.
func (s *Shape) Read(sql string) bool {
	s.key, s.slots, s.passing = s.key[:0], s.slots[:0], true
	if len(sql) > maxShaped || strings.IndexByte(sql, 0) >= 0 || !utf8.ValidString(sql) {
		return false
	}
	s.backslash = strings.IndexByte(sql, '\\') >= 0
	lx, from, words, dollar := lexer{src: sql}, 0, 0, false
	for {
		t, ok := lx.next()
		if !ok {
			break
		}
		class, ok := classOf(sql, t)
		if !ok || words == 0 && !opens(sql, t) || len(s.key) > maxCachedText {
			return false
		}
		if t.kind != tokComment {
			words++
		}
		if class == 0 {
			dollar = dollar || t.kind == tokString
			continue
		}
		s.key = append(append(s.key, sql[from:t.start]...), 0, byte(class))
		s.slots = append(s.slots, slot{class, t.start, t.end})
		from = t.end
	}
	s.key, s.passing = append(s.key, sql[from:]...), dollar
	return words > 0 && len(s.slots) > 0 && len(s.slots) <= maxSlots && len(s.key) <= maxCachedText
}

// opens reports whether a text whose first token is t may have a shape.
func opens(sql string, t token) bool {
	return t.kind == tokComment || t.is(sql, "select") || t.is(sql, "insert") || t.is(sql, "update") || t.is(sql, "delete") || t.is(sql, "with")
}

// classOf gives the class of a token that is a slot, and 0 for one that is a part of the
// shape; false where its text has no shape.
func classOf(sql string, t token) (class slotClass, ok bool) {
	switch t.kind {
	case tokString:
		switch sql[t.start] {
		case '\'':
			return slotString, plainString(sql[t.start:t.end])
		case '$':
			return 0, true
		}
		return 0, false
	case tokNumber:
		return numberClass(sql, t)
	case tokComment:
		if sql[t.start] == '/' {
			return slotComment, true
		}
		return 0, true // its end is the line's
	case tokUnicode, tokBroken:
		return 0, false
	}
	return 0, true
}

// plainString reports whether a string constant has one part.
func plainString(s string) bool {
	for i := 1; i < len(s)-1; i++ {
		if s[i] != '\'' {
			continue
		}
		if i++; i >= len(s)-1 || s[i] != '\'' {
			return false
		}
	}
	return true
}

const maxInt32 = "2147483647"

// numberClass gives the class of a number. Servers before 15 end a number where letters begin,
// so none may stand at either side.
func numberClass(sql string, t token) (class slotClass, ok bool) {
	text := t.text(sql)
	if t.start > 0 && joins(sql[t.start-1]) || joins(at(sql, t.end)) {
		return 0, false
	}
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case isDigit(c):
		case c == '.' || c|0x20 == 'e' || (c == '+' || c == '-') && text[i-1]|0x20 == 'e':
			class = slotDecimal
		default:
			return 0, false
		}
	}
	switch {
	case class == slotDecimal:
		return class, true
	case text[0] == '0' && len(text) > 1:
		return 0, false
	case len(text) < len(maxInt32) || len(text) == len(maxInt32) && text <= maxInt32:
		return slotInteger, true
	}
	return slotLong, true
}

func joins(c byte) bool { return isWordPart(c) || c == '.' }

// GetShape returns what was put for a shape. It does not allocate.
func (c *Cache[V]) GetShape(s *Shape) (V, bool) {
	e := (*c.shardAt(c.hashShape(s)).entries.Load())[string(s.key)]
	if e == nil {
		var none V
		return none, false
	}
	e.use()
	return e.value, true
}

// AgainShape is Again for a shape.
func (c *Cache[V]) AgainShape(s *Shape) bool { return c.seen.again(c.hashShape(s)) }

// slotBytes is about what a template holds for a constant: its place, its value, and its share of what the
// step that is made of it holds. The text of a shape has three or four bytes for it.
const slotBytes = 64

func (s *Shape) bytes() int { return len(s.key) + slotBytes*len(s.slots) }

// KeepsShape reports whether a shape is small enough to be kept.
func (c *Cache[V]) KeepsShape(s *Shape) bool { return s.bytes() <= c.shards[0].maxBytes }

// PutShape keeps a value for a shape that is small enough.
func (c *Cache[V]) PutShape(s *Shape, v V) {
	c.shardAt(c.hashShape(s)).put(string(s.key), v, s.bytes())
}
