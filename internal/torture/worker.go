package torture

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Worker is a process of a World, from the outside, and its links to the servers. It keeps its name and its links when the
// process that it stands for was killed and another has taken its place. Not for concurrent use.
type Worker struct {
	Name string
	// Redis is nil where clients find their servers themselves, behind Sentinels and in a Cluster.
	Redis, Postgres *Link

	world  *World
	role   role
	cmd    *exec.Cmd
	in     io.WriteCloser
	answer chan string   // lines of the process; closed when it has ended
	gone   chan struct{} // closed when it was waited for
	doomed bool          // its end is wanted
	book   *book
}

// book is a journal, as it is read.
type book struct {
	path string
	read int64 // bytes
}

// errEnded says that a process has ended that nobody had killed.
var errEnded = errors.New("torture: a process has ended by itself")

func (w *World) newWorker(name string, r role) (_ *Worker, err error) {
	k := &Worker{Name: name, role: r, world: w}
	w.workers = append(w.workers, k)
	if k.Postgres, err = NewLink("unix", w.Postgres.Socket); err != nil {
		return nil, err
	}
	if w.Fleet == nil {
		if k.Redis, err = NewLink("unix", w.Redis.Socket); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func (k *Worker) config() childConfig {
	w := k.world
	w.serial++
	c := childConfig{
		Name: k.Name, Role: k.role, Mode: w.opts.Mode, Serial: w.serial, Seed: w.opts.Seed, Clients: w.opts.Clients,
		Journal: filepath.Join(w.dir, fmt.Sprintf("%s-%d.jsonl", k.Name, w.serial)), Pause: w.opts.Pause, Limit: w.opts.Limit,
		Redis: w.redisURL,
	}
	host, port, err := net.SplitHostPort(k.Postgres.Addr)
	if err != nil {
		panic(err) // it is a listener's own
	}
	q := url.Values{"sslmode": {"disable"}, "application_name": {k.application()}, "connect_timeout": {"3"}}
	if k.Redis != nil {
		c.Redis = "redis://" + k.Redis.Addr
	}
	if c.Mode == Through {
		q.Set("wtcache_redis", c.Redis)
		q.Set("wtcache_rules", w.rules)
		q.Set("wtcache_fence_life", w.opts.FenceLife.String())
		for name, value := range w.opts.Settings {
			q.Set(name, value)
		}
	}
	c.DSN = fmt.Sprintf("postgres://postgres@%s:%s/postgres?%s", host, port, q.Encode())
	return c
}

func (k *Worker) application() string { return "torture-" + k.Name }

// Start starts the process. It does nothing until Go.
func (k *Worker) Start() error {
	c := k.config()
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(k.world.dir, k.Name+".log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	k.cmd = exec.Command(self)
	k.cmd.Env = append(environ(), childVariable+"="+string(text))
	k.cmd.Stderr = log
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a terminal's Ctrl-C is for the World, which then ends it
	// Pipes of its own: cmd's would be closed by Wait, which runs beside the reading.
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	defer inRead.Close()
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		inWrite.Close()
		return err
	}
	defer outWrite.Close()
	k.cmd.Stdin, k.cmd.Stdout = inRead, outWrite
	waited, err := k.world.env.StartCommand(k.cmd)
	if err != nil {
		inWrite.Close()
		outRead.Close()
		return err
	}
	k.in, k.doomed = inWrite, false
	k.book = &book{path: c.Journal}
	k.world.books = append(k.world.books, k.book)
	k.watch(outRead, waited)
	return k.await("ready")
}

// environ is this program's environment without what would change what a process does.
func environ() (kept []string) {
	for _, pair := range os.Environ() {
		if !strings.HasPrefix(pair, "PG") && !strings.HasPrefix(pair, "WTCACHE_") {
			kept = append(kept, pair)
		}
	}
	return kept
}

func (k *Worker) watch(out *os.File, waited func()) {
	answer, gone, cmd := make(chan string, 16), make(chan struct{}), k.cmd
	k.answer, k.gone = answer, gone
	go func() {
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			answer <- lines.Text()
		}
		out.Close()
		_ = cmd.Wait() // whether its end was wanted is known to who waits for an answer
		waited()
		close(gone)
		close(answer)
	}()
}

// patience is how long anything may take that takes moments, on a machine that is busy with other things.
const patience = 60 * time.Second

func (k *Worker) await(want string) error {
	line, err := k.line()
	if err == nil && line != want {
		err = fmt.Errorf("torture: process %s said %q, not %q", k.Name, line, want)
	}
	return err
}

func (k *Worker) line() (string, error) {
	select {
	case line, ok := <-k.answer:
		if !ok {
			return "", fmt.Errorf("%w: %s (%v); see %s", errEnded, k.Name, k.cmd.ProcessState, filepath.Join(k.world.dir, k.Name+".log"))
		}
		return line, nil
	case <-time.After(patience):
		return "", fmt.Errorf("torture: process %s has not answered for %v", k.Name, patience)
	}
}

// tell gives the process a command.
func (k *Worker) tell(command string) error {
	if _, err := io.WriteString(k.in, command+"\n"); err != nil {
		return fmt.Errorf("torture: tell process %s to %s: %w", k.Name, command, err)
	}
	return nil
}

// order gives it one and waits for the answer.
func (k *Worker) order(command string) error {
	if err := k.tell(command); err != nil {
		return err
	}
	return k.await(`"done"`)
}

func (k *Worker) state() (s state, err error) {
	if err = k.tell("state"); err != nil {
		return s, err
	}
	line, err := k.line()
	if err != nil {
		return s, err
	}
	if err = json.Unmarshal([]byte(line), &s); err == nil && s.Error != "" {
		err = errors.New(s.Error)
	}
	return s, err
}

// Kill is SIGKILL. It returns when the process is gone.
func (k *Worker) Kill() error {
	k.doomed = true
	if err := k.signal(syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return k.awaitEnd()
}

func (k *Worker) awaitEnd() error {
	select {
	case <-k.gone:
		k.in.Close()
		return nil
	case <-time.After(patience):
		return fmt.Errorf("torture: process %s does not end", k.Name)
	}
}

// DieAt has the process kill itself at a named point of its next write that comes there. Ended tells that it has.
func (k *Worker) DieAt(point string) error {
	k.doomed = true
	return k.order("die " + point)
}

// Ended is closed when the process has ended.
func (k *Worker) Ended() <-chan struct{} { return k.gone }

// Stop is SIGSTOP: the process does nothing, and its connections stay open.
func (k *Worker) Stop() error { return k.signal(syscall.SIGSTOP) }

// Continue is SIGCONT.
func (k *Worker) Continue() error { return k.signal(syscall.SIGCONT) }

func (k *Worker) signal(s syscall.Signal) error {
	select {
	case <-k.gone:
		return os.ErrProcessDone
	default:
		return k.cmd.Process.Signal(s)
	}
}

// Revive heals the links, lets a stopped process go on, and starts another one in a killed one's place.
func (k *Worker) Revive() error {
	k.Postgres.Heal()
	if k.Redis != nil {
		k.Redis.Heal()
	}
	if k.doomed {
		if err := k.Kill(); err != nil {
			return err
		}
		if err := k.Start(); err != nil {
			return err
		}
		return k.order("go")
	}
	return k.Continue()
}

func (k *Worker) close() {
	if k.cmd != nil && k.gone != nil {
		_ = k.Kill()
	}
	k.Postgres.Close()
	if k.Redis != nil {
		k.Redis.Close()
	}
}
