package rules

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// decodeFile decodes and completes one rule file. The rule is nil where there is too
// little of it to be compared with others; it is not to be used where there are findings.
func decodeFile(file string, data []byte) (*Rule, []Finding) {
	d := &decoder{file: file, pos: map[string]Pos{}}
	root := d.parseYAML(data)
	if root == nil {
		return nil, d.findings
	}
	d.collectAnchors(root)
	return d.rule(root), d.findings
}

func (d *decoder) rule(root ast.Node) *Rule {
	r := &Rule{Consistency: Strict, Apply: Sync, RedisDown: Queue, Pos: d.place(root), pos: d.pos}
	short := newEntry("")
	known := d.entryFields(short)
	shortKeys := make(map[string]bool, len(known))
	for name := range known {
		shortKeys[name] = true
	}
	d.addRuleFields(known, r)
	seen, ok := d.fields(root, "", "a rule", known, d.readKeyOutside)
	if !ok {
		return nil
	}
	if _, ok := seen["table"]; !ok {
		d.fault(r.Pos, "the rule names no table", `add one such as "table: public.users"`)
	}
	if d.placeShortForm(seen, shortKeys) {
		r.Entries = append(r.Entries, short)
	}
	if !d.keyed {
		d.fault(keylessPlace(r, seen), "the rule names no key", `add one such as: key: "user:{id}"`)
	}
	d.checkRule(r)
	return r
}

// addRuleFields adds the keys that stand at the top level alone.
func (d *decoder) addRuleFields(known map[string]fieldFunc, r *Rule) {
	known["table"] = func(n ast.Node, path string) {
		if name, at, ok := d.name(n, path); ok {
			r.Table, r.Pos = name, at
		}
	}
	known["via"] = func(n ast.Node, path string) {
		d.list(n, path, "[public.active_users]", func(n ast.Node, path string) {
			if name, _, ok := d.name(n, path); ok {
				r.Via = append(r.Via, name)
			}
		})
	}
	known["entries"] = func(n ast.Node, path string) {
		d.list(n, path, `- key: "user:{id}"`, func(n ast.Node, path string) {
			d.keyed = true
			if e := d.entry(n, path); e != nil {
				r.Entries = append(r.Entries, e)
			}
		})
	}
	known["invalidate"] = func(n ast.Node, path string) {
		d.list(n, path, `["org:{org_id}:members"]`, func(n ast.Node, path string) {
			d.keyed = true
			if t := d.template(n, path); t != nil {
				r.Shared = append(r.Shared, t)
			}
		})
	}
	known["consistency"] = func(n ast.Node, path string) {
		d.choose(n, path, consistencies, func(s string) { r.Consistency = Consistency(s) })
	}
	known["apply"] = func(n ast.Node, path string) { d.choose(n, path, applies, func(s string) { r.Apply = Apply(s) }) }
	known["redis_down"] = func(n ast.Node, path string) {
		d.choose(n, path, redisDowns, func(s string) { r.RedisDown = RedisDown(s) })
	}
	known["wait_replicas"] = func(n ast.Node, path string) { d.count(n, path, maxReplicas, &r.WaitReplicas) }
	known["capture"] = func(n ast.Node, path string) { d.choose(n, path, captures, func(string) {}) }
	known["version"] = d.version
	known["negative_ttl"] = func(n ast.Node, path string) { d.negativeTTL(r, n, path) }
	known["read"] = func(n ast.Node, path string) { d.readDefaults(&r.Read, n, path) }
}

// placeShortForm says whether the top level is an entry of its own, and finds entry keys
// that stand there without one.
func (d *decoder) placeShortForm(seen map[string]Pos, shortKeys map[string]bool) bool {
	_, hasEntries := seen["entries"]
	at, hasKey := seen["key"]
	d.keyed = d.keyed || hasKey
	if hasKey && !hasEntries {
		return true
	}
	if hasKey {
		d.fault(at, "`key` stands beside `entries`", "make it an entry of the list, or remove `entries`")
	}
	for name, at := range seen {
		switch {
		case !shortKeys[name] || name == "key":
			continue
		case hasEntries:
			d.faultf(at, "write it into each entry that needs it", "`%s` stands beside `entries`", name)
		default:
			d.faultf(at, `add one such as: key: "user:{id}"`, "`%s` needs a `key` beside it", name)
		}
		d.keyed = true
	}
	return false
}

// keylessPlace is where a key is missing: an empty list, else the rule.
func keylessPlace(r *Rule, seen map[string]Pos) Pos {
	for _, name := range [...]string{"entries", "invalidate"} {
		if at, ok := seen[name]; ok {
			return at
		}
	}
	return r.Pos
}

func newEntry(path string) *Entry {
	return &Entry{Path: path, Format: FormatEnvelope, Strategy: StrategyWrite, TTL: DefaultTTL, Jitter: DefaultJitter}
}

// entry decodes one element of `entries`; nil where it is no mapping.
func (d *decoder) entry(n ast.Node, path string) *Entry {
	e := newEntry(path)
	at := d.place(n)
	d.pos[path] = at
	seen, ok := d.fields(n, path, "an entry", d.entryFields(e), d.ruleKeyInEntry)
	if !ok {
		return nil
	}
	if _, ok := seen["key"]; !ok {
		d.fault(at, "the entry has no key", `add one such as: key: "user:{id}"`)
	}
	return e
}

