package wtcache_test

import (
	"context"
	"database/sql"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache"
)

// sentTexts records what pgx is given to send or to prepare.
type sentTexts struct {
	mu  sync.Mutex // guards all
	all []string
}

func (s *sentTexts) add(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, text)
}

func (s *sentTexts) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	s.add(q.SQL)
	return ctx
}
func (*sentTexts) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *sentTexts) TracePrepareStart(ctx context.Context, _ *pgx.Conn, p pgx.TracePrepareStartData) context.Context {
	s.add(p.SQL)
	return ctx
}
func (*sentTexts) TracePrepareEnd(context.Context, *pgx.Conn, pgx.TracePrepareEndData) {}

func (s *sentTexts) clear() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = nil
}

func (s *sentTexts) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.all, text)
}

// TestExplainForms runs every form of the write forms' tests and holds the class, the order and
// the text that Explain gave beforehand against what the driver then did, and the keys against
// those of the rows that changed. When one fails, explain misleads whoever trusts it.
func TestExplainForms(t *testing.T) {
	t.Parallel()
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			sent := &sentTexts{}
			traced := func(cfg *pgx.ConnConfig) { cfg.Tracer = sent }
			w := newWorld(t, f, traced)
			for i := range f.forms {
				t.Run(f.forms[i].name, func(t *testing.T) {
					w := w
					if f.forms[i].fresh {
						w = newWorld(t, f, traced)
					}
					w.explainForm(t, &f.forms[i], sent)
				})
			}
		})
	}
}

func (w *world) explainForm(t *testing.T, f *form, sent *sentTexts) {
	conn := w.connect(t, f)
	w.execPlain(t, w.seed)
	w.execAll(t, conn, f.first)
	in, on := auto, runner(conn)
	if len(f.inTx) > 0 || f.ways != nil && !slices.Contains(f.ways, auto) {
		tx, err := conn.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		w.execAll(t, tx, f.inTx)
		in, on = committed, tx
	}
	explained := w.explainOn(t, conn, f)
	before, stats := w.snapshot(t), w.stats(t)
	sent.clear()
	err := w.call(t.Context(), on, f)
	if !f.failedAsWanted(t, err) {
		return
	}
	after := w.stats(t)
	switch {
	case len(explained) == 1:
		wantExplained(t, &explained[0], f, in, stats, after, err)
		wantSent(t, explained, sent)
	case f.how == byExec && len(f.args) == 0 && err == nil && !strings.Contains(explained[0].AsOneString, "changes definitions"):
		wantSent(t, explained, sent)
	}
	if tx, ok := on.(*sql.Tx); ok {
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if in == auto && err == nil && !f.lost && !f.fresh && len(explained) == 1 {
		w.wantKeys(t, &explained[0], before, w.snapshot(t))
	}
}

// explainOn explains a form as its connection sees things.
func (w *world) explainOn(t *testing.T, conn *sql.Conn, f *form) []wtcache.Explanation {
	t.Helper()
	x, err := wtcache.ExplainerOn(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	text, args := w.expand(f.sql), f.args
	if n := len(f.session); n > 0 && strings.Contains(text, "EXECUTE") {
		text, args = w.expand(f.session[n-1])+";"+text, nil // it has to be seen being prepared
	}
	if f.how == byPrepExec || f.how == byPrepQuery {
		args = f.args
	}
	all, err := x.Explain(text, args...)
	if err != nil && len(args) > 0 { // several statements with arguments
		all, err = x.Explain(text)
	}
	if err != nil || len(all) == 0 {
		t.Fatalf("%s: %d explanations, %v", text, len(all), err)
	}
	if strings.HasSuffix(text, ";"+w.expand(f.sql)) && text != w.expand(f.sql) {
		all = all[len(all)-1:]
		all[0].Sent = w.expand(f.sql)
	}
	return all
}

// wantExplained holds the class and the order against the counters.
func wantExplained(t *testing.T, e *wtcache.Explanation, f *form, in around, before, after wtcache.Stats, err error) {
	t.Helper()
	if err != nil {
		if refused := strings.HasPrefix(err.Error(), "wtcache: "); refused != (e.Class == wtcache.ClassRefused) {
			t.Errorf("explained as %s, and the call gave %v", e.Class, err)
		}
		return
	}
	did := map[wtcache.Class]uint64{
		wtcache.ClassPrecise: after.PreciseWrites - before.PreciseWrites, wtcache.ClassCoarse: after.CoarseWrites - before.CoarseWrites,
		wtcache.ClassPinned: after.PinnedWrites - before.PinnedWrites, wtcache.ClassNotCaptured: after.Uncaptured - before.Uncaptured,
	}
	for class, n := range did {
		if (n > 0) != (e.Class == class) {
			t.Errorf("explained as %s, and the driver counted %d %s: %s", e.Class, n, class, f.sql)
		}
	}
	if in != auto {
		return
	}
	orders := map[wtcache.Order]uint64{
		wtcache.OrderFenceFirst: after.FenceFirst - before.FenceFirst, wtcache.OrderLockFirst: after.LockFirst - before.LockFirst,
	}
	for order, n := range orders {
		if (n > 0) != (e.Order == order) {
			t.Errorf("explained as %q, and the driver counted %d %s: %s", e.Order, n, order, f.sql)
		}
	}
}

// wantSent finds the very texts among those that pgx was given.
func wantSent(t *testing.T, explained []wtcache.Explanation, sent *sentTexts) {
	t.Helper()
	for _, e := range explained {
		if e.Class != wtcache.ClassRefused && !sent.has(e.Sent) {
			t.Errorf("explained to send\n%s\nand pgx was given\n%s", e.Sent, strings.Join(sent.all, "\n"))
		}
	}
}

var sketched = regexp.MustCompile(`\\\{[^{}=]+(='.*'|=[^{}]*)?\\\}`)

// wantKeys finds each key of a row that has changed among those that were explained to be touched.
func (w *world) wantKeys(t *testing.T, e *wtcache.Explanation, before, after snapshot) {
	t.Helper()
	var touched []*regexp.Regexp
	for _, table := range e.Tables {
		for _, entry := range table.Entries {
			for _, key := range append(entry.Keys, entry.OldKeys...) {
				pattern := sketched.ReplaceAllString(regexp.QuoteMeta(key), ".*")
				touched = append(touched, regexp.MustCompile("^(?s:"+pattern+")$"))
			}
		}
	}
	for _, key := range changedKeys(before, after) {
		if !slices.ContainsFunc(touched, func(re *regexp.Regexp) bool { return re.MatchString(key) }) {
			t.Errorf("the row of %s has changed, and the keys explained are %v: %s", key, touched, e.Text)
		}
	}
}

func changedKeys(before, after snapshot) (keys []string) {
	one := func(key string, row rowOf) snapshot { return snapshot{rows: map[string]rowOf{key: row}} }
	for key, row := range before.rows {
		if now, there := after.rows[key]; !there || !one(key, row).same(one(key, now)) {
			keys = append(keys, key)
		}
	}
	for key := range after.rows {
		if _, there := before.rows[key]; !there {
			keys = append(keys, key)
		}
	}
	return keys
}
