// Package wtcache is a database/sql driver that keeps Redis true to Postgres.
//
// It wraps pgx. A program changes sql.Open("pgx", dsn) to sql.Open("wtcache", dsn),
// writes a small rule file for each table that is cached, and from then on every
// committed INSERT, UPDATE and DELETE of those tables is written through to Redis,
// with no change at the call sites:
//
//	import _ "github.com/wtcache/wtcache"
//
//	db, err := sql.Open("wtcache", "postgres://localhost/shop?wtcache_redis=redis://localhost:6379&wtcache_rules=./rules")
//
// # The promise
//
// A read through the cache that starts after a commit was acknowledged never returns
// anything older than that commit. By the outcome of a transaction, its keys hold when
// the call returns:
//
//   - committed, Redis reachable: the new payload, or nothing; never the old one (but for
//     the round trip after the call where a rule is both eventual and `apply: async`);
//   - rolled back, also to a savepoint, also by a COMMIT that the server turned into a
//     rollback: what they held before, or nothing; never the uncommitted payload;
//   - in doubt (the connection was lost, or the context ended, during COMMIT): nothing,
//     until the server has said on another connection what became of the transaction;
//     then as above. Where it cannot be asked: nothing, until the fence expires;
//   - process killed: nothing for at most the fence's life;
//   - Redis unreachable before COMMIT: by the rule's redis_down the write is refused, or
//     committed with its keys owed;
//   - Redis unreachable after COMMIT: the write succeeds, the fence keeps the keys out of
//     use, and the rest is made good in the background.
//
// An error after COMMIT never reaches the caller of Exec, Query or Commit. It goes to
// Config.Logger, Config.OnError and Stats.
//
// # Reading
//
// ReaderOf gives a reader of an entry that decodes rows into a struct, and needs no more
// than the *sql.DB, so that it works beside any ORM:
//
//	users, err := wtcache.ReaderOf[User](db, "users")
//	u, err := users.Get(ctx, 42)
//	rows, err := users.GetMany(ctx, wtcache.Keys(ids)...)
//
// What Redis does not have is read from the database and stored, under a lease that makes a stale
// fill impossible; under a writer's fence it is read and not stored. Readers of one key share
// one query. A Redis that does not answer is no error. Options (Reader.With) ask for what is
// fresh or of a maximum age, allow replicas of Redis, which ReadYourWrites holds to
// what the caller has written, or read on behalf of a transaction (In). Readers that know
// nothing of this package see the row or nothing, as long as they do not store rows themselves.
//
// # What is not captured
//
// Writes that do not come as SQL text through this driver: other programs, COPY and
// Batch through sql.Conn.Raw and PgxConn, triggers of other tables, functions and
// procedures that write a ruled one. The README has the list.
//
// # Concurrency
//
// A *sql.DB, a Cache, a Reader and the connectors are safe for concurrent use. Connections,
// statements and rows follow database/sql's rules.
package wtcache
