package testenv

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
)

// ErrNoServer says that there is nothing to start a server from; its text names the command that installs one.
var ErrNoServer = errors.New("testenv: no server found")

const (
	installPostgres = "`apt-get install postgresql` (Debian, Ubuntu) or `brew install postgresql@17` (macOS), or set WTCACHE_TEST_DATABASE_URL"
	installRedis    = "`apt-get install redis-server` (Debian, Ubuntu) or `brew install redis` (macOS), or set WTCACHE_TEST_REDIS_URL"
)

// postgresFolders are the places outside PATH where packages put Postgres: Debian and Ubuntu, RHEL, Homebrew, Postgres.app.
var postgresFolders = []string{
	"/usr/lib/postgresql/*/bin",
	"/usr/pgsql-*/bin",
	"/opt/homebrew/opt/postgresql*/bin",
	"/usr/local/opt/postgresql*/bin",
	"/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
	"/Applications/Postgres.app/Contents/Versions/*/bin",
}

// redisFolders are the places outside a short PATH where packages put Redis.
var redisFolders = []string{"/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin"}

// findPostgres returns the folder that holds initdb and postgres. What the user chose comes first, then PATH, then the
// newest version in the folders that packages use.
func findPostgres(cred *syscall.Credential) (string, error) {
	if dir := os.Getenv("WTCACHE_TEST_POSTGRES_BIN"); dir != "" {
		if !holdsPostgres(dir, cred) {
			return "", fmt.Errorf("testenv: WTCACHE_TEST_POSTGRES_BIN=%s holds no initdb and postgres that the servers' user may run", dir)
		}
		return dir, nil
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		// The true folder matters: Postgres finds its own files relative to it, and it must hold initdb of the same version.
		if path, err = filepath.EvalSymlinks(path); err == nil && holdsPostgres(filepath.Dir(path), cred) {
			return filepath.Dir(path), nil
		}
	}
	var dirs []string
	for _, pattern := range postgresFolders {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("look for Postgres in %s: %w", pattern, err)
		}
		dirs = append(dirs, found...)
	}
	slices.SortStableFunc(dirs, func(a, b string) int { return cmp.Compare(pathVersion(b), pathVersion(a)) })
	for _, dir := range dirs {
		if holdsPostgres(dir, cred) {
			return dir, nil
		}
	}
	return "", fmt.Errorf("%w: no Postgres in PATH nor in the folders that packages use; install it with %s", ErrNoServer, installPostgres)
}

func holdsPostgres(dir string, cred *syscall.Credential) bool {
	return runnable(filepath.Join(dir, "initdb"), cred) && runnable(filepath.Join(dir, "postgres"), cred)
}

// runnable reports whether path is a program that the servers' user may run. A script is none: version managers put
// wrappers into PATH that work in one user's home only.
func runnable(path string, cred *syscall.Credential) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 || !reachable(path, cred) {
		return false
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 2)
	_, err = f.Read(head)
	return err == nil && !bytes.Equal(head, []byte("#!"))
}

var firstNumber = regexp.MustCompile(`[0-9]+`)

func pathVersion(path string) int {
	n, err := strconv.Atoi(firstNumber.FindString(path))
	if err != nil {
		return 0
	}
	return n
}

// findRedis returns the path of redis-server or valkey-server.
func findRedis(cred *syscall.Credential) (string, error) {
	if path := os.Getenv("WTCACHE_TEST_REDIS_BIN"); path != "" {
		if !runnable(path, cred) {
			return "", fmt.Errorf("testenv: WTCACHE_TEST_REDIS_BIN=%s is no program that the servers' user may run", path)
		}
		return path, nil
	}
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil && runnable(path, cred) {
			return path, nil
		}
		for _, dir := range redisFolders {
			if path := filepath.Join(dir, name); runnable(path, cred) {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("%w: no redis-server or valkey-server; install it with %s", ErrNoServer, installRedis)
}

var redisVersion = regexp.MustCompile(`v=([0-9]+)\.`)

// redisMajor asks a binary for its major version.
func redisMajor(path string) (int, error) {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("ask %s for its version: %w", path, err)
	}
	m := redisVersion.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("read the version of %s from %q", path, out)
	}
	return strconv.Atoi(string(m[1]))
}
