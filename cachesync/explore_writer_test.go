package cachesync

// server carries on what a writer has asked of Postgres.
func (x *turn) server(i int) {
	l := &x.s.p[i]
	switch l.srv {
	case sOpen:
		if l.flags&crashed != 0 {
			x.rollback(i, "Postgres notices that its client is gone, and rolls back")
		}
	case sSent:
		if x.procs[i].kind == fenceFirst {
			x.capture(i, sStarted, "its statement takes the row locks")
		} else {
			x.commit(i)
		}
		if x.procs[i].fails || l.flags&(crashed|doubted) != 0 {
			x.rollback(i, "Postgres rolls back")
		}
	case sStarted:
		x.commit(i)
		if x.procs[i].fails {
			x.rollback(i, "Postgres rolls back")
		}
	case sFlushed:
		n := *x.s
		x.becomeVisible(&n, i)
		x.step(&n, i, "its commit is visible")
	}
}

func (x *turn) rollback(i int, what string) {
	n := *x.s
	n.p[i].srv = sAborted
	for r := range n.lock {
		if n.lock[r] == uint8(i)+1 {
			n.lock[r] = 0
		}
	}
	x.step(&n, i, "%s", what)
}

// capture locks the rows and draws the version while the locks are held.
func (x *turn) capture(i int, srv uint8, what string) {
	p, n := &x.procs[i], *x.s
	for _, r := range p.rows {
		if n.lock[r] != 0 {
			return
		}
	}
	n.clock++
	l := &n.p[i]
	l.srv, l.version = srv, n.clock
	for _, r := range p.rows {
		n.lock[r] = uint8(i) + 1
	}
	// A payload of a key that several rows share shows the others as they are now.
	for r := range n.db {
		l.seen |= n.db[r] << (4 * r)
	}
	if srv == sOpen {
		l.pc = x.firstStage(i)
	}
	x.step(&n, i, "%s, version %d", what, n.clock)
}

func (x *turn) firstStage(i int) uint8 {
	switch x.procs[i].kind {
	case lockFirst, coarse:
		if !x.off.fence {
			return wFence
		}
	}
	return wSend
}

// commit makes a transaction durable, and visible unless somebody watches the WAL or asks in between.
func (x *turn) commit(i int) {
	n := *x.s
	n.flushed |= 1 << n.p[i].version
	n.p[i].srv = sFlushed
	for _, p := range x.procs {
		if p.kind == follower || p.asks {
			x.step(&n, i, "its commit is in the WAL, not visible yet")
			return
		}
	}
	x.becomeVisible(&n, i)
	x.step(&n, i, "its commit is durable and visible")
}

// strict says whether a writer's commits are what freshness is about.
func (x *turn) strict(k kind) bool {
	return k == lockFirst || k == fenceFirst || k == coarse || k == eventual && x.judged
}

func (x *turn) becomeVisible(n *state, i int) {
	p, l := &x.procs[i], &n.p[i]
	l.srv = sVisible
	n.visible |= 1 << l.version
	for _, r := range p.rows {
		n.db[r], n.lock[r] = l.version, 0
		if x.strict(p.kind) {
			n.seen[r] = max(n.seen[r], l.version)
		}
	}
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
	n := *x.s
	n.crash--
	n.p[i].flags |= crashed
	x.step(&n, i, "is killed")
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
		x.distrust(n, u)
		x.fencedSoFar(i, l)
	}
	if x.off.fenceAwaited {
		n := *x.s
		if x.put(&n, r) {
			l := &n.p[i]
			l.attempt(u)
			l.renewed(u)
			l.done |= 1 << u
			x.fencedSoFar(i, l)
			x.step(&n, i, "%s %s is sent and not awaited", x.key(u), request.show(r, x))
		}
		return
	}
	limit := x.procs[i].tries
	if limit == 0 {
		limit = 2
	}
	if try+1 < limit {
		x.send(i, r, heard, func(n *state) {
			if !x.off.freshTokens {
				n.p[i].attempt(u)
			}
		})
		if x.s.late == 0 {
			return
		}
		x.refuse(i, r)
		return
	}
	x.send(i, r, heard, nil)
	if x.s.late > 0 {
		x.refuse(i, r)
	}
}

