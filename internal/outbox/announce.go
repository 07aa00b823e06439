package outbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
)

// outage is a row of table outage that this process has committed.
type outage struct {
	id    int64
	ready chan struct{} // closed when every reader must know of it
	ended chan struct{} // closed when it is removed, lost, or left

	// Guarded by Box.mu.
	holders  int           // tickets that are out; it is not removed by this process meanwhile
	queued   int64         // keys
	filling  bool          // everything is being put into the outbox
	full     bool          // everything is in it
	mayHold  bool          // rows of it may be held back, even where putting them there seemed to fail
	renewed  time.Time     // before the latest acknowledged word that this process is alive was sent
	removing chan struct{} // closed when the removal under way is over; nil without one
}

// announcement is an attempt under way, which all callers share.
type announcement struct {
	done chan struct{} // closed when err is set
	err  error
}

// Ticket is a queued commit's hold on the announcement that it needs.
type Ticket struct {
	box    *Box
	outage *outage
	done   atomic.Bool
}

// Outage is what Insert takes.
func (t *Ticket) Outage() int64 { return t.outage.id }

// Done says that the transaction has ended, either way or unknown. A second call does nothing.
func (t *Ticket) Done() {
	if t.done.Swap(true) {
		return
	}
	t.box.mu.Lock()
	t.outage.holders--
	t.box.mu.Unlock()
}

// Announce sees to it that this process' outage is announced and, with wait, that every reader knows of it: only then may a commit
// be sent whose stale copies readers could still be serving. Without wait it only begins, so that a later call waits less. All
// callers share one announcement. It costs a lock once an outage is announced and waited for. The context bounds the
// caller's wait alone; after an error nothing may be queued. Errors: the context's, ErrClosed, those of Postgres. Call Done on the ticket.
func (b *Box) Announce(ctx context.Context, wait bool) (*Ticket, error) {
	t, err := b.hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("announce an outage of Redis: %w", err)
	}
	if !wait {
		return t, nil
	}
	select {
	case <-t.outage.ready:
		return t, nil
	default:
	}
	select {
	case <-t.outage.ready:
		return t, nil
	case <-ctx.Done():
		err = fmt.Errorf("wait until every reader knows: %w", ctx.Err())
	case <-t.outage.ended: // removed by others, or the Box was closed
		err = errEnded
		if b.ctx.Err() != nil {
			err = ErrClosed
		}
	}
	t.Done()
	return nil, fmt.Errorf("announce an outage of Redis: %w", err)
}

var errEnded = errors.New("wtcache: the announcement was withdrawn before every reader knew of it")

// announceTimeout is much longer than what callers wait: their transactions may hold all the sessions that a pooler or the server has. They
// have to give them up for it, again and again where many have begun before it, and an announcement that gave up with them would never get one.
const (
	announcePatience = 2 * time.Second
	announceTimeout  = 30 * time.Second
)

var errSlow = errors.New("wtcache: the announcement takes too long; does the database have a session left for it?")

// hold gives a ticket for the outage that is announced, and announces one where there is none.
func (b *Box) hold(ctx context.Context) (*Ticket, error) {
	b.Start()
	slow := time.NewTimer(announcePatience)
	defer slow.Stop()
	for {
		t, busy, attempt := b.tryHold()
		if t != nil {
			return t, nil
		}
		if busy == nil {
			return nil, ErrClosed
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-slow.C:
			return nil, errSlow
		}
		if attempt != nil && attempt.err != nil {
			return nil, attempt.err
		}
	}
}

// tryHold gives a ticket, or what must be waited for before the next try; neither where the Box is closed.
func (b *Box) tryHold() (t *Ticket, busy <-chan struct{}, attempt *announcement) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch o := b.outage; {
	case b.closed:
		return nil, nil, nil
	case o != nil && o.removing != nil:
		return nil, o.removing, nil
	case o != nil:
		o.holders++
		return &Ticket{box: b, outage: o}, nil, nil
	case b.flight == nil:
		f := &announcement{done: make(chan struct{})}
		b.flight = f
		b.spawn(func() { b.announce(f) })
	}
	return nil, b.flight.done, b.flight
}

