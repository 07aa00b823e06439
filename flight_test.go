package wtcache_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/wtcache/wtcache"
)

// commits are writes of account 1, which is 1 before. Each is complete and acknowledged
// when it returns.
var commits = []struct {
	name string
	do   func(*airport) error
	n    int  // after it
	gone bool // the account is, after it
	fail bool // the write does
}{
	{"fence first", say("UPDATE accounts SET n = 2 WHERE id = 1"), 2, false, false},
	{"lock first", say("UPDATE accounts SET n = 2 WHERE abs(id) = 1"), 2, false, false},
	{"coarse", say("WITH w AS (UPDATE accounts SET n = 2 WHERE id = 1 RETURNING 1) SELECT count(*) FROM w"), 2, false, false},
	{"Tx", inTx(true), 2, false, false},
	{"DELETE", say("DELETE FROM accounts WHERE id = 1"), 0, true, false},
	{"rolled back", inTx(false), 1, false, false},
	{"refused by COMMIT", say("UPDATE accounts SET n = 2, owner = 99 WHERE abs(id) = 1"), 1, false, true},
}

func say(text string) func(*airport) error {
	return func(a *airport) error {
		_, err := a.db.Exec(text)
		return err
	}
}

func inTx(commit bool) func(*airport) error {
	return func(a *airport) error {
		tx, err := a.db.Begin()
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		if _, err := tx.Exec("UPDATE accounts SET n = 2 WHERE id = 1"); err != nil || !commit {
			return err
		}
		return tx.Commit()
	}
}

// Sharing a read must not break the promise: a reader that starts after a commit was
// acknowledged gets nothing older, wherever the reader stands whose read it might share.
func TestSharedReadIsNeverStale(t *testing.T) {
	pairs := []struct {
		name          string
		first, second byWay
	}{{"one after one", byCache, byGet}, {"one after two", byTwo, byRow}, {"two after one", byMany, byTwo}, {"past Redis", byFresh, byFresh}}
	for _, format := range allFormats {
		for _, strategy := range []string{"write", "invalidate"} {
			t.Run(format+"/"+strategy, func(t *testing.T) {
				a := newAirport(t, airportSetup{format: format, rule: "strategy: " + strategy + "\n"})
				shared := uint64(0)
				for _, c := range commits {
					for _, m := range moments {
						for i, p := range pairs {
							if i > 0 && format != "envelope" {
								continue // the ways of a batch are the same in all
							}
							if p.name == "past Redis" && m.request != "select" {
								continue // there is no such moment
							}
							t.Run(fmt.Sprint(c.name, "/", m, "/", p.name), func(t *testing.T) {
								a.reset(t)
								first := a.begin(m, p.first)
								if err := c.do(a); (err != nil) != c.fail {
									t.Fatal(err)
								}
								shared += first.meets(p.second, c.n, c.gone)
							})
						}
					}
				}
				if shared == 0 {
					t.Error("no reader ever shared a read: the test sees nothing")
				}
			})
		}
	}
}

// standing is a reader that stands at a moment.
type standing struct {
	*airport
	*stop
	row <-chan got
}

// begin has a reader of account 1 come to a moment.
func (a *airport) begin(m moment, by byWay) *standing {
	a.t.Helper()
	s := &standing{airport: a, stop: a.stop(a.t, m, "")}
	s.row = a.start(context.Background(), by)
	s.stop.await(a.t)
	return s
}

// meets has a second reader read, which must get what account 1 is now, and lets the first
// one go on. It gives how many reads were shared.
func (s *standing) meets(by byWay, n int, gone bool) uint64 {
	s.t.Helper()
	second := make(chan got, 1)
	served := make(chan struct{})
	go func() {
		second <- by(context.Background(), s.airport)
		close(served)
	}()
	eventually(s.t, "the second reader shares a read, or has its row", func() bool {
		select {
		case <-served:
			return true
		default:
			return s.shared() > 0
		}
	})
	s.open()
	for i, c := range []<-chan got{second, s.start(context.Background(), byGet)} {
		if g := await(s.t, "a row", c); g.err != nil || g.found == gone || g.n != n {
			s.t.Errorf("reader %d got %+v after %d was acknowledged (gone: %v)", i+2, g, n, gone)
		}
	}
	g := await(s.t, "the first reader's row", s.row)
	old := g.found && g.n == 1
	if now := g.found != gone && g.n == n; g.err != nil || !old && !now {
		s.t.Errorf("the first reader got %+v, which account 1 has not been since it started", g)
	}
	if got, there := s.entry(1); there && (gone || got != n) {
		s.t.Errorf("account 1 is cached as %d and is %d (gone: %v)", got, n, gone)
	}
	return s.shared()
}

