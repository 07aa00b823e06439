package testenv

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/alicebob/miniredis/v2"
	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// embeddedPostgres downloads Postgres (once a machine) and unpacks it into the home; it returns the folder of its binaries.
//
// The library has no call that only fetches, and its way of starting a server would tie it to nobody's life. So it is
// given a data folder that no server can start from, after which the unpacked binaries are used like local ones.
func embeddedPostgres(h *home) (string, error) {
	dir, err := h.room("embedded")
	if err != nil {
		return "", err
	}
	unpacked, data := filepath.Join(dir, "postgres"), filepath.Join(dir, "unusable")
	if err := os.Mkdir(data, 0o700); err != nil {
		return "", fmt.Errorf("prepare the embedded Postgres: %w", err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("17"), 0o600); err != nil {
		return "", fmt.Errorf("prepare the embedded Postgres: %w", err)
	}
	cfg := embeddedpostgres.DefaultConfig().Version(embeddedpostgres.V17).
		BinariesPath(unpacked).RuntimePath(filepath.Join(dir, "run")).DataPath(data).
		CachePath(filepath.Join(cacheRoot(dir), "wtcache", "embedded-postgres")).
		Port(freePort()).Logger(io.Discard)
	if repo := os.Getenv("WTCACHE_TEST_POSTGRES_REPOSITORY"); repo != "" {
		cfg = cfg.BinaryRepositoryURL(repo)
	}
	startErr := embeddedpostgres.NewDatabase(cfg).Start()
	if err := filepath.WalkDir(unpacked, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return h.give(path)
	}); err != nil {
		return "", fmt.Errorf("download Postgres: %w", startErr)
	}
	bin := filepath.Join(unpacked, "bin")
	if !holdsPostgres(bin, h.cred) {
		return "", fmt.Errorf("download Postgres: %w", startErr)
	}
	return bin, nil
}

// cacheRoot is where downloads are kept from one run to the next; without a home directory they go with the run.
func cacheRoot(otherwise string) string {
	if dir, err := os.UserCacheDir(); err == nil {
		return dir
	}
	return otherwise
}

// startMiniredis runs miniredis in this process, with its clock tied to the real one: by itself it lets no key expire.
// The returned function stops it.
func startMiniredis() (url string, stop func(), err error) {
	m := miniredis.NewMiniRedis()
	if err := m.Start(); err != nil {
		return "", nil, fmt.Errorf("start miniredis: %w", err)
	}
	done := make(chan struct{})
	go func() {
		const step = 50 * time.Millisecond
		tick := time.NewTicker(step)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				m.FastForward(step)
			case <-done:
				return
			}
		}
	}()
	return "redis://" + m.Addr(), func() { close(done); m.Close() }, nil
}
