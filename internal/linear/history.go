package linear

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Kind is what an operation does to the row of its key.
type Kind uint8

const (
	Read   Kind = iota
	Insert      // of a row that was not there
	Update      // of a row that was there
	Upsert      // whether it was there or not
	Delete      // of a row that was there
)

var kindNames = [...]string{"read", "insert", "update", "upsert", "delete"}

func (k Kind) String() string { return kindNames[k] }

// Absent is the value of a key that has no row.
const Absent = -1

// Op is an operation on one key, as its client saw it. What is known to have had no effect (a statement that the server has
// refused, a transaction that was rolled back) is none: where its value is read nevertheless, nothing explains that.
type Op struct {
	Client, Key int
	Kind        Kind
	// Value was written or read. No two writes of a key have the same one, so that a read tells which write it saw.
	Value int
	// InDoubt: its client was not told the outcome, so that it may happen at any time after the call, or never.
	InDoubt bool
	// Call and Return are times of History.Now: before anything was sent that can have the effect, and after the answer came.
	Call, Return int64
	Way          string // how it was done, for people
}

func (o Op) String() string {
	value, end := fmt.Sprint(o.Value), fmt.Sprintf("%.3f", float64(o.Return)/1e6)
	if o.Value == Absent {
		value = "no row"
	}
	if o.InDoubt {
		end = "in doubt"
	}
	return fmt.Sprintf("client %d, key %d: %s %s (%s), %.3f to %s ms", o.Client, o.Key, o.Kind, value, o.Way, float64(o.Call)/1e6, end)
}

// History is what the clients of one run did. It is safe for concurrent use.
type History struct {
	began   time.Time
	initial int
	drawn   atomic.Int64

	mu  sync.Mutex // guards ops
	ops []Op
}

// NewHistory begins a history whose keys all have this value, or Absent.
func NewHistory(initial int) *History {
	h := &History{began: time.Now(), initial: initial}
	h.drawn.Store(int64(max(initial, 0)))
	return h
}

// HistoryOf gives a history that was taken down elsewhere, with all its times, of keys that have this value at first, or Absent.
func HistoryOf(initial int, ops []Op) *History {
	h := NewHistory(initial)
	h.ops = append(h.ops, ops...)
	return h
}

// Now is the time in nanoseconds since the history began, by the monotonic clock.
func (h *History) Now() int64 { return int64(time.Since(h.began)) }

// Draw gives a value that was not there before.
func (h *History) Draw() int { return int(h.drawn.Add(1)) }

// Add takes an operation down that has returned now, and that began at o.Call.
func (h *History) Add(o Op) {
	o.Return = h.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// Ops gives a copy of what was taken down, in the order of the returns.
func (h *History) Ops() []Op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]Op(nil), h.ops...)
}
