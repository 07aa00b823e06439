package cachesync

import (
	"fmt"
	"strings"
)

// Writing past Redis: what internal/outbox and the driver do where a writer cannot fence. Each request to Postgres is a step: it is
// sent and carried out at once, and only the answer to a poll is a step of its own, since a watch counts from before the poll was sent. That
// a poll is carried out as soon as it is sent loses nothing: one that is carried out later gives a shorter watch.
//
// Where the model lets parties do more than the driver does, what holds in it holds for the driver all the same: readers fill whenever
// they like, watch or no watch, and only what they serve needs one; drainers hold no barrier during their walks; an owner's
// outage is removed as soon as the foreign key allows it, whether or not Redis answers the owner.

const (
	watchTicks = 1
	waitTicks  = 2 // of an announcement
	maxBoxes   = 2 // processes that write past Redis
	maxOutages = 2 // of one of them
)

// box is what a process that writes past Redis knows.
type box struct {
	outage     uint8 // 1 + the one that it has announced
	wait       uint8 // ticks until readers must know
	made       uint8 // outages so far
	everything uint8 // where its debt of everything stands
}

// Stages of a row of the outbox. Behind them, in a row's three bits more, stands the outage that it refers to.
const (
	rowNone  uint8 = iota
	rowOpen        // written in a transaction that is under way; or everything, held back
	rowThere       // committed; or let go
	rowTaken
	rowGone
)

// ticketed is a flag of a writer: everything is owed, and it has written no row.
const ticketed uint8 = 1 << 6

func rowOf(stage, outage uint8) uint8 { return outage<<3 | stage }

// come is a reader that may be served from Redis.
func (x *turn) come(i int) {
	if !x.serves(x.s) {
		return // it reads the database by itself
	}
	n := x.fork()
	n.p[i] = local{pc: aCame, version: x.newest(x.s, x.procs[i].keys[0])}
	x.step(n, i, "comes, and must not be given less than %s", contentName(int(n.p[i].version)))
}

// serves says whether readers may be given what is in Redis.
func (e *explorer) serves(s *state) bool { return !e.looksOut || s.sight > 0 || e.off.watched }

// Polls under way, beside their age in ticks.
const (
	noPoll uint8 = iota
	pollClear
	pollOut
)

// watch polls, and hears the answer.
func (x *turn) watch(i int) {
	n := x.fork()
	switch polled := x.s.polled & 3; {
	case polled == noPoll && x.s.outages == 0:
		n.polled = pollClear
		x.step(n, i, "sends a poll, which sees no outage")
	case polled == noPoll:
		n.polled = pollOut
		x.step(n, i, "sends a poll, which sees an outage")
	default:
		n.sight, n.polled = 0, noPoll
		if polled == pollClear {
			n.sight = watchTicks - x.s.polled>>2
		}
		if polled == pollClear && x.off.watchFromSending {
			n.sight = watchTicks
		}
		x.step(n, i, "hears of its poll, and serves for %d ticks", n.sight)
	}
}

// age takes a tick from the watch.
func (x *turn) age(n *state) {
	n.sight -= min(n.sight, 1)
	if n.polled&3 != noPoll && n.polled>>2 < watchTicks {
		n.polled += 1 << 2
	}
}

func (x *turn) wait(n *state) {
	for b := range n.boxes {
		n.boxes[b].wait -= min(n.boxes[b].wait, 1)
	}
}

// goPast is a writer for whom Redis is out of reach. A statement that would commit by itself becomes a transaction, which another writer
// stands for, unless everything is owed.
func (x *turn) goPast(i int) {
	b := x.s.boxes[x.procs[i].box]
	n := x.fork()
	l := &n.p[i]
	l.done, l.pc = 0, wAnnounce
	l.flags |= queued
	if x.procs[i].kind == fenceFirst {
		if b.outage == 0 || !x.ready(b) || b.everything != rowOpen {
			return
		}
		l.pc = wSend
		l.flags |= ticketed
		x.step(n, i, "goes past Redis, and everything is owed")
		return
	}
	x.step(n, i, "cannot reach Redis")
}

// ready says whether a box need not wait any longer.
func (x *turn) ready(b box) bool {
	return b.wait == 0 || x.off.announcementAwaited || x.off.waitOutlastsWatch && b.wait <= waitTicks-watchTicks
}

// announce takes a ticket for the outage of the process, and announces one where there is none.
func (x *turn) announce(i int) {
	p := x.procs[i].box
	n := x.fork()
	n.p[i].pc = wQueue
	b := &n.boxes[p]
	switch {
	case b.outage != 0:
		x.step(n, i, "goes on under outage %d", b.outage-1)
	case b.made < maxOutages:
		b.outage = 1 + p*maxOutages + b.made
		b.made++
		b.wait = waitTicks
		n.outages |= 1 << (b.outage - 1)
		x.step(n, i, "announces outage %d", b.outage-1)
	}
}

// queueDebt writes the row, once readers must know.
func (x *turn) queueDebt(i int) {
	b := x.s.boxes[x.procs[i].box]
	if b.outage != 0 && !x.ready(b) {
		return
	}
	n := x.fork()
	l := &n.p[i]
	l.pc = wSend
	switch there := b.outage != 0 && x.s.outages&(1<<(b.outage-1)) != 0; {
	case b.everything == rowOpen && b.outage != 0:
		l.flags |= ticketed
		x.step(n, i, "writes no row: everything is owed")
	case there || b.outage != 0 && x.off.insertNeedsOutage:
		n.row[i] = rowOf(rowOpen, b.outage-1)
		x.step(n, i, "writes its row under outage %d", b.outage-1)
	default: // the foreign key
		n.boxes[x.procs[i].box].outage = 0
		l.pc, l.srv = wAbort, sAborted
		for r := range n.lock {
			if n.lock[r] == uint8(i)+1 {
				n.lock[r] = 0
			}
		}
		x.step(n, i, "finds its outage gone, and rolls back")
	}
}

