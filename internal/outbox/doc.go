// Package outbox keeps in Postgres what is owed to Redis while Redis does not answer, and sees to it that nobody serves a cached
// value meanwhile that such a commit has made old. It knows SQL, and of Redis only that a Settler makes keys absent there.
//
// # A commit that Redis could not be told of
//
// The writer announces its outage (Announce): a row in table outage, committed on a connection of the Box's own. It then waits until
// every reader must know. After that it writes the keys that it owes into table outbox (Insert), in the transaction that changed the
// rows, and commits. Any process that reaches both Postgres and Redis takes such rows, makes the keys absent, and deletes the rows once
// Redis has acknowledged. An outage's row is removed when no row of outbox refers to it any more and Redis answers its owner again.
//
// # Why no reader serves what is old
//
// A reader may serve cached values (Clear) for Options.Watch from the moment at which it *sent* a poll that found, on a primary, no row in
// outage. The moment is read before the poll is sent, on the monotonic clock; the lease has also lapsed where the wall clock says so, since
// a monotonic clock may stand still while a machine is suspended. Who cannot poll may not serve.
//
//  1. A poll whose snapshot is older than the announcement was sent before the announcement was acknowledged. Its lease is over Watch after
//     that acknowledgement, and the writer waits for 1.25 × Watch: the quarter is for clocks that run at different speeds.
//  2. A poll with a newer snapshot sees the row, as long as it is there.
//  3. The row is there until every commit that was queued under it has been settled: each row of outbox refers to it by a foreign key, and
//     the check of that key locks the outage's row (KEY SHARE) until the writer's transaction ends. So Postgres itself
//     makes impossible that a row is removed from outage while a queued commit needs it, and that a commit is queued under one that
//     was removed, whichever process is paused or killed, and for how long. A session with session_replication_role = replica checks no
//     foreign keys: such a session must not write through wtcache.
//  4. Processes need not agree on Watch: a reader's length must stand, committed, in table watch before the reader polls, and a writer
//     waits for the longest one that it finds there after its announcement is committed. A reader whose poll did not see the announcement was
//     registered before it.
//
// A transaction in REPEATABLE READ or SERIALIZABLE whose snapshot is older than the announcement does not see the outage's row, and the
// foreign key refuses its Insert. That is as well: the caller may try again, and then succeeds.
//
// A Postgres that is deposed but still answers as a primary is outside of this, like every read that is made there. After a failover that lost
// the announcement, commits that were queued under it are lost with it; later ones are refused by the foreign key until there is a new announcement.
//
// # What it costs
//
// While Redis answers: for a process that reads, one poll each third of Watch (one round trip, only while somebody reads), and one look at
// both tables each Options.Idle. One connection stays open for LISTEN, where the base driver is pgx; others are used
// for moments, or, while a batch is settled, for as long as that takes. Options.DB should allow at least four. Queued writes send no NOTIFY, which would
// make all commits of a Postgres cluster wait for each other: announcing, removing and Hand do. Without LISTEN (PgBouncer, another
// driver) polling does the same a little later.
package outbox
