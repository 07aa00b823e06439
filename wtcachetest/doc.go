// Package wtcachetest tests code that uses wtcache without a server: Postgres is a sqlmock,
// Redis is in memory, and between them runs the real driver with the real rules, plans and
// scripts. No network and no file but the rules' own is touched.
//
// New gives what a test needs: the *sql.DB for the code under test, the sqlmock.Sqlmock on
// which its statements are expected, and a Cache that says what happened to the cache.
//
//	db, mock, cache := wtcachetest.New(t,
//		wtcachetest.RulesFrom("../rules"),
//		wtcachetest.SchemaFrom("../migrations/*.sql"))
//	mock.ExpectExec("UPDATE users SET name").WithArgs("Ann", 7).WillReturnResult(sqlmock.NewResult(0, 1))
//
//	err := Rename(ctx, db, 7, "Ann")
//
//	cache.ExpectWritten("user:7", wtcachetest.Row{"id": 7, "name": "Ann"})
//
// # Expectations are about your own statements
//
// The driver adds columns to the statements that it captures, asks the catalogue, and puts
// some statements into transactions. Nothing of that reaches the mock: it sees the texts,
// arguments and calls of the code under test, Exec as Exec, Query as Query, and only the
// BEGIN, COMMIT and ROLLBACK that this code asked for (and the ROLLBACK in place of its
// COMMIT where a rule refuses to commit without Redis, which need not be expected). A text of several statements is seen
// statement by statement, as the driver sends it. How many rows a write affects is what its
// expectation says: sqlmock.NewResult(0, n) for an Exec, and for a Query with RETURNING the
// rows of its own columns.
//
// # Rows
//
// What a real server puts into the cache is the row that it stored. Here the test shows it,
// and what follows for certain is worked out:
//
//   - from the statement: the keys and values that its text and arguments give, defaults that
//     are constants, what its own RETURNING gives;
//   - from [Cache.Rows]: what the table holds. An UPDATE changes the row that it finds there,
//     a committed write changes the table, a reader who misses the cache finds it;
//   - from [Cache.WillCapture]: what the next write leaves behind.
//
// What does not follow is never guessed: the test fails with a message that says what to add.
//
// # Readers
//
// Code that reads through wtcache (ReaderOf, CacheOf) needs no expectation of the mock. What it
// finds is what [Cache.Put] and the writes before have put into the cache, else what
// [Cache.Rows] says of the table, and inside a transaction what that has written. [Cache.ExpectRead]
// says which rows came from the table, [Cache.ExpectFilled] which entries a reader stored, and
// [Cache.Ops] shows each statement with its keys. Redis' clock moves by [Cache.Advance] alone, so
// that a test decides how old an entry is (MaxAge, negative_ttl). Reads run on goroutines of the driver's own: the
// functions of [When] may be called from several at a time.
//
// # Failures
//
// [Cache.Down] and [Cache.Up] take Redis away and give it back. An error of
// mock.ExpectCommit is judged as in production: a *pgconn.PgError of severity ERROR, such as
// a serialization failure, is a rollback; an error of any other kind leaves the outcome in
// doubt, and the keys fenced until their fence expires (see [Cache.Advance]). The same goes for
// an autocommit statement: give a *pgconn.PgError where the server refuses it.
//
// # What is not modelled
//
// Views in a rule's `via` are refused. Triggers are known by their tables alone, not by what
// they do: with a BEFORE trigger a row has to be declared, an AFTER trigger makes entries
// absent as in production. The role may do everything; row-level security, where it is enabled,
// is in force. A bare name means the table of that name in whatever schema. A `when` is not
// checked, and beyond tests for NULL it has to be said in Go, see [When]. Payloads are equal to
// Postgres' as JSON; the blanks and the order of keys inside jsonb may differ. Nobody answers
// what became of a transaction in doubt. There is one Redis, without replicas, and one Postgres, without
// standbys. A transaction above read committed finds what others have committed since it began.
package wtcachetest
