package rules

import (
	"fmt"
	"slices"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// maxWait bounds `read: wait`. A fill that takes longer than a minute has lost its lease
// long ago, and its readers their patience.
const maxWait = time.Minute

// readDefaults decodes the section `read`.
func (d *decoder) readDefaults(r *ReadDefaults, n ast.Node, path string) {
	d.pos[path] = d.place(n)
	d.fields(n, path, "`read`", d.readFields(r), func(pair) bool { return false })
}

func (d *decoder) readFields(r *ReadDefaults) map[string]fieldFunc {
	return map[string]fieldFunc{
		"max_age": func(n ast.Node, path string) {
			age, at, ok := d.duration(n, path)
			switch {
			case !ok:
			case age < 0:
				d.faultf(at, "write 0s for entries of any age", "`max_age` is %s", age)
			default:
				r.MaxAge = age
			}
		},
		"replica": func(n ast.Node, path string) { d.boolean(n, path, &r.Replica) },
		"wait": func(n ast.Node, path string) {
			wait, at, ok := d.duration(n, path)
			switch {
			case !ok:
			case wait < 0:
				d.faultf(at, "write 0s not to wait", "`wait` is %s", wait)
			case wait > maxWait:
				d.faultf(at, "write at most 1m", "`wait` is %s", wait)
			default:
				r.Wait = &wait
			}
		},
	}
}

// readKeyOutside finds keys of `read` that stand beside it.
func (d *decoder) readKeyOutside(p pair) bool {
	if _, ok := d.readFields(&ReadDefaults{})[p.name]; !ok {
		return false
	}
	d.faultf(p.at, fmt.Sprintf("write it at the top level as \"read: {%s: ...}\"", p.name), "`%s` stands outside `read`", p.name)
	return true
}

// boolean decodes true or false. YAML's older words for them (yes, on) are text today.
func (d *decoder) boolean(n ast.Node, path string, use *bool) {
	node := d.resolve(n)
	if node == nil {
		return
	}
	at := d.place(n)
	d.pos[path] = at
	b, ok := node.(*ast.BoolNode)
	if !ok {
		what := kindOf(node)
		if text, scalar := scalarText(node); scalar && what != "nothing" {
			what = fmt.Sprintf("%q", text)
		}
		d.faultf(at, "write `true` or `false`, without quotes", "`%s` is %s, not true or false", leaf(path), what)
		return
	}
	*use = b.Value
}

// checkRead finds defaults that no read could ever meet.
func (d *decoder) checkRead(r *Rule) {
	if _, written := d.pos["read"]; !written {
		return
	}
	if len(r.Entries) == 0 {
		if len(r.Shared) > 0 {
			d.fault(r.At("read"), "`read` is for entries, and the rule has none", "add an entry, or remove `read`")
		}
		return
	}
	longest := r.Entries[0]
	for _, e := range r.Entries {
		if d.faulty(join(e.Path, "ttl")) {
			return // what was meant may be longer
		}
		if e.TTL > longest.TTL {
			longest = e
		}
	}
	if r.Read.MaxAge > longest.TTL {
		d.faultf(r.At("read.max_age"), fmt.Sprintf("write at most %s, or remove the line", longest.TTL),
			"`max_age` is %s, but no entry lives longer than its ttl of %s", r.Read.MaxAge, longest.TTL)
	}
}

// faulty says whether there is a finding about the value at a path.
func (d *decoder) faulty(path string) bool {
	at, written := d.pos[path]
	return written && slices.ContainsFunc(d.findings, func(f Finding) bool { return f.Pos == at })
}
