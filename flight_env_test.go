package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/internal/testenv"
)

// moment is where a reader can be made to stand: before a request is sent, or after it
// was carried out and before its answer is delivered.
type moment struct {
	request string // "select", or a script's name
	after   bool
}

func (m moment) String() string {
	if m.after {
		return "after " + m.request
	}
	return "before " + m.request
}

// moments are those of a flight, in order.
var moments = []moment{
	{"lease", false}, {"lease", true}, {"barrier", false}, {"barrier", true},
	{"select", false}, {"select", true}, {"fill", false}, {"fill", true},
}

// lookout sees what readers send, and makes one stand where it is told to. It makes
// leases outlive any slowness of the machine. It is safe for concurrent use.
type lookout struct {
	scripts
	selects       atomic.Int64 // reads of the database
	running, most atomic.Int64 // of them at once

	mu    sync.Mutex // guards stops
	stops []*stop
}

// stop is a moment at which one request stands, once: what comes later runs free.
type stop struct {
	moment
	key     string // "": of any key
	arrived chan struct{}
	free    chan struct{}
	open    func() // lets it go on; more than once is as once
}

// stop arms one.
func (w *lookout) stop(t testing.TB, m moment, key string) *stop {
	s := &stop{moment: m, key: key, arrived: make(chan struct{}), free: make(chan struct{})}
	s.open = sync.OnceFunc(func() { close(s.free) })
	t.Cleanup(s.open)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stops = append(w.stops, s)
	return s
}

func (s *stop) await(t testing.TB) {
	t.Helper()
	await(t, "a request at "+s.String(), s.arrived)
}

// disarm takes a stop away at which nobody has arrived yet.
func (w *lookout) disarm(s *stop) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stops = slices.DeleteFunc(w.stops, func(other *stop) bool { return other == s })
}

// pass stands if a stop was armed for this.
func (w *lookout) pass(m moment, keys ...string) {
	w.mu.Lock()
	i := slices.IndexFunc(w.stops, func(s *stop) bool {
		return s.moment == m && (s.key == "" || slices.Contains(keys, s.key))
	})
	if i < 0 {
		w.mu.Unlock()
		return
	}
	s := w.stops[i]
	w.stops = slices.Delete(w.stops, i, i+1)
	w.mu.Unlock()
	close(s.arrived)
	<-s.free
}

func (w *lookout) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (w *lookout) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return w.around([]redis.Cmder{cmd}, func() error { return next(ctx, cmd) })
	}
}

func (w *lookout) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return w.around(cmds, func() error { return next(ctx, cmds) })
	}
}

// around is told of one request, which holds scripts of one kind or none.
func (w *lookout) around(cmds []redis.Cmder, send func() error) error {
	request := ""
	var keys []string
	for _, cmd := range cmds {
		args := cmd.Args()
		if name, ok := w.name(args); ok {
			request, keys = name, append(keys, fmt.Sprint(args[3]))
			if name == "lease" {
				args[8] = fmt.Sprint((4 * patience).Milliseconds())
			}
		}
	}
	if request == "" {
		return send()
	}
	w.pass(moment{request, false}, keys...)
	err := send()
	if !redis.HasErrorPrefix(err, "NOSCRIPT") && !redis.HasErrorPrefix(cmds[0].Err(), "NOSCRIPT") {
		w.pass(moment{request, true}, keys...)
	}
	return err
}

// watched is a base connector whose connections tell a lookout of readers' statements.
type watched struct {
	driver.Connector
	*lookout
}

func (c watched) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	return watchedConn{recordingConn{conn, nil}, c.lookout}, err
}

type watchedConn struct {
	recordingConn
	*lookout
}

func (c watchedConn) QueryContext(ctx context.Context, q string, a []driver.NamedValue) (driver.Rows, error) {
	query := c.Conn.(driver.QueryerContext).QueryContext
	if !strings.Contains(q, "AS t WHERE t.") {
		return query(ctx, q, a)
	}
	c.pass(moment{"select", false})
	c.selects.Add(1)
	for now := c.running.Add(1); ; {
		if most := c.most.Load(); now <= most || c.most.CompareAndSwap(most, now) {
			break
		}
	}
	rows, err := query(ctx, q, a)
	c.running.Add(-1)
	c.pass(moment{"select", true})
	return rows, err
}

