package wtcache

import (
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// target is an entry of a rule that is read.
type target struct {
	name  string // as the caller wrote it
	gen   *generation
	table *rules.Table
	entry *rules.BoundEntry
}

// asked is a key that a caller asks for.
type asked struct {
	texts []string // of the key's columns, in the template's order
	key   string
}

func (t target) format() cachesync.Format { return cacheFormat(t.entry.Format) }

func (t target) wanted(maxAge time.Duration) cachesync.Wanted {
	return cachesync.Wanted{
		Format: t.format(), Schema: t.entry.Schema,
		TTL: t.entry.TTL, NegativeTTL: t.entry.Negative, MaxAge: maxAge,
	}
}

// fillable is what may be stored of a row under the key that was asked for, without a
// payload where nothing may. A row that was found by equality may be printed in another
// way than the key, so that writers would not find this entry.
func (t target) fillable(r row, a asked) cachesync.Entry {
	e := cachesync.Entry{Schema: t.entry.Schema, Jitter: t.entry.Jitter, Format: t.format()}
	switch {
	case t.gen.degraded || r.unproved || r.err != nil:
	case r.found && r.storable && r.key == a.key:
		e.Payload, e.TTL = r.payload, t.entry.TTL
	case !r.found && r.negative && t.entry.Negative > 0:
		e.Payload, e.TTL = []byte(cachesync.NegativePayload), t.entry.Negative
	}
	return e
}

func (t target) decode(payload []byte, dest any) error {
	return t.gen.decoders[t.entry].decode(payload, dest)
}

// target gives the entry of a name.
func (g *generation) target(name string) (target, error) {
	if t, ok := g.targets.Load(name); ok {
		return t.(target), nil
	}
	all := make([]*rules.Rule, len(g.set.Tables))
	for i, t := range g.set.Tables {
		all[i] = t.Rule
	}
	entry, err := entryOf(name, all)
	if err != nil {
		return target{name: name}, err
	}
	for _, t := range g.set.Tables {
		for _, e := range t.Entries {
			if e.Entry == entry {
				found := target{name, g, t, e}
				g.targets.Store(name, found)
				return found, nil
			}
		}
	}
	return target{name: name}, unknownEntry(name, all)
}

// entryOf gives the entry that a name means. One that means entries of several tables means none.
func entryOf(name string, all []*rules.Rule) (*rules.Entry, error) {
	var means *rules.Entry
	for _, r := range all {
		for _, e := range r.Entries {
			if !namesEntry(name, r, e) {
				continue
			}
			if means != nil {
				return nil, unknownEntry(name, all)
			}
			means = e
		}
	}
	if means == nil {
		return nil, unknownEntry(name, all)
	}
	return means, nil
}

// namesEntry says whether a name means an entry: "users" for a rule of one entry,
// "users.by_email", both also with the table's schema.
func namesEntry(name string, r *rules.Rule, e *rules.Entry) bool {
	for _, table := range []string{r.Table.Table, r.Table.String()} {
		if name == table && len(r.Entries) == 1 || name == table+"."+e.Name {
			return true
		}
	}
	return false
}

// unknownEntry says what there is instead.
func unknownEntry(name string, all []*rules.Rule) error {
	var known, short []string
	var called []*rules.Rule // whose table is called so
	for _, r := range all {
		table := r.Table.Table
		if slices.ContainsFunc(all, func(o *rules.Rule) bool { return o != r && o.Table.Table == table }) {
			table = r.Table.String()
		}
		if len(r.Entries) == 1 {
			short = append(short, table)
		}
		for _, e := range r.Entries {
			known = append(known, table+"."+e.Name)
		}
		if prefix, _, _ := strings.Cut(name, "."); prefix == r.Table.Table || name == r.Table.String() {
			called = append(called, r)
		}
	}
	slices.Sort(known)
	hint := ""
	if near, ok := rules.Nearest(name, append(short, known...)); ok {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	switch {
	case len(called) > 1:
		hint = fmt.Sprintf("; %s is in several schemas: say in which", called[0].Table.Table)
	case len(called) == 1 && len(called[0].Entries) > 1 && (name == called[0].Table.Table || name == called[0].Table.String()):
		hint = fmt.Sprintf("; %s has several entries: say which", name)
	}
	return fmt.Errorf("%w: %q%s; the rules have %s", ErrUnknownEntry, name, hint, strings.Join(known, ", "))
}

// Key is a key by the names of its columns, where positions would be easy to confuse:
// Key{"org_id": 7, "id": 42}.
type Key map[string]any

// Values is a key of several columns by position, in the order of the key's template, as
// one element of Reader.GetMany's keys.
type Values []any

// Keys makes the keys of Reader.GetMany of a slice: GetMany(ctx, Keys(ids)...).
func Keys[K any](keys []K) []any {
	all := make([]any, len(keys))
	for i, k := range keys {
		all[i] = k
	}
	return all
}

// ask gives the key of the values that a caller has given: one for each column in the
// template's order, or a single Key or Values.
func (t target) ask(given []any) (asked, error) {
	columns := t.entry.Key.Columns()
	if len(given) == 1 {
		switch one := given[0].(type) {
		case Key:
			named, err := t.inOrder(one, columns)
			if err != nil {
				return asked{}, err
			}
			given = named
		case Values:
			given = one
		}
	}
	if len(given) != len(columns) {
		hint := ""
		if len(given) == 1 && len(columns) > 1 {
			hint = "; in GetMany give each key as a wtcache.Key or wtcache.Values"
		}
		return asked{}, fmt.Errorf("%w: %s has the key %s, which takes %s (%s); got %d%s",
			ErrKey, t.name, t.entry.Key, count(len(columns), "value"), strings.Join(columns, ", "), len(given), hint)
	}
	a := asked{texts: make([]string, len(columns))}
	for i, v := range given {
		text, err := keyText(v, t.table.KeyType(columns[i]))
		if err != nil {
			return asked{}, fmt.Errorf("%w: column %s of %s: %w", ErrKey, columns[i], t.name, err)
		}
		a.texts[i] = text
	}
	a.key, _ = t.entry.Key.Render(func(column string) (string, bool) {
		return a.texts[slices.Index(columns, column)], true
	})
	return a, nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// inOrder puts a Key's values into the template's order.
func (t target) inOrder(key Key, columns []string) ([]any, error) {
	given := make([]any, 0, len(columns))
	for name := range key {
		if !slices.Contains(columns, name) {
			hint := ""
			if near, ok := rules.Nearest(name, columns); ok {
				hint = fmt.Sprintf("; did you mean %q?", near)
			}
			return nil, fmt.Errorf("%w: %s has no key column %q%s; its key %s has %s",
				ErrKey, t.name, name, hint, t.entry.Key, strings.Join(columns, ", "))
		}
	}
	for _, name := range columns {
		v, ok := key[name]
		if !ok {
			return nil, fmt.Errorf("%w: %s needs the key column %q too; its key %s has %s",
				ErrKey, t.name, name, t.entry.Key, strings.Join(columns, ", "))
		}
		given = append(given, v)
	}
	return given, nil
}

var errNullKey = errors.New("a row with NULL in the key has no such entry")

// keyText gives the text of a key value as Postgres would print it in a column of the
// type. Where it is not (a numeric 1.0 for 1.00) the row is found and returned, but not
// filled. What a value means is what it means as an argument of a query: how a number
// prints itself does not matter, and a nil is NULL.
func keyText(v any, typname string) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errNullKey
	case string:
		return v, nil
	case time.Time:
		return timeText(v, typname), nil
	}
	rv := reflect.ValueOf(v)
	kind := rv.Kind()
	if (kind == reflect.Pointer || kind == reflect.Slice) && rv.IsNil() {
		return "", errNullKey // before its methods are called, which may not expect that
	}
	if valuer, ok := v.(driver.Valuer); ok {
		plain, err := valuer.Value()
		if err != nil {
			return "", err
		}
		if _, again := plain.(driver.Valuer); again {
			return "", fmt.Errorf("%T.Value gives a %T", v, plain)
		}
		return keyText(plain, typname)
	}
	switch kind {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(rv.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(rv.Uint(), 10), nil
	case reflect.String:
		return rv.String(), nil
	case reflect.Bool:
		return strconv.FormatBool(rv.Bool()), nil
	case reflect.Pointer:
		text, err := keyText(rv.Elem().Interface(), typname)
		if _, prints := v.(fmt.Stringer); err == nil || !prints {
			return text, err
		}
	}
	return printedText(v, rv, typname)
}

// printedText is keyText of what has to be asked for its text, or is one.
func printedText(v any, rv reflect.Value, typname string) (string, error) {
	printer, prints := v.(fmt.Stringer)
	switch {
	case prints:
		return printer.String(), nil
	case rv.Kind() == reflect.Slice && rv.Type().Elem().Kind() == reflect.Uint8:
		if typname == "bytea" {
			return `\x` + hex.EncodeToString(rv.Bytes()), nil
		}
		return string(rv.Bytes()), nil
	case rv.Kind() == reflect.Slice:
		return "", fmt.Errorf("a %T cannot be a key value; give GetMany each of its elements, with wtcache.Keys", v)
	}
	return "", fmt.Errorf("a %T cannot be a key value; give a string or an integer", v)
}

// timeText is how rules spell a time in a key.
func timeText(v time.Time, typname string) string {
	switch typname {
	case "date":
		return v.Format(time.DateOnly)
	case "timestamp":
		return v.Format("2006-01-02T15:04:05.999999")
	}
	return v.UTC().Format("2006-01-02T15:04:05.999999Z")
}