// announce commits a row, finds out for how long readers may go without a look, and has the outage kept alive.
func (b *Box) announce(f *announcement) {
	ctx, cancel := context.WithTimeout(b.ctx, announceTimeout)
	defer cancel()
	o := &outage{ready: make(chan struct{}), ended: make(chan struct{})}
	o.renewed = b.o.seams.now()
	var longest int64
	err := b.with(ctx, func(c *sql.Conn) (err error) {
		o.id, longest, err = b.announceOn(ctx, c)
		return err
	})
	if !b.announced(f, o, max(b.o.Watch, time.Duration(longest)*time.Millisecond), err) && o.id != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		b.leave(ctx, o.id) // else it is dead in DeadAfter, which costs hits and no more
	}
}

// announceOn commits the row, and asks for the longest lease in a transaction after that: see the package's comment. Where the base driver is pgx both go
// in one request, which a pooler gives one session: for a second one the announcement would wait behind all who have begun a transaction since.
func (b *Box) announceOn(ctx context.Context, c *sql.Conn) (id, longest int64, err error) {
	err = c.Raw(func(driverConn any) error {
		base, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return errNotPgx
		}
		id, longest, err = announceTogether(ctx, base.Conn().PgConn(), b.text.announceTogether)
		return err // a session that it leaves in a failed transaction is thrown away by pgx's ResetSession
	})
	if !errors.Is(err, errNotPgx) {
		return id, longest, err
	}
	var ignored any
	if err := c.QueryRowContext(ctx, b.text.announce, b.args(b.o.Process)...).Scan(&id, &ignored); err != nil {
		return 0, 0, err
	}
	return id, longest, c.QueryRowContext(ctx, b.text.longest, b.args()...).Scan(&longest)
}

func announceTogether(ctx context.Context, c *pgconn.PgConn, text string) (id, longest int64, err error) {
	results, err := c.Exec(ctx, text).ReadAll()
	numbers := []*int64{&id, &longest}
	for _, r := range results {
		if len(r.Rows) != 1 || len(numbers) == 0 {
			continue // of BEGIN and COMMIT
		}
		n, failed := strconv.ParseInt(string(r.Rows[0][0]), 10, 64)
		*numbers[0], numbers = n, numbers[1:]
		err = errors.Join(err, failed)
	}
	if err == nil && len(numbers) > 0 {
		err = errNotAnnounced
	}
	return id, longest, err
}

var errNotAnnounced = errors.New("wtcache: the outbox's table outage does not keep what is written to it")

// announced ends an announcement and reports whether its outage is now this process'.
func (b *Box) announced(f *announcement, o *outage, watch time.Duration, err error) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.flight = nil
	if b.closed {
		err = ErrClosed
	}
	if f.err = err; err == nil {
		b.outage = o
		b.stats.announced.Add(1)
		b.sight.Store(&sight{again: b.o.seams.now().Add(b.o.Busy)})
		b.spawn(func() { b.keep(o, b.o.seams.after(watch+watch/4)) })
		b.o.Logger.Warn("wtcache: redis cannot be told of writes: they are queued in Postgres, and cached values of strict rules are not served meanwhile",
			"schema", b.o.Schema, "outage", o.id)
	}
	close(f.done)
	return err == nil
}

// keep opens the outage for commits once waited has come, and says that this process is alive. It has a goroutine of its own since settling
// may take longer than DeadAfter.
func (b *Box) keep(o *outage, waited <-chan time.Time) {
	alive := time.NewTicker(max(b.o.DeadAfter/10, time.Millisecond))
	defer alive.Stop()
	for {
		select {
		case <-waited:
			close(o.ready)
			waited = nil
		case <-alive.C:
			b.renew(o)
		case <-o.ended:
			return
		case <-b.ctx.Done():
			b.end(o)
			return
		}
	}
}