// distrust is the client's part of a quarantine: a fence of a young Redis is dirty from the start.
func (x *turn) distrust(n *state, u uint8) {
	if n.young > 0 {
		x.exec(n, request{op: opInvalidate, unit: u})
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
	n := *x.s
	if !x.post(&n, r) {
		return
	}
	l := &n.p[i]
	if r.op == opFence {
		l.attempt(r.unit)
	}
	if x.procs[i].queue {
		l.done, l.pc = 0, wSend
		l.flags |= queued
		x.step(&n, i, "%s %s times out, and is still under way; it goes on, and will owe its keys", x.key(r.unit), request.show(r, x))
		return
	}
	l.done, l.pc = 0, wAbort
	for row := range n.lock {
		if n.lock[row] == uint8(i)+1 {
			n.lock[row] = 0
		}
	}
	l.srv = sAborted
	x.step(&n, i, "%s %s times out, and is still under way; it rolls back", x.key(r.unit), request.show(r, x))
}

// walk is one of the two walks over the keys. SCAN meets the names of a key one by one, so that a key whose lease turns
// into a value behind its back can be missed: the key and its control key are looked for on their own.
func (x *turn) walk(i int) {
	l := &x.s.p[i]
	places := 2 * len(x.procs[i].keys)
	for at := range places {
		if l.done&(1<<at) != 0 {
			continue
		}
		u := uint8(x.procs[i].keys[at/2])
		met := &x.units[x.s.unit[u]]
		there := met.stored()
		if at%2 == 1 {
			there = met.control >= 0
		}
		forward := func(n *state) {
			l := &n.p[i]
			l.done |= 1 << at
			if l.done != 1<<places-1 {
				return
			}
			l.done = 0
			l.pc++
			switch {
			case l.pc == wWalk2 && x.off.secondWalk:
				l.pc++
			case l.pc == wAbort:
				x.finish(n, i)
			}
		}
		if !there {
			n := *x.s
			forward(&n)
			x.step(&n, i, "its walk finds nothing under %s's %s", x.key(u), []string{"own name", "control name"}[at%2])
			continue
		}
		r := request{op: opInvalidate, unit: u}
		x.send(i, r, func(n *state, _ string) {
			if x.faults.waitWalks {
				n.copy = n.unit
			}
			forward(n)
		}, nil)
		if x.s.late > 0 && l.pc <= wWalk2 {
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
		n := *x.s
		n.p[i].done = 1
		x.exec(&n, request{op: opAbort, unit: x.barrier, who: uint8(i), try: l.attempts(x.barrier)})
		x.step(&n, i, "releases the barrier before COMMIT:")
		return
	}
	n := *x.s
	n.p[i].srv, n.p[i].pc, n.p[i].done = sSent, wAwait, 0
	what := "sends COMMIT"
	if x.procs[i].kind == fenceFirst {
		what = "sends its statement"
	}
	x.step(&n, i, "%s", what)
}

func (x *turn) await(i int) {
	p, l := &x.procs[i], &x.s.p[i]
	n := *x.s
	switch l.srv {
	case sVisible:
		x.acknowledge(&n, i)
		x.step(&n, i, "COMMIT is acknowledged")
	case sAborted:
		n.p[i].pc = wAbort
		x.step(&n, i, "learns that it was rolled back")
	}
	if x.s.doubt == 0 || p.kind == foreign {
		return
	}
	n = *x.s
	n.doubt--
	n.p[i].flags |= doubted
	switch {
	case x.off.abortOnlyIfCertain:
		n.p[i].pc = wAbort
	case p.kind == eventual || p.asks:
		n.p[i].pc = wDoubt
	default:
		n.p[i].pc = wEnd
	}
	x.step(&n, i, "loses its connection: the outcome is in doubt")
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
		for _, u := range x.applied[i] {
			l.owed |= 1 << u
		}
		x.finish(n, i)
	}
	if x.off.commitBeforeApply && p.kind == lockFirst {
		x.finish(n, i)
	}
}

// ask settles an outcome in doubt by pg_xact_status, which calls a transaction committed only when it is visible.
func (x *turn) ask(i int) {
	l := &x.s.p[i]
	if x.procs[i].kind == eventual {
		x.doubtEventual(i)
		return
	}
	n := *x.s
	switch {
	case l.srv == sVisible, l.srv == sFlushed && x.off.askVisible:
		n.p[i].pc = wApply
		x.step(&n, i, "asks, and learns that it was committed")
	case l.srv == sAborted:
		n.p[i].pc = wAbort
		x.step(&n, i, "asks, and learns that it was rolled back")
	}
	n = *x.s
	n.p[i].pc = wEnd
	x.step(&n, i, "cannot ask, and leaves its fence to expire")
}

// doubtEventual makes the keys absent at once, and again when the outcome is known.
func (x *turn) doubtEventual(i int) {
	l := &x.s.p[i]
	again := l.done != 0
	if again && l.srv != sVisible && l.srv != sAborted {
		return
	}
	n := *x.s
	for _, k := range x.procs[i].keys {
		x.exec(&n, request{op: opInvalidate, unit: uint8(k)})
	}
	n.p[i].done = 1
	if again {
		n.p[i].done, n.p[i].pc = 0, wEnd
	}
	x.step(&n, i, "makes its keys absent:")
}

// applyAll ends the fence after COMMIT. A key that cannot be reached is owed.
func (x *turn) applyAll(i int) {
	p, l := &x.procs[i], &x.s.p[i]
	if l.pend != 0 {
		return // a renewal is talking to Redis: Apply waits for it
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
		r := x.applyRequest(i, u)
		x.send(i, r, func(n *state, answer string) {
			if p.kind == coarse && (answer == "gone" || l.bare != 0) && !x.off.lostBarrierSwept {
				n.p[i].pc, n.p[i].done = wWalk3, 0
				return
			}
			done(n)
		}, func(n *state) {
			if p.kind != coarse {
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
		r = request{op: opCAS, unit: u, version: l.version, content: noContent}
	}
	if (!p.bare || x.off.sharedKeysBare) && l.bare&(1<<u) == 0 {
		r.content = x.written(i, int(u))
	}
	if r.content == noContent && r.op == opApply {
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
	if l.flags&doubted == 0 {
		for _, r := range x.procs[i].rows {
			n.returned[r] = max(n.returned[r], l.version)
		}
	}
}

func (x *turn) abortAll(i int) {
	l := &x.s.p[i]
	if l.pend != 0 {
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
		n := *x.s
		n.p[i].pc, n.p[i].done, n.p[i].left = wEnd, 0, 0
		x.step(&n, i, "ends")
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

// renewal runs beside the writer until its fence ends: it extends tokens, and fences again where one is gone.
func (x *turn) renewal(i int) {
	l := &x.s.p[i]
	if l.pc < wWalk1 || l.pc > wDoubt {
		return
	}
	for _, u := range x.fenced(i) {
		switch {
		case l.attempts(u) == 0:
		case l.pend&(1<<u) != 0:
			x.refence(i, u)
		case x.life(x.s, i, u) < fenceTicks && l.pend == 0:
			x.renew(i, u)
		}
	}
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
		x.distrust(n, u)
	}, nil)
}
