package testenv

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// serverCredential picks the user that servers run as: Postgres refuses to run as root. It returns nil where this process
// has no privileges to drop.
func serverCredential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the id of user %s: %w", name, err)
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the group of user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("testenv: Postgres does not run as root, and there is neither a user postgres nor nobody to run it as")
}

// tempRoot picks the folder for temporary folders: the system's, unless a socket's path would be too long there or the
// servers' user could not reach it.
func tempRoot(cred *syscall.Credential) string {
	const longestBelow = len("/wtc-0123456789/redis999/.s.PGSQL.5432.lock")
	dir, err := filepath.EvalSymlinks(os.TempDir())
	if err != nil || len(dir)+longestBelow > maxSocketPath || !reachable(dir, cred) {
		return "/tmp"
	}
	return dir
}

// reachable reports whether the servers' user may enter every folder on the way to path and use what is there.
func reachable(path string, cred *syscall.Credential) bool {
	if cred == nil {
		return true
	}
	for {
		info, err := os.Stat(path)
		if err != nil {
			return false
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		owned := ok && stat.Uid == cred.Uid && info.Mode()&0o100 != 0
		if !owned && info.Mode()&0o001 == 0 {
			return false
		}
		if path == filepath.Dir(path) {
			return true
		}
		path = filepath.Dir(path)
	}
}

// serverEnviron is the environment of every server: the caller's, without what would change a server's behaviour from one
// machine to the next (PGDATA, PGPORT, LANG, TZ, …).
func serverEnviron() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if name == "TZ" || name == "LANG" || strings.HasPrefix(name, "PG") || strings.HasPrefix(name, "LC_") {
			continue
		}
		env = append(env, kv)
	}
	return env
}
