package wtcache_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/linear"
	"github.com/wtcache/wtcache/internal/testenv"
)

var (
	linearSeed = flag.Uint64("linear.seed", 0, "seed of the linearizability tests (of choices and delays, not of their order); 0 draws one and logs it")
	linearOps  = flag.Int("linear.ops", 3600, "operations of each linearizability test")
	linearLong = flag.Duration("linear.long", 0, "go on with each linearizability test for so long, give -timeout 0 with it")
)

// A round is a history of its own, on rows of its own, so that Porcupine ends soon.
const (
	linearRound     = 1200 // operations
	linearKeys      = 4
	linearClients   = 12
	linearProcesses = 3
)

// linearShop is a table that several processes write and read. Each has connections of its own to both servers, through the
// driver and past it, and what goes over them is held up at random.
type linearShop struct {
	*ledger
	seed      uint64
	delays    *linear.Delays
	processes []*ledger
	coarse    *ledger // another process, whose COMMITs are not lost: in doubt, a coarse write keeps readers from filling for a fence's life
	rounds    int
	reads     []linearRead
	writes    []linearWrite
}

type linearSetup struct {
	formats []string // of the processes, in turn
	rule    string   // further lines of the rule file
	off     *switchedOff
}

func newLinearShop(t *testing.T, setup linearSetup) *linearShop {
	t.Helper()
	s := &linearShop{ledger: newLedger(t, ledgerSetup{format: setup.formats[0]}), seed: *linearSeed, reads: linearReads, writes: linearWrites}
	for s.seed == 0 {
		s.seed = rand.Uint64()
	}
	t.Logf("-linear.seed=%d", s.seed)
	s.delays = linear.NewDelays(s.seed, 4, 30*time.Millisecond)
	s.delays.CutCommits(5)
	calm := linear.NewDelays(s.seed+1, 4, 30*time.Millisecond)
	if _, err := s.plain.Exec("CREATE VIEW shown AS SELECT * FROM accounts"); err != nil {
		t.Fatal(err)
	}
	for i := range linearProcesses {
		p := s.process(setup, i, s.delays)
		p.rdb = redisClient(t, testenv.RealRedis(t))
		p.rdb.AddHook(s.delays.Hook())
		p.plain = sql.OpenDB(s.held(s.delays))
		t.Cleanup(func() { _ = p.plain.Close() })
		s.connect(p.db)
		s.connect(p.plain)
		s.processes = append(s.processes, p)
	}
	s.coarse = s.process(setup, 0, calm)
	s.connect(s.coarse.db)
	s.delays.Begin()
	calm.Begin()
	return s
}

// process opens the table once more through the driver.
func (s *linearShop) process(setup linearSetup, i int, delays *linear.Delays) *ledger {
	s.t.Helper()
	hook := delays.Hook()
	if setup.off != nil {
		hook = setup.off.hook(s.t, hook)
	}
	return s.beside(ledgerSetup{
		format: setup.formats[i%len(setup.formats)], rule: "via: [" + s.schema + ".shown]\n" + setup.rule, hook: hook,
		base: func(driver.Connector) driver.Connector { return s.held(delays) },
	})
}

// connect has the pool open the connections that the clients will need, so that nobody is done before others have begun.
func (s *linearShop) connect(db *sql.DB) {
	s.t.Helper()
	db.SetMaxIdleConns(linearClients)
	for range linearClients / linearProcesses {
		conn, err := db.Conn(s.t.Context())
		if err == nil {
			_, err = conn.ExecContext(s.t.Context(), "UPDATE accounts SET n = n WHERE id = 0")
		}
		if err != nil {
			s.t.Fatal(err)
		}
		defer func() { _ = conn.Close() }() // all of them are given back at once
	}
}