// ruleKeyInEntry finds keys that are right in themselves but belong one level up.
func (d *decoder) ruleKeyInEntry(p pair) bool {
	top := map[string]fieldFunc{}
	d.addRuleFields(top, &Rule{})
	if _, ok := top[p.name]; !ok {
		return d.readKeyOutside(p)
	}
	d.faultf(p.at, "move it to the top level of the file", "`%s` stands inside an entry but holds for the whole rule", p.name)
	return true
}

// entryFields are the keys of an entry, which the short form has at the top level.
func (d *decoder) entryFields(e *Entry) map[string]fieldFunc {
	return map[string]fieldFunc{
		"name": func(n ast.Node, path string) { d.entryName(e, n, path) },
		"key":  func(n ast.Node, path string) { e.Key = d.template(n, path) },
		"columns": func(n ast.Node, path string) {
			e.Columns = d.columns(n, path)
			if length, ok := d.listLength(n); ok && length == 0 {
				d.fault(d.place(n), "`columns` is empty", "name some, or remove the line for all columns")
			}
		},
		"omit":   func(n ast.Node, path string) { e.Omit = d.columns(n, path) },
		"rename": func(n ast.Node, path string) { e.Rename = d.rename(n, path) },
		"format": func(n ast.Node, path string) {
			d.choose(n, path, formats, func(s string) { e.Format = Format(s) })
		},
		"strategy": func(n ast.Node, path string) {
			d.choose(n, path, strategies, func(s string) { e.Strategy = Strategy(s) })
		},
		"ttl":    func(n ast.Node, path string) { d.ttl(e, n, path) },
		"jitter": func(n ast.Node, path string) { d.jitter(e, n, path) },
		"when":   func(n ast.Node, path string) { d.when(e, n, path) },
	}
}

func (d *decoder) entryName(e *Entry, n ast.Node, path string) {
	text, at, ok := d.text(n, path)
	if !ok {
		return
	}
	// Names label metrics and are typed in commands and calls.
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.') {
			d.faultf(at, "use letters, digits, '_', '-' and '.'", "the entry's name holds %q", r)
			return
		}
	}
	if text == "" || len(text) > maxIdentifierBytes {
		d.faultf(at, "write a short word such as by_id", "the entry's name has %d bytes, not 1 to %d", len(text), maxIdentifierBytes)
		return
	}
	e.Name = text
}

func (d *decoder) when(e *Entry, n ast.Node, path string) {
	text, at, ok := d.text(n, path)
	if ok && strings.TrimSpace(text) == "" {
		d.fault(at, "`when` is empty", `write a condition such as "deleted_at IS NULL", or remove the line`)
	}
	e.When = strings.TrimSpace(text)
}

func (d *decoder) name(n ast.Node, path string) (Name, Pos, bool) {
	text, at, ok := d.text(n, path)
	if !ok {
		return Name{}, at, false
	}
	name, fault := parseName(text)
	if fault != nil {
		d.fault(at, "the relation's "+fault.problem, fault.fix)
		return Name{}, at, false
	}
	return name, at, true
}

func (d *decoder) template(n ast.Node, path string) *Template {
	text, _, ok := d.text(n, path)
	if !ok {
		return nil
	}
	t, err := ParseTemplate(text)
	if err != nil {
		fault := err.(*TemplateError)
		d.fault(d.textOffset(n, text, fault.Offset), fault.Problem, fault.Fix)
		return nil
	}
	return t
}

// columns decodes a list of distinct column names.
func (d *decoder) columns(n ast.Node, path string) []string {
	var out []string
	seen := map[string]bool{}
	d.list(n, path, "[id, name]", func(n ast.Node, path string) {
		column, at, ok := d.column(n, path)
		switch {
		case !ok:
			column = "" // keeps the indexes of the list, which At is asked for
		case seen[column]:
			d.faultf(at, "name it once", "the column %q is named twice", column)
		}
		seen[column] = true
		out = append(out, column)
	})
	return out
}

func (d *decoder) column(n ast.Node, path string) (string, Pos, bool) {
	text, at, ok := d.text(n, path)
	if !ok {
		return "", at, false
	}
	column, fault := parseColumn(text)
	if fault != nil {
		d.columnFault(at, text, fault)
		return "", at, false
	}
	return column, at, true
}

func (d *decoder) columnFault(at Pos, text string, fault *identifierFault) {
	fix := fault.fix
	if fix == quoteAdvice && text != "" {
		fix = fmt.Sprintf("write it as in SQL, with YAML's quotes around SQL's: '%q'", text)
	}
	d.fault(at, "the column's "+fault.problem, fix)
}

func (d *decoder) listLength(n ast.Node) (int, bool) {
	list, ok := d.resolve(n).(*ast.SequenceNode)
	if !ok {
		return 0, false
	}
	return len(list.Values), true
}

func (d *decoder) rename(n ast.Node, path string) map[string]string {
	d.pos[path] = d.place(n)
	pairs, ok := d.pairs(n, "`rename`")
	if !ok {
		return nil
	}
	out := make(map[string]string, len(pairs))
	for _, p := range pairs {
		column, fault := parseColumn(p.name)
		if fault != nil {
			d.columnFault(p.at, p.name, fault)
			continue
		}
		name, at, ok := d.text(p.value, join(path, column))
		d.pos[join(path, column)] = p.at
		if _, twice := out[column]; twice {
			d.faultf(p.at, "rename it once", "the column %q is renamed twice", column)
		}
		if ok && name == "" {
			d.faultf(at, `write a name such as "orgId"`, "the new name of %q is empty", column)
			continue
		}
		if ok {
			out[column] = name
		}
	}
	return out
}
