package rules

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/token"
)

// decoder reads one rule file. It goes on after a fault, so that all of them are found.
type decoder struct {
	file     string
	findings []Finding
	anchors  map[string]ast.Node
	pos      map[string]Pos // Rule.pos
	nodes    int            // visited so far, aliases counted each time
	keyed    bool           // a key was written, or its lack was found already
}

// fieldFunc decodes the value of a key; path is the value's path in the rule file.
type fieldFunc func(n ast.Node, path string)

func (d *decoder) fault(at Pos, problem, fix string) {
	d.findings = append(d.findings, Finding{Pos: at, Problem: problem, Fix: fix})
}

func (d *decoder) faultf(at Pos, fix, problem string, args ...any) {
	d.fault(at, fmt.Sprintf(problem, args...), fix)
}

// collectAnchors records the file's anchors before anything is decoded.
func (d *decoder) collectAnchors(root ast.Node) {
	d.anchors = map[string]ast.Node{}
	ast.Walk(visitor(func(n ast.Node) {
		anchor, ok := n.(*ast.AnchorNode)
		if !ok || anchor.Name == nil {
			return
		}
		name := anchor.Name.String()
		if _, twice := d.anchors[name]; twice {
			d.faultf(d.place(anchor), "give each anchor its own name", "the anchor &%s is defined twice", name)
		}
		d.anchors[name] = anchor.Value
	}), root)
}

type visitor func(ast.Node)

func (v visitor) Visit(n ast.Node) ast.Visitor {
	v(n)
	return v
}

// resolve looks through anchors, aliases and tags. It gives nil, with a finding, for an
// alias to nothing and for a file that aliases have blown up.
func (d *decoder) resolve(n ast.Node) ast.Node {
	for {
		d.nodes++
		if d.nodes > maxNodes {
			if d.nodes == maxNodes+1 {
				d.fault(Pos{File: d.file}, "the file's aliases stand for too much", "write a rule without nested aliases")
			}
			return nil
		}
		switch node := n.(type) {
		case nil:
			return nil
		case *ast.AnchorNode:
			n = node.Value
		case *ast.TagNode:
			n = node.Value
		case *ast.AliasNode:
			target, ok := d.anchors[node.Value.String()]
			if !ok {
				d.faultf(d.place(node), "define the anchor first, or put the text in double quotes", "no anchor is called &%s", node.Value)
				return nil
			}
			n = target
		default:
			return n
		}
	}
}

// pair is one "key: value" of a mapping.
type pair struct {
	name  string
	at    Pos
	value ast.Node
}

// fields decodes a mapping by the table of its known keys. It gives the place of each
// key that the file writes, and false where the node is no mapping.
func (d *decoder) fields(n ast.Node, path, what string, known map[string]fieldFunc, misplaced func(pair) bool) (map[string]Pos, bool) {
	pairs, ok := d.pairs(n, what)
	if !ok {
		return nil, false
	}
	seen := map[string]Pos{}
	for _, p := range pairs {
		decode, ok := known[p.name]
		if !ok {
			if !misplaced(p) {
				d.unknownKey(p, what, known, seen)
			}
			continue
		}
		seen[p.name] = p.at
		decode(p.value, join(path, p.name))
	}
	return seen, true
}

// unknownKey takes a key for written that was probably meant, so that its lack is not
// one more finding.
func (d *decoder) unknownKey(p pair, what string, known map[string]fieldFunc, seen map[string]Pos) {
	names := slices.Sorted(maps.Keys(known))
	fix := "the keys of " + what + " are " + strings.Join(names, ", ")
	if near := nearest(p.name, names); len(near) > 0 {
		fix = fmt.Sprintf("did you mean %q?", near[0])
		if _, written := seen[near[0]]; !written {
			seen[near[0]] = p.at
		}
	}
	d.fault(p.at, fmt.Sprintf("%s has no key %q", what, p.name), fix)
}

// pairs gives the pairs of a mapping with merge keys ("<<") spliced in; keys that are
// written win over merged ones.
func (d *decoder) pairs(n ast.Node, what string) ([]pair, bool) {
	at := d.place(n)
	mapping, ok := d.mapping(n)
	if !ok {
		if mapping := d.resolve(n); mapping != nil {
			d.faultf(at, `write "key: value" lines`, "%s is %s, not a mapping", what, kindOf(mapping))
		}
		return nil, false
	}
	var out, merged []pair
	first := map[string]Pos{}
	for _, value := range mapping {
		if _, ok := value.Key.(*ast.MergeKeyNode); ok {
			merged = append(merged, d.mergedPairs(value.Value)...)
			continue
		}
		p, ok := d.pair(value)
		if !ok {
			continue
		}
		if before, twice := first[p.name]; twice {
			d.faultf(p.at, "keep one of them", "the key %q is written twice; it stands in line %d already", p.name, before.Line)
			continue
		}
		first[p.name] = p.at
		out = append(out, p)
	}
	for _, p := range merged {
		if _, written := first[p.name]; !written {
			first[p.name] = p.at
			out = append(out, p)
		}
	}
	return out, true
}

func (d *decoder) mapping(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch node := d.resolve(n).(type) {
	case *ast.MappingNode:
		return node.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{node}, true
	}
	return nil, false
}

