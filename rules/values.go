package rules

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"
)

// Bounds of a rule file's numbers.
const (
	minTTL    = time.Second
	maxTTL    = 365 * 24 * time.Hour
	maxJitter = 0.50
)

// choice is a field with a few values. The ones that are planned are known by name, so
// that their user learns more than that the word is wrong.
type choice struct {
	supported []string
	planned   []string
}

var (
	formats       = choice{[]string{string(FormatEnvelope), string(FormatPlain), string(FormatHash), string(FormatVersioned)}, nil}
	strategies    = choice{[]string{string(StrategyWrite), string(StrategyInvalidate)}, nil}
	consistencies = choice{[]string{string(Strict), string(Eventual)}, nil}
	applies       = choice{[]string{string(Sync), string(Async)}, nil}
	redisDowns    = choice{[]string{string(Queue), string(Refuse)}, nil}
	captures      = choice{[]string{"returning"}, []string{"reread", "trigger"}}
	versions      = choice{[]string{"lsn"}, []string{"sequence", "column"}}
)

func (c choice) fix() string {
	return "write `" + strings.Join(c.supported, "` or `") + "`"
}

func (d *decoder) choose(n ast.Node, path string, c choice, use func(string)) {
	text, at, ok := d.text(n, path)
	switch {
	case !ok:
	case slices.Contains(c.supported, text):
		use(text)
	case slices.Contains(c.planned, text):
		d.notSupported(at, path, text, c)
	default:
		fix := c.fix()
		if near := nearest(text, c.supported); len(near) > 0 {
			fix = fmt.Sprintf("did you mean %q?", near[0])
		}
		d.faultf(at, fix, "`%s` cannot be %q", leaf(path), text)
	}
}

func (d *decoder) notSupported(at Pos, path, text string, c choice) {
	d.faultf(at, c.fix(), "`%s: %s` is not supported yet", leaf(path), text)
}

// version accepts lsn. The planned forms are a mapping, or text that YAML has not taken
// for one.
func (d *decoder) version(n ast.Node, path string) {
	if _, ok := d.mapping(n); ok {
		pairs, _ := d.pairs(n, "`version`")
		for _, p := range pairs {
			if slices.Contains(versions.planned, p.name) {
				d.notSupported(d.place(n), path, p.name, versions)
				return
			}
		}
		d.faultf(d.place(n), versions.fix(), "`%s` is a mapping of unknown keys", leaf(path))
		return
	}
	if node, ok := d.resolve(n).(*ast.StringNode); ok {
		word, _, found := strings.Cut(node.Value, ":")
		if found && slices.Contains(versions.planned, strings.TrimSpace(word)) {
			d.notSupported(d.place(n), path, strings.TrimSpace(word), versions)
			return
		}
	}
	d.choose(n, path, versions, func(string) {})
}

func (d *decoder) ttl(e *Entry, n ast.Node, path string) {
	ttl, at, ok := d.duration(n, path)
	switch {
	case !ok:
	case ttl < minTTL:
		d.faultf(at, "write at least 1s", "`ttl` is %s", ttl)
	case ttl > maxTTL:
		d.faultf(at, "write at most 8760h (365 days)", "`ttl` is %s", ttl)
	default:
		e.TTL = ttl
	}
}

func (d *decoder) negativeTTL(r *Rule, n ast.Node, path string) {
	ttl, at, ok := d.duration(n, path)
	switch {
	case !ok:
	case ttl != 0 && ttl < minTTL:
		d.faultf(at, "write 0s, or at least 1s", "`negative_ttl` is %s", ttl)
	case ttl > maxTTL:
		d.faultf(at, "write at most 8760h (365 days)", "`negative_ttl` is %s", ttl)
	default:
		r.NegativeTTL = ttl
	}
}

// duration decodes a duration as Go writes it.
func (d *decoder) duration(n ast.Node, path string) (time.Duration, Pos, bool) {
	const example = "write a duration such as 10m, 90s or 24h"
	if number, ok := d.resolve(n).(*ast.IntegerNode); ok {
		at, text := d.place(n), number.Token.Value
		d.pos[path] = at
		if text == "0" {
			return 0, at, true
		}
		d.faultf(at, fmt.Sprintf("write %ss if seconds are meant", text), "`%s: %s` has no unit", leaf(path), text)
		return 0, at, false
	}
	text, at, ok := d.text(n, path)
	if !ok {
		return 0, at, false
	}
	v, err := time.ParseDuration(text)
	if err == nil {
		return v, at, true
	}
	fix := example
	if days, cut := strings.CutSuffix(text, "d"); cut {
		if count, err := strconv.ParseUint(days, 10, 16); err == nil {
			fix = fmt.Sprintf("write days as hours: %dh", count*24)
		}
	}
	d.faultf(at, fix, "`%s` is no duration: %q", leaf(path), text)
	return 0, at, false
}

// maxReplicas bounds `wait_replicas`.
const maxReplicas = 9

// count decodes a small whole number.
func (d *decoder) count(n ast.Node, path string, most int, use *int) {
	fix := fmt.Sprintf("write a whole number from 0 to %d", most)
	at := d.place(n)
	d.pos[path] = at
	number, ok := d.resolve(n).(*ast.IntegerNode)
	if !ok {
		d.faultf(at, fix, "`%s` is no whole number", leaf(path))
		return
	}
	v, err := strconv.Atoi(number.Token.Value)
	if err != nil || v < 0 || v > most {
		d.faultf(at, fix, "`%s` is out of bounds: %s", leaf(path), number.Token.Value)
		return
	}
	*use = v
}

// jitter decodes "10%" or 0.1.
func (d *decoder) jitter(e *Entry, n ast.Node, path string) {
	const fix = "write 0% to 50%, or 0 to 0.5"
	var text string
	at := d.place(n)
	d.pos[path] = at
	switch node := d.resolve(n).(type) {
	case *ast.IntegerNode:
		text = node.Token.Value
	case *ast.FloatNode:
		text = node.Token.Value
	default:
		var ok bool
		if text, at, ok = d.text(n, path); !ok {
			return
		}
	}
	number, percent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if percent {
		v /= 100
	}
	switch {
	case err != nil || math.IsNaN(v):
		d.faultf(at, fix, "`jitter` is no part of the ttl: %q", text)
	case v < 0 || v > maxJitter:
		if whole := v / 100; !percent && v >= 1 && whole <= maxJitter {
			d.faultf(at, fmt.Sprintf("write %s%% if percent are meant", text), "`jitter: %s` is more than the whole ttl", text)
			return
		}
		d.faultf(at, fix, "`jitter` is out of bounds: %s", text)
	default:
		e.Jitter = v
	}
}
