package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// Without a crash, what eventual keeps is the last column of the promise: a read that
// starts after the write's call has returned never gets anything older. Strict writers of the
// same rows, in another process, keep theirs.
func TestEventualIsFreshOnceTheCallReturned(t *testing.T) {
	for _, format := range allFormats {
		t.Run(format, func(t *testing.T) {
			l := newLedger(t, ledgerSetup{rule: eventualRule, format: format})
			keepPromise(t, promiseOps/4, l)
			if s := l.stats(); s.Redis.Fences > 200 || s.Redis.Stored > 0 || s.Redis.Invalidations-s.Redis.SweptKeys < 100 { // barriers are fences
				t.Errorf("these were no eventual writes: %+v", s.Redis)
			}
		})
	}
	t.Run("beside strict writers", func(t *testing.T) {
		strict := newLedger(t, ledgerSetup{format: "versioned"})
		inMode := strict.beside(ledgerSetup{format: "versioned", config: func(c *wtcache.Config) { c.Mode = wtcache.ModeEventual }})
		strict.read(1) // both have read the catalogue then, and begin together
		inMode.read(1)
		keepPromise(t, promiseOps/4, strict, inMode)
		if s := inMode.stats(); s.Redis.Invalidations-s.Redis.SweptKeys < 100 || strict.stats().Redis.Stored < 100 {
			t.Errorf("one of the two has hardly written: %+v, %+v", s.Redis, strict.stats().Redis)
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

// A second step that comes late may cost a hit, and nothing else: whoever reads gets the newest row.
func TestEventualLateStepStoresNothing(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *eventualLedger) {
		strict := l.beside(ledgerSetup{format: l.format})
		for _, w := range eventualWays {
			l.reset(t)
			trap, returned := l.begin(w, setOne)
			strict.exec(setFenceFirst, 2, 1)
			l.wantCached(1, 2)
			l.end(trap, returned)
			l.wantAbsent(1)
			l.wantTrue()
			l.wantCached(1, 2)

			l.exec(setFenceFirst, 4, 1)
			l.wantAbsent(1)
			l.wantTrue()
		}
	})
}

// A strict writer whose apply is still under way has the older row in hand, and would store it once
// the eventual write has returned: its readers would have it until the TTL.
func TestEventualEndsAnOlderApply(t *testing.T) {
	eachFormat(t, func(t *testing.T, l *eventualLedger) {
		link := testenv.ProxyURL(t, testenv.RealRedis(t))
		strict := l.beside(ledgerSetup{format: l.format, redis: link.URL, config: patient})
		for _, w := range eventualWays {
			l.reset(t)
			trap := link.HoldRequest(digestOf(t, "apply"))
			applied := make(chan error, 1)
			go func() {
				_, err := strict.db.Exec(setFenceFirst, 3, 1)
				applied <- err
			}()
			await(t, "the strict write's apply", trap.Reached())
			if err := w.set(context.Background(), t, l.ledger, setOne)(); err != nil {
				t.Fatal(err)
			}
			trap.Release()
			if err := await(t, "the strict write's end", applied); err != nil {
				t.Fatal(err)
			}
			l.wantRow(1, 1)
			l.wantAbsent(1)
			l.wantTrue()
		}
		if s := strict.stats(); s.Redis.Dropped != int64(len(eventualWays)) {
			t.Errorf("%d applies were dropped, want one for each of %d writes", s.Redis.Dropped, len(eventualWays))
		}
	})
}

// Whoever gives up the strict promise does so for cheap writes: Postgres must not be made to render a row
// that nobody stores.
func TestEventualStatementsCarryNoPayload(t *testing.T) {
	const when = "when: n <> 4711\n"
	l := newLedger(t, ledgerSetup{rule: when})
	captures := func(s ledgerSetup, text string, args ...any) string {
		t.Helper()
		sent := &sentTexts{}
		s.base = func(driver.Connector) driver.Connector {
			cfg, err := pgx.ParseConfig(l.dsn)
			if err != nil {
				t.Fatal(err)
			}
			cfg.Tracer = sent
			return stdlib.GetConnector(*cfg)
		}
		other := l.beside(s)
		other.exec(text, args...)
		sent.mu.Lock()
		defer sent.mu.Unlock()
		for _, text := range sent.all {
			if strings.Contains(text, "RETURNING") && strings.Contains(text, "tableoid") {
				return text
			}
		}
		t.Fatalf("%q was captured by none of %q", text, sent.all)
		return ""
	}
	payload := func(text string) bool { return strings.Contains(text, "json") || strings.Contains(text, "4711") }
	for _, c := range []struct {
		text string
		args []any
	}{
		{setFenceFirst, []any{1, 1}},
		{setOne, nil},
		{"UPDATE accounts SET n = 2 WHERE id = 1 RETURNING n", nil},
		{"INSERT INTO accounts VALUES (1, 3) ON CONFLICT (id) DO UPDATE SET n = 3", nil},
		{"BEGIN; " + setOne + "; COMMIT", nil},
	} {
		if sent := captures(ledgerSetup{rule: when}, c.text, c.args...); !payload(sent) {
			t.Errorf("a strict write was sent without a payload: %s", sent)
		}
		for name, s := range map[string]ledgerSetup{
			"eventual":              {rule: when + eventualRule},
			"eventual, async":       {rule: when + eventualRule + asyncRule},
			"versioned":             {rule: when + eventualRule, format: "versioned"},
			"wtcache_mode=eventual": {rule: when, config: func(c *wtcache.Config) { c.Mode = wtcache.ModeEventual }},
		} {
			if sent := captures(s, c.text, c.args...); payload(sent) {
				t.Errorf("%s: what nobody stores was asked for: %s", name, sent)
			}
		}
	}
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
