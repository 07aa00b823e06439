package cachesync

func (x *turn) await(i int) {
	p, l := &x.procs[i], &x.s.p[i]
	n := x.fork()
	switch l.srv {
	case sVisible:
		x.acknowledge(n, i)
		x.step(n, i, "COMMIT is acknowledged")
	case sAborted:
		n.p[i].pc = wAbort
		x.step(n, i, "learns that it was rolled back")
	}
	if x.s.doubt == 0 || p.kind == foreign {
		return
	}
	n = x.fork()
	n.doubt--
	n.p[i].flags |= doubted
	switch {
	case x.off.abortOnlyIfCertain:
		n.p[i].pc = wAbort
	case p.kind == eventual || p.asks || l.flags&ticketed != 0:
		n.p[i].pc = wDoubt
	default:
		n.p[i].pc = wEnd
	}
	x.step(n, i, "loses its connection: the outcome is in doubt")
}

func (x *turn) acknowledge(n *state, i int) {
	p, l := &x.procs[i], &n.p[i]
	l.pc, l.done = wApply, 0
	for _, r := range p.rows {
		if x.strict(p.kind) {
			n.acked[r] = max(n.acked[r], l.version)
		}
	}
	if p.kind == foreign {
		l.pc = wEnd
	}
	if l.flags&queued != 0 {
		x.owe(n, i)
	}
	if p.async || x.off.applyBeforeReturn {
		x.returns(n, i)
	}
	if x.off.commitBeforeApply && p.kind == lockFirst {
		x.finish(n, i)
	}
}

// owe lets a Commit return whose fence had failed: its keys are made absent behind its back, or all are walked over.
func (x *turn) owe(n *state, i int) {
	l := &n.p[i]
	x.finish(n, i)
	if x.procs[i].past && !x.unkept(n, i) {
		return
	}
	if x.procs[i].kind == coarse {
		l.pc = wWalk3
		return
	}
	for _, u := range x.applied[i] {
		l.owed |= 1 << u
	}
}

// ask settles an outcome in doubt by pg_xact_status, which calls a transaction committed only when it is visible.
func (x *turn) ask(i int) {
	l := &x.s.p[i]
	switch {
	case l.flags&ticketed != 0:
		x.doubtPast(i)
		return
	case x.procs[i].kind == eventual:
		x.doubtEventual(i)
		return
	}
	n := x.fork()
	switch {
	case l.srv == sVisible, l.srv == sFlushed && x.off.askVisible:
		n.p[i].pc = wApply
		x.step(n, i, "asks, and learns that it was committed")
	case l.srv == sAborted:
		n.p[i].pc = wAbort
		x.step(n, i, "asks, and learns that it was rolled back")
	}
	if l.srv == sVisible || l.srv == sAborted {
		n = x.fork()
		n.p[i].pc = wApply
		for _, u := range x.fenced(i) {
			if !x.off.finishedBare {
				n.p[i].bare |= 1 << u
			}
		}
		x.step(n, i, "asks, and learns only that it is over")
	}
	n = x.fork()
	n.p[i].pc = wEnd
	x.step(n, i, "cannot ask, and leaves its fence to expire")
}

// doubtEventual makes the keys absent at once. Once the commit is known it is applied; where it is known only that the
// transaction is over, or a fence's life has passed that would have covered it, they are made absent again.
func (x *turn) doubtEventual(i int) {
	l := &x.s.p[i]
	again := l.done != 0
	if again && l.srv != sVisible && l.srv != sAborted {
		return
	}
	n := x.fork()
	if again && l.srv == sVisible {
		n.p[i].pc, n.p[i].done = wApply, 0
		x.step(n, i, "asks, and learns that it was committed")
		n = x.fork()
	}
	for _, k := range x.procs[i].keys {
		x.exec(n, request{op: opInvalidate, unit: uint8(k)})
	}
	n.p[i].done = 1
	if again || x.off.absentTwice {
		n.p[i].done, n.p[i].pc = 0, wEnd
	}
	x.step(n, i, "makes its keys absent:")
}