// doubtPast is a writer in doubt under whose ticket there is no row: it keeps the ticket until its transaction is over. A mutant gives it
// back, and makes its keys absent now and then.
func (x *turn) doubtPast(i int) {
	l := &x.s.p[i]
	over := l.srv == sVisible || l.srv == sAborted
	if over && !x.off.ticketInDoubt {
		n := x.fork()
		x.owe(n, i)
		x.step(n, i, "learns that it is over, and gives its ticket back")
	}
	if !x.off.ticketInDoubt || l.done != 0 && !over {
		return
	}
	n := x.fork()
	for _, u := range x.applied[i] {
		x.exec(n, request{op: opInvalidate, unit: u})
	}
	n.p[i].done = 1
	if l.done != 0 {
		n.p[i].done, n.p[i].pc = 0, wEnd
	}
	x.step(n, i, "makes its keys absent:")
}

// unkept says that others have let go of everything under a writer's ticket: what it owes has to be settled anew.
func (x *turn) unkept(n *state, i int) bool {
	return n.p[i].flags&ticketed != 0 && n.boxes[x.procs[i].box].everything != rowOpen && !x.off.stoppedOwes
}

// outbox is what becomes of outages, and of everything that is owed.
func (x *turn) outbox() {
	for p := range x.s.boxes {
		x.oweEverything(p)
	}
	for o := range uint8(maxBoxes * maxOutages) {
		if x.s.outages&(1<<o) == 0 {
			continue
		}
		p := o / maxOutages
		own := x.s.boxes[p].outage == o+1
		lives := own && !x.dead(p)
		if x.referred(o) {
			continue
		}
		if lives && !x.holds(p) {
			n := x.fork()
			n.outages &^= 1 << o
			n.boxes[p].outage = 0
			x.step(n, -1, "outage %d is removed by its owner", o)
		}
		if !lives || x.faults.paused || x.faults.stopped {
			n := x.fork()
			n.outages &^= 1 << o
			x.step(n, -1, "outage %d is removed by others", o)
		}
	}
}

// referred is the foreign key.
func (x *turn) referred(o uint8) bool {
	for i := range x.procs {
		stage := x.s.row[i] & 7
		switch {
		case stage == rowNone, stage == rowGone, x.s.row[i]>>3 != o:
		case stage == rowOpen && x.off.outageOfOpen, stage != rowOpen && x.off.outageOfRows:
		default:
			return true
		}
	}
	b := x.s.boxes[o/maxOutages]
	return b.outage == o+1 && b.everything != rowNone && b.everything != rowGone && !x.off.outageOfRows
}

// dead says whether a process is killed.
func (x *turn) dead(p uint8) bool {
	for i := range x.procs {
		if x.procs[i].past && x.procs[i].box == p && x.s.p[i].flags&crashed != 0 {
			return true
		}
	}
	return false
}

// holds says whether a ticket of a process is out.
func (x *turn) holds(p uint8) bool {
	for i := range x.procs {
		l := &x.s.p[i]
		if !x.procs[i].past || x.procs[i].box != p || l.flags&(queued|crashed) != queued {
			continue
		}
		if l.pc == wQueue || l.pc == wSend || l.pc == wAwait || l.pc == wDoubt && !x.off.ticketInDoubt {
			return true
		}
	}
	return false
}

// pending says whether a commit without a row is still to come: one that was sent, or that its owner will send.
func (x *turn) pending(p uint8) bool {
	for i := range x.procs {
		l := &x.s.p[i]
		if !x.procs[i].past || x.procs[i].box != p || l.flags&ticketed == 0 {
			continue
		}
		if l.srv >= sSent && l.srv <= sFlushed || l.pc == wSend && l.flags&crashed == 0 {
			return true
		}
	}
	return false
}

// oweEverything puts everything into the outbox, held back, and lets it go.
func (x *turn) oweEverything(p int) {
	b := x.s.boxes[p]
	if !x.faults.everything || b.outage == 0 {
		return
	}
	n := x.fork()
	n.boxes[p].everything++
	dead := x.dead(uint8(p))
	switch {
	case b.everything == rowNone && !dead && (x.s.outages&(1<<(b.outage-1)) != 0 || x.off.insertNeedsOutage):
		x.step(n, -1, "process %d owes everything", p)
	case b.everything != rowOpen:
	case !dead && (!x.holds(uint8(p)) || x.off.ticketsHeld):
		x.step(n, -1, "process %d lets everything go", p)
	case (dead || x.faults.paused) && !x.pending(uint8(p)), x.faults.stopped:
		x.step(n, -1, "others let go what process %d owes, everything", p)
	}
}

// spellOutbox describes what Postgres knows of what Redis does not.
func (e *explorer) spellOutbox(s *state) string {
	var b strings.Builder
	stages := [...]string{"", "open", "there", "taken", "gone"}
	for o := range maxBoxes * maxOutages {
		if s.outages&(1<<o) != 0 {
			fmt.Fprintf(&b, "outage %d is announced; ", o)
		}
	}
	for i := range e.procs {
		if stage := s.row[i] & 7; stage != rowNone {
			fmt.Fprintf(&b, "the row of %d is %s; ", i, stages[stage])
		}
	}
	for p := range s.boxes {
		if stage := s.boxes[p].everything; stage != rowNone {
			fmt.Fprintf(&b, "everything of process %d is %s; ", p, [...]string{"", "held", "let go", "taken", "gone"}[stage])
		}
	}
	fmt.Fprintf(&b, "served for %d; ", s.sight)
	return b.String()
}
