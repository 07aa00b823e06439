package wtcache

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/wtcache/wtcache/cachesync"
	"github.com/wtcache/wtcache/rules"
)

// Cache reads entries: from Redis where they are there, else from the database,
// and then it fills them, under a lease that makes a stale fill impossible. It
// needs nothing but the *sql.DB and is safe for concurrent use.
type Cache struct {
	engine *engine
	db     *sql.DB
	epoch  atomic.Uint64 // of the engine, when the catalogue was looked at for this reader
}

// CacheOf gives the reader of a *sql.DB that was opened through wtcache.
func CacheOf(db *sql.DB) (*Cache, error) {
	e, err := engineOf(db)
	if err != nil {
		return nil, err
	}
	if e.cfg.Mode == ModeOff {
		return nil, configErrorf("wtcache_mode=off has no cache to read; query the database")
	}
	return &Cache{engine: e, db: db}, nil
}

// Read says where a row that Get returned came from.
type Read struct {
	FromCache bool
	// WrittenAt is when the entry was stored, by the Redis server's clock; zero
	// for a read of the database.
	WrittenAt time.Time
	// Version is the entry's place in commit order, 24 hex digits, all zero for an
	// entry that a reader filled; empty for a read of the database.
	Version string
}

// Get reads the row that an entry holds into dest, a pointer to a struct, a map, a
// []byte or a json.RawMessage, decoded from the entry's payload. entry is "table" for a
// rule of one entry, else "table.entry" ("users.by_email"); key gives the values of
// the key template's columns, in its order.
//
// A row that is not there is sql.ErrNoRows. A Redis that does not answer costs its
// deadline and is not an error: the row is read from the database. The context bounds
// the whole call.
func (c *Cache) Get(ctx context.Context, entry string, dest any, key ...any) (Read, error) {
	read, err := c.get(ctx, entry, dest, key)
	if planIsOld(err) {
		// The query was made for another catalogue than the live one.
		c.engine.catalogueChanged()
		read, err = c.get(ctx, entry, dest, key)
	}
	return read, err
}

func (c *Cache) get(ctx context.Context, entry string, dest any, key []any) (Read, error) {
	f, err := c.find(ctx, entry, key)
	if err != nil {
		return Read{}, err
	}
	if c.engine.sync.Owes(f.key) {
		// What this process committed while Redis could not be reached may still be
		// there as it was before.
		c.engine.stats.bypasses.Add(1)
		return c.fromDatabase(ctx, f, dest)
	}
	value, hit, err := c.engine.sync.Get(ctx, f.key, f.format(), f.entry.Schema)
	if err != nil {
		// Redis does not answer; that must not cost the reader more than its deadline.
		c.engine.stats.bypasses.Add(1)
		return c.fromDatabase(ctx, f, dest)
	}
	if hit {
		return c.hit(value, dest)
	}
	c.engine.stats.misses.Add(1)
	return c.miss(ctx, f, dest)
}

func (c *Cache) hit(value cachesync.Value, dest any) (Read, error) {
	c.engine.stats.hits.Add(1)
	return Read{FromCache: true, WrittenAt: value.WrittenAt, Version: value.Version}, decodePayload(value.Payload, dest)
}

// miss takes a lease, looks at the rule's barrier, and only then takes the snapshot
// that the fill will store: a barrier that is looked at after the snapshot may
// already have been lifted by the very commit that the snapshot has missed.
func (c *Cache) miss(ctx context.Context, f found, dest any) (Read, error) {
	lease, err := c.engine.sync.Lease(ctx, f.key, f.format(), f.entry.Schema)
	if err != nil {
		c.engine.stats.bypasses.Add(1)
		return c.fromDatabase(ctx, f, dest)
	}
	switch lease.State {
	case cachesync.LeaseValue:
		return c.hit(lease.Value, dest)
	case cachesync.LeaseBypass:
		c.engine.stats.bypasses.Add(1)
		return c.fromDatabase(ctx, f, dest)
	}
	barred, err := c.engine.sync.BarrierHeld(ctx, f.table.Barrier)
	row, rerr := c.read(ctx, f)
	if err != nil || barred || rerr != nil || !row.fillable(f) {
		c.engine.sync.Release(ctx, lease)
		if rerr != nil {
			return Read{}, rerr
		}
		return Read{}, decodePayload(row.payload, dest)
	}
	filled, err := c.engine.sync.Fill(ctx, lease, cachesync.Entry{
		Payload: row.payload, Schema: f.entry.Schema,
		TTL: f.entry.TTL, Jitter: f.entry.Jitter, Format: f.format(),
	})
	if err == nil && filled {
		c.engine.stats.fills.Add(1)
	}
	return Read{}, decodePayload(row.payload, dest)
}

func (c *Cache) fromDatabase(ctx context.Context, f found, dest any) (Read, error) {
	row, err := c.read(ctx, f)
	if err != nil {
		return Read{}, err
	}
	return Read{}, decodePayload(row.payload, dest)
}

// found is an entry of a rule with the key that was asked for.
type found struct {
	gen   *generation
	table *rules.Table
	entry *rules.BoundEntry
	texts []string // of the key's columns, in the template's order
	key   string
}

func (f found) format() cachesync.Format { return cacheFormat(f.entry.Format) }

