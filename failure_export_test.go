package wtcache

import "testing"

// AtCrashPoint calls hook at each named point of a write until the test ends. It is one
// hook for the whole package: tests that use it are not parallel. Points of what goes on in
// the background come from other goroutines.
func AtCrashPoint(t testing.TB, hook func(point string)) {
	t.Helper()
	if !crashHook.CompareAndSwap(nil, &hook) {
		t.Fatal("a crash hook is already set")
	}
	t.Cleanup(func() { crashHook.Store(nil) })
}

// CrashPoints calls hook at each named point, in a process that is to be killed there.
func CrashPoints(hook func(point string)) { crashHook.Store(&hook) }
