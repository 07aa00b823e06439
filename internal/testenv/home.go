package testenv

import (
	"bufio"
	"context"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

//go:embed watchdog.sh
var watchdogScript string

// maxSocketPath is the longest path of a unix socket that every supported system takes (104 bytes with the zero on macOS).
const maxSocketPath = 103

// home is a temporary folder, the processes that live in it, and the watchdog that ends both when this process does.
// It is safe for concurrent use.
type home struct {
	dir   string
	cred  *syscall.Credential // of the servers; nil: this process' own
	guard *exec.Cmd

	mu    sync.Mutex // guards pipe's writes and close, and rooms
	pipe  *os.File   // nil once closed
	rooms int
}

// newHome starts the watchdog and has it make the folder, so that there is no moment at which the folder exists unwatched.
func newHome() (*home, error) {
	cred, err := serverCredential()
	if err != nil {
		return nil, err
	}
	h := &home{dir: filepath.Join(tempRoot(cred), "wtc-"+strings.ToLower(rand.Text()[:10])), cred: cred}
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open the watchdog's pipe: %w", err)
	}
	defer read.Close()
	if err := h.startWatchdog(read); err != nil {
		write.Close()
		return nil, err
	}
	h.pipe = write
	return h, nil
}

func (h *home) startWatchdog(stdin *os.File) error {
	owner := ""
	if h.cred != nil {
		owner = fmt.Sprintf("%d:%d", h.cred.Uid, h.cred.Gid)
	}
	h.guard = exec.Command("/bin/sh", "-c", watchdogScript, "wtcache-testenv-watchdog", h.dir, owner)
	h.guard.Stdin = stdin
	// A caller that shortened PATH still has its folder removed.
	h.guard.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/bin:/bin:/usr/sbin:/sbin")
	h.guard.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// stderr stays /dev/null: a file handed down by "go test" would make it wait for the watchdog.
	answer, err := h.guard.StdoutPipe()
	if err != nil {
		return fmt.Errorf("open the watchdog's answer: %w", err)
	}
	if err := h.guard.Start(); err != nil {
		return fmt.Errorf("start the watchdog: %w", err)
	}
	if line, _ := bufio.NewReader(answer).ReadString('\n'); line != "ready\n" {
		return fmt.Errorf("make the folder %s: %w", h.dir, h.guard.Wait())
	}
	return nil
}

// room makes a folder for one server.
func (h *home) room(name string) (string, error) {
	h.mu.Lock()
	h.rooms++
	dir := filepath.Join(h.dir, name+strconv.Itoa(h.rooms))
	h.mu.Unlock()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a server's folder: %w", err)
	}
	return dir, h.give(dir)
}

// give makes the servers' user the owner of path.
func (h *home) give(path string) error {
	if h.cred == nil {
		return nil
	}
	if err := os.Lchown(path, int(h.cred.Uid), int(h.cred.Gid)); err != nil {
		return fmt.Errorf("give the servers their files: %w", err)
	}
	return nil
}

// gate holds a child back until the watchdog knows its process id. A parent that dies in between closes the gate's
// input, and the server never starts.
const gate = `read -r go && exec "$@" </dev/null`

// start runs argv in dir as the servers' user, with its output in dir/name.log. The process leads its own group, so that a
// terminal's signals do not reach it.
func (h *home) start(dir, name string, argv ...string) (*process, error) {
	log, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	defer log.Close()
	read, write, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("open the gate of %s: %w", name, err)
	}
	defer read.Close()
	defer write.Close()

	cmd := exec.Command("/bin/sh", append([]string{"-c", gate, name}, argv...)...)
	cmd.Dir, cmd.Env = dir, serverEnviron()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = read, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: h.cred}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{pid: cmd.Process.Pid, name: name, log: log.Name(), done: make(chan struct{})}
	go func() {
		p.err = cmd.Wait()
		// The home may be closing, in which case nobody needs to be told.
		_ = h.tell("-", p.pid)
		close(p.done)
	}()
	if err := h.release(p.pid, write); err != nil {
		return nil, err
	}
	return p, nil
}

// release tells the watchdog of a process and then opens its gate.
func (h *home) release(pid int, gate *os.File) error {
	if err := h.tell("+", pid); err != nil {
		return err
	}
	if _, err := gate.WriteString("go\n"); err != nil {
		return fmt.Errorf("open the gate of process %d: %w", pid, err)
	}
	return nil
}

var errHomeClosed = errors.New("testenv: the environment is closed")

func (h *home) tell(sign string, pid int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.pipe == nil {
		return errHomeClosed
	}
	if _, err := h.pipe.WriteString(sign + strconv.Itoa(pid) + "\n"); err != nil {
		return fmt.Errorf("tell the watchdog: %w", err)
	}
	return nil
}

// close has the watchdog do now what it would do after this process' death, and waits for it.
func (h *home) close() error {
	h.mu.Lock()
	pipe := h.pipe
	h.pipe = nil
	h.mu.Unlock()
	if pipe == nil {
		return nil
	}
	pipe.Close()
	_ = h.guard.Wait() // its status says nothing; the folder does
	if _, err := os.Lstat(h.dir); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("testenv: %s could not be removed", h.dir)
	}
	return nil
}

// process is a running child. Its fields do not change; err may be read once done is closed.
type process struct {
	pid  int
	name string
	log  string
	done chan struct{}
	err  error
}

func (p *process) signal(sig syscall.Signal) error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	if err := syscall.Kill(p.pid, sig); errors.Is(err, syscall.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return fmt.Errorf("send %v to %s: %w", sig, p.name, err)
	}
	return nil
}

func ignoreDone(err error) error {
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// end sends a signal and waits for the process to go.
func (p *process) end(ctx context.Context, sig syscall.Signal) error {
	if err := ignoreDone(p.signal(sig)); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s to end after %v: %w", p.name, sig, context.Cause(ctx))
	}
}

// run waits for a process that ends by itself.
func (p *process) run(ctx context.Context) error {
	select {
	case <-p.done:
	case <-ctx.Done():
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		<-p.done
		return fmt.Errorf("run %s: %w", p.name, context.Cause(ctx))
	}
	if p.err != nil {
		return fmt.Errorf("run %s: %w%s", p.name, p.err, p.tail())
	}
	return nil
}

// awaitReady asks ready until it says yes, the process ends, or ctx does.
func (p *process) awaitReady(ctx context.Context, ready func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ready() {
		select {
		case <-tick.C:
		case <-p.done:
			return fmt.Errorf("start %s: %v%s", p.name, p.err, p.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to be ready: %w%s", p.name, context.Cause(ctx), p.tail())
		}
	}
	return nil
}

// tail returns the end of what the process wrote, for an error's text.
func (p *process) tail() string {
	text, err := os.ReadFile(p.log)
	if err != nil || len(text) == 0 {
		return ""
	}
	const enough = 4000
	if len(text) > enough {
		text = text[len(text)-enough:]
	}
	return "\n" + strings.TrimRight(string(text), "\n")
}