// mergedPairs gives the pairs of a merge key's value: a mapping or a list of mappings.
func (d *decoder) mergedPairs(n ast.Node) []pair {
	parts := []ast.Node{n}
	if list, ok := d.resolve(n).(*ast.SequenceNode); ok {
		parts = list.Values
	}
	var out []pair
	for _, part := range parts {
		mapping, ok := d.mapping(part)
		if !ok {
			d.fault(d.place(part), "a merge key (<<) takes a mapping or a list of mappings", "")
			continue
		}
		for _, value := range mapping {
			if _, nested := value.Key.(*ast.MergeKeyNode); nested {
				d.fault(d.place(value), "a merged mapping merges another one", "merge both where they are needed: <<: [*a, *b]")
				continue
			}
			if p, ok := d.pair(value); ok {
				out = append(out, p)
			}
		}
	}
	return out
}

func (d *decoder) pair(value *ast.MappingValueNode) (pair, bool) {
	var key ast.Node = value.Key
	if explicit, ok := key.(*ast.MappingKeyNode); ok {
		key = explicit.Value
	}
	at := d.place(value)
	scalar := d.resolve(key)
	if scalar == nil {
		return pair{}, false
	}
	text, ok := scalarText(scalar)
	if !ok {
		d.faultf(at, "write a plain word", "a key is %s", kindOf(scalar))
		return pair{}, false
	}
	return pair{text, at, value.Value}, true
}

// list decodes each element of a list. One scalar is not taken for a list of one.
func (d *decoder) list(n ast.Node, path, example string, item fieldFunc) (length int, ok bool) {
	node := d.resolve(n)
	if node == nil {
		return 0, false
	}
	at := d.place(n)
	d.pos[path] = at
	list, ok := node.(*ast.SequenceNode)
	if !ok {
		d.faultf(at, "write a list such as "+example, "`%s` is %s, not a list", leaf(path), kindOf(node))
		return 0, false
	}
	for i, value := range list.Values {
		item(value, fmt.Sprintf("%s[%d]", path, i))
	}
	return len(list.Values), true
}

// text decodes a scalar that has to be text. Numbers and the like are refused, because
// their spelling would be the parser's, not the writer's.
func (d *decoder) text(n ast.Node, path string) (string, Pos, bool) {
	node := d.resolve(n)
	if node == nil {
		return "", Pos{}, false
	}
	at := d.place(n)
	if _, alias := n.(*ast.AliasNode); !alias {
		at = d.place(node)
	}
	d.pos[path] = at
	text, ok := plainText(node)
	if !ok {
		problem, fix := notText(node)
		d.faultf(at, fix, "`%s` %s", leaf(path), problem)
		return "", at, false
	}
	if i := strings.IndexFunc(text, isControl); i >= 0 {
		d.faultf(at, "remove it", "`%s` holds a control character (0x%02x)", leaf(path), text[i])
		return "", at, false
	}
	return text, at, true
}

// textOffset gives the place of a byte offset of a scalar's text, or the scalar's start
// where escapes, folding or an alias keep it from being known.
func (d *decoder) textOffset(n ast.Node, text string, offset int) Pos {
	node, ok := d.resolve(n).(*ast.StringNode)
	if _, alias := n.(*ast.AliasNode); alias || !ok || offset > len(text) {
		return d.place(n)
	}
	at := d.place(node)
	origin := strings.TrimSpace(node.Token.Origin)
	switch node.Token.Type {
	case token.DoubleQuoteType, token.SingleQuoteType:
		if len(origin) < 2 || origin[1:len(origin)-1] != text {
			return at
		}
		at.Column++
	default:
		if origin != text {
			return at
		}
	}
	at.Column += utf8.RuneCountInString(text[:offset])
	return at
}

// plainText is the text of a scalar that YAML itself takes for text.
func plainText(n ast.Node) (string, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return n.Value.Value, true
	}
	return "", false
}

// notText says what stands where text belongs.
func notText(n ast.Node) (problem, fix string) {
	switch n := n.(type) {
	case *ast.NullNode:
		return "has no value", "write a value, or remove the line"
	case *ast.SequenceNode:
		return "is a list, not text", "write one value, without brackets or dashes"
	case *ast.MappingNode:
		if n.IsFlowStyle {
			return "is a mapping, not text", "put text that starts with a brace in double quotes"
		}
		return "is a mapping, not text", "write one value on the line of its key"
	}
	return "is " + kindOf(n) + ", not text", "put it in double quotes if it is meant as text"
}

// scalarText is the text of any scalar.
func scalarText(n ast.Node) (string, bool) {
	if text, ok := plainText(n); ok {
		return text, true
	}
	if scalar, ok := n.(ast.ScalarNode); ok {
		return scalar.GetToken().Value, true
	}
	return "", false
}

// kindOf names a node's kind for people.
func kindOf(n ast.Node) string {
	switch n.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a mapping"
	case *ast.SequenceNode:
		return "a list"
	case *ast.NullNode:
		return "nothing"
	case *ast.IntegerNode, *ast.FloatNode, *ast.InfinityNode, *ast.NanNode:
		return "a number"
	case *ast.BoolNode:
		return "true or false"
	}
	return "text"
}

func isControl(r rune) bool { return r < 0x20 && r != '\n' && r != '\t' || r == 0x7f }

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// leaf gives the last key of a path: "columns[2]" of "entries[0].columns[2]".
func leaf(path string) string {
	return path[strings.LastIndexByte(path, '.')+1:]
}
