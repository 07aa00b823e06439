package testenv

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// ErrNoClock says that the clock of a server cannot be moved here; its text says what is missing.
var ErrNoClock = errors.New("testenv: no clock of a process can be moved")

// clockSource is compiled rather than libfaketime used: that one asks the allocator for memory when it is first asked for
// the time, and Debian's Redis has an allocator that asks for the time first (both give up).
//
//go:embed clock/clock.c
var clockSource []byte

// MovesClocks is nil where NewRedisWithClock can start a server, else ErrNoClock. It takes Linux and a C compiler.
func MovesClocks() error {
	_, err := findCompiler()
	return err
}

func findCompiler() (string, error) {
	if runtime.GOOS != "linux" {
		return "", fmt.Errorf("%w: that takes Linux", ErrNoClock)
	}
	for _, name := range []string{"cc", "gcc", "clang"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: that takes a C compiler; install one with `apt-get install gcc libc6-dev` (Debian, Ubuntu)", ErrNoClock)
}

// clock is what a server takes its time of day from.
type clock struct{ library, file string }

// newClock makes a clock that shows the true time.
func newClock(ctx context.Context, h *home) (*clock, error) {
	compiler, err := findCompiler()
	if err != nil {
		return nil, err
	}
	dir, err := h.room("clock")
	if err != nil {
		return nil, err
	}
	c := &clock{library: filepath.Join(dir, "clock.so"), file: filepath.Join(dir, "moved")}
	cmd := exec.CommandContext(ctx, compiler, "-shared", "-fPIC", "-O2", "-x", "c", "-o", c.library, "-")
	cmd.Stdin = bytes.NewReader(clockSource)
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile a clock: %w\n%s", err, said)
	}
	if err := errors.Join(c.move(0), os.Chmod(c.library, 0o755), os.Chmod(c.file, 0o644)); err != nil {
		return nil, err
	}
	return c, nil
}

// move sets what is added to the true time. The server sees it in what it does next.
func (c *clock) move(by time.Duration) error {
	f, err := os.OpenFile(c.file, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("move a clock: %w", err)
	}
	// One write over what is there: the file is mapped, and must not be shorter for a moment.
	_, err = f.Write(binary.NativeEndian.AppendUint64(nil, uint64(by)))
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("move a clock: %w", err)
	}
	return nil
}

// argv has a program go by the clock.
func (c *clock) argv(argv []string) []string {
	return append([]string{"env", "LD_PRELOAD=" + c.library, "WTCACHE_TEST_CLOCK=" + c.file}, argv...)
}

// NewRedisWithClock is NewRedis for a server whose clock MoveClock moves. The error is ErrNoClock where that cannot be had.
func (e *Env) NewRedisWithClock(ctx context.Context, args ...string) (*OwnRedis, error) {
	r, err := e.site.redisWithClock(ctx, args...)
	if err != nil {
		return nil, err
	}
	return ownRedis(r), nil
}

func (s *site) redisWithClock(ctx context.Context, args ...string) (*redisServer, error) {
	h, bin, err := s.forRedis()
	if err != nil {
		return nil, err
	}
	c, err := newClock(ctx, h)
	if err != nil {
		return nil, err
	}
	dir, err := h.room("redis")
	if err != nil {
		return nil, err
	}
	r := &redisServer{home: h, bin: bin, dir: dir, args: args, clock: c}
	return r, r.start(ctx)
}

// MoveClock has the server's time of day be the true time and so much more (less, if negative) from now on, over restarts
// too. Its monotonic clock goes on as before. Zero is the true time. It may be called while the server is down or paused.
func (o *OwnRedis) MoveClock(by time.Duration) error {
	if o.r.clock == nil {
		return fmt.Errorf("%w: %s was started without one", ErrNoClock, o.URL)
	}
	return o.r.clock.move(by)
}
