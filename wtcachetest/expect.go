package wtcachetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// ExpectWritten says that a committed write stored payload under the key, and that the
// key still holds it. The payload is JSON text, or what json.Marshal makes it of: a Row, a
// struct, a map. It is compared as JSON: order and blanks do not matter.
func (c *Cache) ExpectWritten(key string, payload any) {
	c.t.Helper()
	c.expectStored(key, payload, "a write", operation.writes)
}

// ExpectFilled says the same of a reader that did not find the key. Under a rule with
// negative_ttl a reader that did not find a row either stores `null`.
func (c *Cache) ExpectFilled(key string, payload any) {
	c.t.Helper()
	c.expectStored(key, payload, "a reader", func(o operation) bool { return o.verb == "fill" })
}

func (c *Cache) expectStored(key string, payload any, who string, by func(operation) bool) {
	c.t.Helper()
	want, err := jsonOf(payload)
	if err != nil {
		c.t.Fatalf("wtcachetest: the payload that is expected under %s is no JSON: %v", key, err)
	}
	held, ok := c.Payload(key)
	switch last := c.lastStore(key); {
	case !ok:
		c.fail("%s was to hold what %s stored:\n\t%s\nbut is absent", key, who, want)
	case !sameJSON(held, want):
		c.fail("%s was to hold\n\t%s\nbut holds\n\t%s", key, want, held)
	case last == nil:
		c.fail("%s holds what is expected, but had it before: nothing has stored it since", key)
	case !by(*last):
		c.fail("%s was to be stored by %s, but was by %s", key, who, last.verb)
	}
}

// lastStore is the operation that stored a key last; nil where there was none.
func (c *Cache) lastStore(key string) *operation {
	for _, o := range slices.Backward(c.log.list()) {
		if o.key == key && o.stores() {
			return &o
		}
	}
	return nil
}

// ExpectAbsent says that readers find nothing under the keys, for whatever reason. The
// `null` of negative_ttl is something: see ExpectFilled.
func (c *Cache) ExpectAbsent(keys ...string) {
	c.t.Helper()
	for _, key := range keys {
		if held, ok := c.Payload(key); ok {
			c.fail("%s was to be absent, but holds\n\t%s", key, held)
		}
	}
}

// ExpectInvalidated says that a write made the keys absent, and that they still are.
func (c *Cache) ExpectInvalidated(keys ...string) {
	c.t.Helper()
	for _, key := range keys {
		if held, ok := c.Payload(key); ok {
			c.fail("%s was to be made absent, but holds\n\t%s", key, held)
			continue
		}
		if !slices.ContainsFunc(c.log.list(), func(o operation) bool { return o.key == key && o.writes() }) {
			c.fail("%s is absent, but no write has made it so", key)
		}
	}
}

// ExpectRead says which rows readers took from the database: those of these keys and no
// others, each as often as it is named, in whatever order and by however many statements
// (Ops has each). Without keys: none, so that all came from the cache.
func (c *Cache) ExpectRead(keys ...string) {
	c.t.Helper()
	var read []string
	for _, o := range c.log.list() {
		read = append(read, o.read...)
	}
	want := slices.Sorted(slices.Values(keys))
	if slices.Sort(read); !slices.Equal(read, want) {
		c.fail("readers were to take from the database %s, but took %s", enumerated(want), enumerated(read))
	}
}

func enumerated(keys []string) string {
	if len(keys) == 0 {
		return "nothing"
	}
	return strings.Join(keys, ", ")
}

// ExpectUntouched says that nothing was done to the keys, by writes or by readers that
// filled; without keys: to any key.
func (c *Cache) ExpectUntouched(keys ...string) {
	c.t.Helper()
	for _, o := range c.log.list() {
		if o.onCache() && (len(keys) == 0 || slices.Contains(keys, o.key)) {
			c.fail("%s was to be left alone", o.key)
			return
		}
	}
}

// ExpectSwept says that every entry of a table's rule was made absent, since it was not
// known which rows a write touched.
func (c *Cache) ExpectSwept(tableName string) {
	c.t.Helper()
	name := c.table(tableName, nil).name.String()
	if !slices.ContainsFunc(c.log.list(), func(o operation) bool { return o.verb == "sweep" && o.key == name }) {
		c.fail("every entry of %s was to be made absent", name)
	}
}

// ExpectFencedBeforeCommit says that each key was fenced before the COMMIT of its write:
// that no reader could have put the old row back. The driver sees to it wherever the rule
// is strict and Redis is there.
func (c *Cache) ExpectFencedBeforeCommit(keys ...string) {
	c.t.Helper()
	ops := c.log.list()
	for _, key := range keys {
		fenced := slices.IndexFunc(ops, func(o operation) bool { return o.verb == "fence" && o.key == key && o.note == "" })
		ended := slices.IndexFunc(ops, func(o operation) bool { return o.verb != "fence" && o.key == key })
		if ended < 0 {
			ended = len(ops)
		}
		if fenced < 0 || fenced > ended || !slices.ContainsFunc(ops[fenced:ended], func(o operation) bool { return o.commits }) {
			c.fail("%s was to be fenced before the COMMIT", key)
		}
	}
}

// ExpectOps compares all that happened, see Ops. It is the strictest of expectations: how
// the driver goes about a write may change from one version to the next.
func (c *Cache) ExpectOps(want ...string) {
	c.t.Helper()
	if got := c.Ops(); !slices.Equal(got, want) {
		c.fail("expected was:\n%s", indented(want))
	}
}

// Ops lists what happened, in order: the user's statements, BEGIN, COMMIT and ROLLBACK
// (also those that the driver adds), and what was done to the cache, such as
//
//	fence user:7
//	UPDATE users SET name = $1 WHERE id = $2
//	apply user:7 {"id":7,"name":"Ann"}
//
// A step's unusual outcome follows it after a colon. Readers are there where they do not find
// all they look for: with one line for a statement, whatever the number of its keys, and
// with what they fill:
//
//	read user:7, user:8 from public.users
//	fill user:7 {"id":7,"name":"Ann"}
func (c *Cache) Ops() []string {
	ops := c.log.list()
	lines := make([]string, len(ops))
	for i, o := range ops {
		lines[i] = o.String()
	}
	return lines
}

func (c *Cache) fail(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("wtcachetest: %s\n%s", fmt.Sprintf(format, args...), c.happened())
}

// happened is the list that follows every failure.
func (c *Cache) happened() string {
	lines := c.Ops()
	if len(lines) == 0 {
		return "nothing happened"
	}
	return "what happened:\n" + indented(lines)
}

func indented(lines []string) string {
	if len(lines) == 0 {
		return "\t(nothing)"
	}
	return "\t" + strings.Join(lines, "\n\t")
}

func jsonOf(payload any) (string, error) {
	var text []byte
	switch p := payload.(type) {
	case string:
		text = []byte(p)
	case []byte:
		text = p
	default:
		var err error
		if text, err = json.Marshal(payload); err != nil {
			return "", err
		}
	}
	var v any
	return string(text), json.Unmarshal(text, &v)
}

func sameJSON(a, b string) bool {
	left, lerr := decoded(a)
	right, rerr := decoded(b)
	return lerr == nil && rerr == nil && reflect.DeepEqual(left, right)
}

// decoded keeps numbers as they are written: a bigint does not fit a float64.
func decoded(text string) (v any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	err = d.Decode(&v)
	return v, err
}
