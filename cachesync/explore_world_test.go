package cachesync

// post leaves a request in the network, if there is room and the fault is allowed.
func (x *turn) post(n *state, r request) bool {
	if n.late == 0 {
		return false
	}
	n.late--
	return x.put(n, r)
}

func (x *turn) put(n *state, r request) bool {
	for i := range n.mail {
		if n.mail[i] == 0 {
			n.mail[i] = 1 + x.number(r)
			if n.mail[1] != 0 && n.mail[0] > n.mail[1] {
				n.mail[0], n.mail[1] = n.mail[1], n.mail[0]
			}
			return true
		}
	}
	return false
}

// send is a request and its answer in one step. Where the fault is allowed the sender may also hear nothing, while the
// request is lost, or is still under way; then unheard makes the next state.
func (x *turn) send(i int, r request, heard func(n *state, answer string), unheard func(n *state)) {
	n := x.fork()
	heard(n, x.exec(n, r))
	x.step(n, i, "")
	if unheard == nil || x.s.late == 0 {
		return
	}
	n = x.fork()
	n.late--
	unheard(n)
	x.step(n, i, "%s %s is lost", x.key(r.unit), request.show(r, x))
	n = x.fork()
	if x.post(n, r) {
		unheard(n)
		x.step(n, i, "%s %s times out, and is still under way", x.key(r.unit), request.show(r, x))
	}
}

// network delivers what is still under way.
func (x *turn) network() {
	for i, m := range x.s.mail {
		if m == 0 {
			continue
		}
		n := x.fork()
		n.mail[i] = 0
		if n.mail[0] == 0 {
			n.mail[0], n.mail[1] = n.mail[1], 0
		}
		x.exec(n, x.requests[m-1])
		x.step(n, -1, "late arrival:")
	}
}

const timePasses = "time passes"

// time lets a tick pass.
func (x *turn) time() {
	if x.faults.expiry == never {
		return
	}
	x.tickOf(x.age)
	if x.s.slow > 0 && x.s.sight+x.s.polled > 0 {
		x.tickOf(func(n *state) { n.slow-- })
	}
}

// tickOf lets a tick pass, in which the watch does what it is told.
func (x *turn) tickOf(watch func(n *state)) {
	n := x.fork()
	watch(n)
	for u := range n.unit {
		n.unit[u] = x.tick(n.unit[u])
		n.copy[u] = x.tick(n.copy[u])
	}
	if n.young > 0 {
		n.young--
	}
	for i := range x.procs {
		n.p[i].grow()
	}
	x.wait(n)
	if *n != *x.s && (x.faults.expiry == anytime || x.covered(n)) {
		x.step(n, -1, timePasses)
	}
}

// covered says whether every commit that may become visible has been given a token on each of its keys that has not
// reached its end: what time may not break. Whether Redis still has these tokens is another matter.
func (x *turn) covered(n *state) bool {
	for i := range x.procs {
		l := &n.p[i]
		if x.inDanger(i, l) && !x.protected(n, i, l) {
			return false
		}
	}
	return true
}

// inDanger says whether the process relies on a fence.
func (x *turn) inDanger(i int, l *local) bool {
	switch x.procs[i].kind {
	case lockFirst, fenceFirst, coarse:
	default:
		return false
	}
	if x.gone(l) {
		return x.faults.expiry == outlive && l.srv >= sSent && l.srv <= sFlushed
	}
	return l.pc >= wFence && l.pc <= wApply && l.flags&queued == 0
}

func (x *turn) protected(n *state, i int, l *local) bool {
	for _, u := range x.fenced(i) {
		switch {
		case l.pc == wFence && l.done&(1<<u) == 0, l.pc == wApply && l.done&(2<<u) != 0, l.owed&(1<<u) != 0:
		case l.left>>(2*u)&3 == 0:
			return false
		}
	}
	return true
}

// gone says whether a writer has left its fence to itself.
func (x *turn) gone(l *local) bool { return l.flags&crashed != 0 || l.pc == wEnd }

// life is what is left of a writer's newest token.
func (x *turn) life(n *state, i int, u uint8) uint8 {
	t := x.s.p[i].attempts(u)
	if t == 0 {
		return 0
	}
	return x.units[n.unit[u]].tokens[i*maxTries+int(t)-1]
}

// trouble is what Redis suffers.
func (x *turn) trouble() {
	if x.faults.vanish || x.faults.evict {
		x.eviction()
	}
	if x.s.restart > 0 {
		n := x.fork()
		n.restart--
		n.unit, n.mail = [maxUnits]unitID{}, [2]uint16{}
		if x.faults.quarantine {
			n.young = fenceTicks
		}
		x.step(n, -1, "Redis restarts empty")
	}
	x.replica()
}

func (x *turn) eviction() {
	for u := range x.barrier + 1 {
		held := &x.units[x.s.unit[u]]
		for place, p := range held.names {
			if place == held.control && !x.faults.vanish || place != held.control && !x.faults.evict {
				continue
			}
			n := x.fork()
			n.unit[u] = x.without(n.unit[u], place)
			x.step(n, -1, "the %s of %s is evicted", x.role(p.name), x.key(u))
		}
	}
}

// replica catches up, or takes over.
func (x *turn) replica() {
	if x.s.failover == 0 || x.s.copy == x.s.unit {
		return
	}
	n := x.fork()
	n.copy = n.unit
	x.step(n, -1, "the replica catches up")
	n = x.fork()
	n.failover--
	n.unit, n.mail = n.copy, [2]uint16{}
	if x.faults.epochs {
		x.begin(n)
	}
	x.step(n, -1, "failover to the replica")
}

// begin is what the clients make of a Redis that others' data may be missing from.
func (x *turn) begin(n *state) {
	n.young = fenceTicks
	for u := range n.unit {
		n.unit[u] = x.valueless(n.unit[u])
	}
	for i := range x.procs {
		if !x.faults.copiesPay {
			n.p[i].bare |= n.p[i].fencedUnits()
		}
	}
}

// valueless is what is left of a unit whose value is not trusted.
func (m *machine) valueless(id unitID) unitID {
	for place := 0; place < len(m.units[id].names); {
		if place == m.units[id].control {
			place++
			continue
		}
		id = m.without(id, place)
	}
	return id
}

// fencedUnits are those that a token was ever put on.
func (l *local) fencedUnits() (units uint8) {
	for u := range uint8(maxUnits) {
		if l.attempts(u) > 0 {
			units |= 1 << u
		}
	}
	return units
}
