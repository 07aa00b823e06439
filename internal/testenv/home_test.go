package testenv

import (
	"bufio"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// eventually waits for a condition that other processes bring about.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(startLimit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not so after %v: %s", startLimit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// startVictim runs a process that starts servers, with a temporary root of its own, so that its folder can be found from
// its first moment on.
func startVictim(t *testing.T) (cmd *exec.Cmd, root string, out *bufio.Reader) {
	t.Helper()
	h, err := shared.get()
	if err != nil {
		t.Fatal(err)
	}
	cred := h.cred
	if _, err := findPostgres(cred); err != nil {
		require(t, err)
	}
	if _, err := findRedis(cred); err != nil {
		require(t, err)
	}
	root, err = os.MkdirTemp("/tmp", "wtv-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root, 0o711); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TESTENV_VICTIM=1", "TMPDIR="+root, "WTCACHE_TEST_DATABASE_URL=", "WTCACHE_TEST_REDIS_URL=")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return cmd, root, bufio.NewReader(pipe)
}

// traces are what servers could leave behind.
type traces struct {
	pids []int
	shm  string // id of Postgres' shared memory segment
}

func findTraces(t *testing.T, out *bufio.Reader) (dir string, found traces) {
	t.Helper()
	line, err := out.ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) != 3 || fields[0] != "started" {
		t.Fatalf("the victim said %q (%v)", line, err)
	}
	u, err := url.Parse(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	pgDir := u.Query().Get("host")
	text, err := os.ReadFile(filepath.Join(pgDir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	postmaster, err := strconv.Atoi(lines[0])
	if err != nil {
		t.Fatal(err)
	}
	found.pids = append(found.pids, postmaster, redisPID(t, strings.TrimPrefix(fields[2], "unix://")))
	if key := strings.Fields(lines[6]); len(key) == 2 {
		found.shm = key[1]
	}
	return filepath.Dir(pgDir), found
}

func redisPID(t *testing.T, socket string) int {
	t.Helper()
	info := command(t, socket, "INFO server")
	_, rest, _ := strings.Cut(info, "process_id:")
	text, _, _ := strings.Cut(rest, "\r")
	pid, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("no process id in %q", info)
	}
	return pid
}

func (tr traces) expectGone(t *testing.T) {
	t.Helper()
	for _, pid := range tr.pids {
		eventually(t, "process "+strconv.Itoa(pid)+" is gone", func() bool { return gone(pid) })
	}
	if tr.shm == "" {
		return
	}
	eventually(t, "shared memory segment "+tr.shm+" is gone", func() bool {
		table, err := os.ReadFile("/proc/sysvipc/shm")
		if errors.Is(err, os.ErrNotExist) {
			table, err = exec.Command("ipcs", "-m").Output()
		}
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			if fields := strings.Fields(line); len(fields) > 1 && fields[1] == tr.shm {
				return false
			}
		}
		return true
	})
}

// A developer who interrupts, kills or crashes a test run would otherwise collect servers, folders and shared memory until
// the machine has none left.
func TestKilledParentLeavesNothing(t *testing.T) {
	for _, test := range []struct {
		name   string
		before func(t *testing.T, tr traces)
	}{
		{"all running", func(*testing.T, traces) {}},
		{"servers paused", func(t *testing.T, tr traces) { signalAll(t, tr.pids, syscall.SIGSTOP) }},
		{"Postgres killed before", func(t *testing.T, tr traces) { signalAll(t, tr.pids[:1], syscall.SIGKILL) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			cmd, _, out := startVictim(t)
			dir, tr := findTraces(t, out)
			test.before(t, tr)
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			tr.expectGone(t)
			eventually(t, "the folder "+dir+" is gone", func() bool { return !exists(dir) })
		})
	}
}

// The same holds for a parent that dies before its servers are up, when it has not yet told anybody about them.
func TestParentKilledWhileStartingLeavesNothing(t *testing.T) {
	for _, sign := range []string{"", "initdb.log", "data/base", "data/postmaster.pid"} {
		t.Run("once there is /"+sign, func(t *testing.T) {
			t.Parallel()
			cmd, root, _ := startVictim(t)
			var found []string
			eventually(t, sign+" exists", func() bool {
				found, _ = filepath.Glob(filepath.Join(root, "wtc-*"))
				if sign != "" {
					found, _ = filepath.Glob(filepath.Join(root, "wtc-*", "pg*", sign))
				}
				return len(found) > 0
			})
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "nothing is left in "+root, func() bool {
				left, err := os.ReadDir(root)
				return err == nil && len(left) == 0 && !anyProcessNames(t, root)
			})
		})
	}
}

// anyProcessNames reports whether a running process has text in its command line.
func anyProcessNames(t *testing.T, text string) bool {
	t.Helper()
	out, err := processTable()
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(out, text)
}

func processTable() (string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		out, err := exec.Command("ps", "-Awwo", "command").Output()
		return string(out), err
	}
	var all strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // it has just ended
		}
		all.Write(text)
		all.WriteByte('\n')
	}
	return all.String(), nil
}

func signalAll(t *testing.T, pids []int, sig syscall.Signal) {
	t.Helper()
	for _, pid := range pids {
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// As root, servers run as another user, who must get to a temporary folder that a longer TMPDIR would hide or whose socket
// paths the kernel would refuse.
func TestTempRootSuitsSockets(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("x", 90))
	if err := os.MkdirAll(long, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	if got := tempRoot(nil); got != "/tmp" {
		t.Errorf("a folder of %d characters is used for sockets: %s", len(long), got)
	}

	hidden := filepath.Join("/tmp", "wth-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(hidden, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(hidden) })
	t.Setenv("TMPDIR", hidden)
	other := &syscall.Credential{Uid: uint32(os.Getuid()) + 1, Gid: uint32(os.Getgid()) + 1}
	if got := tempRoot(other); got != "/tmp" {
		t.Errorf("a folder that the servers' user may not enter is used: %s", got)
	}
	if got := tempRoot(nil); got == "/tmp" {
		t.Error("TMPDIR is not respected where it suits")
	}
}

// The watchdog's first answer may find its reader dead already, which by default kills the writer of a pipe: the folder
// that was just made would stay.
func TestWatchdogOutlivesItsReader(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	read.Close()
	dir := filepath.Join(t.TempDir(), "folder")
	cmd := exec.Command("/bin/sh", "-c", watchdogScript, "watchdog", dir, "")
	cmd.Stdout = write
	if err := cmd.Run(); err != nil {
		t.Errorf("the watchdog ended with %v", err)
	}
	if exists(dir) {
		t.Error("the folder is still there")
	}
}
