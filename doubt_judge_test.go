package wtcache

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// A number alone proves nothing: after a failover, or a crash that lost WAL, the server may
// have given it to another transaction. Taken for this one, what was never committed would
// be served, or a fence given back while its COMMIT is still under way.
func TestJudge(t *testing.T) {
	x := xact{id: 7, timeline: "00000001", server: "a"}
	old := xact{id: 7, timeline: "00000001"} // a server that does not tell its incarnation
	for _, c := range []struct {
		name string
		x    xact
		a    answer
		want verdict
	}{
		{"committed", x, answer{"committed", "00000001", "a"}, verdictCommitted},
		{"aborted", x, answer{"aborted", "00000001", "a"}, verdictAborted},
		{"under way", x, answer{"in progress", "00000001", "a"}, verdictPending},
		{"too old to be known", x, answer{"forgotten", "00000001", "a"}, verdictFinished},
		{"another timeline", x, answer{"committed", "00000002", "a"}, verdictUnknown},
		{"another timeline, aborted", x, answer{"aborted", "00000002", "a"}, verdictUnknown},
		{"another timeline, too old", x, answer{"forgotten", "00000002", "a"}, verdictUnknown},
		{"a standby", x, answer{"committed", "", "a"}, verdictUnknown},
		{"crashed since, committed", x, answer{"committed", "00000001", "b"}, verdictFinished},
		{"crashed since, aborted", x, answer{"aborted", "00000001", "b"}, verdictFinished},
		{"crashed since, under way", x, answer{"in progress", "00000001", "b"}, verdictUnknown},
		{"an old server, committed", old, answer{"committed", "00000001", ""}, verdictFinished},
		{"an old server, aborted", old, answer{"aborted", "00000001", ""}, verdictFinished},
		{"an old server, under way", old, answer{"in progress", "00000001", ""}, verdictPending},
		{"incarnation learned too late", old, answer{"committed", "00000001", "a"}, verdictFinished},
		{"an unknown status", x, answer{"prepared", "00000001", "a"}, verdictUnknown},
		{"no status", x, answer{"", "00000001", "a"}, verdictUnknown},
		{"no answer", x, answer{}, verdictUnknown},
	} {
		if got := c.x.judge(c.a); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, verdictNames[got], verdictNames[c.want])
		}
	}
}

// An outage of Postgres must not fill the memory with what is in doubt, and after Close
// nothing may be started any more.
func TestDoubtsAreBounded(t *testing.T) {
	d := newDoubts(nil)
	d.asking = true // nobody is to work on them
	h := &fences{owed: &owed{xact: xact{id: 1, timeline: "00000001"}}}
	for range maxDoubts {
		if refusal := d.accept(h); refusal != "" {
			t.Fatal(refusal)
		}
	}
	if d.accept(h) == "" {
		t.Errorf("%d are in doubt at a time", len(d.waiting))
	}
	d.waiting, d.closed = nil, true
	if d.accept(h) == "" {
		t.Error("a doubt was accepted after Close")
	}
	if d.accept(&fences{owed: &owed{}}) == "" {
		t.Error("a doubt without a transaction was accepted")
	}
}

// Rows of two transactions in one log mean that one of them ended unseen: asked for the
// other, the server would answer for a part of what was captured.
func TestTwoTransactionsInOneLogAreNone(t *testing.T) {
	c := &conn{pgx: nil}
	c.seeXact(5, "000000010000000000000001")
	if c.tx.xact.id != 0 {
		t.Error("a base that cannot be asked has a transaction")
	}
	c.pgx = new(pgx.Conn)
	c.server = "a"
	c.seeXact(0, "000000010000000000000001")
	c.seeXact(5, "000000010000000000000001")
	c.seeXact(5, "000000010000000000000002")
	if want := (xact{5, "00000001", "a"}); c.tx.xact != want {
		t.Errorf("%+v, want %+v", c.tx.xact, want)
	}
	c.seeXact(6, "000000010000000000000003")
	c.seeXact(6, "000000010000000000000004")
	if c.tx.xact != (xact{}) {
		t.Errorf("%+v is one of two", c.tx.xact)
	}
}
