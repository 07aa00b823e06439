package wtcache_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// pair is a primary and its standby, whose cluster_names tell which of them was read.
type pair struct {
	primary *testenv.PostgresServer
	standby *testenv.Standby
}

const onPrimary, onStandby = "primary", "follower"

func newPair(t *testing.T, settings map[string]string) pair {
	t.Helper()
	all := map[string]string{"cluster_name": onPrimary}
	for name, value := range settings {
		all[name] = value
	}
	p := pair{primary: testenv.NewPostgres(t, testenv.PostgresOptions{Settings: all})}
	p.standby = p.primary.NewStandby(t, onStandby, nil)
	return p
}

// replicaLedger is a ledger on a primary, and a reader of account 1 whose misses go to a
// standby where that may be. It takes the steps that Cache takes.
type replicaLedger struct {
	*ledger
	replica *wtcache.Standby
	sync    *cachesync.Client
	lease   cachesync.LeaseResult
}

// open opens a ledger on a pair. The standby has it, and gets all the time that it needs.
func (p pair) open(t *testing.T, config func(*wtcache.Config)) *replicaLedger {
	t.Helper()
	return openReplica(t, p.primary.URL, p.standby, config)
}

func openReplica(t *testing.T, primary string, standby *testenv.Standby, config func(*wtcache.Config)) *replicaLedger {
	t.Helper()
	l := newLedger(t, ledgerSetup{server: primary, config: func(cfg *wtcache.Config) {
		cfg.ReadReplicaDSN = standby.URL
		if config != nil {
			config(cfg)
		}
	}})
	// No lease ends while the standby is waited for.
	sync, err := cachesync.New(l.rdb, cachesync.Options{LeaseLife: 4 * patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sync.Close() })
	r := &replicaLedger{ledger: l, replica: wtcache.StandbyOf(t, l.db), sync: sync}
	r.replica.Wait(patience, patience)
	return r
}

// with is another service on the same table and keys, whose primary and standby are others.
func (r *replicaLedger) with(t *testing.T, primary string, standby *testenv.Standby) *replicaLedger {
	t.Helper()
	l := *r.ledger
	l.t = t
	l.db = l.open(withSearchPath(t, primary, l.schema), ledgerSetup{config: func(cfg *wtcache.Config) {
		cfg.ReadReplicaDSN = standby.URL
	}})
	n := &replicaLedger{ledger: &l, replica: wtcache.StandbyOf(t, l.db), sync: r.sync}
	n.replica.Wait(patience, patience)
	return n
}

// impatient has the standby used only where it has replayed enough already.
func (r *replicaLedger) impatient() { r.replica.Wait(0, patience) }

func (r *replicaLedger) takeLease() {
	r.t.Helper()
	var err error
	if r.lease, err = r.sync.Lease(context.Background(), r.key(1), cachesync.Envelope, "1a2b3c4d"); err != nil {
		r.t.Fatal(err)
	}
	if r.lease.State != cachesync.LeaseGranted {
		r.t.Fatalf("the lease is %v", r.lease.State)
	}
}

func (r *replicaLedger) fill(n int) (filled bool) {
	r.t.Helper()
	payload, err := json.Marshal(account{ID: 1, N: n})
	if err != nil {
		r.t.Fatal(err)
	}
	filled, err = r.sync.Fill(context.Background(), r.lease, cachesync.Entry{
		Payload: payload, Schema: "1a2b3c4d", TTL: patience, Format: cachesync.Envelope,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return filled
}

// querier is a pool or one of its connections.
type querier interface {
	QueryRowContext(context.Context, string, ...any) *sql.Row
}

// look reads account 1 and tells who has answered.
func (r *replicaLedger) look(on querier) (n int, from string) {
	r.t.Helper()
	err := on.QueryRowContext(context.Background(),
		"SELECT n, current_setting('cluster_name') FROM "+r.schema+".accounts WHERE id = 1").Scan(&n, &from)
	if err != nil {
		r.t.Fatal(err)
	}
	return n, from
}

// snapshot reads account 1 on the standby where that may be, else on the primary.
func (r *replicaLedger) snapshot() (n int, from string) {
	r.t.Helper()
	conn, done := r.replica.Reading(context.Background(), r.db)
	defer done()
	if conn == nil {
		return r.look(r.db)
	}
	return r.look(conn)
}

// miss is a whole miss of account 1.
func (r *replicaLedger) miss() (from string) {
	r.t.Helper()
	r.takeLease()
	n, from := r.snapshot()
	if !r.fill(n) {
		r.t.Error("the fill was refused although nobody writes")
	}
	return from
}

// forget makes account 1 absent, as its TTL does.
func (r *replicaLedger) forget() {
	r.t.Helper()
	if err := r.rdb.Del(context.Background(), r.key(1), r.control(1)).Err(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *replicaLedger) wantCounts(used, behind, unavailable uint64) {
	r.t.Helper()
	u, b, n := r.replica.Counts()
	if u != used || b != behind || n != unavailable {
		r.t.Errorf("used %d, behind %d, unavailable %d times; want %d, %d, %d", u, b, n, used, behind, unavailable)
	}
}

// wantRefused: the primary is read, and whoever looks at the log learns why.
func (r *replicaLedger) wantRefused(reason string) {
	r.t.Helper()
	_, _, before := r.replica.Counts()
	r.forget()
	if from := r.miss(); from != onPrimary {
		r.t.Errorf("the row came from %q", from)
	}
	if _, _, after := r.replica.Counts(); after != before+1 {
		r.t.Errorf("unavailable %d times, want %d", after, before+1)
	}
	if r.heard.told(reason) == 0 {
		r.t.Errorf("the log does not tell of %q", reason)
	}
}

// wantNotAsked: the primary has to be read, and neither server was asked for that. The
// primary is nil: it cannot be asked.
func (r *replicaLedger) wantNotAsked() {
	r.t.Helper()
	if conn, done := r.replica.Reading(context.Background(), nil); conn != nil {
		done()
		r.t.Error("the standby is used")
	}
}

// wantUsed: the standby is asked, and used.
func (r *replicaLedger) wantUsed() {
	r.t.Helper()
	if _, from := r.snapshot(); from != onStandby {
		r.t.Errorf("the row came from %q", from)
	}
}

func execOn(t testing.TB, url string, texts ...string) {
	t.Helper()
	db := openPlain(t, url)
	defer db.Close()
	for _, text := range texts {
		if _, err := db.Exec(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
}

func ask(t testing.TB, url, question string, answer any) {
	t.Helper()
	db := openPlain(t, url)
	defer db.Close()
	if err := db.QueryRow(question).Scan(answer); err != nil {
		t.Fatalf("%s: %v", question, err)
	}
}
