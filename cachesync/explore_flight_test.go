package cachesync

import "fmt"

// A flight is a database read that the readers of one process share. It begins for nobody in particular; whoever wants a
// row joins, the leader while nothing was sent yet. Requests and answers are steps of their own wherever a reader may come
// between the two. That a request is executed as soon as it is sent loses nothing: who joins before it is executed may take
// no more than who joined before it was sent, and gets nothing older.

// Stages of a flight.
const (
	fGather   uint8 = iota // nothing was sent
	fValue                 // lease has found a value, and its answer is on its way
	fBypassed              // lease has refused, or was not heard of
	fGranted
	fLooked // at the barrier
	fAsked  // the primary has said how far its WAL goes
	fRead   // the row is on its way from the database
	fStored // the fill's answer is on its way
	fRefused
)

// flags of a flight, besides barred.
const (
	noLease uint8 = 1 << (iota + 4)
	positioned
)

// outcome is what a flight ends with.
type outcome uint8

const (
	foundValue outcome = iota
	unfilled           // a row, and it was not asked to store it
	stored
	refused // a row, and the fill was refused, or not heard of
)

var outcomeNames = [...]string{"the value that lease found", "a row that is not stored", "a row that is stored", "a row whose fill was refused"}

// When an arrival has joined.
const (
	whileGathering uint8 = iota
	beforeRead           // nothing was asked of a database
	beforeFill
	afterFill
)

// phase says when somebody joins who joins now.
func (x *turn) phase(f *local) uint8 {
	switch f.pc {
	case fGather, fBypassed: // what comes of a refusal is asked for after it
		return whileGathering
	case fStored, fRefused:
		return afterFill
	case fRead:
		return beforeFill
	case fAsked:
		// What the standby is waited for was settled before.
		if !x.off.joinBeforePosition {
			return beforeFill
		}
	}
	return beforeRead
}

// takes says whether one that has joined then may take what the flight ends with.
func (x *turn) takes(joined uint8, o outcome) bool {
	switch joined {
	case whileGathering:
		return true
	case beforeRead:
		return o != foundValue || x.off.sentLease
	case beforeFill:
		return o == stored || o == refused && x.off.refusedFill || o == unfilled && x.off.unfilledRow
	}
	return o == stored && x.off.sentFill
}

func (x *turn) flight(i int) {
	l := &x.s.p[i]
	switch l.pc {
	case fGather:
		if x.off.positionAfterGrant && l.flags&positioned == 0 {
			x.askPosition(i, fGather)
			return
		}
		x.board(i)
	case fValue:
		x.end(i, foundValue)
	case fBypassed:
		if x.procs[i].waits {
			x.board(i)
		}
		x.approach(i)
	case fGranted:
		if x.hasCoarse && !x.off.lookBeforePosition {
			x.look(i, fLooked)
		} else {
			x.approach(i)
		}
	case fLooked:
		x.approach(i)
	case fAsked:
		if x.off.lookBeforePosition && l.done == 0 && l.flags&noLease == 0 {
			x.look(i, fAsked)
			return
		}
		x.readRow(i)
	case fRead:
		x.land(i)
	case fStored:
		x.end(i, stored)
	case fRefused:
		x.end(i, refused)
	}
	if x.faults.abandon && l.pc > fGather {
		x.crashFlight(i)
	}
}

// board asks for a lease, under a nonce that nothing else bears.
func (x *turn) board(i int) {
	u := uint8(x.procs[i].keys[0])
	if x.s.young > 0 {
		return
	}
	r := request{op: opLease, unit: u, who: uint8(i), try: x.freshNonce(i, u)}
	if x.off.freshNonces {
		r.try = 0
	}
	met := x.contents(x.s.unit[u])
	heard := func(n *state, answer string) {
		l := &n.p[i]
		switch answer {
		case "granted":
			l.tries, l.flags = r.try, l.flags&^noLease
			if l.pc != fRead { // a mutant has read already
				l.pc = fGranted
			}
		case "value":
			l.pc, l.seen = fValue, uint8(met)
		default:
			l.pc, l.flags = fBypassed, l.flags|noLease
		}
	}
	unheard := func(n *state) { heard(n, "") }
	x.send(i, r, heard, unheard)
	if x.procs[i].impatient {
		r.op = opLeaseNew
		x.send(i, r, heard, unheard)
	}
}

// approach takes the snapshot, on a standby only once it is known how far that must be.
func (x *turn) approach(i int) {
	l := &x.s.p[i]
	waits := !x.off.standbyWaits && (l.flags&noLease == 0 || !x.off.bypassWaits)
	if x.procs[i].onStandby && x.standby == lagging && waits && l.flags&positioned == 0 {
		x.askPosition(i, fAsked)
		return
	}
	x.readRow(i)
}

// readRow takes the snapshot. From a standby that is not waited for any longer, a reader goes to the primary.
func (x *turn) readRow(i int) {
	l, primary := &x.s.p[i], x.read(x.s, x.procs[i].keys[0])
	if x.procs[i].onStandby && x.s.replayed >= l.version {
		x.readFrom(i, x.s.replayed, "standby")
	}
	if !x.procs[i].onStandby || x.s.replayed < l.version {
		x.readFrom(i, primary, "database")
	}
}

