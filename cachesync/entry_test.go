package cachesync

import (
	"errors"
	"math"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Foreign readers and scripts in other languages read these bytes at fixed
// offsets; a change here breaks every entry in every cache.
func TestFormatsGolden(t *testing.T) {
	c, key := shared(t)
	payload := `{"id":7,"name":"Zoë"}`
	written := regexp.MustCompile(`("?written_at"?[: ])\d{13}\b`)
	const header = `{"version":"000000011000000000000005","written_at":T,"checksum":"dd9ee086","schema":"1a2b3c4d"`
	for format, want := range map[Format]string{
		Envelope:  "KEY = " + header + `,"data":` + payload + "}\n",
		Plain:     "KEY = " + payload + "\n{KEY}:wtm = " + header + "}\n",
		Hash:      "KEY checksum dd9ee086\nKEY data " + payload + "\nKEY schema 1a2b3c4d\nKEY version 000000011000000000000005\nKEY written_at T\n",
		Versioned: "{KEY}:current = {KEY}:v000000011000000000000005\n{KEY}:v000000011000000000000005 = " + payload + "\n{KEY}:wtm = " + header + "}\n",
	} {
		key := key + format.String()
		mustFence(t, c, key).Apply(t.Context(), map[string]Entry{key: entry(format, payload, 5)})
		got := written.ReplaceAllString(strings.ReplaceAll(dump(t, c.rdb, key), key, "KEY"), "${1}T")
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", format, got, want)
		}
	}
}

// What a writer stored is what a reader gets, with its version and age, and no
// format is taken for another.
func TestGetReadsWhatWasStored(t *testing.T) {
	c, key := shared(t)
	ctx := t.Context()
	// Bytes that a text-minded script or decoder would change, and a lot of them.
	odd := "\"\x00\xff}\\u0000\",\"data\":\r\n"
	for _, payload := range []string{odd, "1", strings.Repeat(odd, 1<<20/len(odd))} {
		for _, format := range allFormats {
			before := c.rdb.Time(ctx).Val().Truncate(time.Millisecond)
			if r := mustFence(t, c, key).Apply(ctx, map[string]Entry{key: entry(format, payload, 5)}); r.Stored != 1 {
				t.Fatalf("%s: %+v", format, r)
			}
			value, ok, err := c.Get(ctx, key, format, strings.ToUpper(testSchema))
			if err != nil || !ok || string(value.Payload) != payload || value.Version != version(5) {
				t.Errorf("%s: got %.200v, %v, %v", format, value, ok, err)
			}
			if lease, err := c.Lease(ctx, key, format, testSchema); err != nil || lease.State != LeaseValue || !reflect.DeepEqual(lease.Value, value) {
				t.Errorf("%s: lease gives %.200v, %v", format, lease, err)
			}
			if after := c.rdb.Time(ctx).Val(); value.WrittenAt.Before(before) || value.WrittenAt.After(after) {
				t.Errorf("%s: written at %v, not between %v and %v", format, value.WrittenAt, before, after)
			}
			for _, other := range allFormats {
				if value, ok, err := c.Get(ctx, key, other, testSchema); ok != (other == format) || err != nil {
					t.Errorf("%s read as %s: %.200v, %v", format, other, value, err)
				}
			}
			if value, ok, err := c.Get(ctx, key, format, foreignSchema); ok || err != nil {
				t.Errorf("%s read under another schema: %.200v, %v", format, value, err)
			}
		}
	}
	if s := c.Stats(); s.SchemaMismatches == 0 || s.Hits != 36 || s.Misses != 48 {
		t.Errorf("counted %+v", s)
	}
}

