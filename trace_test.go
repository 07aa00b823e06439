package wtcache_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/wtcache/wtcache"
)

// seenSpans is a tracer that keeps what it is told.
type seenSpans struct {
	mu  sync.Mutex // guards all
	all []*seenSpan
}

type seenSpan struct {
	name, parent string
	attrs        map[string]slog.Value
	err          error
	ended        int
}

type spanKey struct{}

func (s *seenSpans) StartSpan(ctx context.Context, name string, attrs ...slog.Attr) (context.Context, func(error, ...slog.Attr)) {
	one := &seenSpan{name: name, attrs: map[string]slog.Value{}}
	one.parent, _ = ctx.Value(spanKey{}).(string)
	set := func(attrs []slog.Attr) {
		for _, a := range attrs {
			one.attrs[a.Key] = a.Value.Resolve()
		}
	}
	set(attrs)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, one)
	return context.WithValue(ctx, spanKey{}, name), func(err error, attrs ...slog.Attr) {
		s.mu.Lock()
		defer s.mu.Unlock()
		set(attrs)
		one.err = err
		one.ended++
	}
}

// take gives the spans so far as "parent>name", once all have ended, and forgets them.
func (s *seenSpans) take(t *testing.T) (names []string, all []*seenSpan) {
	t.Helper()
	eventually(t, "every span has ended", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !slices.ContainsFunc(s.all, func(one *seenSpan) bool { return one.ended != 1 })
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.all {
		names = append(names, one.parent+">"+one.name)
	}
	all, s.all = s.all, nil
	return names, all
}

func tracedShelf(t *testing.T) (*shelf, *seenSpans) {
	t.Helper()
	spans := &seenSpans{}
	setup := depotSetup("", "")
	setup.config = func(c *wtcache.Config) { c.Tracer = spans }
	return newShelf(t, setup), spans
}

// Who looks at a slow request must see what of it was wtcache's, and under which request.
func TestSpansOfWritesAndReads(t *testing.T) {
	t.Parallel()
	h, spans := tracedShelf(t)
	ctx := context.WithValue(context.Background(), spanKey{}, "request")
	exec := func(text string, args ...any) error {
		_, err := h.db.ExecContext(ctx, text, args...)
		return err
	}
	write := []string{"request>wtcache.write", "wtcache.write>wtcache.fence", "wtcache.write>wtcache.apply"}
	for _, c := range []struct {
		name string
		call func() error
		want []string
	}{
		{"a write by primary key", func() error { return exec("UPDATE crates SET n = 1 WHERE id = 1") }, write},
		{"a write of unknown rows", func() error { return exec("UPDATE goods SET n = 2 WHERE shelf = 1") }, write},
		{"an eventual write", func() error { return exec("UPDATE loose SET n = 2 WHERE id = 1") }, []string{write[0], write[2]}},
		{"a statement without a rule", func() error { return exec("SELECT 1") }, nil},
		{"a transaction", func() error {
			tx, err := h.db.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.Exec("UPDATE crates SET n = 3 WHERE id = 3"); err != nil {
				return err
			}
			return tx.Commit()
		}, write},
		{"a coarse write", func() error { return exec("TRUNCATE crates") }, []string{write[0], write[1], "wtcache.fence>wtcache.sweep", write[2]}},
	} {
		if err := c.call(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		got, all := spans.take(t)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s made the spans %q, want %q", c.name, got, c.want)
		}
		for _, s := range all {
			if s.err != nil {
				t.Errorf("%s: span %s ended with %v", c.name, s.name, s.err)
			}
			if tables := s.attrs[wtcache.AttrRules]; s.name == wtcache.SpanWrite && len(tables.Any().([]string)) != 1 {
				t.Errorf("%s: the write names the tables %v, want one", c.name, tables)
			}
		}
		if c.want != nil && all[0].attrs[wtcache.AttrOutcome].String() != "committed" {
			t.Errorf("%s: its outcome is %v", c.name, all[0].attrs[wtcache.AttrOutcome])
		}
	}
}

func TestSpanOfAFailedWrite(t *testing.T) {
	t.Parallel()
	h, spans := tracedShelf(t)
	_, err := h.db.ExecContext(context.Background(), "INSERT INTO crates (id, n) VALUES (1, 1)")
	if err == nil {
		t.Fatal("a duplicate key was taken")
	}
	names, all := spans.take(t)
	want := []string{">wtcache.write", "wtcache.write>wtcache.fence", "wtcache.write>wtcache.abort"}
	if !slices.Equal(names, want) {
		t.Fatalf("the spans are %q, want %q", names, want)
	}
	if !errors.Is(all[0].err, err) || all[0].attrs[wtcache.AttrOutcome].String() != "aborted" {
		t.Errorf("the write's span ended with %v as %v, want its caller's error %v", all[0].err, all[0].attrs[wtcache.AttrOutcome], err)
	}
	if names := all[1].attrs[wtcache.AttrNames].Any().([]string); len(names) != 1 || names[0] != h.prefix+"crate:1" {
		t.Errorf("the fence names the keys %q to a tracer that asks", names)
	}
}

// A hit is what a cache is for: it is not traced. The miss before it is, as the caller's.
func TestSpanOfAMiss(t *testing.T) {
	t.Parallel()
	h, spans := tracedShelf(t)
	r := readerOf[crate](t, h.db, "crates")
	ctx := context.WithValue(context.Background(), spanKey{}, "request")
	for range 2 {
		if _, err := r.Get(ctx, 2); err != nil {
			t.Fatal(err)
		}
	}
	names, all := spans.take(t)
	if !slices.Equal(names, []string{"request>wtcache.miss"}) {
		t.Fatalf("a miss and a hit made the spans %q", names)
	}
	if n := all[0].attrs[wtcache.AttrKeys].Int64(); n != 1 || all[0].attrs[wtcache.AttrEntry].String() == "" {
		t.Errorf("the miss has the attributes %v", all[0].attrs)
	}
}

// Why entries go as a whole is the first thing to ask when a hit rate drops.
func TestStatsSayWhyWritesWereCoarse(t *testing.T) {
	t.Parallel()
	setup := depotSetup("", "")
	setup.config = func(c *wtcache.Config) { c.MaxCapturedRows = 3 }
	h := newShelf(t, setup)
	h.exec("UPDATE crates SET n = n + 1 WHERE id = 1")
	before := h.stats()
	if before.CoarseReasons != nil || before.WriteTimes.Count != 1 || before.FenceTimes.Count != 1 || before.ApplyTimes.Count != 1 || before.BreakerOpen {
		t.Errorf("after one precise write: %v, %d writes, %d fences and %d applies were timed, breaker open %v",
			before.CoarseReasons, before.WriteTimes.Count, before.FenceTimes.Count, before.ApplyTimes.Count, before.BreakerOpen)
	}
	if s := before.WriteTimes.Sum; s <= 0 || s < before.FenceTimes.Sum+before.ApplyTimes.Sum {
		t.Errorf("a write took %v s, its fence %v s and its apply %v s", s, before.FenceTimes.Sum, before.ApplyTimes.Sum)
	}
	h.exec("TRUNCATE crates")
	h.exec("WITH w AS (UPDATE goods SET n = 1 RETURNING id) SELECT count(*) FROM w")
	h.exec("UPDATE goods SET n = 2") // 9 rows
	s := h.stats()
	for _, reason := range []string{"TRUNCATE", "data-modifying CTE", "too many rows in one transaction"} {
		if s.CoarseReasons[reason] != 1 {
			t.Errorf("%q is counted %d times, want once: %v", reason, s.CoarseReasons[reason], s.CoarseReasons)
		}
	}
	if s.WriteTimes.Count != 4 {
		t.Errorf("%d writes were timed, want 4", s.WriteTimes.Count)
	}
}

// A precise DELETE that Postgres carries on into another ruled table empties that table's rule: who is not told looks for the reason of
// the misses in vain.
func TestCascadeOfAPreciseWriteIsSaid(t *testing.T) {
	t.Parallel()
	h := newShelf(t, shelfSetup{
		ddl: `CREATE TABLE boxes (id int PRIMARY KEY); CREATE TABLE things (id int PRIMARY KEY, box int REFERENCES boxes ON DELETE CASCADE);
			INSERT INTO boxes VALUES (1), (2); INSERT INTO things VALUES (1, 1), (2, 2)`,
		rules: map[string]string{
			"boxes":  "table: {S}.boxes\nkey: \"{P}box:{id}\"\nredis_down: refuse\n",
			"things": "table: {S}.things\nkey: \"{P}thing:{id}\"\nredis_down: refuse\n",
		},
	})
	h.exec("DELETE FROM boxes WHERE id = 1")
	h.exec("DELETE FROM boxes WHERE id = 2")
	s := h.stats()
	if s.PreciseWrites != 2 || s.CoarseWrites != 0 || s.CoarseReasons["foreign key action"] != 2 {
		t.Errorf("%d precise, %d coarse, reasons %v", s.PreciseWrites, s.CoarseWrites, s.CoarseReasons)
	}
	if n := h.heard.told("reason=\"foreign key action\" table=" + h.schema + ".things"); n != 1 {
		t.Errorf("that every entry of things went is logged %d times, want once", n)
	}
}
