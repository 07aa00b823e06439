package cachesync

import (
	"fmt"
	"strings"
)

const (
	maxProcs = 6
	maxTries = 4 // tokens of one writer on one key, and nonces of one reader
	maxUnits = 4 // keys and a barrier
	maxRows  = 2
)

// kind says what a process does.
type kind uint8

const (
	lockFirst  kind = iota // UPDATE takes the row lock, fence, COMMIT, apply
	fenceFirst             // fence, a statement that commits by itself, apply
	eventual               // UPDATE, COMMIT, invalidate
	foreign                // a writer that knows nothing of the cache
	coarse                 // UPDATE of rows that are not known: barrier, two walks, COMMIT, release
	reader                 // lease, barrier, snapshot, fill, again and again
	follower               // reads the WAL and invalidates what is older
	flight                 // a database read that several readers of one process share
	arrival                // a reader that joins a flight
	watch                  // looks for outages, for all readers
	drainer                // settles what the outbox holds
)

var kindNames = [...]string{"lock-first", "fence-first", "eventual", "foreign", "coarse", "reader", "follower", "flight", "arrival", "watch", "drainer"}

// process is a party of a program.
type process struct {
	kind  kind
	rows  []int // that it writes
	keys  []int // that it fences and applies, or the one that it reads
	bare  bool  // a writer that applies no payload: the rule invalidates, or rows share the key
	fails bool  // its COMMIT may be turned down
	queue bool  // it commits without its fence where Redis does not answer
	async bool  // its Commit returns before its apply
	asks  bool  // in doubt, it asks for the transaction's status and goes on renewing
	// Of a flight:
	waits     bool // after a bypass it may ask for a lease again
	impatient bool // a value may be too old for it
	onStandby bool // it reads the standby
	// Of a writer that cannot fence: it writes past Redis, and which process it belongs to. See explore_past_test.go.
	past bool
	box  uint8
}

// expiry says who may let time pass over a token.
type expiry uint8

const (
	never    expiry = iota // no time passes
	outlive                // fences outlive their COMMITs: owners renew, dead owners' COMMITs are done in time
	deadOnly               // live owners renew; a dead owner's COMMIT may still be in flight when its fence ends
	anytime                // a paused owner does not renew
)

// faults are what may go wrong in a program, and how often.
type faults struct {
	crash, doubt, late, restart, failover uint8

	expiry    expiry
	vanish    bool // control keys are evicted
	evict     bool // names of values are evicted, or end, one by one
	abandon   bool // readers die with a lease in hand
	wait      bool // a fence is acknowledged when the replica has it
	waitWalks bool // and a walk goes on when the replica has what it did
	// waitRenewals: a renewal counts when the replica has it.
	waitRenewals bool
	quarantine   bool // a young Redis grants no lease, and its fences end without a payload
	// epochs: who has taken over is young, too, and what it holds from before, or is given
	// while it is young, is not trusted. Whose fence it has from before ends it without a payload.
	epochs bool
	// Rules of epochs, switched off: whose fence was copied ends it with its payload; what is
	// stored while the server is young is trusted.
	copiesPay, youngTrusted bool
	// paused: others take a process that has announced an outage for dead although it is not; stopped: also while it has
	// commits that rely on its word. everything: an outage may owe everything. slow: ticks that the watch's clock may miss.
	paused, stopped, everything bool
	slow                        uint8
}

// program is what is explored.
type program struct {
	name   string
	keys   [][]int // the rows that each key shows
	procs  []process
	faults faults
	off    clientRules
	props  property
	// The Postgres standby, and whether a COMMIT returns before its WAL is flushed (synchronous_commit = off).
	standby standby
	lazy    bool
	ahead   bool // an entry may show a commit that the primary does not show yet
	judged  bool // eventual writers' commits are judged as strict ones are, to show what they lack
}

