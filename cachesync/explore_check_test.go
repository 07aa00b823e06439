package cachesync

import "fmt"

// property is what must hold in every state.
type property uint8

const (
	// freshAcked: a read that starts after a commit was acknowledged returns nothing older.
	freshAcked property = 1 << iota
	// freshVisible: nor does one that starts after the commit became visible.
	freshVisible
	// freshReturned: nor one that starts after Commit returned to its caller.
	freshReturned
	// trueWhenQuiet: when nobody is at work, a key holds the database's row or nothing.
	trueWhenQuiet

	allProperties = freshAcked | freshVisible | freshReturned | trueWhenQuiet
)

// Check looks at what a reader who starts now would get. Besides the program's properties it demands of every state
// that an entry shows committed rows.
func (e *explorer) Check(s *state) string {
	quiet := e.props&trueWhenQuiet != 0 && e.quiet(s)
	for k := range e.keys {
		c := e.contents(s.unit[k])
		if c < 0 || !e.serves(s) {
			continue
		}
		for i, row := range e.keys[k] {
			v := uint8(c) >> (4 * i) & 15
			if verdict := e.judge(s, row, v, quiet); verdict != "" {
				return fmt.Sprintf("k%d holds v%d of row %d, %s", k, v, row, verdict)
			}
		}
	}
	return e.judgeArrivals(s)
}

func (e *explorer) judge(s *state, row int, v uint8, quiet bool) string {
	committed := s.visible
	if e.ahead {
		committed |= s.flushed
	}
	switch {
	case v != 0 && committed&(1<<v) == 0:
		return "which is not committed and visible"
	case e.props&freshReturned != 0 && v < s.returned[row]:
		return fmt.Sprintf("although the Commit of v%d has returned", s.returned[row])
	case e.props&freshAcked != 0 && v < s.acked[row]:
		return fmt.Sprintf("although the commit of v%d was acknowledged", s.acked[row])
	case e.props&freshVisible != 0 && v < s.seen[row]:
		return fmt.Sprintf("although v%d is visible", s.seen[row])
	case quiet && v != s.db[row]:
		return fmt.Sprintf("all is quiet, and the database holds v%d", s.db[row])
	}
	return ""
}

// quiet: no write is under way, nothing is owed or late, no reader is about to fill, and the follower has caught up.
func (e *explorer) quiet(s *state) bool {
	if s.mail[0] != 0 || s.outages != 0 {
		return false
	}
	for i := range e.procs {
		l := &s.p[i]
		switch e.procs[i].kind {
		case reader:
			if l.pc != rIdle {
				return false
			}
		case flight:
			if l.pc != fGather {
				return false
			}
		case arrival, watch:
		case drainer:
			if l.version != 0 {
				return false
			}
		case follower:
			if s.handled != s.visible {
				return false
			}
		default:
			if !atRest(l) || s.row[i]&7 > rowNone && s.row[i]&7 < rowGone {
				return false
			}
		}
	}
	return true
}

func atRest(l *local) bool {
	if l.srv >= sSent && l.srv <= sFlushed {
		return false
	}
	if l.flags&crashed != 0 {
		return l.srv != sOpen
	}
	return l.srv == sNone && l.tries == 0 || l.pc == wEnd && l.owed == 0
}

// spell describes a state under a step of a trace.
func (e *explorer) spell(s *state) string {
	text := ""
	for k := range e.keys {
		text += fmt.Sprintf("k%d %s; ", k, e.show(s.unit[k]))
	}
	if e.hasCoarse {
		text += fmt.Sprintf("barrier %s; ", e.show(s.unit[e.barrier]))
	}
	for r := range e.rows() {
		text += fmt.Sprintf("row %d is v%d, acknowledged v%d; ", r, s.db[r], s.acked[r])
	}
	if e.standby != noStandby {
		text += fmt.Sprintf("the standby has v%d; ", s.replayed)
	}
	if e.looksOut {
		text += e.spellOutbox(s)
	}
	return text[:len(text)-2]
}

func (e *explorer) rows() int {
	n := 0
	for _, rows := range e.keys {
		for _, r := range rows {
			n = max(n, r+1)
		}
	}
	return n
}
