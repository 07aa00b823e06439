package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/wtcache/wtcache"
)

var update = flag.Bool("update", false, "write testdata again: what each library sends, and how it was handled")

// recorder notes the statements that pgx is given. It is safe for concurrent use.
type recorder struct {
	mu   sync.Mutex // guards sent
	sent []string
}

func (r *recorder) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	r.note(data.SQL)
	return ctx
}

func (r *recorder) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (r *recorder) note(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent = append(r.sent, text)
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// counts say how wtcache handled something.
type counts struct {
	precise, coarse, sweeps, rows, fenceFirst, lockFirst, hits, reads, parsed uint64
}

func difference(before, after wtcache.Stats) counts {
	return counts{
		precise: after.PreciseWrites - before.PreciseWrites, coarse: after.CoarseWrites - before.CoarseWrites,
		sweeps: uint64(after.Redis.Sweeps - before.Redis.Sweeps), rows: after.CapturedRows - before.CapturedRows,
		fenceFirst: after.FenceFirst - before.FenceFirst, lockFirst: after.LockFirst - before.LockFirst,
		hits: after.Hits - before.Hits, reads: after.DatabaseReads - before.DatabaseReads, parsed: after.PlansMade - before.PlansMade,
	}
}

// String says it in words; what was not done is left out.
func (c counts) String() string {
	var parts []string
	for _, part := range []struct {
		n    uint64
		what string
	}{
		{c.precise, "precise"}, {c.coarse, "coarse"}, {c.rows, "captured rows"}, {c.sweeps, "tables of which every entry became absent"},
		{c.fenceFirst, "fenced before it ran, without BEGIN and COMMIT"}, {c.lockFirst, "in a transaction of wtcache's"},
		{c.hits, "read from Redis"}, {c.reads, "read from the database"},
	} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d", part.what, part.n))
		}
	}
	return strings.Join(parts, "; ")
}

// describe is a text of what was sent by each step with pgx, and how it was handled with wtcache.
func describe(sent map[string][]string, handled map[string]counts) string {
	var b strings.Builder
	for i, st := range steps {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "== %s\n", st.name)
		for _, text := range sent[st.name] {
			fmt.Fprintf(&b, "%s\n", plainText(text))
		}
		if c := handled[st.name].String(); c != "" {
			fmt.Fprintf(&b, "-- wtcache: %s\n", c)
		}
	}
	return b.String()
}

var (
	moment = regexp.MustCompile(`'\d{4}-\d\d-\d\d[ T][^']*'`)
	spaces = regexp.MustCompile(`\s+`)
)

// plainText is a statement in one line, but for a comment before it (sqlc's), with the points in time that bun writes into it
// taken out.
func plainText(text string) string {
	if comment, rest, ok := strings.Cut(text, "\n"); ok && strings.HasPrefix(comment, "--") {
		return comment + "\n" + plainText(rest)
	}
	return moment.ReplaceAllString(strings.TrimSpace(spaces.ReplaceAllString(text, " ")), "'(now)'")
}

// compareWithGolden keeps testdata true, which the README sends its readers to: a statement that has become coarse, or that the library
// writes in another way than it did, shows here.
func compareWithGolden(t *testing.T, file, got string) {
	t.Helper()
	if t.Failed() {
		return
	}
	if *update {
		check(t, os.MkdirAll(filepath.Dir(file), 0o755))
		check(t, os.WriteFile(file, []byte(got), 0o644))
		return
	}
	text, err := os.ReadFile(file)
	check(t, err)
	if string(text) != got {
		t.Errorf("%s says otherwise (go test -update writes it again). Now:\n%s", file, got)
	}
}