func (x *turn) readFrom(i int, row uint8, from string) {
	n := x.fork()
	l := &n.p[i]
	l.pc, l.seen, l.version, l.flags = fRead, row, 0, l.flags&^positioned
	x.step(n, i, "reads %s from the %s", contentName(int(row)), from)
}

// land fills, or gives the lease back. A row may be one that is not to be stored.
func (x *turn) land(i int) {
	l := &x.s.p[i]
	if l.flags&noLease != 0 {
		if x.procs[i].waits && x.off.snapshotAfterLease {
			x.board(i)
		}
		x.end(i, unfilled)
		return
	}
	back := request{op: opRelease, unit: uint8(x.procs[i].keys[0]), who: uint8(i), try: l.tries}
	over := func(n *state) { x.deliver(n, i, unfilled) }
	x.send(i, back, func(n *state, _ string) { over(n) }, over)
	if l.flags&barred != 0 {
		return
	}
	r := back
	r.op, r.content = opFill, l.seen
	x.send(i, r, func(n *state, answer string) {
		n.p[i] = local{pc: fRefused, seen: l.seen}
		if answer == "1" {
			n.p[i].pc = fStored
		}
	}, func(n *state) { n.p[i] = local{pc: fRefused, seen: l.seen} })
}

func (x *turn) end(i int, o outcome) {
	n := x.fork()
	x.deliver(n, i, o)
	x.step(n, i, "ends with %s, %s", contentName(int(x.s.p[i].seen)), outcomeNames[o])
}

// deliver gives what a flight ends with to those who may take it. The others start again.
func (x *turn) deliver(n *state, f int, o outcome) {
	for i := range x.procs {
		l := &n.p[i]
		if x.procs[i].kind != arrival || l.pc != aJoined || int(l.tries) != f {
			continue
		}
		if x.takes(l.done, o) {
			x.hand(l, x.s.p[f].seen)
		} else {
			*l = local{pc: aAgain, version: l.version}
		}
	}
	n.p[f] = local{}
}

func (x *turn) crashFlight(f int) {
	n := x.fork()
	n.p[f] = local{}
	for i := range x.procs {
		if x.procs[i].kind == arrival && n.p[i].pc == aJoined && int(n.p[i].tries) == f {
			n.p[i] = local{}
		}
	}
	x.step(n, f, "is killed with its process; another comes")
}

// Stages of an arrival. Its version is what it must not be given anything older than, its done when it has joined, its
// tries which flight.
const (
	aIdle uint8 = iota
	aJoined
	aAgain
	aStale // it was given something older
	aCame  // under a watch
)

// arrival comes again and again. That its GET comes before it joins, and is a miss, is left out: who comes only when it
// joins must not be given less.
func (x *turn) arrival(i int) {
	l := &x.s.p[i]
	again := l.pc == aAgain
	if x.looksOut && l.pc == aIdle {
		x.come(i)
		return
	}
	if !again && l.pc != aIdle && l.pc != aCame {
		return
	}
	floor := l.version
	if l.pc == aIdle {
		floor = x.newest(x.s, x.procs[i].keys[0])
	} else if c := x.contents(x.s.unit[x.procs[i].keys[0]]); c >= 0 {
		n := x.fork()
		x.hand(&n.p[i], uint8(c))
		x.step(n, i, "finds %s in Redis", contentName(c))
	}
	for f := range x.procs {
		joined := x.phase(&x.s.p[f])
		switch {
		case x.procs[f].kind != flight || x.procs[f].keys[0] != x.procs[i].keys[0]:
			continue
		case again && joined != whileGathering, joined == afterFill && !x.off.sentFill:
			continue // a flight of its own, or the next one
		}
		n := x.fork()
		n.p[i] = local{pc: aJoined, done: joined, tries: uint8(f), version: floor}
		x.step(n, i, "joins flight %d, and must not be given less than %s", f, contentName(int(floor)))
	}
}

// newest is what a reader that starts now must be given at least, by what the program promises.
func (e *explorer) newest(s *state, key int) (c uint8) {
	for i, row := range e.keys[key] {
		v := uint8(0)
		if e.props&freshReturned != 0 {
			v = s.returned[row]
		}
		if e.props&freshAcked != 0 {
			v = max(v, s.acked[row])
		}
		if e.props&freshVisible != 0 {
			v = max(v, s.seen[row])
		}
		c |= v << (4 * i)
	}
	return c
}

// hand gives a reader its row.
func (x *turn) hand(l *local, row uint8) {
	floor := l.version
	*l = local{}
	if row&15 < floor&15 || row>>4 < floor>>4 {
		*l = local{pc: aStale, seen: row, version: floor}
	}
}

// judgeArrivals looks at what readers were given, wherever it came from.
func (e *explorer) judgeArrivals(s *state) string {
	for i, p := range e.procs {
		if l := &s.p[i]; p.kind == arrival && l.pc == aStale {
			since := "visible"
			switch {
			case e.props&freshVisible != 0:
			case e.props&freshAcked != 0:
				since = "acknowledged"
			default:
				since = "returned to its caller"
			}
			return fmt.Sprintf("arrival %d is given %s, although %s was %s when it came", i, contentName(int(l.seen)), contentName(int(l.version)), since)
		}
	}
	return ""
}
