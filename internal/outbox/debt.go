package outbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Debt is what Redis must be told: keys to be made absent, and rules of which every key must be.
type Debt struct {
	Keys   []string // any bytes
	Sweeps []Sweep
}

// Sweep makes all keys absent that match one of the globs, behind a token on the barrier ("": none). Its texts must be UTF-8.
type Sweep struct {
	Barrier string   `json:"barrier,omitempty"`
	Globs   []string `json:"globs"`
}

// Empty says that nothing is owed.
func (d Debt) Empty() bool { return len(d.Keys) == 0 && len(d.Sweeps) == 0 }

// A row of the outbox holds no more than this, so that a batch of rows is bounded, too. A single key may be longer.
const (
	rowKeys  = 500
	rowBytes = 32 << 10
)

// wire is a Debt as JSON. JSON has no bytes that are not text: keys of such bytes go into KeysBase64.
type wire struct {
	Keys       []string `json:"keys,omitempty"`
	KeysBase64 [][]byte `json:"keys_base64,omitempty"`
	Sweeps     []Sweep  `json:"sweeps,omitempty"`
}

// encode gives a JSON array of which each element becomes a row. It is ASCII: then neither the server's encoding nor the session's
// matters, since a column of type json keeps escapes as they are.
func (d Debt) encode() string {
	var rows []wire
	for keys := range chunks(d.Keys) {
		rows = append(rows, wireOf(keys))
	}
	if len(d.Sweeps) > 0 {
		rows = append(rows, wire{Sweeps: d.Sweeps})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(rows); err != nil {
		panic(err) // texts and slices alone: it cannot happen
	}
	return ascii(strings.TrimSpace(b.String()))
}

func wireOf(keys []string) (w wire) {
	for _, k := range keys {
		if utf8.ValidString(k) {
			w.Keys = append(w.Keys, k)
		} else {
			w.KeysBase64 = append(w.KeysBase64, []byte(k))
		}
	}
	return w
}

// chunks gives the keys in runs that fit into a row.
func chunks(keys []string) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		for len(keys) > 0 {
			n, size := 1, len(keys[0])
			for n < len(keys) && n < rowKeys && size+len(keys[n]) <= rowBytes {
				size += len(keys[n])
				n++
			}
			if !yield(keys[:n]) {
				return
			}
			keys = keys[n:]
		}
	}
}

// ascii escapes the characters of a JSON text that are not ASCII, which are in its strings alone.
func ascii(text string) string {
	if strings.IndexFunc(text, func(r rune) bool { return r >= utf8.RuneSelf }) < 0 {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b.WriteRune(r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		}
	}
	return b.String()
}

var errNothingOwed = errors.New("it names neither keys nor sweeps")

// decode reads one row. A field that it does not know is an error: a newer version of wtcache may mean something by it that must
// not be dropped.
func decode(text string) (Debt, error) {
	var w *wire
	e := json.NewDecoder(strings.NewReader(text))
	e.DisallowUnknownFields()
	if err := e.Decode(&w); err != nil {
		return Debt{}, err
	}
	if w == nil {
		return Debt{}, errNothingOwed
	}
	d := Debt{Keys: w.Keys, Sweeps: w.Sweeps}
	for _, k := range w.KeysBase64 {
		d.Keys = append(d.Keys, string(k))
	}
	if d.Empty() || slices.ContainsFunc(d.Sweeps, func(s Sweep) bool { return len(s.Globs) == 0 }) {
		return Debt{}, errNothingOwed
	}
	return d, nil
}

// merge gives what all the debts owe, each key and each sweep once.
func merge(debts []Debt) (all Debt) {
	keys, sweeps := make(map[string]bool), make(map[string]bool)
	for _, d := range debts {
		for _, k := range d.Keys {
			if !keys[k] {
				keys[k] = true
				all.Keys = append(all.Keys, k)
			}
		}
		for _, s := range d.Sweeps {
			if id := strings.Join(append([]string{s.Barrier}, s.Globs...), "\x00"); !sweeps[id] {
				sweeps[id] = true
				all.Sweeps = append(all.Sweeps, s)
			}
		}
	}
	return all
}
