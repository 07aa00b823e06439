package wtcachetest

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/DATA-DOG/go-sqlmock"
	"github.com/redis/go-redis/v9"

	"github.com/wtcache/wtcache"
	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// Cache is the cache behind a database of New: what it holds, what happened to it, and
// what the test says of the tables. It is safe for concurrent use. Its methods fail the
// test of New; those that take a table end it where no rule is for that table.
type Cache struct {
	t     testing.TB
	model *model
	set   *rules.Set
	whens map[string]func(Row) bool
	log   *log
	lines *lines

	db      *sql.DB
	mockDB  *sql.DB
	mock    sqlmock.Sqlmock
	redis   *memoryRedis
	inside  *redis.Client // the driver's
	outside *redis.Client // the test's own, which Down does not reach
	sync    *cachesync.Client
	asks    map[string]question // what the driver's reader sends
	version atomic.Uint64

	mu       sync.Mutex // guards all below
	rows     map[*table][]Row
	declared map[*table][][]Row // of each WillCapture that no write has taken yet
	ended    bool
}

// Rows says what a table holds: all of it, as far as the test is concerned. Reads that
// miss the cache find these rows, and so do the writes that are captured: an UPDATE leaves
// the row that it finds here with what it sets. Each write that commits changes them; after
// one whose rows are not known (TRUNCATE, MERGE, a foreign key's action) they are forgotten,
// and to be said again before they are read.
// The columns that a rule stores or makes keys of have to be there.
//
// No rows at all say that the table is empty.
func (c *Cache) Rows(tableName string, rows ...Row) {
	c.t.Helper()
	t := c.table(tableName, rows)
	kept := make([]Row, len(rows))
	for i, row := range rows {
		kept[i] = row.clone()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rows[t] = kept
}

// WillCapture says which rows the next write of the table leaves (of a DELETE: takes
// away), for what neither Rows nor the statement shows: defaults, sequences, expressions,
// INSERT … SELECT. Columns that the statement shows may be left out. Called again it is for
// the write after. The write has to affect as many rows, or none.
func (c *Cache) WillCapture(tableName string, rows ...Row) {
	c.t.Helper()
	t := c.table(tableName, rows)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.declared[t] = append(c.declared[t], rows)
}

// table finds a table of the rules and checks the rows' columns.
func (c *Cache) table(name string, rows []Row) *table {
	c.t.Helper()
	t, err := c.model.find(name)
	if err != nil {
		c.t.Fatalf("wtcachetest: %v", err)
	}
	for _, row := range rows {
		for column := range row {
			if t.column(column) == nil && !t.sketch {
				c.t.Fatalf("wtcachetest: %s has no column %q; it has %s", t.name, column, strings.Join(t.columnNames(), ", "))
			}
		}
	}
	return t
}

// Put stores a row's entries as a reader would have: what is there before the test's code
// runs. The table's content is not changed by it, see Rows.
func (c *Cache) Put(tableName string, row Row) {
	c.t.Helper()
	t := c.table(tableName, []Row{row})
	for _, bound := range c.set.Tables {
		if bound.Name != t.name {
			continue
		}
		for _, e := range bound.Entries {
			if err := c.fill(t, bound, e, row); err != nil {
				c.t.Fatalf("wtcachetest: put %s: %v", t.name, err)
			}
		}
	}
}

func (c *Cache) fill(t *table, bound *rules.Table, e *rules.BoundEntry, row Row) error {
	stored, err := holds(c.whens, bound, e, row)
	if err != nil || !stored {
		return err
	}
	payload, missing, err := object(t, e, row)
	if err != nil {
		return err
	}
	key, lacking, err := renderKey(t, e, row)
	if missing = append(lacking, missing...); len(missing) > 0 {
		return fmt.Errorf("entry %q needs %s", e.Key, strings.Join(missing, ", "))
	}
	if err != nil || key == "" {
		return err
	}
	ctx, format := context.Background(), formatOf(e)
	if err := c.sync.Invalidate(ctx, []string{key}, ""); err != nil {
		return err
	}
	lease, err := c.sync.Lease(ctx, key, format, e.Schema)
	if err != nil {
		return err
	}
	filled, err := c.sync.Fill(ctx, lease, cachesync.Entry{Payload: []byte(payload), Schema: e.Schema, TTL: e.TTL, Format: format})
	if err == nil && !filled {
		err = fmt.Errorf("%s is fenced by a write", key)
	}
	return err
}

func formatOf(e *rules.BoundEntry) cachesync.Format {
	format, _ := cachesync.FormatOf(string(e.Format)) // the rules know no others
	return format
}

// renderKey gives an entry's key of a row, "" where a NULL keeps it from having one.
func renderKey(t *table, e *rules.BoundEntry, row Row) (key string, missing []string, err error) {
	key, _ = e.Key.Render(func(column string) (string, bool) {
		v, known := row[column]
		if !known {
			missing = append(missing, column)
		}
		text, ok, terr := t.column(column).textOf(v)
		if terr != nil {
			err = terr
		}
		return text, ok && terr == nil
	})
	return key, missing, err
}

// Down makes Redis unreachable, until Up. A write that its rule refuses meanwhile
// (redis_down: refuse) may have been sent before or not at all, as in production: where its
// keys follow from its text and arguments the driver finds out before it sends it.
func (c *Cache) Down() { c.redis.setDown(true) }

// Up makes Redis reachable again, and waits until the driver has noticed and has made
// absent what it owes: a test that goes on then sees what a service soon sees.
func (c *Cache) Up() {
	c.t.Helper()
	c.redis.setDown(false)
	ctx, cancel := context.WithTimeout(context.Background(), upLimit)
	defer cancel()
	for ctx.Err() == nil {
		stats, err := wtcache.StatsOf(c.db)
		if err != nil {
			c.t.Fatalf("wtcachetest: %v", err)
		}
		if stats.Redis.Owed == 0 && c.answers(ctx) {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(upPause):
		}
	}
	c.t.Fatalf("wtcachetest: the driver did not find Redis again within %v", upLimit)
}

const (
	upLimit = 30 * time.Second
	upPause = 10 * time.Millisecond
)

// answers says whether the driver sends Redis anything again: after failures it refuses for
// a while by itself. It asks for a row that no test has.
func (c *Cache) answers(ctx context.Context) bool {
	reader, err := wtcache.CacheOf(c.db)
	if err != nil || len(c.set.Tables) == 0 {
		return true // there is no reader, so nothing that refuses
	}
	bound := c.set.Tables[0]
	e := bound.Entries[0]
	key := make([]any, len(e.Key.Columns()))
	for i := range key {
		key[i] = nobody
	}
	before := c.bypasses()
	var row []byte
	_, _ = reader.Get(ctx, bound.Name.String()+"."+e.Name, &row, key...) // there is no such row
	return c.bypasses() == before
}

// nobody is the key of a row that is nowhere.
const nobody = "wtcachetest: nobody"

func (c *Cache) bypasses() uint64 {
	stats, err := wtcache.StatsOf(c.db)
	if err != nil {
		c.t.Errorf("wtcachetest: %v", err)
	}
	return stats.Bypasses
}

// Advance moves Redis' clock on: leases, fences and entries whose life ends meanwhile are
// gone. It stands still otherwise.
func (c *Cache) Advance(d time.Duration) { c.redis.advance(d) }

// Payload gives what a key holds, as JSON; ok is false where it is absent to readers.
func (c *Cache) Payload(key string) (payload string, ok bool) {
	for _, bound := range c.set.Tables {
		for _, e := range bound.Entries {
			value, found, err := c.sync.Get(context.Background(), key, formatOf(e), e.Schema)
			if err == nil && found {
				return string(value.Payload), true
			}
		}
	}
	return "", false
}

// Reset forgets what happened, so that what is expected next counts from here. What the
// cache and the tables hold stays.
func (c *Cache) Reset() { c.log.reset() }

// commit makes changes the tables' content.
func (c *Cache) commit(changes []pendingChange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range changes {
		rows, known := c.rows[p.table]
		if rows, known = p.table.after(rows, known, p); known {
			c.rows[p.table] = rows
		} else {
			delete(c.rows, p.table)
		}
	}
}

func (c *Cache) content(t *table) (rows []Row, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	rows, ok = c.rows[t]
	return rows, ok
}

// takeDeclared gives what WillCapture said of the write, nil for nothing. A write that
// affects no row leaves it to the next.
func (c *Cache) takeDeclared(t *table, affected int) []Row {
	c.mu.Lock()
	defer c.mu.Unlock()
	if affected == 0 || len(c.declared[t]) == 0 {
		return nil
	}
	rows := c.declared[t][0]
	c.declared[t] = c.declared[t][1:]
	if rows == nil {
		rows = []Row{}
	}
	return rows
}

func (c *Cache) closing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ended
}

// nextVersion is a place in a WAL that grows with every write.
func (c *Cache) nextVersion() string {
	return fmt.Sprintf("000000010/%X", 0x1000+8*c.version.Add(1))
}
