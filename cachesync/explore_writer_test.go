package cachesync

func (x *turn) firstStage(i int) uint8 {
	switch x.procs[i].kind {
	case lockFirst, coarse:
		if !x.off.fence {
			return wFence
		}
	}
	return wSend
}

// writer is the client's part.
func (x *turn) writer(i int) {
	l := &x.s.p[i]
	if l.flags&crashed != 0 {
		return
	}
	x.die(i)
	x.renewal(i)
	switch l.pc {
	case wStart:
		x.capture(i, sOpen, "UPDATE takes the row locks")
	case wFence:
		if x.procs[i].past {
			x.goPast(i)
			if x.faults.late == 0 {
				return
			}
		}
		for _, u := range x.fenced(i) {
			if l.done&(1<<u) == 0 {
				x.fence(i, u)
			}
		}
	case wWalk1, wWalk2, wWalk3, wWalk4:
		x.walk(i)
	case wSend:
		x.sendCommit(i)
	case wAwait:
		x.await(i)
	case wDoubt:
		x.ask(i)
	case wApply:
		x.applyAll(i)
	case wAbort:
		x.abortAll(i)
	case wEnd:
		x.settleOwed(i)
	case wAnnounce:
		x.announce(i)
	case wQueue:
		x.queueDebt(i)
	}
}

// fenced are the units on which a writer puts its tokens.
func (x *turn) fenced(i int) []uint8 { return x.fences[i] }

func fencedUnits(p process, barrier uint8) (units []uint8) {
	switch p.kind {
	case coarse:
		return []uint8{barrier}
	case lockFirst, fenceFirst:
		for _, k := range p.keys {
			units = append(units, uint8(k))
		}
	}
	return units
}

func (x *turn) die(i int) {
	l := &x.s.p[i]
	if x.s.crash == 0 || x.procs[i].kind == foreign || l.srv == sNone && l.tries == 0 || l.pc == wEnd && l.owed == 0 {
		return
	}
	n := x.fork()
	n.crash--
	n.p[i].flags |= crashed
	for j, p := range x.procs { // a process of several writers
		if p.past && x.procs[i].past && p.box == x.procs[i].box && n.p[j].pc != wEnd {
			n.p[j].flags |= crashed
		}
	}
	x.step(n, i, "is killed")
}

// fence puts a fresh token on one key.
func (x *turn) fence(i int, u uint8) {
	try := x.s.p[i].attempts(u)
	r := request{op: opFence, unit: u, who: uint8(i), try: try}
	heard := func(n *state, _ string) {
		l := &n.p[i]
		l.attempt(u)
		l.renewed(u)
		l.done |= 1 << u
		if x.faults.wait {
			n.copy = n.unit
		}
		x.distrust(n, i, u)
		x.remember(n, x.off.positionNotOfFence, n.clock)
		x.fencedSoFar(i, l)
	}
	if x.off.fenceAwaited {
		n := x.fork()
		if x.put(n, r) {
			l := &n.p[i]
			l.attempt(u)
			l.renewed(u)
			l.done |= 1 << u
			x.fencedSoFar(i, l)
			x.step(n, i, "%s %s is sent and not awaited", x.key(u), request.show(r, x))
		}
		return
	}
	var again func(n *state)
	if try == 0 { // a broken connection is worth a second try, under a token of its own
		again = func(n *state) {
			if !x.off.freshTokens {
				n.p[i].attempt(u)
			}
		}
	}
	x.send(i, r, heard, again)
	if x.s.late > 0 {
		x.refuse(i, r)
	}
}

// distrust is the client's part of a quarantine: a fence of a young Redis ends without a payload.
func (x *turn) distrust(n *state, i int, u uint8) {
	if n.young > 0 {
		n.p[i].bare |= 1 << u
	}
}

// fencedSoFar goes on when the last key is fenced.
func (x *turn) fencedSoFar(i int, l *local) {
	for _, u := range x.fenced(i) {
		if l.done&(1<<u) == 0 {
			return
		}
	}
	l.done, l.pc = 0, wSend
	if x.procs[i].kind == coarse {
		l.pc = wWalk1
	}
}

// refuse gives a write up whose fence, or walk, was not acknowledged.
func (x *turn) refuse(i int, r request) {
	n := x.fork()
	if !x.post(n, r) {
		return
	}
	l := &n.p[i]
	if r.op == opFence {
		l.attempt(r.unit)
	}
	if x.procs[i].past {
		l.done, l.pc = 0, wAnnounce
		l.flags |= queued
		x.step(n, i, "%s %s times out, and is still under way; it goes on past Redis", x.key(r.unit), request.show(r, x))
		return
	}
	if x.procs[i].queue {
		l.done, l.pc = 0, wSend
		l.flags |= queued
		x.step(n, i, "%s %s times out, and is still under way; it goes on, and will owe its keys", x.key(r.unit), request.show(r, x))
		return
	}
	l.done, l.pc = 0, wAbort
	for row := range n.lock {
		if n.lock[row] == uint8(i)+1 {
			n.lock[row] = 0
		}
	}
	l.srv = sAborted
	x.step(n, i, "%s %s times out, and is still under way; it rolls back", x.key(r.unit), request.show(r, x))
}

