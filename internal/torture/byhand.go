package torture

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// byHand is the cache that everybody writes. It is as careful as its kind: errors of Redis are logged and do not fail a write
// that is committed, entries have a TTL, and calls to Redis have the deadline that wtcache's have.
type byHand struct {
	sql    *sql.DB
	rdb    *redis.Client
	mode   Mode
	death  atomic.Pointer[string] // the point to die at
	expire time.Duration
}

func openByHand(c childConfig) (cache, error) {
	db, err := openDB("pgx", c)
	if err != nil {
		return nil, err
	}
	o, err := redis.ParseURL(c.Redis)
	if err != nil {
		return nil, err
	}
	const deadline = 250 * time.Millisecond
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = deadline, deadline, deadline
	o.ContextTimeoutEnabled = true
	return &byHand{sql: db, rdb: redis.NewClient(o), mode: c.Mode, expire: 10 * time.Minute}, nil
}

func (b *byHand) db() *sql.DB { return b.sql }

func (b *byHand) get(ctx context.Context, rows []place, how reading) ([]seen, error) {
	all := make([]seen, len(rows))
	for i, p := range rows {
		var err error
		if all[i], err = b.one(ctx, p, how); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (b *byHand) one(ctx context.Context, p place, how reading) (seen, error) {
	name := p.names()[0]
	if how == byCode {
		name = p.names()[1]
	}
	var r row
	if how != fresh {
		text, err := b.rdb.Get(ctx, name).Bytes()
		if err == nil {
			err = json.Unmarshal(text, &r)
			return seen{r.N, true, true}, err
		}
	}
	err := b.sql.QueryRowContext(ctx, "SELECT id, code, n FROM "+p.name()+" WHERE id = $1", p.row).Scan(&r.ID, &r.Code, &r.N)
	if errors.Is(err, sql.ErrNoRows) {
		return seen{}, nil
	}
	if err != nil {
		return seen{}, err
	}
	if how != fresh {
		b.set(ctx, name, r)
	}
	return seen{r.N, true, false}, nil
}

func (b *byHand) set(ctx context.Context, name string, r row) {
	text, err := json.Marshal(r)
	if err == nil {
		err = b.rdb.Set(ctx, name, text, b.expire).Err()
	}
	if err != nil {
		slog.WarnContext(ctx, "the cache was not written", "key", name, "error", err)
	}
}

func (b *byHand) written(ctx context.Context, rows []image) {
	b.point("committed")
	for _, r := range rows {
		for _, name := range r.names() {
			if b.mode == DualWrite && r.there {
				b.set(ctx, name, row{r.row, r.code(), r.value})
			} else if err := b.rdb.Del(ctx, name).Err(); err != nil {
				slog.WarnContext(ctx, "the cache was not written", "key", name, "error", err)
			}
		}
	}
	b.point("applied")
}

func (b *byHand) state() state { return state{} }

func (b *byHand) dieAt(point string) { b.death.Store(&point) }

func (b *byHand) point(name string) {
	if at := b.death.Load(); at != nil && *at == name {
		die()
	}
}