func (c watchedConn) CheckNamedValue(v *driver.NamedValue) error {
	return c.Conn.(driver.NamedValueChecker).CheckNamedValue(v)
}

// airport is a ledger whose readers are looked at.
type airport struct {
	*ledger
	*lookout
	reader *wtcache.Reader[account]
	redis  string        // its URL
	before wtcache.Stats // when it was last reset
}

type airportSetup struct {
	format, rule string
	redis        string
	deaf         bool // the Redis client does not heed contexts
	config       func(*wtcache.Config)
}

func newAirport(t *testing.T, s airportSetup) *airport {
	t.Helper()
	a := &airport{lookout: &lookout{scripts: newScripts(t, &timeline{})}}
	if s.redis == "" {
		s.redis = testenv.RealRedis(t)
	}
	a.redis = s.redis
	a.ledger = newLedger(t, ledgerSetup{
		format: s.format, rule: s.rule, redis: s.redis,
		base: func(c driver.Connector) driver.Connector { return watched{c, a.lookout} },
		config: func(c *wtcache.Config) {
			patient(c)
			c.FillWait = 4 * patience
			client := crowdedRedis(t, s.redis, s.deaf)
			client.AddHook(a.lookout)
			c.Redis = client
			if s.config != nil {
				s.config(c)
			}
		},
	})
	var err error
	if a.reader, err = wtcache.ReaderOf[account](a.db, "accounts"); err != nil {
		t.Fatal(err)
	}
	a.reset(t)
	return a
}

