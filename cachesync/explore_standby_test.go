package cachesync

import "math/bits"

// standby says what the Postgres standby is to the primary. It replays what is flushed there, in order, whenever it likes:
// before the primary shows a commit, or long after. Programs with a standby write one row, so that a version names the
// place of its commit in the WAL: the row's lock keeps them in one order.
type standby uint8

const (
	noStandby   standby = iota
	lagging             // the primary waits for nobody
	remoteApply         // a commit is not visible on the primary before the standby has replayed it
)

// wal is what happens to the WAL behind everybody's back.
func (x *turn) wal() {
	if x.standby == noStandby {
		return
	}
	if next := x.s.flushed >> (x.s.replayed + 1); next != 0 {
		n := x.fork()
		n.replayed += 1 + uint8(bits.TrailingZeros16(next))
		x.step(n, -1, "the standby replays v%d", n.replayed)
	}
	if x.lazy && x.s.flushed != x.s.visible {
		n := x.fork()
		n.flushed = n.visible
		x.step(n, -1, "the primary flushes its WAL")
	}
}

// upTo is the newest commit among some that is not newer than a version.
func upTo(commits uint16, v uint8) uint8 {
	return uint8(max(bits.Len16(commits&(2<<v-1))-1, 0))
}

// askPosition learns how far the WAL of the primary goes, flushed or not. Mutants know it from elsewhere.
func (x *turn) askPosition(i int, next uint8) {
	n := x.fork()
	l := &n.p[i]
	l.pc, l.flags = next, l.flags|positioned
	switch {
	case x.off.positionNotOfFence, x.off.positionNotOfVersion, x.off.positionNotOfApply:
		l.version = n.remembered
		x.step(n, i, "takes the position that is remembered, behind v%d", l.version)
		return
	case x.off.positionOfInsert:
		l.version = upTo(n.flushed, n.clock)
	default:
		l.version = upTo(n.flushed|n.visible, n.clock)
	}
	x.step(n, i, "asks the primary for its position, which is behind v%d", l.version)
}

// remember leaves the position of the newest commit up to a version for readers, as mutants do that do not ask.
func (x *turn) remember(n *state, on bool, v uint8) {
	if on {
		n.remembered = max(n.remembered, upTo(n.flushed|n.visible, v))
	}
}
