package outbox

import (
	"context"
	"database/sql/driver"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
)

// Pauses before the connection for LISTEN is opened again.
const (
	listenPauseMin = 500 * time.Millisecond
	listenPauseMax = 30 * time.Second
)

var errNotPgx = errors.New("wtcache: the base driver is not pgx")

// listen wakes the worker when somebody announces an outage, ends one, or hands something to the outbox. What it misses, the worker finds
// a little later by itself.
func (b *Box) listen() {
	// A pool so small would not have a connection left for polls while a batch is settled.
	if most := b.o.DB.Stats().MaxOpenConnections; most > 0 && most < 4 {
		return
	}
	for pause := listenPauseMin; ; {
		began := time.Now()
		err := b.listenOnce()
		if b.ctx.Err() != nil || errors.Is(err, errNotPgx) {
			return
		}
		if time.Since(began) > listenPauseMax {
			pause = listenPauseMin
		}
		if !await(b.ctx, b.ctx, time.After(jitter(pause))) {
			return
		}
		pause = min(2*pause, listenPauseMax)
	}
}

// listenOnce waits for notifications until the connection fails, which it then always is thrown away for.
func (b *Box) listenOnce() error {
	ctx, cancel := context.WithTimeout(b.ctx, requestTimeout)
	defer cancel()
	conn, err := b.o.DB.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var failed error
	err = conn.Raw(func(driverConn any) error {
		c, ok := driverConn.(*stdlib.Conn)
		if !ok {
			return errNotPgx
		}
		failed = b.hear(c)
		return driver.ErrBadConn
	})
	if errors.Is(err, errNotPgx) {
		return err
	}
	return failed
}

func (b *Box) hear(c *stdlib.Conn) error {
	ctx, cancel := context.WithTimeout(b.ctx, requestTimeout)
	_, err := c.Conn().Exec(ctx, "LISTEN "+quote(b.text.channel))
	cancel()
	if err != nil {
		return err
	}
	b.o.seams.at("listening")
	for {
		b.Nudge() // at first, too: something may have been missed
		if _, err := c.Conn().WaitForNotification(b.ctx); err != nil {
			return err
		}
		b.o.seams.at("heard")
	}
}