// A damaged value must not be served, and must not be in the way until its
// TTL has passed.
func TestDamagedValueIsReplaced(t *testing.T) {
	c, key := shared(t)
	ctx := t.Context()
	names, _ := siblingsOf(key)
	damages := map[Format]func(){
		Hash:      func() { c.rdb.HSet(ctx, key, "data", `{"n":6}`) },
		Versioned: func() { c.rdb.Set(ctx, names.version(version(5)), `{"n":6}`, time.Minute) },
	}
	for _, format := range allFormats {
		mustFence(t, c, key).Apply(ctx, map[string]Entry{key: entry(format, `{"n":5}`, 5)})
		if damage := damages[format]; damage != nil {
			damage()
		} else {
			value := c.rdb.Get(ctx, key).Val()
			c.rdb.Set(ctx, key, strings.Replace(value, `"n":5`, `"n":6`, 1), time.Minute)
		}
		if _, ok, err := c.Get(ctx, key, format, testSchema); ok || err != nil {
			t.Errorf("%s: a damaged value was served (%v)", format, err)
		}
		lease, err := c.Lease(ctx, key, format, testSchema)
		if err != nil || lease.State != LeaseGranted {
			t.Fatalf("%s: %+v, %v", format, lease, err)
		}
		if ok, err := c.Fill(ctx, lease, entry(format, `{"n":5}`, 5)); !ok || err != nil {
			t.Errorf("%s: fill %v, %v", format, ok, err)
		}
		if got := look(t, c.rdb, key); got != "fill" {
			t.Errorf("%s: %s", format, got)
		}
	}
	if n := c.Stats().ChecksumMismatches; n < int64(len(allFormats)) {
		t.Errorf("counted %d damaged values", n)
	}
	if err := c.Invalidate(ctx, []string{key}, ""); err != nil {
		t.Fatal(err)
	}
	// Bytes of somebody else, of another type, or cut short: absent, no error.
	short, _ := entry(Envelope, "1", 5).encode(version(5))
	for _, value := range []string{"x", `{"version":"`, short.head, short.head + "1700000000000" + short.tail} {
		c.rdb.Set(ctx, key, value, time.Minute)
		if _, ok, err := c.Get(ctx, key, Envelope, testSchema); ok || err != nil {
			t.Errorf("%q was served (%v)", value, err)
		}
	}
}

// An entry that cannot be stored as it is must make the key absent and be
// heard of: stored wrongly it would be unreadable, or live for ever.
func TestInvalidEntriesBecomeAbsent(t *testing.T) {
	var reported []error
	c, key := shared(t)
	c.o.OnError = func(err error) { reported = append(reported, err) }
	bad := map[string]func(*Entry){
		"version":    func(e *Entry) { e.Version = "5" },
		"no version": func(e *Entry) { e.Version = "" },
		"not hex":    func(e *Entry) { e.Version = strings.Repeat("g", 24) },
		"schema":     func(e *Entry) { e.Schema = `"` },
		"no life":    func(e *Entry) { e.TTL = 0 },
		"jitter":     func(e *Entry) { e.Jitter = 1.5 },
		"NaN":        func(e *Entry) { e.Jitter = math.NaN() },
		"format":     func(e *Entry) { e.Format = 9 },
	}
	for name, spoil := range bad {
		reported = nil
		store(t, c, key, entry(Envelope, "1", 3))
		e := entry(Envelope, "1", 5)
		spoil(&e)
		mustFence(t, c, key).Apply(t.Context(), map[string]Entry{key: e})
		if got := look(t, c.rdb, key); got != "absent" {
			t.Errorf("%s: then %s", name, got)
		}
		if len(reported) != 1 || !errors.Is(reported[0], ErrEntry) {
			t.Errorf("%s: reported %v", name, reported)
		}
	}
	if err := c.Invalidate(t.Context(), []string{key}, "7"); !errors.Is(err, ErrEntry) {
		t.Errorf("invalidate at a bad version: %v", err)
	}
}

// Entries written together must not all expire together, and never later than
// the rule says.
func TestJitterShortensTheLife(t *testing.T) {
	e := Entry{TTL: time.Second, Jitter: 0.1}
	seen := map[int64]bool{}
	for range 1000 {
		n := e.ttlMillis()
		if n < 900 || n > 1000 {
			t.Fatalf("%d ms is outside 900 to 1000", n)
		}
		seen[n] = true
	}
	if len(seen) < 10 {
		t.Errorf("only %d different lives in 1000", len(seen))
	}
	if n := (Entry{TTL: time.Millisecond, Jitter: 1}).ttlMillis(); n != 1 {
		t.Errorf("the shortest life is %d ms", n)
	}
}
