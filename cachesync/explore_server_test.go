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
		if x.standby == remoteApply && x.s.replayed < l.version && !x.off.remoteApplyAwaited {
			return
		}
		n := x.fork()
		x.becomeVisible(n, i)
		x.step(n, i, "its commit is visible")
	}
}

func (x *turn) rollback(i int, what string) {
	n := x.fork()
	n.p[i].srv, n.row[i] = sAborted, rowNone
	for r := range n.lock {
		if n.lock[r] == uint8(i)+1 {
			n.lock[r] = 0
		}
	}
	x.step(n, i, "%s", what)
}

// capture locks the rows and draws the version while the locks are held.
func (x *turn) capture(i int, srv uint8, what string) {
	p, n := &x.procs[i], x.fork()
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
	x.step(n, i, "%s, version %d", what, n.clock)
}

// commit makes a transaction durable, and visible unless somebody watches the WAL or asks in between.
func (x *turn) commit(i int) {
	n := x.fork()
	if !x.lazy {
		n.flushed |= 1 << n.p[i].version
	}
	n.p[i].srv = sFlushed
	if x.watched && !x.lazy {
		x.step(n, i, "its commit is in the WAL, not visible yet")
		return
	}
	x.becomeVisible(n, i)
	x.step(n, i, "its commit is durable and visible")
}

// strict says whether a writer's commits are what freshness is about.
func (x *turn) strict(k kind) bool {
	return k == lockFirst || k == fenceFirst || k == coarse || k == eventual && x.judged
}

func (x *turn) becomeVisible(n *state, i int) {
	p, l := &x.procs[i], &n.p[i]
	l.srv = sVisible
	if n.row[i]&7 == rowOpen {
		n.row[i]++
	}
	n.visible |= 1 << l.version
	for _, r := range p.rows {
		n.db[r], n.lock[r] = l.version, 0
		if x.strict(p.kind) {
			n.seen[r] = max(n.seen[r], l.version)
		}
	}
}
