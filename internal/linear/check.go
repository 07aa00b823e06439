package linear

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// model is the sequential specification: a key's row, which is its value or Absent. The input of an operation is the Op itself;
// its output is not used.
func model(initial int) porcupine.Model {
	return porcupine.Model{
		Partition: partition,
		Init:      func() any { return initial },
		Step: func(state, input, _ any) (bool, any) {
			return step(state.(int), input.(Op))
		},
		Hash:              func(state any) uint64 { return uint64(state.(int)) },
		DescribeOperation: func(input, _ any) string { return input.(Op).String() },
		DescribeState: func(state any) string {
			if state.(int) == Absent {
				return "no row"
			}
			return fmt.Sprint(state)
		},
	}
}

// step says whether an operation can be the next one, and what the row is then. One in doubt asks nothing of the row: where it
// never happened, it may stand behind everything else.
func step(row int, o Op) (possible bool, next int) {
	switch {
	case o.Kind == Read:
		return row == o.Value, row
	case o.InDoubt, o.Kind == Upsert:
	case o.Kind == Insert && row != Absent, o.Kind != Insert && row == Absent:
		return false, row
	}
	if o.Kind == Delete {
		return true, Absent
	}
	return true, o.Value
}

func partition(all []porcupine.Operation) [][]porcupine.Operation {
	byKey := map[int][]porcupine.Operation{}
	for _, o := range all {
		key := o.Input.(Op).Key
		byKey[key] = append(byKey[key], o)
	}
	var parts [][]porcupine.Operation
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		parts = append(parts, byKey[key])
	}
	return parts
}

// Verdict is what came of a check.
type Verdict struct {
	// Result is Ok, Illegal, or Unknown where the time was up: then nothing was shown.
	Result porcupine.CheckResult
	// Ops and Keys were looked at, of them Reads, and InDoubt whose outcome nobody was told.
	Ops, Keys, Reads, InDoubt int
	// Stale are the reads that gave what a write had replaced that was acknowledged before they began: the plainest way not to
	// be linearizable.
	Stale int
	Took  time.Duration
	// Broken are the keys whose operations have no order.
	Broken []Broken
}

// Broken is a key whose operations have no order that explains them.
type Broken struct {
	Key int
	// Stuck is the operation that returned first of those that the longest explanation leaves out, and Before what that
	// explanation ends with.
	Stuck  Op
	Before []Op

	initial int
	info    porcupine.LinearizationInfo
}

// Check looks for an order of each key's operations, and gives up when the time is over.
func (h *History) Check(patience time.Duration) Verdict {
	began := time.Now()
	ops := operations(h.Ops())
	parts := partition(ops)
	v := Verdict{Ops: len(ops), Keys: len(parts)}
	for _, part := range parts {
		v.Stale += stale(part)
	}
	for _, o := range ops {
		if op := o.Input.(Op); op.Kind == Read {
			v.Reads++
		} else if op.InDoubt {
			v.InDoubt++
		}
	}
	v.Result = porcupine.CheckOperationsTimeout(model(h.initial), ops, patience)
	if v.Result == porcupine.Illegal {
		for _, part := range parts {
			if result, info := porcupine.CheckOperationsVerbose(model(h.initial), part, patience); result == porcupine.Illegal {
				v.Broken = append(v.Broken, newBroken(h.initial, part, info))
			}
		}
	}
	v.Took = time.Since(began)
	return v
}

// stale counts the reads of a key that gave what had been replaced for certain before they began.
func stale(part []porcupine.Operation) (n int) {
	var writes []Op
	returned := map[int]int64{} // of the write of a value; the first value was always there
	for _, o := range part {
		if op := o.Input.(Op); op.Kind != Read {
			returned[op.Value] = o.Return // later than all where it is in doubt
			writes = append(writes, op)
		}
	}
	for _, o := range part {
		read := o.Input.(Op)
		if read.Kind != Read || read.Value == Absent {
			continue
		}
		if slices.ContainsFunc(writes, func(w Op) bool {
			return !w.InDoubt && w.Call > returned[read.Value] && w.Return < read.Call
		}) {
			n++
		}
	}
	return n
}

// operations gives Porcupine's form of a history. What is in doubt returns behind everything.
func operations(ops []Op) []porcupine.Operation {
	var end int64
	for _, o := range ops {
		end = max(end, o.Return)
	}
	all := make([]porcupine.Operation, len(ops))
	for i, o := range ops {
		all[i] = porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Return: o.Return}
		if o.InDoubt {
			all[i].Return = end + 1
		}
	}
	return all
}

func newBroken(initial int, part []porcupine.Operation, info porcupine.LinearizationInfo) Broken {
	b := Broken{Key: part[0].Input.(Op).Key, initial: initial, info: info}
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	placed := map[Op]bool{}
	for _, o := range longest {
		placed[o.Input.(Op)] = true
	}
	left := slices.DeleteFunc(slices.Clone(part), func(o porcupine.Operation) bool { return placed[o.Input.(Op)] })
	slices.SortFunc(left, func(a, c porcupine.Operation) int { return cmp.Compare(a.Return, c.Return) })
	b.Stuck = left[0].Input.(Op)
	const shown = 6
	for _, o := range longest[max(0, len(longest)-shown):] {
		b.Before = append(b.Before, o.Input.(Op))
	}
	return b
}

func (b Broken) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "no order explains key %d; the longest one ends with\n", b.Key)
	for _, o := range b.Before {
		fmt.Fprintf(&text, "  %s\n", o)
	}
	fmt.Fprintf(&text, "and leaves no place for\n  %s", b.Stuck)
	return text.String()
}

// Visualize writes a page that shows the key's operations and the orders that were tried.
func (b Broken) Visualize(w io.Writer) error {
	return porcupine.Visualize(model(b.initial), b.info, w)
}

func (v Verdict) String() string {
	found := map[porcupine.CheckResult]string{
		porcupine.Ok: "linearizable", porcupine.Illegal: fmt.Sprintf("not linearizable, %d keys broken", len(v.Broken)), porcupine.Unknown: "not decided in time",
	}[v.Result]
	return fmt.Sprintf("%d operations on %d keys, %d reads (%d stale), %d writes in doubt: %s, checked in %v",
		v.Ops, v.Keys, v.Reads, v.Stale, v.InDoubt, found, v.Took.Round(time.Millisecond))
}

// Plus adds another history's verdict, which counts as one of further keys.
func (v Verdict) Plus(w Verdict) Verdict {
	if v.Result == "" || v.Result == porcupine.Ok {
		v.Result = w.Result
	}
	v.Ops, v.Keys, v.Reads, v.InDoubt = v.Ops+w.Ops, v.Keys+w.Keys, v.Reads+w.Reads, v.InDoubt+w.InDoubt
	v.Stale += w.Stale
	v.Took += w.Took
	v.Broken = append(v.Broken, w.Broken...)
	return v
}