// renew says that this process is alive. Where others may take it for dead already, it has to announce anew.
func (b *Box) renew(o *outage) {
	ctx, cancel := context.WithTimeout(b.ctx, requestTimeout)
	defer cancel()
	sent := b.o.seams.now()
	switch n, err := b.exec(ctx, b.text.renew, o.id); {
	case err != nil:
		b.report("an announced outage could not be renewed", err)
	case n == 0:
		b.Lost(o.id)
	default:
		b.mu.Lock()
		o.renewed = sent
		b.mu.Unlock()
	}
}

// tryAgain is for how long an outage is kept for a transaction whose snapshot was from before it.
const tryAgain = 5 * time.Second

// Doubted says that an Insert failed with Gone. Where the outage is there all the same, the transaction's snapshot was from before it, and it
// is kept for a while even if nothing needs it: a new one would be too young for the snapshot of the next try again.
func (b *Box) Doubted(id int64) {
	b.mu.Lock()
	o := b.outage
	if o == nil || o.id != id || o.removing != nil {
		b.mu.Unlock()
		return
	}
	o.holders++
	ticket := &Ticket{box: b, outage: o}
	b.mu.Unlock()
	b.renew(o) // finds out whether it is there
	time.AfterFunc(tryAgain, ticket.Done)
}

// Lost says that the outage is not there any more. The next writer announces anew. It does nothing for an
// outage that is not the announced one.
func (b *Box) Lost(id int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o := b.outage; o != nil && o.id == id {
		b.stats.lost.Add(1)
		b.endLocked(o)
	}
}

func (b *Box) end(o *outage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.endLocked(o)
}

func (b *Box) endLocked(o *outage) {
	if b.outage == o {
		b.outage = nil
	}
	select {
	case <-o.ended:
	default:
		close(o.ended)
	}
}

// Announced says whether this process has announced an outage that has not ended.
func (b *Box) Announced() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outage != nil
}

// withdraw removes this process' outage if nothing needs it. It reports whether there is none now.
func (b *Box) withdraw(ctx context.Context) (none bool, err error) {
	b.mu.Lock()
	o := b.outage
	if o == nil || o.holders > 0 {
		b.mu.Unlock()
		return o == nil, nil
	}
	removing := make(chan struct{})
	held := o.mayHold
	o.removing, o.full, o.filling, o.queued = removing, false, false, 0
	b.mu.Unlock()
	b.o.seams.at("withdrawing")
	var gone int64
	var left bool
	if held {
		err = b.release(ctx, b.text.release, o.id) // which may have happened even if it seems to have failed
		held = err != nil
	}
	if err == nil {
		gone, left, err = b.remove(ctx, b.text.remove, o.id)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o.removing, o.mayHold = nil, held
	close(removing)
	if err != nil || gone == 0 && left {
		return false, err
	}
	b.endLocked(o)
	b.stats.removed.Add(gone)
	b.o.Logger.Info("wtcache: what was queued while redis was out of reach is settled", "schema", b.o.Schema, "outage", o.id)
	return true, nil
}

// remove runs a removal. That a row of outbox has just been committed is no error.
func (b *Box) remove(ctx context.Context, text string, args ...any) (gone int64, left bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var ignored any
	err = b.query(ctx, text, args, &gone, &left, &ignored)
	if Gone(err) {
		return 0, true, nil
	}
	if err != nil {
		return 0, true, fmt.Errorf("remove an outage: %w", err)
	}
	return gone, left, nil
}

// leave is withdraw at the end of a process: what cannot be removed is left to others at once. That no row refers to it is enough, whether Redis
// answers or not.
func (b *Box) leave(ctx context.Context, id int64) {
	_ = b.release(ctx, b.text.release, id) // else it waits for DeadAfter
	if _, left, err := b.remove(ctx, b.text.remove, id); err == nil && left {
		_, _ = b.exec(ctx, b.text.leave, id) // else it is dead in DeadAfter
	}
}
