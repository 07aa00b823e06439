package outbox

import (
	"context"
	"fmt"
)

// A row for each commit is work that a database can ill afford while its cache is away. Past Options.FullAfter keys everything is owed
// instead: sweeps of all rules, committed under the outage and held back until it is over. A commit under it needs no row of its own.
//
// What keeps it true without a foreign key in each commit: the owner lets the sweeps go only when no ticket is out; others do only when the
// owner counts as dead, and then it cannot say that it is alive any more, so that no ticket is Full for half of that time before. A statement
// that was sent under such a ticket has to be over within the other half: the same is asked of a fence that is put down before its statement.

// count notes that an outage has queued keys, and puts everything into the outbox where they are too many.
func (b *Box) count(id, keys int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.outage
	if o == nil || o.id != id || b.o.Everything == nil {
		return
	}
	o.queued += keys
	if o.queued < b.o.FullAfter || o.filling || o.removing != nil {
		return
	}
	o.filling, o.mayHold = true, true
	o.holders++ // so that it is not removed meanwhile
	if !b.spawn(func() { b.fill(o) }) {
		o.holders--
	}
}

func (b *Box) fill(o *outage) {
	ctx, cancel := context.WithTimeout(b.ctx, requestTimeout)
	defer cancel()
	everything := b.o.Everything()
	if len(everything) == 0 { // nobody knows the rules yet
		b.mu.Lock()
		o.holders, o.queued, o.filling = o.holders-1, 0, false
		b.mu.Unlock()
		return
	}
	_, err := b.exec(ctx, b.text.insertHeld, o.id, Debt{Sweeps: everything}.encode())
	b.mu.Lock()
	o.holders--
	o.full = err == nil
	o.filling = o.full
	b.mu.Unlock()
	if err != nil {
		b.report("everything could not be put into the outbox", err)
		return
	}
	b.stats.full.Add(1)
	b.o.Logger.Warn("wtcache: an outage of redis has queued so many keys that every entry becomes absent when it is over", "schema", b.o.Schema, "outage", o.id, "keys", b.o.FullAfter)
}

// Full says that the outbox owes everything under this ticket: the commit need not be queued. It has to be sent at once.
func (t *Ticket) Full() bool {
	t.box.mu.Lock()
	defer t.box.mu.Unlock()
	return t.box.fullNow(t.outage)
}

// Kept says, after a commit under a ticket that was Full, that nobody can have settled everything in the meantime. Where it is false this
// process was stopped for so long that others may have taken it for dead, and what the commit owes has to be settled anew.
func (t *Ticket) Kept() bool {
	b := t.box
	b.mu.Lock()
	defer b.mu.Unlock()
	age := ageOf(t.outage.renewed, b.o.seams.now())
	return t.outage == b.outage && age >= 0 && age < b.o.DeadAfter
}

// fullNow is asked under mu.
func (b *Box) fullNow(o *outage) bool {
	if o != b.outage || !o.full || o.removing != nil {
		return false
	}
	age := ageOf(o.renewed, b.o.seams.now())
	return age >= 0 && age < b.o.DeadAfter/2
}

// OwesAll says that a ticket would be Full now. It is a hint: ask the ticket.
func (b *Box) OwesAll() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage != nil && b.fullNow(b.outage)
}

// Full gives a ticket that is Full, and that every reader knows of, without waiting; nil where there is none.
func (b *Box) Full() *Ticket {
	b.mu.Lock()
	defer b.mu.Unlock()
	o := b.outage
	if b.closed || o == nil || !b.fullNow(o) {
		return nil
	}
	select {
	case <-o.ready:
	default:
		return nil
	}
	o.holders++
	return &Ticket{box: b, outage: o}
}

// release lets go of what was held back.
func (b *Box) release(ctx context.Context, text string, args ...any) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	n, err := b.exec(ctx, text, args...)
	if err != nil {
		return fmt.Errorf("release what was held back: %w", err)
	}
	if n > 0 {
		b.Nudge()
	}
	return nil
}
