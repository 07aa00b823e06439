package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// route is a base connector whose new connections a test can lead elsewhere, or refuse: the
// asker's way to the server, apart from the writer's.
type route struct {
	driver.Connector

	mu     sync.Mutex // guards the rest
	to     driver.Connector
	shut   bool
	opened []driver.Conn // one that is forgotten is not closed by the garbage collector
}

var errShut = errors.New("the test lets nobody through")

func (r *route) Connect(ctx context.Context) (driver.Conn, error) {
	r.mu.Lock()
	to, shut := r.to, r.shut
	r.mu.Unlock()
	if shut {
		return nil, errShut
	}
	conn, err := to.Connect(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.opened = append(r.opened, conn)
	return conn, err
}

// lead sends new connections to another connector.
func (r *route) lead(to driver.Connector) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.to = to
}

func (r *route) close(shut bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut = shut
}

// base puts the route in front of a ledger's connector.
func (r *route) base(c driver.Connector) driver.Connector {
	r.Connector, r.to = c, c
	return r
}

// other is a second service on the same table and keys.
func (l *ledger) other(s ledgerSetup) *ledger {
	l.t.Helper()
	o := *l
	o.heard = &heard{}
	o.db = o.open(l.dsn, s)
	var err error
	if o.cache, err = wtcache.CacheOf(o.db); err != nil {
		l.t.Fatal(err)
	}
	return &o
}

// lose runs a commit whose acknowledgement gets lost, after the server has carried it out.
func lose(t testing.TB, proxy *testenv.Proxy, match string, commit func() error) {
	t.Helper()
	lost := proxy.CutReply(match)
	if err := commit(); err == nil {
		t.Error("the caller was told that it committed")
	}
	await(t, "the loss of the acknowledgement", lost)
}

// waiting gives the backend that waits for something of a kind, once there is one.
func (l *ledger) waiting(event string) (pid int) {
	l.t.Helper()
	eventually(l.t, "a backend waits for "+event, func() bool {
		err := l.plain.QueryRow("SELECT pid FROM pg_stat_activity WHERE wait_event = $1 AND query ILIKE '%commit%' AND pid <> pg_backend_pid()", event).Scan(&pid)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			l.t.Fatal(err)
		}
		return err == nil
	})
	return pid
}

func (l *ledger) must(text string, args ...any) {
	l.t.Helper()
	if _, err := l.plain.Exec(text, args...); err != nil {
		l.t.Fatalf("%s: %v", text, err)
	}
}
