package outbox

import (
	"context"
	"database/sql"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// waits notes for how long announcements wait, and lets them go on when the test says so.
type waits struct {
	asked chan time.Duration
	over  chan time.Time
}

func newWaits() *waits {
	return &waits{asked: make(chan time.Duration, 10), over: make(chan time.Time)}
}

func (w *waits) after(d time.Duration) <-chan time.Time {
	w.asked <- d
	return w.over
}

type announced struct {
	ticket *Ticket
	err    error
}

func announceAside(t *testing.T, b *Box, ctx context.Context) <-chan announced {
	t.Helper()
	c := make(chan announced, 1)
	go func() {
		ticket, err := b.Announce(ctx, true)
		c <- announced{ticket, err}
	}()
	return c
}

// A reader whose lease is longer than the writer's own Watch would serve a stale value after the writer's commit, if the writer waited
// for its own Watch alone: processes of two configurations run side by side in every rolling deployment.
func TestAnnouncingWaitsForTheLongestLeaseInUse(t *testing.T) {
	w := newWorld(t)
	reader := w.box(Options{Watch: 4 * time.Second})
	serves(t, reader)
	held := newWaits()
	writer := w.box(Options{Settler: down(), Watch: 2 * time.Second, seams: seams{after: held.after}})
	result := announceAside(t, writer, t.Context())
	if d := receive(t, "the wait", held.asked); d != 5*time.Second {
		t.Errorf("waits for %v, not 1.25 times the longest lease", d)
	}
	if w.count("outage") != 1 {
		t.Error("waits before its announcement is committed")
	}
	select {
	case a := <-result:
		t.Fatalf("did not wait: %+v", a)
	default:
	}
	held.over <- time.Time{}
	a := receive(t, "the announcement", result)
	if a.err != nil {
		t.Fatal(a.err)
	}
	a.ticket.Done()
}

// A lease counts from before its poll was sent. Were it to count from the answer, a reader with a slow link would serve a value that a
// commit has made old, after the writer had waited for all leases to be over.
func TestALeaseCountsFromBeforeThePoll(t *testing.T) {
	w := newWorld(t)
	proxy := testenv.ProxyURL(t, w.dsn)
	c := newClock()
	reader := w.box(Options{DB: open(t, proxy.URL), Watch: time.Second, seams: seams{now: c.now}})
	serves(t, reader)
	c.advance(time.Hour)
	answer := proxy.HoldReply("pg_is_in_recovery")
	over := reader.beginPoll()
	receive(t, "the poll's answer", answer.Reached()) // its snapshot shows no outage
	writer := w.box(Options{Settler: down(), seams: seams{after: atOnce}})
	w.queue(writer, keys("user:1"))
	c.advance(time.Second)
	answer.Release()
	receive(t, "the end of the poll", over)
	fresh, _ := reader.sight.Load().fresh(c.now(), time.Second)
	if fresh {
		t.Error("a poll that was sent a whole Watch ago still allows to serve: a stale read")
	}
}

// The first read after an outage was announced, and the lease is over, must not be served; when all is settled it must.
func TestReadersGoToTheDatabaseDuringAnOutage(t *testing.T) {
	w := newWorld(t)
	c := newClock()
	reader := w.box(Options{Watch: time.Second, seams: seams{now: c.now}})
	redis := down()
	writer := w.box(Options{Settler: redis, seams: seams{after: atOnce}})
	serves(t, reader)
	w.queue(writer, keys("user:1"))
	if !reader.Clear(t.Context()) {
		t.Error("a lease ends early: it could not be relied on to last")
	}
	c.advance(time.Second)
	if reader.Clear(t.Context()) {
		t.Fatal("serves during an outage: stale reads")
	}
	if writer.Clear(t.Context()) {
		t.Fatal("the process that queues serves: it reads back what it has overwritten")
	}
	redis.dead.Store(false)
	until(t, writer, "the end of the outage", func() bool { return w.count("outage") == 0 })
	c.advance(time.Hour)
	reader.Clear(t.Context()) // what it knows is old: it asks in the background
	until(t, reader, "a reader serves again", func() bool { return reader.Clear(t.Context()) })
}

// Who cannot ask Postgres may not serve: the outage that it does not see may be there.
func TestNoPollNoServing(t *testing.T) {
	w := newWorld(t)
	c := newClock()
	proxy := testenv.ProxyURL(t, w.dsn)
	reader := w.box(Options{DB: open(t, proxy.URL), Watch: time.Second, seams: seams{now: c.now}})
	serves(t, reader)
	proxy.Pause()
	c.advance(time.Second)
	if reader.Clear(t.Context()) {
		t.Error("serves without a poll: stale reads")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if reader.Clear(ctx) {
		t.Error("serves without a poll: stale reads")
	}
	proxy.Resume()
}

// A standby may lag behind the announcement: it must not give a lease.
func TestAStandbyGivesNoLease(t *testing.T) {
	primary := testenv.NewPostgres(t, testenv.PostgresOptions{})
	standby := primary.NewStandby(t, "outboxstandby", nil)
	w := &world{t: t, dsn: primary.URL, schema: DefaultSchema, db: open(t, primary.URL)}
	w.exec(Schema(DefaultSchema))
	serves(t, w.box(Options{})) // and it registers the lease
	var lsn string
	if err := w.db.QueryRow("SELECT pg_current_wal_insert_lsn()").Scan(&lsn); err != nil {
		t.Fatal(err)
	}
	replica := open(t, standby.URL)
	for replayed := false; !replayed; {
		if err := replica.QueryRowContext(t.Context(), "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", lsn).Scan(&replayed); err != nil {
			t.Fatal(err)
		}
	}
	reader := w.box(Options{DB: replica})
	if reader.Clear(t.Context()) {
		t.Error("a poll of a standby allows to serve: it need not show the outage yet")
	}
	if err := reader.Drained(t.Context()); err == nil {
		t.Error("a standby's empty outbox counts as drained: it need not show what is owed yet")
	}
	reader.Close()
	w.db.Close()
}

// A hundred writers that meet a dead Redis must not announce a hundred outages, and one whose context ends must not end the others'.
func TestWritersShareOneAnnouncement(t *testing.T) {
	w := newWorld(t)
	held := newWaits()
	b := w.box(Options{Settler: down(), seams: seams{after: held.after}})
	hurried, cancel := context.WithCancel(t.Context())
	gone := announceAside(t, b, hurried)
	receive(t, "the wait", held.asked)
	var others []<-chan announced
	for range 50 {
		others = append(others, announceAside(t, b, t.Context()))
	}
	cancel()
	if a := receive(t, "the hurried writer", gone); !errors.Is(a.err, context.Canceled) {
		t.Fatalf("got %+v, may be sent before every reader knows", a)
	}
	held.over <- time.Time{}
	for _, c := range others {
		a := receive(t, "the others", c)
		if a.err != nil {
			t.Fatal(a.err)
		}
		a.ticket.Done()
		a.ticket.Done()
	}
	if n := b.Stats().Announced; n != 1 || w.count("outage") != 1 {
		t.Errorf("%d outages", n)
	}
	if b.outage.holders != 0 {
		t.Errorf("%d tickets are out", b.outage.holders)
	}
}

// While a queued transaction is open its outage stays, whoever tries to remove it: else readers would serve what its commit makes old.
func TestAnOutageStaysWhileAQueuedTransactionIsOpen(t *testing.T) {
	w := newWorld(t)
	redis := newSettler()
	b := w.box(Options{Settler: redis, DeadAfter: time.Hour, seams: seams{after: atOnce}})
	ticket := must(b.Announce(t.Context(), true))(t)
	tx := must(w.db.BeginTx(t.Context(), nil))(t)
	defer tx.Rollback()
	text, args := b.Insert(ticket.Outage(), keys("user:1"))
	if _, err := tx.Exec(text, args...); err != nil {
		t.Fatal(err)
	}
	ticket.Done()                                                                   // the process is wrong about it, or was killed
	w.exec("UPDATE " + w.schema + ".outage SET seen_at = now() - interval '1 day'") // and others take it for dead
	other := w.box(Options{})
	for _, remover := range []*Box{b, other} {
		if err := remover.endOutages(true); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.count("outage"); n != 1 {
		t.Fatal("an outage was removed whose commit is about to be sent: stale reads")
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := other.endOutages(true); err != nil {
		t.Fatal(err)
	}
	if n := w.count("outage"); n != 1 {
		t.Fatal("an outage was removed whose commit is not settled: stale reads")
	}
	until(t, other, "the row is drained and the dead outage removed", func() bool { return w.count("outage") == 0 })
	if s := other.Stats(); s.RemovedDead != 1 || s.Rows != 1 {
		t.Errorf("%+v", s)
	}
}

// Between its announcement and its Insert a writer has nothing in the database that keeps the outage. Its ticket does: else a Redis that
// answers for a moment would have writes refused.
func TestATicketKeepsTheOutage(t *testing.T) {
	w := newWorld(t)
	b := w.box(Options{seams: seams{after: atOnce}}) // Redis answers
	ticket := must(b.Announce(t.Context(), true))(t)
	rounds := 0
	until(t, b, "some rounds", func() bool { rounds++; return rounds > 5 })
	text, args := b.Insert(ticket.Outage(), keys("user:1"))
	w.exec(text, args...)
	ticket.Done()
	until(t, b, "the end of the outage", func() bool { return w.count("outage") == 0 })
}

// A process that was paused until others had removed its outage must not commit under it. Its next writer announces anew.
func TestNothingIsQueuedUnderARemovedOutage(t *testing.T) {
	w := newWorld(t)
	b := w.box(Options{Settler: down(), seams: seams{after: atOnce}})
	ticket := must(b.Announce(t.Context(), true))(t)
	w.exec("DELETE FROM " + w.schema + ".outage")
	text, args := b.Insert(ticket.Outage(), keys("user:1"))
	_, err := w.db.Exec(text, args...)
	if !Gone(err) {
		t.Fatalf("got %v: a commit is queued that no reader knows of", err)
	}
	b.Lost(ticket.Outage())
	ticket.Done()
	again := must(b.Announce(t.Context(), true))(t)
	if again.Outage() == ticket.Outage() {
		t.Fatal("not announced anew")
	}
	w.queue(b, keys("user:1"))
	again.Done()
	if s := b.Stats(); s.Lost != 1 || s.Announced != 2 {
		t.Errorf("%+v", s)
	}
}

// A process finds out by itself that others have taken it for dead.
func TestARenewalNoticesTheRemoval(t *testing.T) {
	w := newWorld(t)
	b := w.box(Options{Settler: down(), seams: seams{after: atOnce}})
	must(b.Announce(t.Context(), true))(t).Done()
	out := b.outage
	b.renew(out)
	if !b.Announced() {
		t.Fatal("a renewed outage counts as lost")
	}
	w.exec("DELETE FROM " + w.schema + ".outage")
	b.renew(out)
	if b.Announced() {
		t.Error("the next queued writes would all be refused")
	}
}

// A snapshot that is older than the announcement cannot see it. Such a transaction is refused, and the same is fine when tried again.
func TestAnOlderSnapshotIsRefused(t *testing.T) {
	for _, level := range []sql.IsolationLevel{sql.LevelRepeatableRead, sql.LevelSerializable} {
		t.Run(level.String(), func(t *testing.T) {
			w := newWorld(t)
			redis := down() // the outage lasts until the second try
			b := w.box(Options{Settler: redis, seams: seams{after: atOnce}})
			try := func() error {
				tx := must(w.db.BeginTx(t.Context(), &sql.TxOptions{Isolation: level}))(t)
				defer tx.Rollback()
				if _, err := tx.Exec("SELECT 1 FROM " + w.schema + ".outbox"); err != nil {
					t.Fatal(err)
				}
				ticket := must(b.Announce(t.Context(), true))(t)
				defer ticket.Done()
				text, args := b.Insert(ticket.Outage(), keys("user:1"))
				if _, err := tx.Exec(text, args...); err != nil {
					return err
				}
				return tx.Commit()
			}
			if err := try(); !Gone(err) {
				t.Errorf("got %v", err)
			}
			if err := try(); err != nil {
				t.Errorf("tried again: %v", err)
			}
		})
	}
}

// While its owner withdraws an outage, a writer must get either the old one, which then has stayed, or a new one.
func TestAnnounceDuringAWithdrawal(t *testing.T) {
	w := newWorld(t)
	g := newGate("withdrawing")
	redis := down()
	b := w.box(Options{Settler: redis, seams: seams{after: atOnce, at: g.at}})
	must(b.Announce(t.Context(), true))(t).Done()
	first := b.announcedID()
	redis.dead.Store(false)
	b.Nudge()
	receive(t, "the withdrawal", g.reached)
	result := announceAside(t, b, t.Context())
	close(g.pass)
	a := receive(t, "the announcement", result)
	if a.err != nil {
		t.Fatal(a.err)
	}
	defer a.ticket.Done()
	text, args := b.Insert(a.ticket.Outage(), keys("user:1"))
	w.exec(text, args...)
	if a.ticket.Outage() == first {
		t.Error("a writer was given an outage that was being removed")
	}
}

// Outages come and go while writers queue: no commit without its announcement, no row left, no outage left, nothing locks up.
func TestQueueingWhileRedisFlaps(t *testing.T) {
	w := newWorld(t)
	redis := newSettler()
	b := w.box(Options{Settler: redis, Busy: time.Millisecond, Idle: time.Millisecond, seams: seams{after: atOnce}})
	other := w.box(Options{Settler: redis, Busy: time.Millisecond, Idle: time.Millisecond, DeadAfter: time.Hour})
	other.Start()
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for j := range 50 {
				redis.dead.Store((i+j)%3 == 0)
				ticket, err := b.Announce(t.Context(), true)
				if err != nil {
					t.Error(err)
					return
				}
				text, args := b.Insert(ticket.Outage(), keys("user:1"))
				if _, err := w.db.ExecContext(t.Context(), text, args...); err != nil {
					t.Errorf("a write is refused although its ticket was out: %v", err)
				}
				ticket.Done()
			}
		})
	}
	writers.Wait()
	redis.dead.Store(false)
	until(t, b, "all is settled", func() bool { return w.count("outage") == 0 && w.count("outbox") == 0 })
	if n := b.Stats().Rows + other.Stats().Rows; n != 200 {
		t.Errorf("%d rows settled, 200 queued", n)
	}
}
