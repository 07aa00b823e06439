package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Limits of a rule file. The parser's work grows with the square of size and depth, and
// aliases let a small file stand for a huge one.
const (
	maxFileBytes = 64 << 10
	maxDepth     = 32
	maxNodes     = 200_000
)

func readLimited(r io.Reader) ([]byte, error) {
	return io.ReadAll(io.LimitReader(r, maxFileBytes+1))
}

// parseYAML gives the root node of a file's one document, or what is wrong with it.
func (d *decoder) parseYAML(data []byte) (root ast.Node) {
	text, ok := d.cleanText(data)
	if !ok {
		return nil
	}
	// The parser is not ours, and a rule file must not be able to end the program.
	defer func() {
		if v := recover(); v != nil {
			d.fault(Pos{File: d.file}, "the file cannot be parsed as YAML", "simplify it towards the documented form")
			root = nil
		}
	}()
	tokens := lexer.Tokenize(text)
	if !d.checkDepth(tokens) {
		return nil
	}
	file, err := parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err != nil {
		d.syntaxFault(err)
		return nil
	}
	return d.oneDocument(file)
}

// cleanText removes what editors of other systems add, and finds bytes that are no
// text.
func (d *decoder) cleanText(data []byte) (string, bool) {
	if len(data) > maxFileBytes {
		d.fault(Pos{File: d.file}, fmt.Sprintf("the file is larger than %d KiB", maxFileBytes>>10), "write one rule a file")
		return "", false
	}
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
	data = bytes.ReplaceAll(data, []byte("\r"), []byte("\n"))
	at := Pos{d.file, 1, 1}
	for rest := data; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			d.fault(at, "the file is not UTF-8 text", "save it as UTF-8")
			return "", false
		case r < 0x20 && r != '\n' && r != '\t', r == 0x7f:
			d.fault(at, fmt.Sprintf("the file holds a control character (0x%02x)", r), "remove it")
			return "", false
		case r == '\n':
			at.Line, at.Column = at.Line+1, 0
		}
		at.Column++
		rest = rest[size:]
	}
	return string(data), true
}

// checkDepth refuses nesting that takes no indentation: brackets, and dashes on one line.
func (d *decoder) checkDepth(tokens token.Tokens) bool {
	depth, dashes, line := 0, 0, 0
	for _, t := range tokens {
		if t.Position != nil && t.Position.Line != line {
			dashes, line = 0, t.Position.Line
		}
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.SequenceEntryType:
			dashes++
		}
		if max(depth, dashes) > maxDepth {
			d.fault(d.tokenPos(t), "lists and mappings are nested too deeply", "a rule needs two levels")
			return false
		}
	}
	return true
}

func (d *decoder) oneDocument(file *ast.File) ast.Node {
	var root ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil {
			continue
		}
		if _, ok := doc.Body.(*ast.DirectiveNode); ok {
			continue
		}
		if root != nil {
			d.fault(d.place(doc.Body), "the file holds a second document", "write one rule a file")
			return root
		}
		root = doc.Body
	}
	if root == nil {
		d.fault(Pos{File: d.file}, "the rule file is empty", `write at least "table: public.users" and "key: \"user:{id}\""`)
	}
	return root
}

// syntaxFault turns the parser's error into a finding.
func (d *decoder) syntaxFault(err error) {
	var detailed interface {
		GetToken() *token.Token
		GetMessage() string
	}
	if !errors.As(err, &detailed) {
		d.fault(Pos{File: d.file}, "the file is not valid YAML: "+firstLine(err.Error()), "")
		return
	}
	message := strings.ReplaceAll(detailed.GetMessage(), "'\t'", "TAB")
	message = firstLine(message)
	at := Pos{File: d.file}
	if t := detailed.GetToken(); t != nil {
		at = d.tokenPos(t)
	}
	d.fault(at, "the file is not valid YAML: "+message, syntaxFix(message))
}

// syntaxFix knows the slips that rule files invite.
func syntaxFix(message string) string {
	switch {
	case strings.Contains(message, "cannot start any token"):
		return "indent with spaces, not tabs, and quote text that starts with a special character"
	case strings.Contains(message, "not allowed in this context"):
		return `check the indentation, and put text that holds ": " or starts with "{" in double quotes`
	case strings.Contains(message, "not found"), strings.Contains(message, "could not find"):
		return "close the bracket, brace or quote, or put the text in double quotes"
	}
	return ""
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.Map(func(r rune) rune {
		if r < 0x20 {
			return ' '
		}
		return r
	}, line)
}

func (d *decoder) tokenPos(t *token.Token) Pos {
	if t == nil || t.Position == nil {
		return Pos{File: d.file}
	}
	return Pos{d.file, max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// place gives where a node starts; the token of a mapping is its first colon.
func (d *decoder) place(n ast.Node) Pos {
	switch n := n.(type) {
	case *ast.MappingNode:
		if !n.IsFlowStyle && len(n.Values) > 0 {
			return d.place(n.Values[0])
		}
	case *ast.MappingValueNode:
		if n.Key != nil {
			return d.place(n.Key)
		}
	}
	return d.tokenPos(n.GetToken())
}
