package outbox

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// ErrClosed is returned by what needs a Box after its Close.
var ErrClosed = errors.New("wtcache: outbox is closed")

// Settler is what the outbox knows of Redis. It must be safe for concurrent use.
type Settler interface {
	// Settle makes the keys of a debt absent, whatever is there, and sweeps. It returns nil only when Redis has acknowledged all of
	// it; what was done in vain is done again.
	Settle(ctx context.Context, d Debt) error
	// Reachable says, without asking Redis, whether a Settle is worth trying.
	Reachable() bool
}

// Options make a Box. DB and Settler are required.
type Options struct {
	// DB connects with the base driver, not through wtcache, and is for the Box alone. With fewer than four connections there is no LISTEN. The
	// Box does not close it.
	DB      *sql.DB
	Schema  string // of the tables; "": DefaultSchema
	Settler Settler
	// Watch is for how long cached values are served without a look at Postgres, and so, a quarter longer, the time that the first queued
	// write of an outage waits; 0: 2 s. Whole milliseconds.
	Watch time.Duration
	// Process names this process to people, in table outage; "": host and process id.
	Process string
	// DeadAfter is when others take a process that has announced an outage for dead; 0: 30 s. It says that it is alive ten times as often.
	DeadAfter time.Duration
	// Busy and Idle are the pauses between looks at the outbox, while there is something to do and while there is not; 0: 200 ms and 10 s.
	Busy, Idle time.Duration
	// Everything gives sweeps of all rules. Once an outage has queued FullAfter keys (0: 10,000) they are put into the outbox, to be settled
	// when the outage is over, and until then a commit need not be queued by itself: Ticket.Full. nil: that does not happen.
	Everything func() []Sweep
	FullAfter  int64
	// MaxDepth is the number of rows past which a process whose outage lasts exchanges its own rows for sweeps; 0: 100,000.
	MaxDepth int64
	// Cover gives the sweep that makes a key absent, too. Where it is nil or gives false, the key's row is kept, past any bound: a
	// debt that is forgotten is a stale entry.
	Cover func(key string) (Sweep, bool)
	// Logger and OnError hear of what goes wrong in the background. OnError must not block. Default: slog.Default(), nothing.
	Logger  *slog.Logger
	OnError func(error)

	seams seams
}

// seams are what tests take hold of.
type seams struct {
	now   func() time.Time
	after func(time.Duration) <-chan time.Time // for the wait of an announcement
	at    func(point string)                   // called at named points
	idle  time.Duration                        // of a batch, before the server ends it
}

func (o Options) withDefaults() Options {
	or := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	o.Schema = orDefault(o.Schema)
	or(&o.Watch, 2*time.Second)
	o.Watch = max(o.Watch.Truncate(time.Millisecond), time.Millisecond)
	or(&o.DeadAfter, 30*time.Second)
	or(&o.Busy, 200*time.Millisecond)
	or(&o.Idle, 10*time.Second)
	if o.FullAfter <= 0 {
		o.FullAfter = 10_000
	}
	if o.MaxDepth <= 0 {
		o.MaxDepth = 100_000
	}
	if o.Process == "" {
		host, _ := os.Hostname() // a label: without it the process id will do
		o.Process = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:8])
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.OnError == nil {
		o.OnError = func(error) {}
	}
	if o.seams.now == nil {
		o.seams.now = time.Now
	}
	if o.seams.after == nil {
		o.seams.after = time.After
	}
	or(&o.seams.idle, settleTimeout+requestTimeout)
	if o.seams.at == nil {
		o.seams.at = func(string) {}
	}
	return o
}

// Box is a process' part in the outbox. It is safe for concurrent use.
type Box struct {
	o    Options
	text texts
	mode []any // pgx' option under which a statement leaves nothing behind in its session

	ctx        context.Context // ends with Close
	stop       context.CancelFunc
	background sync.WaitGroup
	wake       chan struct{} // the worker should look now
	stats      counters
	sight      atomic.Pointer[sight] // what the last poll showed; nil before the first
	reports    reports
	busy       atomic.Bool // the worker looks often
	drainer    drainer     // the worker's own

	mu      sync.Mutex // guards the rest; nothing is sent under it
	started bool
	closed  bool
	outage  *outage       // that this process has announced
	flight  *announcement // under way
	poll    chan struct{} // closed when the poll under way is over; nil without one
	rounds  chan struct{} // closed and replaced after each round of the worker
}

// New makes a Box that does nothing until it is asked or started.
func New(o Options) *Box {
	o = o.withDefaults()
	b := &Box{o: o, text: textsFor(o), wake: make(chan struct{}, 1), rounds: make(chan struct{})}
	if _, ok := o.DB.Driver().(*stdlib.Driver); ok {
		b.mode = []any{pgx.QueryExecModeExec}
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b
}

// Start begins the work in the background, once. Announce, Hand and Drained do so, too. After Close it does nothing.
func (b *Box) Start() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.started || b.closed {
		return
	}
	b.started = true
	b.background.Go(b.work)
	b.background.Go(b.listen)
}

// spawn runs f in the background, unless the Box is closed. The caller holds b.mu.
func (b *Box) spawn(f func()) bool {
	if !b.closed {
		b.background.Go(f)
	}
	return !b.closed
}

// Nudge has the outbox looked at now: Redis answers again. It never blocks.
func (b *Box) Nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// closeTimeout bounds what Close says to Postgres.
const closeTimeout = 2 * time.Second

// Close ends the work in the background and waits for it. What is queued stays queued, for others. An outage that this process has
// announced is removed if nothing needs it, else left to others, who need not wait for DeadAfter, unless a ticket is still out under which
// everything was owed. Tickets that are still out are void.
// Close returns nil; a second call does nothing.
func (b *Box) Close() error {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil
	}
	b.closed = true
	o := b.outage
	b.outage = nil
	// Commits that rest on what is held back may still land: others wait for as long as if this process had died.
	relied := o != nil && o.holders > 0 && o.mayHold
	b.mu.Unlock()
	b.stop()
	b.background.Wait()
	b.sight.Store(nil)
	if o != nil && !relied {
		ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
		defer cancel()
		b.leave(ctx, o.id)
	}
	return nil
}
