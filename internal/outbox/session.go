package outbox

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// requestTimeout bounds each short statement, with its connection.
const requestTimeout = 5 * time.Second

// with runs f on a connection. One that leads to a server which does not take writes (a standby, a primary that was deposed) is thrown
// away: the next one may lead to the primary.
func (b *Box) with(ctx context.Context, f func(*sql.Conn) error) error {
	conn, err := b.o.DB.Conn(ctx)
	if err != nil {
		return err
	}
	err = f(conn)
	if errors.Is(err, errStandby) || stateOf(err) == readOnlyTransaction {
		// Raw throws a connection away whose function says ErrBadConn.
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return errors.Join(err, ignoreDone(conn.Close()))
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrConnDone) {
		return nil
	}
	return err
}

// query runs a statement that gives one row.
func (b *Box) query(ctx context.Context, text string, args []any, dest ...any) error {
	return b.with(ctx, func(c *sql.Conn) error {
		return c.QueryRowContext(ctx, text, b.args(args...)...).Scan(dest...)
	})
}

// queryPrimary is query for a statement whose first column says whether the server is a standby: what that one shows may be old.
func (b *Box) queryPrimary(ctx context.Context, text string, args []any, dest ...any) error {
	return b.with(ctx, func(c *sql.Conn) error {
		var recovers bool
		if err := c.QueryRowContext(ctx, text, b.args(args...)...).Scan(append([]any{&recovers}, dest...)...); err != nil {
			return err
		}
		if recovers {
			return errStandby
		}
		return nil
	})
}

// exec runs a statement and gives the number of rows.
func (b *Box) exec(ctx context.Context, text string, args ...any) (n int64, err error) {
	err = b.with(ctx, func(c *sql.Conn) error {
		res, err := c.ExecContext(ctx, text, b.args(args...)...)
		if err != nil {
			return err
		}
		n, err = res.RowsAffected()
		return err
	})
	return n, err
}

func (b *Box) args(args ...any) []any { return append(append([]any(nil), b.mode...), args...) }

// SQLSTATEs. Source: https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	foreignKeyViolation = "23503"
	readOnlyTransaction = "25006"
)

var errStandby = errors.New("wtcache: the outbox's connection leads to a standby")

func stateOf(err error) string {
	var s interface{ SQLState() string }
	if errors.As(err, &s) {
		return s.SQLState()
	}
	return ""
}

// Gone says whether an Insert failed because its outage is not there (any more), or is not visible to the transaction's snapshot. The
// caller then calls Doubted.
func Gone(err error) bool { return stateOf(err) == foreignKeyViolation }

// jitter gives a duration at random between half and one and a half times d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(max(d, 1)) }

// reportEach is how often the same kind of trouble is told.
const reportEach = time.Minute

// reports keeps trouble that comes back every few milliseconds from flooding a log.
type reports struct {
	mu   sync.Mutex
	last map[string]time.Time
}

// report tells the logger and OnError, of one kind at most once each reportEach.
func (b *Box) report(kind string, err error) {
	if b.ctx.Err() != nil {
		return
	}
	now := time.Now()
	b.reports.mu.Lock()
	if b.reports.last == nil {
		b.reports.last = make(map[string]time.Time)
	}
	recent := now.Sub(b.reports.last[kind]) < reportEach
	if !recent {
		b.reports.last[kind] = now
	}
	b.reports.mu.Unlock()
	if recent {
		return
	}
	b.o.Logger.Error("wtcache: "+kind, "schema", b.o.Schema, "error", err)
	b.o.OnError(err)
}
