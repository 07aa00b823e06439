package torture

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wtcache/wtcache/internal/linear"
)

// Of the history of one row: what the windows that it stands for must be judged to be. A check that overlooks one of them
// makes every run green; one that sees ghosts makes every run red.
func TestJudge(t *testing.T) {
	const (
		w, u, d = linear.Upsert, linear.Update, linear.Delete
		r       = linear.Read
	)
	for _, c := range []struct {
		name    string
		records []record // of row 0 of the first table, which holds 1 at the begin
		after   int      // what it holds at the end
		stale   time.Duration
		wrong   bool
	}{
		{"nothing", nil, 1, 0, false},
		{"lost from the table", nil, 2, 0, true},
		{"new after it", []record{{Kind: w, Value: 2, Call: 10, Return: 20, Outcome: done}, {Kind: r, Value: 2, Call: 30, Return: 40}}, 2, 0, false},
		{"old beside it", []record{{Kind: w, Value: 2, Call: 10, Return: 20, Outcome: done}, {Kind: r, Value: 1, Call: 15, Return: 40}}, 2, 0, false},
		{"old after it", []record{{Kind: w, Value: 2, Call: 10, Return: 20, Outcome: done}, {Kind: r, Value: 1, Call: 30, Return: 40}}, 2, 10, true},
		{"old after an older one", []record{
			{Kind: w, Value: 2, Call: 10, Return: 20, Outcome: done}, {Kind: w, Value: 3, Call: 40, Return: 45, Outcome: done},
			{Kind: r, Value: 1, Call: 60, Return: 70},
		}, 3, 40, true},
		{"killed and never seen", []record{{Kind: u, Value: 2, Call: 10}, {Kind: r, Value: 1, Call: 30, Return: 40}}, 1, 0, false},
		{"killed and in the table", []record{{Kind: u, Value: 2, Call: 10}, {Kind: r, Value: 1, Call: 30, Return: 40}}, 2, 0, false},
		{"killed, seen, and gone", []record{
			{Kind: u, Value: 2, Call: 10}, {Kind: r, Value: 2, Call: 30, Return: 40}, {Kind: r, Value: 1, Call: 50, Return: 60},
		}, 2, 0, true},
		{"unknown and seen before a newer one", []record{
			{Kind: u, Value: 2, Call: 10, Return: 20, Outcome: unknown}, {Kind: r, Value: 2, Call: 22, Return: 24},
			{Kind: w, Value: 3, Call: 30, Return: 40, Outcome: done}, {Kind: r, Value: 2, Call: 50, Return: 60},
		}, 3, 10, true},
		{"refused and seen", []record{{Kind: w, Value: 2, Call: 10, Return: 20, Outcome: refused}, {Kind: r, Value: 2, Call: 30, Return: 40}}, 1, 0, true},
		{"a read that failed", []record{{Kind: r, Value: linear.Absent, Call: 30, Return: 40, Failed: true}}, 1, 0, false},
		{"there after it was deleted", []record{{Kind: d, Value: linear.Absent, Call: 10, Return: 20, Outcome: done}, {Kind: r, Value: 1, Call: 30, Return: 40}}, linear.Absent, 10, true},
		{"no row to delete", []record{
			{Kind: d, Value: linear.Absent, Call: 10, Return: 20, Outcome: done}, {Kind: d, Value: linear.Absent, Call: 30, Return: 40, Outcome: nothing},
		}, linear.Absent, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			held := func(value int) map[int]image {
				if value == linear.Absent {
					return nil
				}
				return map[int]image{0: {value: value, there: true}}
			}
			f := judge(c.records, 0, 100, held(1), held(c.after))
			if f.wrong() != c.wrong || f.verdict.Result == porcupine.Unknown {
				t.Errorf("%v, %v", f.verdict, f.stale)
			}
			if got := append(f.stale, Stale{})[0].Age; got != c.stale {
				t.Errorf("stale by %v, want %v: %v", got, c.stale, f.stale)
			}
		})
	}
}

// What a killed process had written down before it was killed counts, and what it was killed in the middle of does not.
func TestJournalOfAKilledProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	j.add(record{Op: 1, Value: 7, Call: 1}, record{Op: 2, Value: 8, Call: 2})
	j.add(record{Op: 1, Value: 7, Call: 1, Return: 3, Outcome: done})
	if _, err := j.file.WriteString(`{"op":2,"retu`); err != nil {
		t.Fatal(err)
	}
	all, next, err := readJournal(path, 0)
	if err != nil || len(all) != 2 || all[0].Outcome != done || all[1].Return != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	info, err := os.Stat(path)
	if err != nil || next != info.Size()-int64(len(`{"op":2,"retu`)) {
		t.Errorf("goes on at %d of %v", next, info)
	}
}
