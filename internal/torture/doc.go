// Package torture runs several processes that write and read through wtcache on a real Postgres and a real Redis, does to them,
// to their links and to both servers what production does, and counts what readers were told that was not true.
//
// A World is the servers and the processes. Each process is this program once more (see Main), opens the database as a user
// does, and takes down in a file what it did and when, by the clock that all processes of a machine share; a file outlives a
// process that is killed. A Nemesis strikes a World and heals it. Run lets nemeses strike, alone and in random sequences, and
// after each of them has all processes pause: then every key must hold its row or nothing, and the history since the last
// pause must be linearizable, key by key.
//
// The same runs with a cache that is written by hand (DualWrite, CacheAside), in which it must find what is stale: else the
// nothing that it finds in wtcache would mean nothing.
package torture
