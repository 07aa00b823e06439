package testenv

import (
	"bytes"
	"strings"
	"sync"
)

// Trap catches one request that passes a Proxy. Safe for concurrent use.
type Trap struct {
	match   []byte // in lower case
	onReply bool

	reached chan struct{}
	once    sync.Once
	verdict chan bool // receives once: true lets the bytes pass, false cuts the connection
}

func newTrap(match string, onReply bool) *Trap {
	return &Trap{
		match:   []byte(strings.ToLower(match)),
		onReply: onReply,
		reached: make(chan struct{}),
		verdict: make(chan bool, 1),
	}
}

// Reached is closed when the trap holds something: the request, or the first bytes of its reply.
func (t *Trap) Reached() <-chan struct{} { return t.reached }

// Release lets what the trap holds, or will hold, pass. The first call of Release or Cut decides.
func (t *Trap) Release() { t.decide(true) }

// Cut closes the connection instead of letting pass what the trap holds or will hold.
func (t *Trap) Cut() { t.decide(false) }

func (t *Trap) decide(pass bool) { t.once.Do(func() { t.verdict <- pass }) }

// hold says that the trap has caught something and waits for the verdict; the proxy's end is a cut.
func (t *Trap) hold(closed <-chan struct{}) (pass bool) {
	close(t.reached)
	select {
	case pass = <-t.verdict:
		return pass
	case <-closed:
		return false
	}
}

// matcher looks for traps in a stream of requests; it remembers enough of the last chunk to find a match that two chunks
// share.
type matcher struct{ tail []byte }

const longestMatch = 256

// next returns the first trap that chunk completes a match of. A match that ended before chunk is an earlier request's.
func (m *matcher) next(chunk []byte, traps []*Trap) *Trap {
	seen := len(m.tail)
	text := append(m.tail, bytes.ToLower(chunk)...)
	m.tail = bytes.Clone(text[max(0, len(text)-longestMatch):])
	for _, t := range traps {
		if bytes.Contains(text[max(0, seen-len(t.match)+1):], t.match) {
			return t
		}
	}
	return nil
}
