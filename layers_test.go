package wtcache_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Imports go one way, so that each layer can be understood, tested and replaced
// without the others: rules and parser know nothing of Redis, cachesync nothing of SQL,
// the outbox nothing of Redis, and the parser's tree (cgo) never leaves its package.
func TestLayers(t *testing.T) {
	const module = "github.com/wtcache/wtcache"
	const outbox = module + "/internal/outbox" // with its ddl the internal packages that are part of the library
	forbidden := map[string][]string{
		module + "/rules":     {module, module + "/parser", module + "/cachesync", "github.com/redis/", "github.com/jackc/", "github.com/pganalyze/"},
		module + "/parser":    {module, module + "/rules", module + "/cachesync", "github.com/redis/", "github.com/jackc/"},
		module + "/cachesync": {module, module + "/rules", module + "/parser", "github.com/jackc/", "github.com/pganalyze/", "database/sql"},
		outbox:                {module, module + "/rules", module + "/parser", module + "/cachesync", "github.com/redis/", "github.com/pganalyze/"},
	}
	for pkg, banned := range forbidden {
		for _, dep := range deps(t, pkg) {
			if slices.ContainsFunc(banned, func(b string) bool {
				return dep == b || strings.HasSuffix(b, "/") && strings.HasPrefix(dep, b)
			}) {
				t.Errorf("%s depends on %s", pkg, dep)
			}
		}
	}
	for _, dep := range deps(t, module) {
		if dep == outbox || dep == outbox+"/ddl" {
			continue
		}
		for _, testing := range []string{module + "/internal/", module + "/wtcachetest", "github.com/DATA-DOG/", "github.com/alicebob/", "github.com/anishathalye/", "testing"} {
			if strings.HasPrefix(dep, module+"/internal/outbox") {
				continue
			}
			if dep == testing || strings.HasPrefix(dep, testing+"/") || strings.HasSuffix(testing, "/") && strings.HasPrefix(dep, testing) {
				t.Errorf("the library depends on %s, which is for tests alone", dep)
			}
		}
	}
}

// Who uses wtcache without metrics compiles nothing for them.
func TestCoreKnowsNoMetricsSystem(t *testing.T) {
	const module = "github.com/wtcache/wtcache"
	for _, dep := range deps(t, module) {
		for _, system := range []string{"github.com/prometheus/", "go.opentelemetry.io/", module + "/wtcacheprom", module + "/wtcacheotel"} {
			if strings.HasPrefix(dep, system) {
				t.Errorf("the library depends on %s", dep)
			}
		}
	}
}

func deps(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.Command("go", "list", "-deps", pkg).Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}