// walk is one of a writer's walks.
func (x *turn) walk(i int) {
	l := &x.s.p[i]
	x.walkOver(i, x.applied[i], func(n *state) {
		l := &n.p[i]
		l.pc++
		switch {
		case l.pc == wWalk2 && x.off.secondWalk:
			l.pc++
		case l.pc == wAbort, l.pc == wWalk4 && x.off.lostBarrierSweptTwice:
			x.finish(n, i)
		}
	}, l.pc <= wWalk2)
}

// walkOver is one of two walks over the keys. SCAN meets the names of a key one by one, so that a key whose lease turns
// into a value behind its back can be missed: the key and its control key are looked for on their own.
func (x *turn) walkOver(i int, keys []uint8, over func(n *state), mayFail bool) {
	l := &x.s.p[i]
	places := 2 * len(keys)
	for at := range places {
		if l.done&(1<<at) != 0 {
			continue
		}
		u := keys[at/2]
		met := &x.units[x.s.unit[u]]
		there := met.stored()
		if at%2 == 1 {
			there = met.control >= 0
		}
		forward := func(n *state) {
			l := &n.p[i]
			l.done |= 1 << at
			if l.done == 1<<places-1 {
				l.done = 0
				over(n)
			}
		}
		if !there {
			n := x.fork()
			forward(n)
			x.step(n, i, "its walk finds nothing under %s's %s", x.key(u), []string{"own name", "control name"}[at%2])
			continue
		}
		r := request{op: opInvalidate, unit: u}
		if at%2 == 0 && x.format != Versioned { // what lies under the key's own name is deleted without a script
			r.op = opDelete
		}
		x.send(i, r, func(n *state, _ string) {
			if x.faults.waitWalks {
				n.copy = n.unit
			}
			forward(n)
		}, nil)
		if x.s.late > 0 && mayFail {
			x.refuse(i, r)
		}
	}
}

func (x *turn) sendCommit(i int) {
	l := &x.s.p[i]
	if x.off.commitBeforeApply && x.procs[i].kind == lockFirst && l.done != 1 {
		x.applyAll(i)
		return
	}
	if x.off.barrierOverCommit && x.procs[i].kind == coarse && l.done == 0 {
		n := x.fork()
		n.p[i].done = 1
		x.exec(n, request{op: opAbort, unit: x.barrier, who: uint8(i), try: l.attempts(x.barrier)})
		x.step(n, i, "releases the barrier before COMMIT:")
		return
	}
	n := x.fork()
	n.p[i].srv, n.p[i].pc, n.p[i].done = sSent, wAwait, 0
	what := "sends COMMIT"
	if x.procs[i].kind == fenceFirst {
		what = "sends its statement"
	}
	x.step(n, i, "%s", what)
}

// renewal runs beside the writer until its fence ends: it extends tokens, and fences again where one is gone.
func (x *turn) renewal(i int) {
	l := &x.s.p[i]
	ends := l.pc > wDoubt
	if l.pc < wWalk1 || l.flags&queued != 0 && x.procs[i].past || ends && l.pc != wApply && l.pc != wAbort && !x.off.applyWaits {
		return
	}
	for _, u := range x.fenced(i) {
		switch {
		case l.attempts(u) == 0:
		case l.pend&(1<<u) != 0:
			x.refence(i, u)
		case x.life(x.s, i, u) < fenceTicks && l.pend == 0 && !ends:
			x.renew(i, u)
		}
	}
}

// waitsForRenewal says whether the end of a fence must wait for a renewal that has found a token gone. It was about to
// fence again, and does so, unless it notices first that it need not.
func (x *turn) waitsForRenewal(i int) bool {
	if x.s.p[i].pend == 0 || x.off.applyWaits {
		return false
	}
	n := x.fork()
	n.p[i].pend = 0
	x.step(n, i, "ends, and its renewal does not fence again")
	return true
}

func (x *turn) renew(i int, u uint8) {
	if x.life(x.s, i, u) == 0 && x.s.p[i].attempts(u) == maxTries-1 {
		return // as many tokens as the model has names for
	}
	r := request{op: opRenew, unit: u, who: uint8(i), try: x.s.p[i].attempts(u) - 1}
	x.send(i, r, func(n *state, answer string) {
		if answer == "1" {
			n.p[i].renewed(u)
			if x.faults.waitRenewals {
				n.copy = n.unit
			}
		} else {
			n.p[i].pend |= 1 << u
			if !x.off.refencedBare {
				n.p[i].bare |= 1 << u
			}
		}
	}, func(*state) {})
}

func (x *turn) refence(i int, u uint8) {
	r := request{op: opFence, unit: u, who: uint8(i), try: x.s.p[i].attempts(u)}
	x.send(i, r, func(n *state, _ string) {
		n.p[i].attempt(u)
		n.p[i].renewed(u)
		n.p[i].pend &^= 1 << u
		if x.faults.wait {
			n.copy = n.unit
		}
		x.distrust(n, i, u)
	}, func(n *state) {
		// The next renewal asks for the token that was sent, whether it has arrived or not.
		n.p[i].attempt(u)
		n.p[i].pend &^= 1 << u
	})
}
