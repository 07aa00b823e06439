package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/wtcache/wtcache"
)

// Without a crash, what eventual keeps is the last column of the promise: a read that
// starts after the write's call has returned never gets anything older. Strict writers of the
// same rows, in another process, keep theirs.
func TestEventualIsFreshOnceTheCallReturned(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{rule: eventualRule, format: format})
			keepPromise(t, promiseOps/4, l)
			if s := l.stats(); s.Redis.Fences > 200 || s.Redis.CASOther < 100 { // barriers are fences
				t.Errorf("these were no eventual writes: %+v", s.Redis)
			}
		})
	}
	t.Run("beside strict writers", func(t *testing.T) {
		strict := newLedger(t, ledgerSetup{format: "versioned"})
		inMode := strict.beside(ledgerSetup{format: "versioned", config: func(c *wtcache.Config) { c.Mode = wtcache.ModeEventual }})
		keepPromise(t, promiseOps/4, strict, inMode)
		if s := inMode.stats(); s.Redis.CASReplaced == 0 || strict.stats().Redis.Stored == 0 {
			t.Errorf("they hardly met: %+v", s.Redis)
		}
	})
}

// A statement that wrote more rows than are kept in memory has told of some of them alone. The
// others would be served as they were until their TTL.
func TestEventualIsFreshAfterMoreRowsThanAreKept(t *testing.T) {
	few := func(c *wtcache.Config) { c.MaxCapturedRows = 2 }
	for _, format := range allFormats {
		l := newLedger(t, ledgerSetup{rule: eventualRule, format: format, config: few})
		l.warm(1, 2, 3, 4, 5, 6, 7, 8, 9)
		l.exec("UPDATE accounts SET n = 1")
		for id := 1; id <= 9; id++ {
			if n, there := l.entry(id); there && n != 1 {
				t.Errorf("%s: account %d is cached as %d once the write has returned", format, id, n)
			}
		}
		l.wantTrue()
	}
}

// A second step that comes late must not undo what a later writer has stored; one that is
// newer takes its place.
func TestEventualKeepsTheOrderOfVersions(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *eventualLedger) {
		strict := l.beside(ledgerSetup{format: l.format})
		for _, w := range eventualWays {
			l.reset(t)
			strict.exec(setFenceFirst, 3, 1)
			trap, returned := l.begin(w, setOne)
			strict.exec(setFenceFirst, 2, 1)
			l.end(trap, returned)
			l.wantCached(1, 2)
			l.wantTrue()

			l.exec(setFenceFirst, 4, 1)
			l.wantCached(1, 4)
			l.wantTrue()
		}
		if s := l.stats(); s.Redis.CASReplaced != 2 || s.Redis.CASOther != 2 {
			t.Errorf("%d replaced, %d not", s.Redis.CASReplaced, s.Redis.CASOther)
		}
	})
}

// To store where nothing is would race with a writer that has come and gone: only readers
// put entries there.
func TestEventualLeavesAbsentKeysAbsent(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *eventualLedger) {
		for i, text := range []string{setOne, "INSERT INTO accounts VALUES (10, 1)", "DELETE FROM accounts WHERE id = 10"} {
			for _, w := range eventualWays {
				if i > 0 && w.name != eventualWays[i%2].name {
					continue // a row is inserted and deleted once
				}
				l.reset(t)
				if err := w.set(context.Background(), t, l.ledger, text)(); err != nil {
					t.Fatal(err)
				}
				if names := l.rdb.Keys(context.Background(), "*"+l.prefix+"*").Val(); len(names) != 0 {
					t.Errorf("%s by %s left %q", text, w.name, names)
				}
			}
		}
		l.wantTrue()
	})
}

// A reader that has read the row before COMMIT and comes to its fill after the call has
// returned finds its lease ended.
func TestEventualEndsLeases(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *eventualLedger) {
		g := newGatedCache(l.ledger)
		for _, w := range eventualWays {
			l.reset(t)
			r := g.start(t)
			for range stepFill {
				r.step()
			}
			if err := w.set(context.Background(), t, l.ledger, setOne)(); err != nil {
				t.Fatal(err)
			}
			r.finish()
			l.wantAbsent(1)
			l.wantTrue()
		}
	})
}

// What was rolled back must not be heard of in Redis at all: the entry stays as it is.
func TestEventualRollbackSendsNothing(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			log := &timeline{}
			l := newLedger(t, ledgerSetup{rule: eventualRule, format: format, hook: newScripts(t, log)})
			for name, rollback := range map[string]func(){
				"Rollback": func() {
					tx, err := l.db.Begin()
					if err == nil {
						_, err = tx.Exec(setOne)
					}
					if err = errors.Join(err, tx.Rollback()); err != nil {
						t.Error(err)
					}
				},
				"ROLLBACK":  func() { l.say(l.on(), "BEGIN", setOne, "ROLLBACK") },
				"savepoint": func() { l.say(l.on(), "BEGIN", "SAVEPOINT s", setOne, "ROLLBACK TO s", "COMMIT") },
				"COMMIT that is refused": func() {
					for _, w := range eventualWays {
						err := w.set(context.Background(), t, l, "UPDATE accounts SET n = 1, owner = 99 WHERE id = 1")()
						if sqlState(err) != "23503" {
							t.Errorf("%s: the deferred foreign key gave %v", w.name, err)
						}
					}
				},
			} {
				l.warm(1)
				log.take()
				rollback()
				if events := log.take(); len(events) != 0 {
					t.Errorf("%s: Redis was sent %q", name, events)
				}
				l.wantCached(1, 0)
				l.wantRow(1, 0)
			}
		})
	}
}

// `wtcache_mode=eventual` in a DSN makes every rule eventual: no fence goes out for a
// strict rule, and the holes are there.
func TestEventualModeByDSN(t *testing.T) {
	clearEnvironment(t)
	l := newEventual(t, "", nil)
	settings := url.Values{
		"wtcache_redis": {l.proxy.URL}, "wtcache_mode": {"eventual"},
		"wtcache_rules":         {ruleFolder(t, map[string]string{"accounts.yaml": string(l.rules("")["accounts.yaml"].Data)})},
		"wtcache_redis_timeout": {patience.String()}, "wtcache_fence_life": {(4 * patience).String()}, "wtcache_outbox": {"off"},
	}
	db, err := sql.Open("wtcache", l.dsn+"&"+settings.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	l.db = db
	for _, w := range eventualWays {
		l.reset(t)
		l.warm(1)
		trap, returned := l.begin(w, setOne)
		if l.fenced(1) {
			t.Errorf("%s: the key is fenced", w.name)
		}
		if got := l.read(1); got != 0 {
			t.Errorf("%s: a reader gets %d: this was no eventual write", w.name, got)
		}
		l.end(trap, returned)
		l.wantTrue()
	}
	if s := l.stats(); s.Redis.Fences != 0 || s.FenceFirst != 0 || s.LockFirst != 0 {
		t.Errorf("counted %+v", s)
	}
}

// The README's tables of what eventual gives up and keeps name tests that are there.
func TestEventualREADME(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range []string{"eventual_test.go", "eventual_keeps_test.go", "regress_commit_test.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	named := 0
	for _, piece := range strings.Split(string(readme), "`TestEventual")[1:] {
		name, _, _ := strings.Cut(piece, "`")
		named++
		if !strings.Contains(source.String(), "func TestEventual"+name+"(") {
			t.Errorf("the README names TestEventual%s, which is no test", name)
		}
	}
	if named < 8 {
		t.Errorf("the README names %d tests", named)
	}
}
