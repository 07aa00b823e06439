package wtcache_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// How much the promise is put to: operations of all kinds, over few keys, so that they meet.
const (
	promiseOps     = 20_000
	promiseWorkers = 8
	promiseKeys    = 6
	uncommitted    = 1_000_000 // what is written only to be rolled back
)

// The promise itself: a read that starts after a commit was acknowledged never returns
// anything older. Every account counts its committed writes; a reader notes what was
// acknowledged before it starts and must not see less.
func TestPromiseUnderConcurrency(t *testing.T) {
	for _, formats := range [][]string{{"envelope"}, {"plain"}, {"hash"}, {"versioned"}, {"versioned", "hash", "plain"}} {
		t.Run(strings.Join(formats, " beside "), func(t *testing.T) {
			l := newLedger(t, ledgerSetup{format: formats[0]})
			releases := []*ledger{l}
			for _, format := range formats[1:] {
				releases = append(releases, l.beside(ledgerSetup{format: format}))
			}
			keepPromise(t, promiseOps, releases...)
			s := l.stats()
			t.Logf("%d fence first, %d lock first, %d in all committed, %d hits, %d fills, %d bypasses", s.FenceFirst, s.LockFirst, s.Committed, s.Hits, s.Fills, s.Bypasses)
			enough := uint64(len(formats))
			if s.FenceFirst < 100/enough || s.LockFirst < 100/enough || s.Hits < 1000/enough || s.Fills < 50/enough || s.Bypasses < 20/enough {
				t.Errorf("the mix is too thin to see anything: %+v", s)
			}
		})
	}
}

// keepPromise spreads so many operations over the ledgers, which are one table opened
// several times.
func keepPromise(t *testing.T, ops int64, releases ...*ledger) {
	t.Helper()
	shared := &promised{ops: ops}
	var all sync.WaitGroup
	for worker := range promiseWorkers {
		l := releases[worker%len(releases)]
		l.db.SetMaxOpenConns(2 * promiseWorkers)
		p := &promise{ledger: l, promised: shared}
		all.Go(func() { p.work(rand.New(rand.NewPCG(uint64(worker), 1))) })
	}
	all.Wait()
	for _, l := range releases {
		l.wantTrue()
	}
	l := releases[0]
	for id := 1; id <= promiseKeys; id++ {
		if got, want := int64(l.row(id)), shared.acknowledged[id].Load(); got != want {
			t.Errorf("account %d counts %d writes, %d were acknowledged", id, got, want)
		}
		if l.fenced(id) {
			t.Errorf("account %d is fenced although all is quiet", id)
		}
	}
}

type promise struct {
	*ledger
	*promised
}

// promised is what all readers and writers know.
type promised struct {
	ops          int64
	done         atomic.Int64
	acknowledged [promiseKeys + 1]atomic.Int64
}

func (p *promise) work(r *rand.Rand) {
	for p.done.Add(1) <= p.ops && !p.t.Failed() {
		id := 1 + r.IntN(promiseKeys)
		var err error
		switch n := r.IntN(200); {
		case n < 150:
			err = p.look(id)
		case n < 170:
			err = p.lookUnaware(id)
		case n < 180:
			err = p.count("UPDATE accounts SET n = n + 1 WHERE id = $1 RETURNING n", id)
		case n < 188:
			err = p.count("UPDATE accounts SET n = n + 1 WHERE abs(id) = $1 RETURNING n", id)
		case n < 194:
			err = p.countTwo(id, r.IntN(2) == 0)
		case n < 199:
			err = p.countNothing(id)
		default:
			err = p.count("WITH w AS (UPDATE accounts SET n = n + 1 WHERE id = $1 RETURNING n) SELECT n FROM w", id)
		}
		if err != nil {
			p.t.Error(err)
		}
	}
}

func (p *promise) look(id int) error {
	least := p.acknowledged[id].Load()
	var a account
	read, err := p.cache.Get(context.Background(), "accounts", &a, id)
	if err == nil && int64(a.N) < least {
		p.t.Errorf("a read of account %d gave %d although %d was acknowledged before it started (%+v)", id, a.N, least, read)
	}
	if err == nil && a.N >= uncommitted {
		p.t.Errorf("a read of account %d gave %d, which was rolled back (%+v)", id, a.N, read)
	}
	return err
}

// lookUnaware reads what is in Redis as a program does that knows nothing of us.
func (p *promise) lookUnaware(id int) error {
	least := p.acknowledged[id].Load()
	payload, there, err := readUnaware(context.Background(), p.rdb, p.key(id), p.format)
	if err != nil || !there {
		return err
	}
	var a account
	if err := json.Unmarshal(payload, &a); err != nil {
		return err
	}
	if a.ID == id && (int64(a.N) < least || a.N >= uncommitted) {
		p.t.Errorf("%q was in Redis for account %d although %d was acknowledged before", payload, id, least)
	}
	return nil
}

// acknowledge notes a count that a writer was told of.
func (p *promise) acknowledge(id int, n int64) {
	for {
		known := p.acknowledged[id].Load()
		if known >= n || p.acknowledged[id].CompareAndSwap(known, n) {
			return
		}
	}
}

func (p *promise) count(query string, id int) error {
	var n int64
	if err := p.db.QueryRow(query, id).Scan(&n); err != nil {
		return err
	}
	p.acknowledge(id, n)
	return nil
}

// countTwo writes two accounts in one transaction, in the order of their numbers.
func (p *promise) countTwo(id int, savepoint bool) error {
	tx, err := p.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	first, second := id, id%promiseKeys+1
	if first > second {
		first, second = second, first
	}
	var counts [2]int64
	for i, id := range []int{first, second} {
		if savepoint {
			if err := undone(tx, id); err != nil {
				return err
			}
		}
		if err := tx.QueryRow("UPDATE accounts SET n = n + 1 WHERE id = $1 RETURNING n", id).Scan(&counts[i]); err != nil {
			return err
		}
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	p.acknowledge(first, counts[0])
	p.acknowledge(second, counts[1])
	return nil
}

// undone writes what is rolled back to a savepoint.
func undone(tx *sql.Tx, id int) error {
	for _, text := range []string{"SAVEPOINT s", "", "ROLLBACK TO s"} {
		var err error
		if text == "" {
			_, err = tx.Exec("UPDATE accounts SET n = $1 WHERE id = $2", uncommitted, id)
		} else {
			_, err = tx.Exec(text)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *promise) countNothing(id int) error {
	tx, err := p.db.Begin()
	if err != nil {
		return err
	}
	_, err = tx.Exec("UPDATE accounts SET n = $1 WHERE id = $2", uncommitted, id)
	return errors.Join(err, tx.Rollback())
}
