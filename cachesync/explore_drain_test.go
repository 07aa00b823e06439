package cachesync

import "fmt"

// drainer takes a row, makes its keys absent, and deletes it. Its version is 1 + the writer whose row it has, or 1 + maxProcs + the
// process whose everything it has.
func (x *turn) drainer(i int) {
	l := &x.s.p[i]
	if l.version != 0 {
		x.drain(i, l.version-1)
		x.killDrainer(i)
		return
	}
	for w := range x.procs {
		stage := x.s.row[w] & 7
		if stage == rowThere || stage == rowOpen && x.off.committedTaken {
			x.drain(i, uint8(w))
		}
	}
	for b := range x.s.boxes {
		stage := x.s.boxes[b].everything
		if stage == rowThere || stage == rowOpen && x.off.everythingHeld {
			x.drain(i, uint8(maxProcs+b))
		}
	}
}

// drain is the next step with a row.
func (x *turn) drain(i int, row uint8) {
	l := &x.s.p[i]
	if x.off.settledBeforeDeleted && l.version == 0 {
		n := x.fork()
		x.mark(n, row, rowGone)
		n.p[i].version = 1 + row
		x.step(n, i, "deletes %s", rowNames[row])
		return
	}
	if l.pc == dSettled {
		n := x.fork()
		x.mark(n, row, rowGone)
		n.p[i] = local{}
		x.step(n, i, "deletes %s", rowNames[row])
		return
	}
	took := func(n *state) {
		n.p[i].version = 1 + row
		if !x.off.settledBeforeDeleted {
			x.mark(n, row, rowTaken)
		}
	}
	over := func(n *state) {
		n.p[i].done, n.p[i].pc = 0, dSettled
		if x.off.settledBeforeDeleted {
			n.p[i] = local{}
		}
	}
	if row >= maxProcs || x.procs[row].kind == coarse {
		x.sweep(i, row, took, over)
		return
	}
	x.invalidateAll(i, x.applied[row], took, over)
}

// Stages of a drainer.
const (
	dFirst uint8 = iota // walk
	dSecond
	dSettled
)

// rowNames are spelled beforehand, since a step asks for one whether it is named or not.
var rowNames = func() (names [maxProcs + maxBoxes]string) {
	for i := range names {
		names[i] = fmt.Sprintf("the row of %d", i)
		if i >= maxProcs {
			names[i] = fmt.Sprintf("the row of all that process %d owes", i-maxProcs)
		}
	}
	return names
}()

// mark notes the stage of a row.
func (x *turn) mark(n *state, row, stage uint8) {
	if row >= maxProcs {
		n.boxes[row-maxProcs].everything = stage
		return
	}
	n.row[row] = n.row[row]&^7 | stage
}

func (x *turn) invalidateAll(i int, keys []uint8, took, over func(n *state)) {
	for _, u := range keys {
		if x.s.p[i].done&(1<<u) != 0 {
			continue
		}
		x.send(i, request{op: opInvalidate, unit: u}, func(n *state, _ string) {
			took(n)
			n.p[i].done |= 1 << u
			for _, u := range keys {
				if n.p[i].done&(1<<u) == 0 {
					return
				}
			}
			over(n)
		}, func(*state) {})
	}
}

// sweep walks twice.
func (x *turn) sweep(i int, row uint8, took, over func(n *state)) {
	if x.s.p[i].version == 0 {
		n := x.fork()
		took(n)
		x.step(n, i, "takes %s", rowNames[row])
		return
	}
	var keys []uint8
	for k := range x.keys {
		keys = append(keys, uint8(k))
	}
	x.walkOver(i, keys, func(n *state) {
		n.p[i].pc++
		if n.p[i].pc == dSettled || x.off.secondWalk {
			over(n)
		}
	}, false)
}

func (x *turn) killDrainer(i int) {
	if x.s.crash == 0 {
		return
	}
	n := x.fork()
	n.crash--
	row := n.p[i].version - 1
	if !x.off.settledBeforeDeleted {
		x.mark(n, row, rowThere)
	}
	n.p[i] = local{}
	x.step(n, i, "is killed; another comes")
}
