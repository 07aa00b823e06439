package wtcache_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/wtcache/wtcache"
)

// snapshot is what the database says that the keys should hold.
type snapshot struct {
	rows   map[string]rowOf
	shared map[string]string // key -> all rows that share it
}

type rowOf struct {
	entry    *entry
	values   []string // of the key's columns
	payload  any
	storable bool // `when` holds
}

// holds says whether the payload is some row's.
func (s snapshot) holds(payload any) bool {
	for _, row := range s.rows {
		if reflect.DeepEqual(row.payload, payload) {
			return true
		}
	}
	return false
}

// isInvalidValue says that a key is no longer a value of its column's type.
func isInvalidValue(err error) bool {
	pg, ok := errors.AsType[*pgconn.PgError](err)
	return ok && strings.HasPrefix(pg.Code, "22")
}

func (s snapshot) same(o snapshot) bool {
	return maps.EqualFunc(s.rows, o.rows, func(a, b rowOf) bool {
		return a.storable == b.storable && reflect.DeepEqual(a.payload, b.payload)
	}) && maps.Equal(s.shared, o.shared)
}

// snapshot asks the database through plain pgx.
func (w *world) snapshot(t *testing.T) snapshot {
	t.Helper()
	s := snapshot{rows: map[string]rowOf{}, shared: map[string]string{}}
	for i := range w.tables {
		tab := &w.tables[i]
		for j := range tab.entries {
			w.readEntry(t, s, tab, &tab.entries[j])
		}
		for _, template := range tab.shared {
			w.readShared(t, s, tab, template)
		}
	}
	return s
}

func (w *world) readEntry(t *testing.T, s snapshot, tab *table, e *entry) {
	t.Helper()
	row, when := or(e.row, "row_to_json(t.*)"), or(e.when, "true")
	for _, r := range w.selectKeyed(t, tab, e.key, row, when) {
		key, ok := renderKey(w.prefix+e.key, r.values)
		if !ok {
			continue
		}
		if _, twice := s.rows[key]; twice {
			t.Fatalf("the test's own rows share the key %s", key)
		}
		s.rows[key] = rowOf{entry: e, values: texts(r.values), payload: decodeJSON(t, []byte(r.row)), storable: r.when}
	}
}

func (w *world) readShared(t *testing.T, s snapshot, tab *table, template string) {
	t.Helper()
	for _, r := range w.selectKeyed(t, tab, template, "row_to_json(t.*)", "true") {
		if key, ok := renderKey(w.prefix+template, r.values); ok {
			s.shared[key] += r.row + "\n"
		}
	}
}

type keyedRow struct {
	values []*string
	row    string
	when   bool
}

var placeholder = regexp.MustCompile(`\{([^{}]+)\}`)

