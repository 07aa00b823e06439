package wtcache_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/internal/testenv"
)

// shelf is a test's own tables with rules of its own, read through wtcache.Reader.
type shelf struct {
	t                   *testing.T
	dsn, schema, prefix string
	plain               *sql.DB // without wtcache
	db                  *sql.DB // under test
	rdb                 *redis.Client
	sent                *commands // what the driver under test sends to Redis
	heard               *heard
	rules               fstest.MapFS
}

type shelfSetup struct {
	ddl    string            // run in the test's schema
	rules  map[string]string // by file name; {S} is the schema, {P} the key prefix
	redis  string            // URL through which the driver goes; "" is the one that all tests share
	config func(*wtcache.Config)
}

func newShelf(t *testing.T, s shelfSetup) *shelf {
	t.Helper()
	h := &shelf{t: t, prefix: testenv.KeyPrefix(t), heard: &heard{}, rules: fstest.MapFS{}}
	h.dsn, h.schema = testenv.Schema(t, testenv.Postgres(t))
	h.plain = openPlain(t, h.dsn)
	h.must(s.ddl)
	for name, text := range s.rules {
		h.rules[name+".yaml"] = &fstest.MapFile{Data: []byte(strings.NewReplacer("{S}", h.schema, "{P}", h.prefix).Replace(text))}
	}
	if s.redis == "" {
		s.redis = testenv.RealRedis(t)
	}
	h.rdb = redisClient(t, s.redis)
	h.db, h.sent = h.open(s)
	return h
}

// open opens the tables as one more program does.
func (h *shelf) open(s shelfSetup) (*sql.DB, *commands) {
	h.t.Helper()
	if s.redis == "" {
		s.redis = testenv.RealRedis(h.t)
	}
	sent := &commands{}
	cfg := wtcache.Config{
		Redis: redisClient(h.t, s.redis), Rules: h.rules,
		Logger: slog.New(slog.NewTextHandler(h.heard, nil)), OnError: h.heard.error,
		RedisTimeout: 5 * time.Second, // only a server that is dead misses it
		Outbox:       wtcache.OutboxOff,
	}
	if s.config != nil {
		s.config(&cfg)
	}
	cfg.Redis.AddHook(sent)
	db, err := wtcache.OpenDB(pgxConnector(h.t, h.dsn), cfg)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { _ = db.Close() })
	return db, sent
}

// must runs a text behind the cache's back.
func (h *shelf) must(text string, args ...any) {
	h.t.Helper()
	if _, err := h.plain.Exec(text, args...); err != nil {
		h.t.Fatalf("%s: %v", text, err)
	}
}

func (h *shelf) exec(text string, args ...any) {
	h.t.Helper()
	if _, err := h.db.Exec(text, args...); err != nil {
		h.t.Fatalf("%s: %v", text, err)
	}
}

// there says whether Redis has a key, given without the prefix.
func (h *shelf) there(key string) bool {
	h.t.Helper()
	n, err := h.rdb.Exists(context.Background(), h.prefix+key).Result()
	if err != nil {
		h.t.Fatal(err)
	}
	return n > 0
}

func (h *shelf) stats() wtcache.Stats {
	h.t.Helper()
	s, err := wtcache.StatsOf(h.db)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

// databaseReads runs fn and says how many statements readers sent meanwhile.
func (h *shelf) databaseReads(fn func()) uint64 {
	h.t.Helper()
	before := h.stats().DatabaseReads
	fn()
	return h.stats().DatabaseReads - before
}

// readerOf gives a reader that is there.
func readerOf[T any](t testing.TB, db *sql.DB, entry string, opts ...wtcache.ReadOption) *wtcache.Reader[T] {
	t.Helper()
	r, err := wtcache.ReaderOf[T](db, entry, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// row reads a row that need not be there.
func seen[T any](t testing.TB, r *wtcache.Reader[T], key ...any) wtcache.Row[T] {
	t.Helper()
	row, err := r.Row(context.Background(), key...)
	if err != nil {
		t.Fatalf("read %v: %v", key, err)
	}
	return row
}

// commands is a hook that keeps the names of the commands sent. It is safe for concurrent use.
type commands struct {
	mu    sync.Mutex // guards names
	names []string
}

var _ redis.Hook = (*commands)(nil)

func (c *commands) note(cmds ...redis.Cmder) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, cmd := range cmds {
		switch name := cmd.Name(); name {
		case "hello", "client": // of a new connection
		default:
			c.names = append(c.names, name)
		}
	}
}

// count says how many commands were sent so far.
func (c *commands) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.names)
}

// during gives the commands that were sent while fn ran.
func (c *commands) during(fn func()) []string {
	c.mu.Lock()
	from := len(c.names)
	c.mu.Unlock()
	fn()
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.names[from:])
}

func (c *commands) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *commands) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { c.note(cmd); return next(ctx, cmd) }
}

func (c *commands) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { c.note(cmds...); return next(ctx, cmds) }
}

// writtenAt is where the time of writing stands in an entry's header.
const writtenAt = int64(len(`{"version":"`) + 24 + len(`","written_at":`))

// metaOf names the key that holds the header of an entry in format plain or versioned.
func metaOf(key string) string { return strings.TrimSuffix(pointerOf(key), ":current") + ":wtm" }

// backdate makes an entry look as if it had been stored so long ago.
func backdate(t testing.TB, rdb *redis.Client, key, format string, age time.Duration) {
	t.Helper()
	ctx := context.Background()
	text := strconv.FormatInt(time.Now().Add(-age).UnixMilli(), 10)
	at := key
	if format == "plain" || format == "versioned" {
		at = metaOf(key)
	}
	n, err := rdb.Exists(ctx, at).Result()
	switch {
	case err != nil || n == 0:
		t.Fatalf("there is no %s to be made older (%v)", at, err)
	case format == "hash":
		err = rdb.HSet(ctx, at, "written_at", text).Err()
	default:
		err = rdb.SetRange(ctx, at, writtenAt, text).Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func isNoRows(err error) bool { return errors.Is(err, sql.ErrNoRows) }

// hookOnce has fn run at the next crash point of this name.
func (h *shelf) hookOnce(t *testing.T, point string, fn func()) {
	t.Helper()
	done := false
	wtcache.AtCrashPoint(t, func(p string) {
		if p == point && !done {
			done = true
			fn()
		}
	})
}
