package wtcache_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
)

// handDeadline is a context whose deadline passes when the test says so.
type handDeadline struct {
	context.Context
	passed chan struct{}
}

func newHandDeadline() handDeadline {
	return handDeadline{context.Background(), make(chan struct{})}
}

func (d handDeadline) Done() <-chan struct{} { return d.passed }

func (d handDeadline) Err() error {
	select {
	case <-d.passed:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// A caller who gives up must not take the row from others who wait for the same read, be
// it the one who began it or one of them.
func TestReaderLeavesAlone(t *testing.T) {
	a := newAirport(t, airportSetup{})
	for _, m := range moments {
		for _, leader := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/leader %v", m, leader), func(t *testing.T) {
				if m == (moment{"fill", true}) {
					m = moment{"fill", false} // behind it nobody waits any longer
				}
				a.reset(t)
				hurried, patient := newHandDeadline(), context.Background()
				s := a.stop(t, m, "")
				leads, rides := context.Context(hurried), patient
				if !leader {
					leads, rides = patient, hurried
				}
				first := a.start(leads, byCache)
				s.await(t)
				second := a.start(rides, byRow)
				third := a.start(patient, byMany)
				a.seated(2)
				close(hurried.passed)
				leaves, stays := first, second
				if !leader {
					leaves, stays = second, first
				}
				if g := await(t, "the one who gave up", leaves); !errors.Is(g.err, context.DeadlineExceeded) {
					t.Errorf("the one who gave up got %+v", g)
				}
				s.open()
				a.want(stays, 1)
				a.want(third, 1)
				a.wantReads(1)
			})
		}
	}
}

// When all have given up, nothing may be left behind: no goroutine, and no lease, which
// would keep the next reader waiting.
func TestAllReadersLeave(t *testing.T) {
	for _, o := range []struct {
		name, format string
		deaf         bool // the Redis client does not heed the context, as go-redis' does by default
	}{{"envelope", "envelope", false}, {"versioned", "versioned", false}, {"deaf client", "envelope", true}} {
		t.Run(o.name, func(t *testing.T) {
			a := newAirport(t, airportSetup{format: o.format, deaf: o.deaf})
			a.read(1)
			before := runtime.NumGoroutine()
			for _, m := range moments {
				for _, by := range []byWay{byGet, byTwo} {
					a.reset(t)
					ctx, cancel := context.WithCancel(context.Background())
					s := a.stop(t, m, "")
					all := []<-chan got{a.start(ctx, by)}
					s.await(t)
					if m != (moment{"fill", true}) {
						all = append(all, a.start(ctx, byCache), a.start(ctx, by))
						a.seated(2)
					}
					cancel()
					for _, c := range all {
						if g := await(t, "one who gave up", c); !errors.Is(g.err, context.Canceled) {
							t.Errorf("%v: one who gave up got %+v", m, g)
						}
					}
					s.open()
					eventually(t, fmt.Sprintf("no read is under way and no lease left, %v", m), func() bool {
						n, err := a.rdb.Exists(ctx0, a.control(1), a.control(2)).Result()
						return !flying() && n == 0 && err == nil
					})
					a.want(a.start(ctx0, byGet, wtcache.WaitForFill(0)), 1)
					a.wantCached(1, 1)
				}
			}
			a.reset(t)
			other := a.other() // holds what they wait for
			held := []cachesync.LeaseResult{a.lease(other, 1), a.lease(other, 2)}
			ctx, cancel := context.WithCancel(ctx0)
			left := a.start(ctx, byTwo, wtcache.WaitForFill(time.Hour))
			eventually(t, "a reader waits", flying)
			cancel()
			await(t, "one who gave up", left)
			eventually(t, "nobody waits for another process any longer", func() bool { return !flying() })
			other.Release(ctx0, held...)
			eventually(t, "as many goroutines as before", func() bool { return runtime.NumGoroutine() <= before })
		})
	}
}

var ctx0 = context.Background()