// selectKeyed reads a template's columns of all rows. A table or column that is no
// longer there has no rows.
func (w *world) selectKeyed(t *testing.T, tab *table, template, row, when string) []keyedRow {
	t.Helper()
	var columns []string
	for _, m := range placeholder.FindAllStringSubmatch(template, -1) {
		columns = append(columns, `t."`+m[1]+`"::text`)
	}
	text := fmt.Sprintf("SELECT ARRAY[%s], (%s)::text, coalesce(%s, false) FROM %s AS t ORDER BY 1, 2",
		strings.Join(columns, ", "), row, when, w.expand(tab.name))
	rows, err := w.plain.Query(t.Context(), text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer rows.Close()
	var all []keyedRow
	for rows.Next() {
		var r keyedRow
		if err := rows.Scan(&r.values, &r.row, &r.when); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		all = append(all, r)
	}
	if pg, ok := errors.AsType[*pgconn.PgError](rows.Err()); ok && (pg.Code == "42P01" || pg.Code == "42703") {
		return nil
	}
	if rows.Err() != nil {
		t.Fatalf("%s: %v", text, rows.Err())
	}
	return all
}

var braces = strings.NewReplacer("{{", "{", "}}", "}") // as templates write literal ones

// renderKey is DESIGN's part 5 done once more: values are percent-encoded where they
// hold braces, percent, control bytes or, with several columns, a byte of the literal
// text between them; an empty value is %00; NULL has no key.
func renderKey(template string, values []*string) (string, bool) {
	places := placeholder.FindAllStringIndex(template, -1)
	special := "{}%"
	if len(places) > 1 {
		special += placeholder.ReplaceAllString(template[places[0][1]:], "")
	}
	var b strings.Builder
	from := 0
	for i, at := range places {
		if values[i] == nil {
			return "", false
		}
		b.WriteString(braces.Replace(template[from:at[0]]))
		from = at[1]
		if *values[i] == "" {
			b.WriteString("%00")
		}
		for _, c := range []byte(*values[i]) {
			if c < 0x20 || c == 0x7f || strings.IndexByte(special, c) >= 0 {
				fmt.Fprintf(&b, "%%%02X", c)
			} else {
				b.WriteByte(c)
			}
		}
	}
	b.WriteString(braces.Replace(template[from:]))
	return b.String(), true
}

func texts(values []*string) []string {
	plain := make([]string, len(values))
	for i, v := range values {
		if v != nil {
			plain[i] = *v
		}
	}
	return plain
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// decodeJSON keeps numbers as they are written: 1.50 is not 1.5 to a reader of money.
func decodeJSON(t *testing.T, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decode %q: %v", text, err)
	}
	return v
}

// cached gives the payload that Redis holds under a key, as a reader that knows
// nothing of the driver would decode it.
func (w *world) cached(t *testing.T, key string, e *entry) (payload any, ok bool) {
	t.Helper()
	format := e.format
	if e.plain {
		format = "plain"
	}
	raw, ok, err := readUnaware(t.Context(), w.rdb, key, format)
	if err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	if !ok {
		return nil, false
	}
	return decodeJSON(t, raw), true
}

var versionKey = regexp.MustCompile(`:v[0-9a-f]{24}(-[A-Z2-7]+)?$`)

// pointsTo gives the key whose pointer a name is, else the name.
func pointsTo(name string) string {
	base, ok := strings.CutSuffix(name, ":current")
	if tag, wrapped := strings.CutPrefix(base, "{"); ok && wrapped && strings.HasSuffix(tag, "}") {
		return strings.TrimSuffix(tag, "}")
	}
	return base
}

// judge holds every key in Redis, and every key that ever was a row's, against the
// database: equal or absent.
func (w *world) judge(t *testing.T, f *form, in around, before, after snapshot) {
	t.Helper()
	known := maps.Clone(before.rows)
	maps.Copy(known, after.rows)
	for key, row := range known {
		payload, ok := w.cached(t, key, row.entry)
		now, exists := after.rows[key]
		switch {
		case !ok:
		case !exists:
			t.Errorf("%s is STALE: it holds %v, the database has no such row", key, payload)
		case !now.storable:
			t.Errorf("%s is STALE: it holds %v, but the rule's `when` is false", key, payload)
		case !reflect.DeepEqual(payload, now.payload):
			t.Errorf("%s is STALE: it holds\n\t%v, the database has\n\t%v", key, payload, now.payload)
		}
	}
	w.judgeShared(t, before, after)
	w.judgeStrays(t, known, before, after)
}

func (w *world) judgeShared(t *testing.T, before, after snapshot) {
	t.Helper()
	for key, rows := range before.shared {
		if rows != after.shared[key] && w.rdb.Exists(t.Context(), key).Val() > 0 {
			t.Errorf("%s is STALE: rows that share it have changed and it is still there", key)
		}
	}
}

// judgeStrays finds keys that belong to no row that ever was, and fences that were left behind.
func (w *world) judgeStrays(t *testing.T, known map[string]rowOf, before, after snapshot) {
	t.Helper()
	for _, key := range w.keys(t) {
		_, isRow := known[pointsTo(key)]
		_, wasShared := before.shared[key]
		_, isShared := after.shared[key]
		switch {
		case isRow, wasShared, isShared, strings.HasSuffix(key, ":wtm"), versionKey.MatchString(key):
		case strings.HasSuffix(key, ":wt"):
			t.Errorf("%s is left behind: a fence or lease outlives its write", key)
		default:
			t.Errorf("%s belongs to no row", key)
		}
	}
}

// judgeClass looks at what is to be present and what absent.
func (w *world) judgeClass(t *testing.T, f *form, in around, before, after snapshot) {
	t.Helper()
	if !in.commits() || f.fails != "" {
		return
	}
	for key, now := range after.rows {
		was, existed := before.rows[key]
		changed := !existed || !reflect.DeepEqual(was.payload, now.payload) || was.storable != now.storable
		_, present := w.cached(t, key, now.entry)
		switch {
		case !now.storable:
		case f.class == precise && changed && !present && !now.entry.absent && !(f.moved && existed):
			t.Errorf("%s is absent: a precise write stores the new row", key)
		case f.class == precise && !changed && !present && !now.entry.absent && !f.moved:
			t.Errorf("%s is absent: a precise write leaves the entries of other rows alone", key)
		case f.class == untouched && !present:
			t.Errorf("%s is absent after a statement that writes no row of its", key)
		case f.class == coarse && present && (changed || len(w.tables) == 1), f.class == pinned && changed && present:
			t.Errorf("%s is present: a %v write knows no payload", key, f.class)
		}
	}
}

// judgeStats holds the counters against the form's class.
func (w *world) judgeStats(t *testing.T, f *form, before wtcache.Stats) {
	t.Helper()
	s := w.stats(t)
	got := map[class]bool{
		precise: s.PreciseWrites > before.PreciseWrites,
		coarse:  s.CoarseWrites > before.CoarseWrites,
		pinned:  s.PinnedWrites > before.PinnedWrites,
	}
	want := map[class]bool{precise: f.class == precise, coarse: f.class == coarse, pinned: f.class == pinned}
	if f.class != uncounted && f.fails == "" && !maps.Equal(got, want) {
		var counted []string
		for c := range got {
			if got[c] {
				counted = append(counted, c.String())
			}
		}
		slices.Sort(counted)
		t.Errorf("counted as %v, want %v", counted, f.class)
	}
	if n := s.BackgroundErrors - before.BackgroundErrors; n != 0 && !f.lost { // rules that fit no longer are reported
		t.Errorf("%d background errors", n)
	}
	for what, n := range map[string]uint64{
		"uncaptured writes": s.Uncaptured - before.Uncaptured, "key mismatches": s.KeyMismatches - before.KeyMismatches,
		"table mismatches": s.TableMismatches - before.TableMismatches,
		"commits in doubt": s.InDoubt - before.InDoubt, "unfenced commits": s.Unfenced - before.Unfenced,
		"lost fences": uint64(s.Redis.Lost - before.Redis.Lost),
	} {
		if n != 0 {
			t.Errorf("%d %s: a write went another way than its plan", n, what)
		}
	}
}

// readAll reads every key through Cache: it has to give the database's row.
func (w *world) readAll(t *testing.T, before, now snapshot) {
	t.Helper()
	known := maps.Clone(before.rows)
	maps.Copy(known, now.rows)
	for key, row := range known {
		args := make([]any, len(row.values))
		for i, v := range row.values {
			args[i] = v
		}
		var payload []byte
		_, err := w.cache.Get(t.Context(), row.entry.get, &payload, args...)
		want, exists := now.rows[key]
		switch {
		case !exists && (errors.Is(err, sql.ErrNoRows) || isInvalidValue(err)):
		case !exists && err == nil && row.entry.loose && now.holds(decodeJSON(t, payload)):
		case err != nil:
			t.Errorf("Get %s: %v", key, err)
		case !exists:
			t.Errorf("Get %s gives %s, the database has no such row", key, payload)
		case !reflect.DeepEqual(decodeJSON(t, payload), want.payload):
			t.Errorf("Get %s gives\n\t%s, the database has\n\t%v", key, payload, want.payload)
		}
	}
}
