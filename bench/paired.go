package main

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"time"
)

// A paired measure takes the times of its ways side by side: each worker executes them in turn, over the one connection to
// Postgres that they share. With slices of their own, or backends of their own, the ways would differ by how the system
// wakes the two processes that wait for each other: one way or the other by chance, and for as long as a slice.

// seat is a worker's place in a paired measure.
type seat struct {
	ways []*way
	conn driver.Conn // what all of its ways have for a connection to Postgres
}

// seatKey is the key of the *seat for which a context opens a connection.
type seatKey struct{}

// lender opens connections; for a seat it gives the seat's own.
type lender struct{ driver.Connector }

func (l lender) Connect(ctx context.Context) (driver.Conn, error) {
	at, seated := ctx.Value(seatKey{}).(*seat)
	if !seated {
		return l.Connector.Connect(ctx)
	}
	if at.conn == nil {
		conn, err := l.Connector.Connect(ctx)
		if err != nil {
			return nil, err
		}
		at.conn = conn
	}
	return at.conn, nil
}

// unowned is a connector that ends with somebody else's pool: it hides Close.
type unowned struct{ driver.Connector }

// sit adds to a seat what a way does, with a pool of one connection.
func (m *measure) sit(ctx context.Context, at *seat, w *way) error {
	own := *w
	own.db = sql.OpenDB(unowned{w.connector})
	own.db.SetMaxOpenConns(1)
	own.do = m.how[w.name](&own)
	at.ways = append(at.ways, &own)
	return own.db.PingContext(context.WithValue(ctx, seatKey{}, at)) // it has the connection from here on
}

// seats gives each worker a seat with all ways, and what closes their pools.
func (m *measure) seats(ctx context.Context, ways []*way, workers int) (all []*seat, done func() error, err error) {
	done = func() error {
		var errs []error
		for _, at := range all {
			for _, own := range at.ways {
				errs = append(errs, own.db.Close())
			}
		}
		return errors.Join(errs...)
	}
	for range workers {
		at := &seat{}
		all = append(all, at)
		for _, w := range ways {
			if err := m.sit(ctx, at, w); err != nil {
				return nil, nil, errors.Join(err, done())
			}
		}
	}
	return all, done, nil
}

// together lets all ways work in one slice, as long as one of each.
func together(ctx context.Context, seats []*seat, long time.Duration) ([]timing, error) {
	turns := make([][]*way, len(seats))
	for i, at := range seats {
		turns[i] = at.ways
	}
	began := time.Now()
	long *= time.Duration(len(turns[0]))
	times, err := work(ctx, turns, func() bool { return time.Since(began) >= long })
	if err != nil {
		return nil, err
	}
	timings := make([]timing, len(times))
	for i := range times {
		var took time.Duration
		for _, one := range times[i] {
			took += one
		}
		timings[i] = timingOf(times[i], took/time.Duration(len(seats)))
	}
	return timings, nil
}
