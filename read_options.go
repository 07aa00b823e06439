package wtcache

import (
	"context"
	"database/sql"
	"time"

	"github.com/wtcache/wtcache/rules"
)

// ReadOption changes how entries are read: of one call (Cache.With, Reader.With) or of a
// Reader. What no option says is as the rule's `read` section says, else as Config does.
type ReadOption func(*readOptions)

type readOptions struct {
	fresh     bool
	maxAge    time.Duration
	ageSaid   bool
	replica   bool
	replicaNo bool
	wait      time.Duration
	waitSaid  bool
	queryer   Queryer // of In; nil: none
}

// plain says whether nothing is asked for but what Redis' primary has.
func (o *readOptions) plain() bool { return !o.fresh && !o.replica && o.queryer == nil }

// Fresh reads the database, whatever Redis holds, and stores nothing.
func Fresh() ReadOption { return func(o *readOptions) { o.fresh = true } }

// MaxAge takes no entry that was stored longer ago than age, by the Redis server's clock.
// The row is read from the database instead and takes the old entry's place. Redis counts
// whole milliseconds. 0 takes any, whatever the rule says; nothing is as young as an age
// under 0, which is Fresh.
func MaxAge(age time.Duration) ReadOption {
	return func(o *readOptions) { o.maxAge, o.ageSaid = age, true }
}

// ReplicaAllowed lets a replica of Redis answer, where Config.RedisReplica or its URL names
// one: the entry may then be older than what was committed and acknowledged, by as much as
// the replica lags; see ReadYourWrites. What a replica does not have is looked for as always,
// and nothing is ever stored because a replica did not have it.
func ReplicaAllowed() ReadOption {
	return func(o *readOptions) { o.replica, o.replicaNo = true, false }
}

// PrimaryOnly is the opposite of ReplicaAllowed, for a rule that allows replicas.
func PrimaryOnly() ReadOption {
	return func(o *readOptions) { o.replica, o.replicaNo = false, true }
}

// WaitForFill bounds how long a reader waits for another one, of this process or another,
// that is about to fill the key. Then it reads the database and does not fill; with 0 it
// does so at once. It is no bound for the read itself, which is the context's.
func WaitForFill(wait time.Duration) ReadOption {
	return func(o *readOptions) { o.wait, o.waitSaid = max(wait, 0), true }
}

// Queryer is a *sql.Tx or a *sql.Conn, or what embeds one.
type Queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// In reads on behalf of a transaction. One that has written a ruled table, or was begun
// with an isolation level above read committed (by its options, or by the connection's
// default_transaction_isolation when it was opened), sees its own snapshot: the row is read
// through the transaction and Redis is left alone. Else Redis may serve, and what it does
// not have is read through the transaction; nothing is filled. Statements that change the
// isolation level as SQL are not noticed.
func In(tx Queryer) ReadOption {
	if tx == nil {
		tx = nobody{} // a transaction that was forgotten must not become a read outside of it
	}
	return func(o *readOptions) { o.queryer = tx }
}

// nobody is the transaction that In(nil) reads in.
type nobody struct{}

func (nobody) QueryContext(context.Context, string, ...any) (*sql.Rows, error) {
	return nil, errNotOurs
}

// under fills in what the options leave open.
func (o readOptions) under(defaults rules.ReadDefaults, wait time.Duration) readOptions {
	if !o.ageSaid {
		o.maxAge = defaults.MaxAge
	}
	o.fresh = o.fresh || o.maxAge < 0
	o.replica = !o.replicaNo && (o.replica || defaults.Replica)
	if !o.waitSaid {
		o.wait = wait
		if defaults.Wait != nil {
			o.wait = *defaults.Wait
		}
	}
	return o
}