// The same where the commit could not be fenced, since Redis was down: the lease that the
// first reader has may still be there when Redis is back, and its old row be stored.
func TestSharedReadPastAnUnfencedCommit(t *testing.T) {
	for _, m := range []moment{{"lease", true}, {"select", false}, {"select", true}, {"fill", false}} {
		t.Run(m.String(), func(t *testing.T) {
			server := ownRedis(t)
			a := newAirport(t, airportSetup{redis: server.URL})
			a.read(9)
			first := a.begin(m, byCache)
			server.Kill()
			a.exec("UPDATE accounts SET n = 2 WHERE id = 1")
			a.want(a.start(ctx0, byGet), 2)
			server.Restart()
			late := a.start(ctx0, byRow) // waits for the first where what was owed is settled already
			first.open()
			a.want(late, 2)
			a.want(a.start(ctx0, byMany), 2)
			if g := await(t, "the first reader's row", first.row); g.err != nil || g.n != 1 && g.n != 2 {
				t.Errorf("the first reader got %+v", g)
			}
			a.want(a.start(ctx0, byTwo), 2)
			eventually(t, "nothing is owed", func() bool { return a.stats().Redis.Owed == 0 })
			a.want(a.start(ctx0, byCache), 2)
			a.wantTrue()
		})
	}
}

// Without sharing, a key that is popular and absent would cost a read of the database for
// each reader. Wherever the first one stands, those who come while nothing is written are
// served by its read.
func TestReadersShareOneRead(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			a := newAirport(t, airportSetup{format: format})
			for _, m := range moments {
				t.Run(m.String(), func(t *testing.T) {
					a.reset(t)
					first := a.begin(m, byCache)
					all := a.several(5)
					if m != (moment{"fill", true}) { // there they find the entry
						a.seated(len(all))
					}
					first.open()
					a.wantAll(append(all, first.row), 1)
					a.wantReads(1)
				})
			}
		})
	}
}

// Those for whom a read came too early, because somebody wrote meanwhile, share the next
// one, and all get the new row.
func TestReadersShareTheNextRead(t *testing.T) {
	for _, o := range []struct {
		name  string
		reads map[moment]int64 // where it is not 1
		early bool             // the readers come before the write
	}{
		{"readers before the write", map[moment]int64{
			{"select", false}: 2, {"select", true}: 2, {"fill", false}: 2,
		}, true},
		{"readers after the write", map[moment]int64{
			{"select", false}: 2, {"select", true}: 2, {"fill", false}: 2, {"fill", true}: 2,
		}, false},
	} {
		t.Run(o.name, func(t *testing.T) {
			a := newAirport(t, airportSetup{rule: "strategy: invalidate\n"})
			for _, m := range moments {
				t.Run(m.String(), func(t *testing.T) {
					a.reset(t)
					first := a.begin(m, byMany)
					reads := max(o.reads[m], 1)
					var all []<-chan got
					old := 2
					if o.early {
						if all = a.several(6); m == (moment{"fill", true}) {
							a.wantAll(all, 1) // the entry is there already
							all = nil
						} else {
							a.seated(len(all))
						}
					}
					a.exec("UPDATE accounts SET n = 2 WHERE id = 1")
					if !o.early {
						all = a.several(6)
						a.seated(len(all))
					}
					first.open()
					a.wantAll(all, 2)
					if slices.Index(moments, m) >= slices.Index(moments, moment{"select", true}) {
						old = 1
					}
					a.want(first.row, old)
					a.wantReads(reads)
				})
			}
		})
	}
}

// A key that turns out not to be unique is an error, for the second reader as for the
// first: one of its rows must not have become the entry.
func TestNotUniqueIsNeverFilled(t *testing.T) {
	for _, negative := range []string{"", "negative_ttl: 1m\n"} {
		l := newLedger(t, ledgerSetup{rule: negative, config: func(c *wtcache.Config) {
			file := c.Rules.(fstest.MapFS)["accounts.yaml"]
			byN := "entries:\n  - {name: by_id, key: $1{id}\"}\n  - {name: by_n, key: ${1}by-n:{n}\", strategy: invalidate}"
			file.Data = regexp.MustCompile(`key: (".*)\{id\}"`).ReplaceAll(file.Data, []byte(byN))
		}})
		var one account
		for i := range 3 {
			if read, err := l.cache.Get(ctx0, "accounts.by_n", &one, 0); err == nil {
				t.Errorf("%q: reader %d of a key with 9 rows got %+v (from the cache: %v)", negative, i+1, one, read.FromCache)
			}
		}
		l.exec("DELETE FROM accounts WHERE id > 1")
		if read, err := l.cache.Get(ctx0, "accounts.by_n", &one, 0); err != nil || read.FromCache {
			t.Errorf("%q: now that it is unique: %+v, %v", negative, read, err)
		}
	}
}
