package torture

import (
	"cmp"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/wtcache/wtcache/internal/linear"
)

// Stale is a read that gave what had been replaced by a commit that was acknowledged before it began.
type Stale struct {
	Read record
	// Age is how long after the oldest such commit the read began.
	Age time.Duration
	// Newer is that commit.
	Newer record
}

// thinking is how long Porcupine may take for a window; most take milliseconds.
const thinking = 15 * time.Second

// findings are what a window of the history shows.
type findings struct {
	done, refused, failed, unknown int // row writes; refused are those that were rolled back on purpose as well
	reads, cached, failedReads     int
	stale                          []Stale
	verdict                        linear.Verdict
}

// judge checks the window that began with some contents and ended with others.
func judge(records []record, began, ended int64, before, after map[int]image) findings {
	var f findings
	byKey := map[int][]record{}
	for _, r := range records {
		f.count(r)
		if keeps(r) {
			byKey[r.Key] = append(byKey[r.Key], r)
		}
	}
	var ops []linear.Op
	for _, p := range places() {
		all := byKey[p.key()]
		all = append(all, database(p, linear.Read, after, ended), database(p, linear.Upsert, before, began))
		f.stale = append(f.stale, stale(all)...)
		for _, r := range dropUnseen(all) {
			if r.Kind == linear.Delete && r.Way == contentsWay {
				continue // no row is what every key begins with
			}
			ops = append(ops, linear.Op{
				Client: r.Client, Key: r.Key, Kind: r.Kind, Value: r.Value, InDoubt: r.Outcome == unknown,
				Call: r.Call - began, Return: r.Return - began, Way: r.Way,
			})
		}
	}
	f.verdict = linear.HistoryOf(linear.Absent, ops).Check(thinking)
	return f
}

func (f *findings) count(r record) {
	if r.Kind == linear.Read {
		f.reads++
		if r.Failed {
			f.reads--
			f.failedReads++
		} else if r.Cached {
			f.cached++
		}
		return
	}
	switch {
	case r.Return == 0 || r.Outcome == unknown:
		f.unknown++
	case r.Outcome == refused && r.Error == "":
		f.refused++
	case r.Outcome == refused:
		f.failed++
	default:
		f.done++
	}
}

// keeps says whether an operation may have had an effect, or has seen something.
func keeps(r record) bool {
	if r.Kind == linear.Read {
		return !r.Failed
	}
	return r.Return == 0 || r.Outcome == done || r.Outcome == unknown
}

// contentsWay is how the tables' contents between two windows are in a history.
const contentsWay = "the table"

// database is what a table held: read at the end of a window, written at its begin.
func database(p place, kind linear.Kind, contents map[int]image, at int64) record {
	r := record{Key: p.key(), Kind: kind, Value: linear.Absent, Call: at, Return: at + 1, Outcome: done, Way: contentsWay}
	if row := contents[p.key()]; row.there {
		r.Value = row.value
	} else if kind != linear.Read {
		r.Kind = linear.Delete
	}
	return r
}

// dropUnseen leaves out updates whose outcome nobody knows and whose value nobody has seen: an order that holds with one holds
// without it, and each of them doubles what Porcupine has to try. An operation that never returned has an unknown outcome.
func dropUnseen(all []record) (kept []record) {
	seen := map[int]bool{}
	for _, r := range all {
		if r.Kind == linear.Read {
			seen[r.Value] = true
		}
	}
	for _, r := range all {
		if r.Return == 0 {
			r.Outcome = unknown
		}
		if r.Kind != linear.Update || r.Outcome != unknown || seen[r.Value] {
			kept = append(kept, r)
		}
	}
	return kept
}

// stale finds the stale reads of one key. A write of unknown outcome had happened at the latest when its value was first read.
func stale(all []record) (found []Stale) {
	var writes, reads []record
	happened := map[int]int64{} // at the latest, by value
	note := func(r record) {
		if at, ok := happened[r.Value]; !ok || r.Return < at {
			happened[r.Value] = r.Return
		}
	}
	for _, r := range all {
		switch {
		case r.Kind == linear.Read:
			reads = append(reads, r)
		case r.Return != 0 && r.Outcome == done:
			writes = append(writes, r)
			note(r)
		}
	}
	slices.SortFunc(reads, func(x, y record) int { return cmp.Compare(x.Return, y.Return) })
	slices.SortFunc(writes, func(x, y record) int { return cmp.Compare(x.Return, y.Return) })
	for _, r := range reads {
		note(r)
	}
	for _, r := range reads {
		if r.Value == linear.Absent {
			continue // which deletion it saw is not known; Porcupine judges it
		}
		at := happened[r.Value]
		i := slices.IndexFunc(writes, func(w record) bool { return w.Call > at })
		if i >= 0 && writes[i].Return < r.Call {
			found = append(found, Stale{Read: r, Age: time.Duration(r.Call - writes[i].Return), Newer: writes[i]})
		}
	}
	return found
}

// wrong says whether a window shows that a promise was broken; a check that did not end has shown nothing.
func (f findings) wrong() bool { return len(f.stale) > 0 || f.verdict.Result == porcupine.Illegal }