// crowdedRedis is a client for which many may wait.
func crowdedRedis(t testing.TB, url string, deaf bool) *redis.Client {
	t.Helper()
	o, err := crowdedOptions(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled = !deaf
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func crowdedOptions(url string) (*redis.Options, error) {
	o, err := redis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	o.ContextTimeoutEnabled, o.MaxRetries = true, -1
	o.PoolTimeout, o.ReadTimeout, o.DialTimeout = 4*patience, 4*patience, patience
	return o, nil
}

// reset gives a sub-test an airport that others have used: accounts 1 to 9 are 1 by
// commits that were acknowledged, and none is cached.
func (a *airport) reset(t *testing.T) {
	t.Helper()
	a.t = t
	if _, err := a.db.Exec("INSERT INTO accounts SELECT i, 1 FROM generate_series(1, 9) i ON CONFLICT (id) DO UPDATE SET n = 1, owner = NULL"); err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	names, err := a.rdb.Keys(ctx, "*"+a.prefix+"*").Result()
	if err == nil && len(names) > 0 {
		err = a.rdb.Del(ctx, names...).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	a.mark()
}

// mark begins to count anew.
func (a *airport) mark() {
	a.selects.Store(0)
	a.most.Store(0)
	a.before = a.stats()
}

func (a *airport) shared() uint64 { return a.stats().Shared - a.before.Shared }

// wantReads: so many statements of readers were sent.
func (a *airport) wantReads(n int64) {
	a.t.Helper()
	if got, counted := a.selects.Load(), int64(a.stats().DatabaseReads-a.before.DatabaseReads); got != n || counted != n {
		a.t.Errorf("%d reads of the database, Stats say %d, want %d", got, counted, n)
	}
}

// got is what a reader got of account 1.
type got struct {
	n     int
	found bool
	wtcache.Read
	err error
}

// byWay is a way to read account 1.
type byWay func(context.Context, *airport, ...wtcache.ReadOption) got

func byCache(ctx context.Context, a *airport, opts ...wtcache.ReadOption) (g got) {
	var one account
	g.Read, g.err = a.cache.With(opts...).Get(ctx, "accounts", &one, 1)
	g.n, g.found = one.N, g.err == nil
	if errors.Is(g.err, sql.ErrNoRows) {
		g.err = nil
	}
	return g
}

func byGet(ctx context.Context, a *airport, opts ...wtcache.ReadOption) got {
	one, err := a.reader.With(opts...).Get(ctx, 1)
	if errors.Is(err, sql.ErrNoRows) {
		return got{}
	}
	return got{n: one.N, found: err == nil, err: err}
}

func byRow(ctx context.Context, a *airport, opts ...wtcache.ReadOption) got {
	row, err := a.reader.With(opts...).Row(ctx, wtcache.Key{"id": 1})
	return got{row.Value.N, row.Found, row.Read, err}
}

func byMany(ctx context.Context, a *airport, opts ...wtcache.ReadOption) got {
	return only(a.reader.With(opts...).GetMany(ctx, 1))
}

// byTwo reads account 2 as well, which costs pipelines.
func byTwo(ctx context.Context, a *airport, opts ...wtcache.ReadOption) got {
	return only(a.reader.With(opts...).GetMany(ctx, 2, 1))
}

// only gives the last of the rows, which must be account 1's.
func only(rows []wtcache.Row[account], err error) got {
	if err != nil {
		return got{err: err}
	}
	row := rows[len(rows)-1]
	if row.Found && row.Value.ID != 1 {
		return got{err: fmt.Errorf("the row of account 1 is that of account %d", row.Value.ID)}
	}
	return got{row.Value.N, row.Found, row.Read, nil}
}

// start has somebody read account 1.
func (a *airport) start(ctx context.Context, by byWay, opts ...wtcache.ReadOption) <-chan got {
	c := make(chan got, 1)
	go func() { c <- by(ctx, a, opts...) }()
	return c
}

// several has so many read it, in all ways.
func (a *airport) several(n int, opts ...wtcache.ReadOption) []<-chan got {
	ways := []byWay{byCache, byGet, byRow, byMany}
	all := make([]<-chan got, n)
	for i := range all {
		all[i] = a.start(context.Background(), ways[i%len(ways)], opts...)
	}
	return all
}

// seated waits until so many ride along with others.
func (a *airport) seated(n int) {
	a.t.Helper()
	eventually(a.t, fmt.Sprintf("%d readers ride along", n), func() bool { return a.shared() >= uint64(n) })
}

// wantAll: each of the readers gets n.
func (a *airport) wantAll(all []<-chan got, n int) {
	a.t.Helper()
	for _, c := range all {
		a.want(c, n)
	}
}

// want: a reader gets n.
func (a *airport) want(c <-chan got, n int) got {
	a.t.Helper()
	g := await(a.t, "a reader's row", c)
	if g.err != nil || !g.found || g.n != n {
		a.t.Errorf("a reader got %+v, want %d", g, n)
	}
	return g
}

// other is another process that speaks the protocol by hand. Its leases outlive the test.
func (a *airport) other() *cachesync.Client {
	a.t.Helper()
	c, err := cachesync.New(a.rdb, cachesync.Options{LeaseLife: time.Hour, FenceLife: time.Hour})
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { _ = c.Close() })
	return c
}

// formatOf gives a format by the name that rules have for it; "" is the default.
func formatOf(t testing.TB, name string) cachesync.Format {
	t.Helper()
	for _, f := range []cachesync.Format{cachesync.Envelope, cachesync.Plain, cachesync.Hash, cachesync.Versioned} {
		if f.String() == name || name == "" {
			return f
		}
	}
	t.Fatalf("no format %q", name)
	return 0
}

// lease has another process take the lease of an account, for whose payload it knows a schema.
func (a *airport) lease(other *cachesync.Client, id int) cachesync.LeaseResult {
	a.t.Helper()
	l, err := other.Lease(context.Background(), a.key(id), formatOf(a.t, a.format), wtcache.SchemaOf(a.t, a.db, "accounts"))
	if err != nil || l.State != cachesync.LeaseGranted {
		a.t.Fatalf("another process got the lease %d, %v", l.State, err)
	}
	return l
}