// clientRules are the protocol's rules that no script can keep: true means switched off.
type clientRules struct {
	fence, fenceAwaited, snapshotAfterLease, commitBeforeApply, abortOnlyIfCertain, freshTokens, freshNonces,
	followerWaits, sharedKeysBare, barrierLook, barrierBeforeSnapshot, secondWalk, barrierOverCommit,
	refencedBare, askVisible, lostBarrierSwept bool
	// The end of a write.
	applyBeforeReturn, finishedBare, applyWaits, applyOwed, eventualOwed, absentTwice, lostBarrierSweptTwice, unheardLiftSwept bool
	// Shared reads: what a flight's late comers may not take.
	refusedFill, unfilledRow, sentFill, sentLease bool
	// Reads of a standby.
	standbyWaits, bypassWaits, positionAfterGrant, positionNotOfFence, positionNotOfVersion, positionNotOfApply, positionOfInsert, joinBeforePosition,
	lookBeforePosition, remoteApplyAwaited bool
	// Writing past Redis.
	watched, announcementAwaited, waitOutlastsWatch, watchFromSending, outageOfRows, outageOfOpen, insertNeedsOutage,
	settledBeforeDeleted, committedTaken, ticketsHeld, ticketInDoubt, everythingHeld, stoppedOwes bool
}

// local is where a process stands. Readers and the follower use the fields for purposes of their own.
type local struct {
	pc, srv, version, done, flags, seen uint8
	tries                               uint8 // two bits a unit: tokens sent
	left                                uint8 // two bits a unit: ticks that the newest token has left, as its owner reckons
	bare, owed, pend                    uint8 // units: without payload, owed, to be fenced again
}

// flags of local.
const (
	crashed uint8 = 1 << iota
	doubted       // its connection was lost during COMMIT
	barred        // a reader has seen a token on the barrier
	queued        // its fence failed, and it goes on all the same
)

// Stages of a writer.
const (
	wStart uint8 = iota
	wFence
	wWalk1
	wWalk2
	wSend
	wAwait
	wDoubt
	wApply
	wWalk3
	wWalk4
	wAbort
	wEnd
	wAnnounce // past Redis
	wQueue
)

// Stages of a writer's transaction at the server.
const (
	sNone    uint8 = iota
	sOpen          // rows locked, version captured
	sSent          // COMMIT, or the statement that commits, is on its way
	sStarted       // a fence-first statement has its locks
	sFlushed       // in the WAL, not visible yet
	sVisible
	sAborted
)

// Stages of a reader.
const (
	rIdle uint8 = iota
	rLeased
	rLooked
	rRead
)

// state is all that a step can depend on.
type state struct {
	unit, copy [maxUnits]unitID // Redis, and its replica
	mail       [2]uint16        // 1 + the number of a request that its sender has given up, and which may still arrive
	visible    uint16           // versions, as bits
	flushed    uint16
	handled    uint16 // by the follower
	p          [maxProcs]local
	db, lock   [maxRows]uint8 // the visible version; 1 + the owner
	// The newest versions that the properties are about: acknowledged and visible ones of strict writers, and those
	// whose Commit returned.
	acked, seen, returned [maxRows]uint8
	clock                 uint8 // the version last captured
	crash, doubt, late    uint8 // faults left
	restart, failover     uint8
	replayed              uint8 // by the standby: the newest version
	remembered            uint8 // a position, of mutants that ask for none
	boxes                 [maxBoxes]box
	row                   [maxProcs]uint8 // of a writer, in the outbox: see rowOf
	outages               uint8           // that are announced, as bits
	sight, polled         uint8           // ticks for which values may be served; the poll under way
	slow                  uint8
	young                 uint16 // ticks until a restarted Redis is trusted; the width leaves no hole in the state, so that it hashes quickly
}

// explorer is a program on a machine.
type explorer struct {
	*machine
	program
	barrier   uint8     // its unit
	hasCoarse bool      // so that readers look at it
	looksOut  bool      // readers are served under a watch alone
	watched   bool      // somebody sees a commit in the WAL before it is visible
	fences    [][]uint8 // by process: the units that it puts tokens on
	applied   [][]uint8 // by process: the keys that it changes
	journal   []played  // the requests of the step in the making, kept if it is named
}

// played is a request with its answer.
type played struct {
	request
	answer string
}

func newExplorer(m *machine, p program) *explorer {
	e := &explorer{machine: m, program: p, barrier: uint8(len(p.keys)), watched: p.standby != noStandby}
	for _, p := range p.procs {
		e.hasCoarse = e.hasCoarse || p.kind == coarse
		e.watched = e.watched || p.kind == follower || p.asks
		e.looksOut = e.looksOut || p.kind == watch
		e.fences = append(e.fences, fencedUnits(p, e.barrier))
		var keys []uint8
		for _, k := range p.keys {
			keys = append(keys, uint8(k))
		}
		e.applied = append(e.applied, keys)
	}
	return e
}

