package rules

import (
	"fmt"
	"strings"
)

// templateParser walks a template's text.
type templateParser struct {
	text    string
	pos     int
	literal strings.Builder // since the last placeholder
	braces  []int           // as for Template.check
}

// step consumes one literal byte, one doubled brace or one placeholder.
func (p *templateParser) step(t *Template) error {
	c := p.text[p.pos]
	rest := p.text[p.pos:]
	switch {
	case strings.HasPrefix(rest, "{{"):
		p.braces = append(p.braces, p.pos)
		p.take(c, 2)
	case strings.HasPrefix(rest, "}}"):
		p.braces = append(p.braces, -p.pos-1)
		p.take(c, 2)
	case c == '{':
		return p.placeholder(t)
	case c == '}':
		return &TemplateError{p.pos, `a "}" closes no placeholder`, `write "}}" for a literal brace`}
	case c == '%':
		return &TemplateError{p.pos, `a "%" stands in the literal text, where it could be taken for an encoded byte of a value`, "use another character"}
	case c < 0x20 || c == 0x7f:
		return &TemplateError{p.pos, fmt.Sprintf("a control character (0x%02x) stands in the literal text", c), "write the key on one line, in printable text"}
	default:
		p.take(c, 1)
	}
	return nil
}

func (p *templateParser) take(c byte, width int) {
	p.literal.WriteByte(c)
	p.pos += width
}

func (p *templateParser) placeholder(t *Template) error {
	start := p.pos
	name, end, fault := scanIdentifier(p.text, start+1)
	if fault != nil {
		return p.placeholderFault(start, end, fault)
	}
	if end == len(p.text) {
		return unclosed(start)
	}
	if p.text[end] != '}' {
		return &TemplateError{end, fmt.Sprintf("a placeholder holds %q after the column's name", firstRune(p.text[end:])), `put names that are not plain words in double quotes: {"Mixed Case"}`}
	}
	if len(t.placeholders) > 0 && p.literal.Len() == 0 {
		return &TemplateError{start, "two placeholders touch, so that different rows could share a key", "put text between them, such as ':'"}
	}
	t.literals = append(t.literals, p.literal.String())
	t.placeholders = append(t.placeholders, placeholder{name, start})
	p.literal.Reset()
	p.pos = end + 1
	return nil
}

// placeholderFault turns a faulty name into what the writer of a template sees: a brace
// that was never closed is the likelier slip than a strange name.
func (p *templateParser) placeholderFault(start, end int, fault *identifierFault) error {
	rest := p.text[start+1:]
	switch {
	case strings.HasPrefix(rest, "}"):
		return &TemplateError{start, "a placeholder is empty", "write a column's name between the braces"}
	case !strings.Contains(rest, "}"):
		return unclosed(start)
	}
	return &TemplateError{end, "a placeholder's " + fault.problem, fault.fix}
}

func unclosed(start int) error {
	return &TemplateError{start, "a placeholder is not closed", `write "}" after the column's name, or "{{" for a literal brace`}
}
