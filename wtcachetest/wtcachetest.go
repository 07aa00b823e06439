package wtcachetest

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// New makes a database for one test: the *sql.DB that the code under test gets, the mock
// on which the statements of that code are expected, and the cache behind both. Rules
// are needed (Rules, RulesFrom or RulesFS); all else is optional.
//
// What is wrong with the rules ends the test, as it would keep the program from starting.
// At the test's end all is closed, and expectations that were not met fail it, so that no
// call of mock.ExpectationsWereMet is needed. Nothing is shared between two calls of New:
// tests may be parallel. Like any sqlmock, the expectations of one test are to be set
// before the code under test runs them.
func New(t testing.TB, options ...Option) (*sql.DB, sqlmock.Sqlmock, *Cache) {
	t.Helper()
	s := &setup{whens: map[string]func(Row) bool{}}
	for _, option := range options {
		if err := option(s); err != nil {
			t.Fatalf("wtcachetest: %v", err)
		}
	}
	c, err := open(t, s)
	if err != nil {
		t.Fatalf("wtcachetest: %v", err)
	}
	return c.db, c.mock, c
}

// Limits are generous, since a slow machine is no Redis that is down, and no reader that
// does not fill; and Redis that is down is so at once.
const (
	redisTimeout = 5 * time.Second
	fillWait     = 2 * time.Second
)

func open(t testing.TB, s *setup) (*Cache, error) {
	t.Helper()
	lines := &lines{t: t}
	cfg := wtcache.Config{Outbox: wtcache.OutboxOff, Logger: slog.New(slog.NewTextHandler(lines, nil)), RedisTimeout: redisTimeout, FillWait: fillWait}
	for _, change := range s.configure {
		change(&cfg)
	}
	all, err := s.load(&cfg)
	if err != nil {
		return nil, err
	}
	defs, err := s.definitions()
	if err != nil {
		return nil, err
	}
	m, err := newModel(all, defs)
	if err != nil {
		return nil, err
	}
	if s.mock == nil {
		if s.mockDB, s.mock, err = sqlmock.New(); err != nil {
			return nil, err
		}
	}
	c := &Cache{
		t: t, model: m, whens: s.whens, mock: s.mock, mockDB: s.mockDB, lines: lines,
		redis: newMemoryRedis(), log: &log{}, rows: map[*table][]Row{}, declared: map[*table][][]Row{},
	}
	t.Cleanup(c.close)
	return c, c.connect(cfg)
}

// connect opens the database, and one connection of it, so that rules which do not fit
// are found now.
func (c *Cache) connect(cfg wtcache.Config) error {
	ctx := context.Background()
	c.outside, c.inside = c.redis.client(true), c.redis.client(false)
	var err error
	// The test's looks are not the program's: what they find unfit is not to be logged.
	if c.sync, err = cachesync.New(c.outside, cachesync.Options{Deadline: redisTimeout, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	if c.set, err = bind(ctx, c.model); err != nil {
		return err
	}
	c.asks = questions(c.set)
	c.log.inspect = c.Payload
	c.inside.AddHook(watcher{c.log})
	cfg.Redis = c.inside
	base, ok := c.mock.(mockConn)
	if !ok {
		return fmt.Errorf("the mock is a %T, which is no connection of sqlmock's", c.mock)
	}
	if c.db, err = wtcache.OpenDB(&connector{cache: c, mock: base}, cfg); err != nil {
		return err
	}
	first, err := c.db.Conn(ctx)
	if err != nil {
		return err
	}
	return first.Close()
}

// bind binds the rules as the driver does, to know what its reader asks.
func bind(ctx context.Context, m *model) (*rules.Set, error) {
	catalog, err := rules.LoadCatalog(ctx, m.ask, m.rules)
	if err != nil {
		return nil, err
	}
	set, faults, _ := rules.Bind(m.rules, catalog)
	if len(faults) > 0 {
		return nil, fmt.Errorf("the rules do not fit the schema:\n%w", &rules.Error{Findings: faults})
	}
	return set, nil
}

// close ends what New began, and fails the test for what it did not do.
func (c *Cache) close() {
	c.t.Helper()
	if err := c.mock.ExpectationsWereMet(); err != nil {
		c.t.Errorf("wtcachetest: %v\n%s", err, c.happened())
	}
	for t, rows := range c.declared {
		if len(rows) > 0 {
			c.t.Errorf("wtcachetest: WillCapture declared rows of %s that no statement wrote\n%s", t.name, c.happened())
		}
	}
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	if c.db != nil {
		_ = c.db.Close() // what it still owed is of no use to anybody
	}
	c.closeRedis()
	_ = c.mockDB.Close() // the mock expects no Close
	c.lines.end()
}

func (c *Cache) closeRedis() {
	for _, client := range []*redis.Client{c.inside, c.outside} {
		if client != nil {
			_ = client.Close() // it is in memory
		}
	}
	if c.sync != nil {
		_ = c.sync.Close() // it owes nothing
	}
	c.redis.server.Close()
}

// lines hands what the driver logs, and what is wrong with the test, to the test while it
// runs: a reader's work on the database goes on where its caller does not wait any longer.
type lines struct {
	mu sync.Mutex // guards t, and its methods against the test's end
	t  testing.TB // nil when the test has ended
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		l.t.Helper()
		l.t.Logf("%s", strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// fail fails the test.
func (l *lines) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.t != nil {
		l.t.Helper()
		l.t.Errorf("%v", err)
	}
}

func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.t = nil
}