// applyAll ends the fence after COMMIT. A key that cannot be reached is owed.
func (x *turn) applyAll(i int) {
	p, l := &x.procs[i], &x.s.p[i]
	if x.waitsForRenewal(i) {
		return
	}
	units := x.fenced(i)
	if p.kind == eventual {
		units = x.applied[i]
	}
	for _, u := range units {
		if l.done&(2<<u) != 0 {
			continue
		}
		done := func(n *state) {
			n.p[i].done |= 2 << u
			for _, u := range units {
				if n.p[i].done&(2<<u) == 0 {
					return
				}
			}
			if n.p[i].pc == wSend {
				n.p[i].done = 1
				return
			}
			x.finish(n, i)
		}
		// A barrier that is not known to have stood all along is made good by two more walks.
		broken := func(n *state) { n.p[i].pc, n.p[i].done = wWalk3, 0 }
		r := x.applyRequest(i, u)
		x.send(i, r, func(n *state, answer string) {
			x.remember(n, x.off.positionNotOfVersion, l.version-1)
			x.remember(n, x.off.positionNotOfApply, n.clock)
			if p.kind == coarse && (answer == "gone" || l.bare != 0) && !x.off.lostBarrierSwept {
				broken(n)
				return
			}
			done(n)
		}, func(n *state) {
			switch {
			case p.kind == coarse && !x.off.unheardLiftSwept:
				broken(n)
				return
			case p.kind == coarse, p.kind == eventual && x.off.eventualOwed, x.off.applyOwed:
			default:
				n.p[i].owed |= 1 << u
			}
			done(n)
		})
	}
}

func (x *turn) applyRequest(i int, u uint8) request {
	p, l := &x.procs[i], &x.s.p[i]
	r := request{op: opApply, unit: u, who: uint8(i), try: max(l.attempts(u), 1), version: l.version, content: noContent}
	switch p.kind {
	case coarse:
		return request{op: opAbort, unit: u, who: uint8(i), try: l.attempts(u)}
	case eventual:
		return request{op: opInvalidate, unit: u}
	}
	if (!p.bare || x.off.sharedKeysBare) && l.bare&(1<<u) == 0 {
		r.content = x.written(i, int(u))
	}
	if r.content == noContent {
		r.version = 0
	}
	return r
}

// written is a key's contents as the writer knows them: its own version, and other rows as it saw them.
func (x *turn) written(i, key int) (c uint8) {
	l := &x.s.p[i]
	for at, row := range x.keys[key] {
		v := l.seen >> (4 * row) & 15
		for _, own := range x.procs[i].rows {
			if own == row {
				v = l.version
			}
		}
		c |= v << (4 * at)
	}
	return c
}

// finish lets Commit return.
func (x *turn) finish(n *state, i int) {
	l := &n.p[i]
	l.pc, l.done, l.left = wEnd, 0, 0
	x.returns(n, i)
}

// returns notes that the caller has its answer. Of a commit in doubt it had another one long ago.
func (x *turn) returns(n *state, i int) {
	l := &n.p[i]
	if l.flags&doubted != 0 {
		return
	}
	for _, r := range x.procs[i].rows {
		n.returned[r] = max(n.returned[r], l.version)
	}
}

func (x *turn) abortAll(i int) {
	l := &x.s.p[i]
	if x.waitsForRenewal(i) {
		return
	}
	none := true
	for _, u := range x.fenced(i) {
		if l.attempts(u) == 0 || l.done&(2<<u) != 0 {
			continue
		}
		none = false
		done := func(n *state) { n.p[i].done |= 2 << u }
		r := request{op: opAbort, unit: u, who: uint8(i), try: l.attempts(u)}
		x.send(i, r, func(n *state, _ string) { done(n) }, done)
	}
	if none {
		n := x.fork()
		n.p[i].pc, n.p[i].done, n.p[i].left = wEnd, 0, 0
		x.step(n, i, "ends")
	}
}

// settleOwed makes a key absent that could not be applied, until that is acknowledged.
func (x *turn) settleOwed(i int) {
	l := &x.s.p[i]
	for _, u := range x.applied[i] {
		if l.owed&(1<<u) == 0 {
			continue
		}
		r := request{op: opApply, unit: u, who: uint8(i), try: max(l.attempts(u), 1), content: noContent}
		if x.procs[i].kind == eventual || l.flags&queued != 0 {
			r = request{op: opInvalidate, unit: u}
		}
		x.send(i, r, func(n *state, _ string) { n.p[i].owed &^= 1 << u }, func(*state) {})
	}
}
