package torture

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib" // for caches written by hand

	"github.com/wtcache/wtcache"
)

// image is what a row is after a write.
type image struct {
	place
	value int
	there bool
}

// seen is what a reader was told.
type seen struct {
	value  int
	there  bool
	cached bool // Redis served it
}

// cache is a database and what keeps a cache beside it. It is safe for concurrent use.
type cache interface {
	db() *sql.DB
	// get reads rows of one table by one of its entries.
	get(ctx context.Context, rows []place, how reading) ([]seen, error)
	// written is told what was committed, before the writer's caller is.
	written(ctx context.Context, rows []image)
	state() state
	// dieAt has the next write kill the process at a named point.
	dieAt(point string)
}

// reading is a way to read.
type reading int

const (
	byID reading = iota
	byCode
	fresh
)

func (r reading) String() string { return [...]string{"Get", "Get by code", "Fresh"}[r] }

func openCache(c childConfig) (cache, error) {
	if c.Mode != Through {
		return openByHand(c)
	}
	db, err := openDB("wtcache", c)
	if err != nil {
		return nil, err
	}
	t := &through{sql: db}
	for i, table := range tables {
		r, err := wtcache.ReaderOf[row](db, table.name+".by_id")
		if err != nil {
			return nil, err
		}
		t.byID = append(t.byID, r)
		if (place{table: i}).hasCode() {
			if t.byCode, err = wtcache.ReaderOf[row](db, table.name+".by_code"); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

func openDB(driver string, c childConfig) (*sql.DB, error) {
	db, err := sql.Open(driver, c.DSN)
	if err == nil {
		db.SetMaxOpenConns(2 * c.Clients)
		db.SetMaxIdleConns(2 * c.Clients)
		// What was killed behind a proxy is found out.
		db.SetConnMaxLifetime(time.Minute)
	}
	return db, err
}

// row is what readers want of a row.
type row struct {
	ID   int    `json:"id"`
	Code string `json:"code"`
	N    int    `json:"n"`
}

// through is the library, used as its README says.
type through struct {
	sql    *sql.DB
	byID   []*wtcache.Reader[row] // by table
	byCode *wtcache.Reader[row]
}

func (t *through) db() *sql.DB { return t.sql }

func (t *through) get(ctx context.Context, rows []place, how reading) ([]seen, error) {
	r := t.byID[rows[0].table]
	if how == byCode {
		r = t.byCode
	}
	if how == fresh {
		r = r.With(wtcache.Fresh())
	}
	if len(rows) == 1 {
		got, err := r.Row(ctx, keyFor(rows[0], how))
		if err != nil {
			return nil, err
		}
		s, err := check(rows[0], got)
		return []seen{s}, err
	}
	keys := make([]any, len(rows))
	for i, p := range rows {
		keys[i] = keyFor(p, how)
	}
	many, err := r.GetMany(ctx, keys...)
	if err != nil {
		return nil, err
	}
	all := make([]seen, len(rows))
	for i, got := range many {
		if all[i], err = check(rows[i], got); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func keyFor(p place, how reading) any {
	if how == byCode {
		return p.code()
	}
	return p.row
}

// errAnotherRow ends a run: it is worse than a stale read.
var errAnotherRow = errors.New("torture: a reader was given another row than it asked for")

func check(p place, got wtcache.Row[row]) (seen, error) {
	if got.Found && (got.Value.ID != p.row || got.Value.Code != p.code()) {
		return seen{}, fmt.Errorf("%w: %v for %v", errAnotherRow, got.Value, p)
	}
	return seen{got.Value.N, got.Found, got.FromCache}, nil
}

func (t *through) written(context.Context, []image) {}

func (t *through) state() state {
	s, err := wtcache.StatsOf(t.sql)
	if err != nil {
		return state{Error: err.Error()}
	}
	return state{Owed: s.Redis.Owed, InDoubt: s.InDoubt - s.DoubtCommitted - s.DoubtAborted - s.DoubtFinished - s.DoubtExpired}
}

func (t *through) dieAt(point string) { dieAt(point) }
