package cachesync

import (
	"crypto/sha1"
	"encoding/hex"
	"strings"
	"testing"
)

// mutation is a line of a script that is replaced.
type mutation struct{ file, old, new string }

// mutants gives the scripts that differ from the real ones. A line that is not found exactly once fails the test: else a
// mutation could rot unseen.
func mutants(t testing.TB, mutations []mutation) map[*script]*script {
	t.Helper()
	sources := map[string]string{
		"prelude": prelude, "fence": fenceLua, "renew": renewLua, "apply": applyLua, "abort": abortLua, "lease": leaseLua,
		"fill": fillLua, "release": releaseLua, "invalidate": invalidateLua, "apply_cas": applyCASLua, "barrier": barrierLua,
	}
	for _, m := range mutations {
		if n := strings.Count(sources[m.file], m.old); n != 1 {
			t.Fatalf("%q is found %d times in %s.lua", m.old, n, m.file)
		}
		sources[m.file] = strings.Replace(sources[m.file], m.old, m.new, 1)
	}
	found := make(map[*script]*script)
	for name, s := range map[string]*script{
		"fence": fenceScript, "renew": renewScript, "apply": applyScript, "abort": abortScript, "lease": leaseScript, "fill": fillScript,
		"release": releaseScript, "invalidate": invalidateScript, "apply_cas": applyCASScript, "barrier": barrierScript,
	} {
		if source := sources["prelude"] + "\n" + sources[name]; source != s.source {
			sum := sha1.Sum([]byte(source))
			found[s] = &script{source: source, digest: hex.EncodeToString(sum[:])}
		}
	}
	return found
}
