package torture

import (
	"os"
	"sync/atomic"
	"syscall"
	_ "unsafe" // for go:linkname

	_ "github.com/wtcache/wtcache" // the driver, and the variable below
)

// crashHook is the library's own, which has no exported name: nothing but tests may stop a write in its middle.
//
//go:linkname crashHook github.com/wtcache/wtcache.crashHook
var crashHook atomic.Pointer[func(point string)]

// crashPoints are those that every kind of write comes to. Those of COMMITs in doubt need a lost answer first.
var crashPoints = []string{"settled", "keys fenced", "fenced", "committed", "keys applied", "applied"}

// dieAt has the next write that comes to a point kill this process.
func dieAt(point string) {
	hook := func(at string) {
		if at == point {
			die()
		}
	}
	crashHook.Store(&hook)
}

func die() {
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // the signal may take a moment
}
