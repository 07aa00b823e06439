package wtcache

import "testing"

// WatchWarm calls fn with the number of rows that Warm begins to hold, and with a negative one when it lets go of them.
func WatchWarm(t testing.TB, fn func(rows int)) {
	t.Helper()
	warmAlive.Store(&fn)
	t.Cleanup(func() { warmAlive.Store(nil) })
}
