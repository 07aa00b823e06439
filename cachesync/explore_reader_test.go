package cachesync

// reader reads its key again and again. What it finds in Redis is judged by Check, which looks at every state.
func (x *turn) reader(i int) {
	l := &x.s.p[i]
	switch l.pc {
	case rIdle:
		if x.off.snapshotAfterLease && l.flags == 0 {
			x.snapshot(i, rIdle)
			return
		}
		x.lease(i)
	case rLeased:
		switch {
		case !x.hasCoarse || x.off.barrierLook || x.off.barrierBeforeSnapshot:
			x.snapshot(i, rRead)
		default:
			x.look(i, rLooked)
		}
	case rLooked:
		if l.flags&barred == 0 {
			x.snapshot(i, rRead)
		}
	case rRead:
		if x.off.barrierBeforeSnapshot && l.done == 0 {
			x.look(i, rRead)
			return
		}
		x.fill(i)
	}
	if l.pc == rRead || l.flags&barred != 0 {
		x.giveUp(i)
	}
}

// lease asks for the right to fill, under a nonce that nothing else bears.
func (x *turn) lease(i int) {
	u := uint8(x.procs[i].keys[0])
	if x.s.young > 0 {
		return // a young Redis grants nothing
	}
	try := x.s.p[i].tries
	if !x.off.freshNonces {
		try = x.freshNonce(i, u)
	}
	r := request{op: opLease, unit: u, who: uint8(i), try: try}
	x.send(i, r, func(n *state, answer string) {
		l := &n.p[i]
		switch {
		case answer == "granted" && x.off.snapshotAfterLease:
			*l = local{pc: rRead, tries: try, seen: l.seen, done: 1}
		case answer == "granted":
			*l = local{pc: rLeased, tries: try}
		default:
			*l = local{}
		}
	}, func(n *state) {
		// With fresh nonces the reader goes without the cache; a retry is another read.
		n.p[i] = local{}
	})
}

// freshNonce finds a name that is neither in Redis nor under way.
func (x *turn) freshNonce(i int, u uint8) uint8 {
	for try := range uint8(maxTries) {
		if x.units[x.s.unit[u]].nonce != 1+i*maxTries+int(try) && x.units[x.s.copy[u]].nonce != 1+i*maxTries+int(try) && !x.posted(i, try) {
			return try
		}
	}
	panic("explore: no nonce left")
}

func (x *turn) posted(i int, try uint8) bool {
	for _, m := range x.s.mail {
		if m == 0 {
			continue
		}
		r := x.requests[m-1]
		if r.who == uint8(i) && r.try == try && (r.op == opLease || r.op == opLeaseNew || r.op == opFill || r.op == opRelease) {
			return true
		}
	}
	return false
}

func (x *turn) look(i int, next uint8) {
	r := request{op: opBarrier, unit: x.barrier}
	x.send(i, r, func(n *state, answer string) {
		l := &n.p[i]
		l.pc, l.done = next, 1
		if answer == "1" {
			l.flags |= barred
		}
	}, func(n *state) {
		l := &n.p[i]
		l.pc, l.done = next, 1
		l.flags |= barred
	})
}

func (x *turn) snapshot(i int, next uint8) {
	n := x.fork()
	l := &n.p[i]
	l.seen, l.pc = x.read(x.s, x.procs[i].keys[0]), next
	if next == rIdle {
		l.flags = doubted // the snapshot of a mutant, taken before its lease
	}
	x.step(n, i, "reads %s from the database", contentName(int(l.seen)))
}

func (x *turn) fill(i int) {
	l := &x.s.p[i]
	if l.flags&barred != 0 {
		return // it may only give its lease back
	}
	r := request{op: opFill, unit: uint8(x.procs[i].keys[0]), who: uint8(i), try: l.tries, content: l.seen}
	idle := func(n *state) { n.p[i] = local{} }
	x.send(i, r, func(n *state, _ string) { idle(n) }, idle)
}

// giveUp gives the lease back, or dies with it.
func (x *turn) giveUp(i int) {
	r := request{op: opRelease, unit: uint8(x.procs[i].keys[0]), who: uint8(i), try: x.s.p[i].tries}
	idle := func(n *state) { n.p[i] = local{} }
	x.send(i, r, func(n *state, _ string) { idle(n) }, idle)
	if x.faults.abandon {
		n := x.fork()
		idle(n)
		x.step(n, i, "is killed; another reader comes")
	}
}

// follower makes absent what is older than a change in the WAL.
func (x *turn) follower(i int) {
	l := &x.s.p[i]
	v := l.version
	if v == 0 {
		for v = 1; v <= x.s.clock; v++ {
			ready := x.s.visible
			if x.off.followerWaits {
				ready = x.s.flushed
			}
			if ready&^x.s.handled&(1<<v) != 0 {
				break
			}
		}
		if v > x.s.clock {
			return
		}
	}
	keys := x.keysOf(v)
	for _, u := range keys {
		if l.done&(1<<u) != 0 {
			continue
		}
		r := request{op: opInvalidate, unit: u, version: v}
		x.send(i, r, func(n *state, _ string) {
			l := &n.p[i]
			l.version = v
			l.done |= 1 << u
			for _, u := range keys {
				if l.done&(1<<u) == 0 {
					return
				}
			}
			n.handled |= 1 << v
			*l = local{}
		}, func(*state) {})
	}
}

// keysOf are the keys that show the rows of a version's writer.
func (x *turn) keysOf(v uint8) []uint8 {
	for i := range x.procs {
		if x.s.p[i].version == v && x.procs[i].kind < reader {
			return x.applied[i]
		}
	}
	return nil
}