// flying says whether a goroutine reads for others, or waits for that.
func flying() bool {
	stacks := make([]byte, 4<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Contains(string(stacks), "wtcache.(*batch).") || strings.Contains(string(stacks), "wtcache.(*flights).")
}

// Another process may have the lease and be dead. Readers must get their row all the same,
// in the time that they have set, and must not fill, since they have no right to.
func TestWaitForAnotherProcess(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			a := newAirport(t, airportSetup{format: format})
			other := a.other()
			for _, wait := range []time.Duration{0, time.Millisecond, 50 * time.Millisecond} {
				t.Run(wait.String(), func(t *testing.T) {
					for _, by := range []byWay{byCache, byMany, byTwo} {
						a.reset(t)
						a.lease(other, 1)
						a.lease(other, 2)
						g := a.want(a.start(ctx0, by, wtcache.WaitForFill(wait)), 1)
						if g.FromCache {
							t.Error("what nobody has filled came from the cache")
						}
						a.wantReads(1)
						a.wantAbsent(1)
						if s := a.stats(); s.Fills != a.before.Fills || s.Bypasses == a.before.Bypasses {
							t.Errorf("%d fills, %d bypasses", s.Fills-a.before.Fills, s.Bypasses-a.before.Bypasses)
						}
					}
				})
			}
			t.Run("it fills", func(t *testing.T) {
				for _, m := range []moment{{"lease", false}, {"lease", true}} {
					a.reset(t)
					held := a.lease(other, 1)
					first := a.begin(m, byRow)
					all := a.several(3)
					a.seated(len(all))
					if m.after {
						first.open() // it has seen that the lease is taken
					}
					filled, err := other.Fill(ctx0, held, cachesync.Entry{
						Payload: []byte(`{"id":1,"n":77,"owner":null}`), Schema: wtcache.SchemaOf(t, a.db, "accounts"),
						TTL: patience, Format: formatOf(t, format),
					})
					if err != nil || !filled {
						t.Fatal(filled, err)
					}
					first.open()
					a.wantAll(all, 77)
					if g := a.want(first.row, 77); !g.FromCache {
						t.Error("another's fill does not count as from the cache")
					}
					a.wantReads(0)
				}
			})
		})
	}
}

// What one reader is ready to wait for another process binds nobody else: not those who
// share its read, and not when they are taken along to the next one either.
func TestOwnPatienceOnAnothersFlight(t *testing.T) {
	a := newAirport(t, airportSetup{})
	other := a.other()
	for _, m := range []moment{{"lease", true}, {"select", true}} {
		t.Run(m.String(), func(t *testing.T) {
			a.reset(t)
			ctx, cancel := context.WithCancel(ctx0)
			s := a.stop(t, m, "")
			if m.request == "lease" {
				a.lease(other, 1)
			}
			first := a.start(ctx, byCache, wtcache.WaitForFill(time.Hour))
			s.await(t)
			second := a.start(ctx0, byGet, wtcache.WaitForFill(time.Second))
			a.seated(1)
			if m.request == "select" {
				// The lease is lost, and before anybody asks for the next one it is taken.
				if err := a.rdb.Del(ctx0, a.control(1)).Err(); err != nil {
					t.Fatal(err)
				}
				a.lease(other, 1)
			}
			s.open()
			a.want(second, 1)
			cancel()
			await(t, "the first reader", first)
			a.wantAbsent(1)
		})
	}
}

// A batch whose other rows nobody wants any longer must not be boarded: its context has
// ended, and with it a reader would get an error that is not its own.
func TestNobodyBoardsAnEndedBatch(t *testing.T) {
	a := newAirport(t, airportSetup{})
	a.reset(t)
	other := a.other()
	held := a.lease(other, 2)
	ctx, cancel := context.WithCancel(ctx0)
	s := a.stop(t, moment{"select", true}, "")
	both := a.start(ctx, byTwo) // account 1 is read, account 2 waited for
	s.await(t)
	rides := a.start(ctx0, byGet)
	a.seated(1)
	cancel()
	if g := await(t, "the one who gave up", both); !errors.Is(g.err, context.Canceled) {
		t.Fatalf("the one who gave up got %+v", g)
	}
	again := a.stop(t, moment{"lease", false}, a.key(2))
	s.open()
	a.want(rides, 1)
	eventually(t, "what is left of the batch asks again, or nothing is left", func() bool {
		select {
		case <-again.arrived:
			return true
		default:
			return !flying()
		}
	})
	a.disarm(again)
	asks := a.stop(t, moment{"lease", true}, a.key(2))
	row := make(chan error, 1)
	go func() {
		one, err := a.reader.Get(ctx0, 2)
		if err == nil && one.ID != 2 {
			err = fmt.Errorf("account 2 is %+v", one)
		}
		row <- err
	}()
	eventually(t, "the new reader asks, or rides along", func() bool {
		select {
		case <-asks.arrived:
			return true
		default:
			return a.shared() > 1
		}
	})
	other.Release(ctx0, held)
	again.open()
	asks.open()
	if err := await(t, "the row of account 2", row); err != nil {
		t.Errorf("a reader whose own context is alive got %v", err)
	}
}
