// Package testenv gives tests and demonstrations a Postgres and a Redis of their own and takes them away again.
//
// Where WTCACHE_TEST_DATABASE_URL or WTCACHE_TEST_REDIS_URL is set, that server is used and nothing is started for it.
// Otherwise private servers are started from local binaries, on unix sockets in a temporary folder. Without binaries,
// Postgres is downloaded by fergusstrange/embedded-postgres and miniredis stands in for Redis.
//
// Cluster and Sentinel start a Redis Cluster of six nodes and a Redis with Sentinels, always private ones from the local
// redis-server, on ports of 127.0.0.1, and join them without any further tool.
//
// # Nothing stays behind
//
// The servers, their folder and their shared memory belong to a watchdog process, which ends them as soon as the process
// that asked for them is gone: by returning from main, by a panic, or by SIGKILL. A test binary therefore needs no
// TestMain, and a test that is interrupted needs no cleaning up by hand.
//
// # Environment
//
//	WTCACHE_TEST_DATABASE_URL         use this Postgres
//	WTCACHE_TEST_REDIS_URL            use this Redis
//	WTCACHE_TEST_REDIS_FAKE           1: the Redis above is miniredis
//	WTCACHE_TEST_POSTGRES_BIN         folder that holds initdb and postgres
//	WTCACHE_TEST_REDIS_BIN            path of redis-server or valkey-server
//	WTCACHE_TEST_PGBOUNCER_BIN        path of pgbouncer
//	WTCACHE_TEST_CHROMIUM_BIN         path of Chromium or Chrome, for tests of the status page
//	WTCACHE_TEST_POSTGRES_REPOSITORY  Maven repository to download the embedded Postgres from
//	WTCACHE_TEST_REQUIRE              1: a test whose server is missing fails; otherwise it is skipped
package testenv