// held opens connections to Postgres that are held up.
func (s *linearShop) held(delays *linear.Delays) driver.Connector {
	cfg, err := pgx.ParseConfig(s.dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	cfg.DialFunc = delays.Dial(cfg.DialFunc)
	return stdlib.GetConnector(*cfg)
}

// ids are the rows of the round.
func (s *linearShop) ids() []int {
	ids := make([]int, linearKeys)
	for i := range ids {
		ids[i] = 100*s.rounds + i
	}
	return ids
}

// round plays one history and checks it.
func (s *linearShop) round(ops int) linear.Verdict {
	s.t.Helper()
	s.rounds++
	for _, id := range s.ids() {
		if _, err := s.plain.Exec("INSERT INTO accounts VALUES ($1, 0)", id); err != nil {
			s.t.Fatal(err)
		}
	}
	h := linear.NewHistory(0)
	err := linear.Run(linearClients, ops, s.seed+uint64(s.rounds), func(client int, r *rand.Rand) error {
		p := s.processes[client%len(s.processes)]
		c := &linearClient{shop: s, process: p, history: h, number: client, r: r, ids: s.ids()}
		return c.act()
	})
	if err != nil {
		s.t.Fatal(err)
	}
	v := h.Check(patience)
	if v.Result == porcupine.Unknown {
		s.t.Fatalf("Porcupine did not end: %v", v)
	}
	return v
}

// show keeps the pages of a violation where they outlive the test.
func (s *linearShop) show(v linear.Verdict) {
	s.t.Helper()
	dir := os.TempDir()
	if f := flag.Lookup("test.artifacts"); f != nil && f.Value.String() == "true" {
		dir = s.t.ArtifactDir()
	}
	for _, b := range v.Broken {
		page, err := os.CreateTemp(dir, fmt.Sprintf("linear-%d-*.html", b.Key))
		if err != nil {
			s.t.Fatal(err)
		}
		if err := errors.Join(b.Visualize(page), page.Close()); err != nil {
			s.t.Fatal(err)
		}
		s.t.Logf("%v\nthe whole history: %s", b, page.Name())
	}
}

// linearClient is one client for one operation.
type linearClient struct {
	shop    *linearShop
	process *ledger
	history *linear.History
	number  int
	r       *rand.Rand
	ids     []int
}

// act does one thing at random. One client in four writes, every other time: were there more, the rows would be fenced all the
// time, and readers would meet nothing else.
func (c *linearClient) act() error {
	var err error
	var name string
	if c.number%4 > 0 || c.r.IntN(2) == 0 {
		way := pick(c.r, c.shop.reads, func(w linearRead) int { return w.weight })
		name, err = way.name, c.look(way)
	} else {
		way := pick(c.r, c.shop.writes, func(w linearWrite) int { return w.weight })
		name, err = way.name, way.do(c, way.name)
	}
	if err != nil {
		return fmt.Errorf("client %d, %s: %w", c.number, name, err)
	}
	return nil
}

func pick[T any](r *rand.Rand, ways []T, weight func(T) int) T {
	var sum int
	for _, w := range ways {
		sum += weight(w)
	}
	n := r.IntN(sum)
	for _, w := range ways {
		if n -= weight(w); n < 0 {
			return w
		}
	}
	panic("the weights do not add up")
}

// some gives so many rows of the round, in the order of their numbers, in which transactions lock them.
func (c *linearClient) some(n int) []int {
	skip := map[int]bool{}
	for len(skip) < len(c.ids)-n {
		skip[c.ids[c.r.IntN(len(c.ids))]] = true
	}
	var ids []int
	for _, id := range c.ids {
		if !skip[id] {
			ids = append(ids, id)
		}
	}
	return ids
}

// linearRead is a way to read rows through a process.
type linearRead struct {
	name   string
	weight int
	rows   int // that it asks for at a time
	// read gives what was seen by the row's id: its value or linear.Absent. What it cannot tell it leaves out.
	read func(ctx context.Context, p *ledger, ids []int) (map[int]int, error)
}

func (c *linearClient) look(way linearRead) error {
	call := c.history.Now()
	seen, err := way.read(context.Background(), c.process, c.some(way.rows))
	switch {
	case lost(err):
		return nil // the connection was cut as the driver looked at the catalogue on it
	case err != nil:
		return err
	}
	for id, n := range seen {
		c.history.Add(linear.Op{Client: c.number, Key: id, Kind: linear.Read, Value: n, Call: call, Way: way.name})
	}
	return nil
}

// oneRow is a way to read a single row.
func oneRow(read rowReader) func(context.Context, *ledger, []int) (map[int]int, error) {
	return func(ctx context.Context, p *ledger, ids []int) (map[int]int, error) {
		n, there, err := read(ctx, p, ids[0])
		switch {
		case errors.Is(err, sql.ErrNoRows):
			return map[int]int{ids[0]: linear.Absent}, nil
		case err != nil || !there:
			return nil, err
		}
		return map[int]int{ids[0]: n}, nil
	}
}

func readThrough(ctx context.Context, p *ledger, id int) (int, bool, error) {
	var a account
	_, err := p.cache.Get(ctx, "accounts", &a, id)
	return a.N, true, err
}

// readAs reads through a Reader with options.
func readAs(opts ...wtcache.ReadOption) rowReader {
	return func(ctx context.Context, p *ledger, id int) (int, bool, error) {
		r, err := wtcache.ReaderOf[account](p.db, "accounts", opts...)
		if err != nil {
			return 0, false, err
		}
		a, err := r.Get(ctx, id)
		return a.N, true, err
	}
}

func readMany(ctx context.Context, p *ledger, ids []int) (map[int]int, error) {
	r, err := wtcache.ReaderOf[account](p.db, "accounts")
	if err != nil {
		return nil, err
	}
	rows, err := r.GetMany(ctx, wtcache.Keys(ids)...)
	seen := map[int]int{}
	for i, row := range rows {
		if seen[ids[i]] = linear.Absent; row.Found {
			seen[ids[i]] = row.Value.N
		}
	}
	return seen, err
}

// readUnawareOf counts as a read where it finds something.
func readUnawareOf(ctx context.Context, p *ledger, id int) (int, bool, error) {
	payload, there, err := readUnaware(ctx, p.rdb, p.key(id), p.format)
	var a account
	if err == nil && there {
		err = json.Unmarshal(payload, &a)
	}
	// Releases of two formats share the key of some: what is there may be another's, which decodes to nothing.
	return a.N, there && a.ID == id, err
}

// readTable asks Postgres: the cache must agree with what others see there.
func readTable(ctx context.Context, p *ledger, id int) (n int, there bool, err error) {
	err = p.plain.QueryRowContext(ctx, "SELECT n FROM accounts WHERE id = $1", id).Scan(&n)
	return n, true, err
}

// evict takes a value away, as Redis does when its memory is full, and tells nothing.
func evict(ctx context.Context, p *ledger, id int) (int, bool, error) {
	name := p.key(id)
	if p.format == "versioned" {
		name = pointerOf(name)
	}
	return 0, false, p.rdb.Del(ctx, name).Err()
}

// sum gives the counters of all processes together.
func (s *linearShop) sum() (sum wtcache.Stats) {
	s.t.Helper()
	for _, p := range append(s.processes, s.coarse) {
		one := p.stats()
		sum.FenceFirst += one.FenceFirst
		sum.LockFirst += one.LockFirst
		sum.CoarseWrites += one.CoarseWrites
		sum.Committed += one.Committed
		sum.InDoubt += one.InDoubt
		sum.Hits += one.Hits
		sum.Fills += one.Fills
		sum.Bypasses += one.Bypasses
		sum.Redis.Stored += one.Redis.Stored
		sum.Redis.FillRefusals += one.Redis.FillRefusals
	}
	return sum
}

// wantNoReports: nothing went wrong that the test did not do itself.
func (s *linearShop) wantNoReports() {
	s.t.Helper()
	for _, p := range append(s.processes, s.coarse) {
		for _, err := range p.heard.reported() {
			if !strings.Contains(err.Error(), "in doubt") {
				s.t.Error(err)
			}
		}
	}
}
