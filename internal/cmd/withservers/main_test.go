package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/wtcache/wtcache/internal/testenv"
)

// TestMain lets the test binary stand for the command, as which the tests run it.
func TestMain(m *testing.M) {
	if os.Getenv("WITHSERVERS_UNDER_TEST") == "1" {
		os.Unsetenv("WITHSERVERS_UNDER_TEST") // not for what it runs
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// withservers returns the command on its own servers, in a session without a terminal, as continuous integration runs it.
func withservers(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	testenv.Postgres(t) // skips or fails where there are no servers
	testenv.RealRedis(t)
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "WITHSERVERS_UNDER_TEST=1", "WTCACHE_TEST_DATABASE_URL=", "WTCACHE_TEST_REDIS_URL=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd
}

func code(t *testing.T, err error) int {
	t.Helper()
	var exit *exec.ExitError
	if err == nil {
		return 0
	}
	if !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return exit.ExitCode()
}

// A failing test run must fail the build, whatever stands between.
func TestExitCodeIsTheCommands(t *testing.T) {
	for _, test := range []struct {
		args []string
		want int
	}{
		{[]string{"--", "sh", "-c", "exit 0"}, 0},
		{[]string{"sh", "-c", "exit 7"}, 7},
		{[]string{"sh", "-c", "kill -TERM $$"}, 128 + 15},
		{[]string{"--", "no-such-command-at-all"}, 127},
		{[]string{"--"}, 2},
	} {
		cmd := withservers(t, test.args...)
		cmd.Env = append(cmd.Env, "WTCACHE_TEST_DATABASE_URL=unused", "WTCACHE_TEST_REDIS_URL=unused") // nothing to start
		if got := code(t, cmd.Run()); got != test.want {
			t.Errorf("withservers %q: exit code %d, want %d", test.args, got, test.want)
		}
	}
}

// The demonstration's last line is read by a program: nothing may follow it, nor come before the first.
func TestStandardOutputIsTheCommands(t *testing.T) {
	cmd := withservers(t, "sh", "-c", `echo "$WTCACHE_TEST_DATABASE_URL"; echo "$WTCACHE_TEST_REDIS_URL"; ls "$WTCACHE_TEST_POSTGRES_BIN/postgres" "$WTCACHE_TEST_REDIS_BIN"`)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "postgres://") || !strings.HasPrefix(lines[1], "unix://") {
		t.Errorf("standard output is %q", lines)
	}
}

// started runs a command that reports the servers' folder and its own process id, and then waits for input that never comes.
func started(t *testing.T, trap string) (cmd *exec.Cmd, folder string, out *bufio.Reader) {
	t.Helper()
	cmd = withservers(t, "sh", "-c", trap+`; echo "$WTCACHE_TEST_REDIS_URL"; while :; do sleep 0.05; done`)
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := pipe.(*os.File).SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	out = bufio.NewReader(pipe)
	line, err := out.ReadString('\n')
	if err != nil {
		t.Fatalf("%v\n%s", err, &stderr)
	}
	socket := strings.TrimPrefix(strings.TrimSpace(line), "unix://")
	folder, _, found := strings.Cut(socket, "/redis")
	if !found {
		t.Fatalf("no folder in %q", line)
	}
	return cmd, folder, out
}

// A cancelled build sends SIGTERM or SIGINT: the tests get the chance to say what they were doing, and the servers go.
func TestSignalsReachTheCommand(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP} {
		cmd, folder, out := started(t, `trap 'echo got `+name+`; exit 9' `+name)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if line, err := out.ReadString('\n'); line != "got "+name+"\n" {
			t.Errorf("SIG%s: the command said %q, %v", name, line, err)
		}
		if got := code(t, cmd.Wait()); got != 9 {
			t.Errorf("SIG%s: exit code %d, want the command's 9", name, got)
		}
		if _, err := os.Lstat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("SIG%s: %s is still there", name, folder)
		}
	}
}

// A build agent kills what takes too long; the command must not run on without its servers, nor the servers without it.
func TestKilledLeavesNothing(t *testing.T) {
	cmd, folder, out := started(t, ":")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The command holds the other end of its output: the end of that is the end of the command.
	if line, err := out.ReadString('\n'); err != io.EOF {
		t.Errorf("the command lives: %q, %v", line, err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		if _, err := os.Lstat(folder); errors.Is(err, os.ErrNotExist) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is still there", folder)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