func (e *explorer) Start() state {
	f := e.faults
	s := state{crash: f.crash, doubt: f.doubt, late: f.late, restart: f.restart, failover: f.failover, slow: f.slow}
	for i, p := range e.procs {
		if p.kind == fenceFirst {
			s.p[i].pc = wFence
			if e.off.fence {
				s.p[i].pc = wSend
			}
		}
	}
	return s
}

// Contents of a key are the versions of the rows that it shows, four bits each.

func (e *explorer) read(s *state, key int) uint8 {
	var c uint8
	for i, row := range e.keys[key] {
		c |= s.db[row] << (4 * i)
	}
	return c
}

func contentName(c int) string { return contentNames[c] }

// contentNames are spelled beforehand, as keyNames are: they are asked for at every step, and seldom read.
var contentNames = func() (names [256]string) {
	for c := range names {
		names[c] = fmt.Sprintf("v%d", c)
		if c>>4 != 0 {
			names[c] = fmt.Sprintf("v%d|v%d", c&15, c>>4)
		}
	}
	return names
}()

var keyNames = [maxUnits]string{"k0", "k1", "k2", "k3"}

// turn is the expansion of one state.
type turn struct {
	*explorer
	s     *state
	next  state // in the making; see fork
	named bool
	to    func(*state, string)
}

// fork begins a step. There is one at a time: the step before it has been offered, or is given up.
func (x *turn) fork() *state {
	x.next = *x.s
	return &x.next
}

func (e *explorer) Steps(s *state, named bool, to func(*state, string)) {
	x := &turn{explorer: e, s: s, named: named, to: to}
	for i := range e.procs {
		switch e.procs[i].kind {
		case reader:
			x.reader(i)
		case follower:
			x.follower(i)
		case flight:
			x.flight(i)
		case arrival:
			x.arrival(i)
		case watch:
			x.watch(i)
		case drainer:
			x.drainer(i)
		default:
			x.server(i)
			x.writer(i)
		}
	}
	x.outbox()
	x.wal()
	x.network()
	x.time()
	x.trouble()
}

func (x *turn) name(i int) string { return fmt.Sprintf("%s %d", kindNames[x.procs[i].kind], i) }

func (x *turn) key(u uint8) string {
	if u == x.barrier {
		return "barrier"
	}
	return keyNames[u]
}

// step offers the next state. what is put together only where it is read.
func (x *turn) step(n *state, who int, what string, args ...any) {
	if !x.named {
		x.to(n, "")
		return
	}
	var parts []string
	if who >= 0 {
		parts = append(parts, x.name(who)+":")
	}
	if what != "" {
		parts = append(parts, fmt.Sprintf(what, args...))
	}
	for _, p := range x.journal {
		parts = append(parts, fmt.Sprintf("%s %s -> %s;", x.key(p.unit), x.describe(p.request), p.answer))
	}
	label := strings.TrimSuffix(strings.Join(parts, " "), ";")
	x.to(n, label)
	x.journal = x.journal[:0]
}

// exec has Redis carry a request out.
func (x *turn) exec(n *state, r request) string {
	res := x.run(r, n.unit[r.unit])
	n.unit[r.unit] = res.after
	if x.faults.epochs && n.young > 0 && !x.faults.youngTrusted {
		n.unit[r.unit] = x.valueless(res.after)
	}
	if x.named {
		x.journal = append(x.journal, played{r, res.answer})
	}
	return res.answer
}

func (r request) show(x *turn) string {
	if !x.named {
		return ""
	}
	return x.describe(r)
}

func (l *local) attempts(u uint8) uint8 { return l.tries >> (2 * u) & 3 }
func (l *local) attempt(u uint8)        { l.tries += 1 << (2 * u) }

// renewed notes that a token's whole life lies ahead, and grow that a tick has passed.
func (l *local) renewed(u uint8) { l.left = l.left&^(3<<(2*u)) | fenceTicks<<(2*u) }

func (l *local) grow() {
	for u := range uint8(maxUnits) {
		if l.left>>(2*u)&3 > 0 {
			l.left -= 1 << (2 * u)
		}
	}
}
