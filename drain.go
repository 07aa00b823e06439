package wtcache

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/wtcache/wtcache/internal/outbox"
)

// Drained is what Drain has done.
type Drained struct {
	Rows   int64 // taken out of the outbox
	Keys   int64 // made absent in Redis, each once a batch
	Sweeps int64 // rules of which every key was made absent
	Left   int64 // rows that are still there: they cannot be read or settled, or others have written them meanwhile
}

// ErrNotDrained is wrapped by Drain's error where rows are left.
var ErrNotDrained = outbox.ErrNotDrained

// drainStuck is the number of tries, of a second each, without any progress after which Drain gives up.
const drainStuck = 3

// Drain settles with Redis what the outbox of the Postgres behind base holds, until nothing is left of what was there at the call. Programs do so by
// themselves; Drain is for when none of them runs. Several may run at a time. The context bounds the whole. An error that wraps
// ErrNotDrained says that rows are left, and with it why, as far as it is known.
func Drain(ctx context.Context, base driver.Connector, cfg Config) (Drained, error) {
	var last lastError
	cfg.OnError = last.set
	e, err := newEngine(cfg)
	if err != nil {
		return Drained{}, err
	}
	defer e.close()
	if e.sync == nil {
		return Drained{}, configErrorf("mode off names no Redis to drain to; use strict or eventual")
	}
	if e.cfg.Outbox == OutboxOff {
		return Drained{}, configErrorf("there is no outbox to drain: it is off")
	}
	if err := e.hasOutbox(ctx, base); err != nil {
		return Drained{}, err
	}
	db := sql.OpenDB(struct{ driver.Connector }{base}) // hides its Close: base is the caller's
	defer db.Close()
	box := outbox.New(outbox.Options{
		DB: db, Schema: e.cfg.Outbox, Settler: drainSettler{settler{e}}, OnError: last.set, Logger: slog.New(slog.DiscardHandler),
	})
	defer box.Close()
	err = drainAll(ctx, box)
	if err != nil {
		err = errors.Join(err, last.get())
	}
	stats := box.Stats()
	return Drained{Rows: stats.Rows, Keys: stats.Keys, Sweeps: stats.Sweeps, Left: stats.Depth}, err
}

func (e *engine) hasOutbox(ctx context.Context, base driver.Connector) error {
	c, err := e.bareConn(ctx, base)
	if err != nil {
		return err
	}
	defer c.base.conn.Close()
	return outbox.Check(ctx, c.querier(), e.cfg.Outbox)
}

func drainAll(ctx context.Context, box *outbox.Box) error {
	for stuck, rows := 0, int64(0); ; {
		err := box.Drained(ctx) // waits for up to a second, which can end in the middle of a look
		if err == nil || ctx.Err() != nil || !errors.Is(err, outbox.ErrNotDrained) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		now := box.Stats().Rows
		if stuck++; now > rows {
			stuck, rows = 0, now
		}
		if stuck == drainStuck {
			return fmt.Errorf("%w: no row was settled in the last seconds", ErrNotDrained)
		}
	}
}

// drainSettler always tries: whoever drains by hand wants that.
type drainSettler struct{ settler }

func (drainSettler) Reachable() bool { return true }

// lastError keeps the latest of the errors that arise in the background.
type lastError struct {
	mu  sync.Mutex // guards err
	err error
}

func (l *lastError) set(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = err
}

func (l *lastError) get() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}
