package wtcache

import "testing"

// AtCrashPoint calls hook at each named point of a write until the test ends. It is one
// hook for the whole package: tests that use it are not parallel.
func AtCrashPoint(t testing.TB, hook func(point string)) {
	t.Helper()
	if crashHook != nil {
		t.Fatal("a crash hook is already set")
	}
	crashHook = hook
	t.Cleanup(func() { crashHook = nil })
}
