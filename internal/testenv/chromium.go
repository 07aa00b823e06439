package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

const installChromium = "`apt-get install chromium` (Debian; on Ubuntu Google's own package, since `chromium` there is a snap) or `brew install --cask chromium` (macOS), or set WTCACHE_TEST_CHROMIUM_BIN"

// Chromium gives the path of a Chromium or Chrome, for tests of pages. Where there is none the test is skipped, or fails under
// WTCACHE_TEST_REQUIRE=1.
func Chromium(t testing.TB) string {
	t.Helper()
	path, err := findChromium()
	require(t, err)
	return path
}

func findChromium() (string, error) {
	if path := os.Getenv("WTCACHE_TEST_CHROMIUM_BIN"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("testenv: WTCACHE_TEST_CHROMIUM_BIN=%s is no program: %w", path, err)
		}
		return path, nil
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: no Chromium in PATH; install it with %s", ErrNoServer, installChromium)
}
