package fakedriver

import (
	"context"
	"database/sql/driver"
	"fmt"
	"io"
	"strings"
	"sync"
)

// Op is what the base was asked to do.
type Op string

// The operations. Those that are named "legacy" have a form with a context, which database/sql prefers.
const (
	Open          Op = "open"            // of a driver; SQL is the DSN
	OpenConnector Op = "open connector"  // the same
	CloseBase     Op = "close connector" // of one that can be closed
	Connect       Op = "connect"
	Close         Op = "close"
	Ping          Op = "ping"
	Reset         Op = "reset"
	Valid         Op = "valid" // an error in the reply means: not valid
	Begin         Op = "begin"
	Commit        Op = "commit"
	Rollback      Op = "rollback"
	Prepare       Op = "prepare"
	CloseStmt     Op = "close statement"
	Exec          Op = "exec"
	Query         Op = "query"
	Check         Op = "check" // a NamedValueChecker's
	CheckStmt     Op = "check statement"
	CloseRows     Op = "close rows"
	LegacyBegin   Op = "legacy begin"
	LegacyPrepare Op = "legacy prepare"
	LegacyExec    Op = "legacy exec"
	LegacyQuery   Op = "legacy query"
)

// Call is one thing that the base was asked.
type Call struct {
	Op       Op
	Conn     int    // which of the base's connections, counted from 1
	SQL      string // of a statement
	Prepared bool   // the statement was prepared beforehand
	Args     []driver.NamedValue
	Options  driver.TxOptions // of Begin
}

func (c Call) String() string {
	var b strings.Builder
	b.WriteString(string(c.Op))
	if c.Prepared {
		b.WriteString(" prepared")
	}
	if c.SQL != "" {
		b.WriteString(" " + c.SQL)
	}
	for _, a := range c.Args {
		fmt.Fprintf(&b, " %s=%T(%v)", a.Name, a.Value, a.Value)
	}
	if c.Op == Begin {
		fmt.Fprintf(&b, " isolation %d, read-only %v", c.Options.Isolation, c.Options.ReadOnly)
	}
	return b.String()
}

// Reply is what the base answers. The zero value is success with nothing in it.
type Reply struct {
	Err  error
	Wait <-chan struct{} // the call returns when it is closed, or with the context's error when that ends before

	// Of a statement that gives rows.
	Columns  []Column
	Rows     [][]driver.Value
	RowsErr  error   // after the rows, in place of io.EOF
	CloseErr error   // of Rows.Close
	Further  []Reply // the result sets after the first

	// Of one that does not.
	Affected    int64
	AffectedErr error
	InsertID    int64
	InsertIDErr error // driver.RowsAffected's own where it and InsertID are zero

	// Value replaces a checked value where it is not nil.
	Value driver.Value
}

// Base is a driver.Connector whose connections show the chosen interfaces. It is safe for concurrent use; its fields
// are set before it is used.
type Base struct {
	Features Feature
	// Answer gives the reply to a call. It is called without a lock, and by several goroutines.
	Answer func(Call) Reply
	// Converter is what every ColumnConverter gives.
	Converter driver.ValueConverter

	mu    sync.Mutex // guards what follows; no call leaves the package under it
	calls []Call
	conns int
}

var (
	_ driver.Connector     = (*Base)(nil)
	_ io.Closer            = ClosingBase{}
	_ driver.Driver        = DSNDriver{}
	_ driver.DriverContext = ContextDriver{}
)

// Connect opens a connection.
func (b *Base) Connect(ctx context.Context) (driver.Conn, error) {
	b.mu.Lock()
	b.conns++
	c := &conn{base: b, number: b.conns}
	b.mu.Unlock()
	if _, err := c.ask(ctx, Call{Op: Connect}); err != nil {
		return nil, err
	}
	return connSubsets[b.Features>>connShift&(1<<connBits-1)](c), nil
}

// Driver gives a driver that opens the base's connections without a context.
func (b *Base) Driver() driver.Driver { return DSNDriver{b} }

// ClosingBase is a base that is to be closed with the pool over it.
type ClosingBase struct{ *Base }

// Close is noted.
func (b ClosingBase) Close() error {
	_, err := b.ask(context.Background(), Call{Op: CloseBase})
	return err
}

// DSNDriver opens the base's connections, whatever the DSN.
type DSNDriver struct{ Base *Base }

// Open opens a connection.
func (d DSNDriver) Open(dsn string) (driver.Conn, error) {
	if _, err := d.Base.ask(context.Background(), Call{Op: Open, SQL: dsn}); err != nil {
		return nil, err
	}
	return d.Base.Connect(context.Background())
}

// ContextDriver is a DSNDriver with a connector, which can be closed where Closes says so.
type ContextDriver struct {
	DSNDriver
	Closes bool
}

// OpenConnector gives the base.
func (d ContextDriver) OpenConnector(dsn string) (driver.Connector, error) {
	if _, err := d.Base.ask(context.Background(), Call{Op: OpenConnector, SQL: dsn}); err != nil {
		return nil, err
	}
	if d.Closes {
		return ClosingBase{d.Base}, nil
	}
	return d.Base, nil
}

// Calls gives the log so far.
func (b *Base) Calls() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Call(nil), b.calls...)
}

// Count says how many of the calls so far were of one kind.
func (b *Base) Count(op Op) (n int) {
	for _, c := range b.Calls() {
		if c.Op == op {
			n++
		}
	}
	return n
}

// Forget empties the log.
func (b *Base) Forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = nil
}

// ask notes a call and gives its reply.
func (b *Base) ask(ctx context.Context, c Call) (Reply, error) {
	b.mu.Lock()
	b.calls = append(b.calls, c)
	b.mu.Unlock()
	var r Reply
	if b.Answer != nil {
		r = b.Answer(c)
	}
	if r.Wait != nil {
		select {
		case <-r.Wait:
		case <-ctx.Done():
			return Reply{}, ctx.Err()
		}
	}
	return r, r.Err
}
