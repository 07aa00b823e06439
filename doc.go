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
//   - committed, Redis reachable: the new payload, or nothing; never the old one;
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
// # What is not captured
//
// Writes that do not come as SQL text through this driver: other programs, COPY and
// Batch through sql.Conn.Raw and PgxConn, triggers of other tables, functions and
// procedures that write a ruled one. The README has the list.
//
// # Concurrency
//
// A *sql.DB, a Cache and the connectors are safe for concurrent use. Connections,
// statements and rows follow database/sql's rules.
package wtcache