func (c *Cache) find(ctx context.Context, name string, key []any) (found, error) {
	gen, err := c.generation(ctx)
	if err != nil {
		return found{}, err
	}
	f := found{gen: gen}
	if f.table, f.entry, err = findEntry(gen.set, name); err != nil {
		return found{}, err
	}
	columns := f.entry.Key.Columns()
	if len(key) != len(columns) {
		return found{}, fmt.Errorf("%w: %s has the key %s, which takes %d values (%s); got %d",
			ErrUnknownEntry, name, f.entry.Key, len(columns), strings.Join(columns, ", "), len(key))
	}
	for i, v := range key {
		text, err := keyText(v)
		if err != nil {
			return found{}, fmt.Errorf("wtcache: key column %s of %s: %w", columns[i], name, err)
		}
		f.texts = append(f.texts, text)
	}
	f.key, _ = f.entry.Key.Render(func(column string) (string, bool) {
		i := slices.Index(columns, column)
		return f.texts[i], true
	})
	return f, nil
}

// generation makes sure that the rules are bound, and bound to the catalogue as it is: a
// reader may come before the first write, or right after a definition was changed. Where
// the database cannot be asked just now, what was known of it serves on.
func (c *Cache) generation(ctx context.Context) (*generation, error) {
	gen, epoch := c.engine.gen.Load(), c.engine.nextEpoch()
	if gen != nil && gen == c.engine.current() && c.epoch.Load() == epoch {
		return gen, nil
	}
	if gen == nil {
		if err := c.look(ctx); err != nil {
			return nil, err
		}
	} else {
		// Bounded: a caller who holds the pool's only connection would wait for itself.
		ctx, cancel := context.WithTimeout(ctx, DefaultRedisTimeout)
		defer cancel()
		_ = c.look(ctx) // what was known serves on; the next epoch tries again
	}
	c.epoch.Store(epoch)
	return c.engine.gen.Load(), nil
}

// look has a connection of the pool look at the catalogue, unless it just did.
func (c *Cache) look(ctx context.Context) error {
	conn, err := c.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // gives it back to the pool
	return conn.Raw(func(driverConn any) error {
		return driverConn.(interface{ current(context.Context) error }).current(ctx)
	})
}

func findEntry(set *rules.Set, name string) (*rules.Table, *rules.BoundEntry, error) {
	var known []string
	for _, t := range set.Tables {
		for _, e := range t.Entries {
			for _, table := range []string{t.Name.Table, t.Name.String()} {
				if name == table+"."+e.Name || name == table && len(t.Entries) == 1 {
					return t, e, nil
				}
			}
			known = append(known, t.Name.Table+"."+e.Name)
		}
	}
	return nil, nil, fmt.Errorf("%w: %q; the rules have %s", ErrUnknownEntry, name, strings.Join(known, ", "))
}

// keyText gives the text of a key value as Postgres would print it. Where it is not
// (a numeric 1.0 for 1.00) the row is found and returned, but not filled.
func keyText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case []byte:
		return string(v), nil
	case fmt.Stringer:
		return v.String(), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	switch rv := reflect.ValueOf(v); rv.Kind() {
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(rv.Int(), 10), nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return strconv.FormatUint(rv.Uint(), 10), nil
	case reflect.String:
		return rv.String(), nil
	}
	return "", fmt.Errorf("a %T cannot be a key value; give a string or an integer", v)
}

// row is what the database has for a key.
type row struct {
	payload  []byte
	key      string // rendered from the row itself
	standby  bool   // read from a server in recovery
	storable bool   // `when` holds, and no session setting stands in the way
}

// fillable says whether the row may be stored under the key that was asked for. A
// standby may not have replayed the last commit; and a row that was found by equality
// may be printed in another way than the key, so that writers would not find this entry.
func (r row) fillable(f found) bool {
	return !r.standby && r.storable && r.key == f.key && !f.gen.degraded
}

// read takes the row from the primary, with the very payload expression that writes use.
func (c *Cache) read(ctx context.Context, f found) (row, error) {
	args := make([]any, len(f.texts))
	for i, t := range f.texts {
		args[i] = t
	}
	rows, err := c.db.QueryContext(ctx, f.table.Read(f.entry.Index), args...)
	if err != nil {
		return row{}, err
	}
	defer func() { _ = rows.Close() }() // read to the end below; its error is Err's
	if !rows.Next() {
		return row{}, cmp.Or(rows.Err(), sql.ErrNoRows)
	}
	r, err := scanRow(rows, f)
	if err == nil && rows.Next() {
		err = fmt.Errorf("wtcache: the key %q is not unique: several rows of %s have it", f.key, f.table.Name)
	}
	return r, cmp.Or(err, rows.Err())
}

// scanRow reads the columns in the layout that rules.Table.Read describes.
func scanRow(rows *sql.Rows, f found) (row, error) {
	columns := f.entry.Key.Columns()
	cells := make([]sql.NullString, len(columns)+3)
	dest := make([]any, len(cells))
	for i := range cells {
		dest[i] = &cells[i]
	}
	if err := rows.Scan(dest...); err != nil {
		return row{}, err
	}
	r := row{
		payload:  []byte(cells[len(columns)].String),
		storable: cells[len(columns)+1].String == "true",
		standby:  cells[len(columns)+2].String == "true",
	}
	r.key, _ = f.entry.Key.Render(func(column string) (string, bool) {
		cell := cells[slices.Index(columns, column)]
		return cell.String, cell.Valid
	})
	return r, nil
}
